"""What the base can do, measured: `python -m core.pocket.report`.

Samples the validation split as training would (T = 1, G = 8) and asks: how often is the answer right, and why not; does
the model need the picture; does it use a hint; where do the two teachers disagree. Intervals are 95 %, clustered by
what a picture shows: problems of one family with the same labels count as one draw.
"""

import argparse
import dataclasses
import json
import math
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from core import credit
from core.batch import Prompting, collate
from core.config import ModelConfig
from core.console import say
from core.engines.local_engine import LocalEngine
from core.errors import InputError
from core.hints import Hints, HintSource, choose_hints
from core.methods import TeacherSource
from core.pocket import BASE, draw_problem, pocket_problem
from core.pocket.chains import RULES, character_classes
from core.pocket.problems import FAMILIES, PocketProblem
from core.policy import Policy
from core.prompts import Prompt, student_prompt, teacher_prompt
from core.rollouts import Group, Problem
from core.teachers import Asked, TeacherWeights, TokenScores, ask_teachers, score_student
from core.verifier import Verifier, reward

GROUP_SIZE = 8
MAX_NEW_TOKENS = 96
EPSILON_W = 0.5
DECISIVE = ("rule", "result_digit")
FILLER = ("filler",)
BY_CONSTRUCTION = (
    "By construction: the warm start draws a chain's rule at random, so the choice of rule is what is uncertain; its "
    "hints agree with the chain, so a teacher that is told the answer knows the rule; arithmetic is drilled until "
    "slips are rare. Measured: everything in the tables."
)


@dataclass(frozen=True)
class Figure:
    """A measured mean with its 95 % half-width, the values behind it, and the pictures' distinct labels among them."""

    value: float
    half_width: float
    n: int
    clusters: int

    @classmethod
    def of(cls, values: Sequence[tuple[PocketProblem, float]]) -> "Figure":
        """Mean of values; pictures of one family with the same labels count as one draw for the interval."""
        if not values:
            return cls(math.nan, math.nan, 0, 0)
        mean = statistics.mean(value for _, value in values)
        residuals: dict[tuple, float] = defaultdict(float)
        for problem, value in values:
            residuals[problem.family, problem.labels] += value - mean
        clusters = len(residuals)
        variance = sum(r * r for r in residuals.values()) / len(values) ** 2 * clusters / max(clusters - 1, 1)
        return cls(mean, 1.96 * math.sqrt(variance) if clusters > 1 else math.nan, len(values), clusters)


@dataclass(frozen=True)
class Sampled:
    """Judged groups with the pocket problems behind them."""

    problems: tuple[PocketProblem, ...]
    groups: tuple[Group, ...]

    def mean(self, value: Callable[[PocketProblem, Group], float]) -> Figure:
        """Mean of a group's value."""
        return Figure.of([(p, value(p, g)) for p, g in zip(self.problems, self.groups, strict=True)])

    def share(self, test: Callable[[PocketProblem, str], bool]) -> Figure:
        """Mean share of a group's responses that pass a test."""
        return self.mean(lambda p, g: statistics.mean(test(p, r.text) for r in g.rollouts))

    @property
    def accuracy(self) -> Figure:
        """pass@1."""
        return self.mean(lambda _, g: statistics.mean(g.rewards))


@dataclass(frozen=True)
class Examiner:
    """Asks a policy the same validation problems in several ways."""

    policy: Policy
    verifier: Verifier
    n: int
    seed: int

    def ask(
        self,
        prompt_of: Callable[[Problem], Prompt],
        problems: Sequence[int] | None = None,
        picture: Callable[[Problem], Image.Image] = lambda p: p.images[0],
    ) -> Sampled:
        """Sample a group for each problem number."""
        numbers = range(self.n) if problems is None else problems
        drawn = [draw_problem("validation", i, self.seed) for i in numbers]
        asked = [pocket_problem("validation", i, self.seed) for i in numbers]
        groups = []
        for start in range(0, len(asked), 16):
            some = asked[start : start + 16]
            features = self.policy.look([(picture(p),) for p in some])
            prompts = [self.policy.encode(prompt_of(p), f) for p, f in zip(some, features, strict=True)]
            engine = LocalEngine(self.policy)
            rollouts = engine.rollouts(prompts, GROUP_SIZE, MAX_NEW_TOKENS, 1.0, self.seed + start)
            groups += [self._judged(p, r) for p, r in zip(some, rollouts, strict=True)]
        return Sampled(tuple(drawn), tuple(groups))

    def _judged(self, problem: Problem, rollouts: tuple) -> Group:
        verdicts = tuple(self.verifier.verify(r.text, problem.answer) for r in rollouts)
        return Group(problem, rollouts, verdicts, tuple(reward(v, "binary") for v in verdicts))

    def hints(self, groups: Sequence[Group]) -> list[Hints]:
        """CEPO's own: the answer, and a wrong peer's."""
        correct, wrong = HintSource("gt_answer"), HintSource("peer_answer")
        rng = random.Random(self.seed)
        return [choose_hints(g, correct, wrong, self.verifier, self.policy.detokenise, rng) for g in groups]


