"""What a plotly figure says, for `analysis.still`: its parts with their defaults, its texts and its colours.

A figure may say what is listed here and nothing else, so that nothing of it can get lost on the way to paper.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import to_rgba

from analysis.style import INK
from core.errors import InputError

Tree = dict[str, Any]
"""A part of a figure as plotly writes it in JSON."""
Rgba = tuple[float, float, float, float]

DASHES: dict[str, tuple[float, ...]] = {
    "solid": (), "dot": (1, 1), "dash": (3, 3), "longdash": (5, 5), "dashdot": (3, 1, 1, 1), 
    "longdashdot": (5, 2, 1, 2),
}  # fmt: skip
"""Strokes and gaps, in line widths."""
SYMBOLS = {
    "circle": "o", "square": "s", "diamond": "D", "x": "X", "cross": "P", "triangle-up": "^", "triangle-down": "v",
    "triangle-left": "<", "triangle-right": ">", "pentagon": "p", "hexagon": "h", "star": "*", "line-ew": "_",
    "line-ns": "|",
}  # fmt: skip
PATTERNS = {"": "", "/": "////", "\\": "\\\\\\\\", "x": "xxx", "-": "---", "|": "|||", "+": "+++", ".": "..."}
ANCHORS = {"left": "left", "center": "center", "right": "right", "top": "top", "middle": "center", "bottom": "bottom"}
"""Words that matplotlib has for those of plotly."""

RAISED = str.maketrans("0123456789+-−()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ⁿ")
LOWERED = str.maketrans("0123456789+-−()t", "₀₁₂₃₄₅₆₇₈₉₊₋₋₍₎ₜ")
"""A power that is written on the line would be another number."""

_VARIANTS = tuple(f"{symbol}{end}" for symbol in SYMBOLS for end in ("", "-open", "-dot", "-open-dot"))
_TAG = re.compile(r"</?(?:b|i|em|sub|sup|u|s|span|a)(?:\s[^<>]*)?>", re.IGNORECASE)
_BREAK = re.compile(r"<br(?:\s[^<>]*)?/?>", re.IGNORECASE)
_HIGH_LOW = re.compile(r"<(sup|sub)>([^<>&]*)</\1>", re.IGNORECASE)
_RGB = re.compile(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)")


def _any(names: str, **more: Any) -> Tree:
    """Attributes with any value, and others with a part of their own (a dictionary) or chosen values (a tuple)."""
    return dict.fromkeys(names.split()) | more


# what is for the pointer, and where things stand on a screen: a still says and places that in its own way
_POINTER = "hovertemplate hoverinfo hoverlabel hovertext customdata text meta uid uirevision ids selectedpoints"
_FONT = _any("size color family")
_EDGE = _any("color width")
_LINE = _EDGE | {"dash": tuple(DASHES)}
_ERROR = _any("array arrayminus color thickness width symmetric visible", type=("data",))
_TRACE = _any(f"x y name showlegend legendgroup xaxis yaxis opacity error_x error_y {_POINTER}") | {
    "visible": (True,), "error_x": _ERROR, "error_y": _ERROR,
}  # fmt: skip
TRACES: dict[str, Tree] = {
    "scatter": _TRACE | {
        "type": ("scatter",),
        "mode": ("lines", "markers", "lines+markers", "markers+lines", "none"),
        "fill": ("none", "tozeroy", "tonexty"),
        "fillcolor": None,
        "line": _LINE | {"shape": ("linear",)},
        "marker": _any("color size opacity", symbol=_VARIANTS, line=_EDGE),
    },
    "bar": _TRACE | {
        "type": ("bar",),
        "orientation": ("v", "h"),
        "width": None,
        "textposition": ("none",),
        "marker": _any("color opacity", line=_EDGE, pattern={"shape": tuple(PATTERNS)}),
    },
}  # fmt: skip
"""What a trace may say, by its kind."""
_AXIS = _any(
    "range domain anchor matches categoryarray overlaying tickvals ticktext tickformat tick0 dtick nticks tickprefix "
    "ticksuffix tickangle tickcolor ticklen showticklabels showgrid gridcolor gridwidth zeroline zerolinecolor "
    "zerolinewidth showline linecolor linewidth visible automargin fixedrange hoverformat ",
    title=_any("text standoff", font=_FONT),
    tickfont=_FONT,
    type=("-", "linear", "log", "category"),
    autorange=(True, False, "reversed"),
    rangemode=("normal", "tozero", "nonnegative"),
    categoryorder=("trace", "array"),
    tickmode=("auto", "linear", "array"),
    ticks=("", "outside"),
    side=("left", "right", "top", "bottom"),
    exponentformat=("B", "power"),
)
_ITEM = _any("x y text showarrow arrowcolor arrowwidth arrowhead ax ay bgcolor bordercolor borderpad "
             "borderwidth xshift yshift xref yref opacity name textangle", font=_FONT,
             align=("left", "center", "right"), visible=(True,),
             xanchor=("auto", "left", "center", "right"), yanchor=("auto", "top", "middle", "bottom"))  # fmt: skip
_SHAPE = _any("x0 x1 y0 y1 xref yref fillcolor opacity name", line=_LINE, type=("line", "rect"), visible=(True,),
              layer=("above", "between", "below"))  # fmt: skip
_LEGEND = _any("x y xref yref xanchor yanchor orientation groupclick itemclick itemdoubleclick uirevision", font=_FONT,
               traceorder=("normal", "grouped", "reversed"), title=_any("text side", font=_FONT))  # fmt: skip
LAYOUT = _any(
    "height width autosize showlegend margin paper_bgcolor plot_bgcolor colorway bargap bargroupgap template hovermode "
    "hoverlabel hoverdistance dragmode clickmode uirevision modebar selectdirection meta",
    title=_any("text x y xref yref xanchor yanchor pad automargin", font=_FONT),
    font=_FONT,
    xaxis=_AXIS,
    yaxis=_AXIS,
    legend=_LEGEND,
    annotations=_ITEM,
    shapes=_SHAPE,
    barmode=("group", "stack", "relative", "overlay"),
)
"""What a layout may say; the axes after the first are as those here."""


@dataclass(frozen=True)
class Reading:
    """A figure's traces that are drawn, and its layout, with the defaults of its template in their places."""

    traces: tuple[Tree, ...]
    layout: Tree

    def axis(self, name: str) -> Tree:
        """An axis by the name a trace has for it: `x`, `y2`."""
        return self.layout.get(f"{name[0]}axis{name[1:]}", {})


