"""Gains are paired by seed: which seeds count, what their mean and interval are, and what the search compared."""

import dataclasses
import runpy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.gains import gains, gains_by_seed, search_scores
from analysis.recorded import RecordedStudy

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))
NOBODY = ("methods", "nobody")


@pytest.fixture(scope="module")
def study() -> RecordedStudy:
    return made_up.made_up_study()


def with_right(study: RecordedStudy, right: Mapping[tuple[str, str], tuple[int, ...]], step: int = 30) -> RecordedStudy:
    """The study in which the seeds of some arms have so many of 40 problems right after a step."""
    validation = study.validation.reset_index(drop=True)
    for (group, arm), numbers in right.items():
        for run_id, number in zip(study.run_ids(group, arm), numbers, strict=False):
            rows = (validation["run_id"] == run_id) & (validation["step"] == step)
            validation.loc[rows, "is_correct"] = np.arange(rows.sum()) < number
    return dataclasses.replace(study, validation=validation)


def without(study: RecordedStudy, gone: pd.Series) -> RecordedStudy:
    return dataclasses.replace(study, arms=study.arms.loc[~gone])


def row(found: pd.DataFrame, arm: str) -> pd.Series:
    (index,) = found.index[found["arm"] == arm]
    return found.loc[index]


@pytest.fixture(scope="module")
def uneven(study: RecordedStudy) -> RecordedStudy:
    """GRPO 0.5, 0.6, 0.7 and λ = 0.25 with 0.55, 0.7, 0.85 by seed."""
    return with_right(study, {("methods", "grpo"): (20, 24, 28), ("lambda_constant", "0.25"): (22, 28, 34)})


def test_a_gain_is_the_mean_difference_of_the_same_seeds_with_its_t_interval(uneven):
    found = row(gains(uneven, "lambda_constant"), "0.25")
    assert found["n"] == 3
    # differences 0.05, 0.10, 0.15: sd 0.05, t(2) = 4.3027: ± 4.3027 · 0.05 / √3 = 0.1242
    assert found[["gain", "low", "high"]].tolist() == pytest.approx([0.1, 0.1 - 0.1242, 0.1 + 0.1242], abs=1e-4)
    # accuracies 0.55, 0.70, 0.85: sd 0.15, so three times as far
    after = found[["after_mean", "after_low", "after_high"]].tolist()
    assert after == pytest.approx([0.7, 0.7 - 0.3726, 0.7 + 0.3726], abs=1e-4)


def test_every_seed_stands_by_itself_with_how_many_problems_it_was_asked(uneven):
    found = gains_by_seed(uneven, "lambda_constant")
    found = found.loc[found["arm"] == "0.25"]
    assert found["seed"].tolist() == [0, 1, 2]
    assert found["after"].tolist() == pytest.approx([0.55, 0.7, 0.85])
    assert found["gain"].tolist() == pytest.approx([0.05, 0.1, 0.15])
    assert found["problems"].tolist() == [40, 40, 40]


def test_only_seeds_that_both_have_count(uneven):
    is_grpo = (uneven.arms["group"] == "methods") & (uneven.arms["arm"] == "grpo")
    found = row(gains(without(uneven, is_grpo & (uneven.arms["seed"] == 2)), "lambda_constant"), "0.25")
    assert found[["n", "after_mean", "gain"]].tolist() == pytest.approx([2, 0.625, 0.075])


def test_one_shared_seed_has_a_gain_and_no_interval(uneven):
    is_arm = (uneven.arms["group"] == "lambda_constant") & (uneven.arms["arm"] == "0.25")
    found = row(gains(without(uneven, is_arm & (uneven.arms["seed"] > 0)), "lambda_constant"), "0.25")
    assert found[["n", "after_mean", "gain"]].tolist() == pytest.approx([1, 0.55, 0.05])
    assert found[["after_low", "after_high", "low", "high"]].isna().all()


def test_without_a_baseline_the_accuracy_is_there_and_the_gain_is_not(uneven):
    found = row(gains(uneven, "lambda_constant", NOBODY), "0.25")
    assert found[["n", "after_mean"]].tolist() == pytest.approx([3, 0.7])
    assert found[["gain", "low", "high"]].isna().all()


def test_an_arm_that_shares_the_baseline_s_runs_gains_exactly_nothing(uneven):
    assert row(gains(uneven, "lambda_constant"), "0")[["gain", "low", "high"]].tolist() == [0, 0, 0]


def test_arms_keep_their_order_and_those_without_a_run_have_no_row(study):
    partial = without(study, study.arms["arm"] == "0.5")
    assert gains(partial, "lambda_constant")["arm"].tolist() == ["0", "0.25", "0.75", "1"]
    assert gains(without(study, study.arms["group"] == "epsilon_w"), "epsilon_w").empty
    assert set(gains(study, "epsilon_w").columns) == set(gains(study, "nothing").columns)


def test_another_baseline_gives_the_difference_to_it(study):
    uneven = with_right(study, {("presets", "rlsd_paper"): (20, 20, 20), ("presets", "rlsd_released"): (25, 25, 25)})
    found = row(gains(uneven, "presets", ("presets", "rlsd_paper")), "rlsd_released")
    assert found["gain"] == pytest.approx(5 / 40)


def test_the_search_compares_means_of_the_last_two_validations(study):
    arm = ("search", "sdpo 0.0015")
    changed = with_right(with_right(with_right(study, {arm: (40,)}, 10), {arm: (10,)}, 20), {arm: (20,)}, 30)
    found = search_scores(changed)
    (last,) = found.loc[(found["method"] == "sdpo") & (found["rate"] == 1.5e-3)].to_dict("records")
    assert last["score"] == pytest.approx((0.25 + 0.5) / 2)  # not the perfect one at step 10
    assert (last["n"], last["seed"], last["is_chosen"]) == (80, 1000, False)
    assert len(found) == 20
    assert found.loc[found["is_chosen"], "rate"].tolist() == [5e-4] * 5
