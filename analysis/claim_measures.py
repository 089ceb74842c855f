"""What the paper's claims are measured by: each a number of the recorded study, with its interval and what n counts."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.evidence import COLUMNS, DECISIVE, FILLER, evidence_runs
from analysis.gains import gains_by_seed
from analysis.recorded import RecordedStudy, accuracies
from core.intervals import Interval, mean_interval

Unit = Literal["points", "percent", "nats"]
"""Of a number: a difference of shares, a share of something, or nats."""
ArmName = tuple[str, str]
"""Group and arm."""
CEPO: ArmName = ("methods", "cepo")
NOTHING = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Measured:
    """Our number for a claim."""

    value: Interval
    n: str
    """What it is a mean over, and what its interval is."""
    unit: Unit = "points"


def over(arm: ArmName, baseline: ArmName) -> Callable[[RecordedStudy], Measured]:
    """Held-out accuracy after training, an arm above another, paired by seed."""

    def measure(study: RecordedStudy) -> Measured:
        found: Any = gains_by_seed(study, arm[0], baseline)
        return _seeds(found.loc[found["arm"] == arm[1], "gain"].dropna().tolist())

    return measure


def during(arm: ArmName, baseline: ArmName) -> Callable[[RecordedStudy], Measured]:
    """The same for the mean over all validations after step 0."""

    def measure(study: RecordedStudy) -> Measured:
        mine, theirs = (_mean_accuracy(study, *each) for each in (arm, baseline))
        return _seeds([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])

    return measure


def _mean_accuracy(study: RecordedStudy, group: str, arm: str) -> dict[int, float]:
    recordings = study.recordings(group, [arm])
    return {r.info.seed: float(r.validation.loc[r.validation["step"] > 0, "accuracy"].mean()) for r in recordings}


def below_base(method: str) -> Callable[[RecordedStudy], Measured]:
    """How far held-out accuracy falls from before training to after it."""

    def measure(study: RecordedStudy) -> Measured:
        final: Any = study.final("methods", method)
        return _seeds((final["before"] - final["after"]).tolist())

    return measure


def leaks(method: str) -> Callable[[RecordedStudy], Measured]:
    """How much more showing the answer adds after training than before it."""

    def measure(study: RecordedStudy) -> Measured:
        told: Any = accuracies(study.told) if len(study.told) else pd.DataFrame(columns=["run_id", "step", "accuracy"])
        values = []
        for run_id, before, after in study.final("methods", method)[["run_id", "before", "after"]].itertuples(
            index=False
        ):
            shown = told.loc[told["run_id"] == run_id].sort_values("step")["accuracy"].tolist()
            values += [(shown[-1] - after) - (shown[0] - before)] if shown else []
        return _seeds(values)

    return measure


def rise(column: str, sign: int) -> Callable[[RecordedStudy], Measured]:
    """How much a share of CEPO's steps changes from the first third of the steps with λ > 0 to the last."""

    def measure(study: RecordedStudy) -> Measured:
        values = []
        for recording in study.recordings(*CEPO[:1], [CEPO[1]]):
            steps: Any = recording.steps.loc[recording.steps["lam"] > 0]
            third = len(steps) // 3
            if third:
                shares = steps.sort_values("step")[column].to_numpy(float)
                values.append(sign * float(np.nanmean(shares[-third:]) - np.nanmean(shares[:third])))
        return _seeds(values)

    return measure


def fewer_clips(study: RecordedStudy) -> Measured:
    """Clip rate of RLSD's weights minus that of CEPO's, by step of the CEPO run that recorded both."""
    rows: Any = _evidence(study)
    return _by_step(
        _share(rows, ["clipped_low_rlsd", "clipped_high_rlsd"], "n_rlsd")
        - _share(rows, ["clipped_low_cepo", "clipped_high_cepo"], "n_cepo")
    )


def sharper_at_decisive(study: RecordedStudy) -> Measured:
    """Share of tokens that meet the condition of Proposition 1 with A > 0: decisive ones minus filler, by step."""
    rows: Any = _evidence(study)
    rows = rows.loc[rows["sign"] > 0]
    shares = [_share(rows.loc[rows["kind"].isin(kinds)], ["sharper"], "n_contrast") for kinds in (DECISIVE, FILLER)]
    return _by_step(shares[0] - shares[1])


def stronger_at_decisive(study: RecordedStudy) -> Measured:
    """Mean |Δ| of CEPO minus that of RLSD at decisive tokens, by step."""
    rows: Any = _evidence(study)
    rows = rows.loc[rows["kind"].isin(DECISIVE)]
    return _by_step(_share(rows, ["abs_delta_cepo"], "n_cepo") - _share(rows, ["abs_delta_rlsd"], "n_rlsd"), "nats")


def weaker_at_filler(study: RecordedStudy) -> Measured:
    """Mean |Δ| of RLSD minus that of CEPO at filler, by step."""
    rows: Any = _evidence(study)
    rows = rows.loc[rows["kind"].isin(FILLER)]
    return _by_step(_share(rows, ["abs_delta_rlsd"], "n_rlsd") - _share(rows, ["abs_delta_cepo"], "n_cepo"), "nats")


def overhead(study: RecordedStudy) -> Measured:
    """Seconds of the teachers' passes over those of all else that training needs in the same steps.

    Within a run, because runs of one study share a machine whose speed changes from one to the next.
    """
    shares = []
    for recording in study.recordings(CEPO[0], [CEPO[1]]):
        steps: Any = recording.steps.iloc[1:]  # the first step of a run warms things up
        seconds = steps[["seconds_total", "seconds_validate", "seconds_probe", "seconds_teacher"]].astype(float).sum()
        rest = seconds["seconds_total"] - seconds.drop("seconds_total").sum()
        shares.append(float(seconds["seconds_teacher"] / rest))
    return replace(_seeds(shares), unit="percent")


def _evidence(study: RecordedStudy) -> Any:
    """Evidence of the CEPO run that recorded both teachers at every step; no row where there is none."""
    return evidence_runs(study).get("cepo", pd.DataFrame(columns=["run_id", "step", *COLUMNS[1:]]))


def _share(rows: Any, sums: list[str], n: str) -> Any:
    """A mean over tokens, by run and step."""
    steps: Any = rows.groupby(["run_id", "step"])[[*sums, n]].sum()
    return steps[sums].sum(axis=1) / steps[n].where(steps[n] > 0)


def _by_step(values: Any, unit: Unit = "points") -> Measured:
    known = values.dropna().tolist()
    if not known:
        return Measured(NOTHING, "no runs", unit)
    return Measured(mean_interval(known), f"{len(known)} steps of one run", unit)


def _seeds(values: list[float]) -> Measured:
    if not values:
        return Measured(NOTHING, "no runs")
    return Measured(mean_interval(values), f"{len(values)} seeds" if len(values) > 1 else "1 seed, no interval")
