"""Line 10 of Algorithm 1: PPO's clip, and a mean that does not depend on how an update is cut."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.surrogate import aggregate, clipped_surrogate, surrogate_flags

CLIP = {"epsilon_low": 0.2, "epsilon_high": 0.28}


def loss(ratio: float, advantage: float, dual_clip: float | None = 3.0) -> tuple[float, float]:
    """Loss of one token and its slope in log π_θ."""
    new = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    value = clipped_surrogate(new, torch.zeros_like(advantages), advantages, **CLIP, dual_clip=dual_clip)
    value.sum().backward()
    assert new.grad is not None
    return value.item(), new.grad.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),
        (1.2, 1.0, -1.2, -1.2),
        (1.5, 1.0, -1.28, 0.0),
        (0.5, 1.0, -0.5, -0.5),
        (1.5, -1.0, 1.5, 1.5),
        (0.9, -1.0, 0.9, 0.9),
        (0.5, -1.0, 0.8, 0.0),
        (5.0, -1.0, 3.0, 0.0),
        (1.3, 0.0, 0.0, 0.0),
    ],
)
def test_losses_and_slopes_are_those_of_ppo_with_a_dual_clip(ratio, advantage, value, slope):
    assert loss(ratio, advantage) == pytest.approx((value, slope))


def test_without_a_dual_clip_a_blamed_token_has_no_bound():
    assert loss(5.0, -1.0, dual_clip=None) == pytest.approx((5.0, 5.0))


@given(log_ratio=st.floats(-1e4, 1e4, width=32), advantage=st.floats(-5, 5, width=32))
def test_the_loss_is_finite_however_far_the_policy_has_moved(log_ratio, advantage):
    new = torch.tensor([log_ratio], requires_grad=True)
    value = clipped_surrogate(new, torch.zeros(1), torch.tensor([advantage]), **CLIP, dual_clip=None)
    value.sum().backward()
    assert value.isfinite().all()
    assert new.grad.isfinite().all()


@given(ratio=st.floats(0.25, 3), advantage=st.sampled_from([-1.5, 0.0, 0.7]))
def test_a_flag_is_set_exactly_where_the_clip_stops_the_gradient(ratio, advantage):
    new, zero = torch.tensor([ratio], dtype=torch.float64).log(), torch.zeros(1, dtype=torch.float64)
    flag = surrogate_flags(new, zero, torch.tensor([advantage], dtype=torch.float64), **CLIP).item()
    _, slope = loss(ratio, advantage, dual_clip=None)
    assert (flag != 0) == (slope == 0 and advantage != 0)
    assert flag in (0, math.copysign(1, advantage))


MASK = torch.arange(5) < torch.tensor([5, 2, 1, 4, 3, 5])[:, None]
PER_TOKEN = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_token_mean_weighs_tokens_and_sequence_mean_responses():
    by_token = aggregate(PER_TOKEN, MASK, per="token", normaliser=20.0)
    by_sequence = aggregate(PER_TOKEN, MASK, per="sequence", normaliser=6.0)
    torch.testing.assert_close(by_token, PER_TOKEN[MASK].mean())
    means = [row[kept].mean() for row, kept in zip(PER_TOKEN, MASK, strict=True)]
    torch.testing.assert_close(by_sequence, torch.stack(means).mean())


@pytest.mark.parametrize(("per", "normaliser"), [("token", 20.0), ("sequence", 6.0)])
@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(1, 5)))
def test_any_cut_into_micro_batches_in_any_order_gives_the_same_loss(per, normaliser, order, cuts):
    whole = aggregate(PER_TOKEN, MASK, per=per, normaliser=normaliser)
    parts = torch.tensor(order).tensor_split(sorted(cuts))
    pieces = [aggregate(PER_TOKEN[part], MASK[part], per=per, normaliser=normaliser) for part in parts]
    torch.testing.assert_close(torch.stack(pieces).sum(), whole)


@pytest.mark.parametrize("per", ["token", "sequence"])
def test_what_stands_outside_the_mask_is_not_read(per):
    poisoned = PER_TOKEN.masked_fill(~MASK, math.nan).requires_grad_()
    value = aggregate(poisoned, MASK, per=per, normaliser=20.0)
    value.backward()
    assert torch.equal(value, aggregate(PER_TOKEN, MASK, per=per, normaliser=20.0))
    assert not poisoned.grad[~MASK].any()


@pytest.mark.parametrize("per", ["token", "sequence"])
def test_an_update_without_a_token_has_loss_zero_and_a_zero_gradient(per):
    values = torch.ones(2, 3, requires_grad=True)
    value = aggregate(values, torch.zeros(2, 3, dtype=torch.bool), per=per, normaliser=0.0)
    value.backward()
    assert value.item() == 0
    assert not values.grad.any()
