"""How sure a number is: standard errors, intervals, paired and clustered comparison, and what many looks cost.

Scores are shares in [0, 1]. Items of one cluster (variants of one question) stand or fall together, so clusters are
drawn, not items. Randomness comes from the generator passed in.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
Z_95 = 1.959964


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half its width: what stands behind a ±."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference:
    """A minus B, with its 95 % interval and the p-value of "no difference"."""

    estimate: float
    low: float
    high: float
    p_value: float
    n_items: int
    n_clusters: int


def binomial_stderr(accuracy: float, n: int) -> float:
    """Standard error of the accuracy over n independent items: √(p(1 − p)/n)."""
    return math.sqrt(accuracy * (1 - accuracy) / n)


def clustered_stderr(scores: np.ndarray, clusters: np.ndarray) -> float:
    """Standard error of a mean over items drawn in clusters; NaN from a single cluster.

    Args:
        scores: one an item.
        clusters: its cluster, any labels; all different means independent items.
    """
    sums, sizes = _cluster_sums(scores - scores.mean(), clusters)
    if len(sums) < 2:
        return math.nan
    return float(math.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / sizes.sum())


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """How many standard errors the two-sided interval of a mean reaches, by Student's t."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, freedom: int) -> float:
    """P(|T| ≤ t): the finite series for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    term = math.cos(angle) if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + freedom % 2, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    if freedom % 2:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean over seeds with its 95 % t-interval; NaN ends from a single seed."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, math.nan, math.nan)
    reach = t_quantile(n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach)


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means of as many resamples, each drawing whole clusters with replacement.

    Clusters of equal sum and size are the same to a mean, so only how often each kind is drawn is drawn: few kinds
    where scores are 0 or 1, which makes ten thousand resamples of five thousand items a matter of milliseconds.
    """
    sums, sizes = _cluster_sums(values, clusters)
    kinds, counts = np.unique(np.stack([sums.round(9), sizes], 1), axis=0, return_counts=True)
    n = len(sums)
    means = np.empty(resamples)
    block = max(1, 2_000_000 // max(len(kinds), n if len(kinds) > n // 4 else 1))
    for start in range(0, resamples, block):
        part = slice(start, min(start + block, resamples))
        size = part.stop - part.start
        if len(kinds) > n // 4:  # hardly any two alike: cheaper to draw the clusters themselves
            drawn = rng.integers(0, n, (size, n), dtype=np.int32)
            means[part] = sums[drawn].sum(1) / sizes[drawn].sum(1)
        else:
            totals = rng.multinomial(n, counts / n, size) @ kinds
            means[part] = totals[:, 0] / totals[:, 1]
    # A resample spreads like n draws about their own mean, which is a little too narrow for few clusters.
    centre = sums.sum() / sizes.sum()
    return centre + (means - centre) * math.sqrt(n / (n - 1)) if n > 1 else means


def paired_difference(
    differences: Sequence[np.ndarray],
    clusters: Sequence[np.ndarray],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Difference:
    """Mean difference on shared items, averaged over benchmarks, by a paired bootstrap over clusters.

    Interval and p-value come from the same resamples: from six clusters on the interval leaves out 0 where p < 0.05.
    From fewer than two clusters nothing can be resampled: the ends are NaN, p is 1.

    Args:
        differences: for each benchmark, score of A minus score of B, one a shared item.
        clusters: for each benchmark, the items' clusters.
    """
    estimate = float(np.mean([each.mean() for each in differences]))
    n_clusters = [len(np.unique(each)) for each in clusters]
    n_items = sum(map(len, differences))
    if min(n_clusters) < 2:
        return Difference(estimate, math.nan, math.nan, 1.0, n_items, sum(n_clusters))
    pairs = zip(differences, clusters, strict=True)
    means = np.mean([bootstrap_means(*pair, rng, resamples) for pair in pairs], axis=0)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(np.sum(means <= 0), np.sum(means >= 0))
    # n clusters that all point one way could have done so by chance in 2 of 2^n cases; a resample cannot know that
    p_value = min(1.0, max(2 * (1 + float(beyond)) / (resamples + 1), 2.0 ** (1 - sum(n_clusters))))
    return Difference(estimate, float(low), float(high), p_value, n_items, sum(n_clusters))


def unpaired_difference(a: float, stderr_a: float, b: float, stderr_b: float, n_items: int) -> Difference:
    """A minus B from two published numbers alone: approximate, as if their items had nothing in common."""
    estimate, stderr = a - b, math.hypot(stderr_a, stderr_b)
    reach = Z_95 * stderr
    p_value = math.erfc(abs(estimate) / stderr / math.sqrt(2)) if stderr > 0 else 1.0
    return Difference(estimate, estimate - reach, estimate + reach, p_value, n_items, n_items)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of McNemar's test: items that only A, and that only B, has right."""
    n, few = only_a + only_b, min(only_a, only_b)
    # log C(n, k) / 2^n, summed as logarithms: C(5010, 2505) is no float
    terms = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(few + 1)]
    return min(1.0, 2 * math.fsum(math.exp(term - n * math.log(2)) for term in terms))


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of all scores."""
    ordered = np.sort(scores, axis=None)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_interval(
    scores: np.ndarray,
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray], float] = interquartile_mean,
    resamples: int = 2_000,
) -> Interval:
    """A statistic over seeds × benchmarks with its 95 % interval: seeds are redrawn for each benchmark by itself.

    Args:
        scores: [seeds, benchmarks].
    """
    seeds, tasks = scores.shape
    drawn = rng.integers(0, seeds, (resamples, seeds, tasks))
    replicates = [statistic(scores[rows, np.arange(tasks)]) for rows in drawn]
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(statistic(scores), float(low), float(high))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number by Holm's method: reject where below α and all α is spent once."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return adjusted


def tie_group(p_against_best: Sequence[float], alpha: float = 1 - LEVEL) -> np.ndarray:
    """Which of the others the data do not separate from the best, after Holm's correction: True is tied."""
    return holm(p_against_best) >= alpha


def _cluster_sums(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, place = np.unique(clusters, return_inverse=True)
    return np.bincount(place, values), np.bincount(place).astype(float)
