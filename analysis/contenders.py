"""Own evaluations as contenders of one table: which belong together, and how two compare item by item."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.comparison import AVERAGE, Score
from analysis.eval_store import Evaluation
from analysis.style import label as method_label
from core.eval_schema import BENCHMARKS, SETTINGS
from core.intervals import Difference, Interval, clustered_stderr, mcnemar, mean_interval, paired_difference

FEW_CLUSTERS = 20
"""Below so many, bootstrap intervals are known to be too narrow."""


@dataclass(frozen=True)
class Contender:
    """One row of a benchmark table: evaluations that differ in the seed of their training run alone."""

    label: str
    method: str
    evaluations: tuple[Evaluation, ...]

    @cached_property
    def items(self) -> pd.DataFrame:
        """Score of every answer: columns task, item_id, seed, score, cluster, run (place of the evaluation)."""
        return pd.concat([each.items.assign(run=i) for i, each in enumerate(self.evaluations)], ignore_index=True)

    @property
    def finished_tasks(self) -> frozenset[str]:
        """Benchmarks that every one of its evaluations has finished."""
        return frozenset.intersection(*(frozenset(each.finished_tasks) for each in self.evaluations))


def models(evaluations: Sequence[Evaluation]) -> list[str]:
    """The models that were evaluated, before training."""
    return sorted({each.about.model for each in evaluations})


def contenders(evaluations: Sequence[Evaluation], model: str) -> list[Contender]:
    """The rows of a model's table, base first, then as the paper orders methods.

    Evaluations of one label and equal settings are pooled where each names another training seed; otherwise they stay
    apart, and the name of the evaluation is added.
    """
    groups: dict[tuple[str, ...], list[Evaluation]] = {}
    for each in evaluations:
        if each.about.model == model:
            name = each.about.label or method_label(each.about.method) or each.file.key
            settings = (str(getattr(each.about, setting)) for setting in SETTINGS)
            groups.setdefault((name, each.about.method, *settings), []).append(each)
    found: list[Contender] = []
    names = [key[0] for key in groups]
    for (name, method, *_), group in groups.items():
        seeds = [each.about.run_seed for each in group]
        poolable = None not in seeds and len(set(seeds)) == len(seeds)
        if poolable and names.count(name) == 1:
            found.append(Contender(name, method, tuple(group)))
        else:
            alone = len(group) == 1 and names.count(name) == 1
            found += [Contender(name if alone else f"{name} ({e.file.key})", method, (e,)) for e in group]
    order = ("base", "grpo", "opsd", "sdpo", "rlsd", "cepo")
    return sorted(found, key=lambda c: (order.index(c.method) if c.method in order else len(order), c.label))


def differing_settings(rows: Sequence[Contender]) -> list[str]:
    """Settings in which the evaluations of a table differ, so that its differences are not those of methods alone."""
    abouts = [each.about for row in rows for each in row.evaluations]
    return [setting for setting in SETTINGS if len({getattr(about, setting) for about in abouts}) > 1]


@dataclass(frozen=True)
class Split:
    """Items of a benchmark that two contenders share: who has which right."""

    only_first: pd.DataFrame
    """Items that the first has right and the second wrong: item_id, first, second (mean scores), cluster."""
    only_second: pd.DataFrame
    both: int
    neither: int
    unmatched: int
    """Items that only one of the two was asked."""

    @property
    def p_value(self) -> float:
        """Exact McNemar; takes every item as independent."""
        return mcnemar(len(self.only_first), len(self.only_second))


@dataclass(frozen=True)
class PairedContest:
    """Own evaluations of one model, compared on the items that two of them share.

    An item's score is its mean over seeds and training runs, so what varies here is which items were asked; how
    another training run would have turned out is not in it.
    """

    rows: tuple[Contender, ...]
    by_cluster: bool = True
    """Draw clusters of items (variants of one question), not single items."""
    sampling_seed: int | None = None
    """Only answers under this seed; None: all."""
    seed: int = 0
    """Of the bootstrap."""

    def identity(self) -> tuple[object, ...]:
        """Equal for contests whose comparisons are equal."""
        files = tuple(
            (row.label, tuple((str(e.file.path), e.file.stamp) for e in row.evaluations)) for row in self.rows
        )
        return files, self.by_cluster, self.sampling_seed, self.seed

    @property
    def labels(self) -> list[str]:
        """The contenders, in order."""
        return [row.label for row in self.rows]

    @property
    def columns(self) -> list[str]:
        """Every benchmark that one of them was asked for, the paper's first."""
        asked = {task for row in self.rows for each in row.evaluations for task in each.tasks}
        return [task for task in BENCHMARKS if task in asked] + sorted(asked - set(BENCHMARKS))

    @property
    def sampling_seeds(self) -> list[int]:
        """Seeds under which anybody answered."""
        return sorted({seed for row in self.rows for seed in row.items["seed"].tolist()})

    def row(self, label: str) -> Contender:
        """A contender by its label."""
        return self.rows[self.labels.index(label)]

    def method(self, label: str) -> str:
        """The contender's method."""
        return self.row(label).method

    @cached_property
    def _means(self) -> dict[tuple[str, str], pd.DataFrame]:
        """By contender and benchmark: item_id (index), score, cluster."""
        means: dict[tuple[str, str], pd.DataFrame] = {}
        for row in self.rows:
            items = row.items
            if self.sampling_seed is not None:
                items = items.loc[items["seed"] == self.sampling_seed]
            for task, part in items.groupby("task"):
                if task in row.finished_tasks:
                    means[row.label, str(task)] = part.groupby("item_id").agg({"score": "mean", "cluster": "first"})
        return means

    def _clusters(self, items: pd.DataFrame) -> np.ndarray:
        return pd.factorize(items["cluster"])[0] if self.by_cluster else np.arange(len(items))

    def score(self, label: str, column: str) -> Score | None:
        """Mean score with its standard error over clusters; the average only of a contender that has every one."""
        if column == AVERAGE:
            return self._average(label)
        items = self._means.get((label, column))
        if items is None:
            return None
        row, clusters = self.row(label), self._clusters(items)
        seeds = 1 if self.sampling_seed is not None else len(set(row.items.loc[row.items["task"] == column, "seed"]))
        versions = sorted({each.versions[column] for each in row.evaluations if column in each.versions})
        values = items["score"].to_numpy(float)
        return Score(
            value=float(values.mean()),
            stderr=clustered_stderr(values, clusters),
            n_items=len(items),
            n_clusters=len(np.unique(clusters)),
            n_seeds=seeds,
            n_runs=len(row.evaluations),
            version=", ".join(versions),
        )

    def _average(self, label: str) -> Score | None:
        scores = [self.score(label, column) for column in self.columns]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores) or not known:
            return None
        return Score(
            value=float(np.mean([score.value for score in known])),
            stderr=math.sqrt(sum(score.stderr**2 for score in known)) / len(known),
            n_items=sum(score.n_items for score in known),
            n_clusters=sum(score.n_clusters for score in known),
            n_seeds=min(score.n_seeds for score in known),
            n_runs=len(self.row(label).evaluations),
        )

    def shared(self, label: str, other: str, column: str) -> pd.DataFrame | None:
        """Items both answered: item_id (index), first, second, cluster; None where there is none."""
        mine, theirs = self._means.get((label, column)), self._means.get((other, column))
        if mine is None or theirs is None:
            return None
        both = mine.rename(columns={"score": "first"}).join(theirs[["score"]], how="inner")
        both = both.rename(columns={"score": "second"})
        return both if len(both) else None

    def difference(self, label: str, other: str, column: str) -> Difference | None:
        """Paired, clustered bootstrap on shared items; the average only where they share every benchmark."""
        shared = [self.shared(label, other, each) for each in (self.columns if column == AVERAGE else [column])]
        known = [each for each in shared if each is not None]
        if not known or len(known) < len(shared):
            return None
        differences = [(each["first"] - each["second"]).to_numpy(float) for each in known]
        # the same draws for every pair: a comparison does not depend on who else is in the table
        return paired_difference(differences, list(map(self._clusters, known)), np.random.default_rng(self.seed))

    def split(self, label: str, other: str, column: str) -> Split:
        """Who has which item right; right is a mean score of at least one half."""
        shared = self.shared(label, other, column)
        total = sum(len(self._means.get((each, column), ())) for each in (label, other))
        if shared is None:
            empty = pd.DataFrame({"first": [], "second": [], "cluster": []})
            return Split(empty, empty, 0, 0, total)
        first, second = shared["first"] >= 0.5, shared["second"] >= 0.5
        return Split(
            only_first=shared.loc[first & ~second],
            only_second=shared.loc[~first & second],
            both=int(np.sum(first & second)),
            neither=int(np.sum(~first & ~second)),
            unmatched=total - 2 * len(shared),
        )

    def over_runs(self, label: str) -> Interval | None:
        """Average over training runs with its 95 % t-interval: what another seed would do; None from one run."""
        row = self.row(label)
        if len(row.evaluations) < 2 or self.score(label, AVERAGE) is None:
            return None
        alone = [
            PairedContest((replace(row, evaluations=(e,)),), sampling_seed=self.sampling_seed) for e in row.evaluations
        ]
        scores = [[one.score(label, column) for column in self.columns] for one in alone]
        return mean_interval([float(np.mean([score.value for score in run if score])) for run in scores])


