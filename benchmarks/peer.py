"""TRL's GRPOTrainer on the work of `benchmarks.words`; `benchmarks.trainer` starts it in a process of its own.

In every other step TRL's head scores the responses alone, as it does on a GPU; by itself, where there is no Triton, it
scores the prompts too.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, Qwen3VLProcessor, TrainerCallback
from transformers.utils.logging import set_verbosity_error
from trl.trainer import utils as trl_utils  # pyright: ignore[reportMissingImports]
from trl.trainer.grpo_config import GRPOConfig  # pyright: ignore[reportMissingImports]
from trl.trainer.grpo_trainer import GRPOTrainer  # pyright: ignore[reportMissingImports]

from benchmarks.miniature import FIRST_WORD, build_model, with_adapters
from benchmarks.words import TEMPLATE, WARM_UP, Meter, StepCost, Work, build_image_processor, build_tokenizer, reward_of
from core.problems import DatasetProblems
from core.prompts import student_prompt


class Processor(Qwen3VLProcessor):
    """Qwen3-VL's processor without videos, whose own processor needs torchvision."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> None:
        """Let the missing video processor pass."""


class Costs(TrainerCallback):
    """A step's cost from the log before to its own: data, rollouts, update and log; two sides in turns."""

    def __init__(self, meter: Meter, warm_up: int) -> None:
        self.meter = meter
        self.warm_up = warm_up
        self.found: dict[str, list[StepCost]] = {"trl": [], "trl_compact": []}

    def is_compact(self, device: torch.device) -> bool:
        """What TRL asks its kernels: whether to score the responses alone."""
        return len(self.found["trl"]) > len(self.found["trl_compact"])

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The first step begins."""
        self.meter.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """The log is the last a step does."""
        if "completions/mean_length" not in logs:
            return
        cost = self.meter.cost({}, logs["completions/mean_length"], logs["frac_reward_zero_std"] == 0)
        if state.global_step > self.warm_up:
            self.found["trl_compact" if self.is_compact(torch.device("cpu")) else "trl"].append(cost)
        self.meter.start()


def build_peer(work: Work, folder: Path, steps: int, rows_per_pass: int) -> GRPOTrainer:
    """TRL's trainer with everything set as ours is.

    Args:
        work: what a step does.
        folder: where `Work.write` wrote.
        steps: how many it is to make.
        rows_per_pass: rollouts in one forward.
    """
    model = with_adapters(build_model(work.size, work.seed), work.lora_rank, work.lora_alpha, work.seed)
    tokenizer = build_tokenizer(work.size.vocabulary, ends=True)
    processor = Processor(build_image_processor(), tokenizer, TEMPLATE)
    source = DatasetProblems(str(folder / "train.parquet"))
    problems = [problem for step in range(steps) for problem in source.batch(step + 1, work.problems, work.seed)]
    rows = [
        {
            # TRL puts the image first, where the student sees it too
            "prompt": [{"role": "user", "content": student_prompt(p).messages[0]["content"][-1]["text"]}],
            "image": p.images[0],
        }
        for p in problems
    ]

    def rewards(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
        return [reward_of(token_ids) for token_ids in completion_ids]

    trainer = GRPOTrainer(
        model,
        rewards,
        args=_arguments(work, folder, steps, rows_per_pass),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _arguments(work: Work, folder: Path, steps: int, rows_per_pass: int) -> GRPOConfig:
    """What ours is set to, in TRL's words."""
    return GRPOConfig(
        output_dir=str(folder / "trl"),
        max_steps=steps,
        per_device_train_batch_size=rows_per_pass,
        gradient_accumulation_steps=work.rows // rows_per_pass,
        num_generations=work.group_size,
        max_completion_length=work.response_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        generation_kwargs={"suppress_tokens": list(range(FIRST_WORD))},
        learning_rate=work.learning_rate,
        lr_scheduler_type="constant",
        optim="adamw_torch",
        weight_decay=0.01,
        max_grad_norm=work.max_grad_norm,
        beta=0.0,
        epsilon=work.epsilon_low,
        epsilon_high=work.epsilon_high,
        loss_type="dapo",
        gradient_checkpointing=False,
        shuffle_dataset=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        seed=work.seed,
    )


def measure(work: Work, folder: Path, steps: int, warm_up: int) -> dict[str, list[StepCost]]:
    """So many steps of each side after the warm-up."""
    trainer, meter = build_peer(work, folder, warm_up + 2 * steps, work.group_size), Meter()
    costs = Costs(meter, warm_up)
    trainer.add_callback(costs)
    model: Any = trainer.model  # peft's, of which TRL's types know nothing
    visual = model.get_base_model().model.visual
    stages = ((trainer, "_generate", "rollout"), (trainer, "_get_per_token_logps_and_entropies", "forward"))
    with meter.watching(visual, *stages), patch.object(trl_utils, "_use_triton", costs.is_compact):
        trainer.train()
    return costs.found


def main() -> int:
    """Measure; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True, help="where `Work.write` wrote")
    parser.add_argument("--image-tokens", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    set_verbosity_error()
    found = measure(Work(image_tokens=given.image_tokens), given.worker, given.steps, WARM_UP)
    print(json.dumps({side: [dataclasses.asdict(cost) for cost in costs] for side, costs in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
