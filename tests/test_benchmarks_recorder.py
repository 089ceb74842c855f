"""The benchmark of the recorder: its made-up steps are sound, and a missed goal is told."""

import json

import numpy as np
import pytest

from benchmarks import recorder
from benchmarks.measure import Seconds
from core.histogram import clip_rate_from_histogram
from core.methods import CEPO
from core.records import Stopwatch, step_record
from core.rollouts import Problem


def test_a_made_up_step_says_in_its_own_row_what_its_tokens_say():
    record = step_record(recorder.made_up_step(2, 16, 30, [Problem("p", "x?", "42")]), Stopwatch())
    tokens, step = record.tokens, record.step
    assert (step.n_tokens, len(tokens), len(record.rollouts), len(record.groups)) == (480, 480, 16, 2)
    np.testing.assert_allclose(tokens.delta, tokens.log_p_correct - tokens.log_p_wrong, atol=1e-6)
    assert step.delta_positive == (tokens.delta > 0).mean()
    assert step.delta_mean == pytest.approx(tokens.delta.mean(), abs=1e-6)
    assert sum(r.n_clip_high for r in record.rollouts) == (tokens.clipped > 0).sum() == step.evidence_clip_high * 480
    low, high = clip_rate_from_histogram(step.log_weight_histogram, CEPO().epsilon_w)
    assert low + high == pytest.approx(step.evidence_clip_low + step.evidence_clip_high, abs=0.02)


def test_costs_are_those_of_every_step_but_the_first():
    cost = recorder.cost(16, 20, [Problem("p", "x?", "42")], 2)
    assert cost.tokens == 320
    assert {s.n for s in (cost.hand_over, cost.own_row, cost.writer)} == {2}
    assert 0 < cost.hand_over.median < cost.writer.median
    assert cost.ns_per_token == pytest.approx(cost.seconds / 320 * 1e9)


@pytest.mark.parametrize(("milliseconds", "status"), [(0.9, 0), (1.1, 1)])
def test_a_missed_goal_is_the_exit_status(monkeypatch, capsys, milliseconds, status):
    def some(seconds: float) -> Seconds:
        return Seconds(seconds, seconds, seconds, 5)

    cost = recorder.Cost(256, 700, some(milliseconds / 1e3), some(0.001), some(0.03), 40.0)
    monkeypatch.setattr(recorder, "real_steps", lambda steps: (some(5.0), 256, 700))
    monkeypatch.setattr(recorder, "cost", lambda *arguments: cost)
    monkeypatch.setattr("sys.argv", ["recorder", "--json"])
    assert recorder.main() == status
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["trainer_thread_ms"] == pytest.approx(milliseconds)
    assert found["recording_share_of_step"] == pytest.approx((milliseconds / 1e3 + 0.031) / 5)
    assert {"ns_per_token", "bytes_per_token", "machine"} <= set(found)
