"""Run files below a folder: found, opened read-only for one query at a time, closed again.

Nothing here keeps a file open: a reader that stays would keep the trainer out of its own file. A file that cannot be
read is listed with the reason, and the others are read all the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import numpy as np
import pandas as pd

from core import runfile, spool
from core.errors import InputError
from core.histogram import BINS
from core.schema import RUN_FILE, FileKind, RunRow

FILE_NAME = "run.duckdb"
PATTERNS = (f"*/{FILE_NAME}", f"*/*/{FILE_NAME}")
"""A run's folder is directly below the runs, or below one folder that holds several (as `make demo` makes)."""

EXAMPLE = "example"
EXAMPLE_DIR = Path(__file__).parent / "example"

DAMAGE = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)
PATIENCE = 5.0
"""Seconds a reader waits for a writer."""


@dataclass(frozen=True)
class DataFile:
    """One of our files: where it is, and how a question is put to it."""

    key: str
    """The folder's path below those of its kind, `demo-1/cepo`: what addresses name; looked up, never joined."""
    path: Path
    kind: ClassVar[FileKind]

    @property
    def folder(self) -> Path:
        """The file's folder, with whatever was kept beside it."""
        return self.path.parent

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes whenever the file does; what was read under one stamp stays true under it."""
        state = self.path.stat()
        return state.st_mtime_ns, state.st_size

    @contextmanager
    def reading(self, patience: float = PATIENCE) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one query.

        Raises:
            InputError: the file cannot be read; `FileHeldError` while a writer keeps it.
        """
        try:
            with runfile.reading(self.path, patience, self.kind) as connection:
                yield connection
        except duckdb.Error as error:  # a page that does not match its checksum shows only when it is read
            if type(error) is not duckdb.Error and not isinstance(error, DAMAGE):  # a wrong checksum has no class
                raise
            raise InputError(f"{self.path} is damaged: {runfile.first_line(error)}; restore it from a copy") from error

    def frame(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """Ask one question."""
        with self.reading() as connection:
            return connection.execute(query, list(parameters)).df()


@dataclass(frozen=True)
class Outline:
    """What a run is, and the steps it has recorded."""

    info: RunRow
    steps: tuple[int, ...]


@dataclass(frozen=True)
class RunFile(DataFile):
    """One recorded run, and everything about it but its tokens (see `analysis.tokens`)."""

    kind = RUN_FILE

    def outline(self) -> Outline:
        """What was run, with what, how it stands, and which steps there are; in one opening of the file."""
        names = [field.name for field in fields(RunRow)]
        with self.reading() as connection:
            row = connection.execute(f"SELECT {', '.join(names)} FROM run").fetchone()
            steps = connection.execute("SELECT step FROM steps ORDER BY step").fetchall()
        if row is None:
            raise InputError(f"{self.path} has no row in its table run; record the run again")
        return Outline(RunRow(**dict(zip(names, row, strict=True))), tuple(step for (step,) in steps))

    def info(self) -> RunRow:
        """What was run, with what, and how it stands."""
        return self.outline().info

    def waiting_steps(self) -> int:
        """Steps that wait in the spool because somebody holds the file."""
        return len(spool.waiting(self.folder))

    def steps(self) -> pd.DataFrame:
        """One row a step, without the histograms."""
        return self.frame("SELECT * EXCLUDE (log_weight_histogram) FROM steps ORDER BY step")

    def log_weight_histogram(self) -> np.ndarray:
        """Counts of log w over the whole run, by the method's own Δ; all 0 where it weighs no token."""
        with self.reading() as connection:
            rows = connection.execute("SELECT log_weight_histogram FROM steps").fetchall()
        kept = [row[0] for row in rows if row[0] is not None]
        return np.array(kept, np.int64).reshape(-1, BINS).sum(0)


@dataclass(frozen=True)
class Unreadable:
    """A file that looks like a run by its name and cannot be read."""

    key: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Store:
    """Where runs are looked for: a folder of runs, and the recorded example that ships with Credence."""

    runs_dir: Path
    example_dir: Path = EXAMPLE_DIR

    def files(self) -> dict[str, RunFile]:
        """Every run file by its key, the last written first, the example's after them; none is opened."""
        own = sorted(_found(self.runs_dir), key=lambda path: -path.stat().st_mtime_ns)
        found = [(path.parent.relative_to(self.runs_dir).as_posix(), path) for path in own]
        for path in sorted(_found(self.example_dir)):
            found.append((f"{EXAMPLE}/{path.parent.relative_to(self.example_dir).as_posix()}", path))
        return {key: RunFile(key, path) for key, path in found}


def _found(folder: Path) -> list[Path]:
    return [path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()]
