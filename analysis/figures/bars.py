"""Where the evidence lies, and where the time goes."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.curves import Recording, Shown, seed_groups
from analysis.figures.curves import DELTAS, no_evidence
from analysis.figures.panels import LEGEND, escaped, traces
from analysis.style import Theme, label, look, styled
from analysis.tokens import CLASSES

STAGES: dict[str, tuple[str, str, str]] = {
    "seconds_rollout": ("sampling", "#4f93d2", "#4f93d2"),
    "seconds_verify": ("verifier", "#b9c0c9", "#5b6470"),
    "seconds_score": ("student's scores", "#a7cbee", "#2f6196"),
    "seconds_teacher": ("teachers", "#e08f3b", "#e08f3b"),
    "seconds_probe": ("probe, for the record", "#fae2c6", "#7d5a30"),
    "seconds_update": ("update", "#1f5f9e", "#a7cbee"),
    "seconds_record": ("recording", "#8a8f98", "#8a8f98"),
    "seconds_validate": ("validation", "#c9a7d8", "#8d63a3"),
}
"""Stages of a step in their order: name, colour on light, colour on dark."""


PATTERNS = ("", "/", ".", "x")
"""Of the bars of one method's different runs or configurations."""


def token_classes(shown: Shown, theme: Theme = "light") -> go.Figure:
    """Mean |Δ| by class of token over whole runs, tokens of rollouts with A ≠ 0; the seeds of a group are pooled."""
    figure = go.Figure()
    variants: dict[str, int] = {}
    for group in _groups(shown):
        found = [shown.evidence[recording.key] for recording in group if recording.key in shown.evidence]
        n, total, magnitude, positive, negative = (
            np.sum([getattr(counts, name) for counts in found], axis=0)
            for name in ("n", "sum_delta", "sum_abs_delta", "positive", "negative")
        )
        if not np.any(n):
            continue
        method, name, present = group[0].info.method, escaped(_group_name(group)), np.flatnonzero(n)
        variant = variants[method] = variants.get(method, -1) + 1
        figure.add_bar(
            name=name,
            y=[CLASSES[i] for i in present],
            x=magnitude[present] / n[present],
            orientation="h",
            marker={"color": look(method).on(theme), "pattern": {"shape": PATTERNS[variant % len(PATTERNS)]}},
            customdata=[
                (f"{n[i]:,.0f}", total[i] / n[i], positive[i] / n[i], negative[i] / n[i], name) for i in present
            ],
            hovertemplate="%{customdata[4]}, %{y}: mean |Δ| %{x:.4f} nats<br>mean Δ %{customdata[1]:+.4f}, Δ > 0 "
            "%{customdata[2]:.1%}, Δ < 0 %{customdata[3]:.1%}<br>n = %{customdata[0]} tokens<extra></extra>",
        )
    if not figure.data:
        _say(figure, no_evidence(shown))
    figure.update_layout(
        title_text=f"Δ by token class: {DELTAS[shown.view.delta]}",
        xaxis={"title": {"text": "mean |Δ|, nats"}},
        yaxis={"categoryorder": "array", "categoryarray": list(CLASSES), "autorange": "reversed"},
        legend=LEGEND,
        margin={"b": 80},
        height=200 + 26 * max(5, sum(len(trace.y) for trace in traces(figure))),
        showlegend=True,
    )
    return styled(figure, theme)


def seconds(shown: Shown, theme: Theme = "light") -> go.Figure:
    """Seconds of a mean step by stage (Table 3); the first step of a run, which warms things up, is left out."""
    figure = go.Figure()
    groups = [group for group in _groups(shown) if any(len(recording.steps) for recording in group)]
    for column, (name, light, dark) in STAGES.items() if groups else ():
        means, texts = [], []
        for group in groups:
            values = np.concatenate([_measured(recording)[column].to_numpy(float) for recording in group])
            means.append(values.mean())
            texts.append(f"{len(values)} steps of {len(group)} run{'s' if len(group) > 1 else ''}")
        figure.add_bar(
            name=name,
            y=[escaped(_group_name(group)) for group in groups],
            x=means,
            orientation="h",
            marker={"color": light if theme == "light" else dark},
            customdata=texts,
            hovertemplate=f"{name}: %{{x:.2f}} s a step<br>mean of %{{customdata}}<extra></extra>",
        )
    if not groups:
        _say(figure, "no step recorded yet")
    figure.update_layout(
        title_text="Seconds a step, by stage",
        barmode="stack",
        xaxis={"title": {"text": "seconds, mean over steps"}},
        yaxis={"autorange": "reversed"},
        height=190 + 34 * max(2, len(groups)),
        legend=LEGEND | {"traceorder": "normal"},
        margin={"b": 80},
    )
    return styled(figure, theme)


def run_name(recording: Recording) -> str:
    """A run as a legend names it."""
    return f"{label(recording.info.method)} · {recording.key}"


def _groups(shown: Shown) -> list[tuple[Recording, ...]]:
    if shown.view.group_seeds:
        return seed_groups(shown.recordings)
    return [(recording,) for recording in shown.recordings]


def _group_name(group: tuple[Recording, ...]) -> str:
    name = run_name(group[0])
    return name if len(group) == 1 else f"{name} and {len(group) - 1} more"


def _measured(recording: Recording) -> pd.DataFrame:
    return recording.steps.iloc[1:] if len(recording.steps) > 1 else recording.steps


def _say(figure: go.Figure, text: str) -> None:
    figure.add_annotation(text=escaped(text, 300), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False)
