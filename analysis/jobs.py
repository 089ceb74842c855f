"""Commands that take minutes, done a few at a time, so that a study can be stopped and repeated."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from core.console import printable
from core.errors import InputError


@dataclass(frozen=True)
class Job:
    """A Python command, `python -m` left out."""

    name: str
    command: Callable[[], Sequence[str | Path]]
    """Asked when the job starts: what there is by then decides whether it begins or goes on."""


@dataclass
class Crew:
    """Does jobs in processes of their own."""

    folder: Path
    """Held for one crew and what it has started."""
    workers: int
    console: Console
    failures: dict[str, str] = field(default_factory=dict)
    """Job and what it said at its end."""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def do(self, jobs: Sequence[Job], what: str) -> None:
        """Do all of them; one that fails costs the others nothing."""
        if not jobs:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = (TextColumn("left"), TimeRemainingColumn())
        console, is_shown = self.console, self.console.is_terminal
        with (
            _held(self.folder) as lock,
            # jobs take minutes: an hour of them makes the estimate
            Progress(*columns, *left, console=console, speed_estimate_period=3600, disable=not is_shown) as progress,
            ThreadPoolExecutor(self.workers) as pool,
        ):
            task = progress.add_task(what, total=len(jobs))

            def one(job: Job) -> None:
                if not self._stopping.is_set():
                    self._do(job, lock)
                    progress.advance(task)
                    if not is_shown:
                        done = int(progress.tasks[0].completed)
                        console.print(f"{what}: {done} of {len(jobs)}: {job.name}", highlight=False)

            try:
                list(pool.map(one, jobs))
            except KeyboardInterrupt:
                self._stopping.set()  # what runs has heard it too: each saves what it has and ends
                raise

    def _do(self, job: Job, lock: IO[str]) -> None:
        command = [sys.executable, "-m", *map(str, job.command())]
        # it inherits the lock, so that nobody takes work for abandoned that outlived the crew
        done = subprocess.run(command, capture_output=True, text=True, check=False, pass_fds=(lock.fileno(),))
        if done.returncode:
            lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or [""]
            self.failures[job.name] = f"exit status {done.returncode}: {printable(lines[-1])}"


@contextmanager
def _held(folder: Path) -> Iterator[IO[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "study.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another study, or a run that one has started, still works there; wait for it or stop it"
            ) from None
        yield lock
