"""The head in chunks: the same numbers and gradients as the whole vocabulary at once, without holding it."""

from collections.abc import Callable

import pytest
import torch

from core import head
from core.divergence import forward_kl, jensen_shannon, reverse_kl
from core.methods import SDPO

N, HIDDEN, VOCABULARY = 37, 8, 50


@pytest.fixture(params=[1, 7, 1000], ids=lambda rows: f"{rows} rows a chunk")
def chunked(request, monkeypatch) -> None:
    monkeypatch.setattr(head, "CHUNK_ENTRIES", {"cpu": request.param * VOCABULARY})


def states(seed: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and a head."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(N, HIDDEN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(),
        torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(),
    )


def sampled(seed: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (N,), generator=torch.Generator().manual_seed(seed))


def weights() -> torch.Tensor:
    """How much each row counts in a loss, of both signs."""
    return torch.linspace(-1, 2, N, dtype=torch.float64)


def plain(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    return (hidden @ weight.t() / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampled_log_probs_and_both_gradients_equal_the_whole_vocabularys(chunked, temperature: float) -> None:
    token_ids, found = sampled(3), []
    for one in (True, False):
        hidden, weight = states(1)
        if one:
            log_p, entropy = head.sampled_log_probs(hidden, weight, token_ids, temperature)
        else:
            distribution = plain(hidden, weight, temperature)
            log_p = distribution.gather(-1, token_ids[:, None])[:, 0]
            entropy = -(distribution.exp() * distribution).sum(-1)
        (log_p * weights()).sum().backward()
        found.append((log_p.detach(), entropy.detach(), hidden.grad, weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-12
    assert found[0][3].abs().max() > 0.1


def test_without_gradients_the_numbers_are_the_same(chunked) -> None:
    hidden, weight = states(1)
    with_gradient = head.sampled_log_probs(hidden, weight, sampled(3), 1.0)
    with torch.no_grad():
        without = head.sampled_log_probs(hidden, weight, sampled(3), 1.0)
    for one, other in zip(with_gradient, without, strict=True):
        assert torch.equal(one.detach(), other)
        assert not other.requires_grad


def test_a_frozen_head_gets_no_gradient_and_is_not_computed_again(monkeypatch) -> None:
    hidden, weight = states(1)
    log_p, entropy = head.sampled_log_probs(hidden, weight.detach(), sampled(3), 1.0)
    monkeypatch.setattr(head, "logits_at", None)  # a backward pass that needed logits would fail here
    log_p.sum().backward()
    assert hidden.grad is not None
    assert not entropy.requires_grad


@pytest.mark.parametrize("measure", [forward_kl, reverse_kl, jensen_shannon, SDPO(top_k=5).divergence])
def test_divergences_and_both_gradients_equal_the_whole_vocabularys(chunked, measure: Callable) -> None:
    found = []
    teacher = tuple(x.detach() for x in states(2))
    for one in (True, False):
        hidden, weight = states(1)
        if one:
            value = head.divergence((hidden, weight), teacher, measure, 0.7)
        else:
            value = measure(plain(*teacher, 0.7), plain(hidden, weight, 0.7))
        (value * weights()).sum().backward()
        found.append((value.detach(), hidden.grad, weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-12
    assert found[0][2].abs().max() > 0.01


def test_a_divergence_without_gradients_keeps_nothing(chunked) -> None:
    hidden, weight = states(1)
    with torch.no_grad():
        value = head.divergence((hidden, weight), states(2), forward_kl, 1.0)
    assert not value.requires_grad
    assert (value > 0).all()


def test_logits_of_half_precision_states_are_float32() -> None:
    hidden, weight = states(1, torch.bfloat16)
    log_p, entropy = head.sampled_log_probs(hidden, weight.detach(), sampled(3), 1.0)
    assert log_p.dtype == entropy.dtype == torch.float32
    exact = plain(hidden.detach().double(), weight.detach().double(), 1.0).gather(-1, sampled(3)[:, None])[:, 0]
    assert (log_p.detach() - exact).abs().max() < 1e-5
    log_p.sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
