"""Numbers of the study as the texts of its tables, and what their captions say of them."""

import math
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from analysis.comparison import signed
from analysis.tables.paper_table import PaperTable
from core.intervals import Interval, mean_interval

DASH = "–"

OVER_SEEDS = "95 % t-interval over training seeds"
PAIRED = (
    f"± and [ ]: {OVER_SEEDS}, none from a single seed; the held-out problems are always the same, so their choice is "
    "not in it. Differences are in points and paired by seed: same problems in the same order. Bold: a difference "
    "whose interval leaves out 0, without correction for how many there are."
)
ROUNDING = 1e-9
"""Differences of accuracies below this are none."""

Cell = str | Interval
"""A text, or a difference (share): bold where its interval leaves out 0."""


def percent(values: Sequence[float]) -> str:
    """The mean of some seeds' shares in percent, ± half its interval from two seeds on."""
    return with_reach(mean_interval(values)) if len(values) else DASH


def with_reach(interval: Interval, sign: str = "") -> str:
    """A share in percent ± half its interval where there is one; sign "+" for a difference."""
    if math.isnan(interval.estimate):
        return DASH
    reach = "" if math.isnan(interval.half_width) else f" ± {100 * interval.half_width:.1f}"
    return f"{100 * interval.estimate:{sign}.1f}".replace("-", "−") + reach


def points(interval: Interval) -> str:
    """A difference in points with the ends of its interval where there are any."""
    if math.isnan(interval.estimate):
        return DASH
    ends = "" if math.isnan(interval.low) else f" [{signed(interval.low)}, {signed(interval.high)}]"
    return f"{signed(interval.estimate)}{ends}"


def is_separated(interval: Interval) -> bool:
    """Its interval leaves out 0."""
    return interval.low > ROUNDING or interval.high < -ROUNDING


def rate_text(rate: float) -> str:
    """A learning rate as people write it: 5e-4."""
    mantissa, exponent = f"{rate:.5e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def counted(numbers: Iterable[int]) -> str:
    """One number, or all that occur, ascending."""
    return ", ".join(map(str, sorted(set(numbers)))) or "0"


def sentences(*parts: str) -> str:
    """A caption of those parts that are not empty."""
    return " ".join(filter(None, parts))


def laid_out(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str], caption: str) -> PaperTable:
    """A table from rows that may leave cells out."""
    cells = [[row.get(name, DASH) for name in columns] for row in rows]
    texts = [[points(cell) if isinstance(cell, Interval) else cell for cell in row] for row in cells]
    bold = [[isinstance(cell, Interval) and is_separated(cell) for cell in row] for row in cells]
    names = list(columns)
    return PaperTable(pd.DataFrame(texts, columns=names), caption, pd.DataFrame(bold, columns=names, dtype=bool))
