"""Benchmark tables: what belongs together, what is compared, and what is said of it."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.comparison import AVERAGE, best_of, compare, reading
from analysis.contenders import PairedContest, contenders, differing_settings, models, notes, provenance
from analysis.eval_store import EvalFile, Evaluation
from analysis.figures.forest import forest
from analysis.tables.benchmarks import benchmark_table, precise
from core.intervals import Difference

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("eval_files.py")), run_name="eval_files"))


def evaluation(
    key: str, scores: dict[str, list[float]], *, seed: int = 0, size: int = 1, **about: object
) -> Evaluation:
    """An evaluation with these scores, in clusters of `size` items."""
    rows = [
        {"task": task, "item_id": f"{task}-{i}", "seed": seed, "score": score, "cluster": f"cluster {i // size}"}
        for task, values in scores.items()
        for i, score in enumerate(values)
    ]
    row = made_up.evaluation(about.pop("label", key.upper()), **{"eval_id": key, "method": key, **about})
    return Evaluation(EvalFile(key, Path(key)), row, pd.DataFrame(rows), {})


def draws(rate: float, n: int, seed: int) -> list[float]:
    return (np.random.default_rng(seed).uniform(size=n) < rate).astype(float).tolist()


FIVE = dict.fromkeys(made_up.TASKS, 100)


@pytest.fixture
def contest() -> PairedContest:
    """GRPO, CEPO that is better on everything, and RLSD that has only two benchmarks."""
    grpo = {task: draws(0.4, n, i) for i, (task, n) in enumerate(FIVE.items())}
    cepo = {task: [max(a, b) for a, b in zip(grpo[task], draws(0.3, 100, 9), strict=True)] for task in grpo}
    rlsd = {task: draws(0.4, 100, 20 + i) for i, task in enumerate(made_up.TASKS[:2])}
    rows = contenders([evaluation("grpo", grpo), evaluation("cepo", cepo), evaluation("rlsd", rlsd)], "pocket")
    return PairedContest(tuple(rows))


def cell(table: pd.DataFrame, label: str, column: str) -> pd.Series:
    return table[(table["label"] == label) & (table["column"] == column)].iloc[0]


def test_rows_stand_in_the_order_of_the_paper(contest):
    assert contest.labels == ["GRPO", "RLSD", "CEPO"]
    assert contest.columns == list(made_up.TASKS)


def test_a_clear_gain_is_separated_and_alone_at_the_top(contest):
    table = compare(contest, "GRPO")
    best = cell(table, "CEPO", AVERAGE)
    assert best["separated"]
    assert best["difference"] > 0.1
    assert best["top"]
    assert not cell(table, "GRPO", AVERAGE)["top"]
    assert reading(table, "CEPO", "GRPO").startswith(
        "CEPO cannot be told apart from GRPO on 0 of 5 benchmarks; it is better on DynaMath, LogicVista, "
        "MathVision mini, MMMU and WeMath; average difference +"
    )


def test_an_average_is_withheld_from_who_lacks_a_benchmark(contest):
    table = compare(contest, "GRPO")
    assert np.isnan(cell(table, "RLSD", AVERAGE)["score"])
    laid_out = benchmark_table(table, "GRPO", "se", "cluster", "paired")
    row = laid_out.cells.set_index("method").loc["RLSD"]
    assert row["Average"] == "2/5 tasks"
    assert row["MMMU"] == "–"
    assert row["p (Holm)"] == "–"
    assert best_of(table, ["RLSD", "CEPO"]) == "CEPO"


def test_numbers_of_a_cell_are_those_of_its_items(contest):
    table = compare(contest, "GRPO")
    values = contest.row("GRPO").items.query("task == 'mmmu'")["score"]
    found = cell(table, "GRPO", "mmmu")
    assert found["score"] == pytest.approx(values.mean())
    assert found["stderr"] == pytest.approx(values.std(ddof=1) / 10)
    text = benchmark_table(table, "GRPO", "ci", "cluster", "paired").cells.set_index("method").loc["GRPO", "MMMU"]
    assert text == f"{100 * values.mean():.2f} ± {196 * values.std(ddof=1) / 10:.1f}"


def test_a_cluster_counts_once_or_an_item_does():
    scores = {"dynamath": np.repeat(draws(0.5, 40, 1), 10).tolist()}
    other = {"dynamath": np.repeat(draws(0.5, 40, 2), 10).tolist()}
    rows = tuple(contenders([evaluation("grpo", scores, size=10), evaluation("cepo", other, size=10)], "pocket"))
    by_cluster, by_item = (compare(PairedContest(rows, by_cluster=each), "GRPO") for each in (True, False))
    wide, narrow = (cell(table, "CEPO", "dynamath") for table in (by_cluster, by_item))
    assert wide["n_clusters"] == 40
    assert narrow["n_clusters"] == 400
    assert wide["stderr"] > 2.5 * narrow["stderr"]
    assert wide["difference_high"] - wide["difference_low"] > 2.5 * (
        narrow["difference_high"] - narrow["difference_low"]
    )


def test_only_shared_items_are_compared_and_the_others_are_counted():
    first = {"mmmu": [1.0] * 60 + [0.0] * 40}
    rows = tuple(contenders([evaluation("grpo", first), evaluation("cepo", {"mmmu": [1.0] * 70})], "pocket"))
    contest = PairedContest(rows)
    found = contest.difference("CEPO", "GRPO", "mmmu")
    assert found is not None
    assert found.n_items == 70
    assert found.estimate == pytest.approx(10 / 70)
    split = contest.split("CEPO", "GRPO", "mmmu")
    assert (len(split.only_first), len(split.only_second), split.both, split.neither, split.unmatched) == (
        10,
        0,
        60,
        0,
        30,
    )
    assert split.p_value == 2 / 2**10
    assert any("left out of differences: CEPO 30" in note for note in notes(contest, "GRPO"))


def test_a_comparison_does_not_depend_on_who_else_is_there(contest):
    alone = replace(contest, rows=(contest.row("GRPO"), contest.row("CEPO")))
    pair = ("CEPO", "GRPO", "mmmu")
    assert alone.difference(*pair) == contest.difference(*pair)
    assert isinstance(contest.difference("CEPO", "GRPO", AVERAGE), Difference)
    assert contest.difference("RLSD", "GRPO", AVERAGE) is None


def test_training_seeds_of_one_label_are_pooled_and_their_spread_is_told():
    runs = [
        evaluation(f"cepo-{seed}", {"mmmu": draws(0.4 + 0.05 * seed, 200, seed)}, label="CEPO", method="cepo",
                   run_seed=seed, tasks='["mmmu"]')
        for seed in range(3)
    ]  # fmt: skip
    rows = contenders([*runs, evaluation("grpo", {"mmmu": draws(0.4, 200, 9)}, tasks='["mmmu"]', run_seed=0)], "pocket")
    assert [row.label for row in rows] == ["GRPO", "CEPO"]
    contest = PairedContest(tuple(rows))
    score = contest.score("CEPO", "mmmu")
    assert score is not None
    assert (score.n_runs, score.n_items) == (3, 200)
    over = contest.over_runs("CEPO")
    assert over is not None
    assert over.estimate == pytest.approx(score.value)
    text = " ".join(notes(contest, "GRPO"))
    assert "CEPO over 3 training runs: average" in text
    assert "n = 1 training run, training variance not included: GRPO." in text


def test_evaluations_that_cannot_be_pooled_stay_apart_and_carry_their_name():
    again = [evaluation(key, {"mmmu": draws(0.5, 30, 1)}, label="CEPO", method="cepo") for key in ("a", "b")]
    assert [row.label for row in contenders(again, "pocket")] == ["CEPO (a)", "CEPO (b)"]
    other = evaluation("c", {"mmmu": draws(0.5, 30, 1)}, label="CEPO", method="cepo", backend="vllm", run_seed=1)
    rows = contenders([replace(again[0], about=replace(again[0].about, run_seed=0)), other], "pocket")
    assert [row.label for row in rows] == ["CEPO (a)", "CEPO (c)"]
    assert differing_settings(rows) == ["backend"]
    assert "These evaluations differ in backend" in notes(PairedContest(tuple(rows)), rows[0].label)[0]


def test_models_are_never_in_one_table():
    both = [evaluation("grpo", {"mmmu": [1.0]}), evaluation("cepo", {"mmmu": [0.0]}, model="other")]
    assert models(both) == ["other", "pocket"]
    assert [row.label for row in contenders(both, "other")] == ["CEPO"]


def test_one_evaluation_alone_is_no_best_and_has_no_difference():
    rows = tuple(contenders([evaluation("grpo", {"mmmu": draws(0.5, 30, 1)}, tasks='["mmmu"]')], "pocket"))
    table = compare(PairedContest(rows), "GRPO")
    assert not table["top"].any()
    assert table["difference"].isna().all()
    assert benchmark_table(table, "GRPO", "se", "item", "paired").cells.loc[0, "Average"].startswith("5")
    assert len(forest(table, "GRPO").data) == 0


def test_answers_of_one_seed_can_be_looked_at_alone():
    scores = evaluation("cepo", {"mmmu": [1.0] * 40}, tasks='["mmmu"]')
    second = evaluation("cepo", {"mmmu": [0.0] * 40}, tasks='["mmmu"]', seed=1)
    both = replace(scores, items=pd.concat([scores.items, second.items], ignore_index=True))
    rows = tuple(contenders([both], "pocket"))
    values = [PairedContest(rows, sampling_seed=seed).score("CEPO", "mmmu") for seed in (None, 0, 1, 5)]
    assert [score and (score.value, score.n_seeds) for score in values] == [(0.5, 2), (1.0, 1), (0.0, 1), None]


def test_the_caption_says_what_every_mark_means(contest):
    table = compare(contest, "GRPO")
    for unit in ("cluster", "item"):
        for plus_minus, words in (("se", "one standard error"), ("ci", "95 % interval")):
            caption = benchmark_table(table, "GRPO", plus_minus, unit, "paired").caption
            assert words in caption
            assert f"drawing {unit}s" in caption
            assert "†: separated from GRPO" in caption
            assert "Bold:" in caption


def test_every_digit_goes_into_a_spreadsheet(contest):
    table = precise(compare(contest, "GRPO"), "GRPO", "own")
    assert {"label", "benchmark", "score", "n_items", "n_seeds", "version", "p_holm", "baseline", "source"} <= set(
        table
    )
    assert len(table) == 3 * 6


def test_where_a_row_comes_from_is_told(contest):
    table = provenance(contest.rows)
    assert table["benchmarks"].tolist() == ["5/5", "2/5", "5/5"]
    assert table["sampling"].tolist() == ["temperature 1.0, top_k 40"] * 3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_forest_plot_shows_the_differences_of_the_table(contest, theme):
    table = compare(contest, "GRPO")
    figure = forest(table, "GRPO", theme)
    shown = {
        (label, column): x
        for trace in figure.data
        for (label, column), x in zip(trace.customdata, trace.x, strict=True)
    }
    known = table[table["difference"].notna()]
    assert shown == {(row.label, row.column): pytest.approx(100 * row.difference) for row in known.itertuples()}
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 0
    cepo = next(trace for trace in figure.data if trace.name == "CEPO")
    assert set(cepo.marker.symbol) == {"circle"}, "separated from the baseline: filled"
    rlsd = next(trace for trace in figure.data if trace.name == "RLSD")
    assert set(rlsd.marker.symbol) == {"triangle-up-open"}


def test_a_label_is_no_markup_in_the_figure():
    rows = contenders(
        [
            evaluation("grpo", {"mmmu": draws(0.5, 30, 1)}),
            evaluation("x", {"mmmu": draws(0.5, 30, 2)}, label=made_up.HOSTILE),
        ],
        "pocket",
    )
    figure = forest(compare(PairedContest(tuple(rows)), "GRPO"), "GRPO")
    assert "<" not in figure.data[0].name
    assert all("<" not in text for text in figure.data[0].text)
