"""Ask a trained run's own model again: what would its teachers say of a recorded response, told another answer?"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.algorithm import observer_of
from core.batch import Prompting
from core.checkpoint import Checkpoints, take_over
from core.config import TrainConfig, read_config
from core.errors import InputError
from core.methods import Evidence
from core.policy import Policy
from core.prompts import student_prompt, teacher_prompt
from core.rollouts import Problem
from core.scoring import Sheaf


@dataclass(frozen=True)
class Probe:
    """The policy of a run's newest checkpoint, with the way the run tells its teachers their hints."""

    policy: Policy
    prompting: Prompting
    step: int
    """The step after which these weights were saved."""

    @torch.no_grad()
    def evidence(self, problem: Problem, token_ids: torch.Tensor, correct: str, wrong: str) -> Evidence:
        """log P_S, log P_T⁺ and log P_T⁻ of one response, [T] each, all three under these same weights (Eq. 2)."""
        seen = self.policy.look([problem.images])[0]
        told = seen if self.prompting.sees_image else None
        prompts = [self.policy.encode(student_prompt(problem), seen)] + [
            self.policy.encode(teacher_prompt(problem, hint, self.prompting.style, self.prompting.sees_image), told)
            for hint in (correct, wrong)
        ]
        response = token_ids.to(self.policy.device)
        log_p, _ = self.policy.score([[Sheaf(prompt, (response,))] for prompt in prompts])
        return Evidence(*log_p.float().cpu().view(3, -1))


def why_not(folder: Path) -> str | None:
    """Why a run cannot be probed; None where it can."""
    if not (folder / "config.yaml").is_file():
        return "the run's config.yaml is not beside its run file, so its model is not known"
    if not _newest(folder):
        return "the run has no checkpoint beside its run file (training saves one every few steps)"
    return None


def load(folder: Path) -> Probe:
    """Build the policy of a run as its newest checkpoint left it.

    Raises:
        InputError: no configuration, no checkpoint, or one that does not fit the model.
    """
    if reason := why_not(folder):
        raise InputError(f"{folder}: cannot be probed, {reason}; train it here, or copy its whole folder")
    config = read_config(folder / "config.yaml")
    newest = _newest(folder)[-1]
    return Probe(_policy(config, newest), _prompting(config), int(newest.name.removeprefix("step-")))


def _newest(folder: Path) -> list[Path]:
    return Checkpoints(folder / "checkpoints", keep=1).all()


def _policy(config: TrainConfig, checkpoint: Path) -> Policy:
    policy = Policy.load(config.model, config.rollouts.temperature, config.seed)
    path = checkpoint / "weights.safetensors"
    try:
        take_over(policy.trainable, load_file(path), path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete its folder to use the checkpoint before") from error
    return policy


def _prompting(config: TrainConfig) -> Prompting:
    observer = observer_of(config.method)
    return Prompting(observer.teacher_style, observer.teacher_sees_image)
