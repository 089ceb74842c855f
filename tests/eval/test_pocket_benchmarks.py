"""The pocket benchmarks: right answers, real columns, and pictures that no training shows."""

import ast
import io
import random
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.errors import InputError
from core.pocket import draw
from core.pocket.problems import is_held_out
from eval.pocket import main, write
from eval.pocket_items import items_of
from eval.tasks import PAPER

SHAPES = {
    "dynamath": (60, 0, 0),
    "logicvista": (32, 16, 0),
    "mathvision_mini": (24, 24, 0),
    "mmmu": (34, 14, 4),
    "wemath": (28, 14, 0),
}
"""Items that ask for a number, items that ask for a letter, and how many of the former show two pictures."""

FILES = {
    "dynamath": "dynamath/data/test-00000-of-00001.parquet",
    "logicvista": "logicvista/data/test-00000-of-00001.parquet",
    "mathvision_mini": "mathvision/data/testmini-00000-of-00001.parquet",
    "mmmu": "mmmu/data/validation-00000-of-00001.parquet",
    "wemath": "wemath/data/testmini-00000-of-00001.parquet",
}

PICTURES = {
    "dynamath": ["decoded_image"],
    "logicvista": ["image"],
    "mathvision_mini": ["decoded_image"],
    "mmmu": [f"image_{n}" for n in range(1, 8)],
    "wemath": ["image_path"],
}

TEXTS = {
    "dynamath": ["id", "question_id", "question", "ground_truth"],
    "logicvista": ["question_id", "question", "answer"],
    "mathvision_mini": ["id", "question", "answer"],
    "mmmu": ["id", "question", "options", "answer", "question_type"],
    "wemath": [
        *("ID", "split", "knowledge concept", "question", "option", "answer", "key"),
        *("question number", "knowledge concept description"),
    ],
}
"""Columns of text that the five tasks of lmms-eval 0.7.3 read, and the items' names."""

