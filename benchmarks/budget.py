"""What a step must cost at least, and what EasyR1 spends: `python -m benchmarks.budget [--model 2b] [--json]`.

Counted, not measured: a multiply-add is 2 FLOP, LoRA's own products (1 %), norms and activations are left out. "As
EasyR1" is the released code of the paper: image and prompt once a rollout and pass, logits of every position, a pass
for the old log-probabilities, activations computed again, teachers without image over responses padded to the limit.
"Least" is each image and prompt once a group, the head at the responses alone, no padding. Seconds come from assumed
shares of a GPU's peak (`Gpu`) and stand for nothing that was measured.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Literal

from rich.console import Console
from rich.table import Table

from benchmarks.shape import LORA_RANK, MODELS, Shape, read_shape
from core.errors import InputError

ACTIVE_STEPS, STEPS = 25, 50
"""Of the paper's runs: steps with λ > 0, and all."""
CEPO_GOAL = 0.07
"""What CEPO may cost over GRPO in a whole run."""
Method = Literal["grpo", "rlsd", "cepo"]
TEACHERS: dict[Method, int] = {"grpo": 0, "rlsd": 1, "cepo": 2}
KEPT, AGAIN = 2, 3
"""Passes of an update: forward and backward to the activations; and the forward again where they were not kept."""


@dataclass(frozen=True)
class Work:
    """One step: counts, and mean lengths in tokens."""

    groups: int = 32
    group_size: int = 8
    prompt: int = 350
    """With the image."""
    image: int = 256
    hint: int = 12
    response: int = 700
    longest: int = 2048
    """The limit that EasyR1 pads its teachers' responses to."""
    updates: int = 2
    mixed: float = 0.6
    """Share of groups whose rewards differ; in the others A = 0 and nothing is to be learnt."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in asdict(self).items():
            if value < 1 and name not in ("image", "hint", "mixed"):
                raise InputError(f"{name}: expected at least 1, got {value}")
        if not 0 <= self.mixed <= 1:
            raise InputError(f"mixed: expected a share from 0 to 1, got {self.mixed}")
        if not 0 <= self.image <= self.prompt or self.hint < 0:
            raise InputError(
                f"image, hint: expected 0 to prompt ({self.prompt}) and 0 on, got {self.image}, {self.hint}"
            )

    @property
    def rollouts(self) -> int:
        """All groups'."""
        return self.groups * self.group_size


@dataclass(frozen=True)
class Stage:
    """FLOP of one stage of a step, over all groups."""

    name: str
    easyr1: float
    least: float

    @property
    def redundant(self) -> float:
        """Share of EasyR1's that need not be."""
        return 1 - self.least / self.easyr1 if self.easyr1 else 0.0


def responses(shape: Shape, work: Work, hint: int = 0) -> float:
    """FLOP to read and predict all responses once, below prompts that were read already."""
    return work.rollouts * (shape.read(work.response, work.prompt + hint) + shape.predict(work.response))


def prompts(shape: Shape, work: Work) -> float:
    """FLOP to read each prompt once."""
    return work.groups * shape.read(work.prompt)


def teachers(shape: Shape, work: Work, count: int) -> Stage:
    """T⁺, or T⁺ and T⁻: at least one row a group, with the prompt once, each hint once, and the responses below."""
    padded = work.prompt + work.hint + work.longest
    as_easyr1 = count * work.rollouts * (shape.read(padded) + shape.predict(padded))
    hints = work.groups * shape.read(work.hint, work.prompt)
    least = prompts(shape, work) + count * (hints + responses(shape, work, work.hint)) if count else 0.0
    return Stage(f"{count} teacher{'s' if count > 1 else ''}", as_easyr1, least)


def update(shape: Shape, work: Work, passes: int) -> Stage:
    """The updates of a step; base weights are frozen, so the backward pass costs as much as the forward one."""
    length = work.prompt + work.response
    as_easyr1 = work.rollouts * (AGAIN * shape.read(length) + 2 * shape.predict(length))
    heads = work.rollouts * 2 * shape.predict(work.response)
    body = prompts(shape, work) + work.rollouts * shape.read(work.response, work.prompt)
    return Stage("update" if passes == KEPT else "update, checkpointed", as_easyr1, passes * body + heads)


