"""Intervals keep their promise on data whose truth is known."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import intervals


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_standard_error_of_an_accuracy_is_the_papers():
    assert 100 * intervals.binomial_stderr(0.5144, 5010) == pytest.approx(0.706, abs=0.001)
    assert 100 * intervals.binomial_stderr(0.2599, 304) == pytest.approx(2.515, abs=0.001)


def test_without_clusters_the_clustered_error_is_the_plain_one():
    scores = rng().normal(size=50)
    expected = scores.std(ddof=1) / math.sqrt(50)
    assert intervals.clustered_stderr(scores, np.arange(50)) == pytest.approx(expected)


def test_ten_copies_of_an_item_are_as_sure_as_one():
    scores = rng().normal(size=50)
    copies, clusters = np.repeat(scores, 10), np.repeat(np.arange(50), 10)
    single = intervals.clustered_stderr(scores, np.arange(50))
    assert intervals.clustered_stderr(copies, clusters) == pytest.approx(single)
    assert intervals.clustered_stderr(copies, np.arange(500)) < 0.33 * single
    assert math.isnan(intervals.clustered_stderr(np.ones(3), np.zeros(3)))


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (100, 1.9840)],
)
def test_quantiles_are_students(freedom, quantile):
    assert intervals.t_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def test_a_mean_over_seeds_has_the_t_interval_worked_out_by_hand():
    found = intervals.mean_interval([0.40, 0.42, 0.44])
    assert found.estimate == pytest.approx(0.42)
    assert found.half_width == pytest.approx(4.3027 * 0.02 / math.sqrt(3), abs=1e-5)
    assert math.isnan(intervals.mean_interval([0.4]).low)


def test_resampled_means_spread_as_the_clustered_standard_error():
    draw = rng()
    clusters = np.repeat(np.arange(80), 5)
    for values in (draw.integers(-1, 2, 400).astype(float), draw.normal(size=400) + np.repeat(draw.normal(size=80), 5)):
        means = intervals.bootstrap_means(values, clusters, rng(), 20_000)
        assert means.mean() == pytest.approx(values.mean(), abs=0.005)
        assert means.std() == pytest.approx(intervals.clustered_stderr(values, clusters), rel=0.03)


def test_the_same_generator_gives_the_same_interval_and_the_global_one_is_left_alone():
    values, clusters = rng().integers(-1, 2, 200).astype(float), np.arange(200)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002, it is what must not move
    first, second = (intervals.paired_difference([values], [clusters], rng(7)) for _ in range(2))
    assert first == second
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def simulated(draw: np.random.Generator, n_clusters: int, size: int, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences of two models on clusters whose items stand or fall together."""
    shift = np.repeat(draw.normal(0, 0.8, n_clusters), size)
    noise = draw.normal(0, 0.6, n_clusters * size)
    return np.clip(np.round(gain + shift + noise), -1, 1), np.repeat(np.arange(n_clusters), size)


def test_95_of_100_intervals_hold_the_truth_where_clusters_are_drawn_and_far_fewer_where_items_are():
    draw = rng(1)
    truth = float(simulated(rng(2), 200_000, 1, 0.2)[0].mean())
    holds = {"clusters": 0, "items": 0}
    trials = 400
    for _ in range(trials):
        values, clusters = simulated(draw, 60, 8, 0.2)
        for name, units in (("clusters", clusters), ("items", np.arange(len(values)))):
            found = intervals.paired_difference([values], [units], draw, 600)
            holds[name] += found.low <= truth <= found.high
    assert 0.92 <= holds["clusters"] / trials <= 0.98
    assert holds["items"] / trials < 0.75


def test_without_a_difference_one_in_twenty_p_values_is_below_five_percent():
    draw = rng(3)
    found = []
    for _ in range(400):
        values, clusters = simulated(draw, 80, 3, 0.0)
        found.append(intervals.paired_difference([values], [clusters], draw, 600).p_value)
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.08


