"""What a setting does: λ, T_warm and ε_w against GRPO (Figure 3), and the search for learning rates."""

from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.collect import LAST_VALIDATIONS
from analysis.figures.study_parts import (
    OVER_GRPO,
    SINGLE,
    Mark,
    axis,
    axis_key,
    columns,
    finished,
    frame,
    head,
    mark_trace,
    mean_style,
    note,
    our_marks,
    paper_mark,
    paper_style,
    seed_style,
    seeds_text,
    titled,
    why_absent,
    zero,
)
from analysis.gains import search_scores
from analysis.recorded import SEARCH, RecordedStudy
from analysis.reported import reported
from analysis.style import LOOKS, Theme, label
from analysis.tables.arm_names import ARM_NAMES, METHODS
from analysis.tables.words import rate_text

CAPTIONS = {
    "figure3": (
        "Held-out accuracy after training, in points over the GRPO run of the same seed (line at 0). Large dots: mean "
        "over n seeds, with its 95 % t-interval, from two seeds on; small dots: single seeds. (a) constant λ; λ = 0 "
        "is GRPO itself. (b) λ falls from 1 to 0 over T_warm steps. (c) ε_w. Open: what the paper's caption says of "
        "its own five benchmarks, less its GRPO; its other points, its seeds and intervals are not given, and of (c) "
        "only that the peak lies between 0.4 and 0.5. The paper says that λ = 0.5 is best and λ = 1 worse, that a "
        "decay over 25 steps comes as far, and that a small ε_w brings CEPO close to GRPO while a large one "
        "destabilises it."
    ),
    "search": (
        "What chose the learning rates: held-out accuracy by rate, mean of a run's last two validations, one run a "
        "point (n = 1 seed, so no interval) on problems that no other run is asked. All methods tried the same rates. "
        "Ringed: chosen. The paper does not search: it gives CEPO five times the rate of the others."
    ),
}
"""By function: how to read it, what n and ± are, and what the paper shows."""


@dataclass(frozen=True)
class Sweep:
    """A panel of Figure 3."""

    panel: str
    group: str
    title: str
    setting: str
    column: str
    """Where `analysis/paper/figure3.csv` has the setting."""


SWEEPS = (
    Sweep("a", "lambda_constant", "a: constant λ", "λ", "lambda_0"),
    Sweep("b", "lambda_linear", "b: λ falls from 1 to 0", "T_warm, steps", "warmup_steps"),
    Sweep("c", "epsilon_w", "c: evidence clip bound", "ε_w", "epsilon_w"),
)


def figure3(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """What constant λ, T_warm and ε_w change, in points over GRPO, with the paper's printed values (Figure 3)."""
    data: list[dict[str, Any]] = []
    layout = frame("Figure 3: what λ, T_warm and ε_w change", 400)
    for i, (sweep, domain) in enumerate(zip(SWEEPS, columns(len(SWEEPS), 0.04), strict=True)):
        places = {arm: float(arm) for arm in (*ARM_NAMES[sweep.group], *study.arm_names(sweep.group))}
        marks = our_marks(study, sweep.group, places)
        name = f"CEPO, {marks.said}"
        line = {"mode": "lines+markers", "line": {"width": 1.3, "color": LOOKS["cepo"].on(theme)}}
        data += mark_trace(marks.means, "y", i, name, sweep.title, mean_style("cepo", theme) | line)
        data += mark_trace(marks.seeds, "y", i, SINGLE, sweep.title, seed_style(theme))
        data += mark_trace(_printed(sweep), "y", i, "CEPO, the paper", sweep.title, paper_style("cepo", theme))
        ends = min(places.values()), max(places.values())
        margin = 0.08 * (ends[1] - ends[0])
        reach = [ends[0] - margin, ends[1] + margin]
        layout[axis_key("x", i)] = {
            "domain": domain, "anchor": axis("y", i), "range": reach,
            "title": titled(sweep.setting),
        }  # fmt: skip
        layout[axis_key("y", i)] = {"domain": [0, 1], "anchor": axis("x", i)} | (
            {"matches": "y", "showticklabels": False} if i else {"title": {"text": OVER_GRPO}}
        )
        layout["shapes"].append(zero("y", i, reach, theme))
        layout["annotations"].append(head(sweep.title, domain, 1))
        there = {mark.place for mark in marks.means}
        reasons: dict[str, list[str]] = {}
        for arm in (arm for arm, place in places.items() if place not in there):
            reasons.setdefault(why_absent(study, sweep.group, arm), []).append(arm)
        said = "<br>".join(f"{why}: {', '.join(arms)}" for why, arms in reasons.items())
        layout["annotations"] += [note(said, domain, 1)] if said else []
    return finished(data, layout, theme)


def _printed(sweep: Sweep) -> list[Mark]:
    """What the paper prints of a panel."""
    rows = reported("figure3")
    found = rows.loc[rows["panel"] == sweep.panel, [sweep.column, "value", "confidence"]]
    return [
        paper_mark(setting, f"{sweep.setting} = {setting:g}", value, confidence)
        for setting, value, confidence in found.itertuples(index=False)
    ]


def search(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """Held-out accuracy of the search's runs by learning rate, the chosen ones ringed."""
    scores = search_scores(study).sort_values("rate")
    data: list[dict[str, Any]] = []
    rings: list[dict[str, Any]] = []
    for method, each in LOOKS.items():
        found = scores.loc[scores["method"] == method]
        color, chosen = each.on(theme), found.loc[found["is_chosen"]]
        line = {"line": {"color": color, "dash": each.dash, "width": 1.8}, "mode": "lines+markers"}
        name = f"{each.label}, {seeds_text(found.groupby('rate')['seed'].nunique())}"
        ring = {"symbol": "circle-open", "size": 16, "color": color, "line": {"width": 2}}
        data += _scores(found, name, line | {"marker": {"symbol": each.marker, "size": 7, "color": color}})
        rings += _scores(chosen, "chosen", {"mode": "markers", "marker": ring})
    rates = sorted(set(scores["rate"]))
    layout = frame("Search: accuracy by learning rate", 380)
    ticks = {"tickvals": rates, "ticktext": [rate_text(rate) for rate in rates]}
    layout["xaxis"] = {"type": "log", "title": titled("learning rate")} | ticks
    layout["yaxis"] = {"tickformat": ".2~%", "title": {"text": "held-out accuracy"}, "visible": bool(rates)}
    missing = [name for method, name in METHODS.items() if method not in set(scores["method"])]
    if missing:
        layout["annotations"].append(note(f"not recorded: {', '.join(missing)}", [0, 1], 1))
    return finished(data + rings, layout, theme)


def _scores(found: pd.DataFrame, name: str, style: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of the search as one trace; none for none."""
    if found.empty:
        return []
    said = [
        f"{escape(label(method), quote=False)} at {rate_text(rate)}: {score:.2%}<br>one run (seed {seed}), mean over "
        f"{n:,} responses of its last {LAST_VALIDATIONS} validations; no interval from one seed"
        for method, rate, score, n, seed, _ in found.itertuples(index=False)
    ]
    shared = {"type": "scatter", "meta": SEARCH, "name": name, "legendgroup": name}
    points = {"x": found["rate"].tolist(), "y": found["score"].tolist(), "customdata": said}
    return [shared | points | style | {"hovertemplate": "%{customdata}<extra></extra>"}]