def read(figure: go.Figure) -> Reading:
    """Read a figure.

    Raises:
        InputError: it says something that cannot be drawn without a browser, or is made for a dark page.
    """
    if figure.frames:
        raise InputError("figure: expected no frames, got an animation; build one figure for each picture")
    layout: Tree = figure.layout.to_plotly_json()  # pyright: ignore[reportAttributeAccessIssue]
    template = layout.get("template", {})
    axes = {name: _kind(name) for name in layout if _kind(name) in ("xaxis", "yaxis")}
    _refuse_unknown(layout, LAYOUT | dict.fromkeys(axes, _AXIS), "layout")
    defaults = _pruned(template.get("layout", {}), LAYOUT)
    merged = _merged(defaults, layout)
    for name, kind in ({"xaxis": "xaxis", "yaxis": "yaxis"} | axes).items():
        merged[name] = _merged(defaults.get(kind, {}), layout.get(name, {}))
        if merged[name].get("overlaying") and merged[name].get("showgrid"):
            raise InputError(f"layout.{name}.showgrid: expected none over another axis, got True; give False")
    for kind, known in (("annotation", _ITEM), ("shape", _SHAPE)):
        given = _pruned(template.get("layout", {}).get(f"{kind}defaults", {}), known)
        merged[f"{kind}s"] = [_merged(given, item) for item in layout.get(f"{kind}s", ())]
    if at(merged, "font.color") == INK["dark"]:
        raise InputError("figure: expected one in the light theme, got the dark one; build it with theme='light'")
    colors = merged.get("colorway") or ["#444"]
    drawn = [(i, trace.to_plotly_json()) for i, trace in enumerate(figure.data)]
    traces = [
        _trace(i, tree, template.get("data", {}), colors[i % len(colors)])
        for i, tree in drawn
        if tree.get("visible", True) is True
    ]
    return Reading(tuple(traces), merged)


