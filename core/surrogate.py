"""The policy's loss (Algorithm 1, line 10): PPO's clipped surrogate with Â_t in place of A, and means over tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""|log ρ| beyond which a ratio no longer changes."""


def importance_ratio(
    log_p_new: Float[Tensor, "*tokens"], log_p_old: Float[Tensor, "*tokens"]
) -> Float[Tensor, "*tokens"]:
    """ρ_t = π_θ(y_t) / π_old(y_t) of the sampled token; exactly 1 before the first update of a step."""
    return (log_p_new - log_p_old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clipped_surrogate(
    log_p_new: Float[Tensor, "*tokens"],
    log_p_old: Float[Tensor, "*tokens"],
    token_advantages: Float[Tensor, "*tokens"],
    *,
    epsilon_low: float,
    epsilon_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, "*tokens"]:
    """Loss of each token, to minimise: −min(ρ Â, clip(ρ, 1 − ε_low, 1 + ε_high) Â) (Algorithm 1, line 10).

    Args:
        log_p_new: log π_θ(y_t), the only argument that carries a gradient.
        log_p_old: log π_old(y_t), before the step's first update.
        token_advantages: Â_t.
        epsilon_low: how far ρ may fall while that still lowers the loss.
        epsilon_high: how far it may rise.
        dual_clip: c > 1 bounds the loss of a token with Â < 0 by c |Â|, however far ρ has risen; None for no bound.
    """
    ratio = importance_ratio(log_p_new, log_p_old)
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    loss = torch.maximum(-token_advantages * ratio, -token_advantages * clipped)
    if dual_clip is None:
        return loss
    return torch.where(token_advantages < 0, torch.minimum(loss, -token_advantages * dual_clip), loss)


def surrogate_flags(
    log_p_new: Float[Tensor, "*tokens"],
    log_p_old: Float[Tensor, "*tokens"],
    token_advantages: Float[Tensor, "*tokens"],
    *,
    epsilon_low: float,
    epsilon_high: float,
) -> Int8[Tensor, "*tokens"]:
    """Which tokens PPO's clip silences: −1 at 1 − ε_low (Â < 0), +1 at 1 + ε_high (Â > 0), 0 neither."""
    ratio = importance_ratio(log_p_new, log_p_old)
    low = (ratio < 1 - epsilon_low) & (token_advantages < 0)
    high = (ratio > 1 + epsilon_high) & (token_advantages > 0)
    return high.to(torch.int8) - low.to(torch.int8)


def aggregate(
    per_token: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    per: Literal["token", "sequence"],
    normaliser: float,
) -> Float[Tensor, ""]:
    """One micro-batch's part of an update's mean; the parts add up to it, however the update is cut.

    Args:
        per_token: any quantity; what stands outside the mask, NaN included, is not read.
        mask: the response tokens.
        per: `token` gives every token of the update one weight (what the released code runs), `sequence` every
            response (what the proof of Theorem 1 writes).
        normaliser: tokens of the whole update for `token`, its responses for `sequence`.
    """
    kept = per_token.where(mask, 0.0)
    if per == "sequence":
        kept = kept / mask.sum(-1, keepdim=True).clamp(min=1)
    return kept.sum() / max(normaliser, 1.0)
