"""One piece of work for two trainers, and a meter for what a step of it costs: what `benchmarks.trainer` holds equal.

A miniature on disk, questions about line drawings, a reward of the token ids alone. Text is made of words `w10`, `w11`,
..., one token each, that mean nothing; all other words read as the unknown one.
"""

import io
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessorPil

from benchmarks.miniature import END, FIRST_WORD, MERGE, PATCH, Size, build_model
from core.config import (
    ModelConfig,
    OptimizerConfig,
    ProblemsConfig,
    RewardConfig,
    RolloutConfig,
    SurrogateConfig,
    TrainConfig,
    ValidationConfig,
)
from core.methods import CEPO, GRPO, RLSD
from core.rollouts import Verdict
from core.verifier import Verifier

SPELLING = (
    "<|pad|>", "<|unknown|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
    "<|im_start|>", "user", "assistant",
)  # fmt: skip
"""How the ids below the first word read, in the order of `miniature`; no response may hold any of them."""

TEMPLATE = r"""
{%- for message in messages -%}
<|im_start|> {{ message.role }} {% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|> <|image_pad|> <|vision_end|> {% else -%}{{ part.text }} {% endif -%}
{%- endfor -%}
<|im_end|> {% endfor -%}
{%- if add_generation_prompt -%}<|im_start|> assistant{%- endif -%}"""

WARM_UP = 1
"""Steps of each process that do not count."""

RIGHT, WRONG = "w10 w11 w12", "w13 w14 w15"
"""What the teachers are told: three tokens."""


