"""Evaluation files side by side in the terminal: the same numbers as on the page, and nothing obeyed or cut."""

import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
from rich.console import Console

from analysis.comparison import AVERAGE
from analysis.contenders import Contender, PairedContest
from analysis.eval_store import EvalFile
from analysis.eval_store import read_evaluation as read_for_page
from core.eval_schema import EVAL_TABLES, EvaluationRow, ItemRow, ScoreRow
from core.schema import create_statements
from core.spool import rows_to_arrow
from eval.compare import labels, main
from eval.report import ReportRow, read_evaluation, remarks, report_row, table
from eval.scores import comparison, in_order, summary

TASKS = ("dynamath", "mmmu")
HOSTILE = "\x1b[31m[bold]red[/] :x: \u202e<b>\n#"


def about(name: str, **changes: object) -> EvaluationRow:
    now = datetime(2026, 1, 2, 3, 4, 5)
    row = EvaluationRow(
        eval_id=name, label=name.upper(), method="base", model="pocket", tasks=json.dumps(TASKS), data="hub",
        backend="transformers", prompt="official", pixels="[1, 2]", sampling="{}", config="{}", versions="{}",
        git_commit="", device="cpu", status="finished", started_at=now, finished_at=now,
    )  # fmt: skip
    return replace(row, **changes)


def answers(task: str, scores: Sequence[float], size: int = 0, seed: int = 0, first: int = 0) -> list[ItemRow]:
    return [
        ItemRow(
            task=task, item_id=f"{first + i}", seed=seed, score=score, cluster=f"{i // size}" if size else None,
            question="?", target="7", response="7", answer="7" if score else None, n_tokens=1, truncated=score == 0.25,
        )
        for i, score in enumerate(scores)
    ]  # fmt: skip


def write(
    folder: Path, row: EvaluationRow, items: Sequence[ItemRow], skip: Sequence[tuple[str, int]] = (), version="1"
) -> Path:
    """An evaluation's folder; a benchmark and seed to skip has answers and no score."""
    home = folder / row.eval_id
    home.mkdir(parents=True)
    pairs = dict.fromkeys((item.task, item.seed) for item in items if (item.task, item.seed) not in skip)
    scores = [
        ScoreRow(task=task, metric="acc", is_headline=True, score=0, n=1, seed=seed, task_version=version)
        for task, seed in pairs
    ]
    with duckdb.connect(home / "eval.duckdb") as connection:
        connection.begin()  # one write to the disk, not one a statement
        for statement in create_statements(EVAL_TABLES):
            connection.execute(statement)
        for name, rows in {"evaluation": [row], "scores": scores, "items": items}.items():
            new_rows = rows_to_arrow(name, rows, EVAL_TABLES)
            connection.register("new_rows", new_rows)
            connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM new_rows")
        connection.commit()
    return home


def printed(renderable: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """DynaMath in three groups of two and four items of MMMU: B has two more right, and lost one."""
    a = answers("dynamath", [1, 0, 0, 0, 0, 0], size=2) + answers("mmmu", [1, 0, 0, 0])
    b = answers("dynamath", [1, 1, 1, 1, 0, 0], size=2) + answers("mmmu", [0, 1, 1, 1])
    folder = tmp_path_factory.mktemp("pair")
    return write(folder, about("a"), a), write(folder, about("b"), b)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(each) for each in arguments])
    streams = capsys.readouterr()
    return status, streams.out, streams.err


def test_json_holds_the_differences_worked_out_by_hand_as_its_last_line(pair, capsys):
    status, out, err = run(capsys, *pair, "--json")
    assert status == 0
    assert out.count("\n") == 1
    found = json.loads(out)
    base, other = found["evaluations"]
    assert base["scores"]["dynamath"]["value"] == pytest.approx(1 / 6)
    assert other["average"]["value"] == pytest.approx((4 / 6 + 3 / 4) / 2)
    (versus,) = found["comparisons"]
    assert (versus["label"], versus["baseline"]) == ("B", "A")
    mmmu = versus["benchmarks"]["mmmu"]
    assert (mmmu["only_first"], mmmu["only_second"], mmmu["n_items"], mmmu["unmatched"]) == (3, 1, 4, 0)
    assert mmmu["estimate"] == 0.5
    assert mmmu["p_mcnemar"] == pytest.approx(2 * (1 + 4) / 2**4)
    assert versus["benchmarks"]["dynamath"]["n_clusters"] == 3
    assert versus["average"]["estimate"] == pytest.approx((3 / 6 + 2 / 4) / 2)
    assert found["warnings"] == []
    assert "+50.00" in err


