"""A study trains what is missing, goes on after a kill, asks, and records; what is recorded is not trained again."""

import dataclasses
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from analysis import matrix, study
from analysis.collect import Workplace
from analysis.matrix import Matrix, Run, Study
from analysis.recorded import read_study, write_study
from analysis.store import EXAMPLE_DIR
from core.config import default_config, read_config

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))

TINY = {
    "steps": 1, "rollouts.problems_per_step": 2, "rollouts.group_size": 2, "validation.problems": 4,
    "validation.every": 1, "checkpoint_every": 1, "keep_checkpoints": 2, "rollouts.max_new_tokens": 8,
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A matrix of three short runs in place of the real one; returns where the study works."""
    tree = {
        "scales": {
            "pocket": {"config": "core/configs/pocket.yaml", "learning_rates": [1e-4], "flags": TINY},
        },
        "search": {"seed": 1000, "flags": {"problems.validation_seed": 1000}},
        "groups": {
            "methods": {"title": "One", "reference": "", "seeds": [0], "asked": ["told"], "arms": {"cepo": {}}},
            "same": {"title": "Same", "reference": "", "seeds": [0], "arms": {"cepo": {}}},
        },
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(matrix, "STUDY", path)
    return tmp_path / "runs"


def command(tiny: Path) -> list[str]:
    """The study as a command of its own, on the tiny matrix."""
    script = (
        "import sys, pathlib; from analysis import matrix, study; matrix.STUDY = pathlib.Path(sys.argv[1]);"
        # two methods search, not five: a run takes seconds to start
        "matrix.METHODS = study.METHODS = {name: study.METHODS[name] for name in ('grpo', 'cepo')};"
        "sys.exit(study.main(sys.argv[2:]))"
    )
    return [sys.executable, "-c", script, str(tiny.parent / "study.yaml"), "--runs-dir", str(tiny)]


@pytest.mark.xdist_group("study")
def test_a_killed_study_goes_on_and_records_what_it_came_to(tiny):
    first = subprocess.Popen(command(tiny), start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert "1 of 2" in first.stdout.readline()
    os.killpg(first.pid, signal.SIGKILL)  # the study, and what it has started
    first.wait()
    assert not (tiny / "recorded").exists()
    for folder in (path.parent for path in list(tiny.glob("cepo-*/config.yaml"))):
        (folder / "run.duckdb").unlink(missing_ok=True)  # as if it had been killed a moment before its file was there

    done = subprocess.run([*command(tiny), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "scale": "pocket", "out": str(tiny / "recorded"), "runs": 3, "failures": {},
    }  # fmt: skip

    recorded = read_study(tiny / "recorded")
    assert set(recorded.arms["group"]) == {"search", "methods", "same"}
    assert recorded.run_ids("same", "cepo") == recorded.run_ids("methods", "cepo")
    assert recorded.about.rates == {"grpo": 1e-4, "cepo": 1e-4}
    assert recorded.final("methods", "cepo").n.tolist() == [4]
    assert set(recorded.told["run_id"]) == set(recorded.run_ids("methods", "cepo"))
    assert recorded.recordings("methods", ["cepo"])[0].info.status == "finished"
    assert not [value for value in recorded.runs.to_numpy().ravel() if str(tiny) in str(value)]

    assert len(recorded.evaluations) == len(recorded.items) == len(recorded.evidence) == 0
    assert not Workplace(tiny, recorded).evaluated()

    # the record alone is enough: nothing trains once the runs are gone
    shutil.move(tiny / "recorded", tiny.parent / "kept")
    shutil.rmtree(tiny)
    again = subprocess.run([*command(tiny), "--out", str(tiny.parent / "kept")], capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert not list(tiny.glob("*/run.duckdb"))
    pd.testing.assert_frame_equal(read_study(tiny.parent / "kept").validation, recorded.validation)


def test_the_list_trains_nothing_and_tells_every_arm(tiny, capsys):
    assert study.main(["--list", "--runs-dir", str(tiny)]) == 0
    told = capsys.readouterr().out
    assert all(arm in told for arm in ("methods/cepo", "same/cepo"))
    assert not list(tiny.glob("*/run.duckdb"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "method"], "--only method: expected a group or GROUP/ARM"),
        (["--config", "no/such.yaml"], "--config no/such.yaml: the study has no scale for it"),
    ],
)
def test_bad_input_is_told_in_one_line_before_anything_trains(tiny, capsys, arguments, said):
    assert study.main([*arguments, "--runs-dir", str(tiny)]) == 2
    told = capsys.readouterr().err.strip()
    assert said in " ".join(told.split())
    assert not tiny.exists()


def test_a_damaged_record_is_told_in_one_line(tiny, tmp_path, capsys):
    write_study(made_up.made_up_study(), tmp_path / "kept")
    (tmp_path / "kept" / "steps.parquet").write_bytes(b"PAR1 no more")
    assert study.main(["--list", "--runs-dir", str(tiny), "--out", str(tmp_path / "kept")]) == 2
    assert "the recorded study cannot be read" in " ".join(capsys.readouterr().err.split())


def test_a_recorded_run_counts_as_finished_by_what_it_was_configured_as(tmp_path):
    recorded = made_up.made_up_study()
    renamed = recorded.runs.assign(run_id="an older name " + recorded.runs["run_id"])
    place = Workplace(tmp_path, dataclasses.replace(recorded, runs=renamed))
    run = matrix.study_of().arm_runs("methods", "cepo", recorded.about.rates)[0]
    assert place.is_finished(run)
    assert not place.is_finished(Run(default_config("cepo")))


def test_a_run_of_its_own_file_is_finished_only_when_it_says_so(tmp_path):
    run = Run(read_config(EXAMPLE_DIR / "cepo" / "config.yaml"))
    place = Workplace(tmp_path, None)
    assert not place.is_finished(run)
    shutil.copytree(EXAMPLE_DIR / "cepo", place.folder(run))
    assert place.is_finished(run)


def test_a_run_that_was_asked_at_some_checkpoints_only_is_asked_again(tmp_path):
    run = Run(read_config(EXAMPLE_DIR / "cepo" / "config.yaml"))
    place = Workplace(tmp_path, None)
    assert not place.lacks_told(run), "what has not trained cannot be asked"
    shutil.copytree(EXAMPLE_DIR / "cepo", place.folder(run))
    (place.folder(run) / "checkpoints" / "step-000012").mkdir(parents=True)
    told = place.folder(run) / "told.csv"
    assert place.lacks_told(run)
    told.write_text("step,problem_id,is_correct\n0,a,1\n")  # as a kill after the first step leaves it
    assert place.lacks_told(run)
    told.write_text("step,problem_id,is_correct\n0,a,1\n12,a,1\n")
    assert not place.lacks_told(run)


def test_the_score_of_the_search_is_the_mean_of_the_last_two_validations(tmp_path):
    run = Run(read_config(EXAMPLE_DIR / "cepo" / "config.yaml"))
    place = Workplace(tmp_path, None)
    shutil.copytree(EXAMPLE_DIR / "cepo", place.folder(run))
    rows = place.file(run).frame(
        "SELECT step, avg(is_correct::DOUBLE) AS y FROM validation GROUP BY step ORDER BY step"
    )
    assert rows.step.tolist()[-2:] == [9, 12]
    assert place.scores({"cepo": {1.0: run}}) == {
        "cepo": {1.0: pytest.approx(rows.y.tolist()[-2:][0] / 2 + rows.y.tolist()[-1] / 2)}
    }


def test_nothing_is_chosen_before_every_rate_was_tried():
    scale = {"config": "core/configs/pocket.yaml", "learning_rates": [1e-4, 5e-4]}
    tree = {"scales": {"pocket": scale}, "search": {"seed": 1, "flags": {}}, "groups": {}}
    asked = Study(Matrix.model_validate(tree), "pocket")
    assert study.chosen_rates(asked, {"grpo": {1e-4: 0.5}, "cepo": {1e-4: 0.5, 5e-4: 0.4}}) == {"cepo": 1e-4}
