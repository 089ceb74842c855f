"""What a person sees of a training run: a progress bar in a terminal, plain lines elsewhere.

Problems and responses are never printed here, and a reason or a path only as plain text: what a model wrote must not
steer a terminal.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from core.config import TrainConfig
from core.schema import Status, StepRow


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    status: Status
    folder: Path
    last_step: int
    val_start: float | None
    val_end: float | None
    val_n: int
    seconds: float
    seconds_recording: float
    """Seconds the training thread spent on recording."""


class Console(Protocol):
    """Told by the loop what happens."""

    def start(self, config: TrainConfig, folder: Path, n_parameters: int, first_step: int) -> None:
        """Training begins."""
        ...

    def step(self, row: StepRow) -> None:
        """A step is done."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know."""
        ...

    def finish(self, summary: RunSummary) -> None:
        """Training ended."""
        ...


def printable(text: str) -> str:
    """Text on one line without characters that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str) -> None:
    """One plain line on stderr."""
    print(printable(text), file=sys.stderr)


def console_for(config: TrainConfig, *, as_json: bool) -> Console:
    """A progress bar where somebody looks, lines where nobody does; on stderr when stdout is for JSON."""
    stream = sys.stderr if as_json else sys.stdout
    return ProgressConsole(config.steps, stream) if stream.isatty() else PlainConsole(stream)


def headline(config: TrainConfig, folder: Path, n_parameters: int) -> str:
    """Method, model and run folder."""
    return (
        f"{config.method.name} · {config.model.path} ({n_parameters:,} trained parameters) · "
        f"{config.problems.source} · seed {config.seed} · {folder}"
    )


def percent(value: float | None) -> str:
    """A share, or a dash where there is none."""
    return "–" if value is None else f"{value:.1%}"


def measures(row: StepRow) -> str:
    """The step's figures: reward, accuracy, evidence clip rate, Δ > 0 and Δ < 0."""
    low, high = row.evidence_clip_low, row.evidence_clip_high
    clip = None if low is None or high is None else low + high
    parts = [f"reward {row.reward_mean:.3f}", f"acc {percent(row.accuracy)}"]
    if clip is not None:
        parts += [f"clip {percent(clip)}", f"Δ>0 {percent(row.delta_positive)}", f"Δ<0 {percent(row.delta_negative)}"]
    if row.divergence_mean is not None:
        parts.append(f"D {row.divergence_mean:.4f}")
    if row.val_accuracy is not None:
        parts.append(f"val {percent(row.val_accuracy)}")
    return "  ".join(parts)


def closing_lines(summary: RunSummary) -> list[str]:
    """How it ended, and what to do next."""
    run_file = summary.folder / "run.duckdb"
    lines = []
    if summary.val_start is not None and summary.val_end is not None:
        change = f"{percent(summary.val_start)} → {percent(summary.val_end)}"
        lines.append(f"held-out accuracy {change} (n = {summary.val_n}, one response each)")
    share = summary.seconds_recording / max(summary.seconds, 1e-9)
    lines.append(
        f"{summary.status} after step {summary.last_step}, {summary.seconds:.0f} s; recording took {share:.2%}"
    )
    lines.append(f"run file {run_file}")
    if summary.status == "interrupted":
        lines.append(f"resume with: python -m core.train --resume {summary.folder}")
    else:
        question = "select step, accuracy, evidence_clip_low + evidence_clip_high from steps"
        lines.append(f'ask it: duckdb {run_file} "{question}"')
    return lines


class PlainConsole:
    """A line a step, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.steps = 0

    def _print(self, text: str) -> None:
        print(printable(text), file=self.stream, flush=True)

    def start(self, config: TrainConfig, folder: Path, n_parameters: int, first_step: int) -> None:
        """Say what is trained."""
        self.steps = config.steps
        self._print(headline(config, folder, n_parameters))

    def step(self, row: StepRow) -> None:
        """One line."""
        self._print(f"step {row.step}/{self.steps}  {measures(row)}  {row.seconds_total:.1f} s")

    def note(self, text: str) -> None:
        """One line."""
        self._print(text)

    def finish(self, summary: RunSummary) -> None:
        """The closing lines."""
        for line in closing_lines(summary):
            self._print(line)


class ProgressConsole:
    """A progress bar with the step's figures beside it."""

    def __init__(self, steps: int, stream: TextIO) -> None:
        self.console = RichConsole(file=stream)
        columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[figures]}", markup=False))
        self.progress = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console)
        self.task = self.progress.add_task("", total=steps, figures="")

    def start(self, config: TrainConfig, folder: Path, n_parameters: int, first_step: int) -> None:
        """Say what is trained and show the bar."""
        self.note(headline(config, folder, n_parameters))
        self.progress.update(self.task, completed=first_step - 1)
        self.progress.start()

    def step(self, row: StepRow) -> None:
        """Move the bar."""
        figures = f"{measures(row)}  {row.seconds_total:.1f} s/step"
        self.progress.update(self.task, completed=row.step, figures=printable(figures))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(Text(printable(text)), soft_wrap=True)  # a path stays in one piece

    def finish(self, summary: RunSummary) -> None:
        """Take the bar away and print the closing lines."""
        self.progress.stop()
        for line in closing_lines(summary):
            self.note(line)
