"""The rows of one step, made from its tensors on the thread that asks for them.

The trainer's thread sends what was measured to the host and goes on; the recorder's thread makes the rows.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from core.hints import Hints
from core.histogram import log_weight_histogram
from core.rollouts import Group
from core.schema import GroupRow, ImageRow, RolloutRow, StepRecord, StepRow, TokenColumns, ValidationRow
from core.teachers import Asked


@dataclass(frozen=True)
class Measured:
    """What was measured of a step's tokens, [B, T], 0 outside the mask; None: it was not.

    Sampler's log-probabilities come flat, as rollout after rollout has them, and advantages [B].
    """

    advantages: Tensor
    token_ids: Tensor
    log_p_sampler: Tensor
    log_p_student: Tensor
    entropy: Tensor
    log_p_correct: Tensor | None
    log_p_wrong: Tensor | None
    delta: Tensor | None
    weight: Tensor | None
    clipped: Tensor | None
    token_advantages: Tensor | None
    divergence: Tensor | None

    def leave(self) -> "tuple[Measured, torch.cuda.Event | None]":
        """The same on the host once the event has come: one buffer, one copy, which nobody waits for here.

        What is on the host already is not copied: no step writes into the tensors of another.
        """
        if not self.advantages.is_cuda:
            return self, None
        buffer = self.joined()
        host = torch.empty(buffer.shape, dtype=buffer.dtype, pin_memory=True).copy_(buffer, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return self.split(host), event

    def joined(self) -> Tensor:
        """All of it in one flat buffer of float32, which holds every token id below 2^24."""
        return torch.cat([tensor.flatten().float() for tensor in vars(self).values() if tensor is not None])

    def split(self, buffer: Tensor) -> "Measured":
        """What `joined` made, apart again and as float32."""
        those = {name: tensor for name, tensor in vars(self).items() if tensor is not None}
        parts = buffer.split([tensor.numel() for tensor in those.values()])
        apart = {name: part.view(those[name].shape) for name, part in zip(those, parts, strict=True)}
        return Measured(**(vars(self) | apart))


class Rows:
    """The rows of a step, from what it measured; nothing of the model's is kept."""

    def __init__(
        self, step: int, groups: Sequence[Group], hints: Sequence[Hints], scored: Asked, measured: Measured
    ) -> None:
        self.step, self.groups, self.hints, self.scored = step, groups, hints, scored
        self.group_size = len(groups[0].rollouts)
        self._measured, self._event = measured.leave()

    @cached_property
    def measured(self) -> Measured:
        """What was measured, on the host."""
        if self._event is not None:
            self._event.synchronize()
        return self._measured

    @cached_property
    def mask(self) -> np.ndarray:
        """[B, T], True at sampled tokens."""
        lengths = np.array([len(r.token_ids) for g in self.groups for r in g.rollouts])
        return np.arange(self._measured.token_ids.shape[1]) < lengths[:, None]

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and position of every token."""
        rows, positions = self.mask.nonzero()
        return rows, positions

    @cached_property
    def advantages(self) -> np.ndarray:
        """A of every rollout, [B]."""
        return self.measured.advantages.float().numpy()

    def rows_of(self, groups: Sequence[int]) -> np.ndarray:
        """[B], True at the rollouts of these groups."""
        return np.isin(np.arange(len(self.groups)), list(groups)).repeat(self.group_size)

    def column(self, values: Tensor | None, groups: Sequence[int] | None = None) -> np.ndarray | None:
        """One value a token, NaN outside these groups."""
        if values is None:
            return None
        flat = values.float().numpy()[self.mask]
        return flat if groups is None else np.where(self.rows_of(groups)[self.places[0]], flat, np.float32(np.nan))

    @cached_property
    def tokens(self) -> TokenColumns:
        """Table tokens."""
        rows, positions = self.places
        found, scored = self.measured, self.scored
        return TokenColumns(
            step=np.full(len(rows), self.step),
            group_id=rows // self.group_size,
            rollout_id=rows % self.group_size,
            position=positions,
            token_id=found.token_ids.numpy()[self.mask].astype(np.int64),
            log_p_sampler=found.log_p_sampler.float().numpy(),
            log_p_student=self.column(found.log_p_student),
            log_p_correct=self.column(found.log_p_correct, scored.correct),
            log_p_wrong=self.column(found.log_p_wrong, scored.wrong),
            delta=self.column(found.delta, scored.correct),
            weight=self.column(found.weight, scored.correct),
            clipped=self.column(found.clipped, scored.correct),
            token_advantage=self.column(found.token_advantages),
            divergence=self.column(found.divergence),
            entropy=self.column(found.entropy),
        )

    @cached_property
    def images(self) -> list[ImageRow | None]:
        """The first image of every group."""
        return [ImageRow.from_png(_png(g.problem.images[0])) if g.problem.images else None for g in self.groups]

    def group_rows(self) -> list[GroupRow]:
        """Table groups."""
        return [
            GroupRow(
                step=self.step,
                group_id=g,
                problem_id=group.problem.problem_id,
                question=group.problem.question,
                answer=group.problem.answer,
                image_id=image.image_id if image else None,
                hint_correct=hints.hint_correct,
                hint_wrong=hints.hint_wrong,
                hint_wrong_rollout=hints.wrong_rollout,
                fallback=hints.fallback,
            )
            for g, (group, hints, image) in enumerate(zip(self.groups, self.hints, self.images, strict=True))
        ]

    def rollout_rows(self) -> list[RolloutRow]:
        """Table rollouts."""
        rows, counts = [], self._credit_counts()
        for row, advantage in enumerate(self.advantages.tolist()):
            g, i = divmod(row, self.group_size)
            group, hints = self.groups[g], self.hints[g]
            rollout, verdict = group.rollouts[i], group.verdicts[i]
            rows.append(
                RolloutRow(
                    step=self.step,
                    group_id=g,
                    rollout_id=i,
                    response=rollout.text,
                    n_tokens=len(rollout.token_ids),
                    reward=group.rewards[i],
                    is_correct=verdict.is_correct,
                    is_formatted=verdict.is_formatted,
                    answer=verdict.answer,
                    advantage=advantage,
                    truncated=rollout.is_truncated,
                    hint_correct=hints.correct[i] if hints.correct[i] != hints.hint_correct else None,
                    hint_wrong=hints.wrong[i] if hints.wrong[i] != hints.hint_wrong else None,
                    **{name: values[row] for name, values in counts.items()},
                )
            )
        return rows

    def _credit_counts(self) -> dict[str, list]:
        """Columns of table rollouts, one value a rollout."""
        if self.measured.delta is None or self.measured.clipped is None:
            return {}
        delta, clipped = self.measured.delta.float().numpy(), self.measured.clipped.numpy()
        size = np.abs(delta)
        columns = {
            "n_delta_positive": (delta > 0).sum(1),
            "n_delta_negative": (delta < 0).sum(1),
            "n_clip_low": (clipped < 0).sum(1),
            "n_clip_high": (clipped > 0).sum(1),
            "sum_abs_delta": size.sum(1, dtype=np.float64),
            "max_abs_delta": size.max(1),
        }
        return {name: values.tolist() for name, values in columns.items()}

    def statistics(self) -> dict[str, Any]:
        """Columns of table steps that sum the tokens up."""
        found = self.measured
        student = self.column(found.log_p_student)
        assert student is not None
        divergence = self.column(found.divergence)
        return {
            "n_tokens": len(student),
            "response_tokens_mean": len(student) / len(self.advantages),
            "zero_advantage_share": float((self.advantages == 0).mean()),
            "entropy_mean": _mean(found.entropy.float().numpy()[self.mask]),
            "sampler_gap": _mean(np.abs(student - found.log_p_sampler.float().numpy())),
            # NaN stands where no peer's solution could be told
            "divergence_mean": None if divergence is None else _mean(divergence[~np.isnan(divergence)]),
            **self._evidence_statistics(),
        }

    def _evidence_statistics(self) -> dict[str, Any]:
        """Δ fractions and evidence clip rates over the tokens of scored rollouts with A ≠ 0 (Figure 4)."""
        found = self.measured
        if found.delta is None or found.weight is None or found.clipped is None:
            return {}
        used = self.rows_of(self.scored.correct) & (self.advantages != 0)
        if not used.any():
            return {}
        mask = self.mask[used]
        delta, weight, clipped = (x.float().numpy()[used][mask] for x in (found.delta, found.weight, found.clipped))
        sign = np.sign(self.advantages)[used].repeat(mask.sum(1))
        return {
            "delta_positive": _mean(delta > 0),
            "delta_negative": _mean(delta < 0),
            "delta_positive_correct": _mean(delta[sign > 0] > 0),
            "delta_negative_correct": _mean(delta[sign > 0] < 0),
            "delta_positive_wrong": _mean(delta[sign < 0] > 0),
            "delta_negative_wrong": _mean(delta[sign < 0] < 0),
            "delta_mean": _mean(delta),
            "delta_std": float(delta.std(ddof=1, dtype=np.float64)) if len(delta) > 1 else None,
            "weight_mean": _mean(weight),
            "evidence_clip_low": _mean(clipped < 0),
            "evidence_clip_high": _mean(clipped > 0),
            "log_weight_histogram": log_weight_histogram(sign * delta),
        }


class RecordOfRows(StepRecord):
    """A record whose rows, but for the step's own, are made at the first look, on the thread that looks."""

    def __init__(self, step: StepRow, rows: Rows, validation: Sequence[ValidationRow]) -> None:
        vars(self).update(step=step, rows=rows, validation=validation)  # the class is frozen

    rows: Rows

    @cached_property
    def groups(self) -> Sequence[GroupRow]:
        """Table groups."""
        return self.rows.group_rows()

    @cached_property
    def rollouts(self) -> Sequence[RolloutRow]:
        """Table rollouts."""
        return self.rows.rollout_rows()

    @cached_property
    def tokens(self) -> TokenColumns:
        """Table tokens."""
        return self.rows.tokens

    @cached_property
    def images(self) -> Sequence[ImageRow]:
        """Table images."""
        return [image for image in self.rows.images if image is not None]


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None
