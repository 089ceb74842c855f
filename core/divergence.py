"""How far the student's next-token distribution is from the teacher's: the D of Eq. 3, over the whole vocabulary.

Every function takes log-probabilities in nats with the vocabulary last. An entry with P = 0 (log P = −inf) adds nothing
(0 · log 0 = 0), to the value and to the gradient; a KL is +inf where it allows what the other distribution forbids.
`entry_clip` caps what one (token, vocabulary entry) adds, before the sum: OPSD's guard against tokens of style.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Measure = Literal["forward_kl", "reverse_kl", "jensen_shannon"]
Support = Literal["teacher", "student"]


def forward_kl(
    log_p_teacher: Float[Tensor, "*tokens V"],
    log_p_student: Float[Tensor, "*tokens V"],
    entry_clip: float | None = None,
) -> Float[Tensor, "*tokens"]:
    """KL(P_T ‖ P_S), whose gradient in the student's logits is P_S − P_T: the vocabulary-wide sum of Eq. 3."""
    return _clipped_sum(_entries(log_p_teacher, log_p_student), entry_clip)


def reverse_kl(
    log_p_teacher: Float[Tensor, "*tokens V"],
    log_p_student: Float[Tensor, "*tokens V"],
    entry_clip: float | None = None,
) -> Float[Tensor, "*tokens"]:
    """KL(P_S ‖ P_T)."""
    return _clipped_sum(_entries(log_p_student, log_p_teacher), entry_clip)


def jensen_shannon(
    log_p_teacher: Float[Tensor, "*tokens V"],
    log_p_student: Float[Tensor, "*tokens V"],
    alpha: float = 0.5,
    entry_clip: float | None = None,
) -> Float[Tensor, "*tokens"]:
    """α KL(P_T ‖ M) + (1 − α) KL(P_S ‖ M) with M = α P_T + (1 − α) P_S; symmetric at α = 1/2, at most log 2 there.

    Divided by α it tends to the forward KL as α tends to 0; α lies in (0, 1).
    """
    mixture = alpha * log_p_teacher.exp() + (1 - alpha) * log_p_student.exp()
    # Mixed as probabilities: logaddexp's gradient is NaN where both are 0.
    log_mixture = _log(mixture)
    entries = alpha * _entries(log_p_teacher, log_mixture) + (1 - alpha) * _entries(log_p_student, log_mixture)
    return _clipped_sum(entries, entry_clip)


def top_k_with_tail(
    log_p_teacher: Float[Tensor, "*tokens V"], log_p_student: Float[Tensor, "*tokens V"], k: int, support: Support
) -> tuple[Float[Tensor, "*tokens K"], Float[Tensor, "*tokens K"]]:
    """Both distributions over k entries and one bucket for all others, 1 − Σ: k + 1 log-probabilities each.

    Args:
        log_p_teacher: log P_T.
        log_p_student: log P_S.
        k: entries kept; a vocabulary of no more than k entries is kept whole.
        support: whose k most probable entries are kept.
    """
    k = min(k, log_p_student.shape[-1])
    top = (log_p_student if support == "student" else log_p_teacher).topk(k, dim=-1).indices
    return _with_tail(log_p_teacher, top), _with_tail(log_p_student, top)


def _with_tail(log_p: Float[Tensor, "*tokens V"], top: Int64[Tensor, "*tokens K"]) -> Float[Tensor, "*tokens K1"]:
    # What is left, summed: taking what is kept from 1 would lose a small tail to rounding.
    tail = log_p.exp().scatter(-1, top, 0.0).sum(-1, keepdim=True)
    return torch.cat([log_p.gather(-1, top), _log(tail)], dim=-1)


def _log(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log p, finite at 0, where its gradient is 0."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def _entries(log_p: Float[Tensor, "*tokens V"], log_q: Float[Tensor, "*tokens V"]) -> Float[Tensor, "*tokens V"]:
    """What each vocabulary entry adds to KL(P ‖ Q)."""
    return log_p.exp() * (log_p - log_q).masked_fill(log_p == -torch.inf, 0.0)


def _clipped_sum(entries: Float[Tensor, "*tokens V"], entry_clip: float | None) -> Float[Tensor, "*tokens"]:
    return (entries if entry_clip is None else entries.clamp(max=entry_clip)).sum(-1)
