"""The language-model head at the response tokens, in chunks of rows: never the vocabulary of a whole batch at once.

A loss sees a token through one number, so the gradient of that number in the hidden state is made in the forward pass,
while the chunk's logits are at hand, and only scaled in the backward pass: two products with the head instead of three,
and [N, H] memory instead of [N, V]. Where the head is trained too, its own gradient needs the logits once more.

Logits are float32 (float64 stays) and divided by the rollout temperature, the same for the student and every teacher.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ENTRIES = {"cpu": 1 << 24, "cuda": 1 << 27}
"""Vocabulary entries worked on at once: 64 MiB in float32, or 512 MiB where small products would leave a GPU idle."""

Measure = Callable[[Tensor, Tensor], Tensor]
"""From (log P_T, log P_S), [n, V] each, to [n] nats."""


def logits_at(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Logits / T: [N, H] hidden states and the [V, H] head to [N, V]."""
    logits = _product(hidden, weight.t())
    return logits if temperature == 1 else logits / temperature


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32 or more; on a GPU, half-precision factors keep their speed and only the sums are float32."""
    precise = torch.promote_types(a.dtype, torch.float32)
    if a.is_cuda and a.dtype == b.dtype != precise and not torch.is_grad_enabled():
        return torch.mm(a, b, out_dtype=precise)
    return a.to(precise) @ b.to(precise)


def log_distribution(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """log P(· | context) in nats: [N, H] hidden states and the [V, H] head to [N, V]."""
    return torch.log_softmax(logits_at(hidden, weight, temperature), -1)


def sampled_log_probs(hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log P(y_t) of the sampled tokens, and the entropy of P (no gradient); nats.

    Args:
        hidden: [N, H] states that predict the tokens.
        weight: [V, H] head.
        token_ids: [N] sampled tokens y_t.
        temperature: the rollouts' temperature.
    """
    if torch.is_grad_enabled():
        return _SampledLogProbs.apply(hidden, weight, token_ids, temperature)  # type: ignore[return-value]
    log_p, entropy, _ = _log_probs(hidden, weight, token_ids, temperature, with_gradient=False)
    return log_p, entropy


def divergence(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], measure: Measure, temperature: float
) -> Tensor:
    """D(P_T ‖ P_S) at every position, gradient to the student only.

    Args:
        student: ([N, H] hidden states, [V, H] head).
        teacher: the same, of the teacher.
        measure: D.
        temperature: the rollouts' temperature.
    """
    return _Divergence.apply(*student, *teacher, measure, temperature)  # type: ignore[return-value]


def _chunks(rows: int, weight: Tensor, buffers: int) -> list[slice]:
    """Slices of rows whose `buffers` arrays of logits keep to the limit together."""
    size = max(1, CHUNK_ENTRIES[weight.device.type] // (buffers * len(weight)))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _log_probs(
    hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float, *, with_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """log P(y), the entropy, and ∂ log P(y) / ∂h = (W_y − Σ_v p_v W_v) / T."""
    precise = torch.promote_types(hidden.dtype, torch.float32)
    if not hidden.is_cuda:
        weight = weight.to(precise)  # once, not for every chunk
    log_p = hidden.new_empty(len(hidden), dtype=precise)
    entropy = torch.empty_like(log_p)
    gradient = torch.empty_like(hidden) if with_gradient else None
    for chunk in _chunks(len(hidden), weight, buffers=1):
        ids = token_ids[chunk]
        logits = logits_at(hidden[chunk], weight, temperature)
        logits.sub_(logits.amax(-1, keepdim=True))
        of_token = logits.gather(-1, ids[:, None])[:, 0]
        p = logits.exp()
        total = p.sum(-1)
        log_p[chunk] = of_token - total.log()
        # Σ p log p as a product of rows: no third array of this size
        entropy[chunk] = total.log() - torch.bmm(p[:, None], logits[:, :, None])[:, 0, 0] / total
        if gradient is not None:
            mean = _product(p.to(weight.dtype), weight).div_(total[:, None])
            gradient[chunk] = ((weight[ids] - mean) / temperature).to(gradient.dtype)
    return log_p, entropy, gradient


class _SampledLogProbs(torch.autograd.Function):
    """`sampled_log_probs` with its gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, token_ids: Tensor, temperature: float) -> Any:
        """Compute, and keep ∂ log P(y) / ∂h."""
        log_p, entropy, gradient = _log_probs(hidden, weight, token_ids, temperature, with_gradient=True)
        again = (hidden, weight, token_ids) if ctx.needs_input_grad[1] else (None, None, None)
        ctx.save_for_backward(gradient, *again)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return log_p, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> Any:
        """Scale what the forward kept; ∂ log P(y) / ∂W = (1_y − p) hᵀ / T where the head is trained."""
        gradient, hidden, weight, token_ids = ctx.saved_tensors
        for_weight = None
        if weight is not None:
            for_weight = torch.zeros_like(weight)
            for chunk in _chunks(len(hidden), weight, buffers=1):
                p = logits_at(hidden[chunk], weight, ctx.temperature).softmax(-1)
                share = (scale[chunk] / ctx.temperature)[:, None]
                p.mul_(-share).scatter_add_(-1, token_ids[chunk, None], share)
                for_weight.addmm_(p.t().to(weight.dtype), hidden[chunk])
        return gradient * scale[:, None].to(gradient.dtype), for_weight, None, None


class _Divergence(torch.autograd.Function):
    """`divergence` with its gradient, whatever the measure: autograd runs inside a chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        measure: Measure,
        temperature: float,
    ) -> Tensor:
        """Compute, and keep ∂D / ∂h."""
        ctx.of = (teacher_hidden, teacher_weight, measure, temperature)
        needs = ctx.needs_input_grad[0]
        values, gradient = [], torch.empty_like(hidden)
        for chunk in _chunks(len(hidden), weight, buffers=4):
            with torch.set_grad_enabled(needs):
                states = hidden[chunk].detach().requires_grad_(needs)
                value = _measured(ctx, states, weight.detach(), chunk)
                if needs:
                    (gradient[chunk],) = torch.autograd.grad(value.sum(), states)
            values.append(value.detach())
        ctx.save_for_backward(gradient, hidden, weight)
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> Any:
        """Scale what the forward kept; the head's own gradient is computed anew where it is trained."""
        gradient, hidden, weight = ctx.saved_tensors
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = torch.zeros_like(weight)
            for chunk in _chunks(len(hidden), weight, buffers=4):
                with torch.enable_grad():
                    head = weight.detach().requires_grad_()
                    value = _measured(ctx, hidden[chunk].detach(), head, chunk)
                    for_weight += torch.autograd.grad((value * scale[chunk]).sum(), head)[0]
        return gradient * scale[:, None].to(gradient.dtype), for_weight, None, None, None, None


def _measured(ctx: Any, hidden: Tensor, weight: Tensor, chunk: slice) -> Tensor:
    teacher_hidden, teacher_weight, measure, temperature = ctx.of
    with torch.no_grad():
        log_p_teacher = log_distribution(teacher_hidden[chunk], teacher_weight, temperature)
    return measure(log_p_teacher, log_distribution(hidden, weight, temperature))
