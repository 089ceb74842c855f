"""Write Pocket Geo3k out in the schema of hiyouga/geometry3k: `python -m core.pocket.export --out FOLDER`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from core.console import say
from core.errors import InputError
from core.pocket import pocket_problem
from core.pocket.problems import Split
from core.prompts import IMAGE_MARKER

SCHEMA = pa.schema(
    [
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
    ]
)
ROWS_IN_MEMORY = 256


def export(folder: Path, split: Split, n: int, seed: int) -> Path:
    """Write the first n problems of a split as one parquet file; no file of that name is there until it is whole.

    Args:
        folder: Made where it is missing.
        split: Becomes the beginning of the file's name, as on the hub.
        n: How many problems.
        seed: Which problems.

    Raises:
        InputError: There is such a file already, fewer than one problem is asked for, or the folder cannot be written.
    """
    if n < 1:
        raise InputError(f"--problems: expected at least 1, got {n}")
    file = folder / f"{split}-00000-of-00001.parquet"
    if file.exists():
        raise InputError(f"{file}: is there already and is not overwritten; move it away or name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(file, split, n, seed)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror or error}); name another --out") from error
    return file


def _write(file: Path, split: Split, n: int, seed: int) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with pq.ParquetWriter(partial, SCHEMA) as writer:
            for start in range(0, n, ROWS_IN_MEMORY):
                rows = [_row(split, index, seed) for index in range(start, min(start + ROWS_IN_MEMORY, n))]
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)


def _row(split: Split, index: int, seed: int) -> dict[str, Any]:
    problem = pocket_problem(split, index, seed)
    images = []
    for number, image in enumerate(problem.images):
        png = io.BytesIO()
        image.save(png, "PNG")
        images.append({"bytes": png.getvalue(), "path": f"{split}-{seed}-{index}-{number}.png"})
    return {
        "problem": IMAGE_MARKER * len(images) + problem.question,
        "answer": problem.answer,
        "images": images,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one split; exit status 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--split", choices=get_args(Split), default="train")
    parser.add_argument("--problems", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        file = export(options.out, options.split, options.problems, options.seed)
    except InputError as error:
        say(str(error))
        return 2
    print(f"{options.problems:,} {options.split} problems of seed {options.seed} in {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
