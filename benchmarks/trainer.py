"""A training step beside one of TRL's GRPOTrainer: `python -m benchmarks.trainer [--json]`; needs the extra `bench`.

Both train the same miniature Qwen3-VL from the same weights on the same questions, in processes that take turns. Ours
is the trainer that `core.run` builds; GRPO, RLSD and CEPO step in turns in one process, at λ = 0.5 throughout, so that
each of their steps is an active one. A step in which some group is all right or all wrong counts for nobody.
"""

import argparse
import dataclasses
import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Seconds, machine
from benchmarks.words import WARM_UP, Meter, Parity, StepCost, Work, stopwatches_count_cpu
from core.errors import InputError
from core.run import build_trainer

ROOT = Path(__file__).parents[1]
METHODS = ("grpo", "rlsd", "cepo")
SIDES = {
    "trl": "TRL, GRPO",
    "trl_compact": "TRL, GRPO, head on responses only",
    "grpo": "Credence, GRPO",
    "rlsd": "Credence, RLSD",
    "cepo": "Credence, CEPO",
}
STAGES = ("rollout", "forward", "backward", "optimizer", "teachers")
SPEED_UPS = {256: 5.0, 64: 3.0}
"""Goals by image tokens."""
CEPO_GOAL = 1.30
CAVEATS = (
    "Equal: model, weights, adapters, questions, pictures, 8 x 8 responses of exactly 64 tokens (all special tokens "
    "ruled out), temperature 1, float32, one thread, 8 rows a pass, one update a step, loss (token mean), clip "
    "range, AdamW, rate, gradient norm, reward (model-free), no reference model, no checkpointing. What each side "
    "samples differs. tests/test_benchmarks_trainer.py: on TRL's own samples loss and gradients are the same.",
    "Not equal: TRL samples with transformers' generate, Credence with its own engine; Credence encodes an image and a "
    "prompt once a group, TRL once a rollout, when sampling and again in the update.",
    "Off a GPU TRL's fused head has no Triton path and scores prompts too. The second row spares it that, as on a GPU.",
    "Both compute every token's entropy. Nothing is written to disk: Credence makes its run file's rows in the step; "
    "writing them is measured by `benchmarks.recorder`.",
)

Costs = Mapping[str, Sequence[StepCost]]
"""Steps by side."""


@dataclass(frozen=True)
class Ratio:
    """The median step of one side over another's, with the least and the most that their ranges allow."""

    name: str
    meaning: str
    value: float
    least: float
    most: float
    goal: str = ""
    is_kept: bool = True

    @classmethod
    def of(cls, name: str, meaning: str, over: Seconds, under: Seconds) -> "Ratio":
        """Without a goal yet."""
        ends = over.least / under.most, over.most / under.least
        return cls(name, meaning, over.median / under.median, *ends)

    def aiming(self, goal: str, is_kept: bool) -> "Ratio":
        """With a goal, and whether it is reached."""
        return dataclasses.replace(self, goal=goal, is_kept=is_kept)


def counted(steps: Sequence[StepCost]) -> list[StepCost]:
    """The steps in which every group was mixed: in any other, ours has less to do."""
    found = [step for step in steps if step.is_mixed]
    if not found:
        raise InputError(f"{len(steps)} steps, none with mixed groups alone; expected at least one; raise --steps")
    return found


def seconds(steps: Sequence[StepCost]) -> Seconds:
    """CPU seconds of the steps that count."""
    return Seconds.of([step.seconds for step in counted(steps)])


def ratios(found: Mapping[int, Costs]) -> list[Ratio]:
    """What the issue asks for, of every image size; the methods at the largest."""
    result = []
    for tokens, costs in found.items():
        took = {side: seconds(steps) for side, steps in costs.items()}
        speed_up = Ratio.of(
            f"step_over_trl_{tokens}", f"TRL over Credence, {tokens} image tokens", took["trl"], took["grpo"]
        )
        goal = SPEED_UPS.get(tokens)
        result.append(speed_up if goal is None else speed_up.aiming(f"≥ {goal:g}", speed_up.value >= goal))
        meaning = f"the same, TRL's head on responses only, {tokens}"
        result.append(Ratio.of(f"step_over_trl_compact_{tokens}", meaning, took["trl_compact"], took["grpo"]))
    took = {side: seconds(steps) for side, steps in found[max(found)].items()}
    cepo = Ratio.of("cepo_over_grpo_active", "CEPO over GRPO, active step", took["cepo"], took["grpo"])
    rlsd = Ratio.of("rlsd_over_grpo_active", "RLSD over GRPO, active step", took["rlsd"], took["grpo"])
    result.append(cepo.aiming(f"≤ {CEPO_GOAL:.2f}", cepo.value <= CEPO_GOAL))
    result.append(rlsd.aiming("< CEPO's", rlsd.value < cepo.value))
    return result


def measure_ours(work: Work, folder: Path, steps: int, warm_up: int) -> dict[str, list[StepCost]]:
    """The trainer of every method, in turns; steps after the warm-up."""
    verifier = Parity()
    trainers = {method: build_trainer(work.config(folder, method), verifier) for method in METHODS}
    found: dict[str, list[StepCost]] = {method: [] for method in METHODS}
    for step in range(1, warm_up + steps + 1):
        for method, trainer in trainers.items():
            meter = Meter()
            with ExitStack() as stack:
                stack.enter_context(meter.watching(trainer.policy.base.model.visual))
                stack.enter_context(stopwatches_count_cpu())
                gc.collect()
                meter.start()
                row = trainer.step(step).step
                # scoring has passes of its own or not: all that is no backward pass and no optimizer is forward
                forward = row.seconds_score + row.seconds_update - sum(meter.stages.values())
                stages = {"rollout": row.seconds_rollout, "forward": forward, "teachers": row.seconds_teacher}
                cost = meter.cost(stages, row.response_tokens_mean, row.mixed_share == 1)
            if step > warm_up:
                found[method].append(cost)
    return found


