"""Eq. 1: a rollout against its group."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.credit import group_advantages

REWARDS = st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.9, 1.0]), min_size=8, max_size=8)


def binary(n_correct: int, size: int = 8) -> torch.Tensor:
    """Rewards of one group."""
    return torch.tensor([[1.0] * n_correct + [0.0] * (size - n_correct)])


@pytest.mark.parametrize(
    ("n_correct", "std", "right", "wrong"),
    [
        (1, "sample", 2.4749, -0.3536),
        (1, "population", 2.6457, -0.3780),
        (4, "sample", 0.9354, -0.9354),
        (4, "population", 1.0, -1.0),
    ],
)
def test_groups_of_eight_have_the_published_advantages(n_correct, std, right, wrong):
    advantages = group_advantages(binary(n_correct), std=std)
    expected = torch.tensor([[right] * n_correct + [wrong] * (8 - n_correct)])
    torch.testing.assert_close(advantages, expected, atol=6e-5, rtol=0)


def test_weighted_rewards_give_wrong_but_formatted_rollouts_a_positive_advantage():
    advantages = group_advantages(torch.tensor([[0.1] * 7 + [0.0]]))
    torch.testing.assert_close(advantages, torch.tensor([[0.3536] * 7 + [-2.4749]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("reward", [0.0, 0.1, 0.7, 1.0, 1e6])
@pytest.mark.parametrize("size", [2, 3, 8, 37])
def test_a_group_of_equal_rewards_has_exactly_no_advantage(reward, size):
    assert torch.equal(group_advantages(torch.full((1, size), reward)), torch.zeros(1, size))


def test_one_group_without_spread_leaves_the_others_alone():
    mixed = group_advantages(torch.cat([binary(8), binary(3), binary(0)]))
    assert torch.equal(mixed[1:2], group_advantages(binary(3)))
    assert not mixed[0].any()
    assert not mixed[2].any()


@given(rewards=REWARDS, std=st.sampled_from(["sample", "population"]))
def test_advantages_sum_to_zero_and_order_rollouts_as_rewards_do(rewards, std):
    advantages = group_advantages(torch.tensor([rewards], dtype=torch.float64), std=std)[0]
    assert abs(advantages.sum().item()) < 1e-9
    for better, a in zip(rewards, advantages, strict=True):
        for worse, b in zip(rewards, advantages, strict=True):
            assert (a > b) == (better > worse)


@given(rewards=REWARDS, order=st.permutations(range(8)))
def test_permuting_a_group_permutes_its_advantages(rewards, order):
    rewards = torch.tensor([rewards], dtype=torch.float64)
    permuted = group_advantages(rewards[:, order])
    torch.testing.assert_close(permuted, group_advantages(rewards)[:, order], atol=1e-9, rtol=1e-9)


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        group_advantages(torch.ones(3, 1))
