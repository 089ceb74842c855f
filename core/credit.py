"""The credit of a token: Δ_t, its weight w_t and the token advantage Â_t (Eq. 1, 4, 5 and 7).

Pure functions over [B, T] tokens. Wherever tokens go, `advantages` may be one a rollout ([B] beside [B, T]) or one a
token (the same shape as the tokens), so a flat array of recorded tokens is credited by the same code as a batch.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

EXPONENT_LIMIT = 20.0
"""|Δ_t| in nats beyond which w_t no longer moves: far outside every clip range, and finite in float32."""

Schedule = Literal["linear", "constant"]


def group_advantages(
    rewards: Float[Tensor, "P G"], *, std: Literal["sample", "population"] = "sample", floor: float = 1e-6
) -> Float[Tensor, "P G"]:
    """How much better a rollout is than its group: A⁽ⁱ⁾ = (R − μ_G) / σ_G (Eq. 1); exactly 0 where σ_G = 0.

    Args:
        rewards: R(x, y⁽ⁱ⁾), one row a group of at least two rollouts.
        std: σ_G with Bessel's correction (`sample`, what the released code computes) or without (`population`).
        floor: added to σ_G.
    """
    if rewards.shape[-1] < 2:
        raise ValueError(f"a group needs at least 2 rollouts to compare, got {rewards.shape[-1]}; raise group_size")
    sigma = rewards.std(-1, keepdim=True, correction=int(std == "sample"))
    advantages = (rewards - rewards.mean(-1, keepdim=True)) / (sigma + floor)
    # Equality, not sigma == 0: the mean of eight equal floats need not be that float.
    return advantages.masked_fill((rewards == rewards[:, :1]).all(-1, keepdim=True), 0.0)


def evidence_delta(
    log_p_for: Float[Tensor, "*tokens"], log_p_against: Float[Tensor, "*tokens"]
) -> Float[Tensor, "*tokens"]:
    """Evidence for a hint in the sampled token: Δ_t = sg(log P_for(y_t) − log P_against(y_t)), in nats.

    CEPO sets P_T⁺ against P_T⁻ (Eq. 5), RLSD sets P_T⁺ against P_S (the exponent of Eq. 4). As beliefs: how much the
    token raises the posterior of r⁺ and lowers that of r⁻ (Eq. 6). This is the only stop-gradient there is: no teacher
    gets a gradient (Theorem 1 ii).
    """
    return (log_p_for - log_p_against).detach()


def evidence_weight(delta: Float[Tensor, "*tokens"], advantages: Float[Tensor, "..."]) -> Float[Tensor, "*tokens"]:
    """Weight of a token before clipping: w_t = exp(sign(A) Δ_t), line 1 of Eq. 4 and Eq. 7."""
    # Clamped before the product: sign(0) · inf would be NaN.
    return torch.exp(per_token(advantages, delta).sign() * delta.clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT))


def modulate(
    advantages: Float[Tensor, "..."], weight: Float[Tensor, "*tokens"], lam: float, epsilon_w: float
) -> Float[Tensor, "*tokens"]:
    """Spread a rollout's advantage over its tokens: Â_t = A [(1 − λ) + λ clip(w_t, 1 ± ε_w)].

    Line 2 of Eq. 4 and Eq. 7. Keeps the sign of A for λ in [0, 1] and ε_w in (0, 1) (Theorem 1 i).
    """
    # λ and 1 − λ round to numbers whose sum rounds to 1: w = 1, like λ = 0, gives A back bit for bit.
    return per_token(advantages, weight) * ((1 - lam) + lam * weight.clamp(1 - epsilon_w, 1 + epsilon_w))


def mixing(step: int, lambda_0: float, warmup_steps: int, schedule: Schedule) -> float:
    """Share λ of the evidence at a step, counted from 1: `linear` falls from λ₀ to 0 over T_warm steps (Eq. 7).

    A pure function of the step, so a resumed run needs no state: λ₀ · max(0, 1 − (step − 1) / T_warm).
    """
    return lambda_0 if schedule == "constant" else lambda_0 * max(0.0, 1 - (step - 1) / warmup_steps)


def clip_flags(weight: Float[Tensor, "*tokens"], epsilon_w: float) -> Int8[Tensor, "*tokens"]:
    """Which tokens' weights are clipped: −1 raised to 1 − ε_w, +1 lowered to 1 + ε_w, 0 neither."""
    return (weight > 1 + epsilon_w).to(torch.int8) - (weight < 1 - epsilon_w).to(torch.int8)


def clip_rate(weight: Float[Tensor, "*tokens"], epsilon_w: float, mask: Bool[Tensor, "*tokens"]) -> float:
    """Share of the masked tokens whose weight is clipped (Figure 5); NaN where there is no token."""
    return clip_flags(weight, epsilon_w)[mask].abs().double().mean().item()


def per_token(advantages: Float[Tensor, "..."], tokens: Float[Tensor, "*tokens"]) -> Float[Tensor, "..."]:
    """Advantages in a shape that broadcasts over `tokens`, from one a rollout or one a token."""
    if advantages.shape == tokens.shape:
        return advantages
    if advantages.shape == tokens.shape[:-1]:
        return advantages.unsqueeze(-1)
    raise ValueError(
        f"advantages must be one a rollout {tuple(tokens.shape[:-1])} or one a token {tuple(tokens.shape)}, "
        f"got {tuple(advantages.shape)}"
    )
