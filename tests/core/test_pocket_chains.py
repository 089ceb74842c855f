"""Chains: true algebra in every one, the odds of the right rule, and the class of every character."""

import random
import re
from collections import defaultdict
from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.pocket import draw_problem
from core.pocket.chains import CharacterClass, chain, character_classes, worded
from core.pocket.problems import FAMILIES

CHAIN = re.compile(
    r"(?:Given|I see|Labels) (?P<labels>\d+(?: and \d+)?)\. "
    r"(?:(?P<name>[^:]+): |Compute )(?P<steps>[^.]+)\. (?:So |x is |)\\boxed\{(?P<answer>\d+)\}"
)
STEP = re.compile(r"(?:(?P<left>\d+)(?P<operator>[-+*/])(?P<right>\d+)|x)=(?P<value>\d+)")
OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
VALUES = {
    "angles make 180": lambda a, b: 180 - a - b,
    "far angles add up": lambda a, b: a + b,
    "both make 180": lambda a: 180 - a,
    "both are equal": lambda a: a,
    "both make 90": lambda a: 90 - a,
    "base angles share the rest": lambda a: (180 - a) / 2,
    "base angles leave the rest": lambda a: 180 - a - a,
    "add the sides twice": lambda a, b: a + b + a + b,
    "add the sides once": lambda a, b: a + b,
}
"""What a rule makes of the labels, by its name; written anew, without `core.pocket`."""

CODES: dict[str, CharacterClass] = {
    "r": "read_digit",
    "!": "rule",
    "n": "rule_name",
    "o": "operand_digit",
    "+": "operator",
    "v": "result_digit",
    "a": "answer_digit",
    "f": "format",
    ".": "filler",
}


@pytest.fixture(scope="module")
def told():
    """Return problems of all splits, each with a chain of each of its two rules."""
    rng = random.Random(0)
    problems = [draw_problem(split, i, 0) for split in ("train", "validation", "shifted") for i in range(2_000)]
    rules = [(problem, rule) for problem in problems for rule in (_family(problem).right, _family(problem).wrong)]
    return [(problem, rule, chain(problem, rng, rule)) for problem, rule in rules]


def _family(problem):
    return FAMILIES[problem.family]


def test_a_chain_reads_the_labels_that_the_picture_shows(told):
    for problem, _, made in told:
        found = CHAIN.fullmatch(made.text)
        assert found, made.text
        assert tuple(found["labels"].split(" and ")) == problem.labels


def test_every_equation_of_a_chain_is_true_and_the_last_value_is_boxed(told):
    for _, _, made in told:
        found = CHAIN.fullmatch(made.text)
        assert found
        steps = [STEP.fullmatch(step) for step in found["steps"].split(", ")]
        for step in steps:
            assert step, made.text
            if step["operator"]:
                value = OPERATORS[step["operator"]](int(step["left"]), int(step["right"]))
                assert value == int(step["value"]), made.text
        assert steps[-1]
        assert steps[-1]["value"] == found["answer"] == made.answer


def test_a_chain_arrives_at_what_its_rule_says_and_says_so_where_it_names_it(told):
    for problem, rule, made in told:
        found = CHAIN.fullmatch(made.text)
        assert found
        assert int(made.answer) == VALUES[rule.name.lower()](*(int(label) for label in problem.labels))
        assert found["name"] is None or found["name"].lower().removeprefix("here ") == rule.name.lower()
        assert made.is_right == (rule is _family(problem).right)


def test_a_step_starts_from_the_labels_or_from_the_value_before_it(told):
    for problem, _, made in told:
        known = {*problem.labels, "180", "90", "2"}
        for step in STEP.finditer(made.text):
            assert {step["left"], step["right"]} - {None} <= known, made.text
            known.add(step["value"])


def test_a_chain_has_at_most_90_characters(told):
    assert max(len(made.text) for _, _, made in told) <= 90


def test_without_a_rule_a_chain_is_right_as_often_as_its_family_says():
    rng = random.Random(1)
    shares = defaultdict(list)
    for index in range(16_000):
        problem = draw_problem("train", index, 2)
        shares[problem.family].append(chain(problem, rng).is_right)
    for family, right in shares.items():
        assert sum(right) / len(right) == pytest.approx(FAMILIES[family].p_right, abs=0.05)


