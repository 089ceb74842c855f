"""The address of a view: it comes back as it went in, and what cannot be is left out with a notice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.address import Address, nearest, parse, to_parameters

numbers = st.integers(0, 10**6)
shares = st.integers(100, 9900).map(lambda n: n / 10000)
addresses = st.builds(
    Address,
    run=st.none() | st.text(min_size=1),
    step=st.none() | numbers,
    rollout=st.none() | numbers,
    tok=st.none() | st.integers(0, 70000),
    eps=st.none() | shares,
    lam=st.none() | shares,
    view=st.sampled_from(["weight", "delta", "advantage", "difference"]),
    left=st.sampled_from(["grpo", "opsd", "sdpo", "rlsd", "cepo"]),
    right=st.sampled_from(["grpo", "opsd", "sdpo", "rlsd", "cepo"]),
    wrong=st.sampled_from(["recorded", "none", "right"]),
    marks=st.lists(st.tuples(numbers.filter(lambda n: n < 10**5), st.integers(0, 99)), max_size=5).map(
        lambda pairs: tuple((first % 10**5, first % 10**5 + length) for first, length in pairs)
    ),
)


@given(addresses)
def test_an_address_comes_back_as_it_went_in(address: Address) -> None:
    assert parse(to_parameters(address)) == (address, [])


def test_what_is_the_default_stays_out_of_the_url() -> None:
    assert to_parameters(Address()) == {}
    assert to_parameters(Address(step=3, lam=0.0, view="delta")) == {"step": "3", "lam": "0", "view": "delta"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("step", "-1"), ("step", "1e3"), ("step", "９" * 12), ("rollout", "x"), ("tok", "<script>"), ("eps", "0"),
        ("eps", "1"), ("eps", "nan"), ("eps", "inf"), ("lam", "1.5"), ("lam", "-0.1"), ("view", "colour"),
        ("left", "ppo"), ("right", ""), ("wrong", "7"), ("marks", "5-3"), ("marks", "1"), ("marks", "1-2_"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_left_out_and_only_its_name_is_told(name: str, text: str) -> None:
    address, notices = parse({name: text})
    assert address == Address()
    assert len(notices) == 1
    assert f"“{name}”" in notices[0]
    assert text not in notices[0] or len(text) < 2


def test_parameters_of_other_things_are_none_of_ours() -> None:
    assert parse({"tab": "Export", "embed": "true"}) == (Address(), [])


def test_a_step_that_is_not_there_gives_the_nearest_that_is_with_a_notice() -> None:
    assert nearest(None, [1, 2, 5], 1, "step") == (1, [])
    assert nearest(2, [1, 2, 5], 1, "step") == (2, [])
    step, notices = nearest(99, [1, 2, 5], 1, "step")
    assert step == 5
    assert notices == ["There is no step 99 in this run; step 5 is shown."]
