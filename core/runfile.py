"""Our DuckDB files: opened in turn, hardened against strangers' files; a run file is written whole steps at a time."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
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

Turn = Callable[[Path, KeepWaiting], AbstractContextManager[None]]


class FileHeldError(InputError):
    """Somebody else keeps the file open."""


@contextmanager
def reading(path: Path, patience: float = 10.0, kind: FileKind = RUN_FILE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to a file, for as long as one query takes: a writer waits meanwhile.

    Raises:
        InputError: no file of this kind, a newer one, one that holds anything but our tables and macros, or one held
            by a writer for all of ``patience`` seconds.
    """
    with _opened(path, read_turn, waiting_for(patience), kind, read_only=True) as connection:
        _check(connection, path, kind)
        yield connection


@contextmanager
def writing(path: Path, keep_waiting: KeepWaiting, kind: FileKind = RUN_FILE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that writes, closed with everything in the file itself and nothing left in the log beside it.

    Raises:
        FileHeldError: somebody else held the file until waiting ended.
    """
    with _opened(path, write_turn, keep_waiting, kind, read_only=False) as connection:
        yield connection
        connection.execute("CHECKPOINT")
    log = path.with_name(f"{path.name}.wal")
    if log.exists():
        raise OSError(f"{log.name} could not be merged into {path.name}")


@contextmanager
def _opened(
    path: Path, turn: Turn, keep_waiting: KeepWaiting, kind: FileKind, *, read_only: bool
) -> Iterator[duckdb.DuckDBPyConnection]:
    while True:
        with ExitStack() as stack:
            stack.enter_context(turn(path, keep_waiting))
            try:
                connection = duckdb.connect(path, read_only=read_only, config=READER if read_only else WRITER)
            except duckdb.Error as error:
                held = _held(path, error)
                if held is None and not read_only:
                    raise
                if held is None:
                    raise InputError(f"{path} cannot be read as {kind.noun}: {first_line(error)}") from error
                failure: FileHeldError = held
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
    elif "with a different configuration" in str(error):
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
    for table, rows in step.tables:
        if table in STEP_TABLES:
            connection.execute(f"DELETE FROM {table} WHERE step = ?", [step.step])
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
