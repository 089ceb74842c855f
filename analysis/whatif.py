"""What if: recorded tokens credited again, by another method, λ, ε_w or r⁻, with the very functions that trained."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch

from analysis.heatmap import Tokens
from analysis.recredit import recredit
from core.methods import Evidence
from core.schema import RunRow

TOLERANCE = 1e-6
"""Largest relative difference between stored and recomputed numbers: both are float32."""


def recredit_frame(tokens: pd.DataFrame, method: str, lam: float, epsilon_w: float) -> pd.DataFrame:
    """The rows of `analysis.tokens.step_tokens` with delta, weight, clipped and token_advantage by another method."""
    columns = ("log_p_student", "log_p_correct", "log_p_wrong")
    evidence = Evidence(*(torch.tensor(tokens[name].to_numpy(np.float32, na_value=np.nan)) for name in columns))
    advantages = torch.tensor(tokens.advantage.to_numpy(np.float32))
    given = recredit(method, advantages, evidence, lam, epsilon_w)
    if given is None:
        raise ValueError(f"{method} matches distributions and weighs no token; choose grpo, rlsd or cepo")
    new = {"token_advantage": given.token_advantages.numpy()}
    if given.weighted is not None:
        new |= dict(zip(("delta", "weight", "clipped"), (x.numpy() for x in given.weighted), strict=True))
    return tokens.assign(**new)


Alternative = Literal["recorded", "none", "right"]
"""What r⁻ can be without asking the model: as recorded; none, which is RLSD; r⁺ itself, which is GRPO."""

ALTERNATIVES: dict[Alternative, str] = {
    "recorded": "as recorded",
    "none": "none: P_T⁻ := P_S, which is RLSD",
    "right": "r⁺ itself: P_T⁻ := P_T⁺, which is GRPO",
}


def with_wrong_hint(tokens: Tokens, alternative: Alternative) -> Tokens:
    """The tokens as if the wrong teacher had been told something else that the record already answers."""
    match alternative:
        case "recorded":
            return tokens
        case "none":
            return replace(tokens, log_p_wrong=tokens.log_p_student)
        case "right":
            return replace(tokens, log_p_wrong=tokens.log_p_correct)


@dataclass(frozen=True)
class Check:
    """A promise of the method, held against what was recorded; None where there is nothing to hold it against."""

    holds: bool | None
    sentence: str


def sign_anchored(tokens: Tokens, advantage: float) -> Check:
    """Theorem 1 i: the recorded Â_t has the sign of A at every token."""
    stored = tokens.token_advantage[np.isfinite(tokens.token_advantage)]
    if not len(stored):
        return Check(None, "no token advantages: this method matches distributions, which Theorem 1 does not cover")
    turned = int((np.sign(stored) != np.sign(advantage)).sum())
    if turned:
        return Check(
            False, f"{turned} of {len(stored)} token advantages have not the sign of A (Theorem 1 i is violated)"
        )
    return Check(True, f"sign anchored (Theorem 1 i): {len(stored)} of {len(stored)} tokens")


def stored_is_recomputed(
    tokens: Tokens, advantage: float, method: str, lam: float | None, epsilon_w: float | None
) -> Check:
    """What was stored is what the equations give from the recorded log-probabilities, at the step's own λ and ε_w."""
    if not np.isfinite(tokens.token_advantage).any():
        return Check(None, "nothing to recompute: this method stores a divergence, not a credit")
    columns = (tokens.log_p_student, tokens.log_p_correct, tokens.log_p_wrong)
    evidence = Evidence(*(torch.tensor(column, dtype=torch.float32)[None] for column in columns))
    given = recredit(method, torch.tensor([advantage], dtype=torch.float32), evidence, lam or 0.0, epsilon_w or 0.5)
    if given is None:
        return Check(None, "nothing to recompute: this method stores a divergence, not a credit")
    pairs = [(tokens.token_advantage, given.token_advantages[0].numpy())]
    if given.weighted is not None:
        names = (tokens.delta, tokens.weight, tokens.clipped)
        pairs += [(stored, new[0].numpy()) for stored, new in zip(names, given.weighted, strict=True)]
    worst = max(_worst(stored, new) for stored, new in pairs)
    if worst <= TOLERANCE:
        return Check(True, f"stored = recomputed: {len(tokens)} of {len(tokens)} tokens, to {TOLERANCE:g}")
    return Check(False, f"stored and recomputed numbers differ by up to {worst:.2g} (relative); the file was altered?")


def _worst(stored: np.ndarray, recomputed: np.ndarray) -> float:
    """Largest relative difference where something was stored; what was not stored cannot differ."""
    kept = ~np.isnan(stored.astype(float))
    if not kept.any():
        return 0.0
    stored, recomputed = stored[kept].astype(float), recomputed[kept].astype(float)
    if np.isnan(recomputed).any():  # λ = 0: the credit needs no evidence, and A was stored
        recomputed = np.where(np.isnan(recomputed), stored, recomputed)
    return float((np.abs(stored - recomputed) / np.maximum(np.abs(stored), 1.0)).max())


def fallback_of(info: RunRow) -> Literal["rlsd", "grpo"]:
    """What a group without r⁻ does in this run: RLSD, or GRPO as the released code does."""
    return "grpo" if '"empty_wrong": "grpo"' in info.config else "rlsd"
