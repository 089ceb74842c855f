"""Eq. 4, 5 and 7: evidence, weights and token advantages; and that GRPO is what is left without evidence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from core import credit
from core.methods import CEPO, GRPO, RLSD, Evidence, TokenCredit

LAM = st.floats(0, 1)
OPEN_SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
METHODS = [CEPO(schedule="constant"), RLSD(schedule="constant")]


def log_p(rows: int = 4, tokens: int = 7, seed: int = 0) -> torch.Tensor:
    """Log-probabilities of sampled tokens, from likely to nearly impossible."""
    return -20 * torch.rand(rows, tokens, generator=torch.Generator().manual_seed(seed)) ** 4


def evidence(seed: int = 0) -> Evidence:
    """Three independent opinions of the same tokens."""
    return Evidence(*(log_p(seed=seed + i) for i in range(3)))


ADVANTAGES = torch.tensor([2.4749, -0.3536, 0.0, -1.0])


@pytest.mark.parametrize(
    ("advantage", "delta", "expected"),
    [
        (1, -1.0, 0.75),
        (1, -0.5, 0.8033),
        (1, 0.0, 1.0),
        (1, 0.1, 1.0526),
        (1, 0.3, 1.1749),
        (1, 0.5, 1.25),
        (1, 1.0, 1.25),
        (-1, -1.0, -1.25),
        (-1, 0.3, -0.8704),
        (-1, 1.0, -0.75),
    ],
)
def test_token_advantages_are_the_published_ones(advantage, delta, expected):
    a, log_ratio = torch.tensor([float(advantage)]), torch.tensor([[delta]])
    against = torch.full((1, 1), -2.0)
    method = CEPO(lambda_0=0.5, epsilon_w=0.5)
    token_advantage = method.token_advantages(a, Evidence(against, against + log_ratio, against), 1)
    assert token_advantage.item() == pytest.approx(expected, abs=6e-5)


def test_weight_is_the_ratio_of_the_teachers_to_the_power_of_the_sign():
    right, wrong = torch.tensor([[0.6, 0.1]]), torch.tensor([[0.2, 0.3]])
    delta = credit.evidence_delta(right.log(), wrong.log())
    torch.testing.assert_close(credit.evidence_weight(delta, torch.tensor([3.0])), right / wrong)
    torch.testing.assert_close(credit.evidence_weight(delta, torch.tensor([-0.1])), wrong / right)
    assert torch.equal(credit.evidence_weight(delta, torch.tensor([0.0])), torch.ones(1, 2))


@given(lam=LAM, epsilon_w=OPEN_SHARE, delta=st.floats(-100, 100, width=32), a=st.floats(-5, 5, width=32))
def test_a_token_advantage_stays_within_its_bounds(lam, epsilon_w, delta, a):
    advantages, deltas = torch.tensor([a]).double(), torch.tensor([[delta]]).double()
    got = credit.modulate(advantages, credit.evidence_weight(deltas, advantages), lam, epsilon_w).item()
    slack = 1e-12
    assert abs(a) * (1 - lam * epsilon_w) - slack <= abs(got) <= abs(a) * (1 + lam * epsilon_w) + slack


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("epsilon_w", [0.1, 0.5, 0.999])
@given(seed=st.integers(0, 1000))
def test_without_mixing_the_token_advantages_are_grpo_bit_for_bit(method, epsilon_w, seed):
    method = type(method)(lambda_0=0.0, epsilon_w=epsilon_w)
    assert torch.equal(
        method.token_advantages(ADVANTAGES, evidence(seed), 1), GRPO().token_advantages(ADVANTAGES, evidence(seed), 1)
    )


@pytest.mark.parametrize("method_class", [CEPO, RLSD])
@given(lam=LAM, epsilon_w=OPEN_SHARE, advantage=st.floats(-5, 5, width=32))
def test_without_evidence_the_token_advantages_are_grpo_bit_for_bit(method_class, lam, epsilon_w, advantage):
    method = method_class(lambda_0=lam, epsilon_w=epsilon_w, schedule="constant")
    same, advantages = log_p(), torch.full((4,), advantage)
    got = method.token_advantages(advantages, Evidence(same, same, same), 1)
    assert torch.equal(got, advantages[:, None].expand(4, 7))


def test_no_mixing_share_costs_a_bit_where_the_weight_is_one():
    advantages, ones = torch.tensor([0.9354143, -1 / 3]), torch.ones(2, 1)
    for step in range(10_000):
        assert torch.equal(credit.modulate(advantages, ones, step / 9_999, 0.5), advantages[:, None])


def test_without_a_wrong_hint_cepo_falls_back_to_rlsd_or_to_grpo():
    student, correct = log_p(seed=1), log_p(seed=2)
    as_rlsd = CEPO().token_advantages(ADVANTAGES, Evidence(student, correct, student), 1)
    as_grpo = CEPO().token_advantages(ADVANTAGES, Evidence(student, correct, correct), 1)
    assert torch.equal(as_rlsd, RLSD().token_advantages(ADVANTAGES, Evidence(student, correct), 1))
    assert torch.equal(as_grpo, ADVANTAGES[:, None].expand(4, 7))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@given(order=st.permutations(range(4)))
def test_permuting_rollouts_changes_nothing_else(method, order):
    facts = evidence()
    shuffled = Evidence(facts.log_p_student[order], facts.log_p_correct[order], facts.log_p_wrong[order])
    there = method.credit(ADVANTAGES, facts, 1)
    here = method.credit(ADVANTAGES[order], shuffled, 1)
    for mine, theirs in zip(vars(here).values(), vars(there).values(), strict=True):
        assert torch.equal(mine, theirs[order])


def test_a_flat_array_of_tokens_is_credited_like_a_batch():
    facts = evidence()
    delta = credit.evidence_delta(facts.log_p_correct, facts.log_p_wrong)
    weight = credit.evidence_weight(delta, ADVANTAGES)
    batch = credit.modulate(ADVANTAGES, weight, 0.4, 0.3)
    each = ADVANTAGES.repeat_interleave(7)
    flat_weight = credit.evidence_weight(delta.flatten(), each)
    assert torch.equal(flat_weight, weight.flatten())
    assert torch.equal(credit.modulate(each, flat_weight, 0.4, 0.3), batch.flatten())


def test_advantages_of_the_wrong_shape_are_refused_not_broadcast():
    with pytest.raises(ValueError, match=r"one a rollout \(4,\) or one a token \(4, 7\), got \(7,\)"):
        credit.evidence_weight(log_p(), torch.ones(7))


def test_shapes_that_would_broadcast_are_refused_by_the_checks_that_tests_switch_on():
    with pytest.raises(TypeCheckError):
        credit.evidence_delta(torch.zeros(2, 3), torch.zeros(1, 3))


@given(delta=st.sampled_from([math.inf, -math.inf, 3e38, -3e38, 1e3]), a=st.sampled_from([-2.0, 0.0, 2.0]))
def test_boundless_evidence_gives_finite_token_advantages(delta, a):
    advantages = torch.tensor([a])
    weight = credit.evidence_weight(torch.tensor([[delta]]), advantages)
    token_advantage = credit.modulate(advantages, weight, 0.5, 0.5)
    assert weight.isfinite().all()
    expected = a * (1 + 0.25 * math.copysign(1, delta * a)) if a else 0.0
    assert token_advantage.item() == pytest.approx(expected)


def test_same_hint_on_both_sides_is_no_evidence():
    assert not credit.evidence_delta(log_p(), log_p()).any()


def test_mixing_falls_linearly_from_the_first_step_and_is_then_over():
    lams = [CEPO().mixing(step) for step in range(1, 51)]
    assert lams[0] == 0.5
    assert lams[1] == pytest.approx(0.48)
    assert lams[24] == pytest.approx(0.02)
    assert lams[25:] == [0.0] * 25
    assert sum(lams) == pytest.approx(6.5)
    assert CEPO(schedule="constant", lambda_0=0.3).mixing(1000) == 0.3
    assert GRPO().mixing(1) == 0.0


def test_clip_flags_and_rate_say_what_the_clip_did():
    weight = torch.tensor([[0.2, 0.5, 0.8, 1.5, 1.6, 9.0]])
    mask = torch.tensor([[True, True, True, True, True, False]])
    flags = credit.clip_flags(weight, 0.5)
    assert flags.tolist() == [[-1, 0, 0, 0, 1, 1]]
    assert torch.equal(flags != 0, weight.clamp(0.5, 1.5) != weight)
    assert credit.clip_rate(weight, 0.5, mask) == 0.4
    assert math.isnan(credit.clip_rate(weight, 0.5, torch.zeros_like(mask)))


@given(weight=st.floats(0.015625, 3, width=32), epsilon_w=OPEN_SHARE)
def test_a_flag_is_set_exactly_where_the_clip_changes_the_weight(weight, epsilon_w):
    weights = torch.tensor([weight])
    clipped = weights.clamp(1 - epsilon_w, 1 + epsilon_w)
    assert credit.clip_flags(weights, epsilon_w).item() == torch.sign(weights - clipped).item()


def test_a_method_without_its_teachers_evidence_is_refused_where_it_matters():
    unasked = Evidence(log_p())
    with pytest.raises(ValueError, match=r"CEPO has λ = 0\.5 at step 1"):
        CEPO().credit(ADVANTAGES, unasked, 1)
    for advantages, step in ((ADVANTAGES, 26), (torch.zeros(4), 1)):
        spent = CEPO().credit(advantages, unasked, step)
        assert spent.delta is None
        assert torch.equal(spent.token_advantages, advantages[:, None].expand(4, 7))


@pytest.mark.parametrize("method", [*METHODS, GRPO()], ids=lambda m: m.name)
def test_padding_that_holds_no_evidence_is_left_at_the_advantage(method: TokenCredit):
    facts = evidence()
    for values in vars(facts).values():
        values[:, 5:] = 0.0
    token_advantages = method.token_advantages(ADVANTAGES, facts, 1)
    assert torch.equal(token_advantages[:, 5:], ADVANTAGES[:, None].expand(4, 2))
