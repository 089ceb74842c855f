"""What the study's figures share: gains as marks with intervals, what is missing, panels with axes of their own."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import plotly.graph_objects as go

from analysis.comparison import signed
from analysis.figures.panels import LEGEND, traces
from analysis.gains import GRPO, gains, gains_by_seed
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.style import INK, Theme, look, styled, translucent
from analysis.tables.arm_names import arm_name

SEED_ALPHA = 0.6
SINGLE = "single seeds"
GAP = 0.09
"""Between two panels, as a share of the figure: room for the axis of the second."""
AS_PAPER = ("deviations", "none")
"""The arm that deviates in nothing."""
OVER_GRPO = "points over GRPO, same seeds"


@dataclass(frozen=True)
class Mark:
    """A difference in points, at its place on the other axis."""

    place: float
    gain: float
    low: float
    high: float
    hover: str


@dataclass(frozen=True)
class Marks:
    """A group's arms over a baseline: their means, their seeds one by one, and how many seeds a mean is of."""

    means: list[Mark]
    seeds: list[Mark]
    n: list[int]

    @property
    def said(self) -> str:
        """What the large dots are, for a legend."""
        what = "mean and 95 % t-interval, " if max(self.n, default=0) > 1 else ""
        return what + seeds_text(self.n)


def seeds_text(numbers: Iterable[int]) -> str:
    """How many seeds some means are of."""
    found = sorted(set(numbers)) or [0]
    several = "" if len(found) == 1 else f"{found[0]} to "
    return f"n = {several}{found[-1]} seed{'' if found[-1] == 1 else 's'}"


def our_marks(study: RecordedStudy, group: str, places: Mapping[str, float], baseline: tuple[str, str] = GRPO) -> Marks:
    """What the study found: gains of arms over the baseline, paired by seed; arms without a gain are left out.

    Args:
        study: what was recorded.
        group: whose arms.
        places: where the arms stand; others are left out.
        baseline: group and arm they are held against.
    """
    found = gains(study, group, baseline)
    found = found.loc[found["gain"].notna() & found["arm"].isin(list(places))]
    singles = gains_by_seed(study, group, baseline)
    singles = singles.loc[singles["gain"].notna() & singles["arm"].isin(list(places))]
    problems = dict(zip(singles["arm"], singles["problems"], strict=True))
    over = _baseline_name(baseline)
    means, seeds = [], []
    for arm, n, gain, low, high in found[["arm", "n", "gain", "low", "high"]].itertuples(index=False):
        ends = "no interval from one seed" if math.isnan(low) else f"[{signed(low)}, {signed(high)}], 95 % t-interval"
        hover = (
            f"{escape(arm_name(group, arm), quote=False)}: {signed(gain)} points over {over} {ends}<br>"
            f"mean over {seeds_text([n])}, {problems[arm]} held-out problems each"
        )
        means.append(Mark(places[arm], 100 * gain, 100 * low, 100 * high, hover))
    for arm, seed, gain in singles[["arm", "seed", "gain"]].itertuples(index=False):
        hover = f"{escape(arm_name(group, arm), quote=False)}, seed {seed}: {signed(gain)} points over {over}"
        seeds.append(
            Mark(places[arm], 100 * gain, math.nan, math.nan, f"{hover}<br>n = 1 seed, {problems[arm]} problems")
        )
    return Marks(means, seeds, found["n"].tolist())


def paper_mark(place: float, name: str, value: float, confidence: str) -> Mark:
    """An average accuracy of the paper (percent), as points over the GRPO of its Table 2."""
    printed = reported("table2")
    is_grpo = (printed["model"] == "2B") & (printed["method"] == "grpo") & (printed["benchmark"] == "average")
    grpo = float(printed.loc[is_grpo, "value"].iloc[0])
    hover = (
        f"the paper, {escape(name, quote=False)}: {value:.2f} % on average, {signed((value - grpo) / 100)} points over "
        f"its GRPO ({grpo:.2f} %)<br>five benchmarks, Qwen3-VL-2B; {confidence}; number of seeds and interval not given"
    )
    return Mark(place, value - grpo, math.nan, math.nan, hover)


def mark_trace(
    marks: Sequence[Mark], gains_on: Literal["x", "y"], i: int, name: str, panel: str, style: dict[str, Any]
) -> list[dict[str, Any]]:
    """Marks as one trace, with error bars where they have an interval; none for none.

    Args:
        marks: what to draw.
        gains_on: the axis of the gains; places stand on the other one.
        i: which pair of axes.
        name: in the legend.
        panel: which panel, for those who read the numbers.
        style: mode, marker and line.
    """
    if not marks:
        return []
    gain, place = [mark.gain for mark in marks], [mark.place for mark in marks]
    trace = {
        "type": "scatter", "name": name, "meta": panel, "xaxis": axis("x", i), "yaxis": axis("y", i), "mode": "markers",
        "x": gain if gains_on == "x" else place, "y": place if gains_on == "x" else gain,
        "customdata": [mark.hover for mark in marks], "hovertemplate": "%{customdata}<extra></extra>",
        "legendgroup": name,
    }  # fmt: skip
    if not all(math.isnan(mark.high) for mark in marks):
        trace[f"error_{gains_on}"] = {
            "type": "data", "array": [mark.high - mark.gain for mark in marks],
            "arrayminus": [mark.gain - mark.low for mark in marks], "thickness": 1.5, "width": 4,
            "color": style["marker"]["color"],
        }  # fmt: skip
    return [trace | style]


