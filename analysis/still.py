"""A plotly figure on paper: the same figure as SVG and PDF, drawn by matplotlib, without a browser.

What belongs to a screen is not taken over: hovers, the background, font families, and where title and legend stand.
Here all text is DejaVu Sans on white, the title above the panels, the legend below them, each name once. The figure is
as wide as it says, 96 pixels an inch (where it says nothing, as wide as its panels need to stand apart), and as tall,
or taller where its panels would get too little of it. A figure that says anything which is not in
`analysis.still_reading` is refused: nothing is left out in silence.
"""

import io
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerTuple
from matplotlib.text import Text

from analysis.still_axes import folded, root_of, scale_of, text_points
from analysis.still_marks import Key, Panel, bars, scatter
from analysis.still_notes import Sheet, note, shape
from analysis.still_reading import Reading, Tree, at, plain, read, rgba
from analysis.still_room import EDGE, Pair, Room, domain, pixels_of

SETTINGS = {
    "font.family": "DejaVu Sans",
    "hatch.linewidth": 0.8,
    "pdf.fonttype": 42,  # TrueType: text that can be searched and edited
    "text.hinting": "none",  # what is measured here is also what is drawn
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "credence",
    "text.parse_math": False,  # a $ in a name is a dollar
}
WIDTH, HEIGHT = 700, 450
"""Pixels, of a figure that names none: plotly's own."""
WIDEST = 1100
"""Pixels that a figure which names no width may take for panels that would run into each other."""
LAYERS = (("below", -1), ("above", 10))
"""What shapes and notes of the whole figure stand on, and how far below or above the panels."""


def still(figure: go.Figure) -> Figure:
    """The figure as matplotlib has it.

    Raises:
        InputError: it says something that cannot be drawn without a browser.
    """
    reading = read(figure)
    with style.context(["default", SETTINGS]):
        page, lacking = _page(reading, reading.layout.get("width", WIDTH))
        if lacking and "width" not in reading.layout:
            page, _ = _page(reading, min(WIDTH + lacking, WIDEST))
    return page


def _page(reading: Reading, width: float) -> tuple[Figure, float]:
    """The figure at a width in pixels, and how much wider it would have to be for its panels to stand apart."""
    page = Figure((width / 96, reading.layout.get("height", HEIGHT) / 96), dpi=96)
    FigureCanvasAgg(page)
    font = {"size": 12, "color": "#444"} | reading.layout.get("font", {})
    panels = _panels(page, reading)
    named = _draw(reading, panels)
    sheet = _sheet(page, reading, panels)
    for item in reading.layout["shapes"]:
        shape(item, sheet)
    for item in reading.layout["annotations"]:
        note(item, sheet, font)
    title, legend = _title(page, reading.layout, font), _legend(page, named, reading.layout, font)
    room = Room(page, reading, panels, sheet, title, legend, font)
    room.fit()
    return page, room.lacking()


def svg(figure: go.Figure) -> str:
    """The figure as an SVG element, to stand in a page; its texts are texts."""
    page, out = still(figure), io.StringIO()
    with style.context(["default", SETTINGS]):
        page.savefig(out, format="svg", metadata={"Date": None, "Title": _title_of(figure)})
    return out.getvalue().partition("<!DOCTYPE")[2].partition(">")[2].lstrip()


def save(figure: go.Figure, stem: Path) -> tuple[Path, Path]:
    """Write the figure beside stem as .svg and .pdf; the same figure gives the same bytes."""
    paths = stem.with_name(f"{stem.name}.svg"), stem.with_name(f"{stem.name}.pdf")
    page, title = still(figure), _title_of(figure)
    with style.context(["default", SETTINGS]):
        page.savefig(paths[0], metadata={"Date": None, "Title": title})
        page.savefig(paths[1], metadata={"CreationDate": None, "Title": title})
    return paths


def _title_of(figure: go.Figure) -> str:
    layout: Any = figure.layout
    return plain(layout.title.text or "")


def _pairs(reading: Reading) -> list[Pair]:
    """Every pair of axes that is drawn, those that lie over another one last."""
    found = [(trace.get("xaxis", "x"), trace.get("yaxis", "y")) for trace in reading.traces]
    for name in (name.replace("axis", "") for name in reading.layout if name[1:5] == "axis"):
        if not any(name in pair for pair in found):
            other = reading.axis(name).get("anchor", "y" if name[0] == "x" else "x")
            found.append((name, other) if name[0] == "x" else (other, name))
    return sorted(dict.fromkeys(found), key=lambda pair: any(reading.axis(name).get("overlaying") for name in pair))