def reads_labels(problem: PocketProblem, text: str) -> bool:
    """The response's first sentence names all labels, in order."""
    return " and ".join(problem.labels) + "." in text


def applies_right_rule(problem: PocketProblem, text: str) -> bool | None:
    """Whether the written steps are the right rule's, whatever their arithmetic; None for no rule's."""
    shapes = {rule: _shape([side for side, _ in rule.steps(problem.a, problem.b)]) for rule in RULES}
    steps = text.partition(". ")[2].partition(". ")[0].rpartition(":")[2].removeprefix("Compute ")
    written = _shape([step.partition("=")[0].strip() for step in steps.split(",")])
    family = FAMILIES[problem.family]
    if written == shapes[family.right]:
        return True
    return False if written in shapes.values() else None


def _shape(sides: Sequence[str]) -> tuple[str, ...]:
    """Steps with their numbers' values forgotten, except for the constants of a rule."""
    out = []
    for side in sides:
        for operator in "+-*/":
            left, found, right = side.partition(operator)
            if found:
                constants = [x if x in ("180", "90", "2") else "n" for x in (left, right)]
                out.append(operator.join(constants))
                break
        else:
            out.append("x" if side == "x" or side.isdigit() else "?")
    return tuple(out)


def token_table(examiner: Examiner, sampled: Sampled) -> dict[str, dict[str, float]]:
    """Mean |Δ| and clip rate of CEPO and RLSD by class of character, over mixed groups."""
    hints = examiner.hints(sampled.groups)
    mixed = [i for i, g in enumerate(sampled.groups) if 0 < sum(g.rewards) < GROUP_SIZE and not hints[i].fallback]
    values: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    policy = examiner.policy
    weights, prompting = TeacherWeights(TeacherSource("actor"), policy), Prompting("sample_answer", True)
    for start in range(0, len(mixed), 8):
        some = mixed[start : start + 8]
        groups = [sampled.groups[i] for i in some]
        features = policy.look([g.problem.images for g in groups])
        batch = collate(policy, groups, features, [hints[i] for i in some])
        every, scores = tuple(range(len(some))), TokenScores.blank(batch)
        score_student(policy, batch, every, scores, 8)
        ask_teachers(policy, weights, batch, Asked(every, every), scores, prompting, 8)
        evidence = scores.evidence()
        rewards = torch.tensor([g.rewards for g in groups])
        advantages = credit.group_advantages(rewards).flatten()
        told_right, told_wrong = evidence.log_p_correct, evidence.log_p_wrong
        assert told_right is not None
        assert told_wrong is not None
        contrast = credit.evidence_delta(told_right, told_wrong)
        one_sided = credit.evidence_delta(told_right, evidence.log_p_student)
        flags = [
            credit.clip_flags(credit.evidence_weight(d, advantages), EPSILON_W) != 0 for d in (contrast, one_sided)
        ]
        for row, rollout in enumerate(r for g in groups for r in g.rollouts):
            classes = (*character_classes(rollout.text), *(() if rollout.is_truncated else ("end",)))
            for t, name in enumerate(classes):
                found = (contrast[row, t].abs(), one_sided[row, t].abs(), flags[0][row, t], flags[1][row, t])
                values[name].append(tuple(float(x) for x in found))
    columns = ("delta_cepo", "delta_rlsd", "clip_cepo", "clip_rlsd")
    return {
        name: dict(zip(("n", *columns), (len(v), *(statistics.mean(c) for c in zip(*v, strict=True))), strict=True))
        for name, v in sorted(values.items())
    }


def over_filler(table: dict[str, dict[str, float]], column: str) -> float:
    """Mean |Δ| at decisive characters over that at filler."""

    def mean(names: Sequence[str]) -> float:
        present = [table[n] for n in names if n in table]
        return sum(c["n"] * c[column] for c in present) / sum(c["n"] for c in present)

    return mean(DECISIVE) / mean(FILLER)


