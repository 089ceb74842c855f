"""Recorded log-probabilities credited by any method, at any λ and ε_w, with the very functions that train."""

from jaxtyping import Float
from torch import Tensor

from core.methods import CEPO, GRPO, METHODS, RLSD, Credit, Evidence, TokenCredit


def rule_at(method: str, lam: float, epsilon_w: float) -> TokenCredit | None:
    """A method with λ and ε_w held fixed; None for one that matches distributions and weighs no token."""
    if method == "grpo":
        return GRPO()
    if method == "rlsd":
        return RLSD(lambda_0=lam, schedule="constant", epsilon_w=epsilon_w)
    if method == "cepo":
        return CEPO(lambda_0=lam, schedule="constant", epsilon_w=epsilon_w)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return None


def recredit(
    method: str, advantages: Float[Tensor, "..."], evidence: Evidence, lam: float, epsilon_w: float
) -> Credit | None:
    """Credit recorded tokens by a method at any λ and ε_w (Eq. 4, 5, 7); None where the method weighs no token.

    Args:
        method: grpo, rlsd or cepo; opsd and sdpo give None.
        advantages: one a rollout beside [B, T] evidence, or one a token, shaped as the evidence.
    """
    rule = rule_at(method, lam, epsilon_w)
    return None if rule is None else rule.credit(advantages, evidence, step=1)
