"""Figure 5: which rollout is chosen, which tokens are marked, and what is said of them."""

import dataclasses
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.figures.figure5 import CHOICE, callouts, choose_rollout, figure5, figure5_caption
from analysis.heatmap import Heatmap
from analysis.store import RunFile, Store
from analysis.tokens import read_rollout, step_tokens
from core.errors import InputError
from core.recorder import Recorder

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "core" / "recorder_runs.py")))
made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_tokens.py"))))
EXAMPLES = Store(Path("no such folder")).files()


def recorded(folder: Path, sizes: dict[int, list[float]], lam: dict[int, float | None], **group: object) -> RunFile:
    """A run whose rollouts have that mean |Δ| of CEPO, by step; A is 1 and −1 in turns."""
    with Recorder.create(folder, runs.run_row(), runs.VOCABULARY) as recorder:
        for step, means in sizes.items():
            record = runs.step_record(step, n_rollouts=len(means), length=2, lam=lam[step])
            student = np.full(2 * len(means), -1, np.float32)
            wrong = student - np.repeat(means, 2).astype(np.float32) * np.tile([0.5, 1.5], len(means))
            for name, values in (("log_p_student", student), ("log_p_correct", student), ("log_p_wrong", wrong)):
                object.__setattr__(record.tokens, name, values.astype(np.float32))
            groups = [dataclasses.replace(each, **group) for each in record.groups]
            recorder.write(dataclasses.replace(record, groups=groups))
    return RunFile("a", folder / "run.duckdb")


def test_the_rollout_is_the_median_of_those_credited_while_evidence_counted(tmp_path: Path) -> None:
    sizes = {1: [0.5, 9, 0.1, 9, 0.7], 2: [0.3, 9, 0.9], 3: [0.2, 9, 0.2, 9, 0.2, 9, 0.2]}
    # with A > 0 at steps with λ > 0: 0.1, 0.3, 0.5, 0.7, 0.9
    run = recorded(tmp_path / "a", sizes, {1: 0.5, 2: 0.1, 3: 0.0})
    assert choose_rollout(run) == (1, 0)
    # one fewer, and the lower of two middle ones
    even = recorded(tmp_path / "b", {1: [0.5, 9, 0.1, 9, 0.7], 2: [0.3]}, {1: 0.5, 2: 0.1})
    assert choose_rollout(even) == (2, 0)
    # where no step has λ > 0, all are asked: 0.1, the four 0.2 of step 3 in their order, and four above
    without = recorded(tmp_path / "c", sizes, {1: None, 2: None, 3: None})
    assert choose_rollout(without) == (3, 6)


