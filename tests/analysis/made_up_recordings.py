"""Recordings made up in memory, for tests that need no file."""

import json
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from analysis.curves import Recording
from core.schema import RunRow, columns

NOW = datetime(2026, 1, 2, 12, 0, 0)
STEP_COLUMNS = [c.name for c in columns("steps") if c.name != "log_weight_histogram"]


def recording(
    method: str = "cepo", seed: int = 0, *, key: str = "", accuracies: tuple[float, ...] = (0.4, 0.5, 0.6),
    n: int = 100, counts: pd.DataFrame | None = None, waiting: int = 0, config: dict | None = None,
    n_steps: int | None = None,
    silent: float = 10.0, info: dict | None = None, **step_columns,
) -> Recording:  # fmt: skip
    """A run that validated before and after every step; anything may be given otherwise."""
    steps = len(accuracies) - 1 if n_steps is None else n_steps
    table = dict.fromkeys(STEP_COLUMNS, 0.1) | {
        "step": np.arange(1, steps + 1), "n_tokens": 1000, "n_rollouts": 8, "grad_skipped": 0, "seconds_total": 2.0,
        "zero_advantage_share": 0.2, "truncated_share": 0.0, "response_tokens_mean": 50.0, "lam": np.nan,
    }  # fmt: skip
    settings = {"method": {"name": method, "epsilon_w": 0.5}, "seed": seed, "steps": 9} | (config or {})
    given = {
        "run_id": "r", "method": method, "seed": seed, "model": "m", "problems": "p", "config": json.dumps(settings),
        "git_commit": "abcdef0123", "versions": '{"torch": "2"}', "device": "cpu", "status": "running",
        "teacher_source": '{"kind": "actor"}', "teacher_sees_image": True, "started_at": NOW - timedelta(hours=1),
        "heartbeat_at": NOW - timedelta(seconds=silent), "last_step": steps, "steps_planned": 9,
    }  # fmt: skip
    empty = pd.DataFrame(columns=["step", "group_id", "rollout_id", "advantage", "n", "above", "below"], dtype=float)
    return Recording(
        key=key or f"{method}-{seed}",
        info=RunRow(**(given | (info or {}))),
        steps=pd.DataFrame(table | step_columns, index=range(steps)),
        validation=pd.DataFrame({"step": range(len(accuracies)), "accuracy": accuracies, "n": n}),
        counts=empty if counts is None else counts,
        waiting=waiting,
    )


def rollout_rows(*rows: tuple[int, float, int, int, int]) -> pd.DataFrame:
    """Counts of rollouts from (step, advantage, n, above, below)."""
    found = pd.DataFrame(rows, columns=["step", "advantage", "n", "above", "below"])
    return found.assign(group_id=0, rollout_id=range(len(rows)))