def test_the_terminal_shows_scores_groups_and_what_an_interval_leaves_out(pair, capsys):
    status, out, _ = run(capsys, pair[0], pair[1] / "eval.duckdb")
    assert status == 0
    flat = " ".join(out.split())
    for text in (
        "DynaMath MMMU Average", "n 6 4", "(3 groups)", "A 16.67 ± 16.7 25.00 ± 25.0 20.83", "B 66.67 ± 33.3",
        "B minus A, percentage points", "Seeds of the sampler: 0.", "one training run", "± one standard error",
        "no answer could be read: DynaMath 83.3% (5 of 6), MMMU 75.0% (3 of 4); on MMMU lmms-eval then draws",
    ):  # fmt: skip
        assert text in flat, text
    assert "\x1b" not in out
    assert "These evaluations" not in out


def test_the_page_and_the_terminal_agree_to_the_last_digit(tmp_path):
    draw = np.random.default_rng(3)
    folders = []
    for name in ("a", "b"):
        # scores of every size, so that the draws depend on the order of the clusters too
        items = answers("dynamath", draw.uniform(size=60).tolist(), size=3)
        items += answers("mmmu", draw.integers(0, 2, 50).astype(float).tolist(), first=draw.integers(0, 9))
        items += answers("mmmu", draw.integers(0, 2, 50).astype(float).tolist(), seed=1)
        items += answers("zoo", draw.uniform(size=12).tolist())
        draw.shuffle(items)
        tasks = json.dumps(["zoo", "mmmu", "dynamath"])
        folders.append(write(tmp_path, about(name, tasks=tasks), items, skip=[("mmmu", 1)] if name == "a" else ()))
    mine = [read_evaluation(folder) for folder in folders]
    page = PairedContest(
        tuple(
            Contender(folder.name, "", (read_for_page(EvalFile(folder.name, folder / "eval.duckdb")),))
            for folder in folders
        )
    )
    tasks = in_order(mine[0].tasks)
    assert list(tasks) == page.columns == ["dynamath", "mmmu", "zoo"]
    versus = comparison(mine[1].items, mine[0].items, tasks)
    for task in tasks:
        assert versus.benchmarks[task].difference == page.difference("b", "a", task)
        split, ours = page.split("b", "a", task), versus.benchmarks[task]
        assert (ours.only_first, ours.only_second) == (len(split.only_first), len(split.only_second))
        assert (ours.unmatched, ours.p_mcnemar) == (split.unmatched, split.p_value)
    assert versus.average == page.difference("b", "a", AVERAGE)
    for one in mine:
        row = report_row("x", one.items, tasks)
        for column in (*tasks, AVERAGE):
            shown = page.score(one.about.eval_id, column)
            ours = row.average(tasks) if column == AVERAGE else row.summaries[column]
            assert shown is not None
            assert ours is not None
            assert (ours.value, ours.stderr) == pytest.approx((shown.value, shown.stderr), rel=1e-12)
            assert (ours.n_items, ours.n_clusters) == (shown.n_items, shown.n_clusters)
            assert ours.n_seeds == shown.n_seeds


def test_a_benchmark_or_seed_without_a_score_does_not_count(tmp_path):
    items = answers("mmmu", [1, 1]) + answers("mmmu", [0, 0], seed=1) + answers("dynamath", [1, 0], size=2)
    found = read_evaluation(write(tmp_path, about("a"), items, skip=[("mmmu", 1), ("dynamath", 0)]))
    assert [(item.task, item.seed, item.score) for item in found.items] == [("mmmu", 0, 1), ("mmmu", 0, 1)]
    assert found.unfinished == ("dynamath", "mmmu")
    assert remarks(found, "A") == ["A: unfinished, so left out in whole or in part: DynaMath, MMMU."]
    flat = " ".join(printed(table([report_row("A", found.items, TASKS)], TASKS)).split())
    assert "A – 100.00 ± 0.0 1/2 tasks" in flat


def test_cut_answers_are_remarked_upon(tmp_path):
    found = read_evaluation(write(tmp_path, about("a", tasks='["mmmu"]'), answers("mmmu", [1, 0.25, 1, 1, 1])))
    assert remarks(found, "A") == ["A: cut at the token limit: MMMU 20.0% (1 of 5)."]


def test_random_draws_and_answers_too_costly_to_score_are_remarked_upon(tmp_path):
    folder = write(tmp_path, about("a", tasks='["mmmu"]'), answers("mmmu", [1, 1, 1, 1]))
    rows = [("unparsed_share", 0.5, 0), ("unparsed_share", 0.25, 1), ("unscored_share", 0.25, 0)]
    with duckdb.connect(folder / "eval.duckdb") as connection:
        for metric, share, seed in rows:
            values = ["mmmu", metric, False, share, 4, seed]
            names = "task, metric, is_headline, score, n, seed"
            connection.execute(f"INSERT INTO scores ({names}) VALUES (?, ?, ?, ?, ?, ?)", values)
    assert remarks(read_evaluation(folder), "A") == [
        "A: share of multiple-choice answers that are such random draws: MMMU 37.5%.",
        "A: too costly to score, so counted as empty: MMMU 25.0%.",
    ]