def notes(contest: PairedContest, baseline: str) -> list[str]:
    """What a reader has to know about a table of own evaluations before trusting a difference."""
    found: list[str] = []
    for row in contest.rows:
        if over := contest.over_runs(row.label):
            found.append(
                f"{row.label} over {len(row.evaluations)} training runs: average {100 * over.estimate:.2f} ± "
                f"{100 * over.half_width:.2f} (95 % t-interval); its ± in the table and the tests leave that out."
            )
    if settings := differing_settings(contest.rows):
        found.append(
            f"These evaluations differ in {', '.join(settings)}, so differences are not those of methods alone."
        )
    if unmatched := _counted(contest, baseline, lambda split: split.unmatched):
        found.append(f"Items asked of only one of the two and left out of differences: {unmatched}.")
    if single := [row.label for row in contest.rows if row.method != "base" and len(row.evaluations) == 1]:
        found.append(f"n = 1 training run, training variance not included: {', '.join(single)}.")
    few = [column for column in contest.columns if 0 < _fewest_clusters(contest, column) < FEW_CLUSTERS]
    if few:
        names = ", ".join(BENCHMARKS.get(column, column) for column in few)
        found.append(f"Fewer than {FEW_CLUSTERS} independent items: intervals are too narrow on {names}.")
    return found


