"""The recorder: a thread that writes whole steps into the run file while training goes on."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from core import runfile, spool
from core.errors import InputError
from core.runfile import FileHeldError, Writer, first_line, reading, writing
from core.schema import RunRow, Status, StepRecord, ValidationRow, VocabularyRow
from core.spool import StepTables
from core.turns import KeepWaiting, sole_writer, waiting_for

__all__ = ["FILE_NAME", "Recorder", "merge_spool", "reading"]

FILE_NAME = "run.duckdb"
QUEUE_SIZE = 4

logger = logging.getLogger(__name__)


@dataclass
class _Job:
    action: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)


class Recorder:
    """Writes the steps of one run; see `create` and `resume`.

    A step goes into the file in one transaction, in the place of itself if it was there. While another process holds
    the file, steps wait in ``spool/``. What could not be written is kept and tried again, and the next call tells of
    it by an `InputError`. As a context manager it records how the run ended.

    Args:
        folder: the run's folder, with its run file.
        patience: seconds that a step waits for the file, when no other step waits behind it.
        heartbeat: seconds between signs of life while a step takes long.
    """

    def __init__(self, folder: Path, *, patience: float = 10.0, heartbeat: float = 30.0) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.seconds = 0.0
        """CPU seconds of the writer thread."""
        self.seconds_blocked = 0.0
        """Seconds the training thread spent in here."""
        self._patience = patience
        self._heartbeat = heartbeat
        self._pending: list[StepTables] = []
        self._error: InputError | None = None
        """What could not be written; over as soon as it can."""
        self._refusal: InputError | None = None
        """A step that never can be."""
        self._is_spooling = False
        self._is_finished = False
        self._queue: queue.Queue[_Job] = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._claim = _claim(self.path)
        self._writer = Writer(self.path)
        self._thread.start()

    @classmethod
    def create(
        cls,
        folder: Path,
        run: RunRow,
        vocabulary: Sequence[VocabularyRow],
        *,
        patience: float = 10.0,
        heartbeat: float = 30.0,
    ) -> Self:
        """Make the run file of a new run, and the folder if it is missing."""
        path = folder / FILE_NAME
        if path.exists():
            raise InputError(f"{path} exists already; choose another run id, or go on with --resume {folder}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            runfile.create(path, run, vocabulary)
        except (duckdb.Error, OSError) as error:
            raise InputError(f"{path} cannot be made: {first_line(error)}; choose a folder with room") from error
        return cls(folder, patience=patience, heartbeat=heartbeat)

    @classmethod
    def resume(cls, folder: Path, *, patience: float = 10.0, heartbeat: float = 30.0) -> Self:
        """Go on with a recorded run; steps that waited in the spool are merged, nothing is deleted."""
        with reading(folder / FILE_NAME, patience):
            pass
        recorder = cls(folder, patience=patience, heartbeat=heartbeat)
        recorder._perform(recorder._store)
        return recorder

    def write(self, record: StepRecord) -> None:
        """Hand over a step; returns at once unless four steps wait already.

        The writer thread reads the record's rows, so what they are made from must stay as it is.
        """
        self._hand_over(record.step.step, partial(StepTables.from_record, record))

    def write_validation(self, step: int, rows: Sequence[ValidationRow]) -> None:
        """Hand over a validation that belongs to no training step, as that of step 0."""
        self._hand_over(step, partial(StepTables.from_validation, step, rows))

    def flush(self) -> None:
        """Wait until every step handed over is on disk, in the file or in the spool."""
        with self._blocking():
            self._raise_error()
            self._perform(self._retry)

    def discard_after(self, step: int) -> None:
        """Delete later steps, which a resumed run is going to repeat."""
        with self._blocking():
            self._raise_error()
            self._perform(partial(self._discard_after, step))

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Write what is left and how the run ended; the first call counts."""
        if self._is_finished:
            return
        with self._blocking():
            self._perform(partial(self._conclude, status, reason))

    def __enter__(self) -> Self:
        """The recorder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish: an interrupt or an error ends the run as such, and stays the error to be told."""
        if error is None:
            self.finish("finished")
            return
        with suppress(InputError):
            if isinstance(error, KeyboardInterrupt):
                self.finish("interrupted", "interrupted by Ctrl-C")
            elif isinstance(error, InputError):
                self.finish("failed", first_line(error))
            else:
                self.finish("failed", f"{type(error).__name__}: {first_line(error)}")

    @contextmanager
    def _blocking(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds_blocked += time.perf_counter() - started

    def _hand_over(self, step: int, tables: Callable[[], StepTables]) -> None:
        with self._blocking():
            self._raise_error()
            self._enqueue(partial(self._accept, step, tables))

    def _enqueue(self, action: Callable[[], None]) -> _Job:
        job = _Job(action)
        while True:
            self._check_alive()
            with suppress(queue.Full):
                self._queue.put(job, timeout=1.0)
                return job

    def _perform(self, action: Callable[[], None]) -> None:
        job = self._enqueue(action)
        while not job.done.wait(timeout=1.0):
            self._check_alive()
        self._raise_error()

    def _raise_error(self) -> None:
        error = self._refusal or self._error
        self._refusal = self._error = None
        if error is not None:
            raise error

    def _check_alive(self) -> None:
        if not self._thread.is_alive():
            raise RuntimeError("the recorder has ended: finish() was called, or its thread died (see stderr)")

    def _run(self) -> None:
        """The writer thread: everything below runs here."""
        while not self._is_finished:
            try:
                job = self._queue.get(timeout=self._heartbeat)
            except queue.Empty:
                job = _Job(self._store)
            started = time.thread_time()
            try:
                job.action()
            except InputError as error:
                self._error = error
            except (duckdb.Error, OSError) as error:
                self._error = self._explained(error)
            self.seconds += time.thread_time() - started
            job.done.set()

    def _explained(self, error: duckdb.Error | OSError) -> InputError:
        steps = ", ".join(str(step.step) for step in self._pending) or "none"
        return InputError(
            f"{self.path} cannot be written: {first_line(error)}; steps not in it: {steps}, earlier ones are safe; "
            f"make room or give permission, then go on with --resume {self.folder}"
        )

    def _accept(self, step: int, tables: Callable[[], StepTables]) -> None:
        try:
            self._pending.append(tables())
        except pa.ArrowInvalid as error:
            self._refusal = InputError(
                f"step {step} does not fit {self.path}: {first_line(error)}; earlier steps are safe; change the "
                f"setting that it comes from, then go on with --resume {self.folder}"
            )
            return
        self._store()

    def _retry(self) -> None:
        if self._pending:
            self._store()

    def _store(self, ending: tuple[Status, str | None] | None = None) -> None:
        """Write what waits, in order, with a sign of life; into the spool when the file is held."""
        files = spool.waiting(self.folder)
        try:
            keep_waiting = self._keep_waiting(bool(files), bool(self._pending or ending))
            with self._writer.writing(keep_waiting) as connection:
                for step in chain(map(spool.load, files), self._pending):
                    runfile.replace_step(connection, step)
                runfile.mark(connection, *(ending or ("running", None)))
        except FileHeldError as held:
            self._spool_pending(held, ending)
            return
        # only now that the file has closed well: until then each step was in doubt
        spool.remove(self.folder, files)
        self._pending.clear()
        self._error = None
        self._is_spooling = False

    def _keep_waiting(self, is_spooling: bool, has_rows: bool) -> KeepWaiting:
        """Wait long while training does not need the thread, else a moment, or not at all if that failed before."""
        started = time.monotonic()
        patience = self._patience if has_rows else 0.0
        grace = 0.0 if is_spooling else patience / 10

        def keep_waiting() -> bool:
            waited = time.monotonic() - started
            return waited < grace or (waited < patience and self._queue.empty())

        return keep_waiting

    def _spool_pending(self, held: FileHeldError, ending: tuple[Status, str | None] | None) -> None:
        while self._pending:
            spool.save(self.folder, self._pending[0])
            self._pending.pop(0)
            if not self._is_spooling:
                logger.warning("%s. Until then steps wait in %s; none is lost.", held, self.folder / "spool")
            self._is_spooling = True
        if ending is not None:
            spool.save_ending(self.folder, *ending)
            steps = len(spool.waiting(self.folder))
            logger.warning("%s. %d steps wait in %s: --resume merges them.", held, steps, self.folder / "spool")

    def _discard_after(self, step: int) -> None:
        files = [file for file in spool.waiting(self.folder) if spool.step_of(file) > step]
        spool.remove(self.folder, files)
        with self._writer.writing(waiting_for(self._patience)) as connection:
            runfile.discard_after(connection, step)

    def _conclude(self, status: Status, reason: str | None) -> None:
        self._is_finished = True
        if self._refusal is not None:
            status, reason = "failed", str(self._refusal)
        try:
            self._store((status, reason))
        except (duckdb.Error, OSError, InputError):
            # where a whole step finds no room, the status still may
            with suppress(duckdb.Error, OSError, InputError), self._writer.writing(waiting_for(0)) as connection:
                runfile.mark(connection, status, reason)
            raise
        finally:
            self._writer.close()
            self._claim.close()


def merge_spool(folder: Path, patience: float = 10.0) -> int:
    """Bring the steps that wait in the folder of an ended run into its file; returns how many there were."""
    path = folder / FILE_NAME
    with reading(path, patience):
        pass
    with _claim(path):
        files = spool.waiting(folder)
        if not (folder / "spool").exists():
            return 0
        with writing(path, waiting_for(patience)) as connection:
            for file in files:
                runfile.replace_step(connection, spool.load(file))
            runfile.mark(connection, *spool.load_ending(folder))
        spool.remove(folder, files)
    return len(files)


def _claim(path: Path) -> ExitStack:
    with ExitStack() as stack:
        if not stack.enter_context(sole_writer(path)):
            raise InputError(f"{path} is being written by another trainer; stop that one first")
        return stack.pop_all()
