"""Recorded runs as lines over training: whose seeds belong together, where a point stands, how far a mean reaches."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from analysis.measures import DeltaKind, Sign, Weighting, delta_fractions, recorded_fractions
from analysis.style import label
from analysis.tokens import EvidenceCounts
from core.intervals import mean_interval
from core.schema import RunRow

Axis = Literal["step", "tokens", "seconds"]
BAND_SEEDS = 3
"""Seeds from which on a mean gets a band; of fewer, every run is drawn by itself."""


@dataclass(frozen=True, eq=False)
class Recording:
    """What there is to know of a run without reading its tokens."""

    key: str
    info: RunRow
    steps: pd.DataFrame
    """One row a step, without histograms."""
    validation: pd.DataFrame
    """Columns step, accuracy, n."""
    counts: pd.DataFrame
    """Tokens of each rollout by the sign of the method's own Δ, as of `analysis.measures.rollout_counts`."""
    waiting: int = 0
    """Steps that wait in the spool."""

    @property
    def n_tokens(self) -> int:
        """Sampled tokens recorded so far."""
        return int(self.steps.n_tokens.sum())


@dataclass(frozen=True)
class View:
    """What a reader chose to see of the runs."""

    x: Axis = "step"
    delta: DeltaKind = "own"
    tau: float = 0.0
    """Nats that |Δ| must exceed to count (Figure 4: 0)."""
    sign: Sign = "all"
    weighting: Weighting = "tokens"
    group_seeds: bool = True

    @property
    def needs_tokens(self) -> bool:
        """The Δ fractions asked for stand in no step's own record."""
        return (self.delta, self.tau, self.weighting) != ("own", 0.0, "tokens")


DEFAULT_VIEW = View()


@dataclass(frozen=True, eq=False)
class Shown:
    """Everything the figures of the Runs page are drawn from."""

    recordings: tuple[Recording, ...]
    view: View = DEFAULT_VIEW
    counts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By run: tokens of each rollout with Δ > τ and Δ < −τ, where the view needs them."""
    evidence: Mapping[str, EvidenceCounts] = field(default_factory=dict)
    """By run: its evidence by token class."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """The same for two that every figure draws alike: a recorded step never changes."""
        runs = tuple(
            (run.key, run.info.started_at, run.info.last_step, len(run.steps), len(run.validation))
            for run in self.recordings
        )
        counts = tuple((key, len(rows)) for key, rows in self.counts.items())
        return self.view, runs, counts, tuple((key, found.n.sum()) for key, found in self.evidence.items())


@dataclass(frozen=True, eq=False)
class Curve:
    """One line: a run, or the mean of the seeds of one configuration."""

    name: str
    method: str
    key: str
    """The run that a click on it opens."""
    variant: int
    """Counts configurations of the same method."""
    seeds: int
    """Runs shown together that differ in nothing but the seed."""
    has_band: bool
    """It is their mean, with its 95 % t-interval, and not one of them."""
    points: pd.DataFrame
    """Columns step, x, y, n, low, high; low and high are NaN where there is no band."""


def configuration(info: RunRow) -> dict[str, Any]:
    """The settings of a run by their dotted names, {} where the file holds none that can be read."""
    try:
        tree = json.loads(info.config)
    except ValueError:
        return {}
    return dict(_leaves("", tree)) if isinstance(tree, dict) else {}


def _leaves(prefix: str, tree: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def seed_groups(recordings: Sequence[Recording]) -> list[tuple[Recording, ...]]:
    """Runs that differ in nothing but their seed, each group by seed; the groups in the order of their first run."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        settings = {name: value for name, value in configuration(recording.info).items() if name != "seed"}
        info = recording.info
        identity = json.dumps([info.method, info.model, info.problems, sorted(settings.items())], default=str)
        groups.setdefault(identity, []).append(recording)
    return [tuple(sorted(group, key=lambda recording: recording.info.seed)) for group in groups.values()]


def positions(recording: Recording, axis: Axis, steps: np.ndarray) -> np.ndarray:
    """Where steps stand on an axis; 0, before training, stands at 0, and a step that is not recorded nowhere (NaN).

    Tokens are those sampled since the first step, seconds those of the steps themselves.
    """
    if axis == "step":
        return steps.astype(float)
    recorded = np.concatenate([[0], recording.steps.step.to_numpy(int)])
    column = {"tokens": "n_tokens", "seconds": "seconds_total"}[axis]
    places = np.cumsum(np.concatenate([[0.0], recording.steps[column].to_numpy(float)]))
    found = np.searchsorted(recorded, steps).clip(max=len(recorded) - 1)
    return np.where(recorded[found] == steps, places[found], np.nan)


