"""The study over training: accuracy beside the paper's (Figure 1), Δ fractions (Figure 4), and what leaks."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from analysis.curves import (
    DEFAULT_VIEW,
    Curve,
    Points,
    Recording,
    Shown,
    Values,
    View,
    curves,
    fraction_values,
    points_of,
    schedules,
    validation_values,
)
from analysis.figures.panels import Panel, draw
from analysis.figures.study_parts import beside, seeds_text
from analysis.measures import Sign
from analysis.recorded import RecordedStudy, accuracies
from analysis.reported import reported
from analysis.style import LOOKS, Theme, styled
from analysis.tables.arm_names import ARM_NAMES

ROLLOUTS: dict[Sign, str] = {"all": "all rollouts", "positive": "A > 0", "negative": "A < 0"}
SIDES: dict[Literal["above", "below"], str] = {"above": "Δ > 0", "below": "Δ < 0"}
"""The panels of Figure 4: for which rollouts, and which tokens."""
NOT_SHOWN, SHOWN, DIFFERENCE = "answer not shown", "answer shown", "difference, points"

CAPTIONS = {
    "figure1": (
        "Left: held-out accuracy of the five methods here, one response to each held-out problem. n, in the legend, "
        "counts training seeds; the band is the 95 % t-interval of their mean, from three seeds on; fewer are drawn "
        "run by run. Right: the three methods of the paper's figure, read off its picture (± 0.0005); number of seeds "
        "and smoothing are not given, and its curves begin at different values although step 0 is one untrained model. "
        "The axes differ: another model, other problems, other lengths. The paper says that CEPO improves faster than "
        "GRPO and RLSD, with the largest gap around step 40."
    ),
    "figure4": (
        "CEPO's raw Δ = log P_T⁺ − log P_T⁻ before clipping: share of sampled tokens with Δ > 0 (left) and Δ < 0 "
        "(right), by the sign of the rollout's advantage A; the rest has Δ = 0 exactly. Rollouts with A = 0 do not "
        "count. n, in the legend, counts training seeds; the band is the 95 % t-interval of their mean, from three "
        "seeds on. Grey: λ. Where λ = 0 the teachers are asked for the record only, and points stand at the steps "
        "where they were; the thin line is one more run, seed 0, that asked them at every step. The paper gives no "
        "digits for its figure; it says that the share with Δ > 0 rises early and the share with Δ < 0 falls."
    ),
    "leakage": (
        "Held-out accuracy without the answer, with the true answer shown as teachers are shown it, and the second "
        "minus the first, run by run. n, in the legend, counts training seeds; the band is the 95 % t-interval of "
        "their mean, from three seeds on. A method that leaks comes to need the answer: accuracy without it falls or "
        "the difference widens. The paper infers leakage from OPSD and SDPO falling below the untrained model (Table "
        "2) and shows no such curves."
    ),
}
"""By function: how to read it, what n and ± are, and what the paper shows."""


def figure1(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """Held-out accuracy of the five methods over training, beside the paper's curves (Figure 1)."""
    lines = curves(study.recordings("methods"), validation_values, DEFAULT_VIEW)
    text, empty = "One response to each held-out problem.", "no run is recorded"
    ours = _panel("held-out accuracy", text, lines, theme, empty=empty, percent=True)
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"tickformat": ".2~%"}}
    paper = styled(go.Figure(_paper_curves(theme), layout), theme)
    absent = f"<br>{_missing(lines)}" if lines and _missing(lines) else ""
    panels = [
        (f"this study, {escape(study.about.scale, quote=False)}{absent}", ours),
        ("the paper, read off its picture", paper),
    ]
    figure = beside(panels, "Figure 1: accuracy over training", theme)
    return figure.update_layout(yaxis_title_text="held-out accuracy", yaxis2_title_text="accuracy")


def _paper_curves(theme: Theme) -> list[dict]:
    traces, table = [], reported("figure1")
    for method in [name for name in LOOKS if name in set(table["method"])]:
        points, each = table.loc[table["method"] == method], LOOKS[method]
        traces.append({
            "type": "scatter", "name": f"{each.label}, the paper", "meta": "the paper", "x": points["step"].tolist(),
            "y": points["value"].tolist(), "mode": "lines+markers",
            "line": {"color": each.on(theme), "width": 1.3, "dash": each.dash},
            "marker": {"symbol": f"{each.marker}-open", "size": 6},
            "customdata": [f"{confidence}: {source}" for confidence, source in
                           points[["confidence", "source"]].itertuples(index=False)],
            "hovertemplate": f"{each.label}, the paper: %{{y:.2%}}<br>step %{{x}}, number of seeds not given<br>"
            "<i>%{customdata}</i><extra></extra>",
        })  # fmt: skip
    return traces


