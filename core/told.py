"""How right is a trained model when it is shown the answer? `python -m core.told RUN_FOLDER...`

Asks a run's held-out problems before training and at every checkpoint that was kept, with the true answer shown as the
run's teachers are shown theirs. All else is as in the run's own validation, which has recorded the accuracy without it.
A model that comes to rely on the answer gains with it and not without. What is found stands in the run's told.csv.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers.utils.logging import disable_progress_bar

from core.algorithm import Trainer
from core.checkpoint import Checkpoints
from core.config import TrainConfig, read_config
from core.console import percent, printable, say
from core.errors import InputError
from core.policy import device_of
from core.prompts import teacher_prompt
from core.rollouts import Problem
from core.run import build_trainer
from core.runfile import reading
from core.scoring import EncodedPrompt, ImageFeatures
from core.verifier import Verifier

FILE_NAME = "told.csv"
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


@dataclass(frozen=True)
class ToldRow:
    """A line of told.csv: one response to a held-out problem with its answer shown, by the model after a step."""

    step: int
    problem_id: str
    is_correct: int


COLUMNS = [field.name for field in fields(ToldRow)]


@dataclass(frozen=True)
class StepAccuracy:
    """One step of a run; shares in [0, 1]."""

    step: int
    n: int
    with_hint: float
    without: float | None
    """As validation recorded it; None at a step without validation."""


@dataclass(frozen=True)
class TrainedRun:
    """What a run's folder holds for the question."""

    folder: Path
    config: TrainConfig
    checkpoints: dict[int, Path]
    """By step."""
    validation: dict[int, float]
    """Recorded held-out accuracy by step."""

    @property
    def path(self) -> Path:
        """Where the answers are kept."""
        return self.folder / FILE_NAME


def opened(folder: Path) -> TrainedRun:
    """Read all of a run but its weights, so that a wrong folder is told before any work is done."""
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: holds no config.yaml; give the folder of a training run")
    config = read_config(folder / "config.yaml")
    kept = Checkpoints(folder / "checkpoints", config.keep_checkpoints).all()
    if not kept:
        raise InputError(f"{folder}: holds no checkpoint; train the run here, or copy its whole folder")
    with reading(folder / "run.duckdb") as connection:
        query = "SELECT step, avg(is_correct::DOUBLE) FROM validation GROUP BY step"
        validation = dict(connection.execute(query).fetchall())
    return TrainedRun(folder, config, {int(path.name.removeprefix("step-")): path for path in kept}, validation)


def ask(run: TrainedRun) -> list[ToldRow]:
    """Ask at the steps that told.csv lacks, write it anew after each, and return all of it."""
    rows = read_rows(run.path)
    missing = {0, *run.checkpoints} - {row.step for row in rows}
    if not missing:
        return rows
    if device_of(run.config.model).type == "cpu":
        torch.set_num_threads(1)
    with Verifier() as verifier:
        trainer = build_trainer(run.config, verifier)
        for step in sorted(missing):  # 0 first, while the weights are untrained
            if step > 0:
                restore(run, step, trainer)
            answers = trainer.validate(step, lambda problems, features: told(trainer, problems, features))
            rows += [ToldRow(step, answer.problem_id, int(answer.is_correct)) for answer in answers]
            rows.sort(key=lambda row: row.step)
            write_rows(rows, run.path)
    return rows


def restore(run: TrainedRun, step: int, trainer: Trainer) -> None:
    """Give the policy its weights after a step."""
    checkpoints = Checkpoints(run.folder / "checkpoints", run.config.keep_checkpoints)
    checkpoints.restore_weights(run.checkpoints[step], run.config.method.name, trainer.policy)
    trainer.engine.load_weights()


def told(
    trainer: Trainer, problems: Sequence[Problem], features: Sequence[ImageFeatures | None]
) -> list[EncodedPrompt]:
    """The prompts of teachers that are told the true answer; as in training, no limit is set to their length."""
    style, sees_image = trainer.prompting.style, trainer.prompting.sees_image
    return [
        trainer.policy.encode(teacher_prompt(problem, problem.answer, style, sees_image), seen if sees_image else None)
        for problem, seen in zip(problems, features, strict=True)
    ]


def read_rows(path: Path) -> list[ToldRow]:
    """What an earlier command found; nothing where there was none."""
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            head, *lines = csv.reader(file, strict=True)
        if head != COLUMNS:
            raise ValueError(f"its columns are {', '.join(head)}")
        return [ToldRow(int(step), problem_id, ("0", "1").index(is_correct)) for step, problem_id, is_correct in lines]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: expected {', '.join(COLUMNS)} on every line ({error}); delete the file") from error


def write_rows(rows: Sequence[ToldRow], path: Path) -> None:
    """Write the file, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.new")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(astuple(row) for row in rows)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); make its folder writable") from error


def accuracies(run: TrainedRun, rows: Sequence[ToldRow]) -> list[StepAccuracy]:
    """Both accuracies of every step that was asked."""
    found = []
    for step, those in groupby(rows, key=lambda row: row.step):
        right = [row.is_correct for row in those]
        found.append(StepAccuracy(step, len(right), statistics.mean(right), run.validation.get(step)))
    return found


def table_of(run: TrainedRun, steps: Sequence[StepAccuracy]) -> Table:
    """A run over its training."""
    config = run.config
    caption = f"{config.method.name}, seed {config.seed}: share of n held-out problems answered right, one response "
    caption += f"each at T = {config.validation.temperature:g}; with hint: the true answer is shown in the prompt"
    title = Text(printable(str(run.folder)))
    table = Table("step", "n", "with hint", "without", box=SIMPLE, title=title, caption=caption, min_width=60)
    for line in steps:
        table.add_row(str(line.step), str(line.n), percent(line.with_hint), percent(line.without))
    return table


def report(run: TrainedRun, steps: Sequence[StepAccuracy]) -> dict[str, Any]:
    """The same for a program."""
    who = {"folder": str(run.folder), "method": run.config.method.name, "seed": run.config.seed}
    return who | {"steps": [asdict(line) for line in steps]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 bad input, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN_FOLDER")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(argv)
    console = Console(stderr=options.json)
    disable_progress_bar()
    reports = []
    try:
        for run in [opened(folder) for folder in options.folders]:
            with console.status(Text(printable(f"asking {run.folder}"))):
                steps = accuracies(run, ask(run))
            console.print(table_of(run, steps))
            reports.append(report(run, steps))
    except InputError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted: what was answered is kept, the same command goes on")
        return EXIT_INTERRUPTED
    if options.json:
        print(json.dumps({"runs": reports}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
