"""Problem sources: batches as pure functions of the step, and one clear line for every bad file or row."""

import contextlib
import io
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from core.config import ProblemsConfig
from core.errors import InputError
from core.problems import DatasetProblems, PocketProblems, problem_source


def encoded(image=None, kind="PNG"):
    buffer = io.BytesIO()
    (image or Image.effect_noise((40, 30), 60)).save(buffer, kind)
    return buffer.getvalue()


PICTURE = encoded()
TABLE = pa.schema(
    [
        ("problem", pa.string()),
        ("answer", pa.string()),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
    ]
)


def row(problem: str | None = "<image>Find x.", answer: str | None = "12", images=(PICTURE,)):
    return {"problem": problem, "answer": answer, "images": [{"bytes": data, "path": None} for data in images]}


def write(path, *rows, schema=TABLE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Return a data set laid out as the hub has hiyouga/geometry3k."""
    for split, n in (("train", 10), ("validation", 4), ("test", 3)):
        rows = [row(answer=f"{len(split)}{number}") for number in range(n)]
        write(tmp_path / "geometry3k" / "data" / f"{split}-00000-of-00001.parquet", *rows)
    return tmp_path / "geometry3k"


def ids(problems):
    return [problem.problem_id for problem in problems]


def test_a_folder_trains_on_its_train_split_and_validates_on_its_validation_split(folder):
    problems = DatasetProblems(str(folder))
    assert (problems.name, problems.skipped) == ("geometry3k", 0)
    assert sorted(ids(problems.batch(1, 10, 0))) == sorted(f"geometry3k/train/{i}" for i in range(10))
    assert ids(problems.validation(99)) == [f"geometry3k/validation/{i}" for i in range(4)]
    assert [problem.answer for problem in problems.validation(2)] == ["100", "101"]
    assert problems.validation(0) == ()


def test_a_problem_has_its_decoded_picture(folder):
    (problem,) = DatasetProblems(str(folder)).batch(1, 1, 0)
    assert problem.question == "<image>Find x."
    (image,) = problem.images
    assert (image.mode, image.size) == ("RGB", (40, 30))
    assert image.tobytes() == Image.open(io.BytesIO(PICTURE)).convert("RGB").tobytes()


def test_the_test_split_validates_where_there_is_no_other(folder):
    next(folder.rglob("validation*")).unlink()
    assert len(DatasetProblems(str(folder)).validation(99)) == 3


def test_a_file_needs_a_validation_source_of_its_own(folder, tmp_path):
    file = write(tmp_path / "mine.parquet", row(), row())
    assert len(DatasetProblems(str(file)).batch(1, 2, 0)) == 2
    with pytest.raises(InputError, match=r"no held-out rows.*problems\.validation_source"):
        DatasetProblems(str(file)).validation(1)
    assert len(DatasetProblems(str(file), str(folder)).validation(99)) == 4
    assert len(DatasetProblems(str(file), str(next(folder.rglob("test*")))).validation(99)) == 3
    with pytest.raises(InputError, match="would validate on a training file"):
        DatasetProblems(str(file), str(file))


@given(st.integers(1, 30), st.integers(1, 25), st.integers(0, 3))
def test_a_batch_depends_on_its_arguments_alone(dataset, step, size, seed):
    problems, again = dataset
    again.batch(step + 1, size, seed)
    assert ids(problems.batch(step, size, seed)) == ids(again.batch(step, size, seed))


@given(st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_shows_every_problem_once(dataset, size, seed):
    problems, _ = dataset
    seen = list(chain.from_iterable(ids(problems.batch(step, size, seed)) for step in range(1, 40)))
    for epoch in range(39 * size // 10):
        assert len(set(seen[10 * epoch : 10 * epoch + 10])) == 10


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return the same ten problems opened twice."""
    file = write(tmp_path_factory.mktemp("data") / "ten.parquet", *[row(answer=str(i)) for i in range(10)])
    return DatasetProblems(str(file)), DatasetProblems(str(file))


def test_epochs_and_seeds_shuffle_differently(dataset):
    problems, _ = dataset
    orders = [tuple(ids(problems.batch(step, 10, seed))) for step in (1, 2) for seed in (0, 1)]
    assert len(set(orders)) == 4


def test_text_only_files_need_no_image_column(tmp_path):
    schema = pa.schema([("problem", pa.string()), ("answer", pa.int64())])
    file = write(tmp_path / "sums.parquet", {"problem": "1 + 1?", "answer": 2}, schema=schema)
    (problem,) = DatasetProblems(str(file)).batch(1, 1, 0)
    assert (problem.question, problem.answer, problem.images) == ("1 + 1?", "2", ())


def test_images_may_be_plain_bytes_and_jpeg(tmp_path):
    schema = TABLE.set(2, pa.field("images", pa.list_(pa.binary())))
    values = {"problem": "Find x.", "answer": "2", "images": [encoded(kind="JPEG")]}
    (problem,) = DatasetProblems(str(write(tmp_path / "a.parquet", values, schema=schema))).batch(1, 1, 0)
    assert [image.size for image in problem.images] == [(40, 30)]


def test_what_is_transparent_becomes_white_paper(tmp_path):
    drawing = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
    drawing.putpixel((4, 4), (0, 0, 0, 255))
    file = write(tmp_path / "a.parquet", row(images=[encoded(drawing)]))
    (image,) = DatasetProblems(str(file)).batch(1, 1, 0)[0].images
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((4, 4)) == (0, 0, 0)


def bomb():
    """Return a small PNG that claims 30,000 x 30,000 pixels."""
    data = bytearray(encoded(Image.new("1", (8, 8))))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(data)


BAD_ROWS = {
    "no answer": (row(answer=None), "expected an answer of 1 to 200 characters, got none"),
    "empty answer": (row(answer="  "), "expected an answer"),
    "essay": (row(answer="1" * 201), "expected an answer of 1 to 200 characters, got 201"),
    "no question": (row(problem=None), "expected a question"),
    "too few images": (row(images=()), "for each of its 0 image"),
    "too many images": (row(images=(PICTURE, PICTURE)), "for each of its 2 image"),
    "image without bytes": (row(images=(None,)), "expected images as bytes"),
    "no image": (row(images=(b"hello",)), "that can be decoded"),
    "empty image": (row(images=(b"",)), "that can be decoded"),
    "cut PNG": (row(images=(PICTURE[:-30],)), "that can be decoded"),
    "damaged PNG": (row(images=(PICTURE[:200] + b"\0\0\0\0" + PICTURE[204:],)), "that can be decoded"),
    "cut JPEG": (row(images=(encoded(kind="JPEG")[:-300],)), "that can be decoded"),
    "bomb": (row(images=(bomb(),)), "that can be decoded"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_stops_with_its_place_or_is_skipped_and_counted(tmp_path, bad, message):
    file = write(tmp_path / "a.parquet", row(), bad, row())
    with pytest.raises(InputError, match=message) as caught:
        DatasetProblems(str(file))
    (line,) = str(caught.value).splitlines()
    assert f"{file} row 1: " in line
    assert line.endswith("mend the row or set problems.on_bad_row to skip")
    problems = DatasetProblems(str(file), on_bad_row="skip")
    assert problems.skipped == 1
    assert sorted(ids(problems.batch(1, 2, 0))) == ["a/train/0", "a/train/2"]


@given(st.data())
def test_a_damaged_picture_is_never_more_than_bad_input(tmp_path_factory, data):
    picture = bytearray(encoded(Image.new("RGB", (12, 12)), data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        picture[data.draw(st.integers(0, len(picture) - 1))] = data.draw(st.integers(0, 255))
    file = write(tmp_path_factory.mktemp("damaged") / "a.parquet", row(images=[bytes(picture)]), row())
    problems = DatasetProblems(str(file), on_bad_row="skip")
    with contextlib.suppress(InputError):  # what the checksums miss is found at the latest when decoding
        assert len(problems.batch(1, 2, 0)) == 2


def test_no_row_left_is_bad_input(tmp_path):
    file = write(tmp_path / "a.parquet", row(answer=""))
    with pytest.raises(InputError, match=r"no row to train on in 1 file\(s\), 1 skipped"):
        DatasetProblems(str(file), on_bad_row="skip")


def test_missing_columns_are_named(tmp_path):
    schema = pa.schema([("question", pa.string()), ("answer", pa.string())])
    file = write(tmp_path / "a.parquet", {"question": "?", "answer": "1"}, schema=schema)
    with pytest.raises(InputError, match="no column problem, it has question, answer; rename"):
        DatasetProblems(str(file))


def test_missing_and_unreadable_files_are_one_line(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no parquet")
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "none.parquet", "no such file or folder"),
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "broken.parquet", "cannot be read as parquet"),
        (tmp_path / "empty", "no parquet file in it"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            DatasetProblems(str(source))
        assert str(source) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_a_name_the_hub_does_not_give_is_one_line():
    with pytest.raises(InputError, match="nobody/nothing: neither a file or folder here nor a data set") as caught:
        DatasetProblems("nobody/nothing")
    assert len(str(caught.value).splitlines()) == 1


def test_a_name_the_hub_gives_is_read_from_its_snapshot(folder, monkeypatch):
    asked = {}

    def snapshot(source, **options):
        asked[source] = options
        return str(folder)

    monkeypatch.setattr("core.problems.snapshot_download", snapshot)
    problems = DatasetProblems("hiyouga/geometry3k")
    assert asked == {"hiyouga/geometry3k": {"repo_type": "dataset", "allow_patterns": "*.parquet"}}
    assert problems.name == "geometry3k"


def test_pocket_batches_are_pure_and_never_repeat():
    problems = PocketProblems()
    first, second = problems.batch(1, 4, 0), problems.batch(2, 4, 0)
    assert ids(first) == ids(PocketProblems().batch(1, 4, 0))
    assert len({*ids(first), *ids(second)}) == 8
    assert ids(problems.batch(1, 4, 1)) != ids(first)
    assert ids(problems.validation(3)) == ids(problems.validation(5))[:3]
    assert not {*ids(problems.validation(5))} & {*ids(first)}


def test_a_configuration_names_its_source(folder):
    assert isinstance(problem_source(ProblemsConfig()), PocketProblems)
    problems = problem_source(ProblemsConfig(source=str(folder), on_bad_row="skip"))
    assert problems.name == "geometry3k"
