"""The benchmark of a step on a GPU: what it divides, and that it says so where there is none."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import step
from benchmarks.budget import AGAIN, KEPT, Work, stages, whole
from benchmarks.shape import QWEN3_VL_2B

WORK = Work(mixed=1.0)
ROW = SimpleNamespace(seconds_rollout=20.0, seconds_score=2.0, seconds_teacher=4.0, seconds_update=8.0)


@pytest.mark.parametrize("passes", [KEPT, AGAIN])
@pytest.mark.parametrize("method", ["grpo", "rlsd", "cepo"])
def test_no_stage_of_the_budget_is_left_out(method: str, passes: int) -> None:
    found = step.measured(ROW, QWEN3_VL_2B, WORK, method, passes, rate=8e14)
    least = whole(stages(QWEN3_VL_2B, WORK, method, passes)).least / 1e12
    assert sum(stage.tflop for stage in found) == pytest.approx(least)
    assert (found[2].tflop > 0) == (method != "grpo")


def test_a_share_is_the_least_work_at_the_measured_rate_over_the_seconds() -> None:
    update = step.measured(ROW, QWEN3_VL_2B, WORK, "grpo", KEPT, rate=8e14)[-1]
    assert update.seconds == 8.0
    assert update.share == pytest.approx(update.tflop / 800 / 8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_what_to_do(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["step"])
    with pytest.raises(SystemExit) as end:
        step.main()
    assert end.value.code == 2
    assert "torch finds no GPU" in capsys.readouterr().err