def _missing(lines: Sequence[Curve]) -> str:
    """Which of the five methods have no line."""
    there = {curve.method for curve in lines}
    absent = [name for method, name in ARM_NAMES["methods"].items() if method not in there]
    return f"not recorded: {', '.join(absent)}" if absent else ""


def _definition(text: str, lines: Sequence[Curve]) -> str:
    """What a number is, with what n and brackets are."""
    means = [curve.seeds for curve in lines if curve.has_band]
    if not means:
        return f"{text} One run, no interval."
    return f"{text} With brackets: mean over {seeds_text(means)} and its 95 % t-interval; without: one run."


def _panel(title: str, text: str, lines: Sequence[Curve], theme: Theme, *, empty: str, percent: bool) -> go.Figure:
    """A figure of one panel, of numbers that are means over responses."""
    panel = Panel(title, _definition(text, lines), lines)
    return draw(title, [panel], "step", theme, unit="{n} responses", empty=empty, percent=percent)


def figure4(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """Shares of tokens with Δ > 0 and Δ < 0 in CEPO's runs, by the sign of A, λ behind them (Figure 4)."""
    recordings = study.recordings("methods", ["cepo"])
    panels = []
    for sign, rollouts in ROLLOUTS.items():
        for side, name in SIDES.items():
            view = View(sign=sign)
            read = fraction_values(Shown(recordings, view), side)
            lines = curves(recordings, read, view)
            every = curves(study.recordings("evidence", ["cepo"]), read, view)
            probed = [replace(c, name=f"{c.name}, asked at every step", variant=1) for c in every]
            text = f"Share of tokens with {name}, {rollouts}."
            panels.append(Panel(f"{name}, {rollouts}", _definition(text, lines), [*probed, *lines]))
    return draw(
        "Figure 4: contrastive Δ fractions of CEPO",
        panels,
        "step",
        theme,
        unit="{n} tokens sampled",
        columns=2,
        shading=schedules(recordings, "step"),
        empty="no CEPO run is recorded",
        from_zero=True,
    )


def leakage(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """Held-out accuracy of the five methods without the answer, with it shown, and the difference, over training."""
    shown = _told_values(study)
    readings: list[tuple[str, str, Values]] = [
        (NOT_SHOWN, "One response to each held-out problem.", validation_values),
        (SHOWN, "The same problems with the true answer shown, one response each.", shown),
        (DIFFERENCE, "Accuracy with the answer shown minus without, run by run.", _difference_values(shown)),
    ]
    recordings, panels = study.recordings("methods"), []
    for title, text, values in readings:
        # a mean stands only where all its seeds do: one that was not asked is none of them
        asked = [recording for recording in recordings if len(values(recording).step)]
        lines = curves(asked, values, DEFAULT_VIEW)
        panel = _panel(title, text, lines, theme, empty="no run was asked so", percent=title != DIFFERENCE)
        absent = _missing(lines) if lines else ""
        panels.append((f"{title}<br>{absent}" if absent else title, panel))
    figure = beside(panels, "Held-out accuracy with and without the answer shown", theme)
    return figure if study.told.empty else figure.update_layout(yaxis2_matches="y")


def _told_values(study: RecordedStudy) -> Values:
    """Reads accuracy with the true answer shown."""
    columns = ["run_id", "step", "accuracy", "n"]
    table = pd.DataFrame(columns=columns) if study.told.empty else accuracies(study.told)
    return lambda recording: points_of(table.loc[table["run_id"] == recording.key], "step", "accuracy", "n")


def _difference_values(shown: Values) -> Values:
    """Reads how much more is right with the answer shown, in points, at the steps that have both."""

    def read(recording: Recording) -> Points:
        with_answer, without = (pd.DataFrame(each(recording)._asdict()) for each in (shown, validation_values))
        both = with_answer.merge(without, on="step", suffixes=("", "_without"))
        return points_of(both.assign(y=100 * (both["y"] - both["y_without"])), "step", "y", "n")

    return read
