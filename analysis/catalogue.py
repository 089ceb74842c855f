"""Every figure once, by name: a page and a notebook that ask for the same name get the same figure."""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from analysis.curves import Shown
from analysis.figures import bars, curves
from analysis.style import Theme


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
