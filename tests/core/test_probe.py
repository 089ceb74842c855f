"""Asking a run's own model again: the same weights give the evidence that training recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.store import RunFile
from analysis.tokens import read_rollout
from core import probe
from core.errors import InputError
from core.rollouts import Problem
from core.train import main

UNCHANGED = "1e-30"
"""A learning rate that leaves the weights as they were, so that the checkpoint is the policy that sampled."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of CEPO on two problems, checkpoint and all."""
    runs = tmp_path_factory.mktemp("runs")
    options = ["--steps", "1", "--rollouts.problems-per-step", "2", "--rollouts.group-size", "6"]
    few = ["--validation.problems", "1", "--validation.every", "1", "--method.learning-rate", UNCHANGED]
    assert main(["--runs-dir", str(runs), "--run-id", "a", *options, *few]) == 0
    return runs / "a"


def asked_again(folder: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Recorded and probed log-probabilities of a rollout, [3, T]."""
    import io

    from PIL import Image

    rollout = read_rollout(RunFile("a", folder / "run.duckdb"), 1, index)
    assert rollout.image is not None
    assert rollout.hint_correct is not None
    problem = Problem("p", rollout.question, rollout.true_answer, (Image.open(io.BytesIO(rollout.image)),))
    wrong = rollout.hint_wrong or rollout.true_answer
    evidence = probe.load(folder).evidence(problem, torch.tensor(rollout.tokens.token_id), rollout.hint_correct, wrong)
    stored = rollout.tokens
    told = stored.log_p_wrong if rollout.hint_wrong else stored.log_p_correct
    assert evidence.log_p_correct is not None
    assert evidence.log_p_wrong is not None
    probed = (evidence.log_p_student, evidence.log_p_correct, evidence.log_p_wrong)
    return np.stack([stored.log_p_student, stored.log_p_correct, told]), np.stack([p.numpy() for p in probed])


@pytest.mark.parametrize("index", [0, 5, 11])
def test_the_same_weights_give_the_evidence_that_was_recorded(folder: Path, index: int) -> None:
    stored, probed = asked_again(folder, index)
    np.testing.assert_allclose(probed, stored, atol=2e-5)


def test_another_wrong_answer_gives_other_evidence(folder: Path) -> None:
    model = probe.load(folder)
    assert model.step == 1
    rollout = read_rollout(RunFile("a", folder / "run.duckdb"), 1, 0)
    problem = Problem("p", rollout.question, rollout.true_answer)
    ids = torch.tensor(rollout.tokens.token_id)
    told = [model.evidence(problem, ids, rollout.true_answer, answer).log_p_wrong for answer in ("7", "170")]
    assert not torch.allclose(*told)


def test_a_run_file_alone_cannot_be_probed_and_says_why(tmp_path: Path, folder: Path) -> None:
    assert probe.why_not(folder) is None
    reason = probe.why_not(tmp_path)
    assert reason is not None
    assert "config.yaml is not beside" in reason
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    reason = probe.why_not(tmp_path)
    assert reason is not None
    assert "has no checkpoint" in reason
    with pytest.raises(InputError, match="cannot be probed, the run has no checkpoint"):
        probe.load(tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    target = tmp_path / "checkpoints" / "step-000001"
    target.mkdir(parents=True)
    (target / "weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"weights\.safetensors: cannot be read"):
        probe.load(tmp_path)
