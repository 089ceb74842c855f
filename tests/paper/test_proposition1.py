"""Proposition 1: where CEPO credits a token more sharply than RLSD.

Stated on log-probabilities k/64 in float64: their differences are exact and exp keeps them apart. With arbitrary floats
the statement is false: P_S and P_T⁻ that differ in the last bit have weights that round to the same number.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.credit import evidence_weight
from core.methods import CEPO, RLSD, Evidence

GRID = st.integers(-8 * 64, 0).map(lambda k: k / 64)
OPEN_SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)


def weights(student: float, correct: float, wrong: float, advantage: float) -> tuple[float, float]:
    """w_t of CEPO and of RLSD, before clipping."""
    evidence = Evidence(*(torch.tensor([[log_p]], dtype=torch.float64) for log_p in (student, correct, wrong)))
    advantages = torch.tensor([advantage], dtype=torch.float64)
    cepo, rlsd = CEPO().delta(evidence), RLSD().delta(evidence)
    assert cepo is not None
    assert rlsd is not None
    return evidence_weight(cepo, advantages).item(), evidence_weight(rlsd, advantages).item()


@given(student=GRID, correct=GRID, wrong=GRID)
def test_in_a_right_rollout_cepo_credits_more_exactly_where_the_wrong_answer_disfavours_the_token(
    student, correct, wrong
):
    cepo, rlsd = weights(student, correct, wrong, advantage=1.0)
    assert (cepo > rlsd) == (wrong < student)
    assert (cepo == rlsd) == (wrong == student)


@given(student=GRID, correct=GRID, wrong=GRID)
def test_in_a_wrong_rollout_cepo_blames_more_exactly_where_the_wrong_answer_favours_the_token(student, correct, wrong):
    cepo, rlsd = weights(student, correct, wrong, advantage=-1.0)
    assert (cepo > rlsd) == (wrong > student)
    assert (cepo == rlsd) == (wrong == student)


@given(student=GRID, correct=GRID, wrong=GRID, sign=st.sampled_from([1.0, -1.0]), epsilon_w=OPEN_SHARE)
def test_clipping_keeps_the_order_but_not_the_strictness(student, correct, wrong, sign, epsilon_w):
    cepo, rlsd = (min(max(w, 1 - epsilon_w), 1 + epsilon_w) for w in weights(student, correct, wrong, sign))
    if sign * (student - wrong) > 0:
        assert cepo >= rlsd


@given(
    log_p=GRID, noise=st.tuples(st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3)), advantage=st.sampled_from([1.0, -1.0])
)
def test_filler_tokens_get_no_spurious_credit(log_p, noise, advantage):
    cepo, rlsd = weights(log_p, log_p + noise[0], log_p + noise[1], advantage)
    assert abs(cepo - 1) < 2.1e-3
    assert abs(rlsd - 1) < 1.1e-3