def test_an_interval_leaves_out_zero_exactly_where_the_p_value_is_below_five_percent():
    draw = rng(4)
    for gain in np.linspace(-0.3, 0.3, 40):
        values, clusters = simulated(draw, 50, 2, float(gain))
        found = intervals.paired_difference([values], [clusters], draw, 2_000)
        if abs(found.p_value - 0.05) > 0.005:
            assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_an_average_over_benchmarks_weighs_each_the_same():
    draw = rng()
    values = [np.r_[np.ones(30), np.zeros(70)], np.r_[np.ones(100), np.zeros(900)]]
    found = intervals.paired_difference(values, [np.arange(100), np.arange(1000)], draw)
    assert found.estimate == pytest.approx(0.2)
    spread = math.hypot(*(intervals.clustered_stderr(v, np.arange(len(v))) for v in values)) / 2
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.05)
    assert (found.n_items, found.n_clusters) == (1100, 1100)


def test_a_handful_of_items_separates_nothing():
    assert intervals.paired_difference([np.ones(5)], [np.arange(5)], rng()).p_value == 2 / 2**5
    one = intervals.paired_difference([np.ones(10)], [np.zeros(10)], rng())
    assert one.p_value == 1
    assert math.isnan(one.low)
    assert intervals.paired_difference([np.zeros(50)], [np.arange(50)], rng()).p_value == 1


def test_ten_thousand_resamples_of_dynamath_take_less_than_a_second():
    draw = rng()
    values, clusters = draw.integers(-1, 2, 5010).astype(float), np.repeat(np.arange(501), 10)
    seconds = []
    for units in (clusters, np.arange(5010)) * 2:
        start = time.process_time()
        intervals.paired_difference([values], [units], draw)
        seconds.append(time.process_time() - start)
    assert max(seconds[2:]) < 1


def test_scores_that_are_no_whole_numbers_are_resampled_too():
    values = rng().normal(0.1, 1, 3000)
    found = intervals.paired_difference([values], [np.arange(3000)], rng(), 2_000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / math.sqrt(3000), rel=0.1)


def test_published_numbers_are_compared_as_if_unpaired():
    found = intervals.unpaired_difference(0.4343, 0.0081, 0.4117, 0.0078, 100)
    assert found.estimate / ((found.high - found.low) / 2 / 1.959964) == pytest.approx(2.01, abs=0.01)
    assert found.p_value == pytest.approx(0.0444, abs=0.001)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"), [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (0, 6, 2 / 64), (10, 3, 0.0923)]
)
def test_mcnemar_is_exact(only_a, only_b, p_value):
    assert intervals.mcnemar(only_a, only_b) == pytest.approx(p_value, abs=1e-4)
    assert intervals.mcnemar(only_b, only_a) == intervals.mcnemar(only_a, only_b)


def test_mcnemar_stands_thousands_of_items():
    assert intervals.mcnemar(2600, 2400) == pytest.approx(math.erfc(199 / math.sqrt(5000) / math.sqrt(2)), abs=1e-4)


def test_the_interquartile_mean_forgets_the_outer_quarters():
    assert intervals.interquartile_mean(np.array([[0.0, 1, 2, 100], [3, 4, 5, -100]])) == 2.5


def test_its_interval_narrows_with_seeds_and_has_no_width_where_seeds_agree():
    few = intervals.stratified_interval(rng().normal(size=(3, 5)), rng())
    many = intervals.stratified_interval(rng().normal(size=(48, 5)), rng())
    assert many.half_width < few.half_width / 2
    same = intervals.stratified_interval(np.tile(np.arange(5.0), (4, 1)), rng())
    assert (same.low, same.estimate, same.high) == (2, 2, 2)


def test_holms_correction_is_the_one_worked_out_by_hand():
    np.testing.assert_allclose(intervals.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values):
    found = intervals.holm(p_values)
    assert np.all(found >= p_values)
    assert np.all(found <= np.minimum(1, np.array(p_values) * len(p_values)) + 1e-12)
    assert np.all(np.diff(found[np.argsort(p_values, kind="stable")]) >= 0)


def test_the_tie_group_is_whom_the_data_do_not_separate_from_the_best():
    assert intervals.tie_group([0.001, 0.04, 0.03, 0.9]).tolist() == [False, True, True, True]
    assert intervals.tie_group([0.04]).tolist() == [False]