def score(shape: Shape, work: Work) -> Stage:
    """The old log-probabilities: none for the first update, whose own are the old ones."""
    length = work.prompt + work.response
    as_easyr1 = work.rollouts * (shape.read(length) + shape.predict(length))
    later = 1 - 1 / work.updates
    return Stage("score", as_easyr1, later * (prompts(shape, work) + responses(shape, work)))


def stages(shape: Shape, work: Work, method: Method = "grpo", passes: int = KEPT) -> tuple[Stage, ...]:
    """A step of a method in which every group counts; for a step, sum them.

    EasyR1 encodes an image once a group to sample and once a rollout to score, to update and for RLSD's teacher; CEPO's
    teachers see none there.
    """
    image, count = shape.encode(work.image), TEACHERS[method]
    encodes = work.groups + work.rollouts * (3 if method == "rlsd" else 2)
    found = (
        Stage("vision", encodes * image, work.groups * image),
        Stage("prefill", prompts(shape, work), prompts(shape, work)),
        Stage("decode", responses(shape, work), responses(shape, work)),
        score(shape, work),
        update(shape, work, passes),
    )
    return (*found, teachers(shape, work, count)) if count else found


def whole(found: tuple[Stage, ...]) -> Stage:
    """All stages together."""
    return Stage("step", sum(s.easyr1 for s in found), sum(s.least for s in found))


@dataclass(frozen=True)
class Gpu:
    """One H100, and the shares of its peaks that a good trainer is assumed to reach."""

    flops: float = 989e12
    bytes_a_second: float = 3.35e12
    forward_share: float = 0.40
    update_share: float = 0.35
    memory_share: float = 0.60
    token_seconds: float = 2e-3
    """Added to every token of the decoding: launches, sampling."""


H100 = Gpu()


def decode_seconds(shape: Shape, work: Work, gpu: Gpu) -> float:
    """Seconds to sample all rollouts at once: weights, and keys and values of those still going, read every token.

    Lengths lie evenly between 0 and twice their mean, cut at the limit.
    """
    weights, read = 2 * (shape.body + shape.head), 0.0
    tokens = min(2 * work.response, work.longest)
    for t in range(tokens):
        going = work.rollouts * (1 - t / (2 * work.response))
        read += weights + going * shape.key_value_bytes * (work.prompt + t)
    return read / (gpu.memory_share * gpu.bytes_a_second) + tokens * gpu.token_seconds


@dataclass(frozen=True)
class StepSeconds:
    """Modelled seconds of a step on one GPU."""

    decode: float
    read: float
    """Vision and prefill."""
    score: float
    update: float
    teachers: float

    @property
    def total(self) -> float:
        """Of the step."""
        return self.decode + self.read + self.score + self.update + self.teachers


def least_seconds(
    shape: Shape, work: Work, method: Method = "grpo", passes: int = KEPT, gpu: Gpu = H100
) -> StepSeconds:
    """A step at its least; groups with A = 0 are sampled and no more."""
    forward = gpu.forward_share * gpu.flops
    mixed = {s.name: work.mixed * s.least for s in stages(shape, work, method, passes)}
    return StepSeconds(
        decode=decode_seconds(shape, work, gpu),
        read=(work.groups * shape.encode(work.image) + prompts(shape, work)) / forward,
        score=mixed["score"] / forward,
        update=work.mixed * update(shape, work, passes).least / (gpu.update_share * gpu.flops),
        teachers=work.mixed * teachers(shape, work, TEACHERS[method]).least / forward,
    )


def run_overhead(shape: Shape, work: Work, method: Method, passes: int = KEPT, gpu: Gpu = H100) -> float:
    """What a method's whole run costs over GRPO's, as a share: its teachers are asked while λ > 0 alone."""
    step = least_seconds(shape, work, method, passes, gpu)
    return ACTIVE_STEPS / STEPS * step.teachers / (step.total - step.teachers)


def memory(shape: Shape, work: Work) -> dict[str, float]:
    """Bytes that decide whether a step fits, and how long it samples."""
    length, padded = work.prompt + work.response, work.prompt + work.hint + work.longest
    return {
        "weights, bfloat16": 2 * (shape.body + shape.head + shape.vision_body + shape.mergers),
        f"LoRA rank {LORA_RANK}, bfloat16": 2 * shape.lora(),
        "keys and values of a token": shape.key_value_bytes,
        "keys and values of all rollouts": work.rollouts * length * shape.key_value_bytes,
        "features of an image": 2 * work.image * shape.hidden * (1 + shape.deepstack),
        "EasyR1: logits of 8 rows, float32": 4 * 8 * length * shape.vocabulary,
        "EasyR1: logits of 32 teacher rows, float32": 4 * 32 * padded * shape.vocabulary,
        "least: logits of 256 positions, float32": 4 * 256 * shape.vocabulary,
    }