def test_all_readings_wordings_and_endings_occur(told):
    frames = {re.sub(r"\d+", "n", made.text) for _, _, made in told}
    heads = {frame.split()[0] for frame in frames}
    bodies = {frame.split(". ")[1].split()[0] for frame in frames} & {"Here", "Compute"}
    assert heads == {"Given", "I", "Labels"}
    assert bodies == {"Here", "Compute"}
    assert {frame.split(". ")[2] for frame in frames} == {r"So \boxed{n}", r"x is \boxed{n}", r"\boxed{n}"}


def _parting(problem, wording):
    """Return the texts of the two rules in one wording, and the first place at which they differ."""
    right, wrong = (worded(rule, problem, wording) for rule in (_family(problem).right, _family(problem).wrong))
    return right, wrong, next(i for i, (a, b) in enumerate(zip(right, wrong, strict=False)) if a != b)


def _kind(text, place):
    """Name a parting place by what the two chains have shared until there."""
    if place == 0:
        return "first word"
    if "=" in text[:place]:
        return "after the first result"
    return "in the rule's name" if ":" in text[place:] else "first operand"


def test_chains_of_competing_rules_part_at_different_kinds_of_places():
    problems = {}
    for index in range(200):
        problem = draw_problem("train", index, 0)
        problems.setdefault(problem.family, problem)
    assert set(problems) == set(FAMILIES)
    partings = [(_parting(problem, wording)) for problem, wording in product(problems.values(), range(3))]
    kinds = [_kind(right, place) for right, _, place in partings]
    assert set(kinds) == {"first word", "in the rule's name", "first operand", "after the first result"}
    assert kinds.count("first word") < len(kinds) / 4


@pytest.mark.parametrize("wording", [0, 1, 2])
def test_the_character_at_which_competing_chains_part_is_classed_as_the_rule(wording):
    for index in range(300):
        right, wrong, place = _parting(draw_problem("validation", index, 0), wording)
        for text in (right, wrong):
            head = "I see 52. "
            assert character_classes(f"{head}{text}So \\boxed{{1}}")[len(head) + place] == "rule", text


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (
            r"Given 52 and 61. Angles make 180: 52+61=113, 180-113=67. So \boxed{67}",
            r"......rr.....rr..!nnnnnnnnnnnnnn..oo+oo+vvv..ooo+ooo+vv..ffffffffffaaf",
        ),
        (
            r"I see 37 and 73. Here far angles add up: 37+73=110. x is \boxed{110}",
            r"......rr.....rr.......!nnnnnnnnnnnnnnnn..oo+oo+vvv..ffffffffffffaaaf",
        ),
        (
            r"Labels 45. Both make 180: 180-45=135. \boxed{135}",
            r".......rr..nnnnn!nnnn!nn..ooo+oo+vvv..fffffffaaaf",
        ),
        (
            r"Given 48. Both are equal: x=48. \boxed{48}",
            r"......rr..nnnnn!nnnnnnnn..++vv..fffffffaaf",
        ),
        (
            r"I see 50 and 33. Compute 50+33=83, 180-83=97. \boxed{97}",
            r"......rr.....rr..........!o+oo+vv!.ooo+oo+vv..fffffffaaf",
        ),
        (
            r"I see 50 and 33. Compute 50+33=83. So \boxed{83}",
            r"......rr.....rr..........!o+oo+vv!.ffffffffffaaf",
        ),
        (
            r"I see 50. Compute 90-50=40. So 40",
            r"......rr..........!o+oo+vv!.fffff",
        ),
    ],
)
def test_hand_made_chains_are_classed_character_by_character(text, codes):
    assert len(text) == len(codes)
    assert character_classes(text) == tuple(CODES[code] for code in codes)


@given(
    st.one_of(
        st.text(max_size=120),
        st.text(alphabet="0123456789x+-*/=.,:{}\\ \nHereCompute", max_size=120),
        st.integers(0, 500).flatmap(
            lambda i: st.integers(0, 90).map(lambda n: chain(draw_problem("train", i, 0), random.Random(n)).text[:n])
        ),
    )
)
def test_classes_are_total_on_any_text(text):
    classes = character_classes(text)
    assert len(classes) == len(text)
    assert set(classes) <= set(get_args(CharacterClass))
