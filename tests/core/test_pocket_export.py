"""Pocket Geo3k written out and read back as if it were the real Geo3k."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError
from core.pocket import pocket_problem
from core.pocket.export import export, main
from core.problems import DatasetProblems
from core.prompts import IMAGE_MARKER, student_prompt

N = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a train split of more than one row group, and a validation split."""
    folder = tmp_path_factory.mktemp("pocket") / "made" / "on demand"
    export(folder, "train", N, seed=5)
    export(folder, "validation", 20, seed=5)
    return folder


def essence(problem):
    return problem.question.removeprefix(IMAGE_MARKER), problem.answer, [image.tobytes() for image in problem.images]


def test_both_splits_come_back_with_the_same_questions_answers_and_pixels(folder):
    problems = DatasetProblems(str(folder))
    one_epoch = problems.batch(1, N, seed=0)
    by_number = sorted(one_epoch, key=lambda problem: int(problem.problem_id.rpartition("/")[2]))
    assert [essence(p) for p in by_number] == [essence(pocket_problem("train", i, 5)) for i in range(N)]
    held_out = problems.validation(100)
    assert [essence(p) for p in held_out] == [essence(pocket_problem("validation", i, 5)) for i in range(20)]
    assert problems.skipped == 0


def test_the_file_has_the_schema_of_the_real_geo3k_and_its_questions_begin_with_the_image(folder):
    file = folder / "train-00000-of-00001.parquet"
    images = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    assert pq.read_schema(file).equals(
        pa.schema([("problem", pa.string()), ("answer", pa.string()), ("images", images)])
    )
    assert pq.ParquetFile(file).num_row_groups == 2
    table = pq.read_table(file)
    assert all(text.startswith("<image>Find ") for text in table["problem"].to_pylist())
    assert len({image["path"] for row in table["images"].to_pylist() for image in row}) == N


def test_an_exported_problem_is_asked_as_the_drawn_one_is(folder):
    (read, *_), drawn = DatasetProblems(str(folder)).validation(1), pocket_problem("validation", 0, 5)
    assert student_prompt(read) == student_prompt(drawn)


def test_the_command_says_what_it_wrote_and_where(tmp_path, capsys):
    assert main(["--out", str(tmp_path), "--split", "shifted", "--problems", "3", "--seed", "7"]) == 0
    file = tmp_path / "shifted-00000-of-00001.parquet"
    assert capsys.readouterr().out == f"3 shifted problems of seed 7 in {file}\n"
    assert pq.read_table(file)["answer"].to_pylist() == [pocket_problem("shifted", i, 7).answer for i in range(3)]
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_there_is_refused_with_one_line_and_kept(tmp_path, capsys):
    file = tmp_path / "train-00000-of-00001.parquet"
    file.write_bytes(b"precious")
    assert main(["--out", str(tmp_path), "--problems", "3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(file) in err
    assert file.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [file]


def test_an_out_that_is_a_file_is_refused_with_one_line(tmp_path, capsys):
    (tmp_path / "taken").write_bytes(b"precious")
    assert main(["--out", str(tmp_path / "taken"), "--problems", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "taken").read_bytes() == b"precious"


def test_fewer_than_one_problem_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1, got 0"):
        export(tmp_path, "train", 0, seed=0)
    assert not any(tmp_path.iterdir())


def test_a_write_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(InputError, match="No space left on device"):
        export(tmp_path, "train", 3, seed=0)
    assert not any(tmp_path.iterdir())