class Points(NamedTuple):
    """What a line is made of: steps in order, the values there, and how many things each is a mean of."""

    step: np.ndarray
    y: np.ndarray
    n: np.ndarray


Values = Callable[[Recording], Points]
"""Reads a line from a recording."""


def points_of(frame: pd.DataFrame, step: str, y: str, n: str) -> Points:
    """Columns of a table as a line."""
    return Points(frame[step].to_numpy(int), frame[y].to_numpy(float, na_value=np.nan), frame[n].to_numpy(int))


def step_values(column: str, n: str = "n_rollouts") -> Values:
    """A column of the table steps."""
    return lambda recording: points_of(recording.steps, "step", column, n)


def validation_values(recording: Recording) -> Points:
    """Held-out accuracy."""
    return points_of(recording.validation, "step", "accuracy", "n")


def fraction_values(shown: Shown, side: Literal["above", "below"]) -> Values:
    """Shares of tokens with Δ > τ, or with Δ < −τ, as the view asks (Figure 4)."""
    view = shown.view

    def read(recording: Recording) -> Points:
        if not view.needs_tokens:
            shares = recorded_fractions(recording.steps, view.sign)
        elif recording.key in shown.counts:
            shares = delta_fractions(shown.counts[recording.key], view.sign, view.weighting)
        else:
            return Points(np.empty(0, int), np.empty(0), np.empty(0, int))
        return points_of(shares, "step", side, "n")

    return read


def curves(recordings: Sequence[Recording], values: Values, view: View) -> list[Curve]:
    """The lines to draw: one a configuration with at least three seeds, else one a run; none where nothing is."""
    groups = seed_groups(recordings)
    found: list[Curve] = []
    variants: dict[str, int] = {}
    for group in groups:
        method = group[0].info.method
        variant = variants[method] = variants.get(method, -1) + 1
        alike = sum(other[0].info.method == method for other in groups) > 1
        title = label(method) + (f" · {group[0].key}" if alike else "")
        lines = [_line(recording, values, view.x) for recording in group]
        if view.group_seeds and len(group) >= BAND_SEEDS:
            found.append(Curve(title, method, group[0].key, variant, len(group), True, _mean(lines)))
            continue
        for recording, points in zip(group, lines, strict=True):
            name = f"{label(method)} · {recording.key}" if alike else f"{label(method)} · seed {recording.info.seed}"
            seeds = len(group) if view.group_seeds else 1
            found.append(Curve(name, method, recording.key, variant, seeds, False, points))
    return [curve for curve in found if len(curve.points)]


def _line(recording: Recording, values: Values, axis: Axis) -> pd.DataFrame:
    step, y, n = values(recording)
    x = positions(recording, axis, step)
    kept = ~np.isnan(x) & ~np.isnan(y)
    empty = np.full(kept.sum(), np.nan)
    return pd.DataFrame({"step": step[kept], "x": x[kept], "y": y[kept], "n": n[kept], "low": empty, "high": empty})


def _mean(lines: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean over seeds with its 95 % t-interval, at the steps that all of them have."""
    pooled = pd.concat(lines)
    shared = pooled.groupby("step").filter(lambda rows: len(rows) == len(lines))
    rows = []
    for step, points in shared.groupby("step"):
        interval = mean_interval(points.y.tolist())
        rows.append((step, points.x.mean(), interval.estimate, points.n.sum(), interval.low, interval.high))
    return pd.DataFrame(rows, columns=["step", "x", "y", "n", "low", "high"])


def schedules(recordings: Sequence[Recording], axis: Axis) -> list[pd.DataFrame]:
    """λ over training, once for each different course: columns x, lam."""
    found: dict[tuple[float, ...], pd.DataFrame] = {}
    for recording in recordings:
        step, lam, _ = step_values("lam")(recording)
        known = ~np.isnan(lam)
        if known.any():
            points = pd.DataFrame({"x": positions(recording, axis, step)[known], "lam": lam[known]})
            found.setdefault(tuple(lam[known].round(9)), points)
    longest = sorted(found.items(), key=lambda item: -len(item[0]))
    kept: dict[tuple[float, ...], pd.DataFrame] = {}
    for course, points in longest:  # a run that has not come as far has the same course
        if not any(other[: len(course)] == course for other in kept):
            kept[course] = points
    return list(kept.values())
