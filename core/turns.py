"""Turns at a run file: two ``flock`` side files that keep our writer and our readers out of each other's way.

A writer takes the turnstile, then the room; a reader passes the turnstile and shares the room. So a waiting writer
lets the readers inside finish and no new ones in. DuckDB's own lock stays the law: a turn is only a courtesy.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

POLL_SECONDS = 0.02

KeepWaiting = Callable[[], bool]


def waiting_for(seconds: float) -> KeepWaiting:
    """True until the time is over."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() < deadline


@contextmanager
def write_turn(path: Path, keep_waiting: KeepWaiting) -> Iterator[None]:
    """A writer's turn; goes ahead without one when waiting ends."""
    turnstile, room = _side_files(path)
    with _opened(turnstile, os.O_CREAT) as turnstile_fd, _opened(room, os.O_CREAT) as room_fd:
        if _locked(turnstile_fd, fcntl.LOCK_EX, keep_waiting):
            _locked(room_fd, fcntl.LOCK_EX, keep_waiting)
        yield


@contextmanager
def read_turn(path: Path, keep_waiting: KeepWaiting) -> Iterator[None]:
    """A reader's turn; goes ahead without one when waiting ends, or when no writer has made the side files."""
    turnstile, room = _side_files(path)
    with ExitStack() as stack:
        try:
            room_fd = stack.enter_context(_opened(room))
            with _opened(turnstile) as turnstile_fd:
                if _locked(turnstile_fd, fcntl.LOCK_SH, keep_waiting):
                    _locked(room_fd, fcntl.LOCK_SH, keep_waiting)
        except (FileNotFoundError, PermissionError):
            stack.close()
        yield


@contextmanager
def sole_writer(path: Path) -> Iterator[bool]:
    """Whether this process alone writes the file while the block runs; tidies up, and ends when the process dies."""
    with _opened(path.with_name(f"{path.name}.writer"), os.O_CREAT) as fd:
        is_sole = _locked(fd, fcntl.LOCK_EX, lambda: False)
        try:
            yield is_sole
        finally:
            if is_sole:
                remove_side_files(path)


def remove_side_files(path: Path) -> None:
    """Tidy up after the last write; a reader that still holds one loses nothing."""
    for side_file in (*_side_files(path), path.with_name(f"{path.name}.writer")):
        side_file.unlink(missing_ok=True)


def _side_files(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.turn"), path.with_name(f"{path.name}.room")


@contextmanager
def _opened(path: Path, flags: int = 0) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | flags, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _locked(fd: int, kind: int, keep_waiting: KeepWaiting) -> bool:
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not keep_waiting():
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True
