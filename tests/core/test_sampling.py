"""How the next token is drawn, by hand-worked numbers and by transformers; and whose random numbers are whose."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from core.errors import InputError
from core.sampling import Draws, Sampling, drawn, filtered_log_probs

PLAIN = Sampling(max_new_tokens=12)
BELOW_ONE = math.nextafter(1.0, 0.0)

logits_of_a_row = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)


def next_token(p: list[float], seen: tuple[int, ...] = (), **changes) -> list[float]:
    """Probabilities under the sampling parameters, from the model's own."""
    logits = torch.tensor([p]).log()
    held = torch.zeros_like(logits, dtype=torch.bool)
    held[0, list(seen)] = True
    return filtered_log_probs(logits, held, dataclasses.replace(PLAIN, **changes))[0].exp().tolist()


def filtered(logits: list[float], **changes) -> torch.Tensor:
    row = torch.tensor([logits])
    return filtered_log_probs(row, torch.zeros_like(row, dtype=torch.bool), dataclasses.replace(PLAIN, **changes))[0]


def test_the_defaults_are_the_models_own_distribution() -> None:
    assert next_token([0.5, 0.3, 0.2], seen=(0, 2)) == pytest.approx([0.5, 0.3, 0.2])


def test_the_presence_penalty_is_taken_off_what_was_seen_and_off_nothing_else() -> None:
    # the odds of a seen token fall by 1/e: (1/e, 1, 1) / (2 + 1/e)
    rest = 1 / (2 + math.exp(-1))
    expected = [math.exp(-1) * rest, rest, rest]
    assert next_token([1 / 3, 1 / 3, 1 / 3], seen=(0,), presence_penalty=1.0) == pytest.approx(expected)
    raised = next_token([1 / 3, 1 / 3, 1 / 3], seen=(0,), presence_penalty=-1.0)
    assert raised[0] / raised[1] == pytest.approx(math.e)


def test_the_presence_penalty_of_one_row_leaves_the_others_alone() -> None:
    seen = torch.tensor([[True, False], [False, False]])
    two = filtered_log_probs(torch.zeros(2, 2), seen, dataclasses.replace(PLAIN, presence_penalty=math.log(3)))
    assert two.exp().tolist() == [pytest.approx([0.25, 0.75]), pytest.approx([0.5, 0.5])]


def test_the_penalty_comes_before_the_temperature() -> None:
    # penalty, then temperature: logits −1/2 and 0; the other way they would be −1 and 0
    _, other = next_token([0.5, 0.5], seen=(0,), presence_penalty=1.0, temperature=2.0)
    assert other == pytest.approx(1 / (1 + math.exp(-0.5)))


def test_the_penalty_comes_before_top_k() -> None:
    # the likeliest token falls to 0.5/e = 0.18, behind the second; top-k first would have left it alone
    assert next_token([0.5, 0.4, 0.1], seen=(0,), presence_penalty=1.0, top_k=1) == [0.0, 1.0, 0.0]


def test_the_temperature_comes_before_top_p() -> None:
    # at temperature 2 the roots count: 0.8, 0.5, 0.3316 of 1.6316, so the first has 0.490 and does not reach 0.5
    p = [0.64, 0.25, 0.11]
    assert [x > 0 for x in next_token(p, top_p=0.5)] == [True, False, False]
    assert next_token(p, top_p=0.5, temperature=2.0) == pytest.approx([0.8 / 1.3, 0.5 / 1.3, 0.0])


def test_top_k_comes_before_top_p() -> None:
    # of the two that top-k leaves, the first has 4/7 = 0.571 ≥ 0.55; top-p first would have kept both
    assert next_token([0.4, 0.3, 0.2, 0.1], top_k=2, top_p=0.55) == [1.0, 0.0, 0.0, 0.0]
    assert next_token([0.4, 0.3, 0.2, 0.1], top_k=2) == pytest.approx([4 / 7, 3 / 7, 0.0, 0.0])


