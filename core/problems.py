"""Where problems come from: Pocket Geo3k, or parquet files in the schema of hiyouga/geometry3k."""

import io
import random
import re
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled
from PIL import Image

from core.errors import InputError
from core.pocket import pocket_problem
from core.prompts import IMAGE_MARKER
from core.rollouts import Problem
from core.verifier import MAX_ANSWER_CHARACTERS

if TYPE_CHECKING:
    from core.config import ProblemsConfig

BadRows = Literal["stop", "skip"]
"""What a row that cannot be trained on does: end the run with one line, or be left out and counted."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ProblemSource(Protocol):
    """Problems to train on, and fixed ones to validate with."""

    @property
    def name(self) -> str:
        """What the run file calls this source."""
        ...

    @property
    def skipped(self) -> int:
        """Rows left out because they were bad."""
        ...

    def batch(self, step: int, size: int, seed: int) -> tuple[Problem, ...]:
        """Return the problems of a step, counted from 1; pure, so that resuming needs no state."""
        ...

    def validation(self, n: int) -> tuple[Problem, ...]:
        """Return the same n held-out problems at every call, or all where there are fewer."""
        ...


def problem_source(config: "ProblemsConfig") -> ProblemSource:
    """Open the problems that a configuration names."""
    if config.source == "pocket":
        return PocketProblems(config.validation_seed)
    return DatasetProblems(config.source, config.validation_source, config.on_bad_row)


class PocketProblems:
    """Pocket Geo3k: drawn on demand, never the same problem twice in a run."""

    name = "pocket"
    skipped = 0

    def __init__(self, validation_seed: int = 0) -> None:
        self.validation_seed = validation_seed

    def batch(self, step: int, size: int, seed: int) -> tuple[Problem, ...]:
        """Return training problems number ``(step − 1)·size`` and following of this seed."""
        return tuple(pocket_problem("train", index, seed) for index in range((step - 1) * size, step * size))

    def validation(self, n: int) -> tuple[Problem, ...]:
        """Return the first n problems of the validation split of this seed, whatever the seed of the run."""
        return tuple(pocket_problem("validation", index, self.validation_seed) for index in range(n))


@dataclass(frozen=True)
class _Row:
    """One checked row; its images stay encoded until a batch needs them."""

    problem_id: str
    question: str
    answer: str
    images: tuple[bytes, ...]
    place: str

    def problem(self) -> Problem:
        images = tuple(_decoded(data, self.place) for data in self.images)
        return Problem(self.problem_id, self.question, self.answer, images)


class DatasetProblems:
    """Parquet files with columns ``problem``, ``answer`` and, unless text-only, ``images``; all rows checked at once.

    Training takes the files of the train split, shuffled anew each epoch and never repeating within one. Validation
    takes the first rows of ``validation_source``, else of the validation split, else of the test split.

    Args:
        source: A parquet file, a folder of them, or the id of a data set on the hub.
        validation_source: Likewise.
        on_bad_row: ``stop`` with one line about it, or ``skip`` and count it.

    Raises:
        InputError: Nothing usable is there, a column is missing, or a row is bad.
    """

    def __init__(self, source: str, validation_source: str | None = None, on_bad_row: BadRows = "stop") -> None:
        files = _parquet_files(source)
        train = _of_split(files, "train") or [file for file in files if file not in _held_out(files)] or files
        if validation_source is None:
            held_out = [file for file in _held_out(files) if file not in train]
        else:
            others = _parquet_files(validation_source)
            held_out = _held_out(others) or others
        if both := set(train) & set(held_out):
            raise InputError(
                f"{both.pop()}: problems.validation_source would validate on a training file; name another"
            )
        self.name = Path(source).name.removesuffix(".parquet")
        self.skipped = 0
        self._source = source
        self._train = self._read(train, "train", on_bad_row)
        self._validation = self._read(held_out, "validation", on_bad_row)
        if not self._train:
            raise InputError(f"{source}: no row to train on in {len(train)} file(s), {self.skipped} skipped; add rows")

    def batch(self, step: int, size: int, seed: int) -> tuple[Problem, ...]:
        """Return the problems of a step: consecutive places in the shuffled epochs, one epoch after another."""
        n, start = len(self._train), (step - 1) * size
        epochs = range(start // n, (start + size - 1) // n + 1)
        orders = {epoch: random.Random(f"{seed}/{epoch}").sample(range(n), n) for epoch in epochs}
        return tuple(self._train[orders[i // n][i % n]].problem() for i in range(start, start + size))

    def validation(self, n: int) -> tuple[Problem, ...]:
        """Return the first n held-out rows."""
        if n > 0 and not self._validation:
            raise InputError(
                f"{self._source}: no held-out rows, expected a validation or test file; "
                f"name one as problems.validation_source"
            )
        return tuple(row.problem() for row in self._validation[:n])

    def _read(self, files: list[Path], split: str, on_bad_row: BadRows) -> list[_Row]:
        rows: list[_Row] = []
        for index, (place, values) in enumerate(_raw_rows(files)):
            try:
                rows.append(_checked(f"{self.name}/{split}/{index}", place, values))
            except InputError as error:
                if on_bad_row == "stop":
                    raise InputError(f"{error}; mend the row or set problems.on_bad_row to skip") from error
                self.skipped += 1
        return rows


def _parquet_files(source: str) -> list[Path]:
    path = Path(source)
    if not path.exists():
        path = _downloaded(source)
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(f"{source}: no parquet file in it; expected files with columns problem, answer, images")
    return files


def _downloaded(source: str) -> Path:
    if not _HUB_ID.fullmatch(source) or source.endswith(".parquet"):
        raise InputError(f"{source}: no such file or folder; give a parquet file, a folder of them, or a hub id")
    try:
        return Path(snapshot_download(source, repo_type="dataset", allow_patterns="*.parquet"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{source}: neither a file or folder here nor a data set the hub gives ({reason}); check the name, "
            f"the network and the permission"
        ) from error


def _of_split(files: list[Path], split: str) -> list[Path]:
    """Pick a split's files, as the hub names them: ``train-00000-of-00001.parquet`` or ``train/0000.parquet``."""
    return [file for file in files if file.name.startswith(split) or file.parent.name == split]


