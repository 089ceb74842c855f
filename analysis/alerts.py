"""What a reader of a run should not miss: one sentence each, with the number, its threshold and the step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd

from analysis.curves import Recording
from analysis.measures import wrong_direction
from core.intervals import binomial_stderr, holm, unpaired_difference
from core.schema import RunRow

EVIDENCE_CLIP = 0.6
"""Share of weights clipped above which the evidence hardly tells tokens apart any more."""
WRONG_DIRECTION = 0.5
"""Share of tokens whose evidence speaks against their rollout's verdict."""
NO_ADVANTAGE = 0.8
"""Share of rollouts with A = 0, which move nothing."""
TRUNCATION = 0.2
"""Share of responses cut at the token limit."""
LENGTH_DRIFT = 0.5
"""Change of the mean response length from the first to the last fifth of the steps."""
LENGTH_DRIFT_STEPS = 10
"""Steps below which a fifth of them says nothing."""
STALE_SECONDS = 90.0
"""Without a sign of life for so long, a running trainer is in doubt; it gives one every 30 s."""
ALPHA = 0.05
"""How often a step-0 mismatch may be seen by chance, over all runs compared."""

NEVER_EMPTY = ("loss", "reward_mean", "entropy_mean", "sampler_gap")
ALL_NUMBERS = (*NEVER_EMPTY, "delta_mean", "weight_mean", "divergence_mean", "grad_norm")
"""Columns of the steps that are looked through; log-probabilities show in entropy and sampler gap."""

Kind = Literal[
    "clip", "wrong direction", "A = 0", "truncation", "length drift", "not finite", "step 0", "stale", "waiting"
]


@dataclass(frozen=True)
class Alert:
    """Something to look at."""

    kind: Kind
    sentence: str
    step: int | None = None
    """Where it was seen last; None where it concerns no step."""


def alerts(recordings: Sequence[Recording], now: datetime) -> dict[str, tuple[Alert, ...]]:
    """Every run's alerts by its key; those that compare runs compare the ones given.

    Args:
        recordings: the runs shown together.
        now: the time, UTC and naive as in the run file.
    """
    unequal = step_0_mismatch(recordings)
    return {
        recording.key: run_alerts(recording, now) + ((unequal[recording.key],) if recording.key in unequal else ())
        for recording in recordings
    }


def run_alerts(recording: Recording, now: datetime) -> tuple[Alert, ...]:
    """The alerts that a run raises by itself."""
    steps, info = recording.steps, recording.info
    found = (
        stale(info, now),
        waiting(recording.waiting),
        not_finite(steps),
        _above(
            "clip", "of the weights are clipped by ε_w", steps.step, steps.evidence_clip_low + steps.evidence_clip_high,
            EVIDENCE_CLIP,
        ),
        _above(
            "wrong direction", "of the tokens have evidence against their rollout's verdict (sign(A)·Δ < 0)",
            *_columns(wrong_direction(recording.counts)), WRONG_DIRECTION,
        ),
        _above(
            "A = 0", "of the rollouts have A = 0 and move nothing", steps.step, steps.zero_advantage_share, NO_ADVANTAGE
        ),
        _above(
            "truncation", "of the responses are cut at the token limit", steps.step, steps.truncated_share, TRUNCATION
        ),
        length_drift(steps),
    )  # fmt: skip
    return tuple(alert for alert in found if alert is not None)


def is_live(info: RunRow, now: datetime) -> bool:
    """The trainer says that it runs, and has shown so lately."""
    return info.status == "running" and seconds_since(info, now) <= STALE_SECONDS


def seconds_since(info: RunRow, now: datetime) -> float:
    """Seconds since the trainer's last sign of life."""
    return (now - info.heartbeat_at).total_seconds()


def duration(seconds: float) -> str:
    """A span of time in the unit one would say it in."""
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


def stale(info: RunRow, now: datetime) -> Alert | None:
    """A run that says it is running and shows no sign of life."""
    if info.status != "running" or is_live(info, now):
        return None
    return Alert(
        "stale",
        f"No sign of life for {duration(seconds_since(info, now))} after step {info.last_step} (alert after "
        f"{STALE_SECONDS:.0f} s): the trainer was killed, sleeps, or another program keeps its file open.",
        info.last_step,
    )


def waiting(steps: int) -> Alert | None:
    """Steps that the trainer could not write into the file yet."""
    if not steps:
        return None
    noun = "1 step waits" if steps == 1 else f"{steps} steps wait"
    return Alert(
        "waiting", f"{noun} in spool/ (alert from 1): another program keeps the run file open; close it there."
    )


