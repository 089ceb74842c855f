"""The five methods at equal budgets: `python -m benchmarks.methods`.

First every method tries the same learning rates on tuning problems and keeps its best (ties: the smaller); then every
method trains with its own best on other seeds, and is asked problems that neither training nor tuning has seen.
Finished runs are not run again, so the command can be stopped and repeated.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core.methods import METHODS
from core.runfile import reading

LEARNING_RATES = (5e-5, 1.5e-4, 5e-4, 1.5e-3)
TUNING_SEED = 1000
"""Seed of the tuning runs, and of the held-out problems they are asked: not those of the report."""
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5 % for 1 to 9 degrees of freedom."""


@dataclass(frozen=True)
class Job:
    """One run of the comparison."""

    method: str
    learning_rate: float
    seed: int
    steps: int
    validation_seed: int

    @property
    def run_id(self) -> str:
        """Folder name: everything that sets the run apart."""
        return f"{self.method}-lr{self.learning_rate:g}-s{self.seed}-v{self.validation_seed}-n{self.steps}"

    def command(self, runs_dir: Path) -> list[str]:
        """The command that trains it, or goes on with it."""
        folder = runs_dir / self.run_id
        start = [sys.executable, "-m", "core.train"]
        if (folder / "run.duckdb").exists():
            return [*start, "--resume", str(folder)]
        options = {
            "method": self.method,
            "method.learning-rate": self.learning_rate,
            "seed": self.seed,
            "steps": self.steps,
            "problems.validation-seed": self.validation_seed,
            "validation.every": 10,
            "record.evidence": "used",
            "runs-dir": runs_dir,
            "run-id": self.run_id,
        }
        return [*start, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]


def status(folder: Path) -> str:
    """Status of a run, 'missing' where there is none."""
    if not (folder / "run.duckdb").exists():
        return "missing"
    with reading(folder / "run.duckdb") as connection:
        return connection.execute("SELECT status FROM run").fetchall()[0][0]


def accuracies(folder: Path) -> dict[int, float]:
    """Held-out accuracy by step, step 0 included."""
    with reading(folder / "run.duckdb") as connection:
        rows = connection.execute("SELECT step, avg(is_correct::DOUBLE) FROM validation GROUP BY step ORDER BY step")
        return dict(rows.fetchall())


def train(jobs: Sequence[Job], runs_dir: Path, workers: int, console: Console) -> None:
    """Run what is not finished, `workers` at a time."""
    missing = [job for job in jobs if status(runs_dir / job.run_id) != "finished"]
    console.print(f"{len(jobs)} runs, {len(missing)} to do")

    def one(job: Job) -> None:
        done = subprocess.run(job.command(runs_dir), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{job.run_id}: exit status {done.returncode}: {done.stderr.strip()[-300:]}")
        console.print(f"  {job.run_id}", highlight=False)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, missing))


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and the half-width of its 95 % t-interval; NaN for one seed."""
    if len(values) < 2:
        return values[0], math.nan
    return statistics.mean(values), T_975[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))


def search(runs_dir: Path, steps: int, workers: int, console: Console) -> dict[str, float]:
    """Each method's best learning rate of the same grid, by the mean of its last two validations while tuning."""
    jobs = [Job(m, rate, TUNING_SEED, steps, TUNING_SEED) for m in METHODS for rate in LEARNING_RATES]
    train(jobs, runs_dir, workers, console)
    table = Table(
        "method", *(f"{rate:g}" for rate in LEARNING_RATES), title="tuning: held-out accuracy, last 2 validations"
    )
    best = {}
    for method in METHODS:
        scores = {}
        for job in jobs:
            if job.method == method:
                scores[job.learning_rate] = statistics.mean(list(accuracies(runs_dir / job.run_id).values())[-2:])
        best[method] = max(scores, key=lambda rate: (scores[rate], -rate))
        table.add_row(method, *(f"{s:.1%}{' *' if rate == best[method] else ''}" for rate, s in scores.items()))
    console.print(table)
    return best


def report(jobs: Sequence[Job], runs_dir: Path, console: Console) -> list[dict]:
    """Accuracy at step 0 and at the end, mean ± 95 % interval over seeds."""
    table = Table("method", "learning rate", "step 0", "end", "gain", "seeds", title="held-out accuracy")
    rows = []
    for method in METHODS:
        mine = [job for job in jobs if job.method == method]
        curves = [accuracies(runs_dir / job.run_id) for job in mine]
        first, last = ([curve[pick(curve)] for curve in curves] for pick in (min, max))
        gains = [b - a for a, b in zip(first, last, strict=True)]
        figures = {name: mean_and_half_width(v) for name, v in (("start", first), ("end", last), ("gain", gains))}
        cells = [f"{mean:.1%} ± {half:.1%}" for mean, half in figures.values()]
        table.add_row(method, f"{mine[0].learning_rate:g}", *cells, str(len(mine)))
        rows.append(
            {"method": method, "learning_rate": mine[0].learning_rate, "seeds": [j.seed for j in mine], **figures}
        )
    console.print(table)
    return rows


def main() -> None:
    """Tune, train, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    best = search(arguments.runs_dir, arguments.steps, arguments.workers, console)
    jobs = [Job(m, best[m], seed, arguments.steps, 0) for m in METHODS for seed in arguments.seeds]
    train(jobs, arguments.runs_dir, arguments.workers, console)
    rows = report(jobs, arguments.runs_dir, console)
    if arguments.json:
        print(json.dumps({"steps": arguments.steps, "methods": rows}))


if __name__ == "__main__":
    main()
