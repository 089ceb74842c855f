"""A run survives what happens to runs: kills, Ctrl-C, exceptions, damaged checkpoints."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from core.config import default_config
from core.console import PlainConsole
from core.errors import InputError
from core.run import run

COMMAND = [sys.executable, "-m", "core.train", "--method", "sdpo", "--steps", "4", "--seed", "3"]
SMALL = ["--rollouts.problems-per-step", "2", "--rollouts.group-size", "4", "--validation.problems", "4"]
SMALL += ["--validation.every", "2", "--checkpoint-every", "1"]


def command(folder: Path) -> list[str]:
    return [*COMMAND, *SMALL, "--runs-dir", str(folder.parent), "--run-id", folder.name]


def table(folder: Path, name: str) -> list[tuple]:
    """Every row of a table but for times and memory."""
    with duckdb.connect(str(folder / "run.duckdb"), read_only=True) as connection:
        columns = [c[0] for c in connection.execute(f"DESCRIBE {name}").fetchall()]
        kept = [c for c in columns if not c.startswith("seconds_") and c != "peak_memory_mb"]
        return connection.execute(f"SELECT {', '.join(kept)} FROM {name} ORDER BY ALL").fetchall()


def status(folder: Path) -> tuple:
    with duckdb.connect(str(folder / "run.duckdb"), read_only=True) as connection:
        return connection.execute("SELECT status, last_step, reason FROM run").fetchone()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run(command(folder), check=True, capture_output=True)
    return folder


def wait_for_checkpoint(folder: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / f"step-{step:06d}").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_resumes_with_the_numbers_of_an_uninterrupted_one(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(folder, 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert status(folder)[0] == "running"
    subprocess.run([sys.executable, "-m", "core.train", "--resume", str(folder)], check=True, capture_output=True)
    assert status(folder)[:2] == ("finished", 4)
    for name in ("steps", "groups", "rollouts", "tokens", "validation", "images"):
        assert table(folder, name) == table(uninterrupted, name), name


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_resume(uninterrupted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(folder, 1, process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"--resume {folder}" in output + errors
    assert "Traceback" not in errors
    ended, last_step, _ = status(folder)
    assert ended == "interrupted"
    assert len(table(folder, "steps")) == last_step < 4
    subprocess.run([sys.executable, "-m", "core.train", "--resume", str(folder)], check=True, capture_output=True)
    assert table(folder, "steps") == table(uninterrupted, "steps")


def test_the_final_model_folder_loads_and_has_moved(uninterrupted: Path) -> None:
    from core.config import ModelConfig
    from core.policy import Policy

    trained, base = Policy.load(ModelConfig(path=str(uninterrupted / "model"))), Policy.load(ModelConfig())
    moved = [n for n, p in trained.trainable.items() if not (p == base.trainable[n]).all()]
    assert moved


def small_config(**changes):
    config = default_config("grpo")
    rollouts = dataclasses.replace(config.rollouts, problems_per_step=2, group_size=2)
    validation = dataclasses.replace(config.validation, problems=2)
    small = {"rollouts": rollouts, "validation": validation, "steps": 2, "checkpoint_every": 1}
    return dataclasses.replace(config, **(small | changes))


def test_an_exception_leaves_a_failed_status_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.algorithm import Trainer

    original = Trainer.step

    def breaks(self, step):
        if step == 2:
            raise RuntimeError("a bug\nof two lines")
        return original(self, step)

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(RuntimeError, match="a bug"):
        run(small_config(), tmp_path / "run", PlainConsole(), resume=False)
    ended, last_step, reason = status(tmp_path / "run")
    assert (ended, last_step) == ("failed", 1)
    assert "a bug" in reason
    assert "\n" not in reason


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> Path:
    run(small_config(), tmp_path / "run", PlainConsole(), resume=False)
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_named_and_nothing_is_lost(two_checkpoints: Path) -> None:
    weights = sorted(two_checkpoints.glob("checkpoints/step-*"))[-1] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    before = table(two_checkpoints, "steps")
    with pytest.raises(InputError, match=r"step-000002: cannot be read .*delete its folder"):
        run(small_config(), two_checkpoints, PlainConsole(), resume=True)
    assert table(two_checkpoints, "steps") == before


def test_a_checkpoint_of_another_method_is_refused(two_checkpoints: Path) -> None:
    config = dataclasses.replace(small_config(), method=default_config("cepo").method)
    with pytest.raises(InputError, match="is of method 'grpo', the run's configuration says 'cepo'"):
        run(config, two_checkpoints, PlainConsole(), resume=True)


def test_an_existing_run_folder_is_never_written_over(two_checkpoints: Path) -> None:
    before = table(two_checkpoints, "steps")
    with pytest.raises(InputError, match="exists; resume it with --resume"):
        run(small_config(), two_checkpoints, PlainConsole(), resume=False)
    assert table(two_checkpoints, "steps") == before


def test_an_unfinished_checkpoint_write_is_ignored(two_checkpoints: Path) -> None:
    newest = sorted(two_checkpoints.glob("checkpoints/step-*"))[-1]
    os.rename(newest, newest.with_name(".unfinished-000002"))
    run(small_config(), two_checkpoints, PlainConsole(), resume=True)
    assert len(table(two_checkpoints, "steps")) == 2


def test_bad_models_are_refused_in_one_line(tmp_path: Path) -> None:
    from core.config import ModelConfig

    config = small_config(model=ModelConfig(path=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match=r"model.path .*nowhere.*: expected a model folder") as missing:
        run(config, tmp_path / "run", PlainConsole(), resume=False)
    broken = tmp_path / "broken"
    shutil.copytree(ModelConfig().resolved_path, broken)
    (broken / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")
    config = small_config(model=ModelConfig(path=str(broken)))
    with pytest.raises(InputError, match=r"model.path .*broken.*: expected a model folder") as corrupt:
        run(config, tmp_path / "run", PlainConsole(), resume=False)
    assert "\n" not in str(missing.value) + str(corrupt.value)
    assert not (tmp_path / "run").exists()