def _held_out(files: list[Path]) -> list[Path]:
    return _of_split(files, "validation") or _of_split(files, "test")


def _raw_rows(files: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every row with the place it stands, for messages."""
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
            batches = parquet.iter_batches(batch_size=256, columns=_columns(file, parquet.schema_arrow.names))
            for number, values in enumerate(row for batch in batches for row in batch.to_pylist()):
                yield f"{file} row {number}", values
        except (pa.ArrowException, OSError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"{file}: cannot be read as parquet ({reason}); write or download it again") from error


def _columns(file: Path, names: list[str]) -> list[str]:
    if missing := [column for column in ("problem", "answer") if column not in names]:
        raise InputError(
            f"{file}: no column {' and '.join(missing)}, it has {', '.join(names)}; "
            f"rename its columns to problem, answer, images"
        )
    return [column for column in ("problem", "answer", "images") if column in names]


def _checked(problem_id: str, place: str, values: dict[str, Any]) -> _Row:
    question, answer = _text(values["problem"]), _text(values["answer"])
    if not question:
        raise InputError(f"{place}: expected a question in column problem, got none")
    if not 0 < len(answer) <= MAX_ANSWER_CHARACTERS:
        raise InputError(
            f"{place}: expected an answer of 1 to {MAX_ANSWER_CHARACTERS} characters, got {len(answer) or 'none'}"
        )
    images = values.get("images") or []
    if isinstance(images, bytes | dict):
        images = [images]
    if question.count(IMAGE_MARKER) not in (0, len(images)):
        raise InputError(
            f"{place}: expected one {IMAGE_MARKER} in the problem for each of its {len(images)} image(s), or none, "
            f"got {question.count(IMAGE_MARKER)}"
        )
    return _Row(problem_id, question, answer, tuple(_encoded(image, place) for image in images), place)


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _encoded(image: Any, place: str) -> bytes:
    """Return an image's bytes; refuse broken ones and decompression bombs by the cheapest check that finds them."""
    data = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(data, bytes):
        raise InputError(f"{place}: expected images as bytes or as {{bytes, path}} with bytes, got neither")
    try:
        with _opened(data) as picture:
            if picture.format == "PNG":
                picture.verify()
            else:  # only PNG has checksums
                picture.load()
    except _IMAGE_ERRORS as error:
        raise _broken(place, error) from error
    return data


def _decoded(data: bytes, place: str) -> Image.Image:
    """Decode to RGB; what is transparent becomes white paper, not black."""
    try:
        with _opened(data) as image:
            if not image.has_transparency_data:
                return image.convert("RGB")
            drawing = image.convert("RGBA")
    except _IMAGE_ERRORS as error:
        raise _broken(place, error) from error
    return Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")


def _opened(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS)


def _broken(place: str, error: Exception) -> InputError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return InputError(f"{place}: expected a PNG, JPEG, WebP, GIF or BMP that can be decoded ({reason})")
