"""The Tokens page without a browser: what it shows for an address, and a sentence for whatever is not there."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from analysis.store import Store
from analysis.tokens import read_rollout, rollout_list
from core.recorder import Recorder
from core.train import main as train

ROOT = Path(__file__).parents[2]
EXAMPLE = Store(Path("no such folder")).files()
runs = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "core" / "recorder_runs.py")))

Open = Callable[..., AppTest]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the page at an address, over a folder of runs that a test may fill."""
    monkeypatch.setattr(sys, "argv", ["main.py", "--runs-dir", str(tmp_path / "runs")])

    def at(**parameters: str) -> AppTest:
        page = AppTest.from_file(str(ROOT / "app" / "views" / "tokens.py"), default_timeout=60)
        for name, value in parameters.items():
            page.query_params[name] = value
        return page.run()

    return at


def heatmap(page: AppTest) -> dict[str, Any]:
    """What the page's heatmap was given."""
    assert not page.exception
    (component,) = page.get("bidi_component")
    return json.loads(component.proto.json)


def said(page: AppTest) -> str:
    """Every sentence on the page."""
    assert not page.exception
    kinds = (page.info, page.error, page.warning, page.caption)
    return "\n".join(element.value for kind in kinds for element in kind) + facts(page)


def facts(page: AppTest) -> str:
    """The page's own HTML."""
    return "\n".join(element.proto.body for element in page.get("html"))


def test_the_first_visit_shows_the_rollout_with_the_strongest_evidence(opened: Open) -> None:
    page = opened()
    run = EXAMPLE["example/cepo"]
    rollout = read_rollout(run, 1)
    shown = heatmap(page)
    assert len(shown["pieces"]) == len(rollout.tokens)
    assert shown["advantage"] == pytest.approx(rollout.advantage)
    assert shown["state"] == {
        "eps": 0.5, "lam": 0.5, "view": "weight", "left": "rlsd", "right": "cepo", "token": None, "callouts": [],
    }  # fmt: skip
    assert rollout.hint_wrong is not None
    assert f">{rollout.hint_wrong} (from rollout" in facts(page)


def test_an_address_is_shown_as_it_says(opened: Open) -> None:
    page = opened(
        run="example/rlsd", step="3", rollout="4", tok="5", eps="0.2", lam="0.9", view="delta", left="grpo", marks="2-6"
    )
    assert heatmap(page)["state"] == {
        "eps": 0.2, "lam": 0.9, "view": "delta", "left": "grpo", "right": "cepo", "token": 5, "callouts": [[2, 6]],
    }  # fmt: skip
    assert heatmap(page)["trained"] == {"eps": 0.5, "lam": pytest.approx(0.5 * (1 - 2 / 6))}
    assert not page.info


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ({"run": "no/such"}, "The address names a run that is not here; another one is shown."),
        ({"step": "99"}, "There is no step 99 in this run; step 12 is shown."),
        ({"rollout": "99"}, "There is no rollout 99 in this run; rollout 31 is shown."),
        ({"tok": "9999"}, "This rollout has no token 9999"),
        ({"marks": "1-9999"}, "A marked region ends beyond this rollout; it is left out."),
        ({"eps": "7"}, "The address names no usable “eps”"),
        ({"run": "../../etc/passwd"}, "The address names a run that is not here; another one is shown."),
    ],
)
def test_what_an_address_asks_for_in_vain_is_told_and_the_page_stays(
    opened: Open, address: dict[str, str], sentence: str
) -> None:
    page = opened(**address)
    assert sentence in said(page)
    assert heatmap(page)["pieces"]


def test_choosing_another_run_changes_the_address_and_forgets_the_rollout(opened: Open) -> None:
    page = opened(run="example/cepo", step="2", rollout="3", eps="0.3", view="delta")
    page.selectbox(key="run").select("example/grpo").run()
    assert page.query_params["run"] == "example/grpo"
    assert page.query_params["view"] == "delta"
    assert not {"step", "rollout", "eps"} & set(page.query_params)
    assert "GRPO, seed 0" in facts(page)


def test_stepping_changes_the_address(opened: Open) -> None:
    page = opened(run="example/cepo", step="2", rollout="3")
    page.number_input(key="rollout").increment().run()
    assert page.query_params["rollout"] == "4"
    assert page.query_params["step"] == "2"


