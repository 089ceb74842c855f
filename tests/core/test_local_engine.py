"""The local engine samples from the very distribution that the trainer scores."""

import pytest
import torch

from core.engines.local_engine import LocalEngine
from core.pocket import pocket_problem
from core.policy import Policy
from core.prompts import student_prompt
from core.scoring import Sheaf


def encoded(policy: Policy, n: int) -> list:
    """Prompts of different lengths: the question is padded with a different number of words."""
    problems = [pocket_problem("train", i, 0) for i in range(n)]
    features = policy.look([p.images for p in problems])
    prompts = []
    for i, (problem, seen) in enumerate(zip(problems, features, strict=True)):
        prompt = policy.encode(student_prompt(problem), seen)
        cut = len(prompt.token_ids) - i  # a ragged batch: drop i tokens at the end
        prompts.append(type(prompt)(prompt.token_ids[:cut], prompt.positions[:, :cut], prompt.image_positions, seen))
    return prompts


def test_log_probs_of_the_engine_equal_the_trainers_own_forward(random_policy: Policy) -> None:
    prompts = encoded(random_policy, 3)
    groups = LocalEngine(random_policy).rollouts(prompts, 4, 24, 1.0, seed=1)
    trees = [[Sheaf(p, tuple(r.token_ids for r in g))] for p, g in zip(prompts, groups, strict=True)]
    with torch.no_grad():
        scored, _ = random_policy.score(trees)
    sampled = torch.cat([r.log_p_sampler for g in groups for r in g])
    assert (scored - sampled).abs().max() < 2e-5


def test_cold_sampling_equals_greedy_generation_by_transformers(random_policy: Policy, random_model) -> None:
    prompt = encoded(random_policy, 1)[0]
    problem = pocket_problem("train", 0, 0)
    pixels = random_policy.image_processor(images=list(problem.images), return_tensors="pt")
    is_image = torch.zeros_like(prompt.token_ids)
    is_image[prompt.image_positions] = 1
    expected = random_model.generate(
        input_ids=prompt.token_ids[None],
        mm_token_type_ids=is_image[None].int(),
        **pixels,
        max_new_tokens=16,
        do_sample=False,
        suppress_tokens=random_policy.unsampled_token_ids,
    )[0, len(prompt.token_ids) :]
    ((rollout,),) = LocalEngine(random_policy).rollouts([prompt], 1, 16, 1e-4, seed=0)
    assert rollout.token_ids.tolist() == expected.tolist()[: len(rollout.token_ids)]


def test_same_seed_same_responses_and_another_seed_others(random_policy: Policy) -> None:
    prompts, engine = encoded(random_policy, 2), LocalEngine(random_policy)
    first, again, other = (engine.rollouts(prompts, 3, 16, 1.0, seed) for seed in (5, 5, 6))
    assert [r.token_ids.tolist() for g in first for r in g] == [r.token_ids.tolist() for g in again for r in g]
    assert [r.text for g in first for r in g] != [r.text for g in other for r in g]


@pytest.mark.parametrize("limit", [1, 7])
def test_responses_end_with_the_end_token_or_are_marked_truncated(random_policy: Policy, limit: int) -> None:
    end = random_policy.end_token_id
    for group in LocalEngine(random_policy).rollouts(encoded(random_policy, 3), 8, limit, 1.0, seed=2):
        for rollout in group:
            ids = rollout.token_ids.tolist()
            assert 1 <= len(ids) <= limit
            assert end not in ids[:-1]
            assert rollout.is_truncated == (ids[-1] != end)
            assert len(rollout.log_p_sampler) == len(ids)


def test_special_tokens_are_never_sampled(random_policy: Policy) -> None:
    forbidden = set(random_policy.unsampled_token_ids)
    assert random_policy.base.config.image_token_id in forbidden
    groups = LocalEngine(random_policy).rollouts(encoded(random_policy, 4), 16, 24, 5.0, seed=3)
    assert not forbidden & {int(i) for g in groups for r in g for i in r.token_ids}
