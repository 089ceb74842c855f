"""Methods by benchmarks as a table to read: every ± defined, bold only where the data separate (Table 2)."""

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.comparison import AVERAGE, column_name, p_text, signed
from core.intervals import Z_95

PlusMinus = Literal["se", "ci"]
Unit = Literal["cluster", "item"]
Basis = Literal["paired", "unpaired"]

PLUS_MINUS: dict[PlusMinus, str] = {"se": "standard error", "ci": "95 % interval"}
UNITS: dict[Unit, str] = {"cluster": "cluster", "item": "item"}


@dataclass(frozen=True)
class BenchmarkTable:
    """What to show: texts, which of them are bold, and the caption that says what they mean."""

    cells: pd.DataFrame
    bold: pd.DataFrame
    caption: str


def benchmark_table(
    comparison: pd.DataFrame, baseline: str, plus_minus: PlusMinus, unit: Unit, basis: Basis
) -> BenchmarkTable:
    """Lay out a comparison (`analysis.comparison.compare`): a row a method, a column a benchmark.

    An average stands only behind a method that has every benchmark; others show how many they have.
    """
    columns = list(dict.fromkeys(comparison["column"]))
    cells: list[dict[str, str]] = []
    bold: list[dict[str, bool]] = []
    for label, rows in comparison.groupby("label", sort=False):
        by_column = {row["column"]: row for row in rows.to_dict("records")}
        known = sum(not math.isnan(row["score"]) for name, row in by_column.items() if name != AVERAGE)
        texts = {"method": str(label)}
        strong = {"method": False}
        for column in columns:
            row, name = by_column[column], column_name(str(column))
            withheld = f"{known}/{len(columns) - 1} tasks" if column == AVERAGE else "–"
            texts[name] = withheld if math.isnan(row["score"]) else _score(row, plus_minus)
            strong[name] = bool(row["top"])
        average = by_column[AVERAGE]
        gain, p = f"average vs {baseline} [95 % CI]", "p (Holm)"
        texts[gain] = _difference(average) if label != baseline else "baseline"
        texts[p] = "–" if math.isnan(average["p_holm"]) else p_text(average["p_holm"]).removeprefix("= ")
        cells.append(texts)
        bold.append({**strong, gain: False, p: False})
    return BenchmarkTable(pd.DataFrame(cells), pd.DataFrame(bold), caption(baseline, plus_minus, unit, basis))


def caption(baseline: str, plus_minus: PlusMinus, unit: Unit, basis: Basis) -> str:
    """What the numbers of the table are, in words."""
    what = "one standard error" if plus_minus == "se" else "the half-width of a 95 % interval (1.96 standard errors)"
    if basis == "unpaired":
        over = "over items taken as independent, from the printed accuracy and the number of items"
        test = "unpaired and approximate (normal), from printed numbers alone"
    else:
        over = (
            "over clusters of items (variants of one question count as one draw)" if unit == "cluster" else "over items"
        )
        test = f"paired bootstrap on shared items, drawing {'clusters' if unit == 'cluster' else 'items'}, 10,000 times"
    return (
        f"Accuracy in percent ± {what} {over}. Differences in percentage points: {test}. p-values are Holm-corrected. "
        f"Bold: in the top group of its column, not separated from the best. †: separated from {baseline}."
    )


def precise(comparison: pd.DataFrame, baseline: str, source: str) -> pd.DataFrame:
    """The comparison for a spreadsheet: a row a method and benchmark, all digits, with n, seeds and versions."""
    return comparison.rename(columns={"column": "benchmark"}).assign(baseline=baseline, source=source)


def _score(row: dict[str, object], plus_minus: PlusMinus) -> str:
    printed, value = float(str(row["printed"])), float(str(row["score"]))
    reach = float(str(row["stderr"])) * (Z_95 if plus_minus == "ci" else 1)
    text = f"{100 * (value if math.isnan(printed) else printed):.2f}"
    if not math.isnan(reach):
        text += f" ± {100 * reach:.1f}"
    return text + (" ▲" if row["doubt"] else "") + (" †" if row["separated"] else "")


def _difference(row: dict[str, object]) -> str:
    estimate, low, high = (float(str(row[f"difference{end}"])) for end in ("", "_low", "_high"))
    return "–" if math.isnan(estimate) else f"{signed(estimate)} [{signed(low)}, {signed(high)}]"