def measure(sizes: Sequence[int], rounds: int, steps: int, console: Console) -> dict[int, dict[str, list[StepCost]]]:
    """Every side's steps at every image size, from processes that take turns."""
    found: dict[int, dict[str, list[StepCost]]] = {tokens: {side: [] for side in SIDES} for tokens in sizes}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {tokens: Path(temporary) / str(tokens) for tokens in sizes}
        for tokens, folder in folders.items():
            folder.mkdir()
            Work(image_tokens=tokens).write(folder, WARM_UP + 2 * steps)
        for number in range(rounds):
            for tokens, folder in folders.items():
                for module in ("benchmarks.trainer", "benchmarks.peer"):
                    console.print(f"round {number + 1} of {rounds}, {tokens} image tokens, {module}")
                    for side, costs in _in_a_process(module, folder, tokens, steps).items():
                        found[tokens][side] += costs
    for costs in found.values():
        _check_work(costs)
    return found


def _in_a_process(module: str, folder: Path, tokens: int, steps: int) -> dict[str, list[StepCost]]:
    """What a side prints in a process of its own."""
    command = [sys.executable, "-m", module, "--worker", str(folder), "--image-tokens", str(tokens)]
    command += ["--steps", str(steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr[-3000:]}")
    printed = json.loads(done.stdout.splitlines()[-1])
    return {side: [StepCost(**cost) for cost in costs] for side, costs in printed.items()}


def _check_work(costs: Costs) -> None:
    lengths = {step.response_tokens for steps in costs.values() for step in steps}
    if lengths != {float(Work().response_tokens)}:
        raise RuntimeError(f"the sides did not do the same work: mean response lengths {sorted(lengths)}")


def show(found: Mapping[int, Costs], results: Sequence[Ratio], told: Mapping[str, Any], console: Console) -> None:
    """Print the tables and what to know before quoting them."""
    console.print(", ".join(f"{key} {value}" for key, value in told.items()))
    for tokens, costs in found.items():
        title = f"{tokens} image tokens, CPU seconds: a step's median and range, its stages' medians"
        table = Table("", "step", "steps", "left out", *STAGES, "rest", "images encoded", title=title)
        for side, steps in costs.items():
            kept, parts = counted(steps), stages(steps)
            numbers = [f"{parts[name]:.2f}" for name in (*STAGES, "rest")]
            encodes = f"{median(step.encodes for step in kept):g}"
            table.add_row(
                SIDES[side], str(seconds(steps)), str(len(kept)), str(len(steps) - len(kept)), *numbers, encodes
            )
        console.print(table)
    table = Table("ratio", "value", "range", "goal", "")
    for result in results:
        verdict = "" if not result.goal else "kept" if result.is_kept else "MISSED"
        spread = f"{result.least:.2f} to {result.most:.2f}"
        table.add_row(result.meaning, f"{result.value:.2f}", spread, result.goal, verdict)
    console.print(table)
    for caveat in CAVEATS:
        console.print(f"- {caveat}")


def stages(steps: Sequence[StepCost]) -> dict[str, float]:
    """Median CPU seconds of every stage, and of what belongs to none."""
    kept = counted(steps)
    parts = {name: median(step.stages.get(name, 0.0) for step in kept) for name in STAGES}
    return parts | {"rest": median(step.seconds - sum(step.stages.values()) for step in kept)}


def as_json(found: Mapping[int, Costs], results: Sequence[Ratio], told: Mapping[str, Any]) -> dict[str, Any]:
    """All that was measured."""
    sides = {
        str(tokens): {
            side: dataclasses.asdict(seconds(steps))
            | {"left_out": len(steps) - len(counted(steps)), "stages": stages(steps)}
            | {"encodes": median(step.encodes for step in counted(steps))}
            for side, steps in costs.items()
        }
        for tokens, costs in found.items()
    }
    largest = sides[str(max(found))]
    return {
        "machine": dict(told),
        **{result.name: round(result.value, 3) for result in results},
        "spreads": {result.name: [round(result.least, 3), round(result.most, 3)] for result in results},
        "goals": {result.name: result.goal for result in results if result.goal},
        "encodes_per_step": {"trl": largest["trl"]["encodes"], "ours": largest["grpo"]["encodes"]},
        "n": min(side["n"] for by_side in sides.values() for side in by_side.values()),
        "sides": sides,
    }


def main() -> int:
    """Measure, print, and tell by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-tokens", type=int, nargs="+", default=[64, 256], help="square numbers")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")
    parser.add_argument("--steps", type=int, default=3, help="steps of each side in a process, after the warm-up")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.worker is not None:
        (tokens,) = given.image_tokens
        found = measure_ours(Work(image_tokens=tokens), given.worker, given.steps, WARM_UP)
        print(json.dumps({method: [dataclasses.asdict(cost) for cost in costs] for method, costs in found.items()}))
        return 0
    if importlib.util.find_spec("trl") is None:
        parser.error("trl is not installed, expected 1.16; run pip install -e '.[bench]'")
    console = Console(stderr=given.json)
    told = machine() | {"trl": version("trl")}
    found = measure(given.image_tokens, given.rounds, given.steps, console)
    results = ratios(found)
    show(found, results, told, console)
    if given.json:
        print(json.dumps(as_json(found, results, told)))
    return int(not all(result.is_kept for result in results))


if __name__ == "__main__":
    sys.exit(main())
