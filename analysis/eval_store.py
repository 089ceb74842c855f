"""Evaluation files below a folder: found, opened read-only for one query at a time, closed again.

As in `analysis.store` nothing stays open, and a file that cannot be read is listed with the reason beside the others.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from analysis.store import DataFile, Unreadable
from core.errors import InputError
from core.eval_schema import EVALUATION_FILE, FILE_NAME, EvaluationRow, ItemRow


@dataclass(frozen=True)
class EvalFile(DataFile):
    """One evaluation, and all that it says."""

    kind = EVALUATION_FILE

    def about(self) -> EvaluationRow:
        """What was evaluated, with what, and how it ended."""
        names = [field.name for field in fields(EvaluationRow)]
        with self.reading() as connection:
            row = connection.execute(f"SELECT {', '.join(names)} FROM evaluation").fetchone()
        if row is None:
            raise InputError(f"{self.path} has no row in its table evaluation; run the evaluation again")
        return EvaluationRow(**dict(zip(names, row, strict=True)))

    def scores(self) -> pd.DataFrame:
        """Every metric of every finished benchmark, as the evaluation reported it."""
        return self.frame("SELECT * FROM scores ORDER BY task, metric, seed")

    def item_scores(self) -> pd.DataFrame:
        """The score of every answer: columns task, item_id, seed, score, cluster (unique within its task).

        Raises:
            InputError: a score that is no share, or one item twice.
        """
        items = self.frame(
            "SELECT task, item_id, seed, score, CASE WHEN cluster IS NULL THEN 'item ' || item_id "
            "ELSE 'cluster ' || cluster END AS cluster FROM items ORDER BY task, item_id, seed"
        )
        wrong = items[~items["score"].between(0, 1)]
        twice = items[items.duplicated(["task", "item_id", "seed"])]
        for rows, problem in ((wrong, "has a score outside [0, 1]"), (twice, "is there twice")):
            if len(rows):
                first = rows.iloc[0]
                item = f"item {first['item_id']!r} of {first['task']!r}, seed {first['seed']},"
                raise InputError(f"{self.path}: {item} {problem}; run the evaluation again")
        return items

    def answers(self, task: str, item_id: str) -> tuple[ItemRow, ...]:
        """What was answered to an item, one a seed."""
        names = [field.name for field in fields(ItemRow)]
        query = f"SELECT {', '.join(names)} FROM items WHERE task = ? AND item_id = ? ORDER BY seed"
        with self.reading() as connection:
            rows = connection.execute(query, [task, item_id]).fetchall()
        return tuple(ItemRow(**dict(zip(names, row, strict=True))) for row in rows)

    def images(self, item: ItemRow) -> tuple[bytes, ...]:
        """The pictures of an item, PNG, in order; those that the file lacks are left out."""
        ids = _names(item.image_ids)
        with self.reading() as connection:
            rows = connection.execute("SELECT image_id, png FROM images WHERE list_contains(?, image_id)", [ids])
            found = dict(rows.fetchall())
        return tuple(found[image_id] for image_id in ids if image_id in found)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation that could be read: about it and the score of each of its answers."""

    file: EvalFile
    about: EvaluationRow
    items: pd.DataFrame
    """Columns task, item_id, seed, score, cluster."""
    versions: dict[str, str]
    """Version of each benchmark that names one."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Benchmarks it was asked for, in order."""
        return tuple(_names(self.about.tasks))

    @property
    def finished_tasks(self) -> tuple[str, ...]:
        """Benchmarks it was asked for and has finished, in order."""
        return tuple(task for task in self.tasks if task in set(self.items["task"]))


@dataclass(frozen=True)
class EvalStore:
    """Where evaluations are looked for."""

    folder: Path

    def files(self) -> dict[str, EvalFile]:
        """Every evaluation file by its key, in order of the keys; none is opened."""
        found = sorted(path for path in self.folder.glob(f"*/{FILE_NAME}") if path.is_file())
        return {path.parent.name: EvalFile(path.parent.name, path) for path in found}

    def read(self, read: Callable[[EvalFile], Evaluation] | None = None) -> tuple[list[Evaluation], list[Unreadable]]:
        """All evaluations, and the files that cannot be read with the reason; `read` may remember what it read."""
        evaluations: list[Evaluation] = []
        unreadable: list[Unreadable] = []
        for file in self.files().values():
            try:
                evaluations.append((read or read_evaluation)(file))
            except InputError as error:
                unreadable.append(Unreadable(file.key, file.path, str(error)))
        return evaluations, unreadable


def read_evaluation(file: EvalFile) -> Evaluation:
    """Everything about one evaluation that tables need; what has no score yet, a benchmark or a seed, is left out.

    Raises:
        InputError: it cannot be read.
    """
    scores, items = file.scores(), file.item_scores()
    finished = items.merge(scores[["task", "seed"]].drop_duplicates(), on=["task", "seed"])
    versions = scores.dropna(subset="task_version")
    return Evaluation(file, file.about(), finished, dict(zip(versions["task"], versions["task_version"], strict=True)))


def _names(text: str) -> list[str]:
    """A JSON list of names; nothing where it is none."""
    try:
        names = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
