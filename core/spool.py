"""Steps as Arrow tables, and the folder where they wait when the run file is held by somebody else."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from core.errors import InputError
from core.schema import TABLES, ColumnSpec, Status, StepRecord, TokenColumns, ValidationRow, columns

ENDING = "ending.json"
ARROW_TYPES: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "USMALLINT": pa.uint16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
    "UINTEGER[401]": pa.list_(pa.uint32(), 401),
}


@dataclass(frozen=True)
class StepTables:
    """The rows of one step as they go into the file: whole tables, to replace what the step had there."""

    step: int
    tables: tuple[tuple[str, pa.Table], ...]

    @classmethod
    def from_record(cls, record: StepRecord) -> "StepTables":
        """All tables of a step."""
        parts: tuple[tuple[str, Sequence[object]], ...] = (
            ("steps", [record.step]),
            ("groups", record.groups),
            ("rollouts", record.rollouts),
            ("validation", record.validation),
            ("images", list({image.image_id: image for image in record.images}.values())),
        )
        tables = tuple((table, rows_to_arrow(table, rows)) for table, rows in parts)
        return cls(record.step.step, (*tables, ("tokens", _tokens_to_arrow(record.tokens))))

    @classmethod
    def from_validation(cls, step: int, rows: Sequence[ValidationRow]) -> "StepTables":
        """The validation of a step alone."""
        return cls(step, (("validation", rows_to_arrow("validation", rows)),))


def rows_to_arrow(table: str, rows: Sequence[object], tables: Mapping[str, type] = TABLES) -> pa.Table:
    """Row dataclasses as an Arrow table."""
    specs = columns(table, tables)
    arrays = [pa.array([_plain(getattr(row, c.name), c) for row in rows], ARROW_TYPES[c.type]) for c in specs]
    return pa.table(arrays, names=[c.name for c in specs])


def _plain(value: object, column: ColumnSpec) -> object:
    if isinstance(value, float) and column.nullable and math.isnan(value):
        return None
    if isinstance(value, str):  # a lone surrogate, as JSON may carry one, has no UTF-8
        return value.encode("utf-8", "replace").decode()
    return value


def _tokens_to_arrow(tokens: TokenColumns) -> pa.Table:
    specs = columns("tokens")
    return pa.table(
        [_token_array(getattr(tokens, c.name), c, len(tokens)) for c in specs], names=[c.name for c in specs]
    )


def _token_array(values: np.ndarray | None, column: ColumnSpec, length: int) -> pa.Array:
    kind = ARROW_TYPES[column.type]
    if values is None:
        return pa.nulls(length, kind)
    return pa.array(values, from_pandas=column.nullable).cast(kind)


def waiting(folder: Path) -> list[Path]:
    """The steps that wait in a run folder, oldest first."""
    return sorted((folder / "spool").glob("*.arrow"))


def step_of(file: Path) -> int:
    """The step a waiting file holds."""
    return int(file.stem.rpartition("-")[2])


def save(folder: Path, step: StepTables) -> Path:
    """Leave a step in the spool; the file is there whole and on disk, or not at all."""
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    number = max((int(file.stem.partition("-")[0]) for file in waiting(folder)), default=0) + 1
    target = spool / f"{number:06d}-{step.step:06d}.arrow"
    temporary = target.with_suffix(".part")
    with temporary.open("wb") as file:
        for name, table in step.tables:
            table = table.replace_schema_metadata({"table": name})
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    to_disk(spool)
    return target


def load(file: Path) -> StepTables:
    """Read a waiting step back."""
    tables = []
    try:
        with pa.memory_map(str(file)) as source:
            while source.tell() < source.size():
                table = pa.ipc.open_stream(source).read_all()
                name = (table.schema.metadata or {}).get(b"table", b"").decode()
                if name not in TABLES:
                    raise pa.ArrowInvalid(f"it has a table {name!r}")
                tables.append((name, table))
        return StepTables(step_of(file), tuple(tables))
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise InputError(f"{file} is not a recorded step ({error}); delete it to go on without that step") from error


def save_ending(folder: Path, status: Status, reason: str | None) -> None:
    """Leave word of how the run ended, beside the steps that wait."""
    ending = folder / "spool" / ENDING
    ending.parent.mkdir(exist_ok=True)
    ending.write_text(json.dumps({"status": status, "reason": reason}))


def load_ending(folder: Path) -> tuple[Status, str | None]:
    """How the run ended, as far as anybody left word."""
    ending = folder / "spool" / ENDING
    if not ending.exists():
        return "interrupted", "the trainer ended without a word"
    word = json.loads(ending.read_text())
    return word["status"], word["reason"]


def remove(folder: Path, files: Iterable[Path]) -> None:
    """Drop steps from the spool, and the spool itself once it is empty."""
    spool = folder / "spool"
    for file in (*files, spool / ENDING):
        file.unlink(missing_ok=True)
    for leftover in spool.glob("*.part"):
        leftover.unlink()
    if spool.is_dir() and not any(spool.iterdir()):
        spool.rmdir()


def to_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, would survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
