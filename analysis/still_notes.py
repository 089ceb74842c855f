"""Shapes and notes of a still: lines, rectangles and texts, over the panels and between them."""

from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import Transform, blended_transform_factory

from analysis.still_axes import Scale, folded, text_points
from analysis.still_marks import Panel, stroke
from analysis.still_reading import ANCHORS, Tree, at, is_bold, plain, points, rgba
from core.errors import InputError


@dataclass(frozen=True)
class Sheet:
    """What shapes and notes stand on: two empty sets of axes over all panels, below and above them."""

    below: Axes
    above: Axes
    panels: dict[str, Panel]
    """By the name of either of a panel's axes."""
    spans: tuple[tuple[float, ...], ...]
    """From where to where panels reach along x, in shares of all of them."""
    width: float
    """Of the figure, in pixels."""

    def along(self, which: str, ref: str) -> tuple[Transform, Scale]:
        """What a shape's or a note's x or y counts: data of an axis, or shares of a panel or of all of them."""
        if ref == "paper":
            return self.above.transAxes, Scale("linear")
        axis, _, of = ref.partition(" ")
        if axis not in self.panels or axis[0] != which or of not in ("", "domain"):
            expected = ", ".join(name for name in self.panels if name[0] == which)
            raise InputError(f"{which}ref: expected paper or one of {expected}, got {ref!r:.60}; name an axis drawn")
        panel = self.panels[axis]
        if of:
            return panel.axes.transAxes, Scale("linear")
        return panel.axes.transData, panel.scale(which)


def shape(item: Tree, sheet: Sheet) -> None:
    """A line or a rectangle over or under the marks, cut off at its panel where it counts in the panel's data."""
    refs = [item.get(f"{which}ref", which) for which in "xy"]
    (x_of, x_scale), (y_of, y_scale) = (sheet.along(which, ref) for which, ref in zip("xy", refs, strict=True))
    x, y = x_scale.places((item["x0"], item["x1"])), y_scale.places((item["y0"], item["y1"]))
    panel = next((sheet.panels[ref.partition(" ")[0]] for ref in refs if ref != "paper"), None)
    alpha, is_below = item.get("opacity", 1.0), item.get("layer", "above") != "above"
    style = stroke(item.get("line", {}), "#444", alpha)
    style |= {"transform": blended_transform_factory(x_of, y_of), "zorder": 0.8}  # over the grid, under the marks
    if item.get("type", "rect") == "line":
        drawn: Artist = Line2D(x, y, **style)
    else:
        edge, inside = style.pop("color"), item.get("fillcolor")
        style |= {"edgecolor": edge, "facecolor": rgba(inside, alpha) if inside else "none"}
        drawn = Rectangle((x[0], y[0]), x[1] - x[0], y[1] - y[0], **style)
    if not is_below:
        sheet.above.add_artist(drawn)
    else:
        (panel.axes if panel else sheet.below).add_artist(drawn)
    drawn.set_clip_on(panel is not None)
    if panel:
        drawn.set_clip_path(None)
        drawn.set_clip_box(panel.axes.bbox)


def note(item: Tree, sheet: Sheet, font: Tree) -> None:
    """A text at a place, with an arrow where it stands apart from it."""
    refs = {which: item.get(f"{which}ref", which) for which in "xy"}
    places, transforms, anchors = {}, [], {}
    for which, ref in refs.items():
        transform, scale = sheet.along(which, ref)
        place = scale.places([item[which]])[0]
        places[which] = 10.0**place if scale.kind == "log" else place  # plotly's notes, and they alone, count exponents
        transforms.append(transform)
        anchors[which] = _anchor(item, which, places[which], ref)
    is_arrow = item.get("showarrow", True)
    shift = (item.get("xshift", 0), item.get("yshift", 0))
    if is_arrow:
        shift = (shift[0] + item.get("ax", -10), shift[1] - item.get("ay", -30))
    size = at(item, "font.size", font["size"])
    text = plain(item["text"])
    if refs["x"] == "paper":
        span = next((high - low for low, high in sheet.spans if low <= places["x"] <= high), 1.0)
        text = folded(text, 0.9 * span * sheet.width, size)
    sheet.above.annotate(
        text, (places["x"], places["y"]), xycoords=blended_transform_factory(*transforms), annotation_clip=False,
        xytext=(points(shift[0]), points(shift[1])), textcoords="offset points", ha=anchors["x"], va=anchors["y"],
        multialignment=item.get("align", "center"), rotation=-float(item.get("textangle", 0)),
        fontsize=text_points(size), fontweight="bold" if is_bold(item["text"]) else "normal",
        color=rgba(at(item, "font.color", font["color"])), alpha=item.get("opacity"),
        arrowprops=_arrow(item, font) if is_arrow else None, bbox=_box(item),
    )  # fmt: skip


def _arrow(item: Tree, font: Tree) -> Tree:
    return {
        "arrowstyle": "-|>" if item.get("arrowhead", 1) else "-",
        "linewidth": points(item.get("arrowwidth", 1)),
        "color": rgba(item.get("arrowcolor", at(item, "font.color", font["color"]))),
        "shrinkA": 0,
        "shrinkB": 1,
        "mutation_scale": 7,
    }


def _box(item: Tree) -> Tree | None:
    """What is behind a text."""
    inside, edge = item.get("bgcolor"), item.get("bordercolor")
    if not inside and not edge:
        return None
    return {
        "boxstyle": f"square,pad={0.05 + item.get('borderpad', 1) / 20}",
        "linewidth": points(item.get("borderwidth", 1)),
        "facecolor": rgba(inside) if inside else "none",
        "edgecolor": rgba(edge) if edge else "none",
    }


def _anchor(item: Tree, which: str, place: float, ref: str) -> str:
    """Which part of a text stands at its place; by itself, the one that keeps it on the paper."""
    said = item.get(f"{which}anchor", "auto")
    if said != "auto":
        return ANCHORS[said]
    if item.get("showarrow", True) or ref != "paper" or 1 / 3 <= place <= 2 / 3:
        return "center"
    low, high = ("left", "right") if which == "x" else ("bottom", "top")
    return low if place < 1 / 3 else high
