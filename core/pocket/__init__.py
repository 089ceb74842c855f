"""Pocket Geo3k: geometry diagrams, a tiny real Qwen3-VL and its base checkpoint, all made here from a seed."""

import random
from pathlib import Path

from core.pocket.drawing import draw
from core.pocket.problems import PocketProblem, Split, sample_problem
from core.rollouts import Problem

BASE = Path(__file__).parent / "base"
"""The shipped base checkpoint."""


def draw_problem(split: Split, index: int, seed: int) -> PocketProblem:
    """Problem number `index` of a split: a pure function of its arguments."""
    return sample_problem(random.Random(f"{split}/{seed}/{index}"), split)


def pocket_problem(split: Split, index: int, seed: int) -> Problem:
    """The same as a policy is asked it: question, answer, picture."""
    problem = draw_problem(split, index, seed)
    return Problem(f"pocket/{split}/{seed}/{index}", problem.question, problem.answer, (draw(problem),))
