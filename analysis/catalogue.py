"""Every figure and table once, by name: whoever asks for the same name gets the same thing.

`EXHIBITS` are the figures of recorded runs on the Runs page; `PAPER` is what the paper shows, and what we show beyond,
from a recorded study.
"""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from analysis.curves import Shown
from analysis.figures import bars, curves, study_curves, study_dots, study_sweeps
from analysis.figures import evidence as evidence_figures
from analysis.figures.figure5 import figure5, figure5_caption
from analysis.recorded import RecordedStudy
from analysis.store import RunFile
from analysis.style import Theme
from analysis.tables import ablations, from_code, study, timing
from analysis.tables import evidence as evidence_tables
from analysis.tables.paper_table import PaperTable
from analysis.tables.pipeline import pipeline


@dataclass(frozen=True)
class Exhibit:
    """A figure of recorded runs: what it is called, where the paper has it, and how it is drawn."""

    title: str
    build: Callable[[Shown, Theme], go.Figure]
    caption: str
    """How to read it."""
    reference: str = ""
    """The paper's number for it; empty where the paper has none."""
    is_live: bool = True
    """It is drawn from the steps alone, so it can follow a run; else it needs tokens (`Shown.evidence`)."""
    opens_steps: bool = True
    """Its points carry a run and a step as customdata."""


EXHIBITS: dict[str, Exhibit] = {
    "accuracy": Exhibit(
        "Held-out accuracy",
        curves.accuracy,
        "One response to each held-out problem, after the step. Band: 95 % t-interval of the mean over seeds, from "
        "three seeds on; fewer are drawn run by run. Step 0 is before training.",
        reference="Figure 1",
    ),
    "reward": Exhibit("Reward", curves.reward, "Mean over the step's own rollouts, as they were sampled."),
    "delta_fractions": Exhibit(
        "Δ fractions",
        curves.delta_fractions,
        "Tokens that the evidence favours (left) and disfavours (right); what is missing to 100 % has |Δ| ≤ τ. Grey: "
        "λ, the share of the evidence in Â. Where λ = 0, Δ is probed at some steps only, for the record.",
        reference="Figure 4",
    ),
    "clips": Exhibit(
        "Clip rates",
        curves.clips,
        "Two clips with nothing in common but the word. The ratio of policies is exactly 1 in the first update of a "
        "step, so the PPO clip counts later updates only; the evidence clip counts weights before any update.",
    ),
    "seconds": Exhibit(
        "Seconds by stage",
        bars.seconds,
        "Mean over steps, the first left out. Probe: passes for the record alone, which train nothing.",
        reference="Table 3",
        opens_steps=False,
    ),
    "token_classes": Exhibit(
        "Δ by token class",
        bars.token_classes,
        "All tokens of rollouts with A ≠ 0, over the whole run. Long bars: the teachers disagree about such tokens.",
        is_live=False,
        opens_steps=False,
    ),
}
"""By name, in the order of the Runs page."""


@dataclass(frozen=True, eq=False)
class Sources:
    """What the paper's figures and tables are made from."""

    study: RecordedStudy
    run: RunFile
    """A run that kept the tokens and both teachers' log-probabilities."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure, and what a reader has to know about it."""

    figure: go.Figure
    caption: str


@dataclass(frozen=True, eq=False)
class Plate:
    """A figure that was drawn as SVG, likewise."""

    svg: str
    caption: str


@dataclass(frozen=True)
class PaperExhibit:
    """A figure or table of the paper, or one beyond it."""

    title: str
    reference: str
    """Where the paper has it, or what it asks beyond."""
    build: Callable[[Sources], Drawn | Plate | PaperTable]


def _drawn(figure: Callable[[RecordedStudy], go.Figure], caption: str) -> Callable[[Sources], Drawn]:
    return lambda sources: Drawn(figure(sources.study), caption)


def _table(table: Callable[[RecordedStudy], PaperTable]) -> Callable[[Sources], PaperTable]:
    return lambda sources: table(sources.study)


def _plate(sources: Sources) -> Plate:
    return Plate(figure5(sources.run), figure5_caption(sources.run))


_CURVES, _DOTS, _SWEEPS, _EVIDENCE = (
    module.CAPTIONS for module in (study_curves, study_dots, study_sweeps, evidence_figures)
)

