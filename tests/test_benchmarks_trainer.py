"""The comparison with TRL: both sides do the same work, and what is printed follows from what was measured."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from benchmarks.miniature import FIRST_WORD, Size
from benchmarks.trainer import METHODS, measure_ours, ratios, stages
from benchmarks.words import SPELLING, Meter, Parity, StepCost, Work, build_tokenizer, reward_of
from core.credit import group_advantages
from core.run import build_trainer
from core.scoring import Sheaf
from core.surrogate import aggregate, clipped_surrogate

TINY = Work(
    Size(vocabulary=128, hidden=128, layers=2, vision_hidden=32, vision_layers=1),
    image_tokens=16,
    problems=2,
    group_size=4,
    response_tokens=12,
    question_words=6,
    max_grad_norm=1e9,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    TINY.write(folder, steps=2)
    return folder


def cost(seconds: float, encodes: int = 8, is_mixed: bool = True, **stages: float) -> StepCost:
    return StepCost(seconds, stages, encodes, 64.0, is_mixed)


def test_ratios_are_of_medians_over_steps_whose_groups_are_all_mixed() -> None:
    found = {
        256: {
            "trl": [cost(30), cost(34), cost(500, is_mixed=False), cost(32)],
            "trl_compact": [cost(28)],
            "grpo": [cost(4), cost(9), cost(5), cost(0.1, is_mixed=False)],
            "rlsd": [cost(6)],
            "cepo": [cost(7)],
        }
    }
    by_name = {ratio.name: ratio for ratio in ratios(found)}
    assert by_name["step_over_trl_256"].value == pytest.approx(32 / 5)
    assert by_name["step_over_trl_256"].least == pytest.approx(30 / 9)
    assert by_name["step_over_trl_256"].most == pytest.approx(34 / 4)
    assert by_name["step_over_trl_256"].is_kept
    assert by_name["step_over_trl_compact_256"].value == pytest.approx(28 / 5)
    assert by_name["cepo_over_grpo_active"].value == pytest.approx(1.4)
    assert not by_name["cepo_over_grpo_active"].is_kept
    assert by_name["rlsd_over_grpo_active"].is_kept


def test_a_step_splits_into_its_stages_and_a_rest() -> None:
    parts = stages([cost(10, rollout=4.0, backward=3.0), cost(20, rollout=6.0, backward=9.0)])
    assert parts["rollout"] == 5.0
    assert parts["backward"] == 6.0
    assert parts["teachers"] == 0.0
    assert parts["rest"] == 4.0  # (3 + 5) / 2


def test_the_reward_reads_the_ids_back_from_the_text() -> None:
    tokenizer = build_tokenizer(128, ends=False)
    for ids in ([10, 11, 127], [10, 12], [99]):
        verdict = Parity().verify(str(tokenizer.decode(ids)), "w10")
        assert verdict.is_correct == bool(reward_of(ids)) == (sum(ids) % 2 == 1)


def test_ours_encodes_each_image_once_and_samples_full_responses_of_words(folder) -> None:
    found = measure_ours(TINY, folder, steps=1, warm_up=0)
    assert tuple(found) == METHODS
    for method, steps in found.items():
        (step,) = steps
        assert step.encodes == TINY.problems
        assert step.response_tokens == TINY.response_tokens
        assert (step.stages["teachers"] > 1e-3) == (method != "grpo")
        assert all(seconds >= 0 for seconds in step.stages.values())
        assert 0 < sum(step.stages.values()) < step.seconds


def test_no_response_can_hold_a_special_token_or_end_early(folder) -> None:
    policy = build_trainer(TINY.config(folder, "grpo"), Parity()).policy
    assert policy.unsampled_token_ids == list(range(FIRST_WORD)) == list(range(len(SPELLING)))
    assert policy.end_token_id >= len(policy.head)


def test_trls_own_loss_on_its_own_samples_is_ours_and_so_are_its_gradients(folder) -> None:
    pytest.importorskip("trl")
    from benchmarks.peer import build_peer

    peer = build_peer(TINY, folder, steps=1, rows_per_pass=TINY.group_size)
    ours = build_trainer(TINY.config(folder, "grpo"), Parity())
    model: Any = peer.model
    theirs, trainable = dict(model.named_parameters()), ours.policy.trainable
    generator = torch.Generator().manual_seed(1)
    for name, parameter in trainable.items():
        assert torch.equal(parameter, theirs[name])
        if "lora_B" in name:  # 0 at first, which would leave every gradient of its partner 0
            with torch.no_grad():
                parameter.normal_(std=0.02, generator=generator)
                theirs[name].copy_(parameter)

    passes, gradients, meter = [], {}, Meter()
    loss_of, log_probs_of, backward = (
        peer._compute_loss,
        peer._get_per_token_logps_and_entropies,
        peer.accelerator.backward,
    )

    def log_probs(*args, **kwargs):
        found = log_probs_of(*args, **kwargs)
        passes.append({"log_p": found[0].detach()})
        return found

    def loss(wrapped, inputs):
        found = loss_of(wrapped, inputs)
        passes[-1] |= {"inputs": inputs, "loss": float(found.detach())}
        return found

    def accumulate(*args, **kwargs) -> None:
        backward(*args, **kwargs)
        gradients.update({name: theirs[name].grad.clone() for name in trainable})

    with (
        patch.object(peer, "_get_per_token_logps_and_entropies", log_probs),
        patch.object(peer, "_compute_loss", loss),
        patch.object(peer.accelerator, "backward", accumulate),
        meter.watching(model.get_base_model().model.visual),
    ):
        peer.train()
    assert len(passes) == TINY.problems
    assert meter.encodes == 2 * TINY.rows  # when sampling, and in the update

    total = our_loss_and_gradients(ours, passes)
    assert total == pytest.approx(sum(p["loss"] for p in passes), abs=5e-6)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    assert largest > 1e-3
    for name, parameter in trainable.items():
        assert parameter.grad is not None
        assert float((parameter.grad - gradients[name]).abs().max()) <= 1e-5 * largest


def our_loss_and_gradients(ours, passes) -> float:
    """The loss of the same update by our own prompts, rewards, advantages and loss, group by group."""
    problems = ours.problems.batch(1, TINY.problems, TINY.seed)
    prompts = ours.encode(problems, ours.policy.look([p.images for p in problems]))
    by_ids = {tuple(prompt.token_ids.tolist()): prompt for prompt in prompts}
    groups: dict[tuple[int, ...], list] = {ids: [] for ids in by_ids}
    for one in passes:
        inputs = one["inputs"]
        assert bool(inputs["completion_mask"].all())
        for row in range(len(inputs["prompt_ids"])):
            ids = tuple(inputs["prompt_ids"][row, inputs["prompt_mask"][row].bool()].tolist())
            groups[ids].append((inputs["completion_ids"][row], one["log_p"][row], inputs["advantages"][row]))
    total = 0.0
    for ids, rows in groups.items():
        responses, log_p, advantages = zip(*rows, strict=True)
        assert len(rows) == TINY.group_size
        assert all(int(response.min()) >= FIRST_WORD for response in responses)
        rewards = torch.tensor([[reward_of(response.tolist()) for response in responses]])
        own = group_advantages(rewards, floor=TINY.advantage_floor)[0]
        torch.testing.assert_close(own, torch.stack(advantages))
        flat, _ = ours.policy.score([[Sheaf(by_ids[ids], responses)]])
        new = flat.view(len(rows), -1)
        assert float((new.detach() - torch.stack(log_p)).abs().max()) <= 5e-6
        clip = {"epsilon_low": TINY.epsilon_low, "epsilon_high": TINY.epsilon_high}
        per_token = clipped_surrogate(new, new.detach(), own[:, None].expand_as(new), **clip)
        mask = torch.ones_like(new, dtype=torch.bool)
        loss = aggregate(per_token, mask, per="token", normaliser=float(TINY.rows * TINY.response_tokens))
        loss.backward()
        total += float(loss.detach())
    return total
