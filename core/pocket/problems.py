"""Pocket Geo3k: plane-geometry problems whose numbers can only be read from the picture.

A family has one right rule and one tempting wrong one, and the picture decides which is which: two numbers inside a
triangle ask for 180 − a − b, the same two beside an extended side ask for a + b. A chain (a worked response) reads the
labels, applies a rule and boxes the result. Depending on the wording, the chains of the two rules part at their first
word, in mid-sentence, or only at an operand.

Split by what can be seen: the sorted label texts of a picture, whatever its family, are hashed, and one hash class in
six is kept for validation, so no combination of visible labels is in two splits; `shifted` has numbers outside the
training range. Number facts are shared all the same: 180-70=110 may be a training problem's second step, and what a
label combination kept for validation adds up to is met between other labels.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "shifted"]

RANGES: dict[Split, tuple[int, int]] = {"train": (20, 79), "validation": (20, 79), "shifted": (80, 88)}
"""Smallest and largest label of a split."""


@dataclass(frozen=True)
class Rule:
    """A way to get x from the labels: what it is called, and its steps, each an expression and its value."""

    name: str
    steps: Callable[[int, int], tuple[tuple[str, int], ...]]


def _angle_sum(a: int, b: int) -> tuple[tuple[str, int], ...]:
    return ((f"{a}+{b}", a + b), (f"180-{a + b}", 180 - a - b))


def _halved_rest(a: int, _: int) -> tuple[tuple[str, int], ...]:
    return ((f"180-{a}", 180 - a), (f"{180 - a}/2", (180 - a) // 2))


def _doubled_rest(a: int, _: int) -> tuple[tuple[str, int], ...]:
    return ((f"2*{a}", 2 * a), (f"180-{2 * a}", 180 - 2 * a))


def _perimeter(a: int, b: int) -> tuple[tuple[str, int], ...]:
    return ((f"{a}+{b}", a + b), (f"2*{a + b}", 2 * (a + b)))


ANGLE_SUM = Rule("Angles make 180", _angle_sum)
EXTERIOR = Rule("Far angles add up", lambda a, b: ((f"{a}+{b}", a + b),))
STRAIGHT = Rule("Both make 180", lambda a, _: ((f"180-{a}", 180 - a),))
VERTICAL = Rule("Both are equal", lambda a, _: ((f"{a}", a),))
RIGHT_ANGLE = Rule("Both make 90", lambda a, _: ((f"90-{a}", 90 - a),))
BASE_ANGLE = Rule("Base angles share the rest", _halved_rest)
APEX_ANGLE = Rule("Base angles leave the rest", _doubled_rest)
PERIMETER = Rule("Add the sides twice", _perimeter)
HALF_PERIMETER = Rule("Add the sides once", lambda a, b: ((f"{a}+{b}", a + b),))


@dataclass(frozen=True)
class Family:
    """One kind of picture: its right and its tempting rule, and how many labels it shows."""

    right: Rule
    wrong: Rule
    labels: int
    p_right: float
    """How often the base's chains apply the right rule: rule choice is what training can improve."""


FAMILIES: dict[str, Family] = {
    "triangle": Family(ANGLE_SUM, EXTERIOR, 2, 0.50),
    "exterior": Family(EXTERIOR, ANGLE_SUM, 2, 0.40),
    "line": Family(STRAIGHT, VERTICAL, 1, 0.50),
    "crossing": Family(VERTICAL, STRAIGHT, 1, 0.40),
    "corner": Family(RIGHT_ANGLE, STRAIGHT, 1, 0.50),
    "isosceles_apex": Family(BASE_ANGLE, APEX_ANGLE, 1, 0.50),
    "isosceles_base": Family(APEX_ANGLE, BASE_ANGLE, 1, 0.45),
    "rectangle": Family(PERIMETER, HALF_PERIMETER, 2, 0.50),
}
QUESTIONS = {"rectangle": "Find the perimeter."}


@dataclass(frozen=True)
class PocketProblem:
    """One problem before it is drawn."""

    family: str
    a: int
    b: int
    layout: int
    """Seed of the drawing: jitter, and which corner carries which label."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The numbers in the picture, as texts."""
        return (str(self.a), str(self.b))[: FAMILIES[self.family].labels]

    @property
    def answer(self) -> str:
        """x by the right rule."""
        return str(FAMILIES[self.family].right.steps(self.a, self.b)[-1][1])

    @property
    def question(self) -> str:
        """What is asked; never a number."""
        return QUESTIONS.get(self.family, "Find x.")


def is_held_out(labels: tuple[str, ...]) -> bool:
    """Whether a combination of visible labels belongs to validation."""
    digest = hashlib.sha256(",".join(sorted(labels)).encode()).digest()
    return digest[0] % 6 == 0


def sample_problem(rng: random.Random, split: Split) -> PocketProblem:
    """Draw one problem of a split."""
    low, high = RANGES[split]
    while True:
        family = rng.choice(list(FAMILIES))
        a, b = rng.randint(low, high), rng.randint(low, high)
        if family.startswith("isosceles"):
            a -= a % 2  # both rules stay in whole degrees
        problem = PocketProblem(family, a, b, rng.randrange(1 << 30))
        if split == "shifted" or is_held_out(problem.labels) == (split == "validation"):
            return problem