def examine(policy: Policy, n: int, seed: int) -> dict[str, Any]:
    """Everything the report prints."""
    with Verifier() as verifier:
        examiner = Examiner(policy, verifier, n, seed)
        plain = examiner.ask(student_prompt)
        blank = examiner.ask(student_prompt, picture=lambda p: Image.new("RGB", p.images[0].size, "white"))
        hints = examiner.hints(plain.groups)
        told = [i for i, h in enumerate(hints) if not h.fallback]
        wrong_hint = {plain.groups[i].problem.problem_id: str(hints[i].hint_wrong) for i in told}
        right = examiner.ask(lambda p: teacher_prompt(p, p.answer, "sample_answer"), told)
        wrong = examiner.ask(lambda p: teacher_prompt(p, wrong_hint[p.problem_id], "sample_answer"), told)
        unhinted = Sampled(tuple(plain.problems[i] for i in told), tuple(plain.groups[i] for i in told))
        table = token_table(examiner, plain)
    pairs = list(zip(plain.problems, plain.groups, strict=True))
    right_rule = [
        (p, float(v.is_correct))
        for p, g in pairs
        for r, v in zip(g.rollouts, g.verdicts, strict=True)
        if applies_right_rule(p, r.text)
    ]
    families = {f: Figure.of([(p, statistics.mean(g.rewards)) for p, g in pairs if p.family == f]) for f in FAMILIES}
    return {
        "problems": n,
        "group_size": GROUP_SIZE,
        "seed": seed,
        "pass_at_1": plain.accuracy,
        "mixed_groups": plain.mean(lambda _, g: float(0 < sum(g.rewards) < GROUP_SIZE)),
        "accuracy_given_right_rule": Figure.of(right_rule),
        "reading": plain.share(reads_labels),
        "blank_image": blank.accuracy,
        "blank_reading": blank.share(reads_labels),
        "hint_none": unhinted.accuracy,
        "hint_right": right.accuracy,
        "hint_wrong": wrong.accuracy,
        "decisive_over_filler": over_filler(table, "delta_cepo"),
        "decisive_over_filler_rlsd": over_filler(table, "delta_rlsd"),
        "families": families,
        "tokens": table,
    }


def show(report: dict[str, Any], console: Console, title: str) -> None:
    """The report as two tables."""
    table = Table("measure", "value", "n", "labels", title=title)
    for name, value in report.items():
        if isinstance(value, Figure):
            table.add_row(name, f"{value.value:.1%} ± {value.half_width:.1%}", str(value.n), str(value.clusters))
        elif isinstance(value, float):
            table.add_row(name, f"{value:.1f}", "", "")
    for name, value in report["families"].items():
        table.add_row(f"  {name}", f"{value.value:.1%} ± {value.half_width:.1%}", str(value.n), str(value.clusters))
    console.print(table)
    tokens = Table("character", "n", "|Δ| CEPO", "|Δ| RLSD", "clip CEPO", "clip RLSD", title="evidence by character")
    for name, c in sorted(report["tokens"].items(), key=lambda item: -item[1]["delta_cepo"]):
        cells = [f"{c[k]:.4f}" for k in ("delta_cepo", "delta_rlsd")] + [
            f"{c[k]:.1%}" for k in ("clip_cepo", "clip_rlsd")
        ]
        tokens.add_row(name, str(c["n"]), *cells)
    console.print(tokens)


def main() -> int:
    """Measure the base, and the control where one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=BASE)
    parser.add_argument(
        "--control", type=Path, help="folder made by `python -m core.pocket.build --control --out FOLDER`"
    )
    parser.add_argument("--problems", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    console = Console(stderr=arguments.json)
    reports = {}
    try:
        for name, folder in (("base", arguments.model), ("control", arguments.control)):
            if folder is not None:
                policy = Policy.load(ModelConfig(path=str(folder)))
                reports[name] = examine(policy, arguments.problems, arguments.seed)
                show(reports[name], console, f"{name} {folder}")
    except InputError as error:
        say(str(error))
        return 2
    console.print(BY_CONSTRUCTION)
    if arguments.json:
        plain = json.loads(json.dumps(reports, default=dataclasses.asdict))
        flat = {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in plain["base"].items()}
        print(json.dumps(flat | {"intervals": plain["base"], "control": plain.get("control")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
