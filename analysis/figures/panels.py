"""Panels of lines over training, side by side: what all curves of the workbench have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.curves import Axis, Curve
from analysis.pieces import display_pieces
from analysis.style import INK, Theme, look, styled, translucent

AXES: dict[Axis, str] = {"step": "step", "tokens": "sampled tokens", "seconds": "seconds of training"}
VARIANTS = ("", "-open", "-dot", "-open-dot")
"""Markers of one method's different configurations."""
NAME_LENGTH = 60
LAMBDA_ALPHA = 0.13
GAP = 0.05
"""Between two panels, as a share of the figure."""
LEGEND = {"yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "orientation": "h", "font": {"size": 12}}
"""Below the axis' title, however many lines it takes."""


@dataclass(frozen=True)
class Panel:
    """One set of axes: its name, what its numbers are, and its lines."""

    title: str
    definition: str
    """One sentence, shown on hover."""
    curves: Sequence[Curve]


def draw(
    title: str,
    panels: Sequence[Panel],
    axis: Axis,
    theme: Theme,
    *,
    unit: str = "share of {n}",
    columns: int = 1,
    shading: Sequence[pd.DataFrame] = (),
    empty: str = "",
    percent: bool = True,
    from_zero: bool = False,
) -> go.Figure:
    """Draw the panels.

    Every point carries the run that it opens and its step as customdata.

    Args:
        title: of the figure.
        panels: what to draw.
        axis: what stands along x.
        theme: light or dark.
        unit: what a number is a mean over, said on hover.
        columns: panels in a row.
        shading: λ over x, drawn behind (columns x, lam).
        empty: said in place of lines where there are none.
        percent: y is a share.
        from_zero: the y-axis begins at 0.
    """
    rows = -(-len(panels) // columns)
    heads = len(panels) > 1
    data: list[dict[str, Any]] = []
    layout = _frame(title, axis, rows, heads=heads)
    for i, panel in enumerate(panels):
        row = i // columns
        of_row = panels[row * columns : (row + 1) * columns]
        y: dict[str, Any] = {"tickformat": ".2~%" if percent else None}
        y |= {"range": [0, _top(of_row)]} if from_zero else {}
        x = {"title": {"text": AXES[axis] if row == rows - 1 else None}, "showticklabels": row == rows - 1}
        layout |= _axes(i, rows, columns, x, y)
        if heads:
            layout["annotations"].append(_head(panel.title, layout[_axis("xaxis", i)], layout[_axis("yaxis", i)]))
        for points in shading:
            data.append(_shade(points, panel, i, len(panels), theme))
            layout[_axis("yaxis", i + len(panels))] = {
                "overlaying": _axis("y", i), "range": [0, 1], "visible": False, "fixedrange": True
            }  # fmt: skip
        for curve in panel.curves:
            data += _line(curve, panel, i, theme, unit=unit, percent=percent)
    if empty and not any(panel.curves for panel in panels):
        centre = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 14}}
        layout["annotations"].append({"text": escaped(empty, 300), **centre})
    named: set[str] = set()
    for trace in data:  # a name stands in the legend once, however many panels it is in
        trace["showlegend"] = trace.get("showlegend", True) and trace["name"] not in named
        named.add(trace["name"])
    # in one piece: plotly takes ten times as long to put a figure together bit by bit
    return styled(go.Figure(data, layout), theme)


def _frame(title: str, axis: Axis, rows: int, *, heads: bool) -> dict[str, Any]:
    """What is around the panels."""
    return {
        "title": {"text": title, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10, "l": 8}},
        "height": 140 + 210 * rows + (24 if heads else 0),
        "margin": {"t": 72 if heads else 48, "b": 96},
        "legend": LEGEND,
        "showlegend": True,
        "uirevision": f"{title} {axis}",  # new numbers keep the reader's zoom and hidden lines
        "annotations": [],
    }


def _axis(kind: str, i: int) -> str:
    return kind if i == 0 else f"{kind}{i + 1}"


