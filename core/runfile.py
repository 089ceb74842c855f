"""Our DuckDB files: opened in turn, hardened against strangers' files; a run file is written whole steps at a time."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from core.errors import InputError
from core.schema import RUN_FILE, FileKind, RunRow, Status, VocabularyRow, columns, create_statements
from core.spool import StepTables, rows_to_arrow
from core.turns import POLL_SECONDS, KeepWaiting, read_turn, remove_side_files, waiting_for, write_turn

Config = dict[str, str | bool | int | float | list[str]]

HARDENED: Config = {
    "enable_external_access": "false",
    "lock_configuration": "true",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_unsigned_extensions": "false",
}
READER: Config = HARDENED | {"threads": "2", "memory_limit": "4GB"}
WRITER: Config = HARDENED | {"threads": "1", "storage_compatibility_version": "v1.5.0"}
"""Files that DuckDB 1.5 can read too; one thread, as the other cores are training."""

STEP_TABLES = ("steps", "groups", "rollouts", "tokens", "validation")

SIDE_FILES = (".wal", ".wal.checkpoint", ".wal.recovery")
"""DuckDB's own, beside a file that is being written."""

ATTACHED = "run_file"
"""What a file that is being written to is called in its writer's DuckDB."""

Turn = Callable[[Path, KeepWaiting], AbstractContextManager[None]]
Connect = Callable[[], duckdb.DuckDBPyConnection]


class FileHeldError(InputError):
    """Somebody else keeps the file open."""


