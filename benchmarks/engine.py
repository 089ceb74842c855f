"""How fast the local engine samples: `python -m benchmarks.engine [--repetitions N] [--only CASE] [--json]`.

Response tokens per CPU second, against transformers' `generate` with its default key-value cache (a static one was no
faster here): on the pocket model, 16 prompts x 8 responses of at most 96 tokens, and on the miniature Qwen3-VL, 8 x 8
responses of exactly 64 tokens under 256 image tokens, its weights alone and with LoRA adapters. Sampled at temperature
1 from the whole distribution; float32, one thread. Only tokens up to and with the end token count.

Held equal: weights, prompts, pixels, special tokens that are ruled out, limits, dtype, threads; each side encodes each
image once at every call. Not equal: the random draws, so that lengths differ a little; `generate` takes the prompts
padded on the left, prefills one for every response, which its interface does not avoid, carries finished rows to the
end and records no log-probabilities; the engine records those and the text. "further tokens" takes off what a call with
a limit of one token costs: prompts and images are out of it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks import miniature
from benchmarks.measure import Seconds, interleaved, machine
from benchmarks.miniature import Question
from benchmarks.ways import adapted
from benchmarks.words import build_tokenizer
from core.config import ModelConfig
from core.engines.local_engine import LocalEngine
from core.pocket import pocket_problem
from core.policy import Policy, load_pretrained
from core.prompts import student_prompt

CASES = ("pocket", "miniature", "miniature_lora")
GOAL = 3.0
"""Of the pocket model: times more tokens per CPU second."""


@dataclass(frozen=True)
class Work:
    """What is sampled, and from which model; both sides have one of their own."""

    policy: Policy
    model: Any
    """`generate`'s."""
    questions: tuple[Question, ...]
    group_size: int
    limit: int

    @torch.no_grad()
    def by_engine(self, seed: int, limit: int | None = None) -> list[int]:
        """Tokens of every response of the local engine."""
        prompts = [miniature.encode(self.policy, q, miniature.look(self.policy, q)) for q in self.questions]
        groups = LocalEngine(self.policy).rollouts(prompts, self.group_size, limit or self.limit, 1.0, seed)
        return [len(rollout.token_ids) for group in groups for rollout in group]

    def by_generate(self, seed: int, limit: int | None = None) -> list[int]:
        """Tokens of every response of transformers' `generate`."""
        end, prompts = self.policy.end_token_id, [q.token_ids for q in self.questions]
        token_ids = _left_padded(prompts)
        with torch.random.fork_rng():
            torch.random.manual_seed(seed)
            output = self.model.generate(
                input_ids=token_ids,
                attention_mask=_left_padded([torch.ones_like(ids) for ids in prompts]),
                mm_token_type_ids=_left_padded([q.is_image[0] for q in self.questions]),
                pixel_values=torch.cat([q.pixels for q in self.questions]),
                image_grid_thw=torch.cat([q.grid for q in self.questions]),
                num_return_sequences=self.group_size,
                max_new_tokens=limit or self.limit,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                suppress_tokens=self.policy.unsampled_token_ids,
                eos_token_id=end,
                pad_token_id=0,
            )
        return [tokens_until(row, end) for row in output[:, token_ids.shape[1] :]]


def _left_padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True, padding_side="left")


def tokens_until(token_ids: Tensor, end: int) -> int:
    """Tokens up to and with the first end token, or all of them."""
    ends = (token_ids == end).nonzero()
    return int(ends[0]) + 1 if len(ends) else len(token_ids)


def pocket(problems: int = 16, group_size: int = 8, limit: int = 96) -> Work:
    """Pocket Geo3k and its base."""
    config = ModelConfig(device="cpu")  # CPU seconds are what is compared, also where there is a GPU
    policy = Policy.load(config)
    model = load_pretrained(config.resolved_path, torch.float32)[0].eval()
    asked = []
    for problem in (pocket_problem("train", i, 0) for i in range(problems)):
        pixels = policy.image_processor(images=list(problem.images), return_tensors="pt")
        prompt = policy.encode(student_prompt(problem), policy.look([problem.images])[0])
        asked.append(Question(prompt.token_ids, pixels["image_grid_thw"], pixels["pixel_values"]))
    return Work(policy, model, tuple(asked), group_size, limit)


def small(
    adapters: bool,
    size: miniature.Size | None = None,
    image_tokens: int = 256,
    problems: int = 8,
    group_size: int = 8,
    limit: int = 64,
) -> Work:
    """The miniature; no response ends before its limit."""
    size = size or miniature.Size()
    build: Callable[[], Any] = partial(adapted, size.vocabulary) if adapters else partial(miniature.build_model, size)
    policy = Policy(build(), build_tokenizer(size.vocabulary, ends=False), image_processor=object())
    asked = tuple(miniature.question(size, image_tokens, 44, seed) for seed in range(problems))
    return Work(policy, build().eval(), asked, group_size, limit)


