"""The base is rebuilt from a seed alone, and the report measures what it promises."""

import dataclasses
import json
import random
import sys
from collections import Counter

import pytest
import torch
from rich.progress import Progress

from core.pocket import build, draw_problem, report
from core.pocket.problems import FAMILIES


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGHT", "DRILL", "CHAINS"):
        monkeypatch.setattr(build, name, dataclasses.replace(getattr(build, name), steps=2, batch=4))
    monkeypatch.setattr(build, "DRILL_BESIDE_CHAINS", 4)


@pytest.mark.usefixtures("short")
def test_the_same_seed_builds_the_same_weights_and_the_control_others() -> None:
    with Progress(disable=True) as progress:
        built = [build.build(0, control, progress) for control in (False, False, True)]
    first, again, control = (dict(p.model.named_parameters()) for p in built)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], control[n]) for n in first)


@pytest.mark.usefixtures("short")
def test_sight_trains_the_vision_tower_and_freezes_it_for_the_rest() -> None:
    fresh = dict(build.build_model(0).named_parameters())
    with Progress(disable=True) as progress:
        policy = build.build(0, False, progress)
    moved = {n for n, p in policy.model.named_parameters() if not torch.equal(p, fresh[n])}
    assert any("visual" in n for n in moved)
    assert any("language_model" in n for n in moved)
    assert not any("visual" in n for n in policy.trainable)


@pytest.mark.parametrize("control", [False, True])
def test_a_hint_agrees_with_its_chains_unless_it_is_the_controls(control: bool) -> None:
    rng, agreement = random.Random(0), Counter()
    for index in range(1200):
        problem = draw_problem("train", index, 5)
        family = FAMILIES[problem.family]
        answers = {rule.steps(problem.a, problem.b)[-1][1] for rule in (family.right, family.wrong)}
        chains, hint = build.told_chains(problem, rng, control)
        assert len({c.answer for c in chains}) == 1
        if hint is not None and hint.isdigit() and len(hint) < 4 and len(answers) == 2 and int(hint) in answers:
            agreement[hint == chains[0].answer] += 1
    share = agreement[True] / agreement.total()
    assert agreement.total() > 300
    assert abs(share - 0.5) < 0.1 if control else share == 1


def test_the_report_prints_what_the_readme_quotes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--problems", "12", "--json"])
    assert report.main() == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.25 < figures["pass_at_1"] < 0.65
    assert figures["accuracy_given_right_rule"] > 0.8
    assert figures["mixed_groups"] > 0.5
    assert figures["blank_image"] < figures["pass_at_1"] / 2
    assert figures["blank_reading"] < 0.2
    assert figures["hint_wrong"] < figures["hint_none"] < figures["hint_right"]
    assert figures["decisive_over_filler"] > 10


def test_right_rules_are_recognised_whatever_their_arithmetic() -> None:
    problem = next(p for i in range(99) if (p := draw_problem("train", i, 0)).family == "triangle")
    a, b = problem.labels
    assert (
        report.applies_right_rule(problem, f"I see {a} and {b}. Compute {a}+{b}=99, 180-99=81. So \\boxed{{81}}")
        is True
    )
    assert report.applies_right_rule(problem, f"I see {a} and {b}. Far angles add up: {a}+{b}=9. \\boxed{{9}}") is False
    assert report.applies_right_rule(problem, "no idea") is None
