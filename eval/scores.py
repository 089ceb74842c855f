"""What the scores of items amount to: headline scores with their uncertainty, and two evaluations item by item.

Scores are shares in [0, 1]. An item's score is its mean over seeds; items of one cluster (variants of one question)
stand or fall together, so clusters are drawn, not items. Which items were asked is all that varies here: how another
training run would have turned out is in no standard error and in no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from core.eval_schema import ScoreRow
from core.intervals import LEVEL, Difference, bootstrap_means, clustered_stderr, mcnemar, paired_difference
from eval.tasks import PAPER, Benchmark

ROUNDING = {"mathvision_mini": 5e-5, "mmmu": 5e-6}
"""How far lmms-eval's own rounding moves a headline: MathVision to 2 decimals of a percent, MMMU to 5 of a share."""

EXACT = 1e-9
"""What only the order of additions may change."""

Cluster = tuple[str, str]


class Scored(Protocol):
    """The score of one answer: `core.eval_schema.ItemRow`, or less."""

    @property
    def task(self) -> str:
        """Its benchmark."""
        ...

    @property
    def item_id(self) -> str:
        """Identity of the item within its benchmark."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the sampler."""
        ...

    @property
    def score(self) -> float:
        """Share in [0, 1]."""
        ...

    @property
    def cluster(self) -> str | None:
        """Items that stand or fall together; None: it stands alone."""
        ...


class HeadlineError(RuntimeError):
    """The scores of the items do not add up to what lmms-eval reports: one of the two was read wrongly."""


def headline(benchmark: Benchmark, items: Sequence[Scored]) -> float:
    """The headline metric as lmms-eval aggregates these items, a share.

    The plain mean; for DynaMath the mean over groups of variants of the group's mean, which is the same number where
    all groups are equally large.
    """
    scores = np.array([item.score for item in items], float)
    if benchmark.name != "dynamath":
        return float(scores.mean())
    groups = _numbered([_cluster(item) for item in items])
    return float(np.mean(np.bincount(groups, scores) / np.bincount(groups)))


def check_headline(benchmark: Benchmark, items: Sequence[Scored], reported: float) -> None:
    """Make sure that the items' scores are those behind lmms-eval's number.

    Args:
        benchmark: Which.
        items: Answers under one seed.
        reported: lmms-eval's headline metric as a share, so already divided by the benchmark's scale.

    Raises:
        HeadlineError: They differ by more than lmms-eval rounds.
    """
    found = headline(benchmark, items)
    allowed = ROUNDING.get(benchmark.name, 0.0) + EXACT
    if not abs(found - reported) <= allowed:  # a NaN is no agreement either
        raise HeadlineError(
            f"{benchmark.name}: the scores of {len(items)} items give {found:.6f}, but lmms-eval reports "
            f"{benchmark.headline} = {reported:.6f}, and rounding explains no more than {allowed:.0e}"
        )


@dataclass(frozen=True)
class Summary:
    """A score with its standard error and 95 % interval; NaN where a single cluster says nothing about others."""

    value: float
    stderr: float
    low: float
    high: float
    n_items: int
    n_clusters: int
    n_seeds: int
    means: np.ndarray = field(repr=False, compare=False)
    """Bootstrap means over clusters, from which averages take their interval."""


def summary(items: Sequence[Scored], rng_seed: int = 0) -> Summary:
    """Score of one benchmark over any number of seeds, at least one item of it, by a bootstrap over clusters.

    Where every item is wrong, or every one right, nothing varies that could be drawn again: the interval is then the
    exact binomial one (Clopper and Pearson) for as many clusters.
    """
    means, names = zip(*_by_item(items).values(), strict=True)
    scores, clusters = np.array(means), _numbered(names)
    # another stream for each benchmark: the same draws for all would make an average of them look less sure than it is
    rng = np.random.default_rng([rng_seed, *items[0].task.encode()])
    n_clusters = len(np.unique(clusters))
    found = _summarised(
        bootstrap_means(scores, clusters, rng),
        value=float(scores.mean()),
        stderr=clustered_stderr(scores, clusters),
        n_items=len(scores),
        n_clusters=n_clusters,
        n_seeds=len({item.seed for item in items}),
        known=n_clusters > 1,
    )
    if n_clusters > 1 and found.value in (0.0, 1.0):
        room = 1 - ((1 - LEVEL) / 2) ** (1 / n_clusters)
        return replace(found, low=0.0, high=room) if found.value == 0 else replace(found, low=1 - room, high=1.0)
    return found


def average(summaries: Sequence[Summary]) -> Summary:
    """Plain mean of benchmarks, whose clusters are drawn independently of each other's."""
    return _summarised(
        np.mean([each.means for each in summaries], axis=0),
        value=float(np.mean([each.value for each in summaries])),
        stderr=math.sqrt(sum(each.stderr**2 for each in summaries)) / len(summaries),
        n_items=sum(each.n_items for each in summaries),
        n_clusters=sum(each.n_clusters for each in summaries),
        n_seeds=min(each.n_seeds for each in summaries),
        known=all(each.n_clusters > 1 for each in summaries),
    )


def _summarised(
    means: np.ndarray, *, value: float, stderr: float, n_items: int, n_clusters: int, n_seeds: int, known: bool
) -> Summary:
    low, high = math.nan, math.nan
    if known:
        # the bootstrap widens its spread for few clusters and may so leave the range of scores
        low, high = np.clip(np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]), 0, 1).tolist()
    return Summary(value, stderr, low, high, n_items, n_clusters, n_seeds, means)


