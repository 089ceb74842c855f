"""What recording costs: `python -m benchmarks.recorder [--json]`.

The numbers are CPU seconds of one thread. The trainer's thread hands a step over (sends what was measured to the host
and puts it into the queue) and makes the step's own row, which the console prints; the writer's thread makes all other
rows and writes them, flushed after every step. Steps are made up, with the pictures of Pocket Geo3k; the step they are
compared with is a real one of the pocket default (CEPO), as many rollouts of as many tokens.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.made_up import run_row
from benchmarks.measure import Seconds, machine
from core.batch import Batch
from core.config import load_config
from core.credit import group_advantages
from core.hints import Hints
from core.methods import CEPO, Evidence
from core.problems import problem_source
from core.recorder import FILE_NAME, Recorder
from core.records import StepResult, Stopwatch, send, step_record
from core.rollouts import Group, Problem, Rollout, Verdict
from core.run import build_trainer
from core.teachers import Asked
from core.updates import UpdateStatistics
from core.verifier import Verifier

GROUP = 8
LARGE = (256, 700)
"""Rollouts of a step, and tokens of each."""
SHARE_GOAL, TRAINER_GOAL_MS, TOKEN_GOAL_NS = 0.01, 1.0, 1000.0


@dataclass(frozen=True)
class Cost:
    """Recording steps of one size."""

    rollouts: int
    length: int
    hand_over: Seconds
    own_row: Seconds
    writer: Seconds
    bytes_per_token: float

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.rollouts * self.length

    @property
    def seconds(self) -> float:
        """CPU seconds of a step on both threads."""
        return self.hand_over.median + self.own_row.median + self.writer.median

    @property
    def ns_per_token(self) -> float:
        """Of both threads."""
        return 1e9 * self.seconds / self.tokens


def made_up_step(step: int, rollouts: int, length: int, problems: list[Problem]) -> StepResult:
    """A CEPO step with log-probabilities at random: every second rollout is right."""
    draw = torch.Generator().manual_seed(step)
    n_groups, shape = rollouts // GROUP, (rollouts, length)
    student = -torch.rand(shape, generator=draw)
    evidence = Evidence(student, *((student + torch.rand(shape, generator=draw) - 0.5).clamp(max=0) for _ in range(2)))
    token_ids = torch.randint(100, shape, generator=draw)
    rewards = torch.tensor([1.0, 0.0]).repeat(n_groups, GROUP // 2)
    advantages = group_advantages(rewards).flatten()
    verdicts = (Verdict(True, True, "42"), Verdict(False, True, "40")) * (GROUP // 2)
    responses = [
        Rollout(token_ids[i], student[i], "so the angle is 42 " * (length // 5), False) for i in range(rollouts)
    ]
    groups = tuple(
        Group(problems[g % len(problems)], tuple(responses[g * GROUP : (g + 1) * GROUP]), verdicts, (1.0, 0.0) * 4)
        for g in range(n_groups)
    )
    hints = Hints(("42",) * GROUP, ("40",) * GROUP, "42", "40", 1, fallback=False)
    everyone = tuple(range(n_groups))
    method = CEPO()
    return StepResult(
        step=step,
        method=method,
        batch=Batch(groups, (), (), (hints,) * n_groups, token_ids, torch.ones(shape, dtype=torch.bool)),
        advantages=advantages,
        evidence=evidence,
        scored=Asked(everyone, everyone),
        credit=method.credit(advantages, evidence, step),
        entropy=-student,
        update=UpdateStatistics(learning_rate=1e-6, losses=[0.0]),
    )


def cost(rollouts: int, length: int, problems: list[Problem], repetitions: int) -> Cost:
    """Record steps of one size one after the other into one run file."""
    hand_over, rows, writing = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run" / FILE_NAME
        with Recorder.create(path.parent, run_row("run", repetitions), []) as recorder:
            before = 0
            for step in range(1, repetitions + 2):
                result = made_up_step(step, rollouts, length, problems)
                times = [time.thread_time()]
                send(result)
                times.append(time.thread_time())
                record = step_record(result, Stopwatch())
                times.append(time.thread_time())
                written = recorder.seconds
                recorder.write(record)
                times.append(time.thread_time())
                recorder.flush()
                if step == 1:  # it starts what the others use
                    before = path.stat().st_size
                    continue
                sent, made, queued = (b - a for a, b in itertools.pairwise(times))
                hand_over.append(sent + queued)
                rows.append(made - sent)
                writing.append(recorder.seconds - written)
        size = path.stat().st_size - before
    per_token = size / (repetitions * rollouts * length)
    return Cost(rollouts, length, Seconds.of(hand_over), Seconds.of(rows), Seconds.of(writing), per_token)


def real_steps(repetitions: int) -> tuple[Seconds, int, int]:
    """CPU seconds of steps of the pocket default after a first one, the rollouts of each, and their mean length."""
    config = load_config(method="cepo", flags={})
    with Verifier() as verifier:
        trainer = build_trainer(config, verifier)
        seconds, lengths = [], []
        for step in range(1, repetitions + 2):
            started = time.process_time()
            row = trainer.step(step).step
            if step == 1 or row.val_n:  # validation belongs to no step in particular
                continue
            seconds.append(time.process_time() - started)
            lengths.append(row.response_tokens_mean)
    size = config.rollouts.problems_per_step * config.rollouts.group_size
    return Seconds.of(seconds), size, round(statistics.mean(lengths))


def report(step: Seconds, pocket: Cost, costs: list[Cost], console: Console) -> dict[str, float]:
    """Print the tables; the four measures with a goal."""
    table = Table("step", "hand-over, ms", "own row, ms", "writer, ms", "ns a token", "bytes a token")
    for each in costs:
        shown = [Seconds(1000 * s.median, 1000 * s.least, 1000 * s.most, s.n) for s in _threads(each)]
        name = f"{each.rollouts} x {each.length}"
        table.add_row(name, *map(str, shown), f"{each.ns_per_token:,.0f}", f"{each.bytes_per_token:.1f}")
    table.caption = f"median (least to most) of {pocket.writer.n}"
    console.print(table)
    console.print(f"a step of the pocket default: {step} CPU seconds, n = {step.n}")
    large = max(costs, key=lambda each: each.tokens)
    return {
        "recording_share_of_step": pocket.seconds / step.median,
        "trainer_thread_ms": 1000 * large.hand_over.median,
        "ns_per_token": large.ns_per_token,
        "bytes_per_token": large.bytes_per_token,
    }


def _threads(each: Cost) -> tuple[Seconds, ...]:
    return each.hand_over, each.own_row, each.writer


def verdicts(found: dict[str, float], console: Console) -> bool:
    """Print each goal and whether it was reached."""
    table = Table("measure", "value", "goal", "")
    goals = (
        ("recording_share_of_step", "recording, both threads, of a pocket step", SHARE_GOAL),
        ("trainer_thread_ms", "hand-over of the largest step, ms", TRAINER_GOAL_MS),
        ("ns_per_token", "both threads at the largest step, ns a token", TOKEN_GOAL_NS),
    )
    for name, meaning, goal in goals:
        verdict = "reached" if found[name] <= goal else "MISSED"
        table.add_row(meaning, f"{found[name]:.3g}", f"≤ {goal:g}", verdict)
    console.print(table)
    return all(found[name] <= goal for name, _, goal in goals)


def measure(repetitions: int, steps: int, console: Console) -> tuple[dict[str, float], dict[str, Any]]:
    """Time real steps, then recording at their size and at others."""
    torch.set_num_threads(1)
    config = load_config(method="cepo", flags={})
    problems = problem_source(config.problems).batch(1, config.rollouts.problems_per_step, config.seed)
    step, rollouts, length = real_steps(steps)
    sizes = ((rollouts, length), (64, 700), LARGE)
    costs = [cost(*size, list(problems), repetitions) for size in sizes]
    return report(step, costs[0], costs, console), machine()


def main() -> int:
    """Measure, print, and tell by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=11, help="recorded steps of each size")
    parser.add_argument("--steps", type=int, default=6, help="real steps, of which those that validate do not count")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    found, where = measure(arguments.repetitions, arguments.steps, console)
    reached = verdicts(found, console)
    if arguments.json:
        print(json.dumps(found | {"machine": where}))
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
