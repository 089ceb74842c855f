"""The local engine samples from the very distribution that the trainer scores."""

from collections.abc import Generator

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from core.engines import local_engine
from core.engines.key_values import KeyValues
from core.engines.local_engine import LocalEngine
from core.pocket import pocket_problem
from core.pocket.tokenizer import build_tokenizer
from core.policy import LORA_LAYERS, Policy
from core.prompts import Prompt, student_prompt
from core.sampling import Sampling
from core.scoring import Sheaf, pack


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


def scored_log_p(policy: Policy, prompts: list, groups: list) -> torch.Tensor:
    trees = [[Sheaf(p, tuple(r.token_ids for r in g))] for p, g in zip(prompts, groups, strict=True)]
    with torch.no_grad():
        return policy.score(trees)[0]


def sampled_log_p(groups: list) -> torch.Tensor:
    return torch.cat([r.log_p_sampler for g in groups for r in g])


def llama() -> Policy:
    config = LlamaConfig(
        vocab_size=104,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return Policy(LlamaForCausalLM(config).eval(), build_tokenizer(), None)


def with_adapters(policy: Policy) -> Policy:
    """Its model under LoRA as after some steps: both factors away from 0."""
    with torch.random.fork_rng():
        torch.random.manual_seed(1)
        model = get_peft_model(policy.model, LoraConfig(r=4, lora_alpha=8, target_modules=LORA_LAYERS))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    return Policy(model, policy.tokenizer, policy.image_processor)


def asked(policy: Policy, *texts: str) -> list:
    turns = [({"role": "user", "content": [{"type": "text", "text": text}]},) for text in texts]
    return [policy.encode(Prompt(turn), None) for turn in turns]


def with_images(policy: Policy, *counts: int) -> list:
    """Prompts with so many images each."""
    images = [pocket_problem("train", i, 0).images[0] for i in range(max(counts))]
    features = policy.look([tuple(images[:n]) for n in counts])
    turns = [({"role": "user", "content": [{"type": "image"}] * n + [{"type": "text", "text": "?"}]},) for n in counts]
    return [policy.encode(Prompt(turn), seen) for turn, seen in zip(turns, features, strict=True)]


def test_log_probs_of_the_engine_equal_the_trainers_own_forward(random_policy: Policy) -> None:
    prompts = encoded(random_policy, 3)
    groups = LocalEngine(random_policy).rollouts(prompts, 4, 24, 1.0, seed=1)
    assert (scored_log_p(random_policy, prompts, groups) - sampled_log_p(groups)).abs().max() < 2e-5


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


@pytest.mark.parametrize("compact_below", [0.0, 0.75, 1.0])
def test_log_probs_stay_the_trainers_own_while_rows_of_uneven_groups_end(
    random_policy: Policy, monkeypatch, compact_below
) -> None:
    monkeypatch.setattr(local_engine, "COMPACT_BELOW", compact_below)
    monkeypatch.setattr(local_engine, "ROOM", 3)
    prompts = encoded(random_policy, 3)
    groups = LocalEngine(random_policy).rollouts(prompts, 5, 60, 1.0, seed=1)
    lengths = [[len(r.token_ids) for r in g] for g in groups]
    assert len({sum(n > 30 for n in g) for g in lengths}) > 1, "groups should shrink unevenly"
    assert (scored_log_p(random_policy, prompts, groups) - sampled_log_p(groups)).abs().max() < 2e-5


def test_log_probs_are_the_trainers_own_for_a_text_model_and_for_any_number_of_images(random_policy: Policy) -> None:
    text = llama()
    for policy, prompts in (
        (text, asked(text, "1 + 1", "What is the area of a triangle?")),
        (random_policy, with_images(random_policy, 2, 0, 1)),
    ):
        groups = LocalEngine(policy).rollouts(prompts, 3, 12, 0.7, seed=4)
        policy.temperature = 0.7
        assert (scored_log_p(policy, prompts, groups) - sampled_log_p(groups)).abs().max() < 2e-5


@pytest.mark.parametrize("sees_images", [True, False])
def test_merged_adapters_sample_what_the_unmerged_ones_score(random_policy: Policy, sees_images) -> None:
    policy = with_adapters(random_policy if sees_images else llama())
    prompts = encoded(policy, 2) if sees_images else asked(policy, "a", "1 + 1")
    groups = LocalEngine(policy).rollouts(prompts, 3, 16, 1.0, seed=2)
    sampled = sampled_log_p(groups)
    assert (scored_log_p(policy, prompts, groups) - sampled).abs().max() < 2e-5
    with policy.model.disable_adapter():
        assert (scored_log_p(policy, prompts, groups) - sampled).abs().max() > 1e-2, "the adapters should matter"


def test_sampling_leaves_weights_and_adapters_as_they_were_bit_for_bit(random_policy: Policy) -> None:
    policy = with_adapters(random_policy)
    prompts, engine = asked(policy, "a", "b", "c"), LocalEngine(policy)
    held = {name: (p.data_ptr(), p.detach().clone()) for name, p in policy.model.named_parameters()}
    ids = engine.rollouts(prompts, 1, 1, 1.0, seed=0)
    before = scored_log_p(policy, prompts, ids)

    def is_unchanged() -> bool:
        now = policy.model.named_parameters()
        same = all(p.data_ptr() == held[name][0] and torch.equal(p, held[name][1]) for name, p in now)
        return same and torch.equal(scored_log_p(policy, prompts, ids), before)

    engine.rollouts(prompts, 2, 8, 1.0, seed=0)
    assert is_unchanged()
    answers = engine.responses(prompts, Sampling(64), [1, 2, 3])
    assert isinstance(answers, Generator)
    next(answers)
    assert not is_unchanged(), "the adapters should be merged while there is more to come"
    answers.close()
    assert is_unchanged()
    with pytest.raises(ZeroDivisionError), policy.merged(), policy.merged():
        raise ZeroDivisionError
    assert is_unchanged()


def test_responses_are_those_of_a_loop_that_computes_everything_again_for_every_token(
    random_policy: Policy, monkeypatch
) -> None:
    never = [*random_policy.unsampled_token_ids, random_policy.end_token_id]
    monkeypatch.setattr(Policy, "unsampled_token_ids", never)  # no row ends, so all of them draw at every step
    prompts, generator = encoded(random_policy, 2), torch.Generator().manual_seed(7)
    rows = [[torch.zeros(0, dtype=torch.long)] * 3 for _ in prompts]
    for step in range(9):
        next_one = torch.zeros(1, dtype=torch.long)
        trees = [[Sheaf(p, tuple(torch.cat([r, next_one]) for r in g))] for p, g in zip(prompts, rows, strict=True)]
        packed = pack(trees)
        with torch.no_grad():
            states = random_policy.hidden(packed)[packed.predicted_from][step :: step + 1]
            p = (states @ random_policy.head.T / 1.3).softmax(-1)
        p[:, never] = 0
        token = torch.multinomial(p, 1, generator=generator).split(3)
        rows = [[torch.cat([r, t]) for r, t in zip(g, ts, strict=True)] for g, ts in zip(rows, token, strict=True)]
    groups = LocalEngine(random_policy).rollouts(prompts, 3, 9, 1.3, seed=7)
    assert [[r.token_ids.tolist() for r in g] for g in groups] == [[r.tolist() for r in g] for g in rows]


KEEPS = {
    "none": [],
    "all": [range(12)],
    "evenly": [[0, 1, 4, 6, 9, 10]],
    "unevenly": [[0, 1, 2, 3, 5, 8, 9]],
    "a-whole-group": [[0, 2, 8, 9, 10, 11]],
    "again-and-again": [[0, 1, 2, 3, 5, 6, 8], [0, 3, 4, 5, 6], [3], [0]],
}
"""Which of 3 groups of 4 stay; numbered anew after each time."""


@pytest.mark.parametrize("room", [1, 3, 64])
@pytest.mark.parametrize("keeps", KEEPS.values(), ids=KEEPS)
def test_attention_is_that_of_every_row_over_its_own_prompt_and_past(keeps, room) -> None:
    generator = torch.Generator().manual_seed(0)

    def made_up(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    lengths, heads, size = (5, 2, 7), 2, 6
    prompt = [made_up(heads, sum(lengths), size) for _ in range(2)]
    held = [prompt[0].split(lengths, 1), prompt[1].split(lengths, 1)]
    past = [[held[i][row // 4] for row in range(12)] for i in range(2)]
    key_values = KeyValues([prompt[0]], [prompt[1]], lengths, 4, room)
    for step in range(9):
        if step % 2 and step // 2 < len(keeps):
            keep = torch.zeros(len(past[0]), dtype=torch.bool)
            keep[list(keeps[step // 2])] = True
            key_values.keep(keep)
            past = [[states[row] for row in keeps[step // 2]] for states in past]
        rows = len(past[0])
        query, *new = made_up(rows, 3 * heads, 1, size), made_up(rows, heads, 1, size), made_up(rows, heads, 1, size)
        past = [[torch.cat([a, b], 1) for a, b in zip(*both, strict=True)] for both in zip(past, new, strict=True)]
        key_values.begin_token()
        found = key_values.attend(0, query, new[0], new[1], 0.3)
        for row in range(rows):
            k, v = past[0][row][None], past[1][row][None]
            expected = F.scaled_dot_product_attention(query[row : row + 1], k, v, scale=0.3, enable_gqa=True)
            torch.testing.assert_close(found[row : row + 1], expected.transpose(1, 2), atol=1e-12, rtol=0)


@pytest.mark.parametrize("group_size", [1, 16])
def test_a_prompt_is_held_once_and_responses_have_no_more_room_than_they_need(group_size: int) -> None:
    prompts = [torch.zeros(2, 9, 4)]
    key_values = KeyValues(prompts, prompts, (5, 4), group_size, room=3)
    assert key_values.prompt_keys[0].shape == key_values.prompt_values[0].shape == (2, 2, 5, 4)
    for tokens, room in ((3, 3), (4, 6), (6, 6), (7, 12)):
        while key_values.length < tokens:
            key_values.begin_token()
        assert key_values.keys[0].shape == key_values.values[0].shape == (2, 2 * group_size, room, 4)
    key_values.keep(torch.arange(2 * group_size) == 0)
    assert key_values.prompt_keys[0].shape == (2, 1, 5, 4)
    assert key_values.values[0].shape == (2, 1, 12, 4)