def _trace(i: int, tree: Tree, templates: Mapping[str, Any], color: str) -> Tree:
    kind, where = tree["type"], f"trace {i}, {plain(tree.get('name', '')):.40}"
    if kind not in TRACES:
        raise InputError(f"{where}: expected {' or '.join(TRACES)}, got {kind}; no still draws it")
    _refuse_unknown(tree, TRACES[kind], where)
    lengths = [len(tree[which]) if isinstance(tree.get(which), Sequence | np.ndarray) else -1 for which in "xy"]
    if min(lengths) < 0 or lengths[0] != lengths[1]:
        raise InputError(f"{where}: expected as many x as y, got {lengths[0]} and {lengths[1]}; give both as lists")
    if kind == "bar" and tree.get("text") is not None and tree.get("textposition") != "none":
        raise InputError(f"{where}.text: expected none on a bar, got {tree['text']!r:.60}; set textposition='none'")
    default = next(iter(templates.get(kind, ())), {})
    return _merged({"color": color} | _pruned(default, TRACES[kind]), tree)


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _refuse_unknown(given: Mapping[str, Any], known: Tree, where: str) -> None:
    for name, value in given.items():
        place = f"{where}.{name}"
        if name not in known:
            expected = ", ".join(sorted(known))
            raise InputError(f"{place}: expected one of {expected}, got {value!r:.60}; leave it out, no still draws it")
        match known[name]:
            case dict() as below:
                for each in value if isinstance(value, list | tuple) else (value,):
                    _refuse_unknown(each, below, place)
            case tuple() as allowed:
                for each in np.ravel(np.asarray(value, dtype=object)):
                    if each not in allowed:
                        expected = ", ".join(map(str, allowed))
                        raise InputError(f"{place}: expected one of {expected}, got {each!r:.60}; no still draws it")


def _pruned(given: Mapping[str, Any], known: Tree) -> Tree:
    """What of a template's defaults is known here: they also speak of maps, pies and much else."""
    kept = {name: value for name, value in given.items() if name in known}
    return {
        n: _pruned(v, known[n]) if isinstance(v, dict) and isinstance(known[n], dict) else v for n, v in kept.items()
    }


def _merged(below: Tree, above: Tree) -> Tree:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def at(tree: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """What stands at a dotted path, the default where nothing does."""
    for name in path.split("."):
        if not isinstance(tree, Mapping) or tree.get(name) is None:
            return default
        tree = tree[name]
    return tree


def points(pixels: float) -> float:
    """A length on a page of 96 pixels an inch in the points of print, 72 an inch."""
    return 0.75 * float(pixels)


def _raised(match: re.Match[str]) -> str:
    """The inside of <sup> or <sub> in letters that are high or low by themselves, where there are such."""
    return match[2].translate(RAISED if match[1].lower() == "sup" else LOWERED)


def plain(text: object) -> str:
    """A text as plotly shows it, without its markup: tags it knows are dropped, all else stays."""
    lines = _BREAK.split(re.sub(r"\r\n?|\n", " ", str(text)))
    # an invisible character could turn the text around it, and some are no XML
    return "\n".join(
        "".join(c if c.isprintable() else " " for c in unescape(_TAG.sub("", _HIGH_LOW.sub(_raised, line)))).strip()
        for line in lines
    )


def is_bold(text: object) -> bool:
    """A label begins in bold: then all of it is, here."""
    return str(text).lower().startswith("<b>")


def rgba(color: object, alpha: float = 1.0) -> Rgba:
    """A colour of plotly's, seen through as much as it says and alpha says."""
    found = _RGB.fullmatch(str(color).strip())
    try:
        if found:
            red, green, blue = (float(part) / 255 for part in found.groups()[:3])
            return to_rgba((red, green, blue, float(found[4] or 1) * alpha))
        *solid, own = to_rgba(str(color))
    except ValueError as error:
        raise InputError(f"colour {color!r:.60}: expected #rrggbb, rgb(…), rgba(…) or a CSS name; give one") from error
    return solid[0], solid[1], solid[2], own * alpha
