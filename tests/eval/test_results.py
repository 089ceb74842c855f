"""The results file: the workbench reads what was written, a benchmark replaces itself, and every fault is one line."""

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import duckdb
import pytest

from analysis.eval_store import EvalStore
from core.errors import InputError
from core.eval_schema import FILE_NAME, EvaluationRow, ItemRow, ScoreRow
from core.runfile import create_file
from core.schema import RUN_FILE, ImageRow
from eval.journal import sole
from eval.results import Results

STARTED = datetime(2026, 1, 2, 3, 4, 5)
ABOUT = EvaluationRow(
    eval_id="a", label="CEPO", method="cepo", model="pocket", tasks='["mmmu", "wemath"]', data="hub",
    backend="transformers", prompt="official", pixels="[3136, 12845056]", sampling='{"temperature": 1.0}', config="{}",
    versions="{}", git_commit="", device="cpu", started_at=STARTED,
)  # fmt: skip
PICTURES = [ImageRow.from_png(png) for png in (b"red", b"blue")]


def score(task="mmmu", seed=0, value=0.5, *, is_headline=True):
    metric = "accuracy" if is_headline else "format"
    return ScoreRow(task=task, metric=metric, is_headline=is_headline, score=value, n=2, seed=seed)


def items(task="mmmu", seed=0, *, response="so it is 7", n=2):
    return [
        ItemRow(
            task=task, item_id=f"{task}-{i}", seed=seed, score=float(i % 2), question="What is x?",
            image_ids=json.dumps([PICTURES[i % 2].image_id]), target="7", response=response, answer="7", n_tokens=5,
            truncated=False,
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    return folder


@pytest.fixture
def results(folder):
    return Results.open(folder, ABOUT, patience=0.2)


def about(folder):
    return EvalStore(folder.parent).files()["a"].about()


def ask(folder, query):
    return EvalStore(folder.parent).files()["a"].frame(query).values.tolist()


def the_error(call, *arguments):
    """The one line that a call ends with."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextmanager
def room(n_bytes):
    """Let no file grow beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def held(folder):
    """Let another process keep the file open, as the `duckdb` shell does."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(folder / FILE_NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()


def test_the_workbench_reads_what_was_written(folder, results):
    assert about(folder) == ABOUT
    results.put("mmmu", 0, [score(), score(value=1.0, is_headline=False)], items(), PICTURES)
    results.finish("finished")
    (evaluation,), unreadable = EvalStore(folder.parent).read()
    assert unreadable == []
    assert evaluation.tasks == ("mmmu", "wemath")
    assert evaluation.finished_tasks == ("mmmu",)
    assert evaluation.items["score"].tolist() == [0.0, 1.0]
    file = evaluation.file
    assert file.scores()[["metric", "score"]].values.tolist() == [["accuracy", 0.5], ["format", 1.0]]
    (answer,) = file.answers("mmmu", "mmmu-1")
    assert answer == items()[1]
    assert file.images(answer) == (b"blue",)
    ended = evaluation.about
    assert replace(ended, finished_at=None) == replace(ABOUT, status="finished")
    assert ended.finished_at > STARTED


def test_results_put_again_replace_themselves_and_nothing_else(folder, results):
    for task, seed in (("mmmu", 0), ("mmmu", 1), ("wemath", 0)):
        results.put(task, seed, [score(task, seed)], items(task, seed), [*PICTURES, *PICTURES])
    results.put("mmmu", 1, [score(seed=1, value=0.25)], items(seed=1, response="new", n=1), PICTURES)
    assert ask(folder, "SELECT task, seed, score FROM scores ORDER BY ALL") == [
        ["mmmu", 0, 0.5], ["mmmu", 1, 0.25], ["wemath", 0, 0.5],
    ]  # fmt: skip
    assert ask(folder, "SELECT task, seed, count(*), min(response) FROM items GROUP BY ALL ORDER BY ALL") == [
        ["mmmu", 0, 2, "so it is 7"], ["mmmu", 1, 1, "new"], ["wemath", 0, 2, "so it is 7"],
    ]  # fmt: skip
    assert ask(folder, "SELECT count(*) FROM images") == [[2]]


def test_a_benchmark_is_finished_once_its_headline_is_scored(results):
    assert results.finished() == set()
    results.put("mmmu", 1, [score(seed=1)], items(seed=1), PICTURES)
    results.put("wemath", 0, [score("wemath", is_headline=False)], items("wemath"), PICTURES)
    assert results.finished() == {("mmmu", 1)}


def test_rows_of_another_benchmark_or_seed_are_refused(results):
    for strays in ([score(seed=1)], [score("wemath")]):
        with pytest.raises(ValueError, match="results of mmmu, seed 0, hold rows of"):
            results.put("mmmu", 0, strays, items(), [])
    with pytest.raises(ValueError, match="hold rows of"):
        results.put("mmmu", 0, [score()], items("wemath"), [])
    assert results.finished() == set()


def test_text_of_any_kind_is_kept_and_a_lone_surrogate_becomes_a_question_mark(folder, results):
    text = "a\x00\x1b[31m\n'; DROP TABLE items; --\ud800" + "9" * 200_000
    results.put("mmmu", 0, [score()], items(response=text, n=1), [])
    results.finish("failed", "no file \udcff")
    (answer,) = EvalStore(folder.parent).files()["a"].answers("mmmu", "mmmu-0")
    assert answer.response == text.replace("\ud800", "?")
    assert (about(folder).status, about(folder).reason) == ("failed", "no file ?")


def test_going_on_keeps_the_results_and_adds_the_new_benchmarks_in_order(folder, results):
    results.put("wemath", 0, [score("wemath")], items("wemath"), PICTURES)
    results.finish("interrupted", "interrupted by Ctrl-C")
    later = replace(ABOUT, tasks='["dynamath", "mmmu", "logicvista"]', device="cuda", started_at=datetime(2027, 1, 1))
    again = Results.open(folder, later)
    assert again.finished() == {("wemath", 0)}
    assert about(folder) == replace(ABOUT, tasks='["mmmu", "wemath", "dynamath", "logicvista"]')


@pytest.mark.parametrize(
    "change", [{"eval_id": "b"}, {"model": "other"}, {"adapter": "lora"}, {"sampling": '{"temperature": 0.6}'}]
)
def test_an_evaluation_does_not_go_on_in_the_file_of_another(folder, results, change):
    results.finish("finished")
    before = (folder / FILE_NAME).read_bytes()
    line = the_error(Results.open, folder, replace(ABOUT, **change))
    ((name, value),) = change.items()
    assert f"holds answers with {name} {getattr(ABOUT, name)!r}, not {value!r}; choose another folder" in line
    assert (folder / FILE_NAME).read_bytes() == before


def junk(path):
    path.write_bytes(b"no database" * 1000)


def empty(path):
    path.write_bytes(b"")


def overwritten(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3] + b"\xff" * (len(content) - len(content) // 3))


def a_run_file(path):
    path.unlink()
    create_file(path, RUN_FILE, {})


def newer(path):
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE evaluation SET schema_version = 99")


def without_a_row(path):
    with duckdb.connect(path) as connection:
        connection.execute("DELETE FROM evaluation")


def with_odd_tasks(path):
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE evaluation SET tasks = 'mmmu'")


@pytest.mark.parametrize(
    "spoil",
    [junk, empty, overwritten, a_run_file, newer, without_a_row, with_odd_tasks],
    ids=lambda spoil: spoil.__name__,
)
def test_a_file_that_cannot_be_gone_on_with_is_left_as_it_is_and_may_be_moved_away(folder, results, spoil):
    path = folder / FILE_NAME
    results.put("mmmu", 0, [score()], items(), PICTURES)
    spoil(path)
    before = path.read_bytes()
    line = the_error(Results.open, folder, ABOUT)
    assert str(path) in line
    assert "once it is moved away, the same command makes a new one from the journal" in line
    assert path.read_bytes() == before
    path.rename(folder / "away")
    assert Results.open(folder, ABOUT).finished() == set()


def test_a_held_file_is_told_with_the_holder_and_nothing_is_lost(folder, results):
    with held(folder):
        calls = [
            (results.put, "mmmu", 0, [score()], items(), PICTURES),
            (results.finish, "finished"),
            (results.finished,),
            (Results.open, folder, ABOUT, 0.2),
        ]
        for call in calls:
            line = the_error(*call)
            assert "is held open by" in line
            assert "the answers are in the journal, and the same command continues" in line
    Results.open(folder, ABOUT).put("mmmu", 0, [score()], items(), PICTURES)
    assert results.finished() == {("mmmu", 0)}


def test_a_full_disk_leaves_the_results_of_before(folder, results):
    results.put("mmmu", 0, [score()], items(), PICTURES)
    noise = os.urandom(2_000_000).hex()
    with room((folder / FILE_NAME).stat().st_size + 100_000):
        line = the_error(results.put, "mmmu", 0, [score(value=1.0)], items(response=noise), PICTURES)
    assert "cannot be written" in line
    assert "make room or give permission: the answers are in the journal, and the same command continues" in line
    again = Results.open(folder, ABOUT)
    assert ask(folder, "SELECT score FROM scores") == [[0.5]]
    assert ask(folder, "SELECT DISTINCT response FROM items") == [["so it is 7"]]
    again.put("mmmu", 0, [score(value=1.0)], items(response=noise), PICTURES)
    assert ask(folder, "SELECT score FROM scores") == [[1.0]]


def test_a_file_that_finds_no_room_is_not_begun(folder):
    with room(100_000):
        line = the_error(Results.open, folder, ABOUT)
    assert "cannot be written" in line
    assert os.listdir(folder) == []
    assert "cannot be written" in the_error(Results.open, folder / "none", ABOUT)


def test_nothing_but_the_file_is_left(folder):
    with sole(folder):
        results = Results.open(folder, ABOUT)
        results.put("mmmu", 0, [score()], items(), PICTURES)
        results.finish("finished")
    assert os.listdir(folder) == [FILE_NAME]
    (evaluation,), _ = EvalStore(folder.parent).read()
    assert evaluation.finished_tasks == ("mmmu",)
    assert os.listdir(folder) == [FILE_NAME]


def test_whoever_has_the_folder_keeps_it_while_the_file_is_made_and_written(folder):
    with sole(folder):
        Results.open(folder, ABOUT).finish("finished")
        with pytest.raises(InputError, match="is being written by another process"), sole(folder):
            pytest.fail("two writers")
