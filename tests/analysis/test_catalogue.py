"""The catalogue: every exhibit is drawn from a recorded run, in both themes, and can be exported."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.catalogue import EXHIBITS
from analysis.curves import Shown, View
from analysis.figures.panels import alternative, plotted
from analysis.measures import against_of, class_table
from analysis.recordings import read_counts, read_recording, sharper_counts
from analysis.store import EXAMPLE, Store
from analysis.tables.export import to_csv, to_html
from analysis.tables.runs import class_words, drift, provenance, run_table, seed_table, sharper_words
from analysis.tokens import evidence_counts

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_recordings.py"))))
recording, NOW = made_up.recording, made_up.NOW
ROOT = Path(__file__).parents[2]
RUNS = Store(Path("no such folder")).files()


@pytest.fixture(scope="module")
def shown() -> Shown:
    """The recorded example through CEPO's eyes, with everything a figure may need."""
    view = View(delta="cepo", tau=0.1, weighting="rollouts")
    recordings = tuple(read_recording(run) for run in RUNS.values())
    counts = {r.key: read_counts(RUNS[r.key], r.info.method, "cepo", 0.1) for r in recordings}
    return Shown(recordings, view, counts, {key: evidence_counts(run)["wrong"] for key, run in RUNS.items()})


@pytest.mark.parametrize("name", EXHIBITS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_exhibit_draws_every_recorded_run(shown: Shown, name: str, theme: str) -> None:
    figure = EXHIBITS[name].build(shown, theme)
    methods = {"GRPO", "OPSD", "SDPO", "RLSD", "CEPO"}
    said = alternative(figure)
    missing = {method for method in methods if method not in said}
    assert not missing or (name == "clips" and missing <= {"OPSD", "SDPO"}), "distribution matching clips nothing"
    points = plotted(figure)
    assert len(points) > 20
    assert to_csv(points).count("\n") == len(points) + 1
    assert figure.layout.title.text


@pytest.mark.parametrize("name", [name for name, exhibit in EXHIBITS.items() if exhibit.opens_steps])
def test_points_that_open_a_step_name_a_run_of_the_store_and_a_recorded_step(shown: Shown, name: str) -> None:
    steps = {recording.key: set(recording.steps.step) for recording in shown.recordings}
    points = [point for trace in EXHIBITS[name].build(shown, "light").data for point in trace.customdata or ()]
    assert points
    assert all(point[1] in steps[point[0]] for point in points)


def test_what_the_catalogue_says_of_the_paper_is_a_number_of_the_paper_map() -> None:
    known = (ROOT / "PAPER.md").read_text()
    references = [exhibit.reference for exhibit in EXHIBITS.values() if exhibit.reference]
    assert references
    assert all(f"| {reference} |" in known for reference in references)


def test_exhibits_that_can_follow_a_run_need_no_token(shown: Shown) -> None:
    bare = Shown(tuple(r for r in shown.recordings if against_of(r.info.method, "own")))
    for name, exhibit in EXHIBITS.items():
        drawn = len(plotted(exhibit.build(bare, "light"))) > 0
        assert drawn == exhibit.is_live, name


def test_the_run_table_says_how_each_run_stands() -> None:
    runs = [
        recording(), recording("rlsd", silent=600), recording("grpo", info={"status": "finished"}),
        recording("opsd", info={"status": "failed", "reason": "out of memory"}),
        recording("sdpo", accuracies=(), n_steps=0),
    ]  # fmt: skip
    table = run_table(runs, {}, NOW, ["cepo-0"]).set_index("method")
    assert table.status.tolist() == [
        "● running", "▲ stale, silent for 10 min", "finished", "failed: out of memory", "● running",
    ]  # fmt: skip
    assert table.loc["CEPO", ["run", "step", "held-out accuracy", "evidence clip", "alerts"]].tolist() == [
        "☑ cepo-0", "2/9", "60.0% (n = 100, step 2)", "20.0%", "–",
    ]  # fmt: skip
    assert table.loc["SDPO", ["run", "step", "held-out accuracy", "evidence clip"]].tolist() == [
        "☐ sdpo-0", "0/9", "–", "–",
    ]  # fmt: skip


def test_grouped_seeds_are_one_row_with_their_interval() -> None:
    runs = [recording(seed=seed, accuracies=(0.4, 0.5 + seed / 10)) for seed in range(3)]
    table = seed_table([*runs, recording("rlsd")], {}, NOW, ["cepo-0", "rlsd-0"])
    assert len(table) == 2
    row = table.iloc[0]
    assert row["held-out accuracy"] == "60.0% ± 24.8 (3 seeds)"
    assert row[["run", "seed", "status"]].tolist() == ["◪ cepo-0 and 2 more", "0, 1, 2", "3 × ● running"]
    assert table.iloc[1]["run"] == "☑ rlsd-0"
    assert "±" not in seed_table(runs[:2], {}, NOW, [])["held-out accuracy"][0]


def test_provenance_names_what_decides_the_credit() -> None:
    method = {
        "name": "cepo", "epsilon_w": 0.5, "lambda_0": 0.5, "warmup_steps": 25, "schedule": "linear",
        "hint_correct": {"source": "gt_answer"}, "hint_wrong": {"source": "peer_answer"}, "learning_rate": 5e-4,
    }  # fmt: skip
    blind = recording(config={"method": method}, info={"teacher_sees_image": False})
    row = provenance([blind]).iloc[0]
    names = ["ε_w", "λ", "teachers", "image seen by teachers", "r⁺ from", "r⁻ from", "commit", "tokens"]
    assert row[names].tolist() == [
        "0.5", "0.5 → 0 in 25 steps", "actor", "NO ▲", "gt_answer", "peer_answer", "abcdef0", "2,000",
    ]  # fmt: skip
    untaught = provenance([recording("grpo", info={"teacher_source": "", "config": "", "versions": "no"})]).iloc[0]
    assert untaught[["ε_w", "λ", "teachers", "image seen by teachers", "libraries"]].tolist() == ["–"] * 5


def test_drift_lists_what_differs_besides_method_and_seed() -> None:
    one = recording(config={"optimizer": {"warmup": 5}})
    two = recording("rlsd", seed=3, config={"optimizer": {"warmup": 6}}, info={"device": "cuda"})
    found = drift([one, two]).set_index("setting")
    assert found.to_dict("index") == {
        "optimizer.warmup": {"cepo-0": "5", "rlsd-3": "6"},
        "device": {"cepo-0": "cpu", "rlsd-3": "cuda"},
    }
    assert drift([one, recording(seed=9, config={"optimizer": {"warmup": 5}})]).empty


def test_a_setting_that_one_method_lacks_is_no_drift() -> None:
    with_margin = recording(config={"method": {"name": "cepo", "epsilon_w": 0.5, "lambda_0": 0.5}})
    assert drift([with_margin, recording("rlsd")]).empty


def test_words_of_a_recorded_run_count_classes_and_proposition_1(shown: Shown) -> None:
    key = f"{EXAMPLE}/cepo"
    words = class_words(class_table(shown.evidence[key], 0.5))
    assert words["class"].tolist()[-1] == "all"
    assert words["share"].tolist()[-1] == "100.0%"
    table = sharper_words({key: sharper_counts(RUNS[key]), "none": sharper_counts(RUNS[key]).iloc[:0]})
    assert table.run.tolist() == [key]
    assert "% of " in table.iloc[0, 1]


def test_a_hostile_name_stays_text_in_every_table() -> None:
    evil = "<img src=x onerror=alert(1)>\u202e"
    runs = [recording(evil, key=evil, info={"model": evil, "reason": evil, "status": "failed", "versions": evil})] * 2
    for table in (run_table(runs, {}, NOW, []), seed_table(runs, {}, NOW, []), provenance(runs), drift(runs)):
        assert "<img" not in to_html(table, "c")
        assert "\u202e" not in to_html(table, "c")
