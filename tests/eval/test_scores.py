"""What the scores of items amount to, on numbers worked out by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from eval.scores import HeadlineError, average, check_headline, comparison, headline, in_order, score_rows, summary
from eval.tasks import BENCHMARKS


@dataclass(frozen=True)
class Item:
    task: str
    item_id: str
    score: float
    cluster: str | None = None
    seed: int = 0


def items(task: str, scores: list[float], size: int = 0, seed: int = 0) -> list[Item]:
    """Items with these scores, `size` in a cluster; 0: each stands alone."""
    return [Item(task, f"q{i:03}", s, f"group {i // size}" if size else None, seed) for i, s in enumerate(scores)]


def test_a_headline_is_the_plain_mean_and_of_dynamath_the_mean_of_its_groups():
    assert headline(BENCHMARKS["mmmu"], items("mmmu", [1, 0, 0, 0])) == 0.25
    uneven = [Item("dynamath", "1", 1, "a"), Item("dynamath", "2", 0, "b"), Item("dynamath", "3", 0, "b")]
    assert headline(BENCHMARKS["dynamath"], uneven) == 0.5
    even = items("dynamath", [1, 1, 0, 1], size=2)
    assert headline(BENCHMARKS["dynamath"], even) == 0.75


@pytest.mark.parametrize(
    ("task", "reported"),
    [
        ("mathvision_mini", 0.3333),  # 33.33 %
        ("mmmu", 0.33333),
        ("wemath", 1 / 3),
        ("dynamath", 1 / 3),
    ],
)
def test_a_headline_as_lmms_eval_rounds_it_passes(task, reported):
    check_headline(BENCHMARKS[task], items(task, [1, 0, 0], size=1), reported)


@pytest.mark.parametrize(
    ("task", "reported"),
    [("mathvision_mini", 0.3334), ("mmmu", 0.3333), ("wemath", 0.33333), ("dynamath", 0.3334), ("mmmu", math.nan)],
)
def test_a_headline_that_rounding_does_not_explain_is_refused(task, reported):
    with pytest.raises(HeadlineError, match=rf"{task}: the scores of 3 items give 0\.333333.*= {reported:.6f}"):
        check_headline(BENCHMARKS[task], items(task, [1, 0, 0], size=1), reported)


def test_one_item_scored_otherwise_is_noticed_on_the_largest_benchmark_that_rounds():
    scores = [1.0] * 100 + [0.0] * 204
    with pytest.raises(HeadlineError):
        check_headline(BENCHMARKS["mathvision_mini"], items("mathvision_mini", scores), round(101 / 304, 4))


def test_the_standard_error_of_items_that_stand_alone_is_the_textbooks():
    found = summary(items("mmmu", [1, 1, 0, 0, 0]))
    assert found.value == 0.4
    assert found.stderr == pytest.approx(math.sqrt(0.3 / 5))  # sample variance 0.3
    assert (found.n_items, found.n_clusters, found.n_seeds) == (5, 5, 1)


def test_variants_that_stand_or_fall_together_widen_the_interval():
    scores = [float(i // 10 % 2) for i in range(400)]
    alone, grouped = summary(items("dynamath", scores)), summary(items("dynamath", scores, size=10))
    assert grouped.stderr == pytest.approx(math.sqrt(40 / 39) * 0.5 / math.sqrt(40))  # 40 coins, not 400
    assert 2.8 < (grouped.high - grouped.low) / (alone.high - alone.low) < 3.6  # √10
    assert (grouped.n_items, grouped.n_clusters) == (400, 40)


def test_an_items_score_is_its_mean_over_seeds():
    two = items("mmmu", [1, 1, 0], seed=0) + items("mmmu", [0, 1, 0], seed=1)
    found = summary(two)
    assert found.value == 0.5
    assert found.stderr == pytest.approx(0.5 / math.sqrt(3))  # of 0.5, 1, 0
    assert (found.n_items, found.n_seeds) == (3, 2)
    assert summary(list(reversed(two))) == found


def test_from_one_cluster_nothing_is_known_and_no_interval_leaves_the_range_of_scores():
    one = summary(items("dynamath", [1, 0, 1], size=3))
    assert math.isnan(one.stderr)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    two = summary(items("mmmu", [1, 0]))
    assert (two.low, two.high) == (0, 1)


def test_an_average_weighs_benchmarks_the_same_and_takes_their_items_as_independent():
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 2, 300).astype(float).tolist()
    parts = [summary(items(task, scores)) for task in ("mmmu", "wemath")] + [summary(items("logicvista", [1, 0] * 10))]
    found = average(parts)
    assert found.value == pytest.approx((2 * np.mean(scores) + 0.5) / 3)
    assert found.stderr == pytest.approx(math.hypot(*(part.stderr for part in parts)) / 3)
    assert (found.n_items, found.n_clusters) == (620, 620)
    # equal scores on two benchmarks are no equal draws: of those, √2 too wide
    pair = average(parts[:2])
    assert pair.high - pair.low == pytest.approx((parts[0].high - parts[0].low) / math.sqrt(2), rel=0.05)
    assert math.isnan(average([*parts, summary(items("dynamath", [1, 0], size=2))]).low)


def test_score_rows_start_with_the_headline_which_alone_has_an_interval():
    those = items("dynamath", [1, 1, 0, 0, 1, 0], size=2, seed=7)
    rows = score_rows(
        BENCHMARKS["dynamath"], 7, those, {"dynamath_worst": 1 / 3, "dynamath_average": 0.5}, version="1.0"
    )
    first, worst = rows
    assert (first.metric, first.is_headline, first.score) == ("dynamath_average", True, 0.5)
    assert first.stderr == pytest.approx(math.sqrt(3 / 2 * 2) / 6)  # cluster sums of 1, −1, 0
    assert first.ci_low is not None
    assert first.ci_high is not None
    assert 0 <= first.ci_low < 0.5 < first.ci_high <= 1
    assert (worst.metric, worst.is_headline, worst.score) == ("dynamath_worst", False, 1 / 3)
    assert (worst.stderr, worst.ci_low, worst.ci_high) == (None, None, None)
    assert {(row.task, row.seed, row.n, row.task_version) for row in rows} == {("dynamath", 7, 6, "1.0")}
    assert rows == score_rows(BENCHMARKS["dynamath"], 7, those, {"dynamath_worst": 1 / 3}, version="1.0")


def test_a_score_without_an_interval_is_stored_without_one():
    row = score_rows(BENCHMARKS["dynamath"], 0, items("dynamath", [1, 0], size=2), {}, None)[0]
    assert (row.stderr, row.ci_low, row.ci_high) == (None, None, None)


def test_pairs_are_counted_by_item_and_tested_by_mcnemar():
    mine = items("mmmu", [1, 1, 1, 1, 1, 1, 1, 0, 1, 0])
    theirs = [*items("mmmu", [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]), Item("mmmu", "another", 1)]
    pair = comparison(mine, theirs, ["mmmu"]).benchmarks["mmmu"]
    assert pair.difference.estimate == pytest.approx(0.6)
    assert (pair.only_first, pair.only_second, pair.unmatched, pair.difference.n_items) == (7, 1, 1, 10)
    assert pair.p_mcnemar == pytest.approx(2 * (1 + 8) / 2**8)


def test_an_item_right_under_half_of_the_seeds_counts_as_right():
    mine = items("mmmu", [1, 1], seed=0) + items("mmmu", [0, 1], seed=1)
    theirs = items("mmmu", [0, 0], seed=5)
    pair = comparison(mine, theirs, ["mmmu"]).benchmarks["mmmu"]
    assert (pair.only_first, pair.only_second) == (2, 0)
    assert pair.difference.estimate == 0.75


def test_an_average_difference_needs_every_benchmark():
    mine = items("mmmu", [1, 1, 0]) + items("wemath", [1, 0])
    theirs = items("mmmu", [0, 1, 0]) + items("wemath", [0, 0])
    whole = comparison(mine, theirs, ["mmmu", "wemath"])
    assert whole.average is not None
    assert whole.average.estimate == pytest.approx((1 / 3 + 1 / 2) / 2)
    partial = comparison(mine, theirs, ["mmmu", "wemath", "dynamath"])
    assert partial.average is None
    assert set(partial.benchmarks) == {"mmmu", "wemath"}
    assert comparison(mine, [], ["mmmu"]).benchmarks == {}


def test_a_cluster_called_like_an_item_is_another_cluster():
    those = [Item("mmmu", "a", 1), Item("mmmu", "b", 0, "a"), Item("mmmu", "c", 0, "a")]
    assert summary(those).n_clusters == 2


def test_benchmarks_stand_in_the_order_of_the_paper_and_others_after_them():
    assert in_order(["zoo", "wemath", "ant", "dynamath", "wemath"]) == ("dynamath", "wemath", "ant", "zoo")


@pytest.mark.parametrize(("score", "low", "high"), [(0.0, 0.0, 0.6024), (1.0, 0.3976, 1.0)])
def test_where_all_items_agree_the_interval_still_has_room_for_others(score, low, high):
    # none of four right: P(0 of 4) = (1 - p)^4 = 0.025 at p = 0.6024
    found = summary(items("mmmu", [score] * 4))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    grouped = summary(items("dynamath", [score] * 40, size=10))
    assert (grouped.low, grouped.high) == (found.low, found.high)
