"""Eq. 3: the divergences of OPSD and SDPO, and the vocabulary-wide gradient through which the answer leaks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.divergence import forward_kl, jensen_shannon, reverse_kl, top_k_with_tail
from core.methods import OPSD, SDPO

SEEDS = st.integers(0, 10_000)
MEASURES = [forward_kl, reverse_kl, jensen_shannon]


def pair(seed: int = 0, vocabulary: int = 40, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """log P_T and log P_S of five tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, 5, vocabulary, generator=generator, dtype=torch.float64)
    teacher, student = logits.log_softmax(-1)
    return teacher, student


def test_the_opsd_gradient_in_every_logit_is_student_minus_teacher():
    teacher, student = (log_p.requires_grad_() for log_p in pair())
    OPSD().divergence(teacher, student.log_softmax(-1)).sum().backward()
    torch.testing.assert_close(student.grad, student.detach().exp() - teacher.detach().exp())
    assert (student.grad != 0).all(), "every vocabulary entry is moved by what the teacher was told"
    assert teacher.grad is None


@pytest.mark.parametrize("method", [OPSD(), SDPO(), OPSD(measure="reverse_kl"), OPSD(top_k=3)], ids=repr)
def test_a_student_that_agrees_with_its_teacher_is_left_alone(method):
    teacher, student = pair()[0], pair()[0].requires_grad_()
    divergence = method.divergence(teacher, student.log_softmax(-1))
    divergence.sum().backward()
    torch.testing.assert_close(divergence.detach(), torch.zeros(5, dtype=torch.float64), atol=1e-13, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-13, rtol=0)


def test_divergences_of_two_coins_are_the_textbook_numbers():
    teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    assert forward_kl(teacher, student).item() == pytest.approx(0.510826, abs=1e-6)
    assert reverse_kl(teacher, student).item() == pytest.approx(0.368064, abs=1e-6)
    assert jensen_shannon(teacher, student).item() == pytest.approx(0.101749, abs=1e-6)


@given(seed=SEEDS, alpha=st.floats(0.01, 0.99))
def test_divergences_are_within_their_bounds(seed, alpha):
    teacher, student = pair(seed)
    assert (forward_kl(teacher, student) >= 0).all()
    assert (reverse_kl(teacher, student) >= 0).all()
    shannon = jensen_shannon(teacher, student, alpha)
    assert (shannon >= 0).all()
    assert (shannon <= -alpha * math.log(alpha) - (1 - alpha) * math.log(1 - alpha) + 1e-12).all()


@given(seed=SEEDS)
def test_jensen_shannon_is_symmetric_at_one_half_and_reaches_log_two(seed):
    teacher, student = pair(seed)
    torch.testing.assert_close(jensen_shannon(teacher, student), jensen_shannon(student, teacher))
    heads, tails = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    assert jensen_shannon(heads, tails).item() == pytest.approx(math.log(2))


@given(seed=SEEDS)
def test_jensen_shannon_tends_to_both_kls_at_its_ends(seed):
    teacher, student = pair(seed, scale=0.5)
    alpha = 1e-6
    torch.testing.assert_close(
        jensen_shannon(teacher, student, alpha) / alpha, forward_kl(teacher, student), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        jensen_shannon(teacher, student, 1 - alpha) / alpha, reverse_kl(teacher, student), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forbidden_entries_add_nothing_and_leave_the_gradient_finite(measure, dtype):
    logits = torch.tensor([[1.0, -math.inf, 0.3, -math.inf], [0.0, -200.0, -1e4, -math.inf]], dtype=dtype)
    teacher = (logits + torch.tensor([0.5, 0.0, 0.0, 0.0], dtype=dtype)).log_softmax(-1)
    leaf = logits.clone().requires_grad_()
    divergence = measure(teacher, leaf.log_softmax(-1))
    divergence.sum().backward()
    allowed = [0, 2]
    expected = measure(teacher[:1, allowed], logits[:1, allowed].log_softmax(-1))
    torch.testing.assert_close(divergence.detach()[:1], expected)
    assert divergence.isfinite().all()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("measure", ["forward_kl", "reverse_kl", "jensen_shannon"])
@pytest.mark.parametrize("support", ["teacher", "student"])
@given(seed=SEEDS)
def test_more_entries_bring_the_divergence_up_to_the_full_one(measure, support, seed):
    teacher, student = pair(seed)
    full = OPSD(measure=measure).divergence(teacher, student)
    last = torch.zeros_like(full)
    for k in (1, 5, 20, 39, 40, 100):
        coarse = OPSD(measure=measure, top_k=k, support=support).divergence(teacher, student)
        assert (coarse <= full + 1e-9).all(), "merging entries cannot add divergence"
        last = coarse
    torch.testing.assert_close(last, full, atol=1e-9, rtol=1e-9)


@given(seed=SEEDS, k=st.integers(1, 39))
def test_top_k_with_tail_keeps_all_probability_and_the_supports_own_entries(seed, k):
    teacher, student = pair(seed)
    kept_teacher, kept_student = top_k_with_tail(teacher, student, k, "student")
    one = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(kept_teacher.exp().sum(-1), one)
    torch.testing.assert_close(kept_student.exp().sum(-1), one)
    assert torch.equal(kept_student[:, :-1], student.sort(descending=True).values[:, :k])
    kept_teacher, _ = top_k_with_tail(teacher, student, k, "teacher")
    assert torch.equal(kept_teacher[:, :-1], teacher.sort(descending=True).values[:, :k])


@pytest.mark.parametrize("gap", [0.0, 1e-3, 1.0, 10.0, 30.0, 100.0])
@pytest.mark.parametrize("measure", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_a_certain_student_has_a_finite_tail_and_a_finite_gradient(measure, gap):
    logits = torch.tensor([[gap] + [0.0] * 9]).requires_grad_()
    teacher = torch.zeros(1, 10).log_softmax(-1)
    divergence = SDPO(measure=measure, top_k=1).divergence(teacher, logits.log_softmax(-1))
    divergence.sum().backward()
    assert divergence.isfinite().all()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() < 100


def test_a_method_measures_with_its_own_settings():
    teacher, student = pair()
    uneven = OPSD(measure="jensen_shannon", alpha=0.2).divergence(teacher, student)
    assert torch.equal(uneven, jensen_shannon(teacher, student, 0.2))
    coarse = top_k_with_tail(teacher, student, 100, "student")
    assert torch.equal(SDPO().divergence(teacher, student), jensen_shannon(*coarse))


def test_an_entry_clip_caps_what_one_entry_adds_before_the_sum():
    teacher, student = pair()
    entries = teacher.exp() * (teacher - student)
    torch.testing.assert_close(OPSD(entry_clip=0.05).divergence(teacher, student), entries.clamp(max=0.05).sum(-1))
    assert torch.equal(OPSD(entry_clip=1e9).divergence(teacher, student), OPSD().divergence(teacher, student))


@given(seed=SEEDS, order=st.permutations(range(5)))
def test_permuting_tokens_permutes_their_divergences(seed, order):
    teacher, student = pair(seed)
    there = SDPO(top_k=7).divergence(teacher, student)
    torch.testing.assert_close(SDPO(top_k=7).divergence(teacher[order], student[order]), there[order])
