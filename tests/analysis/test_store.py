"""Run files below a folder: found by their place, read without holding them, and told apart from what is none."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from analysis.store import EXAMPLE_DIR, RunFile, Store
from core.errors import InputError
from core.recorder import Recorder
from core.runfile import FileHeldError

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "core" / "recorder_runs.py")))


@pytest.fixture
def run(tmp_path: Path) -> RunFile:
    """Three steps of four rollouts."""
    folder = tmp_path / "runs" / "a"
    with Recorder.create(folder, runs.run_row(), runs.VOCABULARY) as recorder:
        for step in (1, 2, 3):
            recorder.write(runs.step_record(step))
    return RunFile("a", folder / "run.duckdb")


def test_runs_are_found_in_their_folder_and_one_below_and_the_example_comes_last(run: RunFile, tmp_path: Path) -> None:
    for key in ("demo/cepo", "example/cepo"):
        folder = tmp_path / ("runs" if key.startswith("demo") else "shipped") / key.removeprefix("example/")
        folder.mkdir(parents=True)
        (folder / "run.duckdb").touch()
    (tmp_path / "runs" / "one" / "two" / "three").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "two" / "three" / "run.duckdb").touch()
    files = Store(tmp_path / "runs", tmp_path / "shipped").files()
    assert set(files) == {"a", "demo/cepo", "example/cepo"}
    assert list(files)[-1] == "example/cepo"
    assert all(file.key == key for key, file in files.items())


def test_there_are_no_runs_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert Store(tmp_path / "none", tmp_path / "nor this").files() == {}


def test_the_example_that_ships_is_found_and_read() -> None:
    files = Store(Path("no such folder")).files()
    assert {run.info().method for run in files.values()} == {"grpo", "opsd", "sdpo", "rlsd", "cepo"}
    assert all(run.info().status == "finished" for run in files.values())
    assert sum(file.stat().st_size for file in EXAMPLE_DIR.rglob("*")) < 8e6


def test_a_run_tells_what_it_is_and_its_steps(run: RunFile) -> None:
    assert run.info().method == "cepo"
    assert run.steps().step.tolist() == [1, 2, 3]
    assert run.waiting_steps() == 0
    assert run.log_weight_histogram().tolist() == [0] * 401


def test_a_question_leaves_the_file_free_for_the_trainer(run: RunFile) -> None:
    run.steps()
    with Recorder.resume(run.folder, patience=0.0) as recorder:
        recorder.write(runs.step_record(4))
        recorder.flush()
        assert run.steps().step.tolist() == [1, 2, 3, 4]


def test_the_stamp_changes_with_the_file_alone(run: RunFile) -> None:
    before = run.stamp
    run.steps()
    assert run.stamp == before
    with Recorder.resume(run.folder) as recorder:
        recorder.write(runs.step_record(4))
    assert run.stamp != before


def test_a_file_that_another_process_writes_is_said_to_be_held(run: RunFile) -> None:
    hold = f"import duckdb, sys; c = duckdb.connect({str(run.path)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(FileHeldError, match="is held open by"), run.reading(patience=0.1):
            pass
        holder.communicate("")


def test_damaged_pages_give_one_line_whatever_they_hold(run: RunFile) -> None:
    whole = run.path.read_bytes()
    draw = np.random.default_rng(0)
    said: list[str] = []
    for _ in range(40):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole), 200):
            damaged[place] ^= 0xFF
        run.path.write_bytes(damaged)
        try:
            run.steps()
            run.frame("SELECT * FROM tokens")
            run.frame("SELECT * FROM rollouts")
        except InputError as error:
            said.append(str(error))
    assert said, "no damage was noticed at all"
    assert all(str(run.path) in line and "\n" not in line for line in said)


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    with pytest.raises(InputError, match="is not a run file"):
        RunFile("x", path).info()
    path.write_text("no database at all")
    with pytest.raises(InputError, match="cannot be read as a run file"):
        RunFile("x", path).info()