def score_rows(
    benchmark: Benchmark,
    seed: int,
    items: Sequence[Scored],
    metrics: Mapping[str, float],
    version: str | None,
    rng_seed: int = 0,
) -> list[ScoreRow]:
    """What goes into the table `scores` for one benchmark under one seed: the headline first, then the other metrics.

    The headline's score is the mean of the items' scores, unrounded, so that scores and items always agree
    (`check_headline` holds lmms-eval's own number against it). It alone has a standard error and an interval.

    Args:
        benchmark: Which.
        seed: Seed of the sampler.
        items: Answers under that seed.
        metrics: Every metric that lmms-eval gives, as a share.
        version: Version of the benchmark, None where it names none.
        rng_seed: Of the bootstrap.
    """
    found = summary(items, rng_seed)
    stderr, low, high = (None if math.isnan(value) else value for value in (found.stderr, found.low, found.high))
    first = ScoreRow(
        task=benchmark.name, metric=benchmark.headline, is_headline=True, score=found.value, stderr=stderr,
        ci_low=low, ci_high=high, n=len(items), seed=seed, task_version=version,
    )  # fmt: skip
    others = [
        ScoreRow(
            task=benchmark.name, metric=metric, is_headline=False, score=score, n=len(items), seed=seed,
            task_version=version,
        )
        for metric, score in metrics.items()
        if metric != benchmark.headline
    ]  # fmt: skip
    return [first, *others]


@dataclass(frozen=True)
class Paired:
    """How much better an evaluation is than another on the items of a benchmark that both answered."""

    difference: Difference
    only_first: int
    """Items that it alone has right; right is a mean score of at least one half."""
    only_second: int
    """Items that the other alone has right."""
    unmatched: int
    """Items that only one of the two was asked."""

    @property
    def p_mcnemar(self) -> float:
        """Exact McNemar; takes every item as independent."""
        return mcnemar(self.only_first, self.only_second)


@dataclass(frozen=True)
class Comparison:
    """An evaluation against another, on every benchmark where they share items."""

    benchmarks: Mapping[str, Paired]
    average: Difference | None
    """Of all benchmarks with equal weights; None where they do not share every one of them."""


def comparison(
    items: Sequence[Scored], baseline: Sequence[Scored], tasks: Sequence[str], rng_seed: int = 0
) -> Comparison:
    """Compare item by item, by a paired bootstrap over clusters; the same draws for whoever is compared.

    Args:
        items: Answers of one evaluation to finished benchmarks.
        baseline: Those of the other, which is taken off.
        tasks: The benchmarks, in order; an average needs all of them.
        rng_seed: Of the bootstrap.
    """
    shared = {task: _shared(_of(task, items), _of(task, baseline)) for task in tasks}
    met = {task: each for task, each in shared.items() if len(each.clusters)}
    pairs = {
        task: Paired(
            paired_difference([each.first - each.second], [each.clusters], np.random.default_rng(rng_seed)),
            only_first=int(np.sum((each.first >= 0.5) & (each.second < 0.5))),
            only_second=int(np.sum((each.first < 0.5) & (each.second >= 0.5))),
            unmatched=each.unmatched,
        )
        for task, each in met.items()
    }
    if not met or len(met) < len(shared):
        return Comparison(pairs, None)
    differences = [each.first - each.second for each in met.values()]
    clusters = [each.clusters for each in met.values()]
    return Comparison(pairs, paired_difference(differences, clusters, np.random.default_rng(rng_seed)))


def in_order(tasks: Sequence[str]) -> tuple[str, ...]:
    """Benchmarks as tables order them, each once: the paper's, then others by name."""
    return (*(task for task in PAPER if task in tasks), *sorted(set(tasks) - set(PAPER)))


@dataclass(frozen=True)
class _Shared:
    """Mean scores on shared items, in order of their ids."""

    first: np.ndarray
    second: np.ndarray
    clusters: np.ndarray
    unmatched: int


def _of(task: str, items: Sequence[Scored]) -> list[Scored]:
    return [item for item in items if item.task == task]


def _by_item(items: Sequence[Scored]) -> dict[str, tuple[float, Cluster]]:
    """Mean score over seeds and cluster of each item, in order of the ids."""
    scores: dict[str, list[float]] = {}
    clusters: dict[str, Cluster] = {}
    for item in sorted(items, key=lambda each: (each.item_id, each.seed)):
        scores.setdefault(item.item_id, []).append(item.score)
        clusters.setdefault(item.item_id, _cluster(item))
    return {item_id: (float(np.mean(each)), clusters[item_id]) for item_id, each in scores.items()}


def _shared(items: Sequence[Scored], baseline: Sequence[Scored]) -> _Shared:
    mine, theirs = _by_item(items), _by_item(baseline)
    both = [item_id for item_id in mine if item_id in theirs]
    return _Shared(
        first=np.array([mine[item_id][0] for item_id in both], float),
        second=np.array([theirs[item_id][0] for item_id in both], float),
        clusters=_numbered([mine[item_id][1] for item_id in both]),
        unmatched=len(mine) + len(theirs) - 2 * len(both),
    )


def _cluster(item: Scored) -> Cluster:
    """Name of its cluster, apart from those of items that stand alone."""
    return ("item", item.item_id) if item.cluster is None else ("cluster", item.cluster)


def _numbered(names: Sequence[Cluster]) -> np.ndarray:
    """Equal names as equal numbers, in order of appearance."""
    numbers: dict[Cluster, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], int)