def seed_style(theme: Theme) -> dict[str, Any]:
    """Single seeds: small, and of no method's colour, or they would vanish in the bar of their mean."""
    return {"marker": {"color": translucent(INK[theme], SEED_ALPHA), "size": 4, "symbol": "circle"}}


def mean_style(method: str, theme: Theme) -> dict[str, Any]:
    """Means: filled, in the method's colour."""
    each = look(method)
    return {"marker": {"color": each.on(theme), "size": 9, "symbol": each.marker}}


def paper_style(method: str, theme: Theme) -> dict[str, Any]:
    """The paper's numbers: open, in the method's colour."""
    each = look(method)
    return {"marker": {"color": each.on(theme), "size": 12, "symbol": f"{each.marker}-open", "line": {"width": 2}}}


def why_absent(study: RecordedStudy, group: str, arm: str, baseline: tuple[str, str] = GRPO) -> str:
    """Why an arm has no mark."""
    if arm not in study.arm_names(group):
        return "not recorded"
    return f"no run of {_baseline_name(baseline)} with its seeds"


def _baseline_name(baseline: tuple[str, str]) -> str:
    """What marks are held against, in words."""
    return "CEPO as the paper says" if baseline == AS_PAPER else escape(arm_name(*baseline), quote=False)


def axis(letter: Literal["x", "y"], i: int) -> str:
    """How a trace names an axis."""
    return letter if i == 0 else f"{letter}{i + 1}"


def axis_key(letter: Literal["x", "y"], i: int) -> str:
    """How a layout names it."""
    return f"{letter}axis" if i == 0 else f"{letter}axis{i + 1}"


def frame(title: str, height: int) -> dict[str, Any]:
    """What is around the panels."""
    return {
        "title": {"text": title, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10, "l": 8}},
        "height": height, "margin": {"t": 72, "b": 100}, "legend": LEGEND, "showlegend": True, "annotations": [],
        "shapes": [], "uirevision": title,
    }  # fmt: skip


def titled(text: str) -> dict[str, Any]:
    """The title of a horizontal axis, close to its numbers."""
    return {"text": text, "standoff": 8}


def head(text: str, x: Sequence[float], top: float) -> dict[str, Any]:
    """The name of a panel, above it."""
    place = {"x": sum(x) / 2, "y": top, "xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, "font": {"size": 13}} | place


def note(text: str, x: Sequence[float], top: float) -> dict[str, Any]:
    """What a reader has to know of a panel, in its upper left corner."""
    place = {"x": x[0], "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top"}
    return {"text": text, "showarrow": False, "align": "left", "font": {"size": 11}, "xshift": 6} | place


def zero(gains_on: Literal["x", "y"], i: int, places: Sequence[float], theme: Theme) -> dict[str, Any]:
    """The line of the baseline through a panel, from end to end of the axis of places."""
    other = "y" if gains_on == "x" else "x"
    return {
        "type": "line", f"{gains_on}ref": axis(gains_on, i), f"{gains_on}0": 0, f"{gains_on}1": 0,
        f"{other}ref": axis(other, i), f"{other}0": places[0], f"{other}1": places[1],
        "line": {"color": INK[theme], "width": 1.2}, "layer": "between",
    }  # fmt: skip


def columns(n: int, gap: float = GAP) -> list[list[float]]:
    """Where n panels of a row stand, from left to right."""
    width = (1 - gap * (n - 1)) / n
    # rounded, as plotly refuses an end that is above 1 by the last bit
    return [[round(i * (width + gap), 6), round(i * (width + gap) + width, 6)] for i in range(n)]


def finished(data: list[dict[str, Any]], layout: dict[str, Any], theme: Theme) -> go.Figure:
    """The figure, in which a name stands in the legend once, however many panels it is in."""
    named: set[str] = set()
    for trace in data:
        trace["showlegend"] = trace.get("showlegend", True) and trace["name"] not in named
        if trace["showlegend"]:
            named.add(trace["name"])
    return styled(go.Figure(data, layout), theme)


def beside(panels: Sequence[tuple[str, go.Figure]], title: str, theme: Theme) -> go.Figure:
    """Figures of one panel each, in a row under a head each, with their own axes.

    Args:
        panels: the head and the figure, as of `analysis.figures.panels.draw`.
        title: of the whole.
        theme: light or dark.
    """
    data: list[dict[str, Any]] = []
    layout = frame(title, 380)
    for i, (text, figure) in enumerate(panels):
        domain = columns(len(panels))[i]
        part: Any = figure.layout
        layout[axis_key("x", i)] = part.xaxis.to_plotly_json() | {"domain": domain, "anchor": axis("y", i)}
        layout[axis_key("x", i)]["title"] = titled(part.xaxis.title.text)
        layout[axis_key("y", i)] = part.yaxis.to_plotly_json() | {"domain": [0, 1], "anchor": axis("x", i)}
        layout["annotations"] += [
            each.to_plotly_json() | {"x": sum(domain) / 2, "xanchor": "center"} for each in part.annotations
        ]
        layout["annotations"].append(head(text, domain, 1))
        data += [each.to_plotly_json() | {"xaxis": axis("x", i), "yaxis": axis("y", i)} for each in traces(figure)]
    return finished(data, layout, theme)
