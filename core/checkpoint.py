"""Checkpoints of a run: weights, optimizer and teacher after a whole step, written all or nothing.

What else a step depends on (λ, learning rate, problems, seeds of sampling) is a pure function of the step and the run's
seed, so a resumed run continues with the numbers of an uninterrupted one.
"""

import json
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import InputError
from core.policy import Policy
from core.spool import to_disk
from core.teachers import TeacherWeights


@dataclass(frozen=True)
class Checkpoints:
    """The newest `keep` checkpoints of a run, in `folder/step-000010` and so on."""

    folder: Path
    keep: int

    def save(
        self, step: int, method: str, policy: Policy, optimizer: torch.optim.Optimizer, teacher: TeacherWeights
    ) -> None:
        """Write the state after `step`; an interrupted write leaves the earlier checkpoints as they were."""
        target = self.folder / f"step-{step:06d}"
        unfinished = self.folder / f".unfinished-{step:06d}"
        for leftover in (unfinished, target):
            shutil.rmtree(leftover, ignore_errors=True)
        unfinished.mkdir(parents=True)
        save_file({n: p.detach().contiguous() for n, p in policy.trainable.items()}, unfinished / "weights.safetensors")
        save_file(teacher.snapshot, unfinished / "teacher.safetensors")
        torch.save(optimizer.state_dict(), unfinished / "optimizer.pt")
        (unfinished / "state.json").write_text(json.dumps({"step": step, "method": method}))
        for path in (*unfinished.iterdir(), unfinished):
            to_disk(path)
        unfinished.rename(target)
        to_disk(self.folder)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first; a copy that somebody put beside them is none."""
        return sorted(path for path in self.folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())

    def restore(self, method: str, policy: Policy, optimizer: torch.optim.Optimizer, teacher: TeacherWeights) -> int:
        """Take over the newest checkpoint and return its step; 0 where there is none yet."""
        if not self.all():
            return 0
        newest = self.all()[-1]
        with _named_if_unreadable(newest):
            snapshot = load_file(newest / "teacher.safetensors")
            moments = torch.load(newest / "optimizer.pt", weights_only=True)
        step = self.restore_weights(newest, method, policy)
        take_over(teacher.snapshot, snapshot, newest / "teacher.safetensors")
        optimizer.load_state_dict(moments)
        return step

    def restore_weights(self, checkpoint: Path, method: str, policy: Policy) -> int:
        """Take over the policy's weights alone from one of the checkpoints, and return its step."""
        with _named_if_unreadable(checkpoint):
            state = json.loads((checkpoint / "state.json").read_text())
            step, trained_by = int(state["step"]), state["method"]
            weights = load_file(checkpoint / "weights.safetensors")
        if trained_by != method:
            raise InputError(
                f"checkpoint {checkpoint}: is of method {trained_by!r}, the run's configuration says {method!r}"
            )
        take_over(policy.trainable, weights, checkpoint / "weights.safetensors")
        return step


@contextmanager
def _named_if_unreadable(checkpoint: Path) -> Iterator[None]:
    """Within the block a damaged file is bad input: one line that names the checkpoint."""
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        SafetensorError,
        RuntimeError,
        pickle.UnpicklingError,
        EOFError,
    ) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"checkpoint {checkpoint}: cannot be read ({reason}); delete its folder to go on without it"
        ) from error


@torch.no_grad()
def take_over(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], path: Path) -> None:
    """Copy stored tensors into a model's own, which must be the same ones."""
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in stored.items()}:
        differs = sorted(own.keys() ^ stored.keys()) or sorted(n for n in own if own[n].shape != stored[n].shape)
        raise InputError(f"{path}: was written for another model, its tensor {differs[0]!r} does not fit")
    for name, tensor in own.items():
        tensor.copy_(stored[name])
