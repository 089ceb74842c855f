"""From a step's tensors to the rows of the run file: what is recorded is what was used."""

import io
import re
import resource
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from core.batch import Batch
from core.histogram import log_weight_histogram
from core.methods import Credit, Evidence, EvidenceCredit, Method
from core.policy import Policy
from core.schema import (
    GroupRow,
    ImageRow,
    RolloutRow,
    StepRecord,
    StepRow,
    TokenClass,
    TokenColumns,
    ValidationRow,
    VocabularyRow,
)
from core.teachers import Asked
from core.updates import UpdateStatistics

UNDECODABLE = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes bytes to that are no text."""


class Stopwatch:
    """Seconds a step spent in each of its stages (Table 3)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._started = perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += perf_counter() - started

    @property
    def total(self) -> float:
        """Seconds since the step began."""
        return perf_counter() - self._started


@dataclass(frozen=True)
class StepResult:
    """One step of Algorithm 1 as it was computed; [B, T] tensors are 0 outside the batch's mask."""

    step: int
    method: Method
    batch: Batch
    advantages: Float[Tensor, "B"]
    evidence: Evidence
    scored: Asked
    """Groups whose evidence teachers really scored; the others' is not recorded."""
    credit: Credit | None
    entropy: Float[Tensor, "B T"]
    update: UpdateStatistics
    validation: Sequence[ValidationRow] = field(default_factory=tuple)


def step_record(result: StepResult, stopwatch: Stopwatch) -> StepRecord:
    """All rows of a step; the step's own row comes last, so that it can say what recording took."""
    with stopwatch.stage("record"):
        images = _images(result.batch)
        groups = _group_rows(result, images)
        rollouts = _rollout_rows(result)
        tokens = _token_columns(result)
    return StepRecord(
        step=_step_row(result, rollouts, stopwatch),
        groups=groups,
        rollouts=rollouts,
        tokens=tokens,
        validation=result.validation,
        images=[image for image in images if image is not None],
    )


