"""The marks of a still: lines, markers, bands, bars and error bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.still_axes import Scale
from analysis.still_reading import DASHES, PATTERNS, SYMBOLS, Rgba, Tree, at, points, rgba
from core.errors import InputError

Key = tuple[Artist, ...]
"""What stands for a trace in the legend, drawn one above the other."""


@dataclass(frozen=True)
class Panel:
    """A pair of axes, and how values become places on it."""

    axes: Axes
    x: Scale
    y: Scale

    def scale(self, which: str) -> Scale:
        """The scale along x or y."""
        return self.x if which == "x" else self.y


def scatter(trace: Tree, panel: Panel, before: Tree | None, order: float) -> Key:
    """A line, its markers, its error bars and what is filled below it, or down to the trace before it."""
    x, y = (panel.scale(which).places(trace.get(which, ())) for which in "xy")
    mode = trace.get("mode") or ("lines+markers" if len(x) < 20 else "lines")
    alpha = trace.get("opacity", 1.0)
    color = at(trace, "line.color") or _first(at(trace, "marker.color", trace["color"]))
    key: Key = ()
    fill = trace.get("fill", "none")
    if fill != "none":
        shade = rgba(trace["fillcolor"], alpha) if trace.get("fillcolor") else rgba(color, alpha / 2)
        panel.axes.fill_between(x, y, _floor(trace, panel, before, x), color=shade, linewidth=0, zorder=order)
        key += (Patch(facecolor=shade, linewidth=0),)
    style = stroke(trace.get("line", {}), color, alpha)
    if "lines" in mode and style["linewidth"]:
        panel.axes.plot(x, y, **style, zorder=order, solid_joinstyle="round")
        key += (Line2D([], [], **style),)
    for which in "xy":
        _errors(trace, panel, which, x, y, color, order)
    if "markers" in mode:
        looks = _looks(trace, color, alpha, len(x))
        for look in dict.fromkeys(looks):
            chosen = np.array([each == look for each in looks], bool)
            for style in look.styles():
                panel.axes.plot(x[chosen], y[chosen], **style, zorder=order)
        key += tuple(Line2D([], [], **style) for style in (looks[0].styles() if looks else ()))
    return key


def _first(value: Any) -> Any:
    return value if isinstance(value, str) else value[0]


def stroke(line: Tree, color: str, alpha: float) -> Tree:
    """A line's look; plotly's dashes do not shrink below those of a line of 3 pixels."""
    width = float(line.get("width", 2))
    unit = points(max(width, 3))
    dashes = [unit * length for length in DASHES[line.get("dash", "solid")]]
    # matplotlib counts dashes in line widths
    pattern = (0, tuple(dash / points(width) for dash in dashes)) if dashes and width else "solid"
    return {"color": rgba(line.get("color", color), alpha), "linewidth": points(width), "linestyle": pattern}


def _floor(trace: Tree, panel: Panel, before: Tree | None, x: np.ndarray) -> np.ndarray:
    """What a fill reaches down to."""
    if trace["fill"] == "tozeroy" or before is None:
        return np.zeros(len(x))
    if not np.array_equal(panel.x.places(before.get("x", ())), x):
        raise InputError(
            f"scatter {trace.get('name')!r:.60}: expected the x of the trace it is filled to; give it those"
        )
    return panel.y.places(before["y"])


@dataclass(frozen=True)
class _Look:
    """How one point is drawn."""

    symbol: str
    color: Rgba
    size: float
    edge: Rgba
    edge_width: float

    def styles(self) -> list[Tree]:
        """What is drawn for it: the marker, and the dot in its middle."""
        name, *ends = self.symbol.replace("-open", " open").replace("-dot", " dot").split()
        is_open, is_thin = "open" in ends, SYMBOLS[name] in "_|"
        common = {"linestyle": "none", "markeredgewidth": points(self.edge_width)}
        ink = self.color if is_open or is_thin else self.edge
        body = common | {
            "marker": SYMBOLS[name],
            "markersize": points(self.size),
            "markeredgecolor": ink,
            "markerfacecolor": "none" if is_open else self.color,
        }
        if is_open or is_thin:
            body["markeredgewidth"] = points(max(self.edge_width, 1.2))
        if "dot" not in ends:
            return [body]
        inner = self.color if is_open else "white"
        dot = {"marker": "o", "markersize": points(self.size) / 3, "markeredgewidth": 0, "markerfacecolor": inner}
        return [body, {"linestyle": "none"} | dot]


def _looks(trace: Tree, color: str, alpha: float, n: int) -> list[_Look]:
    """The look of every point: what is one value for all of them, or one for each."""
    marker, edge = trace.get("marker", {}), at(trace, "marker.line", {})

    def each(value: Any) -> list[Any]:
        return [value] * n if isinstance(value, str | int | float) else list(value)

    alphas = [alpha * float(value) for value in each(marker.get("opacity", 1.0))]
    colors = each(marker.get("color") or color)
    edges = each(edge.get("color") or colors)
    columns = (each(marker.get("symbol", "circle")), colors, each(marker.get("size", 6)), edges, alphas)
    widths = each(edge.get("width", 0))
    return [
        _Look(str(symbol), rgba(inside, seen), float(size), rgba(outside, seen), float(width))
        for symbol, inside, size, outside, seen, width in zip(*columns, widths, strict=True)
    ]


def _errors(trace: Tree, panel: Panel, which: str, x: np.ndarray, y: np.ndarray, color: str, order: float) -> None:
    error = trace.get(f"error_{which}", {})
    if error.get("array") is None or not error.get("visible", True):
        return
    above = np.array(error["array"], float)
    below = above if error.get("arrayminus") is None or error.get("symmetric") else np.array(error["arrayminus"], float)
    panel.axes.errorbar(
        x, y, xerr=(below, above) if which == "x" else None, yerr=(below, above) if which == "y" else None, fmt="none",
        ecolor=rgba(error.get("color", color)), elinewidth=points(error.get("thickness", 2)),
        capthick=points(error.get("thickness", 2)), capsize=points(error.get("width", 4)), zorder=order,
    )  # fmt: skip


def bars(traces: Sequence[Tree], panel: Panel, layout: Tree) -> list[Key]:
    """All bars of a panel, side by side or on top of each other."""
    if not traces:
        return []
    mode = layout.get("barmode", "group")
    along = ["y" if trace.get("orientation") == "h" else "x" for trace in traces]
    everywhere = [panel.scale(which).places(trace.get(which, ())) for which, trace in zip(along, traces, strict=True)]
    unit = _distance(np.concatenate(everywhere))
    room = unit * (1 - layout.get("bargap", 0.2))
    share = room / len(traces) if mode == "group" else room
    ends: dict[tuple[float, bool], float] = {}
    keys: list[Key] = []
    for i, (trace, which, places) in enumerate(zip(traces, along, everywhere, strict=True)):
        across = "x" if which == "y" else "y"
        lengths = panel.scale(across).places(trace.get(across, ()))
        middle = places + ((i - (len(traces) - 1) / 2) * share if mode == "group" else 0)
        base = np.zeros(len(lengths))
        if mode in ("stack", "relative"):
            for j, (place, length) in enumerate(zip(places, np.nan_to_num(lengths), strict=True)):
                pile = (float(place), mode == "relative" and bool(length < 0))
                base[j] = ends.get(pile, 0.0)
                ends[pile] = base[j] + length
        width = trace.get("width") or share * (1 - layout.get("bargroupgap", 0.0))
        keys.append(_bars(trace, panel, which, middle, lengths, base, width))
    return keys


def _distance(places: np.ndarray) -> float:
    """Between neighbours; 1 where there are none."""
    distances = np.diff(np.unique(places))
    return float(distances.min()) if len(distances) else 1.0


def _bars(
    trace: Tree, panel: Panel, which: str, middle: np.ndarray, lengths: np.ndarray, base: np.ndarray, width: Any
) -> Key:
    marker, n = trace.get("marker", {}), len(lengths)
    alpha = trace.get("opacity", 1.0) * float(marker.get("opacity", 1.0))
    given = marker.get("color", trace["color"])
    colors = [rgba(color, alpha) for color in ([given] * n if isinstance(given, str) else given)]
    hatch = PATTERNS[at(marker, "pattern.shape", "")]
    edge = at(marker, "line.width", 0)
    own_edge = at(marker, "line.color") if edge and not hatch else None  # a hatch has the colour of the edge
    edges = [rgba(own_edge, alpha)] * n if own_edge else colors
    style: Tree = {"linewidth": points(edge) if edge else 0.6 if hatch else 0, "hatch": hatch}
    insides = ["white"] * n if hatch else colors  # plotly leaves out what is between the strokes
    draw = panel.axes.bar if which == "x" else panel.axes.barh
    draw(middle, lengths, width, base, color=insides, edgecolor=edges, zorder=1.5, **style)
    ends = base + lengths
    x, y = (middle, ends) if which == "x" else (ends, middle)
    for error in "xy":
        _errors(trace, panel, error, x, y, "#444", 1.6)
    return (Patch(facecolor=insides[0], edgecolor=edges[0], **style),) if n else ()
