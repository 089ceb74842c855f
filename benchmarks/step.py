"""A training step of Qwen3-VL-2B's size on one GPU: `python -m benchmarks.step [--json]`.

The trainer that `core.run` builds, in bfloat16 with LoRA, on a model of the real one's shape with random weights: what
it says means nothing, what it costs is real. Every response has its full length. Seconds of a stage stand beside the
least FLOP it must do (`benchmarks.budget`) and beside the rate of a large matrix product measured in the same process.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from benchmarks.budget import AGAIN, KEPT, Method, stages
from benchmarks.budget import Work as Counts
from benchmarks.measure import machine
from benchmarks.miniature import IMAGE, MERGE, PATCH, VIDEO, VISION_END, VISION_START
from benchmarks.shape import QWEN3_VL_2B, Shape
from benchmarks.words import RIGHT, Parity, Work
from core.run import build_trainer
from core.schema import StepRow

MATRIX, PRODUCTS = 8192, 20
UPDATES = 2
STAGES = {
    "rollout": ("vision", "prefill", "decode"),
    "score": ("score",),
    "teacher": ("1 teacher", "2 teachers"),
    "update": ("update", "update, checkpointed"),
}
"""What the trainer's stopwatch calls a stage, and what the budget counts in it."""
HINT = len(RIGHT.split())


@dataclass(frozen=True)
class Stage:
    """One stage of a step."""

    name: str
    seconds: float
    tflop: float
    """The least it must do."""
    share: float
    """Of the measured rate of a matrix product, for that least work."""


@dataclass(frozen=True)
class Step:
    """One step of a method."""

    method: Method
    checkpointed: bool
    seconds: float
    stages: tuple[Stage, ...]
    peak_gb: float
    prompt_tokens: int
    response_tokens: int
    mixed_share: float
    """Groups with right and wrong rollouts; only they are updated and shown to teachers."""


def build_model(shape: Shape) -> Qwen3VLForConditionalGeneration:
    """A model of a real one's shape, random, in bfloat16 on the GPU."""
    half = shape.head_size // 2
    third = half * 5 // 16
    every = shape.vision_layers // (shape.deepstack + 1)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_value_heads,
            "head_dim": shape.head_size,
            "max_position_embeddings": 262_144,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_interleaved": True,
                "mrope_section": [half - 2 * third, third, third],
            },
        },
        vision_config={
            "depth": shape.vision_layers,
            "hidden_size": shape.vision_hidden,
            "intermediate_size": shape.vision_feed_forward,
            "num_heads": shape.vision_hidden // 64,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": shape.hidden,
            "deepstack_visual_indexes": [every * (i + 1) - 1 for i in range(shape.deepstack)],
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
    with torch.device("cuda"), torch.random.fork_rng():
        torch.random.manual_seed(0)
        return Qwen3VLForConditionalGeneration(config).bfloat16()


def matrix_rate() -> float:
    """FLOP a second of a large bfloat16 matrix product, on random data."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        torch.mm(a, b)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(PRODUCTS):
        torch.mm(a, b)
    torch.cuda.synchronize()
    return 2 * MATRIX**3 * PRODUCTS / (time.perf_counter() - started)


def measured(row: StepRow, shape: Shape, counts: Counts, method: Method, passes: int, rate: float) -> tuple[Stage, ...]:
    """A step's stages beside what they must do at least."""
    least = {stage.name: stage.least for stage in stages(shape, counts, method, passes)}
    found = []
    for name, parts in STAGES.items():
        seconds = getattr(row, f"seconds_{name}")
        flop = sum(least.get(part, 0.0) for part in parts)
        found.append(Stage(name, seconds, flop / 1e12, flop / seconds / rate if flop else 0.0))
    return tuple(found)


def run(
    shape: Shape, work: Work, folder: Path, method: Method, checkpointed: bool, steps: int, rate: float
) -> list[Step]:
    """Steps of a method after one that does not count."""
    config = work.config(folder, method)
    model = replace(config.model, device="cuda", dtype="bfloat16", gradient_checkpointing=checkpointed)
    optimizer = replace(config.optimizer, updates_per_step=UPDATES)
    trainer = build_trainer(replace(config, model=model, optimizer=optimizer), Parity())
    problems = trainer.problems.batch(1, 1, work.seed)
    (prompt,) = trainer.encode(problems, trainer.policy.look([p.images for p in problems]))
    counts = Counts(
        groups=work.problems,
        group_size=work.group_size,
        prompt=len(prompt.token_ids),
        image=work.image_tokens,
        hint=HINT,
        response=work.response_tokens,
        updates=UPDATES,
        mixed=1.0,
    )
    found = []
    for number in range(1, steps + 2):
        torch.cuda.reset_peak_memory_stats()
        row = trainer.step(number).step
        if number > 1:
            parts = measured(row, shape, counts, method, AGAIN if checkpointed else KEPT, rate)
            peak = torch.cuda.max_memory_allocated() / 1e9
            found.append(
                Step(
                    method,
                    checkpointed,
                    row.seconds_total,
                    parts,
                    peak,
                    counts.prompt,
                    counts.response,
                    row.mixed_share,
                )
            )
    del trainer
    gc.collect()
    torch.cuda.empty_cache()
    return found


def show(found: Sequence[Step], rate: float, console: Console) -> None:
    """Print a row a step."""
    console.print(
        f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s in a bfloat16 product of {MATRIX} x {MATRIX}"
    )
    table = Table("method", "update", "prompt + response", "mixed", "step, s", *STAGES, "peak, GB")
    for step in found:
        cells = [f"{s.seconds:.2f} s" + (f", {s.share:.0%}" if s.tflop else "") for s in step.stages]
        kept = "checkpointed" if step.checkpointed else "activations kept"
        lengths = f"{step.prompt_tokens} + {step.response_tokens}"
        numbers = f"{step.mixed_share:.0%}", f"{step.seconds:.1f}"
        table.add_row(step.method, kept, lengths, *numbers, *cells, f"{step.peak_gb:.1f}")
    console.print(table)
    console.print(
        "%: the least FLOP of the stage at that rate, over its seconds. Groups that are not mixed are skipped."
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--responses", type=int, nargs="+", default=[700], help="tokens of every response")
    parser.add_argument("--methods", nargs="+", default=["grpo", "cepo"], choices=["grpo", "rlsd", "cepo"])
    parser.add_argument("--checkpointed", action="store_true", help="compute activations again in the backward pass")
    parser.add_argument("--steps", type=int, default=2, help="of each method, after one that does not count")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU, expected one with some 80 GB; without one see benchmarks.trainer")
    console, found, rate = Console(stderr=given.json, width=160), [], matrix_rate()
    with tempfile.TemporaryDirectory() as temporary:
        folder, size = Path(temporary), replace(Work().size, vocabulary=QWEN3_VL_2B.vocabulary)
        work = Work(size=size, problems=given.problems, question_words=80)
        work.write(folder, given.steps + 1)
        model = build_model(QWEN3_VL_2B)
        model.save_pretrained(folder / "model")
        del model
        torch.cuda.empty_cache()
        for length in given.responses:
            for method in given.methods:
                some = replace(work, response_tokens=length)
                found += run(QWEN3_VL_2B, some, folder, method, given.checkpointed, given.steps, rate)
    show(found, rate, console)
    if given.json:
        told = machine() | {"gpu": torch.cuda.get_device_name(), "matrix_tflops": rate / 1e12}
        result: dict[str, Any] = {"machine": told, "steps": [asdict(step) for step in found]}
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