def _images(batch: Batch) -> list[ImageRow | None]:
    return [ImageRow.from_png(_png(g.problem.images[0])) if g.problem.images else None for g in batch.groups]


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _group_rows(result: StepResult, images: Sequence[ImageRow | None]) -> list[GroupRow]:
    return [
        GroupRow(
            step=result.step,
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
        for g, (group, hints, image) in enumerate(zip(result.batch.groups, result.batch.hints, images, strict=True))
    ]


def _rollout_rows(result: StepResult) -> list[RolloutRow]:
    rows = []
    batch, credit = result.batch, result.credit
    for row, advantage in enumerate(result.advantages.tolist()):
        g, i = divmod(row, batch.group_size)
        group, hints = batch.groups[g], batch.hints[g]
        rollout, verdict = group.rollouts[i], group.verdicts[i]
        rows.append(
            RolloutRow(
                step=result.step,
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
                **_credit_counts(credit, batch.mask[row], row),
            )
        )
    return rows


def _credit_counts(credit: Credit | None, mask: Tensor, row: int) -> dict[str, Any]:
    weighted = None if credit is None else credit.weighted
    if weighted is None:
        return {}
    delta, clipped = weighted[0][row, mask], weighted[2][row, mask]
    return {
        "n_delta_positive": int((delta > 0).sum()),
        "n_delta_negative": int((delta < 0).sum()),
        "n_clip_low": int((clipped < 0).sum()),
        "n_clip_high": int((clipped > 0).sum()),
        "sum_abs_delta": float(delta.abs().sum()),
        "max_abs_delta": float(delta.abs().max()),
    }


def _token_columns(result: StepResult) -> TokenColumns:
    batch, credit, evidence = result.batch, result.credit, result.evidence
    mask = batch.mask
    rows, positions = (x.numpy() for x in mask.cpu().nonzero(as_tuple=True))

    def column(values: Tensor | None, only: Tensor | None = None) -> np.ndarray | None:
        if values is None:
            return None
        flat = values[mask].float()
        return (flat if only is None else flat.where(only.expand_as(mask)[mask], torch.nan)).cpu().numpy()

    def rows_of(groups: Sequence[int]) -> Tensor:
        asked = torch.zeros(len(batch.groups), dtype=torch.bool, device=mask.device)
        asked[list(groups)] = True
        return asked.repeat_interleave(batch.group_size)[:, None]

    scored = rows_of(result.scored.correct)
    weighted = (None, None, None) if credit is None else credit.weighted or (None, None, None)
    delta, weight, clipped = (column(values, scored) for values in weighted)
    sampler = [r.log_p_sampler for group in batch.groups for r in group.rollouts]
    return TokenColumns(
        step=np.full(len(rows), result.step),
        group_id=rows // batch.group_size,
        rollout_id=rows % batch.group_size,
        position=positions,
        token_id=batch.token_ids[mask].cpu().numpy(),
        log_p_sampler=torch.cat(sampler).float().cpu().numpy(),
        log_p_student=column(evidence.log_p_student),
        log_p_correct=column(evidence.log_p_correct, scored),
        log_p_wrong=column(evidence.log_p_wrong, rows_of(result.scored.wrong)),
        delta=delta,
        weight=weight,
        clipped=clipped,
        token_advantage=column(credit.token_advantages) if credit is not None else None,
        divergence=column(result.update.divergence),
        entropy=column(result.entropy),
    )


def _step_row(result: StepResult, rollouts: Sequence[RolloutRow], stopwatch: Stopwatch) -> StepRow:
    batch, update, seconds = result.batch, result.update, stopwatch.seconds
    correct = np.array([[v.is_correct for v in g.verdicts] for g in batch.groups])
    method = result.method if isinstance(result.method, EvidenceCredit) else None
    sampler = torch.cat([r.log_p_sampler for g in batch.groups for r in g.rollouts]).float()
    tokens = int(batch.mask.sum())
    return StepRow(
        step=result.step,
        lam=None if method is None else method.mixing(result.step),
        epsilon_w=None if method is None else method.epsilon_w,
        learning_rate=update.learning_rate,
        loss=update.loss,
        reward_mean=float(np.mean([r.reward for r in rollouts])),
        accuracy=float(correct.mean()),
        format_rate=float(np.mean([r.is_formatted for r in rollouts])),
        response_tokens_mean=tokens / len(rollouts),
        truncated_share=float(np.mean([r.truncated for r in rollouts])),
        val_accuracy=float(np.mean([v.is_correct for v in result.validation])) if result.validation else None,
        val_n=len(result.validation) or None,
        **_evidence_statistics(result),
        ppo_clip_low=update.ppo_clip_low,
        ppo_clip_high=update.ppo_clip_high,
        mixed_share=float((correct.any(1) & ~correct.all(1)).mean()),
        all_correct_share=float(correct.all(1).mean()),
        all_wrong_share=float((~correct.any(1)).mean()),
        zero_advantage_share=float((result.advantages == 0).float().mean()),
        fallback_share=float(np.mean([h.fallback for h in batch.hints])),
        divergence_mean=None if update.divergence is None else _divergence_mean(update.divergence[batch.mask]),
        entropy_mean=float(result.entropy[batch.mask].mean()),
        grad_norm=update.grad_norm,
        grad_skipped=update.grad_skipped,
        ratio_drift=update.ratio_drift,
        sampler_gap=float((result.evidence.log_p_student[batch.mask].float() - sampler).abs().mean()),
        n_rollouts=len(rollouts),
        n_tokens=tokens,
        seconds_rollout=seconds["rollout"],
        seconds_verify=seconds["verify"],
        seconds_score=seconds["score"],
        seconds_teacher=seconds["teacher"] + update.seconds_teacher,
        seconds_probe=seconds["probe"],
        seconds_update=seconds["update"] - update.seconds_teacher,
        seconds_record=seconds["record"],
        seconds_validate=seconds["validate"],
        seconds_total=stopwatch.total,
        peak_memory_mb=_peak_memory_mb(),
    )


def _evidence_statistics(result: StepResult) -> dict[str, Any]:
    """Δ fractions and evidence clip rates over the tokens of rollouts with A ≠ 0 that teachers scored (Figure 4)."""
    weighted = None if result.credit is None else result.credit.weighted
    if weighted is None:
        return {}
    batch = result.batch
    scored = torch.zeros(len(batch.groups), dtype=torch.bool, device=batch.mask.device)
    scored[list(result.scored.correct)] = True
    sign = result.advantages.sign()[:, None].expand_as(batch.mask)
    used = batch.mask & (sign != 0) & scored.repeat_interleave(batch.group_size)[:, None]
    if not used.any():
        return {}
    (delta, weight, clipped), sign = (values[used] for values in weighted), sign[used]
    return {
        "delta_positive": _mean(delta > 0),
        "delta_negative": _mean(delta < 0),
        "delta_positive_correct": _mean(delta[sign > 0] > 0),
        "delta_negative_correct": _mean(delta[sign > 0] < 0),
        "delta_positive_wrong": _mean(delta[sign < 0] > 0),
        "delta_negative_wrong": _mean(delta[sign < 0] < 0),
        "delta_mean": _mean(delta),
        "delta_std": float(delta.std()),
        "weight_mean": _mean(weight),
        "evidence_clip_low": _mean(clipped < 0),
        "evidence_clip_high": _mean(clipped > 0),
        "log_weight_histogram": log_weight_histogram((sign * delta).cpu().numpy()),
    }


def _divergence_mean(divergence: Tensor) -> float | None:
    """Mean over the tokens that have a teacher; NaN stands where no peer's solution could be told."""
    return _mean(divergence[~divergence.isnan()])


def _mean(values: Tensor) -> float | None:
    return float(values.float().mean()) if len(values) else None


def _peak_memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def vocabulary_rows(policy: Policy) -> list[VocabularyRow]:
    """What every token id reads as, and its coarse class."""
    special = set(policy.tokenizer.added_tokens_decoder)
    rows = []
    for token_id in range(len(policy.tokenizer)):
        piece = policy.tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        token_class = _token_class(piece, token_id in special)
        part = _part_of_a_character(policy.tokenizer, token_id) if UNDECODABLE in piece else None
        rows.append(VocabularyRow(token_id=token_id, piece=piece, piece_bytes=part, token_class=token_class))
    return rows


def _part_of_a_character(tokenizer: Any, token_id: int) -> bytes | None:
    """The bytes of a byte-level token that holds only a part of a character; None where it is text after all."""
    token = tokenizer.convert_ids_to_tokens(token_id)
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", token):
        return bytes.fromhex(byte[1])
    alphabet = {character: byte for byte, character in bytes_to_unicode().items()}
    if not all(character in alphabet for character in token):
        return None
    return bytes(alphabet[character] for character in token)


def _token_class(piece: str, is_special: bool) -> TokenClass:
    text = piece.strip()
    if is_special:
        return "special"
    if text and all(c.isdigit() or c in ".," for c in text) and any(c.isdigit() for c in text):
        return "digit"
    if text and all(c in "+-*/=<>^×÷±·√" for c in text):
        return "operator"
    return "word" if any(c.isalpha() for c in text) else "format"
