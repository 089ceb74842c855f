"""The optimizer's updates: schedule, exact normalisation, and gradients that are not finite."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Sequence

import pytest
import torch

from core.batch import Batch, Prompting, collate
from core.config import OptimizerConfig, SurrogateConfig
from core.engines.local_engine import LocalEngine
from core.hints import Hints
from core.methods import GRPO, OPSD, Credit, TeacherSource
from core.pocket import pocket_problem
from core.policy import Policy
from core.prompts import student_prompt
from core.rollouts import Group, Verdict
from core.teachers import TeacherWeights, TokenScores, score_student
from core.updates import Updater, UpdateStatistics, learning_rate


def test_learning_rate_warms_up_from_a_fifth_and_follows_a_cosine_to_zero() -> None:
    config = OptimizerConfig(warmup_steps=5, schedule="cosine")
    rates = [learning_rate(s, 1.0, 50, config) for s in range(1, 51)]
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert all(a >= b for a, b in itertools.pairwise(rates[5:]))
    assert 0 < rates[-1] < 0.002


def test_constant_schedule_without_warm_up_is_constant() -> None:
    config = OptimizerConfig(warmup_steps=0, schedule="constant")
    assert {learning_rate(s, 3e-4, 50, config) for s in range(1, 51)} == {3e-4}


def rolled_out(policy: Policy, groups: int = 4, group_size: int = 3) -> Batch:
    problems = [pocket_problem("train", i, 0) for i in range(groups)]
    features = policy.look([p.images for p in problems])
    prompts = [policy.encode(student_prompt(p), f) for p, f in zip(problems, features, strict=True)]
    rollouts = LocalEngine(policy).rollouts(prompts, group_size, 12, 1.0, seed=0)
    verdicts = tuple(Verdict(i == 0, True, "1") for i in range(group_size))
    rewards = tuple(float(v.is_correct) for v in verdicts)
    judged = [Group(p, r, verdicts, rewards) for p, r in zip(problems, rollouts, strict=True)]
    hint = Hints(("7",) * group_size, (None,) * group_size, "7", None, None, True)
    return collate(policy, judged, features, [hint] * groups)


def crediting(batch: Batch, advantages: torch.Tensor) -> tuple[Callable[[Sequence[int]], Credit], TokenScores]:
    """GRPO's credit of some rows, and the scores it reads."""
    scores = TokenScores.blank(batch)
    return lambda rows: GRPO().credit(advantages[rows], scores.evidence(rows), 1), scores


def updated(
    policy: Policy, batch: Batch, groups_per_micro_batch: int, per: str, method: str
) -> dict[str, torch.Tensor]:
    """The gradients of one update over the whole batch."""
    policy = Policy(copy.deepcopy(policy.model), policy.tokenizer, policy.image_processor)
    optimizer = torch.optim.SGD(policy.trainable.values(), lr=0.0)
    config = OptimizerConfig(updates_per_step=1, groups_per_micro_batch=groups_per_micro_batch, max_grad_norm=1e9)
    updater = Updater(policy, optimizer, config, SurrogateConfig(per=per))
    statistics = UpdateStatistics(0.0)
    if method == "opsd":
        weights = TeacherWeights(TeacherSource("reference"), policy)
        prompting, scores = Prompting("sample_answer", True), TokenScores.blank(batch)
        updater.match_teacher(batch, OPSD(), weights, prompting, scores, statistics)
    else:
        advantages = torch.tensor([1.0, -0.5, -0.5] * 4)
        updater.follow_advantages(batch, range(4), *crediting(batch, advantages), statistics)
    return {n: p.grad.clone() for n, p in policy.trainable.items()}


@pytest.mark.parametrize("per", ["token", "sequence"])
@pytest.mark.parametrize("method", ["grpo", "opsd"])
def test_the_update_does_not_depend_on_the_micro_batch_size(random_policy: Policy, per: str, method: str) -> None:
    batch = rolled_out(random_policy)
    whole = updated(random_policy, batch, 4, per, method)
    pieces = updated(random_policy, batch, 1, per, method)
    assert max(float(g.abs().max()) for g in whole.values()) > 1e-6
    for name, gradient in whole.items():
        assert torch.allclose(gradient, pieces[name], atol=2e-6), name


