"""The journal of an evaluation: every answer is on disk as soon as it is generated, and is never generated twice."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from core.errors import InputError
from core.eval_schema import FILE_NAME
from core.spool import to_disk
from core.turns import sole_writer
from eval.questions import Answer, Question

FIELDS: dict[str, type] = {
    "task": str,
    "row": int,
    "seed": int,
    "digest": str,
    "text": str,
    "n_prompt_tokens": int,
    "n_tokens": int,
    "truncated": bool,
}
"""What a line of the journal holds, in order."""


class _Key(NamedTuple):
    task: str
    row: int
    seed: int
    digest: str


class JournalError(InputError):
    """An answer cannot be kept: nothing more should be generated."""


class Journal:
    """The answers of one evaluation, a JSON line each; as a context manager it closes its file.

    An answer counts for the task, row, seed and digest of its question alone, and the first one for them counts: no
    later one changes it. After a kill the torn last line is cut off, the lines before it are whole.

    Every answer is fsync'ed before `add` returns, so that it survives a power cut too: that costs about a millisecond,
    and an answer takes far longer to generate.

    Args:
        path: the file, made where it is missing, in a folder that is there and that this process has alone, see `sole`.

    Raises:
        JournalError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreadable = 0
        """Lines that are no answers; they are left alone."""
        self._answers: dict[_Key, Answer] = {}
        try:
            self._file = path.open("a+b", buffering=0)
            self._read()
            to_disk(path.parent)
        except OSError as error:
            raise self._explained(error) from error
        self.resumed = len(self._answers)
        """Answers that were there already."""

    def get(self, question: Question) -> Answer | None:
        """The answer to a question as the model read it; None when it was never answered."""
        return self._answers.get(_key(question))

    def add(self, question: Question, answer: Answer) -> None:
        """Put an answer on disk; does nothing where the question has one already.

        Raises:
            JournalError: it could not be written; the answers before it are safe.
        """
        key = _key(question)
        if key in self._answers:
            return
        try:
            self._append(_line(key, answer))
        except OSError as error:
            raise self._explained(error) from error
        self._answers[key] = answer

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; all answers are in it."""
        self._file.close()

    def _read(self) -> None:
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    self._file.truncate(end)
                    break
                end += len(line)
                entry = _parsed(line)
                if entry is None:
                    self.unreadable += 1
                else:
                    self._answers.setdefault(*entry)

    def _append(self, line: bytes) -> None:
        end = self._file.seek(0, os.SEEK_END)
        rest = line
        try:
            while rest:  # one write takes it all, unless the disk is full
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)  # or the next line would stand behind half of this one
            raise

    def _explained(self, error: OSError) -> JournalError:
        return JournalError(
            f"{self.path} cannot be written: {error.strerror or error}; nothing already written is lost; "
            "make room or give permission, then run the same command again"
        )


@contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Have the folder of an evaluation for this process alone while the block runs; made where it is missing.

    The claim ends with the process, however it dies.

    Raises:
        InputError: another process has it, or nothing can be written there.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_sole = stack.enter_context(sole_writer(folder / FILE_NAME))
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written: {error.strerror or error}; give permission or choose another folder"
            ) from error
        if not is_sole:
            raise InputError(f"{folder} is being written by another process; stop that one first, or wait for its end")
        yield


def _key(question: Question) -> _Key:
    return _Key(question.task, question.row, question.seed, question.digest)


def _line(key: _Key, answer: Answer) -> bytes:
    record = {**key._asdict(), **{name: getattr(answer, name) for name in FIELDS if name not in _Key._fields}}
    return f"{json.dumps(record)}\n".encode("ascii")


def _parsed(line: bytes) -> tuple[_Key, Answer] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    # a bool is an int to isinstance
    if not isinstance(record, dict) or any(type(record.get(name)) is not kind for name, kind in FIELDS.items()):
        return None
    values = [record[name] for name in FIELDS]
    return _Key(*values[:4]), Answer(*values[4:])