def build(case: str) -> Work:
    """A case by its name."""
    return pocket() if case == "pocket" else small(adapters=case == "miniature_lora")


@dataclass(frozen=True)
class Side:
    """What one side needed and made, in every repetition."""

    seconds: Seconds
    first: Seconds
    """CPU seconds of a call with a limit of one token."""
    tokens: int
    """Of one call; its seed is always the same."""
    rows: int

    @property
    def rate(self) -> float:
        """Tokens per CPU second."""
        return self.tokens / self.seconds.median

    @property
    def further_rate(self) -> float:
        """The same after every response's first token."""
        return (self.tokens - self.rows) / (self.seconds.median - self.first.median)


@dataclass(frozen=True)
class Comparison:
    """Both sides at one case."""

    case: str
    engine: Side
    generate: Side

    @property
    def ratio(self) -> float:
        """Times more tokens per CPU second by the engine."""
        return self.engine.rate / self.generate.rate

    @property
    def worst_and_best(self) -> tuple[float, float]:
        """The ratio from the slowest call of one side and the fastest of the other, and the other way round."""
        per_token = (
            self.generate.seconds.least / self.generate.tokens,
            self.generate.seconds.most / self.generate.tokens,
        )
        ours = self.engine.seconds.most / self.engine.tokens, self.engine.seconds.least / self.engine.tokens
        return per_token[0] / ours[0], per_token[1] / ours[1]

    @property
    def further_ratio(self) -> float:
        """The ratio after every response's first token."""
        return self.engine.further_rate / self.generate.further_rate

    @property
    def name(self) -> str:
        """Of the ratio."""
        return "engine_over_generate" + ("" if self.case == "pocket" else f"_{self.case}")

    @property
    def is_kept(self) -> bool:
        """The goal is reached; only the pocket model has one."""
        return self.case != "pocket" or self.ratio >= GOAL


def compare(case: str, work: Work, repetitions: int) -> Comparison:
    """Sample by both sides in turns."""
    sides = {"engine": work.by_engine, "generate": work.by_generate}
    lengths = {name: sample(0) for name, sample in sides.items()}
    calls: dict[str, Callable[[], object]] = {name: partial(sample, 0) for name, sample in sides.items()}
    calls |= {f"{name}, first": partial(sample, 0, 1) for name, sample in sides.items()}
    found = interleaved(calls, repetitions, warm_up=0)  # counting the tokens was the warm-up
    engine, generate = (
        Side(found[name], found[f"{name}, first"], sum(lengths[name]), len(lengths[name])) for name in sides
    )
    return Comparison(case, engine, generate)


def show(comparisons: Sequence[Comparison], facts: dict[str, Any], console: Console) -> None:
    """Print the table."""
    title = ", ".join(f"{key} {value}" for key, value in facts.items())
    table = Table(
        "model", "by", "tokens", "CPU s (range)", "of it first token", "tokens / CPU s", "further", title=title
    )
    for found in comparisons:
        for name, side in (("local engine", found.engine), ("generate", found.generate)):
            cells = f"{side.tokens:,}", str(side.seconds), str(side.first), f"{side.rate:,.0f}"
            table.add_row(found.case, name, *cells, f"{side.further_rate:,.0f}")
    console.print(table)
    table = Table("figure", "value (range)", "further tokens", "goal", "")
    for found in comparisons:
        has_goal = found.case == "pocket"
        worst, best = found.worst_and_best
        verdict = ("kept" if found.is_kept else "MISSED") if has_goal else ""
        value = f"{found.ratio:.2f} ({worst:.2f} to {best:.2f})"
        table.add_row(found.name, value, f"{found.further_ratio:.2f}", f"≥ {GOAL:g}" if has_goal else "", verdict)
    console.print(table)


def as_json(comparisons: Sequence[Comparison], facts: dict[str, Any]) -> dict[str, Any]:
    """The figures by name, then all that was measured."""
    return {
        **{found.name: round(found.ratio, 3) for found in comparisons},
        **{f"{found.name}_further_tokens": round(found.further_ratio, 3) for found in comparisons},
        "goals": {"engine_over_generate": GOAL},
        "comparisons": [asdict(found) for found in comparisons],
        "machine": facts,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and tell by the exit status whether the goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5, help="of every measured call")
    parser.add_argument("--only", choices=CASES, help="one of the models")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args(argv)
    if arguments.repetitions < 1:
        parser.error(f"--repetitions: expected at least 1, got {arguments.repetitions}")
    torch.set_num_threads(1)
    console = Console(stderr=arguments.json)
    comparisons = []
    for case in [arguments.only] if arguments.only else CASES:
        console.print(case)
        comparisons.append(compare(case, build(case), arguments.repetitions))
    facts = machine()
    show(comparisons, facts, console)
    if arguments.json:
        print(json.dumps(as_json(comparisons, facts)))
    return int(not all(found.is_kept for found in comparisons))


if __name__ == "__main__":
    sys.exit(main())
