"""Responses under sampling parameters: each is its seed's alone, whatever company, room and context it has."""

import math
from collections import Counter

import pytest
import torch

from core.engines import local_engine
from core.engines.local_engine import LocalEngine
from core.pocket import pocket_problem
from core.policy import Policy
from core.prompts import Prompt, student_prompt
from core.sampling import Sampling
from core.scoring import EncodedPrompt

PLAIN = Sampling(max_new_tokens=12)
LIMIT = "max_position_embeddings"


def encoded(policy: Policy, n: int) -> list[EncodedPrompt]:
    problems = [pocket_problem("train", i, 0) for i in range(n)]
    features = policy.look([p.images for p in problems])
    return [policy.encode(student_prompt(p), seen) for p, seen in zip(problems, features, strict=True)]


def asked(policy: Policy, *texts: str) -> list[EncodedPrompt]:
    """Short prompts without pictures."""
    turns = [({"role": "user", "content": [{"type": "text", "text": text}]},) for text in texts]
    return [policy.encode(Prompt(turn), None) for turn in turns]


def said(policy: Policy, prompts: list, sampling: Sampling, seeds: list[int]) -> list[list[int]]:
    """Token ids of every response, in the order of the prompts."""
    found = dict(LocalEngine(policy).responses(prompts, sampling, seeds))
    assert sorted(found) == list(range(len(prompts))), "every prompt is answered once"
    return [found[i].token_ids.tolist() for i in range(len(prompts))]


@pytest.fixture
def endless_policy(random_policy: Policy, monkeypatch) -> Policy:
    """A policy that never ends a response by itself."""
    never = [*random_policy.unsampled_token_ids, random_policy.end_token_id]
    monkeypatch.setattr(Policy, "unsampled_token_ids", never)
    return random_policy


@pytest.mark.parametrize(
    "sampling",
    [Sampling(70), Sampling(70, top_k=40, presence_penalty=2.0), Sampling(70, 0.0), Sampling(70, top_p=0.7)],
    ids=["plain", "paper", "greedy", "top-p"],
)
def test_a_response_is_the_same_alone_and_in_company_and_in_any_order(base_policy: Policy, sampling) -> None:
    prompts, seeds = encoded(base_policy, 6), [11, 12, 13, 14, 15, 16]
    together = said(base_policy, prompts, sampling, seeds)
    assert len({len(p.token_ids) for p in prompts}) > 1, "the batch should be ragged"
    assert len({len(ids) for ids in together}) > 1, "the rows should end at different steps"
    order = [3, 0, 5, 1, 4, 2]
    assert said(base_policy, [prompts[i] for i in order], sampling, [seeds[i] for i in order]) == [
        together[i] for i in order
    ]
    for i in (0, 4):
        assert said(base_policy, [prompts[i]], sampling, [seeds[i]]) == [together[i]]


def test_rows_that_end_early_leave_penalties_limits_and_prompts_of_the_others_alone(random_policy: Policy) -> None:
    setattr(random_policy.base.config.text_config, LIMIT, 90)
    prompts = asked(random_policy, *("x" * n for n in (60, 2, 45, 20, 7, 33, 1, 12)))
    sampling, seeds = Sampling(90, top_k=30, presence_penalty=2.0), list(range(8))
    together = dict(LocalEngine(random_policy).responses(prompts, sampling, seeds))
    lengths = [len(together[i].token_ids) for i in seeds]
    left = [90 - len(prompt.token_ids) for prompt in prompts]
    assert sum(length == limit for length, limit in zip(lengths, left, strict=True)) >= 3, "some end with the context"
    assert sum(length < limit for length, limit in zip(lengths, left, strict=True)) >= 2, "some end by themselves"
    for i in seeds:
        ((_, alone),) = LocalEngine(random_policy).responses([prompts[i]], sampling, [seeds[i]])
        assert alone.token_ids.tolist() == together[i].token_ids.tolist()
        torch.testing.assert_close(alone.log_p_sampler, together[i].log_p_sampler, atol=1e-4, rtol=0)


def test_another_seed_gives_another_response_and_the_same_seed_the_same(random_policy: Policy) -> None:
    prompts = asked(random_policy, "1 + 1") * 3
    first, again, other = said(random_policy, prompts, PLAIN, [4, 4, 5])
    assert first == again
    assert first != other


