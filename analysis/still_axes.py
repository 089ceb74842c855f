"""The axes of a still: where values stand, how far they reach, and what is written at the ticks."""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Ticker

from analysis.still_reading import RAISED, Reading, Tree, at, is_bold, plain, points, rgba
from core.errors import InputError

TEXT_SCALE = 0.92
"""DejaVu Sans, which has every letter that the paper uses, is as much wider than the fonts of a page."""
LETTER = 0.56
"""Width of a letter in font sizes, on average."""
LABEL_WIDTH = 250
"""Pixels that the name of a category gets beside a y-axis."""
_FORMAT = re.compile(r"(?P<sign>\+?)(?P<comma>,?)(?:\.(?P<digits>\d+))?(?P<trim>~?)(?P<kind>[%fdg])")


@dataclass(frozen=True)
class Scale:
    """How the values of an axis become places on it."""

    kind: Literal["linear", "log", "category"]
    categories: tuple[str, ...] = ()

    def places(self, values: Iterable[Any]) -> np.ndarray:
        """Numbers as they are, a category at its rank, nothing as NaN."""
        rank = {category: i for i, category in enumerate(self.categories)}
        if self.kind == "category":
            values = [rank.get(str(value), value) for value in values]
        listed = [np.nan if value is None else value for value in values]
        try:
            return np.array(listed, float)
        except (TypeError, ValueError) as error:
            expected = "numbers" if self.kind != "category" else f"numbers or categories ({', '.join(self.categories)})"
            raise InputError(f"axis: expected {expected}, got {listed!r:.80}; give such values") from error


def scale_of(reading: Reading, name: str) -> Scale:
    """What an axis is, from what it says, or from the values of its traces; axes that match are one."""
    root = root_of(reading, name)
    layout = reading.axis(root)
    given = [
        value
        for trace in reading.traces
        if root_of(reading, trace.get(f"{name[0]}axis", name[0])) == root
        for value in trace.get(name[0], ())
    ]
    kind = layout.get("type", "-")
    texts = [value for value in given if isinstance(value, str)]
    if kind == "-":
        kind = "category" if any(not _is_number(text) for text in texts) else "linear"
    if kind != "category":
        return Scale(kind)
    ordered = layout.get("categoryarray") if layout.get("categoryorder", "array") == "array" else None
    found = list(dict.fromkeys(map(str, [*(ordered if ordered is not None else ()), *given])))
    there = set(map(str, given))
    used = [i for i, category in enumerate(found) if category in there] or [0]
    return Scale("category", tuple(found[used[0] : used[-1] + 1]))


