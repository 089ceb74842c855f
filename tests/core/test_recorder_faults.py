"""Kills, full disks and read-only folders: earlier steps survive and a person is told in one line."""

import os
import random
import runpy
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import InputError
from core.recorder import FILE_NAME, Recorder, merge_spool, reading

RUNS = Path(__file__).with_name("recorder_runs.py")
runs = SimpleNamespace(**runpy.run_path(str(RUNS)))

N_ROLLOUTS, LENGTH = 4, 1000


def whole_steps(folder: Path) -> list[int]:
    """The steps in the file, every one of which must have all its rows."""
    with reading(folder / FILE_NAME) as connection:
        steps = [step for (step,) in connection.execute("SELECT step FROM steps ORDER BY step").fetchall()]
        for table, rows in {"groups": 1, "rollouts": N_ROLLOUTS, "tokens": N_ROLLOUTS * LENGTH}.items():
            counts = connection.execute(f"SELECT step, count(*) FROM {table} GROUP BY step ORDER BY step").fetchall()
            assert counts == [(step, rows) for step in steps]
        last_step = connection.execute("SELECT last_step FROM run").fetchall()
        assert last_step == [(max(steps, default=0),)]
        connection.execute("SELECT sum(delta), sum(token_id), sum(log_p_student) FROM tokens").fetchall()
    return steps


@contextmanager
def polling(folder: Path):
    """A reader in another process that looks at the run all the time; yields what it reads."""
    code = (
        "import sys, time, pathlib\nfrom core.recorder import reading\npath = pathlib.Path(sys.argv[1])\n"
        "while True:\n"
        "    with reading(path) as c:\n"
        "        print(*c.execute('SELECT count(*), count(DISTINCT step) FROM tokens').fetchone(), flush=True)\n"
        "    time.sleep(0.03)\n"
    )
    seen: list[tuple[int, int]] = []
    command = [sys.executable, "-c", code, str(folder / FILE_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        thread = threading.Thread(target=lambda: seen.extend(tuple(map(int, line.split())) for line in process.stdout))
        thread.start()
        yield seen
        assert process.poll() is None, "the reader failed"
        process.kill()
        thread.join()


def test_thirty_kills_lose_at_most_the_step_in_flight_and_corrupt_nothing(tmp_path):
    moments = random.Random(0)
    Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY).finish("interrupted")
    (tmp_path / "flushed").write_text("0")
    command = [sys.executable, str(RUNS), str(tmp_path), str(LENGTH)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with polling(tmp_path) as seen, subprocess.Popen(command, **pipes) as launcher:
        for attempt in range(30):
            launcher.stdin.write("go\n")
            pid = int(launcher.stdout.readline())
            if attempt % 2:
                assert launcher.stdout.readline() == "flushed\n"
            time.sleep(moments.uniform(0.0, 0.3))
            os.kill(pid, signal.SIGKILL)
            assert "ended\n" in launcher.stdout, "the launcher outlives its writers"
            merge_spool(tmp_path)
            flushed = int((tmp_path / "flushed").read_text())
            steps = whole_steps(tmp_path)
            assert steps == list(range(1, len(steps) + 1))
            assert len(steps) - flushed in (0, 1)
        launcher.stdin.close()
    assert len(steps) >= 15
    assert len(seen) >= 10
    assert all(tokens == n * N_ROLLOUTS * LENGTH for tokens, n in seen), "a reader saw half a step"


def in_a_child(folder: Path, body: str) -> str:
    """Run code that limits its own process; returns what it prints, its steps being in `folder`."""
    script = (
        "import os, resource, runpy, sys\nfrom pathlib import Path\n"
        "from core.errors import InputError\nfrom core.recorder import Recorder\n"
        f"runs = runpy.run_path({str(RUNS)!r}, run_name='runs')\n"
        f"def step(n): return runs['step_record'](n, n_rollouts={N_ROLLOUTS}, length={LENGTH})\n"
        f"{body}"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


FULL_DISK = """
def room(bytes): resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY))
try:
    with Recorder.create(Path("."), runs["run_row"](), runs["VOCABULARY"]) as recorder:
        recorder.write(step(1))
        recorder.flush()
        room(Path("run.duckdb").stat().st_size + 40_000)
        for n in range(2, 30):
            recorder.write(step(n))
            recorder.flush()
except InputError as error:
    print(error)
"""


def test_a_full_disk_is_told_in_one_line_and_earlier_steps_are_safe(tmp_path):
    lines = in_a_child(tmp_path, FULL_DISK).splitlines()
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    assert "make room" in lines[0]
    assert "--resume" in lines[0]
    steps = whole_steps(tmp_path)
    assert steps[:1] == [1]
    with Recorder.resume(tmp_path) as recorder:
        recorder.discard_after(1)
        recorder.write(runs.step_record(2, n_rollouts=N_ROLLOUTS, length=LENGTH))
    assert whole_steps(tmp_path) == [1, 2]


def test_once_there_is_room_again_the_waiting_step_and_the_failure_are_recorded(tmp_path):
    freed = FULL_DISK.replace("            recorder.flush()", "            flush(recorder)")
    helper = (
        "def flush(recorder):\n"
        "    try:\n        recorder.flush()\n"
        "    except InputError:\n        room(resource.RLIM_INFINITY)\n        raise\n"
    )
    line = in_a_child(tmp_path, helper + freed)
    steps = whole_steps(tmp_path)
    assert f"steps not in it: {steps[-1]}, earlier ones are safe" in line
    with reading(tmp_path / FILE_NAME) as connection:
        status, reason = connection.execute("SELECT status, reason FROM run").fetchone()
    assert status == "failed"
    assert reason == line.strip()


READ_ONLY = """
with_folder = Path(".")
recorder = Recorder.create(with_folder, runs["run_row"](), runs["VOCABULARY"])
recorder.write(step(1))
recorder.flush()
os.chmod("run.duckdb", 0o444)
os.chmod(".", 0o555)
if os.geteuid() == 0:  # the permission of a file means nothing to root
    os.setuid(65534)
try:
    with recorder:
        recorder.write(step(2))
        recorder.flush()
except InputError as error:
    print(error)
"""


def test_a_folder_that_becomes_read_only_is_told_in_one_line(tmp_path):
    try:
        lines = in_a_child(tmp_path, READ_ONLY).splitlines()
    finally:
        tmp_path.chmod(0o755)
        (tmp_path / FILE_NAME).chmod(0o644)
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    assert "steps not in it: 2" in lines[0]
    assert whole_steps(tmp_path) == [1]


def test_a_run_cannot_begin_where_nothing_can_be_written():
    with pytest.raises(InputError, match=r"cannot be made: .*; choose a folder with room") as caught:
        Recorder.create(Path("/proc/no/such"), runs.run_row(), [])
    assert "\n" not in str(caught.value)
