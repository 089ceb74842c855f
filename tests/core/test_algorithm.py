"""Algorithm 1 on the pocket base: one loop, five methods, and a record of what was really used."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from core import credit
from core.config import RecordConfig, TrainConfig, default_config
from core.methods import CEPO, METHODS, TeacherSource
from core.run import build_trainer
from core.schema import StepRecord
from core.verifier import Verifier


def small(method_name: str, /, **changes: Any) -> TrainConfig:
    """The pocket configuration with fewer and shorter rollouts."""
    config = default_config(method_name)
    rollouts = dataclasses.replace(config.rollouts, problems_per_step=4, group_size=4)
    validation = dataclasses.replace(config.validation, problems=8)
    base = {"rollouts": rollouts, "validation": validation, "steps": 4}
    return dataclasses.replace(config, **(base | changes))


def trained(config: TrainConfig, steps: int = 1):
    """The trainer after some steps, and their records."""
    with Verifier() as verifier:
        trainer = build_trainer(config, verifier)
        before = {n: p.detach().clone() for n, p in trainer.policy.model.named_parameters()}
        return trainer, before, [trainer.step(s) for s in range(1, steps + 1)]


@pytest.fixture(scope="module", params=METHODS)
def first_step(request):
    """A method's name, its trainer after one step, the weights before it, and its record."""
    trainer, before, (record,) = trained(small(request.param))
    return request.param, trainer, before, record