@pytest.mark.parametrize(
    ("p", "k", "kept"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1, [3]),
        ([0.1, 0.2, 0.3, 0.4], 3, [1, 2, 3]),
        ([0.3, 0.2, 0.2, 0.2, 0.1], 2, [0, 1, 2, 3]),  # whoever ties with the last that is kept stays too, as in vLLM
        ([0.25, 0.25, 0.25, 0.25], 1, [0, 1, 2, 3]),
        ([0.6, 0.4], 2, [0, 1]),
        ([0.6, 0.4], 40, [0, 1]),
        ([0.6, 0.4], 0, [0, 1]),
    ],
)
def test_top_k_keeps_the_likeliest_and_their_ties(p, k, kept) -> None:
    result = next_token(p, top_k=k)
    assert [i for i, x in enumerate(result) if x > 0] == kept
    assert [result[i] for i in kept] == pytest.approx([p[i] / sum(p[j] for j in kept) for i in kept])


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.01, [1]),
        (0.49, [1]),
        (0.51, [0, 1]),  # the second crosses the threshold, and stays
        (0.79, [0, 1]),
        (0.81, [0, 1, 3]),
        (0.96, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_token_that_crosses_the_threshold(top_p, kept) -> None:
    p = [0.3, 0.5, 0.05, 0.15]
    result = next_token(p, top_p=top_p)
    assert [i for i, x in enumerate(result) if x > 0] == kept
    assert [result[i] for i in kept] == pytest.approx([p[i] / sum(p[j] for j in kept) for i in kept])


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
def test_without_a_temperature_the_likeliest_token_is_certain(temperature) -> None:
    assert next_token([0.3, 0.4, 0.3], temperature=temperature) == [0.0, 1.0, 0.0]
    # 0.4/e² = 0.054: the penalty decides who is likeliest
    greedy = next_token([0.3, 0.4, 0.2], seen=(1,), temperature=temperature, presence_penalty=2.0, top_k=3, top_p=0.1)
    assert greedy == [1.0, 0.0, 0.0]


def test_a_small_temperature_is_not_taken_for_none() -> None:
    # at 0.5 the squares count
    assert next_token([0.75, 0.25], temperature=0.5) == pytest.approx([0.9, 0.1])


def test_a_token_that_was_ruled_out_stays_so_under_every_parameter() -> None:
    for changes in ({}, {"top_k": 3}, {"top_p": 0.99}, {"temperature": 0.0}, {"presence_penalty": -2.0}):
        assert filtered([-torch.inf, 0.0, 0.5], **changes)[0] == -torch.inf, changes


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 7, 40, 200])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.02])
def test_the_distribution_is_that_of_transformers(temperature, top_k, top_p) -> None:
    logits = 3 * torch.randn(50, 100, generator=torch.Generator().manual_seed(5))
    expected: Any = logits
    warpers: list[Any] = [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    for warper in warpers:
        expected = warper(None, expected)
    sampling = Sampling(1, temperature=temperature, top_k=top_k, top_p=top_p)
    ours = filtered_log_probs(logits, torch.zeros(50, 100, dtype=torch.bool), sampling)
    assert torch.equal(ours.isneginf(), expected.isneginf())
    torch.testing.assert_close(ours, expected.log_softmax(-1))


@given(logits_of_a_row, st.floats(0.1, 3), st.integers(0, 12), st.floats(0.01, 1), st.floats(-2, 2))
def test_what_is_left_is_a_distribution(logits, temperature, top_k, top_p, penalty) -> None:
    p = filtered(logits, temperature=temperature, top_k=top_k, top_p=top_p, presence_penalty=penalty).exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert p[max(range(len(logits)), key=logits.__getitem__)] == p.max() > 0


@given(logits_of_a_row, st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 1), st.floats(0.01, 1))
def test_smaller_k_or_p_never_lets_another_token_in(logits, k, other_k, p, other_p) -> None:
    def support(top_k: int, top_p: float) -> set[int]:
        return set(filtered(logits, top_k=top_k, top_p=top_p).isfinite().nonzero()[:, 0].tolist())

    k, other_k, p, other_p = *sorted((k, other_k)), *sorted((p, other_p))
    assert support(k, 1.0) <= support(other_k, 1.0)
    assert support(0, p) <= support(0, other_p)
    assert support(k, p) <= support(k, other_p)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    log_p = torch.tensor([0.2, 0.0, 0.5, 0.3]).log()
    uniforms = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = drawn(log_p.expand(1000, -1), uniforms)
    assert tokens.bincount(minlength=4).tolist() == [200, 0, 500, 300]
    assert tokens.diff().min() >= 0, "the inverse of the cumulative distribution rises"


