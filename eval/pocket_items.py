"""Items of the pocket benchmarks, before they take the columns of a benchmark.

Their pictures are Pocket Geo3k's, with labels of the validation split and a seed of their own. Only six single numbers
are kept for validation, so pictures with one label show them again in every benchmark.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from core.pocket.problems import FAMILIES, PocketProblem, sample_problem

LETTERS = "ABCDE"
SLIPS = (-10, -2, -1, 1, 2, 10)
"""How far a wrong number that no rule explains lies from the right one."""
DYNAMATH_FAMILIES = ("triangle", "exterior", "rectangle") * 2
"""Of the six DynaMath questions: pictures with two labels, of which there are enough for ten variants."""
VARIANTS = 10
"""Of every DynaMath question."""


@dataclass(frozen=True)
class Item:
    """What a row of any benchmark is made of."""

    problems: tuple[PocketProblem, ...]
    """One picture each; of several, the sum of their answers is asked for."""
    options: tuple[str, ...] = ()
    """Empty where the number itself is asked for."""
    letters: str = ""
    """The right options, one after the other."""

    @property
    def answer(self) -> str:
        """What the benchmark's scorer compares with: the number, or letters as in `B, C`."""
        return ", ".join(self.letters) or str(sum(int(problem.answer) for problem in self.problems))

    @property
    def question(self) -> str:
        """What is asked of the first picture, in the pocket model's own words."""
        return self.problems[0].question

    @property
    def lettered(self) -> list[str]:
        """The options as a person reads them."""
        return [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False)]


def tempting(problem: PocketProblem) -> str:
    """The answer of the family's wrong rule."""
    return str(FAMILIES[problem.family].wrong.steps(problem.a, problem.b)[-1][1])


def draws(rng: random.Random) -> Iterator[PocketProblem]:
    """Validation problems without end: no family shows the same labels twice, nowhere do both rules agree."""
    seen = set()
    while True:
        problem = sample_problem(rng, "validation")
        visible = (problem.family, *sorted(problem.labels))
        if visible not in seen and tempting(problem) != problem.answer:
            seen.add(visible)
            yield problem


def near(problem: PocketProblem) -> list[str]:
    """Wrong numbers that no rule explains."""
    numbers = [str(int(problem.answer) + slip) for slip in SLIPS]
    return [number for number in numbers if number != tempting(problem)]


def choice(problem: PocketProblem, letter: str, n_options: int, rng: random.Random) -> Item:
    """Multiple choice with the right answer at a letter; the tempting answer is always among the wrong ones."""
    wrong = [tempting(problem), *rng.sample(near(problem), n_options - 2)]
    rng.shuffle(wrong)
    place = LETTERS.index(letter)
    return Item((problem,), (*wrong[:place], problem.answer, *wrong[place:]), letter)


def double_choice(problem: PocketProblem) -> Item:
    """Multiple choice with two right answers, the second written as a sum."""
    other_way = f"{int(problem.answer) - 10}+10"
    options = (tempting(problem), problem.answer, other_way, near(problem)[-1])
    return Item((problem,), options, "BC")


def mixed(
    problems: Iterator[PocketProblem], n_choice: int, n_number: int, *, n_options: int, rng: random.Random
) -> list[Item]:
    """Items that ask for a letter, each letter about equally often, and items that ask for the number; not in order."""
    letters = [LETTERS[i % n_options] for i in range(n_choice)]
    items = [choice(next(problems), letter, n_options, rng) for letter in letters]
    items += [Item((problem,)) for problem in islice(problems, n_number)]
    rng.shuffle(items)
    return items


def _dynamath(rng: random.Random) -> list[Item]:
    problems = draws(rng)
    items = []
    for family in DYNAMATH_FAMILIES:
        layout = rng.randrange(1 << 30)  # variants of a question are one figure with other numbers
        variants = islice((problem for problem in problems if problem.family == family), VARIANTS)
        items += [Item((replace(problem, layout=layout),)) for problem in variants]
    return items


def _logicvista(rng: random.Random) -> list[Item]:
    problems = draws(rng)
    items = [*mixed(problems, 15, 32, n_options=4, rng=rng), double_choice(next(problems))]
    rng.shuffle(items)
    return items


def _mmmu(rng: random.Random) -> list[Item]:
    problems = draws(rng)
    items = mixed(problems, 14, 30, n_options=4, rng=rng)
    items += [Item((next(problems), next(problems))) for _ in range(4)]
    rng.shuffle(items)
    return items


ITEMS: dict[str, Callable[[random.Random], list[Item]]] = {
    "dynamath": _dynamath,
    "logicvista": _logicvista,
    "mathvision_mini": lambda rng: mixed(draws(rng), 24, 24, n_options=5, rng=rng),
    "mmmu": _mmmu,
    "wemath": lambda rng: mixed(draws(rng), 14, 28, n_options=4, rng=rng),
}


def items_of(name: str, seed: int) -> list[Item]:
    """The items of a benchmark in order: a pure function of its name and the seed."""
    return ITEMS[name](random.Random(f"pocket benchmarks/{name}/{seed}"))
