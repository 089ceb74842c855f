"""Worked responses: how the base learns to answer, and which characters of an answer are what."""

import random
import re
from dataclasses import dataclass
from typing import Literal

from core.pocket.problems import FAMILIES, PocketProblem, Rule

CharacterClass = Literal[
    "read_digit", "rule", "rule_name", "operand_digit", "operator", "result_digit", "answer_digit", "format", "filler"
]

READINGS = ("Given {}. ", "I see {}. ", "Labels {}. ")
ENDINGS = ("So \\boxed{{{}}}", "x is \\boxed{{{}}}", "\\boxed{{{}}}")


@dataclass(frozen=True)
class Chain:
    """A response and the answer it arrives at."""

    text: str
    answer: str
    is_right: bool


def algebra(rule: Rule, problem: PocketProblem) -> str:
    """The steps of a rule, '52+61=113, 180-113=67'; a rule that copies its label states it, 'x=52'."""
    steps = rule.steps(problem.a, problem.b)
    return ", ".join(f"{'x' if side == str(value) else side}={value}" for side, value in steps)


def worded(rule: Rule, problem: PocketProblem, wording: int) -> str:
    """One of three wordings: the rule named first, the rule named after a shared opening, or not named at all."""
    steps = algebra(rule, problem)
    match wording:
        case 0:
            return f"{rule.name}: {steps}. "
        case 1:
            return f"Here {rule.name[0].lower()}{rule.name[1:]}: {steps}. "
        case _:
            return f"Compute {steps}. "


def chain(problem: PocketProblem, rng: random.Random, rule: Rule | None = None) -> Chain:
    """A worked response; without a rule, the family's odds choose it."""
    family = FAMILIES[problem.family]
    rule = rule or (family.right if rng.random() < family.p_right else family.wrong)
    reading = rng.choice(READINGS).format(" and ".join(problem.labels))
    answer = str(rule.steps(problem.a, problem.b)[-1][1])
    text = reading + worded(rule, problem, rng.randrange(3)) + rng.choice(ENDINGS).format(answer)
    return Chain(text, answer, rule is family.right)


RULES = {rule for family in FAMILIES.values() for rule in (family.right, family.wrong)}


def _choices(rule: Rule) -> frozenset[int]:
    """Where in its name a rule parts from the rule it competes with, for every family it belongs to."""
    rivals = [f.wrong if f.right is rule else f.right for f in FAMILIES.values() if rule in (f.right, f.wrong)]
    return frozenset(
        next(i for i, (a, b) in enumerate(zip(rule.name, rival.name, strict=False)) if a != b) for rival in rivals
    )


CHOICES = {rule.name.lower(): _choices(rule) for rule in RULES}
_PARTS = re.compile(r"(?P<reading>(?:[^.]*\. ?)?)(?P<work>(?:[^.]*\.? ?)?)(?P<ending>.*)", re.DOTALL)
_STEP = re.compile(r"(?P<left>[0-9x+\-*/]+)=(?P<right>[0-9]*)")


def character_classes(response: str) -> tuple[CharacterClass, ...]:
    """What each character of a response is; made for chains, and total on any text.

    `rule` marks the characters at which chains of competing rules part: within the rule's name, or, where it is not
    named, the first character of the first step and the one after its result (another step, or the end).
    """
    (reading, work, ending) = _PARTS.findall(response)[0]
    boxed = ending.find("{")
    return (
        *("read_digit" if c.isdigit() else "filler" for c in reading),
        *_work_classes(work),
        *("answer_digit" if c.isdigit() and i > boxed >= 0 else "format" for i, c in enumerate(ending)),
    )


def _work_classes(work: str) -> list[CharacterClass]:
    name, colon, steps = work.rpartition(":")
    rule = name.lower().removeprefix("here ")
    offset = len(name) - len(rule)
    named: list[CharacterClass] = ["filler"] * offset
    for i in range(len(rule)):
        named.append("rule" if i in CHOICES.get(rule, ()) else "rule_name")
    classes: list[CharacterClass] = ["filler"] * len(colon + steps)
    start = len(colon)
    for number, step in enumerate(_STEP.finditer(steps)):
        for i in range(*step.span("left")):
            classes[start + i] = "operand_digit" if steps[i].isdigit() else "operator"
        classes[start + step.end("left")] = "operator"
        for i in range(*step.span("right")):
            classes[start + i] = "result_digit"
        if number == 0 and not colon:
            classes[step.start()] = "rule"
            if step.end() < len(steps):
                classes[step.end()] = "rule"
    return [*named, *classes]
