"""The Runs page without a browser: what it shows for an address, and a sentence for whatever is not there."""

import json
import os
import runpy
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from analysis.catalogue import EXHIBITS
from analysis.curves import View
from app.runs_address import RunsAddress, parse, to_parameters

ROOT = Path(__file__).parents[2]
made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("run_files.py")), run_name="run_files"))

Open = Callable[..., AppTest]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """A folder of runs, empty yet."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def opened(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the page at an address."""
    monkeypatch.setattr(sys, "argv", ["main.py", "--runs-dir", str(runs_dir)])

    def at(**parameters: str) -> AppTest:
        page = AppTest.from_file(str(ROOT / "app" / "views" / "runs.py"), default_timeout=60)
        for name, value in parameters.items():
            page.query_params[name] = value
        return page.run()

    return at


def said(page: AppTest) -> str:
    """Every sentence on the page."""
    assert not page.exception
    kinds = (page.info, page.error, page.warning, page.caption, page.code, page.text)
    own = [element.proto.body for element in page.get("html")]
    return "\n".join([element.value for kind in kinds for element in kind] + own)


def charts(page: AppTest) -> dict[str, dict]:
    """The figures by the title they carry."""
    assert not page.exception
    figures = [json.loads(chart.proto.spec) for chart in page.get("plotly_chart")]
    return {figure["layout"]["title"]["text"].partition(":")[0]: figure for figure in figures}


def shown(page: AppTest) -> list[str]:
    """The runs that are chosen."""
    return page.multiselect(key="runs shown").value


def test_an_empty_folder_says_what_was_searched_and_how_to_train_and_shows_the_example(opened, runs_dir) -> None:
    page = opened()
    assert "No runs yet. Train one; until then, this is the recorded example" in said(page)
    assert "python -m core.train" in said(page)
    assert f"Searched: {runs_dir.resolve()}/*/run.duckdb" in said(page)
    assert len(shown(page)) == 5
    assert set(charts(page)) == {exhibit.title for exhibit in EXHIBITS.values()} - {"Seconds by stage"} | {
        "Seconds a step, by stage"
    }


def test_the_newest_folder_is_shown_at_most_eight_and_the_url_stays_empty(opened, runs_dir) -> None:
    for i in range(10):
        path = made_up.write(runs_dir / "demo", made_up.MadeUp(f"cepo-{i}", seed=i, steps=1, steps_planned=1))
        os.utime(path, (1000 + i, 1000 + i))
    elsewhere = made_up.write(runs_dir, made_up.MadeUp("elsewhere", steps=1, steps_planned=1))
    os.utime(elsewhere, (1005, 1005))
    page = opened()
    assert sorted(shown(page)) == [f"demo/cepo-{i}" for i in range(2, 10)]
    assert "runs" not in page.query_params


def test_the_address_chooses_runs_and_view(opened, runs_dir) -> None:
    for name in ("cepo", "rlsd"):
        made_up.write(runs_dir, made_up.MadeUp(name, name))
    page = opened(runs="rlsd", x="tokens", tau="0.25", sign="negative", weighting="rollouts", delta="cepo")
    assert shown(page) == ["rlsd"]
    fractions = charts(page)["Δ fractions"]
    assert fractions["layout"]["title"]["text"] == "Δ fractions: Δ by CEPO, rollouts with A < 0"
    assert {unescape(note["text"]) for note in fractions["layout"]["annotations"]} == {"Δ > 0.25", "Δ < −0.25"}
    assert charts(page)["Reward"]["layout"]["xaxis"]["title"]["text"] == "sampled tokens"
    assert page.query_params["tau"] == "0.25"


def test_a_changed_control_is_written_into_the_address(opened, runs_dir) -> None:
    for name in ("cepo", "rlsd"):
        made_up.write(runs_dir, made_up.MadeUp(name, name))
    page = opened()
    page.multiselect(key="runs shown").set_value(["cepo"])
    page.number_input(key="tau").set_value(0.1)
    page.run()
    assert page.query_params["runs"] == "cepo"
    assert page.query_params["tau"] == "0.1"
    page.multiselect(key="runs shown").set_value([]).run()
    assert "No run is chosen" in said(page)
    assert not page.get("plotly_chart")


def test_what_the_address_names_and_is_not_there_leaves_a_notice_and_the_default(opened, runs_dir) -> None:
    made_up.write(runs_dir, made_up.MadeUp("cepo"))
    page = opened(runs="<b>gone</b>", x="miles", tau="nan")
    for sentence in (
        "The address names 1 run that is not among the runs found here; the newest are shown.",
        "The address names no usable “x”; the default is shown.",
        "The address names no usable “tau”; the default is shown.",
    ):
        assert sentence in said(page)
    assert "gone" not in said(page)
    assert shown(page) == ["cepo"]