def test_equal_rollouts_stand_in_the_order_of_the_run(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", {1: [0.5, 9, 0.5], 2: [0.5, 9, 0.5, 9, 0.5]}, {1: 0.5, 2: 0.5})
    assert choose_rollout(run) == (2, 0)


def test_a_run_without_a_rollout_to_show_says_what_to_record(tmp_path: Path) -> None:
    alone = recorded(tmp_path / "a", {1: [0.5, 0.5]}, {1: 0.5}, fallback=True)
    untold = recorded(tmp_path / "b", {1: [0.0, 0.5]}, {1: 0.5})
    for run in (alone, untold):
        with pytest.raises(InputError, match="both teachers' log-probabilities, found none; record a run with"):
            choose_rollout(run)


def test_the_examples_rollout_is_the_median_of_its_tokens_read_one_by_one() -> None:
    run = EXAMPLES["example/cepo"]
    steps = run.steps()
    found = []
    for step in steps.loc[steps["lam"] > 0, "step"]:
        tokens = step_tokens(run, step)
        size = (tokens["log_p_correct"].astype(float) - tokens["log_p_wrong"]).abs()
        by = tokens.assign(size=size, told=tokens["log_p_wrong"] != tokens["log_p_student"])
        by = by.groupby(["group_id", "rollout_id"]).agg({"size": "mean", "told": "any", "advantage": "first"})
        found += [
            (row.size_, step, place)
            for place, row in enumerate(by.rename(columns={"size": "size_"}).itertuples())
            if row.advantage > 0 and row.told
        ]
    assert len(found) > 20
    assert choose_rollout(run) == sorted(found)[(len(found) - 1) // 2][1:]


def heatmap(student: list[float], correct: list[float], wrong: list[float]) -> Heatmap:
    columns = {"log_p_student": student, "log_p_correct": correct, "log_p_wrong": wrong}
    arrays = {name: np.array(values, np.float32) for name, values in columns.items()}
    return Heatmap(made_up.tokens(["a", "b", "c", "d"], **arrays), advantage=1.0)


def test_callouts_are_where_the_rules_say_and_state_both_weights() -> None:
    # Δ of RLSD: 0.1, −0.2, 3, 0; of CEPO: 0.5, −0.3, −1, 0
    view = heatmap([-1, -1, -4, 0], [-0.9, -1.2, -1, 0], [-1.4, -0.9, 0, 0])
    marks = callouts(view, ("filler", "filler", "rule", "end"))
    assert [mark.token for mark in marks] == [1, 2, 0]
    assert marks[0].text == (
        "① RLSD furthest from 1 in prose: “a[b]cd”, filler, w = 0.8187 by RLSD and w = 0.7408 by CEPO"
    )
    assert marks[1].text.startswith(
        "② CEPO's lowest weight: “ab[c]d”, choice of rule, w = 20.09 by RLSD and w = 0.3679"
    )
    assert marks[2].text.startswith("③ CEPO's highest weight: “[a]bcd”, filler, w = 1.105 by RLSD and w = 1.649")


def test_a_rule_that_finds_nothing_leaves_its_callout_out() -> None:
    even = heatmap([-1] * 4, [-1] * 4, [-1] * 4)
    assert callouts(even, ("rule",) * 4) == ()
    only_up = heatmap([-1] * 4, [-1] * 4, [-1, -1, -2, -1])
    (mark,) = callouts(only_up, ("rule",) * 4)
    assert (mark.token, mark.text[0]) == (2, "①")


@pytest.mark.parametrize(("key", "theme"), [("example/cepo", "light"), ("example/opsd", "dark")])
def test_the_drawing_holds_both_panels_with_their_clip_rates_and_callouts(key: str, theme) -> None:
    run = EXAMPLES[key]
    drawing, caption = figure5(run, theme), figure5_caption(run)
    texts = ["".join(each.itertext()) for each in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")]
    rollout = read_rollout(run, *choose_rollout(run))
    tokens = rollout.tokens
    for name, against in (("RLSD", tokens.log_p_student), ("CEPO", tokens.log_p_wrong)):
        weights = np.exp(tokens.log_p_correct - against)
        rate = 100 * ((weights > 1.5) | (weights < 0.5)).mean()
        assert any(text.startswith(f"{name}clipped {rate:.1f} %") for text in texts)
        assert f"{name} {rate:.1f} %" in caption
    for number in "①②③":
        assert texts.count(number) == 2
        assert sum(text.startswith(f"{number} ") for text in texts) == 1


def test_the_caption_states_the_rule_the_papers_rates_and_what_it_is_of() -> None:
    run = EXAMPLES["example/cepo"]
    caption, (step, place) = figure5_caption(run), choose_rollout(run)
    assert CHOICE in caption
    assert f"trained by CEPO, seed 0: step {step}, rollout {place} of 32" in caption
    assert "in the paper's rollout 71.3 % and 49.5 %" in caption
    assert caption.endswith("n = 1 rollout.")


def test_a_run_of_other_problems_is_drawn_with_whatever_a_token_may_hold(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a", {1: [0.5, 9, 0.1]}, {1: 0.5}, question="<script>\x00</svg>")
    drawing = figure5(run)
    ET.fromstring(drawing)
    assert "<script>" not in drawing
    assert "CEPO's highest weight" in figure5_caption(run)