def not_finite(steps: pd.DataFrame) -> Alert | None:
    """Numbers that are no numbers, and updates skipped for a gradient that was none."""
    values = {name: steps[name].to_numpy(float, na_value=math.nan) for name in ALL_NUMBERS}
    # where a column may be empty, NaN says just that
    bad = {name: ~np.isfinite(v) if name in NEVER_EMPTY else np.isinf(v) for name, v in values.items()}
    skipped = steps.grad_skipped.to_numpy(int)
    wrong = np.any([skipped > 0, *bad.values()], axis=0)
    if not wrong.any():
        return None
    step = int(steps.step.to_numpy()[wrong].max())
    columns = [name for name in ALL_NUMBERS if bad[name].any()]
    said = [f"{', '.join(columns)} not finite"] if columns else []
    if skipped.any():
        said.append(f"{skipped.sum()} updates skipped for a gradient that was not finite")
    sentence = f"{'; '.join(said)}, at {_of(int(wrong.sum()), len(steps))} (alert from 1), last at step {step}."
    return Alert("not finite", sentence[0].upper() + sentence[1:], step)


def length_drift(steps: pd.DataFrame) -> Alert | None:
    """Responses that became much longer or shorter: mean of the last fifth of the steps against the first fifth."""
    if len(steps) < LENGTH_DRIFT_STEPS:
        return None
    lengths = steps.sort_values("step").response_tokens_mean.to_numpy(float)
    fifth = len(lengths) // 5
    first, last = lengths[:fifth].mean(), lengths[-fifth:].mean()
    change = last / first - 1 if first > 0 else math.nan
    if not abs(change) > LENGTH_DRIFT:
        return None
    step = int(steps.step.max())
    return Alert(
        "length drift",
        f"Responses went from {first:.0f} to {last:.0f} tokens, {change:+.0%}, between the first and the last fifth of "
        f"the steps, up to step {step} (alert beyond ±{LENGTH_DRIFT:.0%}).",
        step,
    )


def step_0_mismatch(recordings: Sequence[Recording]) -> dict[str, Alert]:
    """Runs that did not start where the others did: held-out accuracy before training, beyond what sampling explains.

    Each run against all others together; p-values are corrected for the number of runs (Holm).
    """
    starts = {}
    for recording in recordings:
        first = recording.validation[recording.validation.step == 0]
        if len(first):
            starts[recording.key] = (float(first.accuracy.iloc[0]), int(first.n.iloc[0]))
    if len(starts) < 2:
        return {}
    differences = []
    for key, (accuracy, n) in starts.items():
        others = [start for other, start in starts.items() if other != key]
        total = sum(count for _, count in others)
        pooled = sum(share * count for share, count in others) / total
        here, there = binomial_stderr(accuracy, n), binomial_stderr(pooled, total)
        differences.append((pooled, total, unpaired_difference(accuracy, here, pooled, there, n)))
    corrected = holm([difference.p_value for *_, difference in differences])
    return {
        key: Alert(
            "step 0",
            f"Before training (step 0) it had {accuracy:.1%} right (n = {n}), the other runs shown {pooled:.1%} "
            f"(n = {total}): {difference.estimate:+.1%}, 95 % interval {difference.low:+.1%} to "
            f"{difference.high:+.1%}, p = {p:.2g} (alert below {ALPHA:g}); "
            "its curve does not start from the same model or problems.",
            0,
        )
        for (key, (accuracy, n)), (pooled, total, difference), p in zip(
            starts.items(), differences, corrected, strict=True
        )
        if p < ALPHA and difference.estimate != 0
    }


def _columns(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    return frame.step, frame.y


def _above(kind: Kind, what: str, step: pd.Series, share: pd.Series, threshold: float) -> Alert | None:
    steps, shares = step.to_numpy(int), share.to_numpy(float, na_value=math.nan)
    over = np.flatnonzero(shares > threshold)
    if not len(over):
        return None
    seen = over[steps[over].argmax()]
    last, value = int(steps[seen]), shares[seen]
    at = _of(len(over), int((~np.isnan(shares)).sum()))
    return Alert(kind, f"{value:.1%} {what} at step {last}; above {threshold:.0%} at {at}.", last)


def _of(some: int, of: int) -> str:
    return f"{some} of {of} steps" if of != 1 else "the only step"