def test_other_settings_and_other_versions_are_warned_of(pair, tmp_path, capsys):
    items = answers("dynamath", [1, 0, 1, 0], size=2) + answers("mmmu", [1, 0])
    other = write(tmp_path, about("c", backend="vllm", sampling='{"n": 1}'), items, version="2")
    _, out, _ = run(capsys, *pair, other, "--json")
    settings, versions = json.loads(out)["warnings"]
    assert settings.startswith("These evaluations differ in backend, sampling:")
    assert versions == "These evaluations used different versions of benchmarks: DynaMath 1 and 2, MMMU 1 and 2."
    assert [each["label"] for each in json.loads(out)["comparisons"]] == ["B", "C"]


def test_differing_numbers_of_items_stand_below_each_evaluation():
    rows = [ReportRow(name, {"mmmu": summary(answers("mmmu", [1, 0] * n))}, (0,)) for name, n in (("A", 2), ("B", 5))]
    lines = [line.split() for line in printed(table(rows, ["mmmu"])).splitlines()]
    assert ["n", "4"] in lines
    assert ["n", "10"] in lines
    assert ["MMMU"] in lines  # the average of one benchmark is left out


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_number_is_wrapped_or_cut_however_narrow_the_terminal(width):
    draw = np.random.default_rng(0)
    tasks = ("dynamath", "logicvista", "mathvision_mini", "mmmu", "wemath")
    items = [item for task in tasks for item in answers(task, draw.integers(0, 2, 90).tolist(), size=3)]
    row = report_row("a label that is quite long", items, tasks)
    shown = printed(table([row], tasks), width)
    assert all(len(line) <= width for line in shown.splitlines())
    average = row.average(tasks)
    assert average is not None
    for score in (*row.summaries.values(), average):
        assert f"{100 * score.value:.2f} ± {100 * score.stderr:.1f}" in shown
        assert f"{100 * score.low:.1f}–{100 * score.high:.1f}" in shown


def test_hostile_names_are_shown_and_not_obeyed(tmp_path, capsys):
    tasks = json.dumps(["mmmu", HOSTILE])
    items = answers("mmmu", [1, 0]) + answers(HOSTILE, [1, 0])
    folders = [write(tmp_path, about(n, label=HOSTILE, tasks=tasks), items, version=HOSTILE + n) for n in ("a", "b")]
    status, out, err = run(capsys, *folders)
    assert status == 0
    assert not set("\x1b\u202e") & set(out + err)
    flat = " ".join(out.split())
    assert "[31m[bold]red[/] :x: <b> # (b) minus [31m[bold]red[/] :x: <b> # (a)" in flat
    long = printed(table([report_row("x" * 10_000 + "end", answers("mmmu", [1, 0]), ["mmmu"])], ["mmmu"]))
    assert "x…x" in long
    assert long.count("x") < 200


def test_equal_labels_are_told_apart_by_their_folders(pair, tmp_path):
    other = write(tmp_path, about("c", label="A"), answers("mmmu", [1]))
    nameless = write(tmp_path, about("d", label="", method=""), answers("mmmu", [1]))
    assert labels([read_evaluation(each) for each in (*pair, other, nameless)]) == ["A (a)", "B", "A (c)", "d"]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE items SET score = 1.5 WHERE task = 'mmmu'", r"item '0' of 'mmmu', seed 0: .* found 1\.5"),
        ("UPDATE items SET score = 'nan' WHERE item_id = '1'", "found nan"),
        ("ALTER TABLE items ALTER seed DROP NOT NULL; UPDATE items SET seed = NULL", "expected a name, a benchmark"),
        ("ALTER TABLE evaluation ALTER label DROP NOT NULL; UPDATE evaluation SET label = NULL", "evaluation.label"),
        ("INSERT INTO items SELECT * FROM items", "item '0' of 'dynamath', seed 0: expected once, found twice"),
        ("DELETE FROM evaluation", "schema none"),
        ("INSERT INTO evaluation SELECT * FROM evaluation", "expected one row in its table evaluation, found 2"),
        ("UPDATE evaluation SET tasks = repeat('[', 100000)", "expected a JSON list of names"),
        ("UPDATE evaluation SET tasks = '[1]'", "expected a JSON list of names"),
        ("DROP TABLE scores", "is not an evaluation file"),
    ],
)
def test_a_spoiled_file_is_one_line_and_status_2(statement, problem, pair, tmp_path, capsys):
    home = shutil.copytree(pair[1], tmp_path / "spoiled")
    with duckdb.connect(home / "eval.duckdb") as connection:
        connection.execute(statement)
    status, out, err = run(capsys, pair[0], home)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "spoiled" in err
    assert re.search(problem, err), err


def test_no_evaluation_is_one_line_and_status_2(pair, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        status, out, err = run(capsys, pair[0], path)
        assert (status, out) == (2, "")
        assert err == f"{path}: expected an evaluation's folder or its eval.duckdb, found none; check the path\n"
