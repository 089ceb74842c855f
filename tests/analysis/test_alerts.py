"""Each alert at its threshold, with its number, its threshold and its step in the sentence."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.alerts import Alert, alerts, duration, is_live, run_alerts, step_0_mismatch

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_recordings.py"))))
recording, NOW = made_up.recording, made_up.NOW


def of_kind(kind: str, **given) -> Alert | None:
    """The one alert of a kind that a run raises."""
    found = [alert for alert in run_alerts(recording(**given), NOW) if alert.kind == kind]
    assert len(found) < 2
    return found[0] if found else None


def test_an_ordinary_run_raises_nothing() -> None:
    assert run_alerts(recording(), NOW) == ()


@pytest.mark.parametrize(
    ("kind", "columns", "words"),
    [
        ("clip", {"evidence_clip_low": [0.1, 0.11], "evidence_clip_high": [0.5, 0.6]}, "71.0% of the weights"),
        ("A = 0", {"zero_advantage_share": [0.8, 0.81]}, "81.0% of the rollouts"),
        ("truncation", {"truncated_share": [0.2, 0.25]}, "25.0% of the responses"),
    ],
)
def test_a_share_above_its_threshold_is_named_with_its_step(kind: str, columns: dict, words: str) -> None:
    alert = of_kind(kind, **columns)
    assert alert is not None
    assert alert.sentence.startswith(words)
    assert alert.sentence.endswith("% at 1 of 2 steps.")
    assert "at step 2; above" in alert.sentence
    assert alert.step == 2
    at_most = {name: values[0] for name, values in columns.items()}
    assert of_kind(kind, **at_most) is None


def test_evidence_against_the_verdict_counts_from_more_than_half_of_the_tokens() -> None:
    half = made_up.rollout_rows((1, 1.0, 10, 5, 5))
    more = made_up.rollout_rows((1, 1.0, 10, 5, 5), (2, -1.0, 10, 6, 4))
    assert of_kind("wrong direction", counts=half) is None
    alert = of_kind("wrong direction", counts=more)
    assert alert is not None
    assert alert.sentence.startswith("60.0% of the tokens")
    assert "step 2; above 50% at 1 of 2 steps" in alert.sentence


@pytest.mark.parametrize(("last", "seen"), [(76.0, True), (75.0, False), (25.0, False), (24.0, True)])
def test_length_drifts_by_more_than_half_from_the_first_to_the_last_fifth(last: float, seen: bool) -> None:
    lengths = np.concatenate([np.full(8, 50.0), np.full(2, last)])
    alert = of_kind("length drift", n_steps=10, response_tokens_mean=lengths)
    assert (alert is not None) == seen
    if alert:
        assert f"from 50 to {last:.0f} tokens" in alert.sentence
        assert "step 10" in alert.sentence


def test_few_steps_have_no_drift() -> None:
    assert of_kind("length drift", n_steps=4, response_tokens_mean=[10.0, 10.0, 10.0, 90.0]) is None


def test_numbers_that_are_none_are_named_and_an_empty_column_is_not() -> None:
    assert of_kind("not finite", delta_mean=np.nan, grad_norm=np.nan) is None
    alert = of_kind("not finite", loss=[0.1, np.nan], grad_norm=[np.inf, 0.1])
    assert alert is not None
    assert alert.sentence == "Loss, grad_norm not finite, at 2 of 2 steps (alert from 1), last at step 2."


def test_skipped_updates_are_counted() -> None:
    alert = of_kind("not finite", grad_skipped=[2, 0])
    assert alert is not None
    assert alert.sentence.startswith("2 updates skipped for a gradient that was not finite, at 1 of 2 steps")
    assert alert.step == 1


def test_only_a_running_run_goes_stale_and_only_after_90_seconds() -> None:
    assert is_live(recording(silent=90).info, NOW)
    assert of_kind("stale", silent=90) is None
    alert = of_kind("stale", silent=600)
    assert alert is not None
    assert alert.sentence.startswith("No sign of life for 10 min after step 2 (alert after 90 s)")
    finished = recording(silent=600, info={"status": "finished"})
    assert run_alerts(finished, NOW) == ()
    assert not is_live(finished.info, NOW)


def test_steps_in_the_spool_are_counted() -> None:
    one, two = of_kind("waiting", waiting=1), of_kind("waiting", waiting=2)
    assert one is not None
    assert one.sentence.startswith("1 step waits in spool/")
    assert two is not None
    assert two.sentence.startswith("2 steps wait in spool/")


def test_runs_that_start_alike_up_to_sampling_are_no_mismatch() -> None:
    starts = [recording(seed=seed, accuracies=(start,), n=256) for seed, start in enumerate((0.41, 0.44, 0.46))]
    assert step_0_mismatch(starts) == {}


def test_a_run_that_starts_elsewhere_is_told_with_n_and_interval() -> None:
    starts = [recording(seed=seed, accuracies=(start,), n=256) for seed, start in enumerate((0.41, 0.43, 0.70))]
    found = step_0_mismatch(starts)
    assert "cepo-2" in found
    sentence = found["cepo-2"].sentence
    assert "70.0% right (n = 256), the other runs shown 42.0% (n = 512): +28.0%, 95 % interval +2" in sentence
    assert found["cepo-2"].step == 0


def test_a_run_alone_or_without_validation_cannot_mismatch() -> None:
    assert step_0_mismatch([recording()]) == {}
    assert step_0_mismatch([recording(), recording(seed=1, accuracies=(), n_steps=2)]) == {}


def test_false_alarms_at_step_0_are_rare_however_many_runs_are_compared() -> None:
    draw = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        shares = draw.binomial(256, 0.42, 8) / 256
        runs = [recording(seed=seed, accuracies=(share,), n=256) for seed, share in enumerate(shares)]
        alarms += bool(step_0_mismatch(runs))
    assert alarms / 100 < 0.09


def test_every_run_has_an_entry() -> None:
    found = alerts([recording(), recording(seed=1, silent=1000)], NOW)
    assert found["cepo-0"] == ()
    assert [alert.kind for alert in found["cepo-1"]] == ["stale"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 d"), (-5, "0 s")]
)
def test_a_duration_is_said_in_its_own_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said