def test_what_if_there_were_no_wrong_answer_makes_both_panels_equal(opened: Open) -> None:
    evidence = heatmap(opened(run="example/cepo", wrong="none"))["evidence"]
    assert evidence["log_p_wrong"] == evidence["log_p_student"]
    recorded = heatmap(opened(run="example/cepo"))["evidence"]
    assert recorded["log_p_wrong"] != recorded["log_p_student"]


def test_a_run_file_alone_says_why_it_cannot_be_probed(opened: Open) -> None:
    page = opened(run="example/cepo", tab="What if r⁻")
    page.session_state["tab"] = "What if r⁻"
    page.run()
    assert "A free answer cannot be probed: the run has no checkpoint beside its run file" in said(page)
    assert page.button(key="probe").disabled


def test_a_run_without_steps_says_so(opened: Open, tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "runs" / "new", runs.run_row(), runs.VOCABULARY):
        page = opened(run="new")
    assert "This run has recorded no step yet" in said(page)


def test_made_up_rollouts_are_shown_and_their_broken_promise_is_noticed(opened: Open, tmp_path: Path) -> None:
    record = runs.step_record(1)
    advantage = record.tokens.log_p_student  # below 0 throughout, whatever the sign of A
    with Recorder.create(tmp_path / "runs" / "a", runs.run_row(), runs.VOCABULARY) as recorder:
        recorder.write(replace(record, tokens=replace(record.tokens, token_advantage=advantage)))
    page = opened(run="a", rollout="0")
    badges = "\n".join(element.value for element in page.markdown)
    assert "have not the sign of A" in badges
    assert "stored and recomputed numbers differ" in badges
    assert "The picture cannot be shown: it is no PNG" in said(page)


@pytest.mark.parametrize("tab", ["By token class", "Find tokens", "What if r⁻", "Rollouts", "Values", "Export"])
def test_every_tab_opens(opened: Open, tab: str) -> None:
    page = opened(run="example/cepo", step="3")
    page.session_state["tab"] = tab
    page.run()
    assert not page.exception
    assert heatmap(page)["pieces"]


def test_the_problem_stands_there_with_its_picture(opened: Open) -> None:
    page = opened(run="example/cepo", step="1", rollout="3")
    rollout = read_rollout(EXAMPLE["example/cepo"], 1, 3)
    assert not page.exception
    assert len(page.get("image")) == 1
    for fact in (rollout.question, rollout.true_answer, f"{rollout.advantage:+.4f}"):
        assert f">{fact}" in facts(page)


def test_rollouts_are_listed_and_filtered_and_one_is_opened(opened: Open) -> None:
    listed = rollout_list(EXAMPLE["example/cepo"], 2)
    page = opened(run="example/cepo", step="2")
    page.session_state["tab"] = "Rollouts"
    page.run()
    assert page.dataframe[0].value.advantage.tolist() == listed.advantage.tolist()
    page.button_group(key="kept").set_value("wrong").run()
    wrong = listed[~listed.is_correct]
    assert page.dataframe[0].value.rollout.tolist() == wrong.rollout.tolist()
    page.session_state["rollout list"] = {"selection": {"rows": [1], "columns": [], "cells": []}}
    page.run()
    assert page.query_params["rollout"] == str(wrong.rollout.iloc[1])


def test_a_run_with_its_checkpoint_is_probed_with_any_answer(opened: Open, tmp_path: Path) -> None:
    options = ["--steps", "1", "--rollouts.problems-per-step", "2", "--validation.problems", "1"]
    assert train([*options, "--runs-dir", str(tmp_path / "runs"), "--run-id", "a"]) == 0
    page = opened(run="a", rollout="0")
    page.session_state["tab"] = "What if r⁻"
    page.run()
    page.selectbox(key="probed answer").select("another answer").run()
    page.text_input(key="free answer").input("17").run()
    page.button(key="probe").click().run()
    assert not page.exception
    recorded, probed = (json.loads(component.proto.json) for component in page.get("bidi_component"))
    assert ">17</dd>" in facts(page)
    assert ">the weights saved after step 1</dd>" in facts(page)
    assert probed["pieces"] == recorded["pieces"]
    assert probed["evidence"]["log_p_wrong"] != recorded["evidence"]["log_p_wrong"]
    page.run()
    assert len(page.get("bidi_component")) == 2
    page.number_input(key="rollout").increment().run()
    assert len(page.get("bidi_component")) == 1