def show(shape: Shape, work: Work, console: Console) -> None:
    """Print the tables."""
    counts = {"body": shape.body, "head": shape.head, "vision": shape.vision_body, "mergers": shape.mergers}
    weights = ", ".join(f"{name} {n / 1e9:.3f} B" for name, n in counts.items())
    console.print(f"{shape.name}: {weights}, LoRA {shape.lora() / 1e6:.1f} M")
    console.print(", ".join(f"{name} {value}" for name, value in asdict(work).items()))
    table = Table("stage", "EasyR1, TFLOP", "least, TFLOP", "redundant", title="One step, every group counts")
    rows = [*stages(shape, work), update(shape, work, AGAIN), whole(stages(shape, work))]
    rows += [replace(teachers(shape, work, n), name=f"{m.upper()}: teachers") for m, n in TEACHERS.items() if n]
    for s in rows:
        table.add_row(s.name, f"{s.easyr1 / 1e12:,.0f}", f"{s.least / 1e12:,.0f}", f"{s.redundant:.0%}")
    console.print(table)
    table = Table("", "bytes", title="Memory")
    for name, size in memory(shape, work).items():
        table.add_row(name, f"{size / 1e9:,.3g} GB" if size >= 1e8 else f"{size / 1024:,.0f} KiB")
    console.print(table)
    title = f"Modelled on one H100, {work.mixed:.0%} of groups mixed, teachers in {ACTIVE_STEPS} of {STEPS} steps"
    table = Table("response", "update", "GRPO step, s", "RLSD run", "CEPO run", "CEPO, active step", title=title)
    for length in sorted({300, 700, 1000, work.response}):
        for passes in (KEPT, AGAIN):
            table.add_row(*_overhead_row(shape, replace(work, response=length), passes))
    console.print(table)


def _overhead_row(shape: Shape, work: Work, passes: int) -> tuple[str, ...]:
    grpo, cepo = (least_seconds(shape, work, method, passes).total for method in ("grpo", "cepo"))
    runs = (f"+{run_overhead(shape, work, method, passes):.1%}" for method in ("rlsd", "cepo"))
    kept = "activations kept" if passes == KEPT else "checkpointed"
    return (f"{work.response}", kept, f"{grpo:.1f}", *runs, f"+{cepo / grpo - 1:.1%}")


def as_json(shape: Shape, work: Work) -> dict[str, object]:
    """What is printed, as numbers; FLOP, bytes, seconds and shares."""
    found = {method: stages(shape, work, method) for method in TEACHERS}
    return {
        "cepo_over_grpo_run": round(run_overhead(shape, work, "cepo"), 4),
        "rlsd_over_grpo_run": round(run_overhead(shape, work, "rlsd"), 4),
        "goals": {"cepo_over_grpo_run": CEPO_GOAL},
        "model": asdict(shape),
        "work": asdict(work),
        "gpu": asdict(H100),
        "stages": {m: [asdict(s) | {"redundant": s.redundant} for s in (*f, whole(f))] for m, f in found.items()},
        "update_checkpointed": asdict(update(shape, work, AGAIN)),
        "seconds": {method: asdict(least_seconds(shape, work, method)) for method in TEACHERS},
        "bytes": memory(shape, work),
    }


def main() -> int:
    """Count, print, and tell by the exit status whether CEPO stays within its share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="2b", help="2b, 4b, or a folder with a config.json")
    for name, value in asdict(Work()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"default {value}")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = vars(parser.parse_args())
    model, wants_json = arguments.pop("model"), arguments.pop("json")
    console = Console(stderr=wants_json)
    try:
        work, shape = Work(**arguments), MODELS[model] if model in MODELS else read_shape(model)
    except InputError as error:
        parser.error(str(error))
    show(shape, work, console)
    overhead = run_overhead(shape, work, "cepo")
    verdict = "kept" if overhead <= CEPO_GOAL else "MISSED"
    console.print(f"CEPO over GRPO in a run: +{overhead:.1%}, goal ≤ +{CEPO_GOAL:.0%}: {verdict}")
    if wants_json:
        print(json.dumps(as_json(shape, work)))
    return int(overhead > CEPO_GOAL)


if __name__ == "__main__":
    sys.exit(main())
