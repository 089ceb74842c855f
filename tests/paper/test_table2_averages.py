"""Table 2: the printed averages are the means of the printed columns, but for one."""

import pytest

from analysis.comparison import AVERAGE
from analysis.reported import reported
from core.eval_schema import BENCHMARKS

MISPRINT = ("2B", "rlsd")
ROWS = {
    (str(model), str(method)): dict(zip(row["benchmark"], row["value"], strict=True))
    for (model, method), row in reported("table2").groupby(["model", "method"])
}


def mean(row: tuple[str, str]) -> float:
    """Mean of the five benchmarks."""
    return sum(ROWS[row][benchmark] for benchmark in BENCHMARKS) / 5


def test_there_are_two_models_six_methods_and_five_benchmarks():
    assert len(ROWS) == 12
    assert all(set(row) == {*BENCHMARKS, AVERAGE} for row in ROWS.values())


@pytest.mark.parametrize("row", [row for row in ROWS if row != MISPRINT], ids=" ".join)
def test_eleven_of_twelve_averages_agree_with_their_columns(row):
    assert ROWS[row][AVERAGE] == pytest.approx(mean(row), abs=0.0051)


def test_the_average_printed_for_rlsd_2b_is_not_that_of_its_columns():
    assert ROWS[MISPRINT][AVERAGE] == 40.05
    assert mean(MISPRINT) == pytest.approx(40.97, abs=0.005)
