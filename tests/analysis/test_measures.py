"""What evidence comes to: fractions of Δ, clip rates, token classes, Proposition 1; from tables, and from a file."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.measures import (
    against_of,
    class_table,
    clip_rate,
    delta_fractions,
    mean_clipped_weight,
    recorded_fractions,
    rollout_counts,
    sharper,
    wrong_direction,
)
from analysis.recordings import read_counts, read_recording, sharper_counts
from analysis.store import EXAMPLE, RunFile, Store
from analysis.tokens import CLASSES, EvidenceCounts, evidence_counts
from core.credit import evidence_delta, evidence_weight
from core.histogram import log_weight_histogram

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_recordings.py"))))
rows = made_up.rollout_rows
EXAMPLES = {key.removeprefix(f"{EXAMPLE}/"): run for key, run in Store(Path("no such folder")).files().items()}


def tokens_of(run: RunFile) -> pd.DataFrame:
    """Every token with its rollout's advantage, for a second way of counting."""
    joined = "JOIN rollouts USING (step, group_id, rollout_id) JOIN groups USING (step, group_id)"
    return run.frame(f"SELECT tokens.*, advantage, fallback FROM tokens {joined}")


def test_pooled_tokens_and_averaged_rollouts_give_different_fractions() -> None:
    counts = rows((1, 1.0, 10, 5, 0), (1, -1.0, 90, 9, 45))
    pooled = delta_fractions(counts).iloc[0]
    assert (pooled.above, pooled.below, pooled.n) == pytest.approx((0.14, 0.45, 100))
    averaged = delta_fractions(counts, weighting="rollouts").iloc[0]
    assert (averaged.above, averaged.below, averaged.n) == pytest.approx((0.3, 0.25, 100))


def test_the_sign_of_the_advantage_splits_the_rollouts() -> None:
    counts = rows((1, 1.0, 10, 5, 0), (1, -1.0, 90, 9, 45), (2, -0.5, 4, 1, 3))
    assert delta_fractions(counts, "positive").above.tolist() == [0.5]
    assert delta_fractions(counts, "negative").step.tolist() == [1, 2]
    assert delta_fractions(counts, "negative").below.tolist() == pytest.approx([0.5, 0.75])


def test_tau_moves_tokens_into_the_rest_and_its_edges_do_not_count() -> None:
    tokens = pd.DataFrame(
        {"step": 1, "group_id": 0, "rollout_id": 0, "advantage": 1.0, "delta": [0.5, 0.2, 0.0, -0.2, -0.6, np.nan]}
    )
    assert rollout_counts(tokens)[["n", "above", "below"]].iloc[0].tolist() == [5, 2, 2]
    assert rollout_counts(tokens, 0.2)[["n", "above", "below"]].iloc[0].tolist() == [5, 1, 1]
    assert rollout_counts(tokens.assign(advantage=0.0)).empty


def test_the_wrong_direction_is_below_in_right_rollouts_and_above_in_wrong_ones() -> None:
    found = wrong_direction(rows((1, 1.0, 10, 7, 2), (1, -1.0, 30, 12, 9), (3, -1.0, 5, 0, 5)))
    assert found.step.tolist() == [1, 3]
    assert found.y.tolist() == pytest.approx([14 / 40, 0])


@pytest.mark.parametrize("method", ["cepo", "rlsd"])
def test_steps_rollouts_and_tokens_of_a_recorded_run_agree_on_the_fractions(method: str) -> None:
    run = EXAMPLES[method]
    recording = read_recording(run)
    from_tokens = read_counts(run, method, "own")
    for sign in ("all", "positive", "negative"):
        recorded = recorded_fractions(recording.steps, sign)
        for counts in (from_tokens, recording.counts):
            found = delta_fractions(counts, sign)
            assert found.step.tolist() == recorded.step.tolist()
            np.testing.assert_allclose(found[["above", "below"]], recorded[["above", "below"]], atol=1e-6)


@pytest.mark.parametrize(("kind", "tau"), [("rlsd", 0.0), ("cepo", 0.1), ("own", 0.05)])
def test_the_query_counts_as_the_definition_does(kind: str, tau: float) -> None:
    tokens = tokens_of(EXAMPLES["cepo"])
    against = tokens.log_p_student if kind == "rlsd" else tokens.log_p_wrong
    delta = tokens.delta if kind == "own" else tokens.log_p_correct - against
    expected = rollout_counts(tokens.assign(delta=delta.astype(np.float32)), tau)
    found = read_counts(EXAMPLES["cepo"], "cepo", kind, tau)
    keys = ["step", "group_id", "rollout_id", "n", "above", "below"]
    assert len(found) > 100
    assert found[keys].to_numpy().tolist() == expected[keys].to_numpy().tolist()