def test_a_very_unlikely_token_has_its_share_too() -> None:
    log_p = torch.tensor([[-1e-9, math.log(1e-9)]]).expand(2, -1)  # in float32 the sum of both is the first alone
    assert drawn(log_p, torch.tensor([1 - 1.5e-9, 1 - 0.5e-9], dtype=torch.float64)).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("p", "lowest", "highest"),
    [([0.0, 0.5, 0.5, 0.0], 1, 2), ([1.0, 0.0, 0.0, 0.0], 0, 0), ([0.0, 0.0, 0.0, 1.0], 3, 3)],
)
def test_the_ends_of_the_unit_interval_draw_no_impossible_token(p, lowest, highest) -> None:
    log_p = torch.tensor([p, p]).log()
    assert drawn(log_p, torch.tensor([0.0, BELOW_ONE], dtype=torch.float64)).tolist() == [lowest, highest]


@given(
    st.lists(st.one_of(st.just(-math.inf), st.floats(-30, 30, width=32)), min_size=1, max_size=40).filter(
        lambda row: max(row) > -math.inf
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_no_impossible_token_is_ever_drawn(logits, uniform) -> None:
    log_p = torch.tensor(logits).log_softmax(-1).expand(3, -1)
    tokens = drawn(log_p, torch.tensor([0.0, uniform, BELOW_ONE], dtype=torch.float64))
    assert (log_p[0, tokens] > -math.inf).all()


def test_each_row_is_drawn_with_its_own_number() -> None:
    log_p = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]]).log()
    assert drawn(log_p, torch.tensor([0.7, 0.7, 0.05], dtype=torch.float64)).tolist() == [1, 0, 0]


def numbers(draws: Draws, n: int) -> list[list[float]]:
    return torch.stack([draws.next() for _ in range(n)], 1).tolist()


def test_a_rows_numbers_do_not_depend_on_its_neighbours() -> None:
    together = numbers(Draws([7, 8, 9]), 150)  # more than two blocks
    assert together == [numbers(Draws([seed]), 150)[0] for seed in (7, 8, 9)]
    of_seed_7 = torch.rand(64, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    assert together[0][:64] == of_seed_7.tolist()
    assert len({tuple(row) for row in together}) == 3
    assert len(set(together[0])) == 150
    assert all(0 <= x < 1 for row in together for x in row)
    assert sum(together[0]) / 150 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("before", [0, 10, 64, 100])
def test_a_rows_numbers_do_not_depend_on_who_was_dropped(before) -> None:
    alone = numbers(Draws([8]), 200)[0]
    draws = Draws([7, 8, 9, 10])
    first = numbers(draws, before) if before else [[]] * 4
    draws.keep(torch.tensor([False, True, False, True]))
    second = numbers(draws, 50)
    draws.keep(torch.tensor([True, False]))
    assert first[1] + second[0] + numbers(draws, 50)[0] == alone[: before + 100]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1, got 0"),
        ({"temperature": float("nan")}, "temperature: expected a number from 0 on, got nan"),
        ({"top_p": 0.0}, "top_p: expected more than 0 and at most 1, got 0.0"),
        ({"top_k": -1}, "top_k: expected at least 0, which takes all tokens, got -1"),
        ({"presence_penalty": 2.5}, "presence_penalty: expected from -2 to 2, got 2.5"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Sampling(**{"max_new_tokens": 8} | wrong)