def test_a_first_token_comes_as_often_as_its_own_log_probability_says(random_policy: Policy) -> None:
    n = 500
    found = LocalEngine(random_policy).responses(asked(random_policy, "x") * n, Sampling(1), list(range(n)))
    first = [(int(rollout.token_ids[0]), float(rollout.log_p_sampler[0].exp())) for _, rollout in found]
    p = dict(first)
    (token, times), *_ = Counter(token for token, _ in first).most_common(1)
    assert times / n == pytest.approx(p[token], abs=4 * math.sqrt(p[token] * (1 - p[token]) / n))
    assert sum(p.values()) == pytest.approx(1, abs=0.1), "most tokens came up"


def test_the_penalty_counts_the_response_and_not_the_prompt(endless_policy: Policy) -> None:
    # a penalty beyond all differences of this model: no token comes twice, but those of the prompt can still be said
    (prompt,) = asked(endless_policy, "What is the area of a triangle?")
    (ids,) = said(endless_policy, [prompt], Sampling(30, 0.0, presence_penalty=2.0), [0])
    assert len(set(ids)) == len(ids) == 30
    assert set(ids) & set(prompt.token_ids.tolist())
    (free,) = said(endless_policy, [prompt], Sampling(30, 0.0), [0])
    assert len(set(free)) < 30


@pytest.mark.parametrize("room", [1, 7, 64])
def test_a_response_does_not_depend_on_the_room_it_was_given_at_first(endless_policy, monkeypatch, room) -> None:
    prompts, sampling = asked(endless_policy, "a", "1 + 1 =", "four"), Sampling(70)
    enough = said(endless_policy, prompts, sampling, [1, 2, 3])
    monkeypatch.setattr(local_engine, "ROOM", room)
    assert said(endless_policy, prompts, sampling, [1, 2, 3]) == enough
    assert [len(ids) for ids in enough] == [70, 70, 70]


def test_a_response_goes_on_when_its_room_is_used_up(endless_policy: Policy, monkeypatch) -> None:
    prompts, n = asked(endless_policy, "a", "1 + 1 ="), local_engine.ROOM + 10
    grown = said(endless_policy, prompts, Sampling(n, presence_penalty=0.5), [1, 2])
    assert [len(ids) for ids in grown] == [n, n]
    monkeypatch.setattr(local_engine, "ROOM", 2 * n)
    assert said(endless_policy, prompts, Sampling(n, presence_penalty=0.5), [1, 2]) == grown


def test_rows_that_end_while_the_room_grows_leave_the_others_alone(random_policy: Policy, monkeypatch) -> None:
    prompts, seeds, sampling = asked(random_policy, *"abcdefgh"), list(range(8)), Sampling(90)
    enough = said(random_policy, prompts, sampling, seeds)
    assert len({len(ids) for ids in enough}) > 4, "they should end at different steps"
    monkeypatch.setattr(local_engine, "ROOM", 5)
    assert said(random_policy, prompts, sampling, seeds) == enough


def test_each_response_is_cut_where_its_own_context_ends(endless_policy: Policy) -> None:
    prompts = asked(endless_policy, "1", "1" * 6)
    n = [len(p.token_ids) for p in prompts]
    setattr(endless_policy.base.config.text_config, LIMIT, max(n) + 9)
    whole = dict(LocalEngine(endless_policy).responses(prompts, Sampling(100), [1, 2]))
    assert [len(whole[i].token_ids) for i in (0, 1)] == [14, 9]
    assert whole[0].is_truncated
    assert whole[1].is_truncated
    limited = said(endless_policy, prompts, Sampling(4), [1, 2])
    assert limited == [whole[i].token_ids[:4].tolist() for i in (0, 1)]


def test_responses_are_handed_out_as_they_end(random_policy: Policy) -> None:
    found = LocalEngine(random_policy).responses(asked(random_policy, *"abcdefgh"), Sampling(90), range(8))
    lengths = [len(rollout.token_ids) for _, rollout in found]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_special_tokens_are_never_answered(random_policy: Policy) -> None:
    forbidden = set(random_policy.unsampled_token_ids)
    hot = Sampling(20, temperature=50.0)
    answers = said(random_policy, asked(random_policy, "?") * 30, hot, list(range(30)))
    assert not forbidden & {i for ids in answers for i in ids}
