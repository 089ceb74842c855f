"""Readers of a run file: our own take turns, foreign ones never stall training, hostile files are refused."""

import os
import runpy
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from core import spool
from core.errors import InputError
from core.recorder import FILE_NAME, Recorder, merge_spool, reading
from core.runfile import WRITER
from core.turns import read_turn, waiting_for

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorder_runs.py"))))


@contextmanager
def foreign_reader(path: Path):
    """Another process that keeps the file open, as a forgotten shell or notebook does."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print(); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process
        process.stdin.close()


def steps(folder: Path) -> list[int]:
    with reading(folder / FILE_NAME) as connection:
        return [step for (step,) in connection.execute("SELECT step FROM steps ORDER BY step").fetchall()]


@pytest.fixture
def run_file(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(runs.step_record(1))
    return tmp_path / FILE_NAME


def test_a_shell_left_open_for_a_while_delays_nothing_and_loses_nothing(tmp_path, caplog):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY, patience=0.4) as recorder:
        recorder.write(runs.step_record(1))
        recorder.flush()
        with foreign_reader(tmp_path / FILE_NAME) as process:
            for step in range(2, 9):
                started = time.perf_counter()
                recorder.write(runs.step_record(step))
                assert time.perf_counter() - started < 0.1
                time.sleep(0.12)
            recorder.flush()
            assert steps(tmp_path) == [1]
            assert [spool.step_of(file) for file in spool.waiting(tmp_path)] == list(range(2, 9))
            assert f"(PID {process.pid})" in caplog.text
        recorder.write(runs.step_record(9))
    assert steps(tmp_path) == list(range(1, 10))
    assert not (tmp_path / "spool").exists()


def test_a_shell_left_open_beyond_the_end_leaves_steps_to_resume_or_merge(tmp_path, caplog):
    with foreign_reader_of_new_run(tmp_path) as recorder, recorder:
        recorder.write(runs.step_record(1))
        recorder.write(runs.step_record(2))
        recorder.finish("finished")
        assert "2 steps wait" in caplog.text
    assert steps(tmp_path) == []
    assert merge_spool(tmp_path) == 2
    assert merge_spool(tmp_path) == 0
    assert steps(tmp_path) == [1, 2]
    with reading(tmp_path / FILE_NAME) as connection:
        assert connection.execute("SELECT status, last_step FROM run").fetchall() == [("finished", 2)]
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


@contextmanager
def foreign_reader_of_new_run(folder: Path):
    recorder = Recorder.create(folder, runs.run_row(), runs.VOCABULARY, patience=0.3)
    with foreign_reader(folder / FILE_NAME):
        yield recorder


def test_a_resumed_run_merges_what_waits_and_drops_what_it_repeats(tmp_path):
    with foreign_reader_of_new_run(tmp_path) as recorder, recorder:
        for step in (1, 2, 3):
            recorder.write(runs.step_record(step))
        recorder.finish("interrupted", "Ctrl-C")
        with (
            Recorder.resume(tmp_path, patience=0.1) as resumed,
            pytest.raises(InputError, match=r"held open by .* close it there"),
        ):
            resumed.discard_after(2)
    with Recorder.resume(tmp_path) as resumed:
        resumed.discard_after(2)
        assert steps(tmp_path) == [1, 2]


def test_a_damaged_step_in_the_spool_is_named(tmp_path, run_file):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "000001-000002.arrow").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"000001-000002\.arrow is not a recorded step"):
        merge_spool(tmp_path)
    assert steps(tmp_path) == [1]


def test_our_readers_and_the_writer_take_turns(tmp_path):
    failures, reads, stop = [], [], threading.Event()

    def poll() -> None:
        while not stop.is_set():
            try:
                reads.append(len(steps(tmp_path)))
            except InputError as error:
                failures.append(error)
            time.sleep(0.01)

    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY, patience=5.0) as recorder:
        threads = [threading.Thread(target=poll) for _ in range(3)]
        for thread in threads:
            thread.start()
        for step in range(1, 11):
            recorder.write(runs.step_record(step, length=500))
            deadline = time.monotonic() + 20  # a reader gets in before the next step, however slow the machine is
            while step not in reads and not failures and time.monotonic() < deadline:
                time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert set(range(1, 11)) <= set(reads), "readers get in between steps"
    assert steps(tmp_path) == list(range(1, 11))


def test_a_reader_that_holds_a_turn_but_not_the_file_stops_nobody(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY, patience=0.3) as recorder:
        recorder.write(runs.step_record(1))
        recorder.flush()
        with read_turn(tmp_path / FILE_NAME, waiting_for(1)):
            recorder.write(runs.step_record(2))
            recorder.flush()
        assert spool.waiting(tmp_path) == []
    assert steps(tmp_path) == [1, 2]


def test_reading_leaves_no_trace_in_the_folder(tmp_path, run_file):
    assert steps(tmp_path) == [1]
    assert os.listdir(tmp_path) == [FILE_NAME]


def tamper(path: Path, *statements: str) -> None:
    with duckdb.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            ["DROP TABLE tokens", "CREATE VIEW tokens AS SELECT content FROM read_text('/etc/hostname')"],
            r"column tokens\.\w+ of type \w+ is missing",
        ),
        (["CREATE MACRO count(x) AS (SELECT content FROM read_text('/etc/hostname'))"], "macro 'count'"),
        (["CREATE MACRO duckdb_columns() AS TABLE SELECT 1 AS lies"], "macro 'duckdb_columns'"),
        (["ALTER TABLE steps DROP loss"], r"column steps\.loss of type DOUBLE is missing"),
        (["ALTER TABLE tokens ALTER delta TYPE VARCHAR"], r"column tokens\.delta of type FLOAT is missing"),
        (["UPDATE run SET schema_version = 99"], "has schema 99, this Credence reads up to 2"),
        (["DROP TABLE run"], "no table run"),
        (["DELETE FROM run"], "has schema none"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_before_it_is_queried(run_file, statements, message):
    tamper(run_file, *statements)
    with pytest.raises(InputError, match=message), reading(run_file):
        pytest.fail("opened")


def test_what_a_strangers_file_still_may_hold_cannot_reach_outside(run_file):
    tamper(run_file, "CREATE VIEW extra AS SELECT content FROM read_text('/etc/hostname')")
    outside = ["FROM extra", "FROM read_text('/etc/hostname')", "ATTACH 'x.duckdb'", "COPY run TO 'x.csv'"]
    with reading(run_file) as connection:
        for sql in (*outside, "SET enable_external_access = true", "LOAD httpfs", "DELETE FROM run"):
            with pytest.raises(duckdb.Error):
                connection.execute(sql)


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_what_is_no_database_is_told_in_one_line(tmp_path, kind):
    path = tmp_path / "run.duckdb"
    if kind == "folder":
        path.mkdir()
    if kind == "text":
        path.write_text("junk" * 5000)
    with pytest.raises(InputError, match="cannot be read as a run file") as caught, reading(path):
        pytest.fail("opened")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_being_written_names_the_writer_after_a_while(run_file):
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(run_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match=rf"PID {process.pid}"), reading(run_file, patience=0.2):
            pytest.fail("opened")
        process.stdin.close()


def test_the_file_can_be_opened_by_older_duckdb(run_file):
    assert WRITER["storage_compatibility_version"] == "v1.5.0"
    with reading(run_file) as connection:
        tags = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchone()[0]
    assert tags["storage_version"].startswith("v1.5")
