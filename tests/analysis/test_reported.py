"""What the paper reports: every number has a source, and what cannot be right is marked and kept."""

import pandas as pd
import pytest

from analysis import reported
from analysis.comparison import AVERAGE, compare
from core.intervals import binomial_stderr

CONFIDENCE = {"printed", "note", "digitised", "inferred"}


@pytest.mark.parametrize("name", reported.names())
def test_every_number_has_a_source_and_says_how_sure_it_is(name):
    table = reported.reported(name)
    assert set(table["confidence"]) <= CONFIDENCE
    assert table["source"].str.len().min() > 10
    value = "items" if name == "benchmarks" else "value"
    assert table[value].notna().all()
    keys = [column for column in table.columns if column not in ("value", "stderr", "gain", "source", "confidence")]
    assert not table.duplicated(keys).any()


def test_the_tables_and_figures_of_the_issue_are_there():
    assert {f"table{n}" for n in range(2, 8)} | {"figure1"} <= set(reported.names())


def test_the_doubtful_numbers_are_the_misprinted_average_and_four_cells():
    found = {(each.model, each.method, each.benchmark): each.printed for each in reported.doubts()}
    assert found == {
        ("2B", "rlsd", "average"): 40.05,
        ("2B", "rlsd", "mathvision_mini"): 23.39,
        ("2B", "rlsd", "wemath"): 55.26,
        ("4B", "grpo", "logicvista"): 54.98,
        ("4B", "grpo", "mmmu"): 52.34,
    }


def test_every_printed_standard_error_but_one_is_that_of_independent_items():
    table = reported.reported("table2")
    counts = reported.item_counts()
    cells = table[table["benchmark"] != AVERAGE]
    found = [f"{100 * binomial_stderr(row.value / 100, counts[row.benchmark]):.1f}" for row in cells.itertuples()]
    differs = cells[[a != f"{b:.1f}" for a, b in zip(found, cells["stderr"], strict=True)]]
    assert len(cells) == 60
    assert differs[["model", "method", "benchmark"]].to_numpy().tolist() == [["2B", "rlsd", "mathvision_mini"]]


def test_gains_of_the_ablations_are_over_grpo_in_table_2():
    table = reported.reported("table2")
    grpo = float(table.query("model == '2B' and method == 'grpo' and benchmark == 'average'")["value"].iloc[0])
    for name in ("table4", "table5"):
        rows = reported.reported(name)
        assert (rows["value"] - grpo - rows["gain"]).abs().max() < 0.0051


def test_a_share_is_recognised():
    assert reported.is_share(50.36, 5010)
    assert not reported.is_share(54.98, 448)
    assert reported.is_share(0.0, 10)
    assert reported.is_share(100.0, 10)


@pytest.mark.parametrize(("model", "z"), [("2B", 2.01), ("4B", 2.61)])
def test_averages_are_recomputed_and_compared_as_the_specification_found(model, z):
    table = compare(reported.PrintedContest(model), "GRPO")
    row = table[(table["label"] == "CEPO") & (table["column"] == AVERAGE)].iloc[0]
    reach = (row["difference_high"] - row["difference_low"]) / 2 / 1.959964
    assert row["difference"] / reach == pytest.approx(z, abs=0.006)
    rlsd = table[(table["label"] == "RLSD") & (table["column"] == AVERAGE)].iloc[0]
    if model == "2B":
        assert rlsd["printed"] == pytest.approx(0.4005)
        assert rlsd["score"] == pytest.approx(0.40966)
    else:
        assert pd.isna(rlsd["printed"])


def test_no_best_cell_of_the_paper_is_separated_from_its_runner_up():
    for model in reported.MODELS:
        table = compare(reported.PrintedContest(model), "GRPO")
        cells = table[table["column"] != AVERAGE]
        for _, column in cells.groupby("column"):
            runner_up = column.sort_values("score").iloc[-2]
            assert runner_up["top"]