@dataclass(frozen=True)
class Work:
    """What a step does, and to which model."""

    size: Size = field(default_factory=Size)
    image_tokens: int = 256
    problems: int = 8
    group_size: int = 8
    response_tokens: int = 64
    question_words: int = 30
    learning_rate: float = 1e-5
    max_grad_norm: float = 1.0
    advantage_floor: float = 1e-4
    """Added to σ of a group; TRL has this written in."""
    epsilon_low: float = 0.2
    epsilon_high: float = 0.28
    lora_rank: int = 16
    lora_alpha: int = 32
    seed: int = 0

    @property
    def rows(self) -> int:
        """Rollouts of a step."""
        return self.problems * self.group_size

    def config(self, folder: Path, method: str) -> TrainConfig:
        """What the trainer is told; λ stays at 0.5, so that every step is an active one."""
        rate, long = self.learning_rate, 10**6
        methods: dict[str, GRPO | RLSD | CEPO] = {
            "grpo": GRPO(learning_rate=rate),
            "rlsd": RLSD(learning_rate=rate, lambda_0=0.5, schedule="constant"),
            "cepo": CEPO(learning_rate=rate, lambda_0=0.5, schedule="constant"),
        }
        return TrainConfig(
            method=methods[method],
            model=ModelConfig(
                path=str(folder / "model"),
                tuning="lora",
                lora_rank=self.lora_rank,
                lora_alpha=self.lora_alpha,
                device="cpu",
            ),
            problems=ProblemsConfig(source=str(folder / "train.parquet")),
            rollouts=RolloutConfig(
                problems_per_step=self.problems, group_size=self.group_size, max_new_tokens=self.response_tokens
            ),
            reward=RewardConfig(floor=self.advantage_floor),
            surrogate=SurrogateConfig(epsilon_low=self.epsilon_low, epsilon_high=self.epsilon_high, dual_clip=None),
            optimizer=OptimizerConfig(
                warmup_steps=0, schedule="constant", max_grad_norm=self.max_grad_norm, updates_per_step=1
            ),
            validation=ValidationConfig(every=long),  # never
            steps=long,
            seed=self.seed,
        )

    def write(self, folder: Path, steps: int) -> None:
        """Put the model and the questions of so many steps where both trainers load them from."""
        model = build_model(self.size, self.seed)
        model.save_pretrained(folder / "model")
        build_tokenizer(self.size.vocabulary, ends=False).save_pretrained(folder / "model")
        build_image_processor().save_pretrained(folder / "model")
        rng = random.Random(self.seed)
        rows = [self._row(rng) for _ in range(steps * self.problems)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")

    def _row(self, rng: random.Random) -> dict[str, object]:
        words = (f"w{rng.randrange(FIRST_WORD, self.size.vocabulary)}" for _ in range(self.question_words))
        side = PATCH * MERGE * round(self.image_tokens**0.5)
        drawing = Image.new("RGB", (side, side), "white")
        pen = ImageDraw.Draw(drawing)
        for _ in range(8):
            pen.line([rng.randrange(side) for _ in range(4)], fill="black", width=2)
        png = io.BytesIO()
        drawing.save(png, "PNG")
        return {"problem": " ".join(words), "answer": RIGHT, "images": [{"bytes": png.getvalue(), "path": None}]}


def build_tokenizer(vocabulary: int, *, ends: bool) -> PreTrainedTokenizerFast:
    """One token a word.

    Args:
        vocabulary: rows of the model's head.
        ends: whether `<|im_end|>` ends a response, as TRL expects. Otherwise a token beyond the head does: it can never
            be sampled, and all of `SPELLING` is ruled out like any special token, so that every response has its full
            length.
    """
    words = [*SPELLING, *(f"w{i}" for i in range(FIRST_WORD, vocabulary))]
    end = SPELLING[END] if ends else "<|never|>"
    ids = {word: i for i, word in enumerate(words if ends else [*words, end])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPELLING[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPELLING[0],
        unk_token=SPELLING[1],
        eos_token=end,
        additional_special_tokens=list(SPELLING[2:]),
        padding_side="left",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_image_processor() -> Qwen2VLImageProcessorPil:
    """Images of whole patches stay as they are."""
    limits = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": 4096 * 1024}
    return Qwen2VLImageProcessorPil(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, size=limits)


def reward_of(token_ids: list[int]) -> float:
    """1 for about half of all responses, whatever the model: no verifier's cost in the comparison."""
    return float(sum(token_ids) % 2)


class Parity(Verifier):
    """Judges by `reward_of`; what is wrong gave the wrong answer, so that a mixed group offers both hints."""

    def verify(self, text: str, answer: str) -> Verdict:
        """Judge one response, from the words it reads as."""
        is_correct = bool(reward_of([int(word[1:]) for word in text.split()]))
        return Verdict(is_correct, True, answer if is_correct else WRONG)

    def same_answer(self, a: str, b: str) -> bool:
        """Letter by letter."""
        return a == b

    def near(self, a: str, b: str, rel: float = 0.01) -> bool:
        """Words are no numbers."""
        return False


@dataclass(frozen=True)
class StepCost:
    """What one step took."""

    seconds: float
    """CPU seconds, all in all."""
    stages: dict[str, float]
    """CPU seconds of `rollout`, `forward`, `backward`, `optimizer` and `teachers`; the rest is in none of them."""
    encodes: int
    """Images that went through the vision tower."""
    response_tokens: float
    """Mean over the rollouts."""
    is_mixed: bool
    """Every group has right and wrong rollouts."""


@dataclass
class Meter:
    """CPU seconds by stage and images encoded, since `start`."""

    stages: dict[str, float] = field(default_factory=dict)
    encodes: int = 0
    started: float = 0.0

    def start(self) -> None:
        """Begin a step."""
        self.stages, self.encodes, self.started = {}, 0, time.process_time()

    def cost(self, stages: dict[str, float], response_tokens: float, is_mixed: bool) -> StepCost:
        """What the step took until now, with stages that were timed elsewhere."""
        seconds = time.process_time() - self.started
        return StepCost(seconds, self.stages | stages, self.encodes, response_tokens, is_mixed)

    @contextmanager
    def watching(self, visual: torch.nn.Module, *methods: tuple[Any, str, str]) -> Iterator[None]:
        """Count what the vision tower is shown, and time every backward pass, AdamW's steps and some methods.

        Args:
            visual: the vision tower.
            methods: (object, name of its method, stage).
        """
        common = ((torch.Tensor, "backward", "backward"), (torch.optim.AdamW, "step", "optimizer"))
        counting = visual.register_forward_pre_hook(self._count, with_kwargs=True)
        with ExitStack() as stack:
            stack.callback(counting.remove)
            for owner, name, stage in (*common, *methods):
                stack.enter_context(patch.object(owner, name, self._timed(getattr(owner, name), stage)))
            yield

    def _count(self, visual: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.encodes += len(kwargs["grid_thw"] if "grid_thw" in kwargs else args[1])

    def _timed(self, function: Any, stage: str) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.stages[stage] = self.stages.get(stage, 0.0) + time.process_time() - started

        return timed


@contextmanager
def stopwatches_count_cpu() -> Iterator[None]:
    """Within the block the trainer's own stopwatches count CPU seconds: on a shared machine wall clock says little."""
    watched = [m for name, m in sys.modules.items() if name.startswith("core.") and hasattr(m, "perf_counter")]
    with ExitStack() as stack:
        for module in watched:
            stack.enter_context(patch.object(module, "perf_counter", time.process_time))
        yield
