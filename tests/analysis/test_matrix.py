"""The matrix of the study says what the issue of reproducing asks for, and which runs are one."""

from pathlib import Path

import pytest

from analysis import matrix
from analysis.matrix import Run, best_rate, read_matrix, study_of
from core.config import default_config, load_config
from core.errors import InputError
from core.methods import METHODS

RATES = {"grpo": 5e-4, "opsd": 5e-4, "sdpo": 1.5e-4, "rlsd": 5e-4, "cepo": 5e-4}
CONFIGS = Path(matrix.ROOT) / "core" / "configs"


def pocket_runs(group: str, arm: str) -> tuple[Run, ...]:
    return study_of().arm_runs(group, arm, RATES)


def test_every_arm_resolves_to_runs_at_every_scale():
    for config in (None, CONFIGS / "qwen3vl_2b.yaml", CONFIGS / "qwen3vl_4b.yaml"):
        study = study_of(config)
        for group, arm in study.names():
            runs = study.arm_runs(group, arm, RATES)
            assert [run.config.seed for run in runs] == list(study.matrix.groups[group].seeds)


def test_five_methods_have_five_seeds_and_every_ablation_three():
    for name, group in study_of().matrix.groups.items():
        assert len(group.seeds) == {"methods": 5, "evidence": 1}.get(name, 3), name
    assert list(study_of().matrix.groups["methods"].arms) == list(METHODS)


@pytest.mark.parametrize(
    ("group", "arm"),
    [
        ("epsilon_w", "0.5"), ("feedback_source", "answer_answer"), ("teacher_source", "actor"),
        ("presets", "cepo_paper"), ("deviations", "none"), ("learning_rate", "cepo"),
    ],
)  # fmt: skip
def test_an_arm_that_is_the_default_shares_the_runs_of_the_five_methods(group, arm):
    assert pocket_runs(group, arm) == pocket_runs("methods", "cepo")[:3]


def test_a_constant_lambda_of_zero_is_the_run_of_grpo():
    assert pocket_runs("lambda_constant", "0") == pocket_runs("methods", "grpo")[:3]


def test_a_run_is_named_after_all_that_it_resolves_to_and_nothing_else():
    config = default_config("cepo")
    assert Run(config).run_id == Run(load_config(method="cepo")).run_id
    others = [load_config(flags={key: value}) for key, value in (("steps", 7), ("method.epsilon_w", 0.4), ("seed", 1))]
    assert len({Run(other).run_id for other in (config, *others)}) == 4
    assert Run(config).run_id.removesuffix("-s0") == Run(others[2]).run_id.removesuffix("-s1")


def test_runs_that_differ_have_different_names():
    study = study_of()
    runs = set(study.runs(RATES)) | {run for runs in study.search_runs().values() for run in runs.values()}
    assert len({run.run_id for run in runs}) == len(runs)


def test_all_methods_search_the_same_rates_on_problems_that_no_other_run_is_asked():
    study = study_of()
    searched = study.search_runs()
    assert {tuple(runs) for runs in searched.values()} == {study.at.learning_rates}
    asked = {run.config.problems.validation_seed for runs in searched.values() for run in runs.values()}
    seeds = {run.config.seed for runs in searched.values() for run in runs.values()}
    assert not asked & {run.config.problems.validation_seed for run in study.runs(RATES)}
    assert not seeds & {run.config.seed for run in study.runs(RATES)}


def test_the_best_rate_wins_and_the_smaller_one_among_equals():
    assert best_rate({1e-4: 0.5, 5e-4: 0.7, 1e-3: 0.7}) == 5e-4


def test_an_arm_trains_at_the_rate_that_its_method_searched():
    assert {run.config.method.learning_rate for run in pocket_runs("methods", "sdpo")} == {1.5e-4}
    assert {run.config.method.learning_rate for run in pocket_runs("learning_rate", "cepo_fifth")} == {1e-4}


def test_the_arms_differ_in_what_they_are_named_after_and_in_nothing_else():
    plain = pocket_runs("methods", "cepo")[0].config.method
    for arm in study_of().matrix.groups["epsilon_w"].arms:
        changed = pocket_runs("epsilon_w", arm)[0].config.method
        assert changed.epsilon_w == float(arm)
        assert {**vars(changed), "epsilon_w": 0} == {**vars(plain), "epsilon_w": 0}


def test_a_name_that_is_no_group_or_arm_is_refused_with_the_groups_there_are():
    with pytest.raises(InputError, match=r"--only epsilon: expected a group or GROUP/ARM.*epsilon_w"):
        list(study_of().names(["epsilon"]))
    assert list(study_of().names(["epsilon_w/0.1"])) == [("epsilon_w", "0.1")]


def test_a_configuration_without_a_scale_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no scale for it; expected one of core/configs/pocket\.yaml"):
        study_of(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [("scales: [", "is not YAML"), ("groups: {}", "scales: Field required"), ("x: 1", "scales"),
     ("scales: {}\nsearch: {seed: 1, flags: {}}\ngroups: {a: {title: t, reference: r, seeds: [0], arms: {b: {x: 1}}}}",
      "groups.a.arms.b.x: Extra inputs")],
)  # fmt: skip
def test_a_broken_matrix_is_told_in_one_line(tmp_path, text, said):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as told:
        read_matrix(path)
    assert "\n" not in str(told.value)
