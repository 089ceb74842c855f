"""A step's rows are what its tensors say, and are made only when somebody asks for them."""

import gc
import runpy
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from core import step_rows
from core.batch import Batch
from core.hints import Hints
from core.methods import CEPO, Credit, Evidence
from core.recorder import FILE_NAME, Recorder, reading
from core.records import StepResult, Stopwatch, send, step_record
from core.rollouts import Group, Problem, Rollout, Verdict
from core.schema import StepRecord
from core.teachers import Asked
from core.updates import UpdateStatistics

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorder_runs.py"))))
NAN = float("nan")


class Features:
    """Stands for what the vision tower made of an image."""


def rollout(*tokens: int) -> Rollout:
    return Rollout(torch.tensor(tokens), torch.full((len(tokens),), -0.5), "text", is_truncated=len(tokens) == 3)


def result(features: tuple = (None, None)) -> StepResult:
    """Two groups of two rollouts of 3, 1, 2 and 1 tokens; the teachers were asked about the first group only."""
    responses = [[rollout(5, 6, 7), rollout(8)], [rollout(16_777_215, 9), rollout(4)]]
    problem = Problem("p", "x?", "7", (Image.new("RGB", (4, 4), "red"),))
    verdicts = (Verdict(True, True, "7"), Verdict(False, False, None))
    groups = tuple(Group(problem, tuple(those), verdicts, (1.0, 0.0)) for those in responses)
    hints = Hints(("7", "7"), ("8", "9"), "7", "8", 1, fallback=False)
    token_ids = torch.nn.utils.rnn.pad_sequence([r.token_ids for g in groups for r in g.rollouts], batch_first=True)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]]).bool()
    delta = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0, 0], [0, 0, 0], [0, 0, 0]])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    weight = (delta * advantages[:, None]).exp()
    clipped = torch.tensor([[1, -1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.int8)
    student = torch.where(mask, -1.0, 0.0)
    evidence = Evidence(student, student + delta, student)
    return StepResult(
        step=3,
        method=CEPO(),
        batch=Batch(groups, features, (), (hints, hints), token_ids, mask),
        advantages=advantages,
        evidence=evidence,
        scored=Asked(correct=(0,), wrong=(0,)),
        credit=Credit(delta, weight, clipped, advantages[:, None] * mask),
        entropy=torch.where(mask, 0.25, 0.0),
        update=UpdateStatistics(learning_rate=1e-3, losses=[0.5]),
    )


@pytest.fixture
def record() -> StepRecord:
    return step_record(result(), Stopwatch())


def test_every_token_stands_at_its_place_and_what_no_teacher_scored_is_nan(record):
    tokens = record.tokens
    assert tokens.group_id.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert tokens.rollout_id.tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert tokens.position.tolist() == [0, 1, 2, 0, 0, 1, 0]
    assert tokens.token_id.tolist() == [5, 6, 7, 8, 16_777_215, 9, 4]
    np.testing.assert_array_equal(tokens.delta, [1, -2, 0, 0.5, NAN, NAN, NAN])
    np.testing.assert_array_equal(tokens.clipped, [1, -1, 0, 0, NAN, NAN, NAN])
    np.testing.assert_array_equal(tokens.log_p_correct, [0, -3, -1, -0.5, NAN, NAN, NAN])
    assert tokens.log_p_student.tolist() == [-1] * 7
    assert tokens.divergence is None


def test_a_rollouts_sums_are_over_its_own_tokens(record):
    counts = [
        (r.n_delta_positive, r.n_delta_negative, r.n_clip_low, r.n_clip_high, r.sum_abs_delta, r.max_abs_delta)
        for r in record.rollouts
    ]
    assert counts == [(1, 1, 1, 1, 3.0, 2.0), (1, 0, 0, 0, 0.5, 0.5), (0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)]
    assert [r.n_tokens for r in record.rollouts] == [3, 1, 2, 1]
    assert [r.hint_wrong for r in record.rollouts] == [None, "9", None, "9"]


def test_the_steps_row_sums_up_the_scored_tokens(record):
    step = record.step
    assert (step.n_tokens, step.n_rollouts, step.response_tokens_mean) == (7, 4, 1.75)
    assert (step.delta_positive, step.delta_negative, step.delta_mean) == (0.5, 0.25, -0.125)
    assert (step.delta_positive_correct, step.delta_positive_wrong) == (pytest.approx(1 / 3), 1.0)
    assert step.delta_std == pytest.approx(np.std([1, -2, 0, 0.5], ddof=1))
    assert (step.evidence_clip_low, step.evidence_clip_high) == (0.25, 0.25)
    assert step.log_weight_histogram is not None
    assert step.log_weight_histogram.sum() == 4
    assert (step.entropy_mean, step.sampler_gap, step.zero_advantage_share) == (0.25, 0.5, 0.0)
    assert (step.accuracy, step.format_rate, step.truncated_share) == (0.5, 0.5, 0.25)
    assert step.divergence_mean is None


def test_pictures_are_encoded_when_they_are_asked_for_and_once(monkeypatch):
    encoded = []
    png = step_rows._png
    monkeypatch.setattr(step_rows, "_png", lambda image: encoded.append(image) or png(image))
    record = step_record(result(), Stopwatch())
    assert encoded == []
    assert [group.image_id for group in record.groups] == [image.image_id for image in record.images]
    assert len(encoded) == len(record.groups)


def test_a_waiting_record_keeps_nothing_of_the_vision_tower():
    features = Features()
    alive = weakref.ref(features)
    record = step_record(result((features, features)), Stopwatch())
    del features
    gc.collect()
    assert alive() is None
    assert len(record.tokens) == 7


def test_one_buffer_brings_over_everything_that_was_measured():
    rows = send(result())
    there = rows.measured.split(rows.measured.joined().clone())
    for name, tensor in vars(rows.measured).items():
        moved = getattr(there, name)
        assert (moved is None) == (tensor is None), name
        assert tensor is None or torch.equal(moved, tensor.float()), name
    assert int(there.token_ids.max()) == 16_777_215


def test_a_record_can_be_written_as_it_was_handed_over(tmp_path, record):
    with Recorder.create(tmp_path, runs.run_row(), []) as recorder:
        recorder.write(record)
    with reading(tmp_path / FILE_NAME) as connection:
        counts = "SELECT count(*), count(delta), sum(token_id) FROM tokens"
        assert connection.execute(counts).fetchall() == [(7, 4, 5 + 6 + 7 + 8 + 16_777_215 + 9 + 4)]
        assert connection.execute("SELECT count(*) FROM images").fetchall() == [(1,)]
        assert connection.execute("SELECT sum(sum_abs_delta), count(*) FROM rollouts").fetchall() == [(3.5, 4)]
