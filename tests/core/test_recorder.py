"""What the recorder writes is what it was given, once, and the file says how the run ended."""

import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core import credit
from core.errors import InputError
from core.recorder import FILE_NAME, Recorder, reading
from core.schema import ValidationRow

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorder_runs.py"))))

HOSTILE = [
    "'; DROP TABLE tokens; --",
    "a\x00b",
    "\x1b]0;owned\x07\r\n\t",
    "<script>alert(1)</script>",
    "é\U0001f600" * 20_000,
]


@pytest.fixture
def recorder(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY) as recorder:
        yield recorder


def query(folder: Path, sql: str) -> list[tuple]:
    with reading(folder / FILE_NAME) as connection:
        return connection.execute(sql).fetchall()


def test_a_run_leaves_the_file_alone_in_its_folder(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(runs.step_record(1))
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]
    assert query(tmp_path, "SELECT status, reason, last_step, schema_version FROM run") == [("finished", None, 1, 2)]


def test_every_row_comes_back_as_it_was_given(tmp_path, recorder):
    record = runs.step_record(1, lam=0.25, grad_norm=float("nan"), log_weight_histogram=np.arange(401, dtype=np.uint32))
    recorder.write(record)
    recorder.flush()
    assert query(tmp_path, "SELECT lam, grad_norm, val_n, log_weight_histogram[401] FROM steps") == [
        (0.25, None, None, 400)
    ]
    tokens = record.tokens
    rows = query(tmp_path, "SELECT rollout_id, position, token_id, log_p_student FROM tokens ORDER BY 1, 2")
    expected = (tokens.rollout_id, tokens.position, tokens.token_id, tokens.log_p_student)
    assert rows == list(zip(*(array.tolist() for array in expected), strict=True))
    assert query(tmp_path, "SELECT token_id, piece FROM vocabulary") == [(v.token_id, v.piece) for v in runs.VOCABULARY]


def test_what_was_not_there_is_null_and_never_nan(tmp_path, recorder):
    gaps = np.array([0.5, np.nan] * 50, np.float32)
    record = runs.step_record(1, n_rollouts=2)
    tokens = runs.token_columns(1, 2, 50, delta=gaps, clipped=np.sign(gaps), log_p_wrong=None)
    recorder.write(type(record)(step=record.step, groups=record.groups, rollouts=record.rollouts, tokens=tokens))
    recorder.flush()
    counts = "count(*), count(delta), count(clipped), count(log_p_wrong), count(*) FILTER (isnan(delta)), max(clipped)"
    assert query(tmp_path, f"SELECT {counts} FROM tokens") == [(100, 50, 50, 0, 0, 1)]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_only_text(tmp_path, recorder, text):
    recorder.write(runs.step_record(1, response=text))
    recorder.flush()
    assert query(tmp_path, "SELECT DISTINCT response FROM rollouts") == [(text,)]


def test_text_that_has_no_utf8_is_recorded_with_marks_in_its_place(tmp_path, recorder):
    recorder.write(runs.step_record(1, response="a\ud800b"))
    recorder.flush()
    assert query(tmp_path, "SELECT DISTINCT response FROM rollouts") == [("a?b",)]


def test_a_step_written_again_replaces_itself(tmp_path, recorder):
    for length in (50, 30):
        recorder.write(runs.step_record(1, length=length, response=f"{length}"))
    recorder.write(runs.step_record(2))
    recorder.flush()
    for table, rows in {"steps": 1, "groups": 1, "rollouts": 4, "tokens": 120, "validation": 1}.items():
        assert query(tmp_path, f"SELECT count(*) FROM {table} WHERE step = 1") == [(rows,)], table
    assert query(tmp_path, "SELECT DISTINCT response FROM rollouts WHERE step = 1") == [("30",)]


def test_images_and_vocabulary_are_kept_once(tmp_path, recorder):
    for step in (1, 2, 3):
        recorder.write(runs.step_record(step))
    recorder.flush()
    assert query(tmp_path, "SELECT png, count(*) FROM images GROUP BY png") == [(b"png", 1)]
    assert query(tmp_path, "SELECT count(*) FROM vocabulary") == [(2,)]


@pytest.mark.parametrize("method", ["rlsd", "cepo"])
def test_the_stored_credit_is_the_credit_of_the_stored_log_probs(tmp_path, method):
    lam, epsilon_w = 0.4, 0.5
    record = runs.step_record(1, n_rollouts=4, length=200)
    log_p = {
        name: torch.from_numpy(getattr(record.tokens, f"log_p_{name}")) for name in ("student", "correct", "wrong")
    }
    advantages = torch.tensor([row.advantage for row in record.rollouts]).repeat_interleave(200)
    delta = credit.evidence_delta(log_p["correct"], log_p["student" if method == "rlsd" else "wrong"])
    weight = credit.evidence_weight(delta, advantages)
    used = {
        "delta": delta,
        "weight": weight,
        "clipped": credit.clip_flags(weight, epsilon_w).float(),
        "token_advantage": credit.modulate(advantages, weight, lam, epsilon_w),
    }
    tokens = runs.token_columns(1, 4, 200, **{name: values.numpy() for name, values in used.items()})
    with Recorder.create(tmp_path, runs.run_row(method), runs.VOCABULARY) as recorder:
        recorder.write(type(record)(step=record.step, groups=record.groups, rollouts=record.rollouts, tokens=tokens))
    differences = query(
        tmp_path,
        "SELECT count(*), max(abs(t.delta - c.delta)), max(abs(t.weight / c.weight - 1)), "
        "max(abs(t.clipped - c.clipped)), max(abs(t.token_advantage - c.token_advantage)) FROM tokens t "
        f"JOIN token_credit({lam}, {epsilon_w}) c USING (step, group_id, rollout_id, position)",
    )[0]
    assert differences[0] == 800
    assert differences[1] == differences[3] == 0
    assert max(differences[2], differences[4]) < 1e-6