def _fewest_clusters(contest: PairedContest, column: str) -> int:
    scores = [contest.score(label, column) for label in contest.labels]
    return min((score.n_clusters for score in scores if score is not None), default=0)


def _counted(contest: PairedContest, baseline: str, count: Callable[[Split], int]) -> str:
    totals = {
        label: sum(
            count(contest.split(label, baseline, column))
            for column in contest.columns
            if contest.shared(label, baseline, column) is not None
        )
        for label in contest.labels
        if label != baseline
    }
    return ", ".join(f"{label} {n}" for label, n in totals.items() if n)


def provenance(rows: Sequence[Contender]) -> pd.DataFrame:
    """Where the numbers of a table come from: one row an evaluation."""
    lines = [
        {
            "evaluation": each.file.key,
            "shown as": row.label,
            "weights": " + ".join(filter(None, (each.about.model, each.about.adapter))),
            "revision": each.about.revision or "–",
            "training run": each.about.run_id or "–",
            "benchmarks": f"{len(each.finished_tasks)}/{len(each.tasks)}",
            "data": each.about.data,
            "backend": each.about.backend,
            "prompt": each.about.prompt,
            "pixels": each.about.pixels,
            "sampling": _short(each.about.sampling),
            "commit": each.about.git_commit[:9] or "–",
            "status": " ".join(filter(None, (each.about.status, each.about.reason and f"({each.about.reason})"))),
        }
        for row in rows
        for each in row.evaluations
    ]
    return pd.DataFrame(lines)


def _short(text: str) -> str:
    """A JSON object as `name value, name value`; other text as it is."""
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text
    return ", ".join(f"{k} {v}" for k, v in values.items()) if isinstance(values, dict) else text