def test_groups_with_zero_advantage_change_nothing(random_policy: Policy) -> None:
    batch = rolled_out(random_policy)
    gradients = []
    for dead in (0.0, 1e-30):  # left out, and computed with next to nothing
        policy = Policy(copy.deepcopy(random_policy.model), random_policy.tokenizer, random_policy.image_processor)
        optimizer = torch.optim.SGD(policy.trainable.values(), lr=0.0)
        config = OptimizerConfig(updates_per_step=1, groups_per_micro_batch=1, max_grad_norm=1e9)
        advantages = torch.tensor([1.0, -0.5, -0.5] + [dead] * 9)
        updater = Updater(policy, optimizer, config, SurrogateConfig())
        alive = range(4) if dead else range(1)
        updater.follow_advantages(batch, alive, *crediting(batch, advantages), UpdateStatistics(0.0))
        gradients.append({n: p.grad.clone() for n, p in policy.trainable.items()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-9), name


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped_and_counted(random_policy: Policy) -> None:
    batch = rolled_out(random_policy)
    before = {n: p.detach().clone() for n, p in random_policy.trainable.items()}
    optimizer = torch.optim.AdamW(random_policy.trainable.values(), lr=1e-3)
    updater = Updater(random_policy, optimizer, OptimizerConfig(updates_per_step=1), SurrogateConfig())
    statistics = UpdateStatistics(1e-3)
    updater.follow_advantages(batch, range(4), *crediting(batch, torch.full((12,), torch.nan)), statistics)
    assert statistics.grad_skipped == 1
    assert statistics.grad_norm is None
    assert all(torch.equal(p, before[n]) for n, p in random_policy.trainable.items())


def test_a_rollout_without_a_hint_has_no_divergence(random_policy: Policy) -> None:
    batch = rolled_out(random_policy)
    half = Hints(("7", None, None), (None,) * 3, "7", None, None, True)
    batch = dataclasses.replace(batch, hints=(half,) * 4)
    optimizer = torch.optim.SGD(random_policy.trainable.values(), lr=0.0)
    updater = Updater(random_policy, optimizer, OptimizerConfig(), SurrogateConfig())
    statistics = UpdateStatistics(0.0)
    weights = TeacherWeights(TeacherSource("reference"), random_policy)
    scores = TokenScores.blank(batch)
    updater.match_teacher(batch, OPSD(), weights, Prompting("sample_answer", True), scores, statistics)
    told = torch.arange(12) % 3 == 0
    assert statistics.divergence[told][batch.mask[told]].isfinite().all()
    assert statistics.divergence[~told].isnan().all()


@pytest.mark.parametrize("method", ["grpo", "opsd"])
def test_the_first_updates_forward_scores_its_groups_as_a_pass_before_it_would(
    random_policy: Policy, method: str
) -> None:
    batch = rolled_out(random_policy)
    before, during = TokenScores.blank(batch), TokenScores.blank(batch)
    score_student(random_policy, batch, range(4), before, 4)
    optimizer = torch.optim.SGD(random_policy.trainable.values(), lr=1.0)
    updater = Updater(random_policy, optimizer, OptimizerConfig(updates_per_step=2), SurrogateConfig())
    if method == "opsd":
        weights = TeacherWeights(TeacherSource("reference"), random_policy)
        updater.match_teacher(batch, OPSD(), weights, Prompting("sample_answer", True), during, UpdateStatistics(0.1))
    else:
        advantages = torch.tensor([1.0, -0.5, -0.5] * 4)
        score_student(random_policy, batch, range(2, 4), during, 4)
        credited = []

        def credit_of(rows: Sequence[int]) -> Credit:
            credited.append(during.log_p_student[rows].clone())
            return GRPO().credit(advantages[rows], during.evidence(rows), 1)

        updater.follow_advantages(batch, range(4), credit_of, during, UpdateStatistics(0.1))
        assert torch.allclose(torch.cat(credited), before.log_p_student, atol=2e-6), "credit saw other scores"
    first = batch.rows(range(2))
    assert torch.allclose(during.log_p_student[first], before.log_p_student[first], atol=2e-6)
    assert torch.allclose(during.entropy[first], before.entropy[first], atol=2e-6)
    assert (before.log_p_student[first][batch.mask[first]] < 0).all()