def test_validation_before_training_is_step_0(tmp_path, recorder):
    recorder.write_validation(0, [ValidationRow(step=0, problem_id="v", response="r", is_correct=False)])
    recorder.write(runs.step_record(1))
    recorder.flush()
    assert query(tmp_path, "SELECT step, is_correct FROM validation ORDER BY step") == [(0, False), (1, True)]
    assert query(tmp_path, "SELECT step FROM steps") == [(1,)]


@pytest.mark.parametrize(
    ("error", "text", "status", "reason"),
    [
        (RuntimeError, "first line\nsecond", "failed", "RuntimeError: first line"),
        (InputError, "what to do", "failed", "what to do"),
        (KeyboardInterrupt, "", "interrupted", "interrupted by Ctrl-C"),
    ],
)
def test_an_error_ends_the_run_with_its_reason(tmp_path, error, text, status, reason):
    def train() -> None:
        with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY) as recorder:
            recorder.write(runs.step_record(1))
            raise error(text)

    with pytest.raises(error):
        train()
    assert query(tmp_path, "SELECT status, reason, last_step FROM run") == [(status, reason, 1)]


def test_the_heart_beats_while_a_step_takes_long(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), [], heartbeat=0.1):
        deadline = time.monotonic() + 10
        while (beat := query(tmp_path, "SELECT heartbeat_at > started_at FROM run")) == [(False,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert beat == [(True,)]


def test_a_resumed_run_goes_on_and_drops_the_steps_it_repeats(tmp_path):
    with Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY) as recorder:
        for step in (1, 2, 3):
            recorder.write(runs.step_record(step))
        recorder.finish("interrupted", "Ctrl-C")
    with Recorder.resume(tmp_path) as recorder:
        assert query(tmp_path, "SELECT status, reason, last_step FROM run") == [("running", None, 3)]
        recorder.discard_after(1)
        assert query(tmp_path, "SELECT last_step FROM run") == [(1,)]
        recorder.write(runs.step_record(2))
    assert query(tmp_path, "SELECT DISTINCT step FROM tokens ORDER BY step") == [(1,), (2,)]
    assert query(tmp_path, "SELECT status, last_step FROM run") == [("finished", 2)]


def test_a_run_file_is_never_overwritten_nor_written_by_two(tmp_path, recorder):
    with pytest.raises(InputError, match="exists already"):
        Recorder.create(tmp_path, runs.run_row(), [])
    with pytest.raises(InputError, match="another trainer"):
        Recorder.resume(tmp_path)
    recorder.write(runs.step_record(1))
    recorder.flush()


def test_what_a_killed_creation_left_is_no_run(tmp_path):
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"half a file")
    Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY).finish("finished")
    assert query(tmp_path, "SELECT status FROM run") == [("finished",)]
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_a_step_that_does_not_fit_is_told_at_the_next_call_and_costs_no_other(tmp_path, recorder):
    recorder.write(runs.step_record(1, n_rollouts=1, length=70_001))
    with pytest.raises(InputError, match=r"step 1 does not fit .*65536 not in range.*--resume") as caught:
        recorder.flush()
    assert "\n" not in str(caught.value)
    recorder.write(runs.step_record(2))
    recorder.flush()
    assert query(tmp_path, "SELECT step FROM steps") == [(2,)]


def test_a_step_that_does_not_fit_fails_a_run_that_ends_with_it(tmp_path):
    recorder = Recorder.create(tmp_path, runs.run_row(), runs.VOCABULARY)
    recorder.write(runs.step_record(1, n_rollouts=1, length=70_001))
    with pytest.raises(InputError, match="step 1 does not fit"):
        recorder.finish("finished")
    assert query(tmp_path, "SELECT status, starts_with(reason, 'step 1 does not fit') FROM run") == [("failed", True)]


def test_nothing_is_written_after_the_end(tmp_path, recorder):
    recorder.finish("finished")
    with pytest.raises(RuntimeError, match="has ended"):
        recorder.write(runs.step_record(1))


def test_writing_costs_the_training_thread_little(tmp_path, recorder):
    for step in range(1, 4):
        recorder.write(runs.step_record(step, n_rollouts=16, length=1000))
        time.sleep(0.3)
    assert recorder.seconds_blocked / 3 < 0.05
    recorder.flush()
    assert recorder.seconds > 0
