"""Problems: pure in (split, index, seed), splits that share no visible labels, answers that are geometry."""

import random
from collections import Counter, defaultdict
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pocket import draw_problem
from core.pocket.problems import FAMILIES, Split, sample_problem

SIZES: dict[Split, int] = {"train": 20_000, "validation": 4_000, "shifted": 1_000}

ANSWERS = {
    "triangle": lambda labels: 180 - sum(labels),
    "exterior": sum,
    "line": lambda labels: 180 - labels[0],
    "crossing": lambda labels: labels[0],
    "corner": lambda labels: 90 - labels[0],
    "isosceles_apex": lambda labels: (180 - labels[0]) / 2,
    "isosceles_base": lambda labels: 180 - 2 * labels[0],
    "rectangle": lambda labels: labels[0] + labels[1] + labels[0] + labels[1],
}
"""Geometry by family, from what can be seen; written anew, without `core.pocket`."""

splits = st.sampled_from(get_args(Split))


@pytest.fixture(scope="module")
def drawn():
    """Return many problems of every split."""
    return {split: [draw_problem(split, i, 0) for i in range(n)] for split, n in SIZES.items()}


def visible(problem):
    return tuple(sorted(problem.labels))


@given(splits, st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_problem_is_a_pure_function_of_split_index_and_seed(split, index, seed):
    expected = draw_problem(split, index, seed)
    draw_problem(split, index + 1, seed)
    assert draw_problem(split, index, seed) == expected


def test_drawing_a_problem_leaves_the_global_randomness_alone():
    state = random.getstate()
    draw_problem("train", 0, 0)
    assert random.getstate() == state


@pytest.mark.parametrize("change", [("validation", 3, 0), ("train", 4, 0), ("train", 3, 1)])
def test_another_split_index_or_seed_gives_another_problem(change):
    assert draw_problem("train", 3, 0) != draw_problem(*change)


def test_labels_that_validation_shows_are_shown_by_no_training_problem_of_any_family(drawn):
    trained = {visible(problem) for problem in drawn["train"]}
    held_out = {visible(problem) for problem in drawn["validation"]}
    assert len(trained) > 1000
    assert len(held_out) > 200
    assert not trained & held_out


def test_the_labels_of_another_seed_of_training_are_held_out_from_validation_too(drawn):
    trained = {visible(draw_problem("train", i, 1)) for i in range(2_000)}
    assert not trained & {visible(problem) for problem in drawn["validation"]}


def test_shifted_labels_lie_outside_the_range_of_training(drawn):
    numbers = {s: {int(x) for p in problems for x in p.labels} for s, problems in drawn.items()}
    assert not numbers["shifted"] & (numbers["train"] | numbers["validation"])
    assert min(numbers["shifted"]) > max(numbers["train"])


def test_every_family_occurs_in_every_split_and_about_equally_often(drawn):
    for problems in drawn.values():
        counts = Counter(problem.family for problem in problems)
        assert set(counts) == set(FAMILIES)
        assert min(counts.values()) > 0.4 * max(counts.values())


def test_every_family_of_validation_has_more_than_two_combinations_of_labels(drawn):
    combinations = defaultdict(set)
    for problem in drawn["validation"]:
        combinations[problem.family].add(visible(problem))
    assert min(len(found) for found in combinations.values()) > 2


def test_answers_are_what_geometry_says_of_the_labels(drawn):
    for problem in (p for problems in drawn.values() for p in problems):
        expected = ANSWERS[problem.family]([int(label) for label in problem.labels])
        assert float(problem.answer) == expected, problem
        assert expected > 0


def test_the_tempting_rule_arrives_at_the_answer_for_less_than_two_percent_of_the_problems(drawn):
    same = 0
    for problem in drawn["train"]:
        tempting = FAMILIES[problem.family].wrong.steps(problem.a, problem.b)[-1][1]
        same += str(tempting) == problem.answer
    assert same < 0.02 * SIZES["train"]


def test_no_question_contains_a_digit(drawn):
    questions = {problem.question for problems in drawn.values() for problem in problems}
    assert questions == {"Find x.", "Find the perimeter."}


@given(splits, st.integers(0, 1 << 32))
def test_isosceles_problems_stay_in_whole_degrees(split, seed):
    problem = sample_problem(random.Random(seed), split)
    if problem.family.startswith("isosceles"):
        assert problem.a % 2 == 0