GEOMETRY = {
    "triangle": (lambda a, b: 180 - a - b, lambda a, b: a + b),
    "exterior": (lambda a, b: a + b, lambda a, b: 180 - a - b),
    "line": (lambda a: 180 - a, lambda a: a),
    "crossing": (lambda a: a, lambda a: 180 - a),
    "corner": (lambda a: 90 - a, lambda a: 180 - a),
    "isosceles_apex": (lambda a: (180 - a) // 2, lambda a: 180 - 2 * a),
    "isosceles_base": (lambda a: 180 - 2 * a, lambda a: (180 - a) // 2),
    "rectangle": (lambda a, b: 2 * a + 2 * b, lambda a, b: a + b),
}
"""Right and tempting answer by what can be seen, written anew."""

ANSWER = {name: "ground_truth" if name == "dynamath" else "answer" for name in PAPER}

each = pytest.mark.parametrize("name", PAPER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All five, of seed 0."""
    folder = tmp_path_factory.mktemp("pocket") / "made" / "on demand"
    write(folder, seed=0)
    return folder


@pytest.fixture
def rows(folder, name):
    return pq.read_table(folder / FILES[name]).to_pylist()


@pytest.fixture
def items(name):
    return items_of(name, 0)


def solve(problem, rule=0):
    return GEOMETRY[problem.family][rule](*map(int, problem.labels))


def options_of(name, row):
    """The options as they stand in the data."""
    match name:
        case "logicvista":
            return re.findall(r"^[A-E]\. (.*)$", row["question"], re.MULTILINE)
        case "mathvision_mini":
            return row["options"]
        case "mmmu":
            return ast.literal_eval(row["options"])
        case "wemath":
            return [part.partition(". ")[2] for part in row["option"].split("; ")] if row["option"] else []
    return []


@each
def test_a_file_has_the_columns_that_lmms_eval_reads_and_no_others(folder, name):
    schema = pq.read_schema(folder / FILES[name])
    expected = dict.fromkeys(TEXTS[name], "string")
    expected |= dict.fromkeys(PICTURES[name], "struct<bytes: binary, path: string>")
    if name == "mathvision_mini":
        expected["options"] = "list<element: string>"
    assert {column.name: str(column.type) for column in schema} == expected


@each
def test_the_datasets_library_loads_a_folder_with_its_pictures_decoded(folder, name, items, tmp_path):
    datasets = pytest.importorskip("datasets")
    path, split = FILES[name].split("/")[0], FILES[name].split("/")[2].split("-")[0]
    data = datasets.load_dataset(str(folder / path), split=split, cache_dir=str(tmp_path))
    assert {c for c, feature in data.features.items() if isinstance(feature, datasets.Image)} == set(PICTURES[name])
    for row, item in zip(data, items, strict=True):
        seen = [row[column] for column in PICTURES[name]]
        shown = [draw(problem) for problem in item.problems]
        assert [image.convert("RGB").tobytes() for image in seen if image] == [image.tobytes() for image in shown]
        assert seen[len(shown) :] == [None] * (len(seen) - len(shown))


@each
def test_a_row_shows_the_pictures_of_its_item_and_asks_what_the_pocket_model_is_asked(name, rows, items):
    for row, item in zip(rows, items, strict=True):
        pictures = [row[column]["bytes"] for column in PICTURES[name] if row[column]]
        drawn = [draw(problem).tobytes() for problem in item.problems]
        assert [Image.open(io.BytesIO(png)).tobytes() for png in pictures] == drawn
        asked = re.findall(r"Find x\.|Find the perimeter\.", row["question"])
        assert row["question"].count("<image1>") == (name == "mathvision_mini")  # as the real data mark it
        assert asked == ["Find the perimeter." if p.family == "rectangle" else "Find x." for p in item.problems]


@each
def test_a_numeric_answer_is_what_geometry_says_of_the_pictures(name, rows, items):
    numeric = [(row, item) for row, item in zip(rows, items, strict=True) if not options_of(name, row)]
    n_number, _, n_two = SHAPES[name]
    assert len(numeric) == n_number
    assert sum(len(item.problems) == 2 for _, item in numeric) == n_two
    for row, item in numeric:
        assert row[ANSWER[name]] == str(sum(solve(problem) for problem in item.problems))


@each
def test_the_right_option_stands_at_the_letter_and_nowhere_else_and_the_tempting_one_is_there(name, rows, items):
    chosen = [(row, item) for row, item in zip(rows, items, strict=True) if options_of(name, row)]
    assert len(chosen) == SHAPES[name][1]
    single = [(row, item) for row, item in chosen if "," not in row["answer"]]
    assert len(single) == len(chosen) - (name == "logicvista")
    for row, item in single:
        options, (problem,) = options_of(name, row), item.problems
        right = options["ABCDE".index(row["answer"])]
        assert right == str(solve(problem))
        assert len(set(options)) == len(options) == (5 if name == "mathvision_mini" else 4)
        assert str(solve(problem, rule=1)) in {*options} - {right}
        assert all(int(option) > 0 for option in options)


@pytest.mark.parametrize("name", [name for name in PAPER if name != "dynamath"])
def test_the_letters_are_balanced(rows, name):
    letters = Counter(row["answer"] for row in rows if re.fullmatch("[A-E]", row["answer"]))
    assert set(letters) == set("ABCDE" if name == "mathvision_mini" else "ABCD")
    assert max(letters.values()) - min(letters.values()) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_the_item_with_two_right_options_has_exactly_two(seed):
    (double,) = [item for item in items_of("logicvista", seed) if len(item.letters) == 2]
    assert double.answer == "B, C"
    values = [sum(map(int, option.split("+"))) for option in double.options]
    right = solve(double.problems[0])
    assert [value == right for value in values] == [False, True, True, False]
    assert values[0] == solve(double.problems[0], rule=1)
    assert len(set(double.options)) == 4


@pytest.mark.parametrize("name", ["logicvista"])
def test_the_item_with_two_right_options_says_so_and_no_other_does(rows, name):
    assert [row["answer"] for row in rows if "Two options are right." in row["question"]] == ["B, C"]


@each
@pytest.mark.parametrize("seed", [0, 1])
def test_no_labels_are_shown_in_training_and_none_twice_by_one_family(name, seed):
    problems = [problem for item in items_of(name, seed) for problem in item.problems]
    assert all(is_held_out(problem.labels) for problem in problems)
    assert {int(label) for problem in problems for label in problem.labels} <= set(range(20, 80))
    visible = Counter((problem.family, *sorted(problem.labels)) for problem in problems)
    assert max(visible.values()) == 1
    assert all(solve(problem) != solve(problem, rule=1) for problem in problems)


@pytest.mark.parametrize("name", ["dynamath"])
def test_dynamath_is_six_questions_of_ten_variants_that_differ_in_their_numbers_alone(rows, items, name):
    assert [row["id"] for row in rows] == [str(question) for question in range(1, 7) for _ in range(10)]
    assert [row["question_id"] for row in rows] == [f"{q}_{variant}" for q in range(1, 7) for variant in range(10)]
    groups = [[item.problems[0] for item in items[i : i + 10]] for i in range(0, 60, 10)]
    figures = [{(problem.family, problem.layout) for problem in group} for group in groups]
    assert [len(figure) for figure in figures] == [1] * 6
    assert len(set.union(*figures)) == 6
    assert Counter(group[0].family for group in groups) == {"triangle": 2, "exterior": 2, "rectangle": 2}


@pytest.mark.parametrize("name", ["mmmu"])
def test_mmmu_has_ids_of_real_subjects_and_one_marker_for_every_picture(rows, name):
    subjects = Counter(re.fullmatch(r"validation_(\w+)_[1-6]", row["id"])[1] for row in rows)
    assert len({row["id"] for row in rows}) == 48
    real = "Accounting Architecture_and_Engineering Design Economics Math Mechanical_Engineering Pharmacy Physics"
    assert subjects == dict.fromkeys(real.split(), 6)
    for row in rows:
        pictures = [n for n in range(1, 8) if row[f"image_{n}"]]
        assert re.findall(r"<image (\d)>", row["question"]) == [str(n) for n in pictures]
        assert row["question_type"] == ("multiple-choice" if options_of("mmmu", row) else "open")


@pytest.mark.parametrize("name", ["wemath"])
def test_wemath_is_six_problems_of_two_steps_and_six_of_three_each_whole(rows, name):
    keys = {}
    for row in rows:
        keys.setdefault(row["ID"], []).append(row["key"])
    two, three = "2steps_1 2steps_2 2steps_multi", "3steps_1 3steps_2 3steps_3 3steps_multi"
    assert [*map(" ".join, keys.values())] == [two] * 6 + [three] * 6
    assert {row["split"] for row in rows} == {"testmini"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_items_everywhere(folder, tmp_path):
    write(tmp_path / "again", seed=0)
    write(tmp_path / "other", seed=1)
    for name, file in FILES.items():
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()
        assert (tmp_path / "other" / file).read_bytes() != (folder / file).read_bytes()
        assert items_of(name, 0) != items_of(name, 1)


def test_global_randomness_is_left_alone():
    state = random.getstate()
    items_of("wemath", 0)
    assert random.getstate() == state


def test_the_command_says_what_it_wrote_and_the_second_time_that_it_is_there(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [re.split("  +", line) for line in out[1:-1]] == [
        ["DynaMath", "60", "60", "0", "0", "6"],
        ["LogicVista", "48", "32", "16", "0", "48"],
        ["MathVision mini", "48", "24", "24", "0", "48"],
        ["MMMU", "48", "34", "14", "4", "48"],
        ["WeMath", "42", "28", "14", "0", "42"],
    ]
    assert out[-1] == f"seed 0 in {tmp_path}: 5 files written"
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    assert set(files) == {tmp_path / file for file in FILES.values()}
    assert main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(": the same files were there already\n")
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == files


def test_a_file_that_is_missing_is_written_again_beside_the_others(tmp_path):
    assert all(one.is_new for one in write(tmp_path, seed=0))
    (tmp_path / FILES["mmmu"]).unlink()
    assert [one.benchmark.name for one in write(tmp_path, seed=0) if one.is_new] == ["mmmu"]
    assert (tmp_path / FILES["mmmu"]).is_file()


@pytest.mark.parametrize("taken", [FILES["wemath"], "wemath/data/testmini-00000-of-00002.parquet"])
def test_other_data_are_refused_in_one_line_and_nothing_is_written(tmp_path, capsys, taken):
    (tmp_path / taken).parent.mkdir(parents=True)
    (tmp_path / taken).write_bytes(b"precious")
    assert main(["--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(tmp_path / taken) in err
    assert (tmp_path / taken).read_bytes() == b"precious"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [tmp_path / taken]


def test_another_seed_is_other_data(tmp_path):
    write(tmp_path, seed=0)
    with pytest.raises(InputError, match="other data are there already"):
        write(tmp_path, seed=1)


def test_an_out_that_is_a_file_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "taken").write_bytes(b"precious")
    assert main(["--out", str(tmp_path / "taken")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "taken").read_bytes() == b"precious"