def test_a_step_of_each_method_trains_the_language_model_and_nothing_else(first_step) -> None:
    _, trainer, before, record = first_step
    changed = {n for n, p in trainer.policy.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert changed <= set(trainer.policy.trainable)
    assert not any("visual" in name for name in changed)
    assert record.step.grad_norm > 0
    assert record.step.n_rollouts == len(record.rollouts) == 16
    assert record.step.n_tokens == len(record.tokens) == sum(r.n_tokens for r in record.rollouts)


def test_every_method_leaves_both_teachers_evidence_behind(first_step) -> None:
    method, _, _, record = first_step
    for column in ("log_p_sampler", "log_p_student", "log_p_correct", "log_p_wrong"):
        values = getattr(record.tokens, column)
        assert (values <= 1e-6).all(), column
    assert np.abs(record.tokens.log_p_student - record.tokens.log_p_sampler).max() < 1e-4
    has_delta = method in ("rlsd", "cepo")
    assert (record.tokens.delta is not None) == has_delta
    assert (record.tokens.divergence is not None) == (method in ("opsd", "sdpo"))
    assert (record.tokens.token_advantage is not None) == (method in ("grpo", "rlsd", "cepo"))
    assert (record.step.delta_positive is not None) == has_delta
    assert (record.step.seconds_teacher > 1e-3) == (method != "grpo")


@pytest.mark.parametrize("method", ["rlsd", "cepo"])
def test_what_is_stored_is_what_the_equations_give(method: str) -> None:
    config = small(method)
    _, _, records = trained(config, steps=2)
    for record in records:
        tokens = record.tokens
        advantage = {(r.group_id, r.rollout_id): r.advantage for r in record.rollouts}
        per_token = torch.tensor([advantage[g, i] for g, i in zip(tokens.group_id, tokens.rollout_id, strict=True)])
        against = tokens.log_p_wrong if method == "cepo" else tokens.log_p_student
        delta = credit.evidence_delta(torch.tensor(tokens.log_p_correct), torch.tensor(against))
        weight = credit.evidence_weight(delta, per_token)
        expected = credit.modulate(per_token, weight, record.step.lam, record.step.epsilon_w)
        assert np.allclose(tokens.delta, delta, atol=1e-6)
        assert np.allclose(tokens.weight, weight, atol=1e-6)
        assert np.array_equal(tokens.clipped, credit.clip_flags(weight, record.step.epsilon_w))
        assert np.allclose(tokens.token_advantage, expected, atol=1e-6)


def test_cepo_at_lambda_zero_is_grpo_bit_for_bit() -> None:
    config = small("cepo")
    grpo = small("grpo", method=METHODS["grpo"](learning_rate=config.method.learning_rate))
    cepo = dataclasses.replace(config, method=dataclasses.replace(config.method, lambda_0=0.0))
    (one, _, _), (other, _, _) = trained(grpo, steps=2), trained(cepo, steps=2)
    for name, parameter in one.policy.trainable.items():
        assert torch.equal(parameter, other.policy.trainable[name]), name


def test_recording_all_evidence_does_not_change_what_is_trained() -> None:
    config = small("cepo")
    used = dataclasses.replace(config, record=RecordConfig(evidence="used"))
    (one, _, _), (other, _, (record, _)) = trained(config, steps=2), trained(used, steps=2)
    for name, parameter in one.policy.trainable.items():
        assert torch.allclose(parameter, other.policy.trainable[name], atol=1e-6), name
    dead = [r.group_id for r in record.rollouts if r.advantage == 0]
    scored = ~np.isnan(record.tokens.log_p_correct)
    assert not scored[np.isin(record.tokens.group_id, dead)].any()


def test_evidence_is_probed_after_lambda_reached_zero_without_touching_the_update() -> None:
    method = CEPO(warmup_steps=1, learning_rate=1e-4, teacher_style="sample_answer")
    config = small("cepo", method=method, record=RecordConfig(evidence="used", probe_every=2))
    _, _, records = trained(config, steps=4)
    assert [r.step.lam > 0 for r in records] == [True, False, False, False]
    assert [r.step.delta_positive is not None for r in records] == [True, True, False, True]
    for record in records[1:]:
        advantage = {(r.group_id, r.rollout_id): r.advantage for r in record.rollouts}
        expected = [advantage[k] for k in zip(record.tokens.group_id, record.tokens.rollout_id, strict=True)]
        assert np.array_equal(record.tokens.token_advantage, np.array(expected, np.float32))


def test_a_group_without_a_wrong_hint_is_credited_as_rlsd() -> None:
    _, _, (record,) = trained(small("cepo"))
    fallback = [g.group_id for g in record.groups if g.fallback]
    rows = np.isin(record.tokens.group_id, fallback)
    assert np.array_equal(record.tokens.log_p_wrong[rows], record.tokens.log_p_student[rows])
    assert record.step.fallback_share == len(fallback) / len(record.groups)


def test_teachers_of_another_source_give_other_evidence_once_the_policy_has_moved() -> None:
    config = small("cepo")
    steps = {}
    for kind in ("actor", "reference"):
        method = dataclasses.replace(config.method, teacher=TeacherSource(kind), learning_rate=1e-3)
        _, _, steps[kind] = trained(dataclasses.replace(config, method=method), steps=2)
    first, second = zip(steps["actor"], steps["reference"], strict=True)
    assert np.allclose(first[0].tokens.log_p_correct, first[1].tokens.log_p_correct, atol=1e-5)
    assert len(second[0].tokens) != len(second[1].tokens) or not np.allclose(
        second[0].tokens.log_p_correct, second[1].tokens.log_p_correct, atol=1e-3
    )


def test_lora_trains_the_adapters_alone() -> None:
    config = small("cepo")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, tuning="lora", lora_rank=4))
    trainer, before, _ = trained(config)
    changed = {n for n, p in trainer.policy.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora_" in name and "visual" not in name for name in changed)


def test_the_same_seed_gives_the_same_record_and_another_seed_another() -> None:
    def texts(record: StepRecord) -> list[str]:
        return [r.response for r in record.rollouts]

    records = [trained(small("grpo", seed=seed))[2][0] for seed in (0, 0, 1)]
    assert texts(records[0]) == texts(records[1]) != texts(records[2])
    assert records[0].step.loss == records[1].step.loss


def test_a_prompt_longer_than_the_limit_is_refused_by_name() -> None:
    config = small("grpo")
    config = dataclasses.replace(config, problems=dataclasses.replace(config.problems, max_prompt_tokens=20))
    with pytest.raises(ValueError, match=r"problem 'pocket.*prompt has \d+ tokens.*max_prompt_tokens is 20"):
        trained(config)


def test_the_mean_divergence_is_over_the_tokens_that_have_a_teacher() -> None:
    # a response that is its group's only right one has no peer's solution to be told
    _, _, records = trained(small("sdpo"), steps=3)
    gaps = 0
    for record in records:
        divergence = record.tokens.divergence
        assert divergence is not None
        told = divergence[~np.isnan(divergence)]
        gaps += len(divergence) - len(told)
        assert record.step.divergence_mean == pytest.approx(told.mean(), rel=1e-4)
    assert gaps, "every token had a teacher, so nothing was tested"