def _axes(i: int, rows: int, columns: int, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """The axes of a panel in its place; all panels share x, those of a row share y."""
    row, column = divmod(i, columns)
    width, height = (1 - GAP * (columns - 1)) / columns, (1 - 3 * GAP * (rows - 1)) / rows
    left, top = column * (width + GAP), 1 - row * (height + 3 * GAP)
    x = x | {"domain": [left, left + width], "anchor": _axis("y", i)} | ({"matches": "x"} if i else {})
    y = y | {"domain": [max(top - height, 0), top], "anchor": _axis("x", i)}
    y |= {"matches": _axis("y", row * columns), "showticklabels": False} if column else {}
    return {_axis("xaxis", i): x, _axis("yaxis", i): y}


def _head(title: str, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    place = {"x": sum(x["domain"]) / 2, "y": y["domain"][1], "xref": "paper", "yref": "paper", "yanchor": "bottom"}
    return {"text": escape(title), "xanchor": "center", "showarrow": False, "font": {"size": 13}, **place}


def _top(panels: Sequence[Panel]) -> float:
    """The upper end of an axis that begins at 0: plotly itself takes axes that share a range for empty ones."""
    values = [curve.points[["y", "high"]].max(axis=None) for panel in panels for curve in panel.curves]
    return 1.08 * max(values, default=0) or 1.0


def _line(curve: Curve, panel: Panel, i: int, theme: Theme, *, unit: str, percent: bool) -> list[dict[str, Any]]:
    each, points = look(curve.method), curve.points
    color, name = each.on(theme), escaped(curve.name, NAME_LENGTH)
    shared = {
        "type": "scatter", "x": points.x, "meta": panel.title, "legendgroup": name, "xaxis": _axis("x", i),
        "yaxis": _axis("y", i),
    }  # fmt: skip
    number = "%{y:.2%}" if percent else "%{y:.4g}"
    interval = " [%{customdata[4]}]" if curve.has_band else ""
    line = shared | {
        "y": points.y,
        "name": f"{name}, n = {curve.seeds} seed{'s' if curve.seeds > 1 else ''}",
        "mode": "lines+markers",
        "line": {"color": color, "width": 2.4 if curve.has_band else 1.3, "dash": each.dash},
        "marker": {"symbol": f"{each.marker}{VARIANTS[curve.variant % len(VARIANTS)]}", "size": 6},
        "customdata": [
            # step 0 is before training and has no rollouts to open
            (curve.key, max(int(step), 1), int(step), f"{int(n):,}", _interval(low, high, percent), name)
            for step, n, low, high in points[["step", "n", "low", "high"]].itertuples(index=False)
        ],
        # the name comes as data: in the template itself, %{...} would be read
        "hovertemplate": f"%{{customdata[5]}}<br>{panel.title}: {number}{interval}<br>step %{{customdata[2]}}, "
        f"{unit.format(n='%{customdata[3]}')}<br><i>{escape(panel.definition)}</i><extra></extra>",
    }
    if not curve.has_band:
        return [line]
    ends = shared | {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": translucent(color, 0.16)}
    low, high = {"y": points.low, "name": f"{name}, low"}, {"y": points.high, "name": f"{name}, high"}
    return [ends | low, ends | high | fill, line]


def _interval(low: float, high: float, percent: bool) -> str:
    if low != low:
        return ""
    return f"{low:.1%}, {high:.1%}" if percent else f"{low:.3g}, {high:.3g}"


def _shade(points: pd.DataFrame, panel: Panel, i: int, n_panels: int, theme: Theme) -> dict[str, Any]:
    """λ behind the lines, from 0 at the bottom of the panel to 1 at its top."""
    return {
        "type": "scatter",
        "x": points.x,
        "y": points.lam,
        "xaxis": _axis("x", i),
        "yaxis": _axis("y", i + n_panels),
        "meta": panel.title,
        "name": "λ (0 at the bottom, 1 at the top)",
        "legendgroup": "λ",
        "mode": "lines",
        "line": {"width": 0, "color": INK[theme]},
        "fill": "tozeroy",
        "fillcolor": translucent(INK[theme], LAMBDA_ALPHA),
        "hoverinfo": "skip",
    }


def escaped(text: str, length: int = NAME_LENGTH) -> str:
    """A text as plotly shows it literally, on one line: names and hovers are otherwise read as a kind of HTML."""
    line = display_pieces([text], [None])[0].text
    return escape(line if len(line) <= length else f"{line[: length - 1]}…", quote=False)


def alternative(figure: go.Figure) -> str:
    """What a figure shows, for those who do not see it: its title, and where every line or bar ends."""
    layout: Any = figure.layout
    said = []
    for trace in traces(figure):
        x, y = list(trace.x), list(trace.y)
        if trace.type == "bar":
            said.append(f"{trace.name}: " + ", ".join(f"{each} {value:.3g}" for value, each in zip(x, y, strict=True)))
        elif trace.showlegend and y:
            said.append(f"{trace.name}: {y[-1]:.3g} at {x[-1]:,.0f}")
    notes = [] if said else [note.text for note in layout.annotations]
    return unescape(". ".join([layout.title.text, *said, *notes]))


def plotted(figure: go.Figure) -> pd.DataFrame:
    """The numbers of a figure: one row a point, columns panel, series, x, y."""
    parts = [
        pd.DataFrame(
            {"panel": trace.meta or "", "series": unescape(trace.name), "x": list(trace.x), "y": list(trace.y)}
        )
        for trace in traces(figure)
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["panel", "series", "x", "y"])


def traces(figure: go.Figure) -> tuple[Any, ...]:
    """What is drawn, for a type checker that cannot know plotly's traces."""
    drawn: Any = figure.data
    return tuple(drawn)
