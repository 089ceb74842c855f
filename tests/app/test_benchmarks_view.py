"""The page of benchmarks: own evaluations and the paper's numbers, what the address says, what a stranger wrote."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]
made_up = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "analysis" / "eval_files.py"), run_name="eval_files")
)


def page() -> None:
    import runpy  # the function runs as a script of its own

    runpy.run_module("app.views.benchmarks")


def opened(monkeypatch: pytest.MonkeyPatch, folder: Path, runs_dir: Path = Path("no runs"), **query: str) -> AppTest:
    """The page over a folder of evaluations."""
    monkeypatch.setattr("sys.argv", ["main.py", "--evals-dir", str(folder), "--runs-dir", str(runs_dir)])
    app = AppTest.from_function(page, default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


@pytest.fixture(scope="module")
def evals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evals")
    made_up.write_all(folder)
    return folder


def html(app: AppTest) -> str:
    return " ".join(each.proto.body for each in app.get("html"))


def texts(app: AppTest) -> str:
    return "\n".join(
        str(each.value) for kind in ("text", "info", "warning", "caption", "code") for each in app.get(kind)
    )


def test_without_evaluations_the_paper_is_shown_and_how_to_make_ones_own(monkeypatch, tmp_path):
    app = opened(monkeypatch, tmp_path)
    assert "python -m eval.run --tasks dynamath,logicvista,mathvision_mini,mmmu,wemath" in texts(app)
    assert str(tmp_path) in texts(app)
    assert "As the paper prints it" in app.subheader[0].value
    assert "40.05 ± 0.8 ▲" in html(app)
    assert "printed 40.05, but the mean of its row is 40.97" in texts(app)
    assert "unpaired and approximate" in html(app)
    assert "CEPO cannot be told apart from GRPO on 5 of 5 benchmarks" in texts(app)


def test_own_evaluations_come_first_and_never_share_a_table_with_the_paper(monkeypatch, evals):
    app = opened(monkeypatch, evals)
    assert [each.value for each in app.subheader] == ["Own evaluations", "Items where they differ"]
    assert "51.44" not in html(app)
    assert "3/5 tasks" in html(app)
    assert "<strong>55.70 ± 2.5 †</strong>" in html(app)
    assert "training variance not included" in texts(app)
    paper = opened(monkeypatch, evals, model="paper-4b")
    assert [each.value for each in paper.subheader] == ["As the paper prints it: Qwen3-VL-4B-Instruct"]
    assert "60.56" in html(paper)


def test_an_unreadable_file_is_named_and_the_others_are_shown(monkeypatch, evals):
    app = opened(monkeypatch, evals)
    assert "junk/eval.duckdb cannot be read as an evaluation file" in texts(app)
    assert "CEPO" in html(app)


def test_an_address_is_followed(monkeypatch, evals):
    app = opened(monkeypatch, evals, model="pocket", baseline="Base", pm="ci", unit="item", method="RLSD", task="mmmu")
    values = {each.key: each.value for each in app.selectbox}
    assert values["choice_baseline"] == "Base"
    assert values["choice_method"] == "RLSD"
    assert values["choice_task"] == "mmmu"
    assert "half-width of a 95 % interval" in html(app)
    assert "drawing items" in html(app)
    assert not [each for each in app.warning if "address" in each.value]
    assert app.query_params["baseline"] == "Base"
    assert "model" not in app.query_params, "the default stays out of the address"


@pytest.mark.parametrize("name", ["model", "baseline", "pm", "unit", "seed", "method", "task", "item", "side"])
def test_an_address_that_names_nothing_gets_a_notice_and_the_default(monkeypatch, evals, name):
    app = opened(monkeypatch, evals, **{name: "<b>none</b>"})
    assert f"The address names no usable “{name}”; the default is shown." in [each.value for each in app.warning]
    assert "Own evaluations" in [each.value for each in app.subheader]
    assert name not in app.query_params
    assert not [each for each in app.warning if "<b>" in each.value]


def test_another_model_forgets_what_belonged_to_the_last_one(monkeypatch, evals):
    app = opened(monkeypatch, evals, baseline="Base", task="mmmu")
    app.selectbox(key="choice_model").set_value("paper-2b").run()
    assert not app.exception
    assert app.selectbox(key="choice_baseline").value == "GRPO"
    assert app.query_params["model"] == "paper-2b"
    assert "baseline" not in app.query_params
    assert not [each for each in app.warning if "address" in each.value]


def test_an_item_shows_its_picture_its_question_and_both_answers(monkeypatch, evals):
    app = opened(monkeypatch, evals, task="wemath", side="lost")
    item = app.selectbox(key="choice_item").value
    number = item.removeprefix("wemath-")
    codes = [each.value for each in app.code]
    assert f"What is x in figure {number}?" in codes
    assert codes.count(f"so it is 7 {number}") == 2
    assert "no answer found" in codes
    assert any("cut at the token limit" in each.value for each in app.caption)
    assert len(app.get("image")) == 1


def test_what_a_stranger_wrote_is_never_interpreted(monkeypatch, evals):
    label = f"SDPO {made_up.HOSTILE}"
    app = opened(monkeypatch, evals, method=label, task="logicvista", side="lost")
    assert app.selectbox(key="choice_method").value == label
    assert "<script" not in html(app)
    assert "<img" not in html(app)
    assert "&lt;script&gt;" in html(app)
    assert not [each for each in app.markdown if "script" in each.value or ":red[" in each.value]
    assert not [each for each in app.caption if "script" in each.value or ":red[" in each.value]
    assert any(made_up.HOSTILE in each.value for each in app.code)


def test_the_way_to_a_recorded_training_run_is_offered_and_a_missing_one_is_named(monkeypatch, evals, tmp_path):
    (tmp_path / "cepo").mkdir()
    (tmp_path / "cepo" / "run.duckdb").touch()
    monkeypatch.setattr("sys.argv", ["main.py", "--evals-dir", str(evals), "--runs-dir", str(tmp_path)])
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)  # a link needs the menu's pages
    app.switch_page("views/benchmarks.py").run()
    assert not app.exception
    assert "The training run rlsd is not among the runs here." in texts(app)
    assert "Training run cepo" in texts(app)
    (link,) = app.get("page_link")
    assert link.proto.label == "Open its tokens"
    assert link.proto.query_string == "run=cepo"
