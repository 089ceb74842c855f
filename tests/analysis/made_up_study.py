"""A recorded study made up in memory from the real matrix: every arm, every seed, nothing trained."""

import hashlib
import json
from datetime import datetime

import numpy as np
import pandas as pd

from analysis.matrix import Run, Study, study_of
from analysis.recorded import SEARCH, About, RecordedStudy
from core.config import to_tree
from core.eval_schema import BENCHMARKS
from core.schema import columns

RATES = {"grpo": 5e-4, "opsd": 5e-4, "sdpo": 5e-4, "rlsd": 5e-4, "cepo": 5e-4}
GAINS = {"grpo": 0.30, "opsd": 0.15, "sdpo": 0.20, "rlsd": 0.31, "cepo": 0.28}
"""What training adds to accuracy; a test that needs other numbers gives its own."""
BASE, PROBLEMS, EVERY, NOW = 0.4, 40, 10, datetime(2026, 1, 2, 12, 0, 0)
NO_EVIDENCE = pd.DataFrame({"run_id": pd.Series(dtype=str)})


def made_up_study(
    gains: dict[str, float] | None = None, told_gain: dict[str, float] | None = None, n_problems: int = PROBLEMS
) -> RecordedStudy:
    """The whole matrix at pocket scale.

    Args:
        gains: accuracy that training adds, by method, or by GROUP/ARM where an arm differs from its method.
        told_gain: the same with the true answer shown, by method; given to the runs of the group `methods`.
        n_problems: held-out problems.
    """
    gains, study = GAINS | (gains or {}), study_of()
    arms = [
        (SEARCH, f"{method} {rate:g}", run.config.seed, run)
        for method, runs in study.search_runs().items()
        for rate, run in runs.items()
    ]
    arms += [(*name, run.config.seed, run) for name in study.names() for run in study.arm_runs(*name, RATES)]
    gain_of: dict[Run, float] = {}
    for group, arm, _, run in arms:
        gain_of.setdefault(run, gains.get(f"{group}/{arm}", gains[run.config.method.name]))
    told = _told(study, told_gain or {})
    evaluations, items = _benchmarks(study, gains)
    return RecordedStudy(
        About("pocket", "python -m analysis.study", RATES, "made up"),
        runs=pd.DataFrame([_run_row(run) for run in gain_of]),
        arms=pd.DataFrame(
            [(group, arm, seed, run.run_id) for group, arm, seed, run in arms],
            columns=["group", "arm", "seed", "run_id"],
        ),
        steps=pd.concat([_steps(run) for run in gain_of], ignore_index=True),
        validation=pd.concat([_answers(run, BASE, gain, n_problems) for run, gain in gain_of.items()]),
        told=pd.concat([_answers(run, 0.7, gain, n_problems) for run, gain in told.items()]),
        evidence=NO_EVIDENCE,
        evaluations=evaluations,
        items=items,
    )


def _told(study: Study, gains: dict[str, float]) -> dict[Run, float]:
    return {
        run: gains.get(run.config.method.name, 0.1)
        for arm in study.matrix.groups["methods"].arms
        for run in study.arm_runs("methods", arm, RATES)
    }


def _rng(*names: object) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(repr(names).encode()).hexdigest()[:8], 16))


def _run_row(run: Run) -> dict:
    method = run.config.method
    return {
        "run_id": run.run_id, "schema_version": 2, "method": method.name, "seed": run.config.seed, "model": "pocket",
        "problems": "pocket", "config": json.dumps(to_tree(run.config)), "git_commit": "abcdef0123",
        "versions": '{"torch": "2.13.0"}', "device": "cpu", "teacher_source": "", "teacher_sees_image": True,
        "status": "finished", "reason": None, "started_at": NOW, "heartbeat_at": NOW,
        "last_step": run.config.steps, "steps_planned": run.config.steps,
    }  # fmt: skip


def _steps(run: Run) -> pd.DataFrame:
    names = [c.name for c in columns("steps") if c.name != "log_weight_histogram"]
    steps, method = np.arange(1, run.config.steps + 1), run.config.method.name
    table = pd.DataFrame(dict.fromkeys(names, 0.1), index=range(len(steps)))
    seconds = {"grpo": 3.0, "opsd": 3.5, "sdpo": 3.5, "rlsd": 3.4, "cepo": 3.8}[method]
    lam = [run.config.method.mixing(int(s)) if method in ("grpo", "rlsd", "cepo") else np.nan for s in steps]
    is_weighed = method in ("rlsd", "cepo")
    drift = 0.05 * (steps - 1) / len(steps) + _rng(run.run_id, "steps").normal(0, 0.01, len(steps))
    table = table.assign(step=steps, lam=lam, seconds_total=seconds, n_tokens=6000, n_rollouts=128)
    table["delta_positive"] = 0.5 + drift if is_weighed else np.nan
    table["delta_negative"] = 0.45 - drift if is_weighed else np.nan
    return table.assign(run_id=run.run_id)


def _answers(run: Run, base: float, gain: float, n: int) -> pd.DataFrame:
    """Answers whose share of right ones is exactly base + gain · step / steps, problems drawn by the run."""
    frames = []
    for step in range(0, run.config.steps + 1, EVERY):
        right = round(n * (base + gain * step / run.config.steps))
        order = _rng(run.run_id, step).permutation(n)
        ids = [f"p{i}" for i in range(n)]
        frames.append(
            pd.DataFrame({"run_id": run.run_id, "step": step, "problem_id": ids, "is_correct": order < right})
        )
    return pd.concat(frames, ignore_index=True)


def _benchmarks(study: Study, gains: dict[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An evaluation of the base and of every run of the five methods, twenty items a benchmark."""
    models: list[tuple[str, Run | None, float]] = [("base", None, BASE)]
    for arm in study.matrix.groups["methods"].arms:
        models += [(arm, run, BASE + gains[arm]) for run in study.arm_runs("methods", arm, RATES)]
    evaluations, items = [], []
    for method, run, share in models:
        eval_id = "base" if run is None else run.run_id
        evaluations.append({
            "eval_id": eval_id, "schema_version": 1, "label": method.upper() if run else "Base", "method": method,
            "model": "pocket", "adapter": None, "revision": None, "run_id": run and run.run_id,
            "run_seed": run and run.config.seed, "tasks": json.dumps(list(BENCHMARKS)), "data": "d",
            "backend": "transformers", "prompt": "student", "pixels": "{}", "sampling": "{}", "config": "{}",
            "versions": "{}", "git_commit": "abcdef0123", "device": "cpu", "status": "finished", "reason": None,
            "started_at": NOW, "finished_at": NOW,
        })  # fmt: skip
        for task in BENCHMARKS:
            right = _rng(eval_id, task).permutation(20) < round(20 * share)
            ids = [f"{task}-{i}" for i in range(20)]
            items.append(
                pd.DataFrame(
                    {"eval_id": eval_id, "task": task, "item_id": ids, "seed": 0, "score": right * 1.0, "cluster": ids}
                )
            )
    return pd.DataFrame(evaluations), pd.concat(items, ignore_index=True)
