"""The results of an evaluation, ``eval.duckdb``: whole benchmarks under one seed, each written in one transaction."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from core.errors import InputError
from core.eval_schema import EVAL_TABLES, EVALUATION_FILE, FILE_NAME, EvaluationRow, ItemRow, ScoreRow
from core.runfile import FileHeldError, create_file, first_line, insert, reading, writing
from core.schema import ImageRow, Status
from core.spool import rows_to_arrow
from core.turns import waiting_for

PATIENCE = 10.0
"""Seconds to wait for somebody who holds the file."""
DECISIVE = ("eval_id", "model", "adapter", "revision", "backend", "prompt", "pixels", "sampling")
"""Columns of `EvaluationRow` that decide what the answers are: one file holds answers of one kind."""

CONTINUES = "the answers are in the journal, and the same command continues from there"
REFILLS = "once it is moved away, the same command makes a new one from the journal"


@dataclass(frozen=True)
class Results:
    """The file of one evaluation; opened for each call alone, so that the workbench may read it in between.

    Whoever writes has the folder alone, see `eval.journal.sole`, which also tidies up at the end. Every method raises
    an `InputError` when the file cannot be read or written, or is held by somebody else for all of its patience.
    """

    path: Path
    patience: float = PATIENCE
    """Seconds to wait for somebody who holds the file."""

    @classmethod
    def open(cls, folder: Path, about: EvaluationRow, patience: float = PATIENCE) -> "Results":
        """Make the file, whole or not at all, or go on with the one that is there.

        An evaluation that goes on is running again, and its benchmarks are those of before and the new ones.

        Raises:
            InputError: the file that is there is none of ours, or another evaluation's.
        """
        results = cls(folder / FILE_NAME, patience)
        if results.path.exists():
            results._go_on(about)
        else:
            with results._explaining():
                create_file(results.path, EVALUATION_FILE, {"evaluation": [about]})
        return results

    def finished(self) -> set[tuple[str, int]]:
        """Benchmarks and seeds that are scored."""
        with self._reading() as connection:
            return set(connection.execute("SELECT DISTINCT task, seed FROM scores WHERE is_headline").fetchall())

    def put(
        self, task: str, seed: int, scores: Sequence[ScoreRow], items: Sequence[ItemRow], images: Sequence[ImageRow]
    ) -> None:
        """Put a benchmark under one seed in the place of itself, in one transaction; each picture goes in once."""
        strays = {(row.task, row.seed) for row in (*scores, *items)} - {(task, seed)}
        if strays:
            raise ValueError(f"results of {task}, seed {seed}, hold rows of {sorted(strays)}")
        pictures = list({image.image_id: image for image in images}.values())
        with self._writing() as connection:
            for table, rows in (("scores", scores), ("items", items), ("images", pictures)):
                if table != "images":
                    connection.execute(f"DELETE FROM {table} WHERE task = ? AND seed = ?", [task, seed])
                insert(connection, table, rows_to_arrow(table, rows, EVAL_TABLES))

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Record how the evaluation ended, and when; the reason is one line."""
        said = reason and reason.encode("utf-8", "replace").decode()  # a file name may hold what has no UTF-8
        with self._writing() as connection:
            connection.execute(
                "UPDATE evaluation SET status = ?, reason = ?, finished_at = ?",
                [status, said, datetime.now(UTC).replace(tzinfo=None)],
            )

    def _go_on(self, about: EvaluationRow) -> None:
        names = [field.name for field in fields(EvaluationRow)]
        with self._reading() as connection:
            values = connection.execute(f"SELECT {', '.join(names)} FROM evaluation").fetchall()[0]
        there = dict(zip(names, values, strict=True))
        for name in DECISIVE:
            if there[name] != getattr(about, name):
                raise InputError(
                    f"{self.path} holds answers with {name} {there[name]!r}, not {getattr(about, name)!r}; "
                    "choose another folder for this evaluation"
                )
        try:
            tasks = dict.fromkeys([*json.loads(there["tasks"]), *json.loads(about.tasks)])
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{self.path} names no list of benchmarks in its column tasks; {REFILLS}") from error
        with self._writing() as connection:
            connection.execute(
                "UPDATE evaluation SET tasks = ?, status = 'running', reason = NULL, finished_at = NULL",
                [json.dumps(list(tasks))],
            )

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            with reading(self.path, self.patience, EVALUATION_FILE) as connection:
                yield connection
        except FileHeldError as held:
            raise InputError(f"{held}; {CONTINUES}") from held
        except InputError as error:
            raise InputError(f"{error}; {REFILLS}") from error
        except duckdb.Error as error:  # a page that does not match its checksum shows only when it is read
            raise InputError(f"{self.path} is damaged: {first_line(error)}; {REFILLS}") from error

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._explaining(), writing(self.path, waiting_for(self.patience), EVALUATION_FILE) as connection:
            connection.begin()
            yield connection
            connection.commit()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except FileHeldError as held:
            raise InputError(f"{held}; {CONTINUES}") from held
        except (duckdb.Error, OSError) as error:
            raise InputError(
                f"{self.path} cannot be written: {first_line(error)}; make room or give permission: {CONTINUES}"
            ) from error