@contextmanager
def reading(path: Path, patience: float = 10.0, kind: FileKind = RUN_FILE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to a file, for as long as one query takes: a writer waits meanwhile.

    Raises:
        InputError: no file of this kind, a newer one, one that holds anything but our tables and macros, or one held
            by a writer for all of ``patience`` seconds.
    """
    connect = partial(_connect_reading, path, kind)
    with _opened(path, read_turn, waiting_for(patience), connect) as connection:
        _check(connection, path, kind)
        yield connection


def _connect_reading(path: Path, kind: FileKind) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(path, read_only=True, config=READER)
    except duckdb.Error as error:
        if _held(path, error):
            raise
        raise InputError(f"{path} cannot be read as {kind.noun}: {first_line(error)}") from error


@contextmanager
def writing(path: Path, keep_waiting: KeepWaiting, kind: FileKind = RUN_FILE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that writes, closed with everything in the file itself and nothing left in the log beside it.

    Raises:
        FileHeldError: somebody else held the file until waiting ended.
    """
    with _opened(path, write_turn, keep_waiting, partial(duckdb.connect, path, config=WRITER)) as connection:
        yield connection
        connection.execute("CHECKPOINT")
    _check_merged(path)


class Writer:
    """Writes to one file many times; in between the file is free for others.

    It keeps one DuckDB and attaches the file for each write: starting a DuckDB costs more than writing a step.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def writing(self, keep_waiting: KeepWaiting) -> Iterator[duckdb.DuckDBPyConnection]:
        """As the function `writing`."""
        with _opened(self.path, write_turn, keep_waiting, self._attach) as connection, ExitStack() as if_it_fails:
            if_it_fails.callback(self.close)  # what a failed write left in memory must not be met by the next
            yield connection
            connection.execute("CHECKPOINT")
            connection.execute("USE memory")
            connection.execute(f"DETACH {ATTACHED}")
            if_it_fails.pop_all()
        _check_merged(self.path)

    def _attach(self) -> duckdb.DuckDBPyConnection:
        path = self.path.absolute()
        if self._database is None:
            self._database = _confined(path)
        quoted = str(path).replace("'", "''")
        self._database.execute(f"ATTACH '{quoted}' AS {ATTACHED}")
        connection = self._database.cursor()
        connection.execute(f"USE {ATTACHED}")
        return connection

    def close(self) -> None:
        """End the DuckDB; the next write starts another."""
        if self._database is not None:
            self._database.close()
        self._database = None


def _confined(path: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB as hardened as all of ours, that may attach one file."""
    last = {"enable_external_access", "lock_configuration"}  # no path is allowed after these
    database = duckdb.connect(config={name: value for name, value in WRITER.items() if name not in last})
    database.execute("SET allowed_paths = ?", [[f"{path}{side}" for side in ("", *SIDE_FILES)]])
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")
    return database


def _check_merged(path: Path) -> None:
    log = path.with_name(f"{path.name}.wal")
    if log.exists():
        raise OSError(f"{log.name} could not be merged into {path.name}")


@contextmanager
def _opened(path: Path, turn: Turn, keep_waiting: KeepWaiting, connect: Connect) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in a turn of its own, tried again while somebody else has the file and waiting goes on."""
    while True:
        with turn(path, keep_waiting):
            try:
                connection = connect()
            except duckdb.Error as error:
                held = _held(path, error)
                if held is None:
                    raise
                failure = held
            else:
                with connection:
                    yield connection
                return
        if not keep_waiting():
            raise failure
        time.sleep(POLL_SECONDS)


def _held(path: Path, error: duckdb.Error) -> FileHeldError | None:
    """The error to tell when a failure to open means that somebody else has the file."""
    if "Could not set lock" in str(error):
        process = re.search(r"held in (.+? \(PID \d+\))", str(error))
        holder = process[1] if process else "another process"
    elif "with a different configuration" in str(error) or "Unique file handle conflict" in str(error):
        holder = "this process"
    else:
        return None
    return FileHeldError(f"{path} is held open by {holder}; close it there")


def first_line(error: BaseException) -> str:
    """The first line of an error, its kind when it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _check(connection: duckdb.DuckDBPyConnection, path: Path, kind: FileKind) -> None:
    """Refuse a file before its own views or macros could stand in for our tables and functions."""
    # qualified, as a macro of the file may be called like these functions too
    found = connection.execute(
        "SELECT table_name, column_name, data_type FROM system.main.duckdb_columns() "
        "JOIN system.main.duckdb_tables() USING (database_oid, schema_oid, table_oid, table_name) "
        "WHERE duckdb_columns.schema_name = 'main' AND NOT duckdb_tables.internal"
    ).fetchall()
    if (kind.head, "schema_version", "INTEGER") not in found:
        raise InputError(f"{path} is not {kind.noun}: it has no table {kind.head} with a schema_version")
    version = connection.execute(f"SELECT schema_version FROM {kind.head}").fetchone()
    if version is None or version[0] > kind.version:
        newer = version[0] if version else "none"
        raise InputError(f"{path} has schema {newer}, this Credence reads up to {kind.version}; update Credence")
    declared = {(table, c.name, c.type) for table in kind.tables for c in columns(table, kind.tables)}
    missing = declared - set(found)
    if missing:
        table, column, data_type = min(missing)
        raise InputError(f"{path} is not {kind.noun}: column {table}.{column} of type {data_type} is missing")
    ours = set(re.findall(r"CREATE MACRO (\w+)", " ".join(kind.macros)))
    functions = "SELECT DISTINCT function_name FROM system.main.duckdb_functions() WHERE NOT internal"
    strange = sorted({name for (name,) in connection.execute(functions).fetchall()} - ours)
    if strange:
        raise InputError(f"{path} holds a macro {strange[0]!r} that Credence did not write; drop it to open the file")


def create(path: Path, run: RunRow, vocabulary: Sequence[VocabularyRow]) -> None:
    """Make the file of a new run, whole or not at all."""
    create_file(path, RUN_FILE, {"run": [run], "vocabulary": vocabulary})


def create_file(path: Path, kind: FileKind, rows: Mapping[str, Sequence[object]]) -> None:
    """Make a file of a kind with the first rows of its tables, whole or not at all."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    try:
        with writing(unfinished, waiting_for(0), kind) as connection:
            connection.begin()  # one write to the disk, not one a statement
            for statement in (*create_statements(kind.tables), *kind.macros):
                connection.execute(statement)
            for table, those in rows.items():
                insert(connection, table, rows_to_arrow(table, those, kind.tables))
            connection.commit()
        unfinished.replace(path)
    finally:
        remove_side_files(unfinished)
        for leftover in (unfinished, unfinished.with_name(f"{unfinished.name}.wal")):
            leftover.unlink(missing_ok=True)


def replace_step(connection: duckdb.DuckDBPyConnection, step: StepTables) -> None:
    """Put a step in the place of itself, in one transaction."""
    connection.begin()
    there = "SELECT step FROM steps WHERE step = $1 UNION ALL SELECT step FROM validation WHERE step = $1"
    is_new = connection.execute(there, [step.step]).fetchone() is None
    for table, rows in step.tables:
        if table in STEP_TABLES and not is_new:
            connection.execute(f"DELETE FROM {table} WHERE step = ?", [step.step])
        if len(rows):
            insert(connection, table, rows)
    mark(connection, "running", None)
    connection.commit()


def discard_after(connection: duckdb.DuckDBPyConnection, step: int) -> None:
    """Delete the rows of later steps, in one transaction."""
    connection.begin()
    for table in STEP_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE step > ?", [step])
    mark(connection, "running", None)
    connection.commit()


def mark(connection: duckdb.DuckDBPyConnection, status: Status, reason: str | None) -> None:
    """A sign of life: how the run stands, now."""
    connection.execute(
        "UPDATE run SET status = ?, reason = ?, heartbeat_at = ?, "
        "last_step = (SELECT coalesce(max(step), 0) FROM steps)",
        [status, reason, datetime.now(UTC).replace(tzinfo=None)],
    )


def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Add rows to a table; a picture that is there already is not added again."""
    new = "WHERE image_id NOT IN (SELECT image_id FROM images)" if table == "images" else ""
    connection.register("new_rows", rows)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows {new}")
    connection.unregister("new_rows")
