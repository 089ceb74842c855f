"""The room of a still: what title, legend, ticks and notes need, and the rest for the panels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.still_axes import dress, root_of, set_range, set_ticks, untangle
from analysis.still_marks import Panel
from analysis.still_notes import Sheet
from analysis.still_reading import Reading, Tree, at

EDGE, GAP = 8, 12
"""Pixels around the figure, and between title, panels and legend."""
LEAST = 0.55
"""Of the height a figure names, what its panels get at least."""
APART = 4
"""Pixels between what belongs to two panels."""

Pair = tuple[str, str]
"""An x-axis and a y-axis, by the names traces have for them."""


def domain(reading: Reading, name: str) -> Sequence[float]:
    """From where to where an axis reaches, in shares of what is for all panels."""
    layout = reading.axis(name)
    return domain(reading, layout["overlaying"]) if layout.get("overlaying") else layout.get("domain", (0, 1))


def _unclip(axes: Axes) -> None:
    """Let lines whose points are all in the panel keep the half of a marker, or of their width, that is not."""
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    for line in axes.lines:
        if line.get_transform() != axes.transData:
            continue
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        seen = ~(np.isnan(x) | np.isnan(y))
        line.set_clip_on(bool(((x < left) | (x > right) | (y < low) | (y > high))[seen].any()))


def renderer_of(page: Figure) -> Any:
    """What measures texts, on a page whose canvas is Agg's."""
    canvas: Any = page.canvas
    return canvas.get_renderer()


def pixels_of(page: Figure, artist: Any) -> Bbox:
    """Where a part of the page is drawn."""
    return artist.get_tightbbox(renderer_of(page))


@dataclass(frozen=True, eq=False)
class Room:
    """How the figure is laid out: what every part needs, and the rest for the panels."""

    page: Figure
    reading: Reading
    panels: dict[Pair, Panel]
    sheet: Sheet
    title: Text | None
    legend: Legend | None
    font: Tree

    def fit(self) -> None:
        """Give every part its room: what the ticks need depends on the panels' size, and that on what they need."""
        inner = Bbox.from_extents(60, 60, self.page.bbox.width - 20, self.page.bbox.height - 40)
        head = pixels_of(self.page, self.title).height + GAP if self.title else 0
        foot = pixels_of(self.page, self.legend).height + GAP if self.legend else 0
        height = self.page.bbox.height
        self._dress()
        for _ in range(2):
            self._place(inner)
            self._label()
            around = Bbox.union([pixels_of(self.page, axes) for axes in self.page.axes])
            left, right = inner.x0 - around.x0, around.x1 - inner.x1
            below, above = inner.y0 - around.y0 + foot + EDGE, around.y1 - inner.y1 + head + EDGE
            needed = max(height, LEAST * height + below + above)
            self.page.set_size_inches(self.page.bbox.width / 96, needed / 96)
            inner = Bbox.from_extents(left + EDGE, below, self.page.bbox.width - right - EDGE, needed - above)
        self._place(inner)
        if self.title:
            self.title.set_position((EDGE / self.page.bbox.width, 1 - EDGE / self.page.bbox.height))
        if self.legend:
            self.legend.set_bbox_to_anchor((0.5, EDGE / self.page.bbox.height), transform=self.page.transFigure)

    def lacking(self) -> float:
        """Pixels that the figure is too narrow for ticks and titles of a panel not to reach into its neighbour's."""
        added = 0.0
        for (x, y), panel in self.panels.items():
            for (other_x, other_y), other in self.panels.items():
                gap = domain(self.reading, other_x)[0] - domain(self.reading, x)[1]
                (low, high), (other_low, other_high) = domain(self.reading, y), domain(self.reading, other_y)
                if gap > 0 and low < other_high and other_low < high:
                    crossed = pixels_of(self.page, panel.axes).x1 + APART - pixels_of(self.page, other.axes).x0
                    added = max(added, crossed / gap)
        return added

    def _place(self, inner: Bbox) -> None:
        """Every set of axes at its domain."""
        width, height = self.page.bbox.width, self.page.bbox.height
        whole = (inner.x0 / width, inner.y0 / height, inner.width / width, inner.height / height)
        for axes in (self.sheet.below, self.sheet.above):
            axes.set_position(whole)
        for pair, panel in self.panels.items():
            (left, right), (low, high) = (domain(self.reading, name) for name in pair)
            panel.axes.set_position((whole[0] + left * whole[2], whole[1] + low * whole[3],
                                     (right - left) * whole[2], (high - low) * whole[3]))  # fmt: skip

    def _dress(self) -> None:
        """Ranges, grids and titles."""
        solid = {
            root_of(self.reading, trace.get("xaxis", "x"))
            for trace in self.reading.traces
            if trace["type"] == "bar" or "markers" in trace.get("mode", "lines+markers")
        }
        for (x, _), panel in self.panels.items():
            panel.axes.margins(x=0.04 if root_of(self.reading, x) in solid else 0, y=0.05)
            panel.axes.autoscale_view()
        for pair, panel in self.panels.items():
            for name, which in zip(pair, "xy", strict=True):
                layout, scale = self.reading.axis(name), panel.scale(which)
                set_range(panel.axes, which, self._reach(name), scale)
                is_empty = not panel.axes.has_data() and not layout.get("range") and layout.get("tickvals") is None
                if is_empty:
                    layout = layout | {"showticklabels": False, "zeroline": False}
                elif scale.kind == "category":
                    layout = layout | {"zeroline": False}
                # the grid of an axis that lies over another one would cross out the marks of the other
                is_over = any(self.reading.axis(each).get("overlaying") for each in pair)
                has_grid = not is_empty and not is_over and layout.get("showgrid", scale.kind != "category")
                dress(
                    panel.axes, which, layout, ink=self.font["color"], size=self.font["size"],
                    is_named=self._names(name) == pair, has_grid=has_grid,
                )  # fmt: skip
            _unclip(panel.axes)

    def _reach(self, name: str) -> Tree:
        """What an axis, or one that it matches, says of how far it reaches."""
        root = root_of(self.reading, name)
        same = [root, *(each for pair in self.panels for each in pair if root_of(self.reading, each) == root)]
        said: Tree = {}
        for each in same:
            layout = self.reading.axis(each)
            said = {part: layout[part] for part in ("range", "autorange", "rangemode") if part in layout} | said
        return said

    def _label(self) -> None:
        """As many ticks as the axes have room for."""
        for pair, panel in self.panels.items():
            for name, which in zip(pair, "xy", strict=True):
                extent = panel.axes.bbox.width if which == "x" else panel.axes.bbox.height
                layout = self.reading.axis(name)
                size = at(layout, "tickfont.size", self.font["size"])
                set_ticks(panel.axes, which, layout, panel.scale(which), extent, size)
            untangle(panel.axes, panel.x, self.reading.axis(pair[0]), renderer_of(self.page))

    def _names(self, name: str) -> Pair:
        """The pair whose panel shows the ticks and the title of an axis."""
        anchor = self.reading.axis(name).get("anchor")
        own = [pair for pair in self.panels if name in pair]
        return next((pair for pair in own if anchor in pair), own[0])
