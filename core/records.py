"""From a step's tensors to the rows of the run file: what is recorded is what was used."""

import re
import resource
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from core.batch import Batch
from core.methods import Credit, Evidence, EvidenceCredit, Method
from core.policy import Policy
from core.schema import StepRecord, StepRow, TokenClass, ValidationRow, VocabularyRow
from core.step_rows import Measured, RecordOfRows, Rows
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
        """Add the time of the block to a stage; what it left a GPU to do belongs to it."""
        started = perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
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
    """A step's record: its own row at once, for whoever watches; its other rows are made when they are asked for."""
    with stopwatch.stage("record"):
        rows = send(result)
        statistics = rows.statistics()
    return RecordOfRows(_step_row(result, statistics, stopwatch), rows, result.validation)


def send(result: StepResult) -> Rows:
    """What a step measured, on its way to the host; waits for nothing."""
    credit, evidence = result.credit, result.evidence
    weighted = None if credit is None else credit.weighted
    delta, weight, clipped = weighted or (None, None, None)
    measured = Measured(
        advantages=result.advantages,
        token_ids=result.batch.token_ids,
        log_p_sampler=torch.cat([r.log_p_sampler for g in result.batch.groups for r in g.rollouts]),
        log_p_student=evidence.log_p_student,
        entropy=result.entropy,
        log_p_correct=evidence.log_p_correct,
        log_p_wrong=evidence.log_p_wrong,
        delta=delta,
        weight=weight,
        clipped=clipped,
        token_advantages=None if credit is None else credit.token_advantages,
        divergence=result.update.divergence,
    )
    return Rows(result.step, result.batch.groups, result.batch.hints, result.scored, measured)


def _step_row(result: StepResult, statistics: Mapping[str, Any], stopwatch: Stopwatch) -> StepRow:
    batch, update, seconds = result.batch, result.update, stopwatch.seconds
    correct = np.array([[v.is_correct for v in g.verdicts] for g in batch.groups])
    method = result.method if isinstance(result.method, EvidenceCredit) else None
    return StepRow(
        step=result.step,
        lam=None if method is None else method.mixing(result.step),
        epsilon_w=None if method is None else method.epsilon_w,
        learning_rate=update.learning_rate,
        loss=update.loss,
        reward_mean=float(np.mean([g.rewards for g in batch.groups])),
        accuracy=float(correct.mean()),
        format_rate=float(np.mean([v.is_formatted for g in batch.groups for v in g.verdicts])),
        truncated_share=float(np.mean([r.is_truncated for g in batch.groups for r in g.rollouts])),
        val_accuracy=float(np.mean([v.is_correct for v in result.validation])) if result.validation else None,
        val_n=len(result.validation) or None,
        ppo_clip_low=update.ppo_clip_low,
        ppo_clip_high=update.ppo_clip_high,
        mixed_share=float((correct.any(1) & ~correct.all(1)).mean()),
        all_correct_share=float(correct.all(1).mean()),
        all_wrong_share=float((~correct.any(1)).mean()),
        fallback_share=float(np.mean([h.fallback for h in batch.hints])),
        grad_norm=update.grad_norm,
        grad_skipped=update.grad_skipped,
        ratio_drift=update.ratio_drift,
        n_rollouts=correct.size,
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
        **statistics,
    )


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
