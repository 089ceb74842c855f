"""Methods beside each other on benchmarks: what the numbers are, and which of them the data separate.

A `Contest` is anything that can say how good a method was on a benchmark and how two differ there: own evaluations,
item by item (`analysis.contenders`), or numbers that somebody printed (`analysis.reported`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from core.eval_schema import BENCHMARKS
from core.intervals import LEVEL, Difference, holm, tie_group

AVERAGE = "average"
"""The column of the plain mean over benchmarks."""

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Score:
    """An accuracy, share in [0, 1], and what it rests on."""

    value: float
    stderr: float
    n_items: int
    n_clusters: int
    n_seeds: int = 1
    """Sampling seeds."""
    n_runs: int = 1
    """Training runs."""
    version: str = ""
    doubt: str = ""
    """Why the published number cannot be right as it stands."""
    printed: float = math.nan
    """The published number where it is in doubt."""


class Contest(Protocol):
    """Methods that met on the same benchmarks."""

    @property
    def labels(self) -> Sequence[str]:
        """The methods, in the order of the table."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The benchmarks, in the order of the table, without the average."""
        ...

    def method(self, label: str) -> str:
        """The method's name, for its look; empty when unknown."""
        ...

    def score(self, label: str, column: str) -> Score | None:
        """How good it was; None where that is not known."""
        ...

    def difference(self, label: str, other: str, column: str) -> Difference | None:
        """How much better it was than another; None where they cannot be compared."""
        ...


def column_name(column: str) -> str:
    """How a column is written."""
    return "Average" if column == AVERAGE else BENCHMARKS.get(column, column)


def compare(contest: Contest, baseline: str) -> pd.DataFrame:
    """One row a method and column: its score, its difference from the baseline, and what the data separate.

    Columns: label, method, column, score, stderr, n_items, n_clusters, n_seeds, n_runs, version, doubt, printed;
    difference, difference_low, difference_high, p_value, p_holm (against the baseline); separated (p_holm below 0.05);
    top (in the tie group of the best, where there are two or more). Shares in [0, 1]; NaN where something is not known.

    P-values are corrected by Holm within two families: all methods on all benchmarks, and all methods on the average.
    A column's tie group is corrected within the column.
    """
    table = pd.DataFrame(_rows(contest, baseline))
    table["p_holm"] = math.nan
    for family in (table["column"] == AVERAGE, table["column"] != AVERAGE):
        known = family & table["p_value"].notna()
        table.loc[known, "p_holm"] = holm(table.loc[known, "p_value"].tolist())
    table["separated"] = table["p_holm"] < ALPHA
    top = {(label, column) for column in (*contest.columns, AVERAGE) for label in top_group(contest, column)}
    table["top"] = [pair in top for pair in zip(table["label"], table["column"], strict=True)]
    return table


def _rows(contest: Contest, baseline: str) -> Iterator[dict[str, object]]:
    for label in contest.labels:
        for column in (*contest.columns, AVERAGE):
            score = contest.score(label, column)
            difference = None if label == baseline else contest.difference(label, baseline, column)
            yield {
                "label": label,
                "method": contest.method(label),
                "column": column,
                "score": score.value if score else math.nan,
                "stderr": score.stderr if score else math.nan,
                "n_items": score.n_items if score else 0,
                "n_clusters": score.n_clusters if score else 0,
                "n_seeds": score.n_seeds if score else 0,
                "n_runs": score.n_runs if score else 0,
                "version": score.version if score else "",
                "doubt": score.doubt if score else "",
                "printed": score.printed if score else math.nan,
                "difference": difference.estimate if difference else math.nan,
                "difference_low": difference.low if difference else math.nan,
                "difference_high": difference.high if difference else math.nan,
                "p_value": difference.p_value if difference else math.nan,
            }


def top_group(contest: Contest, column: str) -> list[str]:
    """The best of a column and everyone the data do not separate from it; empty where fewer than two compare."""
    scores = {label: score for label in contest.labels if (score := contest.score(label, column)) is not None}
    if len(scores) < 2:
        return []
    best = max(scores, key=lambda label: scores[label].value)
    differences = {label: contest.difference(best, label, column) for label in scores if label != best}
    known = {label: each.p_value for label, each in differences.items() if each is not None}
    if not known:
        return []
    tied = tie_group(list(known.values()))
    return [best, *(label for label, is_tied in zip(known, tied, strict=True) if is_tied)]


def best_of(table: pd.DataFrame, labels: Sequence[str]) -> str:
    """The one with the best average, or the last one where none has an average."""
    rows = table.loc[(table["column"] == AVERAGE) & table["score"].notna()]
    averages = {label: score for label, score in zip(rows["label"], rows["score"], strict=True) if label in labels}
    return max(averages, key=lambda label: averages[label]) if averages else labels[-1]


def reading(table: pd.DataFrame, label: str, baseline: str) -> str:
    """In one sentence, what the data say about a method and the baseline."""
    mine = table.loc[(table["label"] == label) & table["difference"].notna()]
    single = mine.loc[mine["column"] != AVERAGE]
    if label == baseline or single.empty:
        return f"{label} and {baseline} share no benchmark: nothing can be said."
    better = [column_name(c) for c in single.loc[single["separated"] & (single["difference"] > 0), "column"]]
    worse = [column_name(c) for c in single.loc[single["separated"] & (single["difference"] < 0), "column"]]
    tied, all_ = int(np.sum(~single["separated"])), len(single)
    parts = [f"{label} cannot be told apart from {baseline} on {tied} of {all_} benchmark{'s' if all_ > 1 else ''}"]
    parts += [f"it is better on {_listed(better)}"] if better else []
    parts += [f"it is worse on {_listed(worse)}"] if worse else []
    average = mine.loc[mine["column"] == AVERAGE]
    if len(average):
        row = average.iloc[0]
        low, high = signed(float(row["difference_low"])), signed(float(row["difference_high"]))
        apart = "" if row["separated"] else "not separated, "
        parts.append(
            f"average difference {signed(float(row['difference']))} points [{low}, {high}] ({apart}Holm-corrected "
            f"p {p_text(float(row['p_holm']))})"
        )
    return "; ".join(parts) + "."


def signed(share: float) -> str:
    """A difference in percentage points, with its sign."""
    return "?" if np.isnan(share) else f"{100 * share:+.2f}".replace("-", "−")


def p_text(p_value: float) -> str:
    """A p-value as it is written behind `p`."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
