"""Runs side by side: the figures are the run files', and a file that is none gets one line."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.recorder import Recorder
from core.schema import ValidationRow
from core.summary import line_of, main

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorder_runs.py"))))


def validation(step: int, n_correct: int, n: int = 4) -> list[ValidationRow]:
    return [
        ValidationRow(step=step, problem_id=str(i), response="r", is_correct=i < n_correct, answer=None)
        for i in range(n)
    ]


def record_run(folder: Path, method: str = "cepo", **step_columns) -> Path:
    """Two steps of 200 tokens, validated before training and after the second."""
    with Recorder.create(folder, runs.run_row(method), runs.VOCABULARY) as recorder:
        recorder.write_validation(0, validation(0, 1))
        for step, accuracy in ((1, 0.25), (2, 0.75)):
            recorder.write(runs.step_record(step, accuracy=accuracy, **step_columns))
        recorder.write_validation(2, validation(2, 3))
        recorder.finish("finished")
    return folder / "run.duckdb"


@pytest.fixture
def summarise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Runs the command in a wide window; returns exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["summary", *arguments])
        monkeypatch.setenv("COLUMNS", "140")
        code = main()
        return code, *capsys.readouterr()

    return command


def test_a_line_holds_the_figures_of_its_run_file(tmp_path: Path) -> None:
    evidence = {"delta_positive": 0.6, "delta_negative": 0.4, "evidence_clip_low": 0.1, "evidence_clip_high": 0.2}
    line = line_of(record_run(tmp_path / "a", seconds_total=3.0, seconds_validate=1.0, **evidence))
    assert (line.method, line.status, line.steps, line.tokens) == ("cepo", "finished", 2, 400)
    assert (line.val_start, line.val_end, line.val_n) == (0.25, 0.75, 4)
    assert (line.accuracy, line.delta_positive, line.delta_negative) == (0.5, 0.6, 0.4)
    assert line.clip_rate == pytest.approx(0.3)
    assert line.seconds_per_step == 2.0


def test_a_run_that_has_just_begun_has_no_figures(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "a", runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write_validation(0, validation(0, 1))
        recorder.flush()
        line = line_of(tmp_path / "a" / "run.duckdb")
        recorder.finish("interrupted")
    assert (line.status, line.steps, line.tokens, line.val_start) == ("running", 0, 0, 0.25)
    assert (line.val_end, line.accuracy, line.clip_rate, line.seconds_per_step) == (None,) * 4


def test_every_run_below_the_folder_has_its_row_and_its_path(tmp_path: Path, summarise) -> None:
    paths = [record_run(tmp_path / ("long" * 40) / method, method) for method in ("grpo", "opsd")]
    code, printed, _ = summarise(str(tmp_path))
    assert code == 0
    rows = [line for line in printed.splitlines() if "25.0% → 75.0%" in line]
    assert ["grpo" in rows[0], "opsd" in rows[1], len(rows)] == [True, True, 2]
    assert [path for path in paths if str(path) in printed] == paths  # in one piece, to be copied


def test_json_is_the_last_line_and_alone_on_stdout(tmp_path: Path, summarise) -> None:
    record_run(tmp_path / "a")
    code, printed, table = summarise(str(tmp_path), "--json")
    assert code == 0
    (run,) = json.loads(printed)["runs"]
    assert (run["method"], run["val_end"]) == ("cepo", 0.75)
    assert "25.0% → 75.0%" in table


def test_hostile_text_in_a_run_file_is_shown_as_text(tmp_path: Path, summarise) -> None:
    record_run(tmp_path / "a", method="\x1b[31m[bold]m\r")
    _, printed, _ = summarise(str(tmp_path))
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert "[bold]m" in printed


@pytest.mark.parametrize("broken", [None, b"", b"no run file"])
def test_nothing_to_show_is_one_line(broken: bytes | None, tmp_path: Path, summarise) -> None:
    if broken is not None:
        (tmp_path / "run.duckdb").write_bytes(broken)
    code, printed, errors = summarise(str(tmp_path))
    assert (code, printed, len(errors.splitlines())) == (2, "", 1)
    assert str(tmp_path) in errors
