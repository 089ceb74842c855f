"""Where the benchmarks' own scorers run: in a process that may hang, crash or end, without harm to the evaluation.

A scorer is somebody else's code on text that nobody checked. MathVision's calls `eval` on what a model wrote, and one
tower of powers computes for ever in C, where no Python signal arrives. So each scorer gets a forked process with
limits that the kernel keeps. What it answers is read as JSON, never unpickled.

This contains accidents, not a siege: code that took the process over could still forge the scores of later items.
"""

import contextlib
import ctypes
import gc
import json
import os
import pickle
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Self

from core.console import printable

Metrics = dict[str, Any]
"""What a scorer says of one item; plain JSON values."""

Score = Callable[[Mapping[str, Any], list[str]], Metrics]
"""A task's `process_results`: a row of the benchmark's data and the responses to it."""

MAX_REPLY_BYTES = 64 << 20
PR_SET_PDEATHSIG = 1


class ScorerError(RuntimeError):
    """A scorer raised an exception: a bug in it, or a row of data it cannot read."""


class Sandbox:
    """Runs one scorer in a forked process that serves one item after the other, so that sympy warms up only once.

    The process starts with the first item. When it exceeds a limit, crashes or ends by itself, the item gets what an
    empty response gets, its key goes into `unscored`, and a new process serves the next one. Close it, or use it in a
    ``with`` statement. Not for threads.

    Args:
        task: Name of the benchmark, for messages.
        score: The scorer; what it changes in memory stays in the process.
        log: File that takes what the scorer prints; None drops it.
        cpu_seconds: Limit of computing time for one item.
        wall_seconds: Limit of time for one item.
        memory_bytes: Address space that the process may take beyond what it inherits; Linux only.
    """

    def __init__(
        self,
        task: str,
        score: Score,
        *,
        log: Path | None = None,
        cpu_seconds: float = 30.0,
        wall_seconds: float = 120.0,
        memory_bytes: int = 4 << 30,
    ) -> None:
        self.task = task
        self.unscored: list[str] = []
        """Keys of the items that were too costly, each once, in the order met."""
        self._score = score
        self._log = log
        self._cpu_seconds = cpu_seconds
        self._wall_seconds = wall_seconds
        self._memory_bytes = memory_bytes
        self._child: tuple[int, socket.socket] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that scores, if one runs."""
        return self._child[0] if self._child else None

    def score(self, key: str, doc: Mapping[str, Any], responses: list[str]) -> Metrics:
        """Score the responses to one item.

        Args:
            key: Names the item. A scorer that guesses draws from a seed made of it, so the guess depends on the item
                alone and is the same when the evaluation is resumed.
            doc: The row of the benchmark's data.
            responses: What the model wrote.

        Raises:
            ScorerError: The scorer raised an exception, or fails on an empty response, too.
        """
        metrics = self._ask(key, doc, responses)
        if metrics is not None:
            return metrics
        if key not in self.unscored:
            self.unscored.append(key)
        metrics = self._ask(key, doc, [""])
        if metrics is None:
            raise ScorerError(f"{self.task}: the scorer ends on {printable(key)} even with an empty response")
        return metrics

    def close(self) -> None:
        """End the process, if one runs."""
        if self._child is None:
            return
        pid, connection = self._child
        self._child = None
        connection.close()
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of the dead refuses
            os.killpg(pid, signal.SIGKILL)  # what the scorer may have started
        os.waitpid(pid, 0)

    def _ask(self, key: str, doc: Mapping[str, Any], responses: list[str]) -> Metrics | None:
        """Have the process score an item; None if it ended instead."""
        if self._child and wait([self._child[1]], timeout=0):
            self.close()  # it was ended from outside between two items, or talks when not asked
        self._child = self._child or self._start()
        reply = None
        try:
            reply = _exchange(self._child[1], pickle.dumps((key, doc, responses)), self._wall_seconds)
        finally:
            if reply is None or "metrics" not in reply:  # also when interrupted: no reply may meet the next item
                self.close()
        if reply is None or reply.get("exhausted"):
            return None
        if "error" in reply:
            raise ScorerError(f"{self.task}: the scorer fails on {printable(key)}: {printable(str(reply['error']))}")
        return reply["metrics"]

    def _start(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or what waits in the buffer is written twice
        pid = os.fork()
        if pid == 0:
            with _LastWords(theirs):
                _isolate(theirs, self._log, self._memory_bytes)
                _serve(theirs, self._score, self._cpu_seconds)
        theirs.close()
        return pid, ours


def _exchange(connection: socket.socket, request: bytes, seconds: float) -> dict[str, Any] | None:
    """Send a request and read the one line that answers it; None if none comes in time, or one that makes no sense."""
    deadline = time.monotonic() + seconds
    reply = bytearray()
    try:
        connection.settimeout(seconds)
        connection.sendall(request)
        while not reply.endswith(b"\n"):
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
            part = connection.recv(1 << 16)
            reply += part
            if not part or len(reply) > MAX_REPLY_BYTES:
                return None
        content = json.loads(reply)
    except (TimeoutError, ConnectionError, ValueError, RecursionError):
        return None
    makes_sense = isinstance(content, dict) and ("error" in content or isinstance(content.get("metrics"), dict))
    return content if makes_sense else None


class _LastWords:
    """Ends the forked process whatever happens; an exception is told to the parent first."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if isinstance(error, Exception):
                exhausted = isinstance(error, MemoryError | RecursionError)  # the text's fault, not the scorer's
                _reply(self.connection, {"error": f"{type(error).__name__}: {error}"[:1000], "exhausted": exhausted})
        finally:
            os._exit(0 if error is None else 1)  # nothing of the parent's is closed, flushed or destroyed here


def _isolate(connection: socket.socket, log: Path | None, memory_bytes: int) -> None:
    """Cut a forked process off from its parent's terminal, files and objects, and limit its memory."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which still has an evaluation to end
    for number in (signal.SIGALRM, signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    gc.freeze()  # what the parent holds on a GPU is never released from here
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdout = sys.stderr = os.fdopen(1, "w", errors="backslashreplace", buffering=1, closefd=False)
    kept, last = connection.fileno(), max(map(int, os.listdir("/dev/fd")))
    os.closerange(3, kept)  # the parent's journal, its locks, its other sandboxes
    os.closerange(kept + 1, last + 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # macOS refuses this limit
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, mapped + memory_bytes))


def _serve(connection: socket.socket, score: Score, cpu_seconds: float) -> None:
    """Score items until the parent hangs up."""
    with connection.makefile("rb") as requests:
        while requests.peek(1):
            key, doc, responses = pickle.load(requests)
            random.seed(key)
            # The kernel's clock of computing time; at its end SIGPROF ends the process. SIGALRM is math-verify's.
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            metrics = score(doc, responses)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _reply(connection, {"metrics": metrics})


def _reply(connection: socket.socket, content: dict[str, Any]) -> None:
    connection.sendall(json.dumps(content).encode() + b"\n")
