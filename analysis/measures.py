"""What recorded evidence comes to: Δ fractions, clip rates, token classes, Proposition 1. Pure functions.

Log w = sign(A)·Δ, in nats. Tokens of rollouts with A = 0 move nothing and count nowhere.
"""

from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.tokens import CLASSES, Against, EvidenceCounts
from core.histogram import BIN_WIDTH, BINS, LOWEST, clip_rate_from_histogram

DeltaKind = Literal["own", "rlsd", "cepo"]
"""Whose Δ: the run's own method's, or the one another method would have read from the same log-probabilities."""
Sign = Literal["all", "positive", "negative"]
"""Tokens of all rollouts, of those with A > 0, or of those with A < 0."""
Weighting = Literal["tokens", "rollouts"]
"""Every token counts the same, or every rollout does."""

STEP_COLUMNS: dict[Sign, tuple[str, str]] = {
    "all": ("delta_positive", "delta_negative"),
    "positive": ("delta_positive_correct", "delta_negative_correct"),
    "negative": ("delta_positive_wrong", "delta_negative_wrong"),
}
LOG_WEIGHTS = LOWEST + BIN_WIDTH / 2 + BIN_WIDTH * np.arange(BINS)
"""Middles of the histogram's bins."""


AGAINST: dict[str, Against] = {"rlsd": "student", "cepo": "wrong"}


def against_of(method: str, kind: DeltaKind) -> Against | None:
    """What P_T⁺ is held against in the Δ asked for; None where the method reads none of its own."""
    return AGAINST.get(method if kind == "own" else kind)


def rollout_counts(tokens: pd.DataFrame, tau: float = 0.0) -> pd.DataFrame:
    """How many tokens of each rollout have Δ > τ and Δ < −τ: the definition `analysis.recordings` asks in SQL.

    Args:
        tokens: columns step, group_id, rollout_id, advantage, delta.
        tau: nats, at least 0.
    """
    used: Any = tokens[(tokens.advantage != 0) & tokens.delta.notna()]
    marked = used.assign(n=1, above=used.delta > tau, below=used.delta < -tau)
    keys = ["step", "group_id", "rollout_id", "advantage"]
    return marked.groupby(keys, as_index=False)[["n", "above", "below"]].sum()


def delta_fractions(counts: pd.DataFrame, sign: Sign = "all", weighting: Weighting = "tokens") -> pd.DataFrame:
    """Shares of tokens with Δ > τ and Δ < −τ at every step (Figure 4).

    Args:
        counts: one row a rollout, as of `rollout_counts`.
        sign: which rollouts.
        weighting: pool the tokens of a step, or average the shares of its rollouts.

    Returns:
        Columns step, above, below, n (tokens).
    """
    side = {"all": counts.advantage != 0, "positive": counts.advantage > 0, "negative": counts.advantage < 0}[sign]
    used: Any = counts[side & (counts.n > 0)]
    if weighting == "rollouts":
        used = used.assign(above=used.above / used.n, below=used.below / used.n)
        shares = used.groupby("step", as_index=False).agg({"above": "mean", "below": "mean", "n": "sum"})
    else:
        shares = used.groupby("step", as_index=False)[["above", "below", "n"]].sum()
        shares[["above", "below"]] = shares[["above", "below"]].div(shares.n, axis=0)
    return shares[["step", "above", "below", "n"]]


def recorded_fractions(steps: pd.DataFrame, sign: Sign = "all") -> pd.DataFrame:
    """The same at τ = 0, token-weighted, from what every step recorded itself: no token is read (Figure 4).

    Returns:
        Columns step, above, below, n; n counts all tokens of the step, as the record keeps no other number.
    """
    above, below = STEP_COLUMNS[sign]
    found: Any = steps[["step", above, below, "n_tokens"]].set_axis(["step", "above", "below", "n"], axis=1)
    return found[found.above.notna()].reset_index(drop=True)


def wrong_direction(counts: pd.DataFrame) -> pd.DataFrame:
    """Share of tokens with sign(A)·Δ < 0, which get less credit or blame than their rollout: columns step, y.

    Args:
        counts: one row a rollout at τ = 0, as of `rollout_counts`.
    """
    against = counts.below.where(counts.advantage > 0, counts.above)
    sums: Any = counts.assign(against=against).groupby("step", as_index=False)[["against", "n"]].sum()
    return pd.DataFrame({"step": sums.step, "y": sums.against / sums.n})


def clip_rate(counts: EvidenceCounts, epsilon_w: float) -> tuple[float, float]:
    """Share of weights below 1 − ε_w and above 1 + ε_w, at any ε_w; NaN without weights."""
    return clip_rate_from_histogram(counts.histogram.sum(0), epsilon_w)


def class_table(counts: EvidenceCounts, epsilon_w: float) -> pd.DataFrame:
    """What the evidence does to each class of tokens that occurs, and to all, at any ε_w.

    Returns:
        Columns token_class, n, share, delta_mean, abs_delta_mean, positive, negative, clip_low, clip_high, weight_mean
        (after clipping; from the histogram, so within half a percent of the tokens' own). No row where nothing is.
    """
    present = [(name, np.array([i])) for i, name in enumerate(CLASSES) if counts.n[i]]
    everything = [("all", np.arange(len(CLASSES)))] if present else []
    return pd.DataFrame(
        [{"token_class": name} | _class_row(counts, places, epsilon_w) for name, places in present + everything],
        columns=["token_class", *CLASS_COLUMNS],
    )


CLASS_COLUMNS = (
    "n", "share", "delta_mean", "abs_delta_mean", "positive", "negative", "clip_low", "clip_high", "weight_mean",
)  # fmt: skip


def _class_row(counts: EvidenceCounts, places: np.ndarray, epsilon_w: float) -> dict[str, float]:
    histogram, n = counts.histogram[places].sum(0), counts.n[places].sum()
    by_token = (counts.sum_delta, counts.sum_abs_delta, counts.positive, counts.negative)
    means = [float(values[places].sum() / n) for values in by_token]
    clips = clip_rate_from_histogram(histogram, epsilon_w)
    row = (int(n), float(n / counts.n.sum()), *means, *clips, mean_clipped_weight(histogram, epsilon_w))
    return dict(zip(CLASS_COLUMNS, row, strict=True))


def mean_clipped_weight(histogram: np.ndarray, epsilon_w: float) -> float:
    """Mean of clip(w, 1 ± ε_w) from counts of log w; NaN without any."""
    total = histogram.sum()
    weights = np.clip(np.exp(LOG_WEIGHTS), 1 - epsilon_w, 1 + epsilon_w)
    return float(histogram @ weights / total) if total else np.nan


def sharper(log_p_student: np.ndarray, log_p_wrong: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """Where CEPO's weight is above RLSD's before clipping (Proposition 1).

    That is P_T⁻(y_t) < P_S(y_t) in a rollout with A > 0, and P_T⁻(y_t) > P_S(y_t) in one with A < 0.
    """
    return np.sign(advantages) * (log_p_student - log_p_wrong) > 0
