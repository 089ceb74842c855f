"""Train the runs behind the paper's figures and tables: `python -m analysis.study`.

First every method tries the same learning rates and keeps its best; then every arm of `study.yaml` trains from its
seeds. Runs that finished are not run again and those cut short go on, so the command can be stopped and repeated.
"""

import argparse
import fcntl
import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from analysis.matrix import Run, Study, best_rate, study_of
from analysis.recordings import read_recording
from analysis.store import FILE_NAME, RunFile
from core.console import printable, say
from core.errors import InputError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130
LAST_VALIDATIONS = 2
"""How many of a run's last validations make its score in the search."""


@dataclass
class Trainer:
    """Trains runs in folders of their own, a few at a time."""

    runs_dir: Path
    workers: int
    console: Console
    failures: dict[str, str] = field(default_factory=dict)
    """Run and what it said at its end."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def file(self, run: Run) -> RunFile:
        """A run's file, whether it is there or not."""
        return RunFile(run.run_id, self.runs_dir / run.run_id / FILE_NAME)

    def is_finished(self, run: Run) -> bool:
        """It has trained all its steps."""
        file = self.file(run)
        return file.path.exists() and file.info().status == "finished"

    def train(self, runs: Sequence[Run], what: str) -> None:
        """Train those that are not finished."""
        missing = [run for run in dict.fromkeys(runs) if not self.is_finished(run)]
        if not missing:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        console, is_shown = self.console, self.console.is_terminal
        with (
            _only_study(self.runs_dir) as lock,
            # runs take minutes: an hour of them makes the estimate
            Progress(*columns, *left, console=console, speed_estimate_period=3600, disable=not is_shown) as progress,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            task = progress.add_task(what, total=len(missing))

            def one(run: Run) -> None:
                if not self._stopping.is_set():
                    self._train(run, lock)
                    progress.advance(task)
                    if not self.console.is_terminal:
                        done = int(progress.tasks[0].completed)
                        self.console.print(f"{what}: {done} of {len(missing)}: {run.run_id}", highlight=False)

            try:
                list(pool.map(one, missing))
            except KeyboardInterrupt:
                self._stopping.set()  # the runs have heard it too: each saves its step and ends
                raise

    def _train(self, run: Run, lock: IO[str]) -> None:
        command = [sys.executable, "-m", "core.train"]
        folder = self.runs_dir / run.run_id
        if self.file(run).path.exists():
            command += ["--resume", str(folder)]
        else:
            configuration = self.runs_dir / "configs" / f"{run.run_id}.yaml"
            run.write(configuration)
            command += ["--config", str(configuration), "--runs-dir", str(self.runs_dir), "--run-id", run.run_id]
        # it inherits the lock, so that no second study takes a run for abandoned that outlived the first
        done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=(lock.fileno(),))
        if done.returncode:
            lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or [""]
            self.failures[run.run_id] = f"exit status {done.returncode}: {printable(lines[-1])}"


@contextmanager
def _only_study(runs_dir: Path) -> Iterator[IO[str]]:
    """Hold the folder for one study and the runs it has started."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    with (runs_dir / "study.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{runs_dir}: another study, or a run that one has started, still works there; wait for it or stop it"
            ) from None
        yield lock


def score(file: RunFile) -> float:
    """What the search compares: mean held-out accuracy of a run's last validations."""
    return statistics.mean(read_recording(file).validation.accuracy.tolist()[-LAST_VALIDATIONS:])


def search(study: Study, trainer: Trainer) -> dict[str, dict[float, float]]:
    """By method and learning rate, the score of every run of the search that is finished."""
    return {
        method: {rate: score(trainer.file(run)) for rate, run in runs.items() if trainer.is_finished(run)}
        for method, runs in study.search_runs().items()
    }


def chosen_rates(study: Study, scores: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """Each method's learning rate; only of methods whose search is complete."""
    rates = len(study.at.learning_rates)
    return {method: best_rate(found) for method, found in scores.items() if len(found) == rates}


def search_table(scores: Mapping[str, Mapping[float, float]], rates: Mapping[str, float]) -> Table:
    """What the search found."""
    columns = sorted({rate for found in scores.values() for rate in found})
    table = Table("method", *(f"{rate:g}" for rate in columns), box=SIMPLE, title="Search: held-out accuracy, * chosen")
    for method, found in scores.items():
        cells = [f"{found[r]:.1%}{' *' if rates.get(method) == r else ''}" if r in found else "–" for r in columns]
        table.add_row(method, *cells)
    return table


def matrix_table(study: Study, trainer: Trainer, rates: Mapping[str, float], only: Sequence[str]) -> Table:
    """Every arm, what it is for, and how many of its runs are finished."""
    table = Table("arm", "method", "seeds", "finished", "paper", box=SIMPLE, title=f"Study at scale {study.scale}")
    for group, arm in study.names(only):
        asked = study.matrix.groups[group]
        method, finished = asked.arms[arm].method, 0
        if method in rates:
            finished = sum(trainer.is_finished(run) for run in study.arm_runs(group, arm, rates))
        table.add_row(f"{group}/{arm}", method, str(len(asked.seeds)), str(finished), asked.reference)
    return table


def arm_runs(study: Study, rates: Mapping[str, float], only: Sequence[str]) -> list[Run]:
    """The runs of the arms asked for, each once, in the order of the file."""
    return list(dict.fromkeys(run for name in study.names(only) for run in study.arm_runs(*name, rates)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a configuration of core/configs: the scale; default pocket")
    parser.add_argument("--only", action="append", default=[], metavar="GROUP[/ARM]", help="some of it; repeatable")
    parser.add_argument("--list", action="store_true", help="show the matrix and what is finished, train nothing")
    parser.add_argument("--runs-dir", type=Path, help="default: runs/study-SCALE")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one process each; default 2")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 bad input, 3 a run failed, 130 interrupted."""
    options = parse(argv)
    console = Console(stderr=options.json)
    try:
        study = study_of(options.config)
        list(study.names(options.only))
        trainer = Trainer(options.runs_dir or Path("runs") / f"study-{study.scale}", options.workers, console)
        if not options.list:
            trainer.train([run for runs in study.search_runs().values() for run in runs.values()], "search")
        scores = search(study, trainer)
        rates = chosen_rates(study, scores)
        if not options.list and not trainer.failures:
            console.print(search_table(scores, rates))
            trainer.train(arm_runs(study, rates, options.only), "study")
        console.print(matrix_table(study, trainer, rates, options.only))
    except InputError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted: what has trained is kept, the same command goes on")
        return EXIT_INTERRUPTED
    for run_id, reason in trainer.failures.items():
        say(f"{run_id}: {reason}")
    if options.json:
        print(json.dumps({"scale": study.scale, "rates": rates, "scores": scores, "failures": trainer.failures}))
    return EXIT_SOME_FAILED if trainer.failures else 0


if __name__ == "__main__":
    sys.exit(main())