def test_files_that_cannot_be_read_are_named_with_their_reason_and_the_others_shown(opened, runs_dir) -> None:
    made_up.write(runs_dir, made_up.MadeUp("cepo"))
    made_up.write_unreadable(runs_dir)
    page = opened()
    assert "4 files could not be read; all others are shown." in said(page)
    reasons = [code.value for code in page.code]
    assert sum("schema 99" in reason for reason in reasons) == 1
    assert all("\n" not in reason for reason in reasons)
    assert shown(page) == ["cepo"]


def test_only_files_that_cannot_be_read_leave_the_example(opened, runs_dir) -> None:
    (runs_dir / "a").mkdir()
    (runs_dir / "a" / "run.duckdb").write_text("nothing")
    page = opened()
    assert "1 file could not be read" in said(page)
    assert all(key.startswith("example/") for key in shown(page))


def test_a_page_of_tokens_that_is_damaged_leaves_the_curves(opened, runs_dir, monkeypatch) -> None:
    path = made_up.write(runs_dir, made_up.MadeUp("cepo"))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE vocabulary SET token_class = 'emoji'")
    page = opened()
    assert {"Reward", "Δ by token class"} <= set(charts(page))


def test_a_run_without_teachers_says_so_in_its_figures(opened, runs_dir) -> None:
    made_up.write(runs_dir, made_up.MadeUp("blind", "grpo", has_teachers=False))
    for delta in ("own", "cepo"):
        page = opened(delta=delta)
        for name in ("Δ fractions", "Δ by token class"):
            notes = [note["text"] for note in charts(page)[name]["layout"]["annotations"]]
            assert any(note.startswith("no evidence recorded") for note in notes)
    assert "Proposition 1 has nothing to count" in said(page)


def test_a_silent_trainer_is_stale_and_no_timer_runs_for_it(opened, runs_dir) -> None:
    path = made_up.write(runs_dir, made_up.MadeUp("cepo"))
    made_up.abandon(path, minutes=10)
    page = opened()
    assert "▲ stale, silent for 10 min" in said(page)
    assert "No sign of life for 10 min after step 4" in said(page)
    assert "● live" not in said(page)


def test_a_run_in_training_is_live(opened, runs_dir) -> None:
    with made_up.begin(runs_dir / "live", made_up.LIVE) as recorder:
        recorder.write(made_up.LIVE.record(1))
        recorder.flush()
        page = opened()
        assert "● live" in said(page)
        assert "1/40" in said(page)


def test_a_run_that_has_only_begun_has_no_step_and_no_fault(opened, runs_dir) -> None:
    with made_up.begin(runs_dir / "live", made_up.LIVE) as recorder:
        recorder.flush()
        page = opened()
        notes = [note["text"] for note in charts(page)["Reward"]["layout"]["annotations"]]
        assert notes == ["no step recorded yet"]


def test_hostile_names_and_texts_are_shown_as_they_stand(opened, runs_dir) -> None:
    evil = made_up.MadeUp("a<img src=x onerror=x>:red[b]", text=made_up.HOSTILE_TEXT, prompts=(made_up.HOSTILE_PROMPT,))
    made_up.write(runs_dir, evil)
    page = opened()
    bodies = "\n".join(element.proto.body for element in page.get("html"))
    assert "&lt;img" in bodies
    assert "<img" not in bodies
    assert "<script" not in bodies
    markdown = "\n".join(element.value for element in page.markdown)
    assert "onerror" not in markdown
    assert all("<img" not in json.dumps(figure["data"]).replace(evil.run_id, "") for figure in charts(page).values())


def test_the_button_opens_tokens_at_the_run_and_step(opened, runs_dir) -> None:
    made_up.write(runs_dir, made_up.MadeUp("cepo"))
    page = opened()
    assert page.selectbox(key="tokens of").value == "cepo"
    assert page.number_input(key="at step of cepo").value == 4


@pytest.mark.parametrize(
    "address",
    [
        RunsAddress(),
        RunsAddress((), View(x="seconds", group_seeds=False)),
        RunsAddress(("demo/cepo", "a,b", "ä&="), View(delta="rlsd", tau=0.125, sign="positive", weighting="rollouts")),
    ],
)
def test_an_address_comes_back_as_it_went(address: RunsAddress) -> None:
    there = ["demo/cepo", "a,b", "ä&="]
    assert parse(to_parameters(address), there) == (address, [])


def test_the_default_address_is_empty() -> None:
    assert to_parameters(RunsAddress()) == {}