def root_of(reading: Reading, name: str) -> str:
    """The axis that an axis takes its values' places from."""
    seen = [name]
    while other := reading.axis(seen[-1]).get("matches"):
        if other in seen or other[0] != name[0]:
            break
        seen.append(other)
    return seen[-1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def set_range(axes: Axes, which: str, layout: Tree, scale: Scale) -> None:
    """Let an axis reach as far as it says, or as its data does."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    if scale.kind == "category":
        low, high = -0.5, max(len(scale.categories), 1) - 0.5
    elif layout.get("rangemode") in ("tozero", "nonnegative"):
        low, high = (min(low, 0), max(high, 0)) if layout["rangemode"] == "tozero" else (max(low, 0), high)
    by_itself = layout.get("autorange", False)
    first, last = (high, low) if by_itself == "reversed" else (low, high)
    given = (None, None) if by_itself else layout.get("range", (None, None))
    if scale.kind == "log":
        given = tuple(None if end is None else 10.0**end for end in given)
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    set_limits(*(by_data if end is None else end for by_data, end in zip((first, last), given, strict=True)))


def set_ticks(axes: Axes, which: str, layout: Tree, scale: Scale, pixels: float, size: float) -> None:
    """Fix ticks and their texts, as an axis of that many pixels has room for: a still has no reader who zooms."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    values, texts = layout.get("tickvals"), layout.get("ticktext")
    if values is not None and layout.get("tickmode", "array") == "array":
        places = scale.places(values)
        labels = list(texts) if texts is not None else tick_texts(places, layout, scale)
    elif scale.kind == "category":
        places, labels = np.arange(len(scale.categories), dtype=float), list(scale.categories)
    else:
        places = _tick_places(low, high, layout, scale, pixels / (80 if which == "x" else 40))
        labels = tick_texts(places, layout, scale)
    slack = 1e-9 * (high - low)
    shown = [(x, text) for x, text in zip(places, labels, strict=True) if low - slack <= x <= high + slack]
    room = LABEL_WIDTH if which == "y" else pixels / max(len(labels), 1)
    axis.major = Ticker()  # else axes that share a range would share what is written at the ticks
    axis.set_ticks([x for x, _ in shown], labels=[folded(plain(text), room, size) for _, text in shown])
    for tick, (_, text) in zip(axis.get_major_ticks(), shown, strict=True):
        for label in (tick.label1, tick.label2):
            label.set_fontweight("bold" if is_bold(text) else "normal")
    axis.set_ticks([], minor=True)


def untangle(axes: Axes, scale: Scale, layout: Tree, renderer: Any) -> None:
    """Texts below an x-axis that run into each other: words are turned, of numbers every other one is left out."""
    texts = [text for text in axes.get_xticklabels() if text.get_visible() and text.get_text().strip()]
    boxes = sorted((box.x0, box.x1) for box in (text.get_window_extent(renderer) for text in texts))
    if all(end + 4 < start for (_, end), (start, _) in pairwise(boxes)):
        return
    if scale.kind == "category" or layout.get("ticktext") is not None:
        for text in texts:
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    else:
        numbers = [text.get_text() for text in axes.get_xticklabels()]
        axes.set_xticks(axes.get_xticks()[::2], numbers[::2])


def _tick_places(low: float, high: float, layout: Tree, scale: Scale, wanted: float) -> np.ndarray:
    step, most = layout.get("dtick"), layout.get("nticks") or int(np.clip(wanted, 4, 9))
    if isinstance(step, str) or (step is not None and step <= 0):
        raise InputError(f"dtick: expected a number above 0, got {step!r}; give one, or leave it out")
    if scale.kind == "log":
        decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        parts = np.array([1.0, 2.0, 5.0]) if step is None and np.log10(high / low) < 2 else np.ones(1)
        every = step or np.ceil(np.log10(high / low) / most)
        return np.outer(10.0 ** decades[:: int(max(every, 1))], parts).ravel()
    if step is None:
        rough = (high - low) / (most + 1)
        power = 10.0 ** np.floor(np.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * (1 - 1e-9))
    first = float(layout.get("tick0", 0))
    return first + step * np.arange(np.ceil((low - first) / step - 1e-9), np.floor((high - first) / step + 1e-9) + 1)


def tick_texts(values: np.ndarray, layout: Tree, scale: Scale) -> list[str]:
    """Numbers as the axis' tickformat writes them (a part of d3's), else as powers of ten or as short as they are."""
    form, around = layout.get("tickformat"), (layout.get("tickprefix", ""), layout.get("ticksuffix", ""))
    is_power = layout.get("exponentformat") == "power"
    if is_power and scale.kind != "log":
        raise InputError(f"exponentformat: expected power on log axes only, got it on a {scale.kind} one; leave it out")
    texts = [written(value, form) for value in values] if form else _powers(values) if is_power else _short(values)
    return [plain(around[0]) + text.replace("-", "−") + plain(around[1]) for text in texts]


def written(value: float, form: str) -> str:
    """A number in d3's format: `.0%`, `.2~%`, `,.1f`, `+.2f`, `d`, `.3g`."""
    found = _FORMAT.fullmatch(form)
    if found is None:
        raise InputError(f"tickformat {form!r}: expected one such as .0%, .2~%, ,.1f, d or .3g; write it so")
    kind = "f" if found["kind"] == "d" else found["kind"]
    digits = 0 if found["kind"] == "d" else int(found["digits"] or 6)
    text = format(value + 0.0, f"{found['sign']}{found['comma']}.{digits}{kind}")
    if not found["trim"] or "e" in text:
        return text
    return re.sub(r"(\.\d*?)0+(?=%?$)", r"\1", text).replace(".%", "%").rstrip(".")


def _powers(values: np.ndarray) -> list[str]:
    texts = []
    for value in values:
        power = int(np.floor(np.log10(value) + 1e-9))
        factor = f"{value / 10.0**power:.3g}"
        raised = ("" if factor == "1" else f"{factor}·") + f"10{str(power).translate(RAISED)}"
        texts.append(f"{value:g}" if power in (0, 1) else raised)
    return texts


def _short(values: np.ndarray) -> list[str]:
    largest = np.max(np.abs(values), initial=0.0)
    if largest and not 1e-4 <= largest < 1e15:
        return [f"{value:g}" for value in values]
    texts = []
    for value in values + 0.0:
        size, unit = next(
            (
                (size, unit)
                for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k"))
                if abs(value) >= size and largest >= 1e4
            ),
            (1.0, ""),
        )
        texts.append(f"{value / size:.10f}".rstrip("0").rstrip(".") + unit)
    return texts


def dress(axes: Axes, which: str, layout: Tree, *, ink: str, size: float, is_named: bool, has_grid: bool) -> None:
    """Grid, axis line, ticks, their texts and the title of an axis; only the grid where another panel names it."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    visible = layout.get("visible", True)
    side = layout.get("side", "bottom" if which == "x" else "left")
    if visible and has_grid:
        axis.grid(
            True, color=rgba(layout.get("gridcolor", "#eee")), linewidth=points(layout.get("gridwidth", 1)), zorder=0.5
        )
    low, high = sorted(axis.get_view_interval())
    has_zero = visible and is_named and layout.get("zeroline", True)
    if has_zero and low <= 0 <= high and axis.get_scale() == "linear":
        line, width = axes.axvline if which == "x" else axes.axhline, points(layout.get("zerolinewidth", 1))
        line(0, color=rgba(layout.get("zerolinecolor", "#444")), linewidth=width, zorder=0.6)
    for name, spine in axes.spines.items():
        if name in ({"left", "right"} if which == "y" else {"top", "bottom"}):
            spine.set_visible(bool(visible and is_named and layout.get("showline", False) and name == side))
            spine.set_edgecolor(rgba(layout.get("linecolor", "#444")))
            spine.set_linewidth(points(layout.get("linewidth", 1)))
    has_labels = visible and is_named and layout.get("showticklabels", True)
    has_ticks = visible and is_named and layout.get("ticks", "") == "outside"
    font = layout.get("tickfont", {})
    others = _OTHER[side]
    shown: Tree = {side: has_ticks, f"label{side}": has_labels, others: False, f"label{others}": False}
    axis.set_tick_params(
        length=points(layout.get("ticklen", 5)) if has_ticks else 0,
        color=rgba(layout.get("tickcolor", "#444")),
        labelsize=text_points(font.get("size", size)),
        labelcolor=rgba(font.get("color", ink)),
        rotation=-float(layout.get("tickangle", 0)),
        pad=3,
        **shown,
    )
    if visible and is_named and at(layout, "title.text"):
        axis.set_label_position(side)
        axis.set_label_text(
            plain(layout["title"]["text"]),
            color=rgba(at(layout, "title.font.color", ink)),
            fontsize=text_points(at(layout, "title.font.size", size)),
        )
        axis.labelpad = 4


_OTHER = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


def folded(text: str, width: float, size: float) -> str:
    """A text in lines that are about as wide as so many pixels, at a font of that size."""
    letters = max(int(width / (LETTER * size)), 8)
    wrapper = textwrap.TextWrapper(letters, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrapper.fill(line) for line in text.split("\n"))


def text_points(pixels: float) -> float:
    """The size of a font in print."""
    return TEXT_SCALE * points(pixels)