def _panels(page: Figure, reading: Reading) -> dict[Pair, Panel]:
    """A set of axes for every pair; those that match, or are one axis in two pairs, share what they show."""
    panels: dict[Pair, Panel] = {}
    first: dict[str, Axes] = {}
    for pair in _pairs(reading):
        roots = [root_of(reading, name) for name in pair]
        axes = page.add_axes((0.1, 0.1, 0.8, 0.8), label=" ".join(pair),
                             sharex=first.get(roots[0]), sharey=first.get(roots[1]))  # fmt: skip
        axes.patch.set_visible(False)
        axes.set_axisbelow(True)
        scales = [scale_of(reading, name) for name in pair]
        for root, which, scale in zip(roots, "xy", scales, strict=True):
            first.setdefault(root, axes)
            if scale.kind == "log":
                axes.set(**{f"{which}scale": "log"})
        panels[pair] = Panel(axes, *scales)
    return panels


def _draw(reading: Reading, panels: dict[Pair, Panel]) -> dict[str, Key]:
    """Draw every trace; what stands for each name in the legend, in the order of the traces."""
    keys: dict[int, Key] = {}
    for pair, panel in panels.items():
        own = [
            (i, trace)
            for i, trace in enumerate(reading.traces)
            if (trace.get("xaxis", "x"), trace.get("yaxis", "y")) == pair
        ]
        piled = [(i, trace) for i, trace in own if trace["type"] == "bar"]
        drawn = bars([trace for _, trace in piled], panel, reading.layout)
        keys |= {i: key for (i, _), key in zip(piled, drawn, strict=True)}
        before: Tree | None = None
        for i, trace in own:
            if trace["type"] == "scatter":
                keys[i] = scatter(trace, panel, before, 2 + i / 1000)
                before = trace
    eligible = [trace.get("showlegend", True) for trace in reading.traces]
    if not reading.layout.get("showlegend", sum(eligible) > 1 or any(t.get("showlegend") for t in reading.traces)):
        return {}
    named: dict[str, Key] = {}
    for i, trace in enumerate(reading.traces):
        if eligible[i] and keys[i]:
            named.setdefault(plain(trace.get("name", f"trace {i}")), keys[i])
    return named


def _sheet(page: Figure, reading: Reading, panels: dict[Pair, Panel]) -> Sheet:
    by_axis: dict[str, Panel] = {}
    for pair, panel in panels.items():
        for name in pair:
            by_axis.setdefault(name, panel)
    layers = [page.add_axes((0.1, 0.1, 0.8, 0.8), label=label, zorder=zorder) for label, zorder in LAYERS]
    for axes in layers:
        axes.set_axis_off()
    spans = {tuple(domain(reading, name)) for name in by_axis if name[0] == "x"}
    return Sheet(layers[0], layers[1], by_axis, tuple(sorted(spans)), page.bbox.width)


def _title(page: Figure, layout: Tree, font: Tree) -> Text | None:
    text = plain(at(layout, "title.text", ""))
    if not text.strip():
        return None
    pixels = at(layout, "title.font.size", 1.4 * font["size"])
    color = rgba(at(layout, "title.font.color", font["color"]))
    text = folded(text, page.bbox.width, pixels)
    return page.text(0, 1, text, fontsize=text_points(pixels), color=color, va="top", ha="left", linespacing=1.3)


def _legend(page: Figure, named: dict[str, Key], layout: Tree, font: Tree) -> Legend | None:
    """Below the figure, row by row, in as many columns as fit."""
    if not named:
        return None
    pixels = at(layout, "legend.font.size", font["size"])
    names = list(named)[:: -1 if at(layout, "legend.traceorder") == "reversed" else 1]
    columns = len(names)
    while True:
        rows = -(-len(names) // columns)
        columns = -(-len(names) // rows)
        order = [names[i] for column in range(columns) for i in range(column, len(names), columns)]
        handles: Any = [named[name] for name in order]  # matplotlib's types know no marks one above the other
        texts = [folded(name, page.bbox.width - 80, pixels) for name in order]
        legend = page.legend(
            handles, texts, ncols=columns, loc="lower center", borderaxespad=0, borderpad=0, frameon=False,
            fontsize=text_points(pixels), labelcolor=rgba(at(layout, "legend.font.color", font["color"])),
            title=plain(at(layout, "legend.title.text", "")) or None, title_fontsize=text_points(pixels),
            handler_map={tuple: HandlerTuple(ndivide=1, pad=0)}, handlelength=2.6, handletextpad=0.5,
            columnspacing=1.6, labelspacing=0.45,
        )  # fmt: skip
        if columns == 1 or pixels_of(page, legend).width <= page.bbox.width - 2 * EDGE:
            return legend
        legend.remove()
        columns -= 1
