"""The language-model head at the response tokens, in chunks of rows: never the vocabulary of a whole batch at once.

Each chunk's logits exist only while it is worked on; under autograd they are recomputed in the backward pass. Logits
are float32 (float64 stays) and divided by the rollout temperature, the same for the student and every teacher.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ENTRIES = 1 << 24
"""Vocabulary entries worked on at once (64 MiB in float32)."""


def log_distribution(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """log P(· | context) in nats: [N, H] hidden states and the [V, H] head to [N, V]."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    return torch.log_softmax(F.linear(hidden.to(precise), weight.to(precise)) / temperature, -1)


def _by_chunks(function: Callable[..., Tensor], vocabulary: int, *rows: Tensor) -> Tensor:
    """Apply `function` to chunks of rows; under autograd, several chunks are computed again in the backward pass."""
    size = max(1, CHUNK_ENTRIES // vocabulary)
    chunks = list(zip(*(x.split(size) for x in rows), strict=True))
    if len(chunks) == 1:
        return function(*chunks[0])
    if not torch.is_grad_enabled():
        return torch.cat([function(*chunk) for chunk in chunks])
    return torch.cat([checkpoint(function, *chunk, use_reentrant=False) for chunk in chunks])


def sampled_log_probs(hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log P(y_t) of the sampled tokens, and the entropy of P (no gradient); nats.

    Args:
        hidden: [N, H] states that predict the tokens.
        weight: [V, H] head.
        token_ids: [N] sampled tokens y_t.
        temperature: the rollouts' temperature.
    """

    def chunk(states: Tensor, ids: Tensor) -> Tensor:
        log_p = log_distribution(states, weight, temperature)
        with torch.no_grad():
            entropy = -(log_p.exp() * log_p).sum(-1)
        return torch.stack([log_p.gather(-1, ids[:, None])[:, 0], entropy], -1)

    both = _by_chunks(chunk, len(weight), hidden, token_ids)
    return both[:, 0], both[:, 1].detach()


def divergence(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    measure: Callable[[Tensor, Tensor], Tensor],
    temperature: float,
) -> Tensor:
    """D(P_T ‖ P_S) at every position, gradient to the student only.

    Args:
        student: ([N, H] hidden states, [V, H] head).
        teacher: the same, of the teacher.
        measure: from (log P_T, log P_S), [n, V] each, to [n] nats.
        temperature: the rollouts' temperature.
    """

    def chunk(student_states: Tensor, teacher_states: Tensor) -> Tensor:
        with torch.no_grad():
            log_p_teacher = log_distribution(teacher_states, teacher[1], temperature)
        return measure(log_p_teacher, log_distribution(student_states, student[1], temperature))

    return _by_chunks(chunk, len(student[1]), student[0], teacher[0])
