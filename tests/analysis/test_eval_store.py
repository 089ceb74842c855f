"""Evaluation files: read, and refused in one line where they are not what they should be."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from analysis.comparison import AVERAGE
from analysis.contenders import PairedContest, contenders, provenance
from analysis.eval_store import EvalStore, read_evaluation
from core.errors import InputError
from core.eval_schema import EVAL_TABLES
from core.runfile import reading
from core.schema import columns, create_statements

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("eval_files.py")), run_name="eval_files"))


def items(**changes):
    return [item for task in made_up.TASKS for item in made_up.answers(task, 0.5, np.random.default_rng(0), **changes)]


@pytest.fixture
def folder(tmp_path):
    made_up.write(tmp_path, made_up.evaluation(), items(n=20))
    return tmp_path


def spoil(folder: Path, statement: str) -> Path:
    path = folder / "cepo" / "eval.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(statement)
    return path


def the_reason(folder: Path) -> str:
    found, unreadable = EvalStore(folder).read()
    assert found == []
    (only,) = unreadable
    assert "\n" not in only.reason
    return only.reason


def test_the_file_has_the_declared_columns_and_explains_each():
    with duckdb.connect() as connection:
        for statement in create_statements(EVAL_TABLES):
            connection.execute(statement)
        for table in EVAL_TABLES:
            found = connection.execute(
                "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() WHERE table_name = ? "
                "ORDER BY column_index",
                [table],
            ).fetchall()
            assert found == list(columns(table, EVAL_TABLES))
            assert all(column.meaning for column in columns(table, EVAL_TABLES))


def test_what_was_written_is_read(folder):
    (evaluation,), unreadable = EvalStore(folder).read()
    assert unreadable == []
    assert evaluation.about == made_up.evaluation()
    assert evaluation.tasks == evaluation.finished_tasks == made_up.TASKS
    assert evaluation.versions == dict.fromkeys(made_up.TASKS, "1.0")
    written = {(item.task, item.item_id): item.score for item in items(n=20)}
    read = evaluation.items.set_index(["task", "item_id"])["score"].to_dict()
    assert read == written
    dynamath = evaluation.items[evaluation.items["task"] == "dynamath"]
    assert dynamath["cluster"].nunique() == 2
    assert evaluation.items[evaluation.items["task"] == "mmmu"]["cluster"].nunique() == 20


def test_an_item_comes_with_every_answer_and_its_pictures(tmp_path):
    both = items(n=3) + items(n=3, seed=1)
    made_up.write(tmp_path, made_up.evaluation(), both)
    file = EvalStore(tmp_path).files()["cepo"]
    first, second = file.answers("mmmu", "mmmu-2")
    assert (first.seed, second.seed) == (0, 1)
    assert file.images(first) == (made_up.png(),)
    assert file.answers("mmmu", "' OR 1=1 --") == ()


@pytest.mark.parametrize("ids", ['["unknown"]', "no json", "7", '{"a": 1}', "[1, null]", "[" * 100_000])
def test_pictures_that_are_not_there_are_left_out(tmp_path, ids):
    made_up.write(tmp_path, made_up.evaluation(), items(n=1))
    spoil(tmp_path, f"UPDATE items SET image_ids = '{ids}'")
    file = EvalStore(tmp_path).files()["cepo"]
    assert file.images(file.answers("mmmu", "mmmu-0")[0]) == ()


def test_a_benchmark_or_a_seed_without_a_score_is_not_finished(tmp_path):
    made_up.write(tmp_path, made_up.evaluation(), items(n=5), unfinished=("mmmu", "wemath"))
    (evaluation,), _ = EvalStore(tmp_path).read()
    assert evaluation.finished_tasks == made_up.TASKS[:3]
    spoil(tmp_path, "INSERT INTO items SELECT * REPLACE (1 AS seed, 0.0 AS score) FROM items WHERE task = 'dynamath'")
    assert set(read_evaluation(EvalStore(tmp_path).files()["cepo"]).items["seed"]) == {0}


def test_an_unreadable_file_is_listed_with_its_reason_beside_the_others(folder):
    (folder / "junk").mkdir()
    (folder / "junk" / "eval.duckdb").write_bytes(b"no database")
    found, unreadable = EvalStore(folder).read()
    assert [each.file.key for each in found] == ["cepo"]
    assert [each.key for each in unreadable] == ["junk"]
    assert "cannot be read as an evaluation file" in unreadable[0].reason


def test_nothing_is_found_where_there_is_nothing(tmp_path):
    assert EvalStore(tmp_path / "none").read() == ([], [])


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE evaluation SET schema_version = 99", "has schema 99, this Credence reads up to 1; update Credence"),
        ("DELETE FROM evaluation", "has schema none"),
        ("DROP TABLE evaluation", "is not an evaluation file: it has no table evaluation with a schema_version"),
        ("ALTER TABLE items DROP COLUMN score", "column items.score of type DOUBLE is missing"),
        ("CREATE MACRO json_extract(a, b) AS a", "holds a macro 'json_extract' that Credence did not write"),
        ("DROP TABLE items; CREATE VIEW items AS SELECT * FROM read_csv('/etc/passwd')", "column items."),
        (
            "UPDATE items SET score = 1.5 WHERE item_id = 'mmmu-3'",
            "item 'mmmu-3' of 'mmmu', seed 0, has a score outside",
        ),
        ("UPDATE items SET score = 'nan'::DOUBLE", "has a score outside [0, 1]"),
        ("INSERT INTO items SELECT * FROM items WHERE item_id = 'wemath-1'", "'wemath', seed 0, is there twice"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_in_one_line(folder, statement, reason):
    spoil(folder, statement)
    assert reason in the_reason(folder)


def test_a_file_whose_pages_are_overwritten_is_refused(folder):
    path = folder / "cepo" / "eval.duckdb"
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = b"\xff" * (len(content) - len(content) // 3)
    path.write_bytes(bytes(content))
    assert "eval.duckdb" in the_reason(folder)


def test_a_run_file_is_no_evaluation_and_an_evaluation_no_run(folder):
    path = folder / "cepo" / "eval.duckdb"
    with pytest.raises(InputError, match="is not a run file"), reading(path, patience=0):
        pass


def test_sampling_and_tasks_may_be_anything(tmp_path):
    about = made_up.evaluation(tasks="not json", sampling="{" * 10)
    made_up.write(tmp_path, about, items(n=2))
    (evaluation,), _ = EvalStore(tmp_path).read()
    assert evaluation.tasks == ()
    (row,) = contenders([evaluation], "pocket")
    assert provenance([row])["sampling"].tolist() == ["{" * 10]
    contest = PairedContest((row,))
    assert contest.columns == []
    assert contest.score("CEPO", AVERAGE) is None
