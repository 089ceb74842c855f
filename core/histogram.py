"""Histogram of log-weights: one small array a step that answers the clip rate at any ε_w without its tokens."""

import math

import numpy as np

BINS = 401
BIN_WIDTH = 0.01
LOWEST = -2.005
"""Bins are centred on multiples of `BIN_WIDTH`, so that the many tokens with Δ = 0 sit in the middle of one."""


def log_weight_histogram(log_weight: np.ndarray) -> np.ndarray:
    """Counts of log w = sign(A)·Δ; NaN (no weight) is left out, the outer bins take the tails.

    Args:
        log_weight: any shape, nats.
    """
    log_weight = log_weight[~np.isnan(log_weight)].astype(np.float64)
    highest = LOWEST + (BINS - 1) * BIN_WIDTH
    bins = np.floor((np.clip(log_weight, LOWEST, highest) - LOWEST) / BIN_WIDTH + 1e-9).astype(np.int64)
    return np.bincount(bins, minlength=BINS).astype(np.uint32)


def clip_rate_from_histogram(histogram: np.ndarray, epsilon_w: float) -> tuple[float, float]:
    """Share of weights below 1 − ε_w and above 1 + ε_w, counts spread evenly within a bin.

    Returns:
        ``(low, high)``; NaN without weights. Above ε_w = 0.864 the low edge lies in the open outer bin, and the whole
        of that bin counts as clipped.
    """
    if not 0 < epsilon_w < 1:
        raise ValueError(f"epsilon_w must lie between 0 and 1, got {epsilon_w}")
    total = histogram.sum()
    if total == 0:
        return math.nan, math.nan
    low = _share_below(histogram, math.log1p(-epsilon_w))
    high = _share_below(histogram[::-1], -math.log1p(epsilon_w))
    return low / total, high / total


def _share_below(histogram: np.ndarray, edge: float) -> float:
    """Count below an edge; the grid is symmetric, so counting above one is this on the reversed histogram."""
    place = max((edge - LOWEST) / BIN_WIDTH, 1.0)
    whole = math.floor(place)
    return float(histogram[:whole].sum() + (place - whole) * histogram[whole])
