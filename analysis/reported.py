"""What the paper reports, each number with its source and how sure we are that it says so (``paper/*.csv``).

Confidence: ``printed`` in the paper or its repository, ``note`` quoted by somebody who read the figures, ``digitised``
read off a picture, ``inferred`` from other numbers. What is not known is not there.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.comparison import AVERAGE, Score, column_name
from analysis.style import LOOKS
from core.eval_schema import BENCHMARKS
from core.intervals import Difference, binomial_stderr, unpaired_difference

FOLDER = Path(__file__).parent / "paper"
MODELS = {"2B": "Qwen3-VL-2B-Instruct", "4B": "Qwen3-VL-4B-Instruct"}
"""The two models of Table 2."""


def names() -> list[str]:
    """Every table and figure that has numbers here: `table2`, `figure1`, ..., and `benchmarks`, the item counts."""
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def reported(name: str) -> pd.DataFrame:
    """One table or figure as a tidy frame: a value a row, with source and confidence.

    Table 2: model, method, benchmark (or `average`), value and stderr in percent. Table 3: minutes for 50 steps. Tables
    4 and 5: average accuracy and its gain over GRPO, percent and points. Figure 1: accuracy by step, share.
    """
    return pd.read_csv(FOLDER / f"{name}.csv")


@dataclass(frozen=True)
class Doubt:
    """A printed number that cannot be right as it stands."""

    model: str
    method: str
    benchmark: str
    printed: float
    reason: str


def is_share(percent: float, n: int) -> bool:
    """Whether a percentage with two decimals can be k of n items."""
    k = round(percent / 100 * n)
    return any(abs(100 * near / n - percent) <= 0.005 + 1e-9 for near in (k - 1, k, k + 1))


def doubts() -> list[Doubt]:
    """The numbers of Table 2 that are no share of the benchmark's items, or no mean of their row."""
    table, items = reported("table2"), item_counts()
    found: list[Doubt] = []
    for key, row in table.groupby(["model", "method"], sort=False):
        model, method = (str(part) for part in (key if isinstance(key, tuple) else (key,)))
        values = dict(zip(row["benchmark"], row["value"], strict=True))
        mean = float(np.mean([values[each] for each in BENCHMARKS]))
        for benchmark, value in values.items():
            if benchmark == AVERAGE:
                reason = f"the mean of its row is {mean:.2f}" if abs(value - mean) > 0.0051 else ""
            else:
                n = items[benchmark]
                reason = "" if is_share(value, n) else f"no whole number of {n} items gives {value:.2f} %"
            if reason:
                found.append(Doubt(model, method, str(benchmark), float(value), reason))
    return found


def item_counts() -> dict[str, int]:
    """Items of each benchmark, inferred from the shares that Table 2 prints."""
    counts = reported("benchmarks")
    return dict(zip(counts["benchmark"], counts["items"], strict=True))


@dataclass(frozen=True)
class PrintedContest:
    """Table 2 for one model: published accuracies, so differences can only be compared as if unpaired.

    Every ± the table prints is that of one sampling of independent items, √(p(1 − p)/n) (59 of 60 to the digit), which
    is what is used here with all its digits. Averages are recomputed from the row.
    """

    model: str

    @cached_property
    def _values(self) -> dict[tuple[str, str], float]:
        table = reported("table2")
        rows = table.loc[table["model"] == self.model]
        keys = zip(rows["method"], rows["benchmark"], strict=True)
        return dict(zip(keys, (rows["value"] / 100).tolist(), strict=True))

    @cached_property
    def _items(self) -> dict[str, int]:
        return item_counts()

    @cached_property
    def _doubts(self) -> dict[tuple[str, str], Doubt]:
        return {(each.method, each.benchmark): each for each in doubts() if each.model == self.model}

    @property
    def labels(self) -> list[str]:
        """The methods of the table as the paper writes them."""
        return [look.label for look in LOOKS.values()]

    @property
    def columns(self) -> list[str]:
        """The five benchmarks."""
        return list(BENCHMARKS)

    def method(self, label: str) -> str:
        """The method's name."""
        return next(name for name, look in LOOKS.items() if look.label == label)

    def score(self, label: str, column: str) -> Score | None:
        """The printed accuracy; the average as the mean of its row, in doubt where another was printed."""
        method = self.method(label)
        doubt = self._doubts.get((method, column))
        reason, printed = (doubt.reason, doubt.printed / 100) if doubt else ("", math.nan)
        if column != AVERAGE:
            value, n = self._values[method, column], self._items[column]
            return Score(value, binomial_stderr(value, n), n, n, doubt=reason, printed=printed)
        parts = [(self._values[method, each], self._items[each]) for each in BENCHMARKS]
        stderr = math.sqrt(sum(binomial_stderr(*part) ** 2 for part in parts)) / len(parts)
        n = sum(self._items[each] for each in BENCHMARKS)
        return Score(float(np.mean([value for value, _ in parts])), stderr, n, n, doubt=reason, printed=printed)

    def difference(self, label: str, other: str, column: str) -> Difference | None:
        """An approximate, unpaired comparison."""
        first, second = self.score(label, column), self.score(other, column)
        if first is None or second is None:
            return None
        return unpaired_difference(first.value, first.stderr, second.value, second.stderr, first.n_items)


def printed_notes(model: str) -> list[str]:
    """What a reader has to know about the paper's numbers."""
    found = [
        "These are numbers from the paper, not evaluations made here. Item scores were not published, so differences "
        "are unpaired and approximate; a paired test may be sharper.",
        "n = 1 training run and one sampling of the answers: training variance not included. DynaMath's 5,010 items "
        "are ten variants each of 501 questions, so its ± is probably too small.",
    ]
    for doubt in doubts():
        if doubt.model == model:
            where = f"{LOOKS[doubt.method].label}, {column_name(doubt.benchmark)}"
            used = "; differences use that mean" if doubt.benchmark == AVERAGE else ""
            found.append(f"▲ {where}: printed {doubt.printed:.2f}, but {doubt.reason}{used}.")
    return found
