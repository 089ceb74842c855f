"""How far a benchmark is: in a terminal a bar, items per second and the time left, elsewhere a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from core.console import printable

SECONDS_BETWEEN_LINES = 30.0


class _ItemsPerSecond(TextColumn):
    """How many items a second, of those answered now."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """The rate."""
        return Text("" if task.speed is None else f"{task.speed:.2f} items/s")


class Display:
    """Where a person watches an evaluation: the stream given, which stays the terminal while others are redirected."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.console = Console(file=self.stream)

    def line(self, text: str) -> None:
        """One plain line, whatever it holds."""
        self.console.print(Text(printable(text)), soft_wrap=True)

    @contextmanager
    def counting(self, title: str, total: int) -> Iterator["Counter"]:
        """Count the answers of one benchmark."""
        if not self.stream.isatty():
            yield Counter(self, title, total, None)
            return
        name = TextColumn("{task.description}", markup=False)
        columns = (name, BarColumn(20), MofNCompleteColumn(), _ItemsPerSecond())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console) as bar:
            bar.add_task(printable(title), total=total)
            yield Counter(self, title, total, bar)


class Counter:
    """Answers so far; those found in the journal are told apart from those generated now."""

    def __init__(self, display: Display, title: str, total: int, bar: Progress | None) -> None:
        self.display = display
        self.title = title
        self.total = total
        self.bar = bar
        self.done = 0
        self.resumed = 0
        self.started = self.last_line = time.monotonic()

    def resume(self, n: int) -> None:
        """So many answers were there already."""
        self.done += n
        self.resumed += n
        if self.bar is not None and n:  # they must not count into the rate; a reset restarts the clock as well
            self.bar.reset(self.bar.task_ids[0], total=self.total, completed=self.done)

    def advance(self) -> None:
        """One more answer."""
        self.done += 1
        now = time.monotonic()
        if self.bar is not None:
            self.bar.advance(self.bar.task_ids[0])
        elif now - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = now
            rate = (self.done - self.resumed) / (now - self.started)
            left = (self.total - self.done) / rate
            self.display.line(f"{self.title}  {self.done}/{self.total}  {rate:.2f} items/s, {left:.0f} s left")
