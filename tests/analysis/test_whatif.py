"""What if: recorded tokens credited again give what was stored, and the relations between the methods."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import tokens, whatif
from analysis.recredit import recredit, rule_at
from analysis.store import RunFile, Store
from core.methods import CEPO, Evidence

FILES = Store(Path("no such folder")).files()


def rollout_of(method: str, step: int = 1) -> tokens.Rollout:
    """The rollout a step of an example run opens at."""
    run = FILES[f"example/{method}"]
    return tokens.read_rollout(run, step)


@pytest.mark.parametrize("step", [1, 5, 12])
@pytest.mark.parametrize("method", ["grpo", "rlsd", "cepo"])
def test_what_the_trainer_stored_is_what_is_recomputed(method: str, step: int) -> None:
    run: RunFile = FILES[f"example/{method}"]
    for index in range(32):
        rollout = tokens.read_rollout(run, step, index)
        check = whatif.stored_is_recomputed(rollout.tokens, rollout.advantage, method, rollout.lam, rollout.epsilon_w)
        assert check.holds, check.sentence
        assert whatif.sign_anchored(rollout.tokens, rollout.advantage).holds


@pytest.mark.parametrize("column", ["delta", "weight", "clipped", "token_advantage"])
def test_one_number_altered_is_noticed(column: str) -> None:
    rollout = rollout_of("cepo")
    altered = getattr(rollout.tokens, column).copy()
    altered[7] += 1
    changed = replace(rollout.tokens, **{column: altered})
    check = whatif.stored_is_recomputed(changed, rollout.advantage, "cepo", rollout.lam, rollout.epsilon_w)
    assert check.holds is False
    assert "differ by up to" in check.sentence


def test_a_token_turned_around_is_noticed() -> None:
    rollout = rollout_of("cepo")
    turned = rollout.tokens.token_advantage.copy()
    turned[3] *= -1
    check = whatif.sign_anchored(replace(rollout.tokens, token_advantage=turned), rollout.advantage)
    assert check.holds is False
    assert check.sentence.startswith("1 of ")


@pytest.mark.parametrize("method", ["opsd", "sdpo"])
def test_a_method_that_matches_distributions_has_no_credit_to_check(method: str) -> None:
    rollout = rollout_of(method)
    assert whatif.sign_anchored(rollout.tokens, rollout.advantage).holds is None
    assert whatif.stored_is_recomputed(rollout.tokens, rollout.advantage, method, None, None).holds is None
    assert rule_at(method, 0.5, 0.5) is None


def test_without_a_wrong_answer_cepo_is_rlsd_and_with_the_right_one_it_is_grpo() -> None:
    rollout = rollout_of("cepo")
    advantages = torch.full((1,), rollout.advantage)

    def credited(method: str, alternative: whatif.Alternative) -> torch.Tensor:
        changed = whatif.with_wrong_hint(rollout.tokens, alternative)
        columns = (changed.log_p_student, changed.log_p_correct, changed.log_p_wrong)
        given = recredit(method, advantages, Evidence(*(torch.tensor(c)[None] for c in columns)), 0.5, 0.5)
        assert given is not None
        return given.token_advantages

    assert torch.equal(credited("cepo", "none"), credited("rlsd", "recorded"))
    assert torch.equal(credited("cepo", "right"), credited("grpo", "recorded"))
    assert not torch.equal(credited("cepo", "recorded"), credited("rlsd", "recorded"))


def test_a_step_is_credited_again_as_its_rollouts_are() -> None:
    run = FILES["example/cepo"]
    frame = tokens.step_tokens(run, 2)
    again = whatif.recredit_frame(frame, "cepo", 0.3, 0.2)
    rule = CEPO(lambda_0=0.3, schedule="constant", epsilon_w=0.2)
    for index in (0, 17):
        rollout = tokens.read_rollout(run, 2, index)
        columns = (rollout.tokens.log_p_student, rollout.tokens.log_p_correct, rollout.tokens.log_p_wrong)
        evidence = Evidence(*(torch.tensor(c)[None] for c in columns))
        given = rule.credit(torch.tensor([rollout.advantage], dtype=torch.float32), evidence, 1)
        own = again[(again.group_id == rollout.group_id) & (again.rollout_id == rollout.rollout_id)]
        assert np.array_equal(own.token_advantage.to_numpy(), given.token_advantages[0].numpy())
        assert given.clipped is not None
        assert np.array_equal(own.clipped.to_numpy(), given.clipped[0].numpy())


def test_the_whole_step_at_its_own_parameters_is_what_was_stored() -> None:
    run = FILES["example/rlsd"]
    lam = run.steps().lam[0]
    frame = tokens.step_tokens(run, 1)
    again = whatif.recredit_frame(frame, "rlsd", lam, 0.5)
    pd.testing.assert_series_equal(again.token_advantage, frame.token_advantage, rtol=1e-6)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method must be one of grpo, opsd, sdpo, rlsd, cepo, got 'ppo'"):
        rule_at("ppo", 0.5, 0.5)


def test_what_a_group_without_a_wrong_answer_does_is_read_from_the_configuration() -> None:
    info = FILES["example/cepo"].info()
    assert whatif.fallback_of(info) == "rlsd"
    released = replace(info, config=info.config.replace('"empty_wrong": "rlsd"', '"empty_wrong": "grpo"'))
    assert whatif.fallback_of(released) == "grpo"