PAPER: dict[str, PaperExhibit] = {
    "figure-1": PaperExhibit(
        "Held-out accuracy over training", "Figure 1", _drawn(study_curves.figure1, _CURVES["figure1"])
    ),
    "figure-2": PaperExhibit("The pipeline, on a recorded group", "Figure 2", lambda sources: pipeline(sources.run)),
    "figure-3": PaperExhibit("Sensitivity to λ and ε_w", "Figure 3", _drawn(study_sweeps.figure3, _SWEEPS["figure3"])),
    "figure-4": PaperExhibit("Δ fractions", "Figure 4", _drawn(study_curves.figure4, _CURVES["figure4"])),
    "figure-5": PaperExhibit("One rollout under RLSD and under CEPO", "Figure 5", _plate),
    "table-1": PaperExhibit("What the methods are", "Table 1", lambda _: from_code.table1()),
    "table-2": PaperExhibit("Five benchmarks", "Table 2", _table(study.table2)),
    "table-2-paper-2b": PaperExhibit("Five benchmarks, the paper at 2B", "Table 2", lambda _: study.table2_paper("2B")),
    "table-2-paper-4b": PaperExhibit("Five benchmarks, the paper at 4B", "Table 2", lambda _: study.table2_paper("4B")),
    "table-3": PaperExhibit("Seconds by stage", "Table 3", _table(timing.table3)),
    "table-4": PaperExhibit("Teacher source", "Table 4", _table(ablations.table4)),
    "table-5": PaperExhibit("Feedback source", "Table 5", _table(ablations.table5)),
    "table-6": PaperExhibit("Shared hyper-parameters", "Table 6", lambda _: from_code.table6()),
    "table-7": PaperExhibit("Hyper-parameters of the methods", "Table 7", lambda _: from_code.table7()),
    "held-out": PaperExhibit("Held-out accuracy by method", "beyond: n seeds, paired", _table(study.heldout)),
    "learning-rates": PaperExhibit(
        "The search for learning rates", "beyond: equal tuning", _table(study.table_learning_rates)
    ),
    "search": PaperExhibit("The search, drawn", "beyond: equal tuning", _drawn(study_sweeps.search, _SWEEPS["search"])),
    "smaller-rate": PaperExhibit(
        "A smaller learning rate", "beyond: equal rates", _table(ablations.table_smaller_rate)
    ),
    "teacher-source": PaperExhibit(
        "Teacher source, drawn", "Table 4", _drawn(study_dots.teacher_source, _DOTS["teacher_source"])
    ),
    "feedback-source": PaperExhibit(
        "Feedback source, drawn", "Table 5", _drawn(study_dots.feedback_source, _DOTS["feedback_source"])
    ),
    "token-kinds": PaperExhibit(
        "Evidence by kind of token",
        "beyond: decisive tokens",
        _drawn(evidence_figures.token_kinds, _EVIDENCE["token_kinds"]),
    ),
    "token-classes": PaperExhibit(
        "Credit by kind of token", "beyond: decisive tokens", _table(evidence_tables.class_table)
    ),
    "clip-rates": PaperExhibit("Clip rates of whole runs", "Figure 5", _table(evidence_tables.clip_rates)),
    "proposition-1": PaperExhibit(
        "Where CEPO is the sharper", "Proposition 1", _drawn(evidence_figures.proposition1, _EVIDENCE["proposition1"])
    ),
    "leakage": PaperExhibit(
        "Accuracy with and without the answer", "beyond: leakage", _drawn(study_curves.leakage, _CURVES["leakage"])
    ),
    "leakage-table": PaperExhibit("What showing the answer adds", "beyond: leakage", _table(study.table_leakage)),
    "presets": PaperExhibit(
        "As the paper says, as the released code does", "beyond: the released code", _table(ablations.table_presets)
    ),
    "deviations": PaperExhibit(
        "One deviation of the released code at a time", "beyond: the released code", _table(ablations.table_deviations)
    ),
    "deviations-drawn": PaperExhibit(
        "The released code, drawn", "beyond: the released code", _drawn(study_dots.deviations, _DOTS["deviations"])
    ),
}
"""By name: the paper's in its order, then ours."""