def test_a_run_whose_method_reads_no_evidence_can_be_seen_through_another_s() -> None:
    assert read_counts(EXAMPLES["grpo"], "grpo", "own").empty
    assert len(read_counts(EXAMPLES["grpo"], "grpo", "cepo")) > 100
    assert [against_of("grpo", kind) for kind in ("own", "rlsd", "cepo")] == [None, "student", "wrong"]
    assert [against_of(method, "own") for method in ("rlsd", "cepo", "sdpo")] == ["student", "wrong", None]


def counted(deltas: dict[str, list[float]], sign: float = 1.0) -> EvidenceCounts:
    """Evidence of some classes, from its Δ."""
    by_class = [np.array(deltas.get(name, []), np.float32) for name in CLASSES]
    return EvidenceCounts(
        histogram=np.array([log_weight_histogram(sign * each) for each in by_class]).astype(np.int64),
        n=np.array([len(each) for each in by_class]),
        positive=np.array([(each > 0).sum() for each in by_class]),
        negative=np.array([(each < 0).sum() for each in by_class]),
        sum_delta=np.array([each.sum() for each in by_class]),
        sum_abs_delta=np.array([np.abs(each).sum() for each in by_class]),
    )


def test_the_class_table_says_what_each_class_holds_and_what_all_do() -> None:
    table = class_table(counted({"digit": [1.0, -1.0, 0.0, 0.3], "word": [0.0] * 6}), 0.5).set_index("token_class")
    assert table.index.tolist() == ["digit", "word", "all"]
    digit = table.loc["digit"]
    assert digit[["n", "share", "positive", "negative"]].tolist() == pytest.approx([4, 0.4, 0.5, 0.25])
    assert digit[["delta_mean", "abs_delta_mean"]].tolist() == pytest.approx([0.075, 0.575])
    assert digit[["clip_low", "clip_high"]].tolist() == pytest.approx([0.25, 0.25])  # ln 0.5 = −0.69, ln 1.5 = 0.41
    assert digit.weight_mean == pytest.approx((1.5 + 0.5 + 1 + math.exp(0.3)) / 4, rel=5e-3)
    assert table.loc["word", "weight_mean"] == 1
    assert table.loc["all", "n"] == 10
    assert table.loc["all", "abs_delta_mean"] == pytest.approx(0.23)


def test_a_class_table_of_nothing_has_no_row() -> None:
    assert class_table(counted({}), 0.5).empty
    assert all(math.isnan(rate) for rate in clip_rate(counted({}), 0.5))


@given(st.lists(st.floats(-1.9, 1.9), min_size=1, max_size=200), st.floats(0.05, 0.85))
def test_the_mean_clipped_weight_of_a_histogram_is_that_of_its_tokens(values: list[float], epsilon_w: float) -> None:
    exact = np.clip(np.exp(values), 1 - epsilon_w, 1 + epsilon_w).mean()
    found = mean_clipped_weight(log_weight_histogram(np.array(values)), epsilon_w)
    assert found == pytest.approx(exact, rel=5.1e-3)


def test_the_clip_rate_of_a_run_is_that_of_its_recorded_steps() -> None:
    recording = read_recording(EXAMPLES["cepo"])
    rates = recording.steps[["evidence_clip_low", "evidence_clip_high"]]
    tokens = delta_fractions(recording.counts).n.to_numpy()
    expected = (rates.mul(tokens, axis=0)).sum() / tokens.sum()
    found = clip_rate(evidence_counts(EXAMPLES["cepo"])["wrong"], 0.5)
    assert found == pytest.approx(expected.tolist(), abs=2e-3)


def test_cepo_is_sharper_exactly_where_its_weight_is_larger() -> None:
    draw = np.random.default_rng(5)
    # multiples of 1/64: differences are exact, so that no rounding can tie what differs
    log_p = -draw.integers(0, 200, (3, 4000)) / 64
    advantages = draw.choice([-1.0, 0.0, 2.0], 4000)
    student, correct, wrong = map(torch.tensor, log_p)
    signs = torch.tensor(advantages)
    cepo = evidence_weight(evidence_delta(correct, wrong), signs)
    rlsd = evidence_weight(evidence_delta(correct, student), signs)
    found = sharper(log_p[0], log_p[2], advantages)
    assert found.tolist() == (cepo > rlsd).tolist()
    assert 0 < found.sum() < 4000


def test_the_file_counts_proposition_1_as_the_definition_does() -> None:
    tokens = tokens_of(EXAMPLES["cepo"])
    assert tokens.fallback.any()  # without r⁻ there is no P_T⁻ to compare with
    used = tokens[(tokens.advantage != 0) & ~tokens.fallback & tokens.log_p_wrong.notna()]
    found = sharper_counts(EXAMPLES["cepo"]).set_index("sign")
    for sign in (-1, 1):
        side = used[np.sign(used.advantage) == sign]
        columns = (side[name].to_numpy(float) for name in ("log_p_student", "log_p_wrong", "advantage"))
        assert found.loc[sign].tolist() == [len(side), sharper(*columns).sum()]
