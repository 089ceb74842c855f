"""What happens over training: accuracy, reward, the signs of Δ, and what each clip clips."""

from typing import Literal

import plotly.graph_objects as go

from analysis.curves import Curve, Shown, curves, fraction_values, schedules, step_values, validation_values
from analysis.figures.panels import Panel, draw
from analysis.style import Theme, label

CLIPS: dict[str, tuple[str, str]] = {
    "evidence_clip_low": ("Evidence clip, low", "Share of evidence weights w below 1 − ε_w, raised to it."),
    "evidence_clip_high": ("Evidence clip, high", "Share of evidence weights w above 1 + ε_w, lowered to it."),
    "ppo_clip_low": ("PPO clip, low", "Share of tokens with A < 0 whose policy ratio fell below 1 − ε_low."),
    "ppo_clip_high": ("PPO clip, high", "Share of tokens with A > 0 whose policy ratio rose above 1 + ε_high."),
}
"""The four clip rates, each with what it counts."""

SIDES = {"all": "all rollouts with A ≠ 0", "positive": "rollouts with A > 0", "negative": "rollouts with A < 0"}
WEIGHTINGS = {"tokens": "every token counts the same", "rollouts": "every rollout counts the same"}
DELTAS = {"own": "the method's own Δ", "rlsd": "Δ by RLSD", "cepo": "Δ by CEPO"}


def accuracy(shown: Shown, theme: Theme = "light") -> go.Figure:
    """Held-out accuracy over training (Figure 1): mean and 95 % t-interval from three seeds on, else every run."""
    lines = curves(shown.recordings, validation_values, shown.view)
    panel = Panel("held-out accuracy", "Share of held-out problems answered right, one response each.", lines)
    return draw(
        "Held-out accuracy", [panel], shown.view.x, theme, unit="{n} responses", empty="no validation recorded yet"
    )


def reward(shown: Shown, theme: Theme = "light") -> go.Figure:
    """Mean reward of the sampled rollouts over training."""
    lines = curves(shown.recordings, step_values("reward_mean"), shown.view)
    panel = Panel("reward", "Mean reward R of the step's rollouts.", lines)
    return draw(
        "Reward", [panel], shown.view.x, theme, unit="{n} rollouts", empty="no step recorded yet", percent=False
    )


def delta_fractions(shown: Shown, theme: Theme = "light") -> go.Figure:
    """Shares of tokens with Δ > τ and with Δ < −τ over training, λ behind them (Figure 4)."""
    view = shown.view
    of = f"{DELTAS[view.delta]}, {SIDES[view.sign]}, {WEIGHTINGS[view.weighting]}"
    above, below = ("Δ > 0", "Δ < 0") if view.tau == 0 else (f"Δ > {view.tau:g}", f"Δ < −{view.tau:g}")
    panels = [
        Panel(above, f"Share of tokens for which r⁺ speaks; {of}.", _fractions(shown, "above")),
        Panel(below, f"Share of tokens against which it speaks; {of}.", _fractions(shown, "below")),
    ]
    return draw(
        f"Δ fractions: {DELTAS[view.delta]}, {SIDES[view.sign]}",
        panels,
        view.x,
        theme,
        unit="{n} tokens",
        columns=2,
        shading=schedules(shown.recordings, view.x),
        empty=no_evidence(shown),
        from_zero=True,
    )


def clips(shown: Shown, theme: Theme = "light") -> go.Figure:
    """The clip of the evidence (ε_w) and that of PPO (ε), each by side: four rates that must not be confused."""
    panels = [
        Panel(title, definition, curves(shown.recordings, step_values(column, "n_tokens"), shown.view))
        for column, (title, definition) in CLIPS.items()
    ]
    return draw(
        "Clip rates",
        panels,
        shown.view.x,
        theme,
        unit="{n} tokens sampled",
        columns=2,
        empty="no step recorded yet",
        from_zero=True,
    )


def _fractions(shown: Shown, side: Literal["above", "below"]) -> list[Curve]:
    return curves(shown.recordings, fraction_values(shown, side), shown.view)


def no_evidence(shown: Shown) -> str:
    """Why there is no Δ to draw."""
    methods = ", ".join(dict.fromkeys(label(recording.info.method) for recording in shown.recordings))
    if not shown.recordings:
        return "no run is selected"
    if shown.view.delta == "own":
        return f"no evidence recorded: {methods} weighs no token by Δ; “Δ by” shows what RLSD or CEPO would have seen"
    return f"no evidence recorded: no teacher of {methods} was asked for it"
