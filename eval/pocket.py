"""Write pocket versions of the five benchmarks: `python -m eval.pocket [--out data/pocket_benchmarks] [--seed 0]`.

A few dozen items each, in the columns that lmms-eval reads of the real data, made of Pocket Geo3k pictures with labels
of the validation split: none of them shows what a training picture shows.

The pocket model knows "Find x." and answers with a number; letters it does not know. So a part of every benchmark asks
for the number itself, and the rest (none of DynaMath) is multiple choice, where a number scores what the official
scorer gives it: in MathVision and MMMU the right option's number counts, in LogicVista and WeMath only its letter.
What is measured here is the machinery of evaluation and how pocket checkpoints compare, nothing else.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from core.console import printable, say
from core.errors import InputError
from core.pocket import draw
from core.pocket.problems import FAMILIES
from eval.pocket_items import VARIANTS, Item, items_of
from eval.tasks import BENCHMARKS, PAPER, Benchmark

Row = dict[str, Any]

SUBJECTS = (
    *("Accounting", "Architecture_and_Engineering", "Design", "Economics"),
    *("Math", "Mechanical_Engineering", "Pharmacy", "Physics"),
)
"""Of MMMU, from five of its six domains."""
PER_SUBJECT = 6
STEPS = (2,) * 6 + (3,) * 6
"""How many steps each WeMath problem is cut into."""
WEMATH_PLACES = [
    (str(number), f"{steps}steps_{part}")
    for number, steps in enumerate(STEPS, 1)
    for part in (*range(1, steps + 1), "multi")
]
"""Problem and step of every WeMath row."""

TEXT, PICTURE = {"dtype": "string", "_type": "Value"}, {"_type": "Image"}
ENCODED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TYPES: dict[type, tuple[pa.DataType, Row]] = {
    str: (pa.string(), TEXT),
    list: (pa.list_(pa.string()), {"feature": TEXT, "_type": "List"}),
    dict: (ENCODED, PICTURE),
    type(None): (ENCODED, PICTURE),
}
"""Type of a column by the values it holds: in the file, and for the `datasets` library; only pictures are left out."""


def _dynamath_row(item: Item, i: int) -> Row:
    question, variant = divmod(i, VARIANTS)
    return {
        "id": str(question + 1),
        "question_id": f"{question + 1}_{variant}",
        "question": item.question,
        "decoded_image": _picture(item),
        "ground_truth": item.answer,
    }


def _logicvista_row(item: Item, i: int) -> Row:
    question = f"{item.question} Two options are right." if len(item.letters) > 1 else item.question
    return {
        "question_id": str(i + 1),
        "question": "\n".join([question, *item.lettered]),
        "answer": item.answer,
        "image": _picture(item),
    }


def _mathvision_row(item: Item, i: int) -> Row:
    return {
        "id": str(i + 1),
        "question": f"{item.question}\n<image1>",
        "options": list(item.options),
        "decoded_image": _picture(item),
        "answer": item.answer,
    }


def _mmmu_row(item: Item, i: int) -> Row:
    subject, number = divmod(i, PER_SUBJECT)
    lines = [f"<image {n}>{problem.question}" for n, problem in enumerate(item.problems, 1)]
    if len(lines) > 1:
        lines.append("Give the sum of both.")
    return {
        "id": f"validation_{SUBJECTS[subject]}_{number + 1}",
        "question": "\n".join(lines),
        "options": str(list(item.options)),
        **{f"image_{n}": _picture(item, n) for n in range(1, 8)},
        "answer": item.answer,
        "question_type": "multiple-choice" if item.options else "open",
    }


def _wemath_row(item: Item, i: int) -> Row:
    problem, key = WEMATH_PLACES[i]
    concept = FAMILIES[item.problems[0].family].right.name
    return {
        "ID": problem,
        "split": "testmini",
        "knowledge concept": concept,
        "question": item.question,
        "option": "; ".join(item.lettered),
        "answer": item.answer,
        "image_path": _picture(item),
        "key": key,
        "question number": str(i + 1),
        "knowledge concept description": str({concept: item.problems[0].family}),
    }


def _picture(item: Item, number: int = 1) -> Row | None:
    if number > len(item.problems):
        return None
    png = io.BytesIO()
    draw(item.problems[number - 1]).save(png, "PNG")
    return {"bytes": png.getvalue(), "path": None}


ROWS: dict[str, Callable[[Item, int], Row]] = {
    "dynamath": _dynamath_row,
    "logicvista": _logicvista_row,
    "mathvision_mini": _mathvision_row,
    "mmmu": _mmmu_row,
    "wemath": _wemath_row,
}
"""An item and its place, from 0, as a row of the benchmark."""


@dataclass(frozen=True)
class Written:
    """One pocket benchmark on the disk."""

    benchmark: Benchmark
    file: Path
    items: tuple[Item, ...]
    n_groups: int
    """Groups of items that stand or fall together; as many as items where every item stands alone."""
    is_new: bool
    """False: the same file was there already."""


def write(folder: Path, seed: int) -> list[Written]:
    """Write all five below a folder, those that are there already left out; no file is there until it is whole.

    Raises:
        InputError: Other data are there already (nothing is written then), or the folder cannot be written.
    """
    written, contents = [], []
    for benchmark in (BENCHMARKS[name] for name in PAPER):
        items = items_of(benchmark.name, seed)
        rows = [ROWS[benchmark.name](item, i) for i, item in enumerate(items)]
        n_groups = len({benchmark.cluster(row) for row in rows}) if benchmark.cluster else len(rows)
        contents.append(_parquet(rows))
        file = folder / benchmark.folder / "data" / f"{benchmark.split}-00000-of-00001.parquet"
        written.append(Written(benchmark, file, tuple(items), n_groups, _is_missing(file, contents[-1])))
    for one, content in zip(written, contents, strict=True):
        if one.is_new:
            _save(one.file, content)
    return written


def _parquet(rows: list[Row]) -> bytes:
    types = {name: TYPES[type(value)] for name, value in rows[0].items()}
    features = json.dumps({"info": {"features": {name: feature for name, (_, feature) in types.items()}}})
    schema = pa.schema([(name, arrow) for name, (arrow, _) in types.items()], metadata={"huggingface": features})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), buffer)
    return buffer.getvalue()


def _is_missing(file: Path, content: bytes) -> bool:
    """Whether a file has yet to be written; data beside it would be read with it, so they are refused as well."""
    try:
        others = [other for other in sorted(file.parent.glob("*.parquet")) if other != file]
        if others or (file.exists() and file.read_bytes() != content):
            found = [*others, file][0]
            raise InputError(f"{found}: other data are there already and are kept; move them or name another --out")
        return not file.exists()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error}); name another --out") from error


def _save(file: Path, content: bytes) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror or error}); name another --out") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Write them and say what they hold; exit status 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/pocket_benchmarks"), metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        written = write(options.out, options.seed)
    except InputError as error:
        say(str(error))
        return 2
    print(f"{'benchmark':16} items  number  choice  two pictures  groups")
    for one in written:
        n, n_choice = len(one.items), sum(bool(item.options) for item in one.items)
        n_two = sum(len(item.problems) > 1 for item in one.items)
        print(f"{one.benchmark.title:16} {n:5}  {n - n_choice:6}  {n_choice:6}  {n_two:12}  {one.n_groups:6}")
    n_new = sum(one.is_new for one in written)
    state = f"{n_new} files written" if n_new else "the same files were there already"
    print(f"seed {options.seed} in {printable(str(options.out))}: {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
