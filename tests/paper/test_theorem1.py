"""Theorem 1: no token changes direction, nothing leaks through the gradient, RLSD is contained."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from core.methods import CEPO, GRPO, RLSD, Evidence
from core.surrogate import aggregate, clipped_surrogate

LOG_P = st.floats(-60, 0, width=32)
EXTREME_LOG_P = LOG_P | st.sampled_from([0.0, -1e-45, -1e4, -3e38])
OPEN_SHARE = st.floats(0, 1, exclude_min=True, exclude_max=True)
ADVANTAGE = st.floats(-50, 50, width=32).filter(lambda a: a == 0 or abs(a) > 1e-3)

ROLLOUTS, TOKENS, VOCABULARY = 4, 6, 11
MASK = torch.arange(TOKENS) < torch.tensor([6, 3, 5, 1])[:, None]
ADVANTAGES = torch.tensor([1.5, -0.5, 0.0, -1.0], dtype=torch.float64)


@pytest.mark.parametrize("method_class", [CEPO, RLSD])
@given(
    advantage=ADVANTAGE,
    student=EXTREME_LOG_P,
    correct=EXTREME_LOG_P,
    wrong=EXTREME_LOG_P,
    lam=st.floats(0, 1),
    epsilon_w=OPEN_SHARE,
)
@example(advantage=2.0, student=0.0, correct=-60.0, wrong=0.0, lam=1.0, epsilon_w=1 - 2**-53)
@example(advantage=-2.0, student=-60.0, correct=0.0, wrong=-60.0, lam=1.0, epsilon_w=1 - 2**-53)
def test_no_evidence_can_turn_a_token_around(method_class, advantage, student, correct, wrong, lam, epsilon_w):
    method = method_class(lambda_0=lam, epsilon_w=epsilon_w)
    evidence = Evidence(*(torch.tensor([[log_p]]) for log_p in (student, correct, wrong)))
    token_advantage = method.token_advantages(torch.tensor([advantage]), evidence, 1)
    assert token_advantage.isfinite().all()
    assert torch.equal(token_advantage.sign(), torch.tensor([[advantage]]).sign())


def distributions() -> tuple[torch.Tensor, ...]:
    """Logits of the student and of both teachers, and the sampled tokens."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, ROLLOUTS, TOKENS, VOCABULARY, generator=generator, dtype=torch.float64)
    sampled = torch.randint(VOCABULARY, (ROLLOUTS, TOKENS, 1), generator=generator)
    return *(each.clone().requires_grad_() for each in logits), sampled


@pytest.mark.parametrize("method", [GRPO(), RLSD(), CEPO(), CEPO(lambda_0=1.0, epsilon_w=0.9)], ids=repr)
def test_the_gradient_touches_the_sampled_token_alone_and_no_teacher(method):
    student, correct, wrong, sampled = distributions()
    log_p = [logits.log_softmax(-1).gather(-1, sampled).squeeze(-1) for logits in (student, correct, wrong)]
    token_advantages = method.token_advantages(ADVANTAGES, Evidence(*log_p), 1)
    per_token = clipped_surrogate(
        log_p[0], log_p[0].detach(), token_advantages, epsilon_low=0.2, epsilon_high=0.28, dual_clip=3.0
    )
    aggregate(per_token, MASK, per="token", normaliser=float(MASK.sum())).backward()

    one_hot = torch.zeros_like(student).scatter(-1, sampled, 1.0)
    away_from_student = one_hot - student.detach().softmax(-1)
    expected = -(token_advantages * MASK).unsqueeze(-1) * away_from_student / MASK.sum()
    torch.testing.assert_close(student.grad, expected, atol=1e-15, rtol=1e-12)
    assert correct.grad is None
    assert wrong.grad is None


@given(student=LOG_P, correct=LOG_P, advantage=ADVANTAGE, lam=st.floats(0, 1), epsilon_w=OPEN_SHARE)
def test_with_the_student_as_wrong_teacher_cepo_is_rlsd_bit_for_bit(student, correct, advantage, lam, epsilon_w):
    evidence = Evidence(*(torch.tensor([[log_p]]) for log_p in (student, correct, student)))
    cepo, rlsd = (
        vars(method(lambda_0=lam, epsilon_w=epsilon_w).credit(torch.tensor([advantage]), evidence, 1))
        for method in (CEPO, RLSD)
    )
    assert cepo.keys() == rlsd.keys()
    assert all(torch.equal(cepo[name], rlsd[name]) for name in cepo)
