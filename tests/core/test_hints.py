"""Hints: r⁺ and r⁻ of a group, Table 5's sources, and every case of which a wrong hint could be misread."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.hints import HintSource, choose_hints
from core.rollouts import Group, Problem, Rollout, Verdict
from core.verifier import Verifier

TRUTH = HintSource("gt_answer")
ANSWER = HintSource("peer_answer")
ROLLOUT = HintSource("peer_rollout")


def group(*responses, truth="12", rewards=None):
    """Build a group of responses: an answer, None for no box, or (answer, text, is_truncated)."""
    verifier = Verifier()
    rollouts, verdicts = [], []
    for number, response in enumerate(responses):
        answer, text, is_truncated = (
            response if isinstance(response, tuple) else (response, f"response {number}", False)
        )
        is_correct = answer is not None and verifier.same_answer(answer, truth)
        ids = [ord(letter) for letter in text] + ([] if is_truncated else [0])
        rollouts.append(Rollout(torch.tensor(ids), torch.zeros(len(ids)), text, is_truncated))
        verdicts.append(Verdict(is_correct, bool(answer), answer))
    rewards = tuple(float(verdict.is_correct) for verdict in verdicts) if rewards is None else rewards
    return Group(Problem("p", "Find x.", truth), tuple(rollouts), tuple(verdicts), rewards)


def letters(ids):
    return "".join(map(chr, ids))


def choose(members, correct: HintSource | None = TRUTH, wrong: HintSource | None = ANSWER, seed=0):
    with Verifier() as verifier:
        return choose_hints(members, correct, wrong, verifier, letters, random.Random(seed))


def test_the_default_hints_are_the_true_answer_and_the_first_wrong_one():
    hints = choose(group("12", "13", "15"))
    assert (hints.hint_correct, hints.hint_wrong, hints.wrong_rollout, hints.fallback) == ("12", "13", 1, False)
    assert hints.correct == ("12",) * 3
    assert hints.wrong == ("13",) * 3


def test_sides_that_a_method_does_not_read_have_no_hints_and_no_fallback():
    hints = choose(group("12", "13"), correct=None, wrong=None)
    assert hints.correct == hints.wrong == (None, None)
    assert hints.fallback is False


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(("12", "12.0"), id="all correct"),
        pytest.param(("12", None, None), id="no box anywhere"),
        pytest.param(("12", "", ""), id="empty boxes"),
        pytest.param(("12", "12.05", "11.9"), id="all within one percent"),
        pytest.param(("12", (None, "cut", True)), id="cut before the box"),
    ],
)
def test_a_group_without_a_readable_wrong_answer_falls_back(members):
    hints = choose(group(*members))
    assert (hints.hint_wrong, hints.wrong_rollout, hints.fallback) == (None, None, True)
    assert set(hints.wrong) == {None}
    assert hints.hint_correct == "12"


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param(None, id="no box"),
        pytest.param("", id="empty box"),
        pytest.param("12.1", id="near the truth"),
        pytest.param((None, "cut", True), id="truncated without a box"),
    ],
)
def test_an_unfit_candidate_gives_way_to_the_next(unfit):
    hints = choose(group("12", unfit, "15"))
    assert (hints.hint_wrong, hints.wrong_rollout) == ("15", 2)


def test_a_truncated_rollout_with_a_box_may_be_the_wrong_one():
    assert choose(group("12", ("13", "cut", True))).hint_wrong == "13"


def test_a_wrong_answer_that_the_grader_takes_for_the_truth_is_skipped():
    members = group("1/2", "5", truth="0.5")
    missed = Group(members.problem, members.rollouts, (Verdict(False, True, "1/2"), members.verdicts[1]), (0.0, 0.0))
    assert choose(missed).hint_wrong == "5"


def test_symbolic_answers_are_told_apart_from_near_ones():
    members = group(r"\sqrt{18}", "4.24", r"2\sqrt{3}", truth=r"3\sqrt{2}")
    assert [verdict.is_correct for verdict in members.verdicts] == [True, False, False]
    assert choose(members).hint_wrong == r"2\sqrt{3}"


def test_the_lowest_reward_goes_first_and_generation_order_breaks_ties():
    members = group("12", "13", None, "15", "16", rewards=(1.0, 0.1, 0.0, 0.05, 0.05))
    assert choose(members).hint_wrong == "15"


def test_the_most_frequent_wrong_answer_wins_and_the_first_of_equals():
    source = HintSource("peer_answer", pick="most_frequent")
    assert choose(group("12", "13", "15", "15"), wrong=source).hint_wrong == "15"
    assert choose(group("12", "16", "13", "16", "13"), wrong=source).hint_wrong == "16"
    assert choose(group("12", None, None, "13"), wrong=source).hint_wrong == "13"


def test_a_random_pick_follows_the_given_generator_and_reaches_every_candidate():
    source = HintSource("peer_answer", pick="random")
    members = group("12", "13", "15", None)
    picks = {choose(members, wrong=source, seed=seed).hint_wrong for seed in range(20)}
    assert picks == {"13", "15"}
    assert choose(members, wrong=source, seed=3) == choose(members, wrong=source, seed=3)


def test_only_a_random_pick_draws_from_the_generator():
    rng = random.Random(0)
    state = rng.getstate()
    choose_hints(group("12", "13"), ROLLOUT, ANSWER, Verifier(), letters, rng)
    assert rng.getstate() == state


def test_no_rollout_is_hinted_with_its_own_text():
    hints = choose(group("12", "13", "12", "15"), correct=ROLLOUT, wrong=ROLLOUT)
    assert hints.correct == ("response 2", "response 0", "response 0", "response 0")
    assert hints.wrong == ("response 1", "response 3", "response 1", "response 1")
    assert (hints.hint_correct, hints.hint_wrong, hints.wrong_rollout) == ("response 0", "response 1", 1)


def test_the_only_source_is_itself_left_without_a_hint():
    hints = choose(group("12", "13", "15"), correct=ROLLOUT)
    assert hints.correct == (None, "response 0", "response 0")
    hints = choose(group("12", "12", "13"), wrong=ROLLOUT)
    assert hints.wrong == ("response 2", "response 2", None)
    assert hints.fallback is False


def test_a_group_without_a_correct_rollout_has_no_correct_peer():
    for source in ("peer_answer", "peer_rollout", "peer_prefix", "peer_suffix"):
        hints = choose(group("13", "15"), correct=HintSource(source))
        assert hints.hint_correct is None
        assert hints.correct == (None, None)


def test_a_correct_peer_answer_is_shared_by_the_whole_group():
    assert choose(group("13", "12.0", "12"), correct=ANSWER).correct == ("12.0",) * 3


@pytest.mark.parametrize(
    ("source", "length", "hint"),
    [
        ("peer_prefix", 3, "abc"),
        ("peer_suffix", 3, "def"),
        ("peer_prefix", 100, "abcdef"),
        ("peer_suffix", 100, "abcdef"),
        ("peer_rollout", 3, "abcdef"),
    ],
)
def test_prefixes_and_suffixes_count_tokens_without_the_end_token(source, length, hint):
    members = group("12", ("13", "abcdef", False))
    assert choose(members, wrong=HintSource(source, length)).hint_wrong == hint


def test_a_truncated_response_has_no_end_token_to_drop():
    assert choose(group("12", ("13", "abc", True)), wrong=HintSource("peer_suffix", 2)).hint_wrong == "bc"


def test_a_finished_wrong_rollout_may_hint_with_its_text_even_without_a_box():
    assert choose(group("12", (None, "no idea", False)), wrong=ROLLOUT).hint_wrong == "no idea"
    assert choose(group("12", (None, "no ide", True)), wrong=ROLLOUT).fallback
    assert choose(group("12", (None, "", False)), wrong=ROLLOUT).fallback, "an immediate end token is no text"


def test_the_released_code_takes_the_first_lowest_reward_however_unreadable():
    released = HintSource("peer_answer", unreadable="released")
    assert choose(group("12", None, "13"), wrong=released).hint_wrong == "None"
    assert choose(group("12", ("", "x" * 80, False), "13"), wrong=released).hint_wrong == "x" * 50
    assert choose(group("12", "12.1"), wrong=released).hint_wrong == "12.1"
    assert choose(group("12", "13", None, rewards=(1.0, 0.1, 0.0)), wrong=released).hint_wrong == "None"
    assert choose(group("12"), wrong=released).fallback


def test_the_true_answer_is_refused_as_a_wrong_hint():
    with pytest.raises(InputError, match="cannot be the wrong hint"):
        choose(group("12", "13"), wrong=TRUTH)


def test_options_that_a_source_would_ignore_or_cannot_take_are_refused():
    with pytest.raises(ValueError, match="unreadable 'released' goes with"):
        HintSource("peer_rollout", unreadable="released")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        HintSource("peer_prefix", length=0)
    with pytest.raises(ValueError, match="lenght"):
        HintSource(lenght=3)  # pyright: ignore[reportCallIssue]


ANSWERS = st.lists(st.sampled_from(["12", "12.05", "13", "15", "20", "", None]), min_size=1, max_size=8)
SOURCES = st.sampled_from(["peer_answer", "peer_rollout", "peer_prefix", "peer_suffix"])


@given(ANSWERS, SOURCES, st.sampled_from(["lowest", "most_frequent", "random"]), st.integers(0, 9))
def test_wrong_hints_come_from_other_wrong_rollouts_that_are_not_near_the_truth(answers, source, pick, seed):
    members = group(*answers)
    hints = choose(members, wrong=HintSource(source, 3, pick), seed=seed)
    assert len(hints.wrong) == len(hints.correct) == len(answers)
    assert hints.fallback == (hints.hint_wrong is None) == (hints.wrong_rollout is None)
    if hints.wrong_rollout is not None:
        assert answers[hints.wrong_rollout] not in ("12", "12.05")
        assert hints.hint_wrong in hints.wrong or len(answers) == 1
    if source == "peer_rollout":
        assert all(hint != f"response {i}" for i, hint in enumerate(hints.wrong))
    if source == "peer_answer":
        assert set(hints.wrong) == {hints.hint_wrong}
        assert hints.hint_wrong in {None, "13", "15", "20"}


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_rollouts_does_not_change_the_most_frequent_wrong_answer(answers, rng):
    counts = Counter(answer for answer in answers if answer in {"13", "15", "20"}).most_common(2)
    shuffled = rng.sample(answers, len(answers))
    source = HintSource("peer_answer", pick="most_frequent")
    if len(counts) < 2 or counts[0][1] > counts[1][1]:
        assert choose(group(*answers), wrong=source).hint_wrong == choose(group(*shuffled), wrong=source).hint_wrong
