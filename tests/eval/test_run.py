"""`python -m eval.run` from its first line to its last: what it refuses, how it goes on, and what it tells."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.eval_schema import EvaluationRow
from eval.install import INSTALL
from eval.journal import sole
from eval.model import BATCH, LocalAnswerer
from eval.run import parser

pytestmark = pytest.mark.xdist_group("eval")

N = 34
"""Items of a benchmark that the pocket model itself answers: more than a batch."""
LOGICVISTA = "logicvista/data/test-00000-of-00001.parquet"


def boxed(question):
    """An answer that tells what was asked."""
    return rf"{question.task} {question.row} {question.seed} \boxed{{71}}"


@pytest.fixture
def own_data(pocket_data, tmp_path):
    """LogicVista and WeMath, to be spoilt."""
    for name in ("logicvista", "wemath"):
        shutil.copytree(pocket_data / name, tmp_path / "data" / name)
    return tmp_path / "data"


def the_line(ended, status=2):
    """The one line on standard error of a command that had nothing else to say."""
    assert ended.status == status
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    return line


# What is refused


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tasks", "dynamth"], "--tasks: 'dynamth' is no benchmark; did you mean 'dynamath'?"),
        (["--tasks", "mmmu,"], "--tasks: '' is no benchmark"),
        (["--tasks", "\x1b[31mred"], "is no benchmark; expected some of dynamath, logicvista"),
        (["--seeds", "0,one"], "--seeds: expected whole numbers such as 0,1,2, got '0,one'"),
        (["--seeds", "0,-1"], "--seeds: expected numbers from 0 to 2147483647, got -1"),
        (["--seeds", "2147483648"], "--seeds: expected numbers from 0 to 2147483647, got 2147483648"),
        (["--limit", "0"], "--limit: expected at least 1, got 0"),
        (["--limit", "few"], "--limit"),
        (["--temperature", "-0.1"], "--temperature: expected a number from 0 on, got -0.1"),
        (["--temperature", "nan"], "--temperature: expected a number from 0 on, got nan"),
        (["--temperature", "inf"], "--temperature: expected a number from 0 on, got inf"),
        (["--top-p", "0"], "--top-p: expected more than 0 and at most 1, got 0.0"),
        (["--top-k", "-1"], "--top-k: expected at least 0, which takes all tokens, got -1"),
        (["--presence-penalty", "2.1"], "--presence-penalty: expected from -2 to 2, got 2.1"),
        (["--max-new-tokens", "0"], "--max-new-tokens: expected at least 1, got 0"),
        (["--max-tokens", "32000"], "--max-tokens"),
        (["--tempera", "1"], "--tempera"),
        (["--adapter", "nowhere"], "--adapter nowhere: there is no such folder"),
        (["--model", "./nowhere"], "./nowhere"),
        (["--backend", "vllm"], "--backend vllm: vLLM is not installed; pip install -e '.[vllm]'"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(options, expected, evaluate, monkeypatch):
    monkeypatch.setattr("eval.evaluation.find_spec", lambda name: None if name == "vllm" else find_spec(name))
    ended = evaluate(*options)
    assert expected in the_line(ended)
    assert not ended.evals.exists()


def test_a_missing_data_root_names_the_command_that_makes_one(evaluate, tmp_path):
    line = the_line(evaluate(data=tmp_path / "nowhere"))
    assert f"python -m eval.pocket --out {tmp_path / 'nowhere'}" in line


def test_a_missing_benchmark_in_the_data_root_is_named(evaluate, own_data):
    line = the_line(evaluate(data=own_data))
    assert "dynamath" in line
    assert str(own_data / "dynamath") in line


def test_a_file_that_is_no_parquet_is_named(evaluate, own_data):
    whole = (own_data / LOGICVISTA).read_bytes()
    (own_data / LOGICVISTA).write_bytes(whole[: len(whole) // 2])
    assert str(own_data / LOGICVISTA) in the_line(evaluate("--tasks", "logicvista", data=own_data))


def test_a_folder_that_cannot_be_written_is_named(evaluate, script, tmp_path):
    script()
    (tmp_path / "file").write_text("")
    line = the_line(evaluate("--tasks", "wemath", "--limit", 1, evals=tmp_path / "file" / "evals"))
    assert f"{tmp_path / 'file' / 'evals'}" in line
    assert "cannot be written" in line


@pytest.mark.parametrize("package", ["lmms-eval", "sacrebleu"])
def test_a_missing_package_is_told_with_the_command_that_installs_it(package, evaluate, monkeypatch):
    def found(name):
        if name == package:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("eval.install.version", found)
    line = the_line(evaluate())
    assert line.startswith(f"{package} is not installed")
    assert line.endswith(INSTALL)


def test_a_math_verify_that_scores_otherwise_is_refused(evaluate, monkeypatch):
    monkeypatch.setattr("eval.install.version", lambda name: "0.1.0" if name == "math-verify" else version(name))
    assert "math-verify is 0.1.0, expected 0.9" in the_line(evaluate())


def test_a_judge_model_is_refused(evaluate, script, monkeypatch):
    script()
    monkeypatch.setenv("USE_LLM_JUDGE", "True")
    assert "USE_LLM_JUDGE" in the_line(evaluate("--tasks", "wemath", "--limit", 1))


def test_an_evaluation_that_another_process_writes_is_left_alone(evaluate, script):
    script(boxed)
    first = evaluate("--tasks", "wemath", "--limit", 1)
    before = first.rows("FROM items")
    script()
    with sole(first.folder):
        line = the_line(evaluate("--tasks", "wemath", "--limit", 1))
    assert str(first.folder) in line
    assert "another process" in line
    assert first.rows("FROM items") == before


def test_hours_on_a_cpu_are_spent_on_request_alone(evaluate, script, monkeypatch):
    script(boxed)
    monkeypatch.setattr("eval.estimate.decode_speed", lambda: 1e4)
    usual = ("--tasks", "wemath", "--limit", 1)
    refused = evaluate(*usual)
    assert "add --yes to start all the same" in the_line(refused)
    assert not list(refused.evals.glob("*/eval.duckdb"))  # or the workbench would list it as running
    started = evaluate(*usual, "--yes")
    assert started.status == 0
    assert "there is no GPU: about" in started.err.splitlines()[0]


def test_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for expected in ("--presence-penalty", "default: 32000, as the paper", "default: evals", "mmmu_reasoning"):
        assert expected in text


# What one evaluation is


def test_a_finished_benchmark_is_not_asked_again_and_another_extends_the_evaluation(evaluate, script):
    scripted = script(boxed)
    first = evaluate("--tasks", "logicvista", "--limit", 2)
    assert len(scripted.asked) == 2
    script()
    again = evaluate("--tasks", "logicvista", "--limit", 2)
    assert (again.status, again.folder) == (0, first.folder)
    scripted = script(boxed)
    more = evaluate("--tasks", "wemath,logicvista", "--limit", 2)
    assert more.folder == first.folder
    assert [question.task for question in scripted.asked] == ["wemath"] * 2
    assert "going on: 1 benchmarks are finished, 2 answers are there" in more.err
    assert json.loads(more.rows("SELECT tasks FROM evaluation")[0][0]) == ["logicvista", "wemath"]
    assert more.rows("SELECT task, count(*) FROM items GROUP BY ALL ORDER BY ALL") == [("logicvista", 2), ("wemath", 2)]


def test_other_settings_or_data_are_another_evaluation(evaluate, script, own_data):
    script(boxed)
    usual = ("--tasks", "wemath", "--limit", 1)
    asked = [usual, (*usual[:-1], 2), (*usual, "--prompt", "official"), (*usual, "--top-k", 0)]
    evals = [evaluate(*options, data=own_data).evals for options in asked]
    table = pq.read_table(own_data / "wemath")
    file = next(own_data.glob("wemath/data/*"))
    pq.write_table(table.slice(1), file)
    evals.append(evaluate(*usual, data=own_data).evals)
    folders = sorted(evals[0].iterdir())
    assert len(folders) == len(asked) + 1
    for folder in folders:  # an answer is in one alone
        assert len((folder / "journal.jsonl").read_text().splitlines()) in (1, 2)


def test_every_seed_has_its_own_answers_and_rows(evaluate, script):
    scripted = script(boxed)
    ended = evaluate("--tasks", "wemath", "--limit", 2, "--seeds", "0,3,0")
    assert ended.status == 0
    assert sorted((question.seed, question.row) for question in scripted.asked) == [(0, 0), (0, 1), (3, 0), (3, 1)]
    assert len({question.draw_seed for question in scripted.asked}) == 4
    assert ended.rows("SELECT seed, n FROM scores WHERE is_headline ORDER BY seed") == [(0, 2), (3, 2)]
    said = [(item.seed, item.response.split()[2]) for item in ended.items("wemath")]
    assert said == [(0, "0"), (3, "3")] * 2
    assert "Seeds of the sampler: 0, 3." in " ".join(ended.out.split())


# What goes wrong on the way


NONE = {"bytes": b"no picture", "path": None}


@pytest.mark.parametrize(
    ("row", "picture", "expected"),
    [
        (1, None, "logicvista, row 1: expected a picture in column 'image', found none"),
        (1, NONE, "logicvista, row 1: its picture cannot be read ("),
        (0, NONE, "logicvista cannot be read (UnidentifiedImageError: "),  # lmms-eval looks at it first
    ],
)
def test_a_picture_that_is_none_fails_its_benchmark_alone_which_is_not_asked(
    row, picture, expected, evaluate, script, own_data
):
    table = pq.read_table(own_data / LOGICVISTA)
    place, field = table.schema.get_field_index("image"), table.schema.field("image")
    pictures = table["image"].to_pylist()
    pictures[row] = picture
    pq.write_table(table.set_column(place, field, pa.array(pictures, field.type)), own_data / LOGICVISTA)
    scripted = script(boxed)
    ended = evaluate("--tasks", "logicvista,wemath", "--limit", 2, data=own_data)
    assert ended.status == 3
    (line,) = [line for line in ended.err.splitlines() if "failed" in line]
    assert expected in line
    assert {question.task for question in scripted.asked} == {"wemath"}
    ((status, reason),) = ended.rows("SELECT status, reason FROM evaluation")
    assert (status, reason.startswith("logicvista, seed 0: ")) == ("failed", True)


def test_damaged_data_fail_their_benchmark_alone(evaluate, script, own_data, no_waiting):
    content = bytearray((own_data / LOGICVISTA).read_bytes())
    at = content.index(b"Find")
    content[at : at + 200] = bytes(range(200))
    (own_data / LOGICVISTA).write_bytes(content)
    script(boxed)
    ended = evaluate("--tasks", "logicvista,wemath", "--limit", 2, data=own_data)
    assert ended.status == 3
    (line,) = [line for line in ended.err.splitlines() if "failed" in line]
    assert line.startswith("logicvista, seed 0, failed: ")
    assert "logicvista cannot be read (OSError: " in line
    assert ended.rows("SELECT DISTINCT task FROM items") == [("wemath",)]


@pytest.fixture
def no_waiting(monkeypatch, pocket_data):
    """lmms-eval waits two seconds before it tries again to load data."""
    from lmms_eval.api.task import ConfigurableTask

    monkeypatch.setattr(ConfigurableTask.download.retry, "sleep", lambda seconds: None)


def test_without_a_network_each_benchmark_names_its_data_set_and_the_way_out(evaluate, script, monkeypatch, no_waiting):
    for constants in ("huggingface_hub.constants.HF_HUB_OFFLINE", "datasets.config.HF_HUB_OFFLINE"):
        monkeypatch.setattr(constants, True)
    script()
    ended = evaluate("--limit", 2, data=None)
    assert ended.status == 3
    lines = [line for line in ended.err.splitlines() if "failed" in line]
    names = ["kcz358/DynaMath", "lscpku/LogicVista", "MathLLMs/MathVision", "lmms-lab-encoder/MMMU", "We-Math/We-Math"]
    for line, name in zip(lines, names, strict=True):
        assert f"the data set {name} cannot be had" in line
        assert "--data-root" in line
        assert "python -m eval.pocket" in line
    assert ended.rows("SELECT status FROM evaluation") == [("failed",)]


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_evaluation_says_so_and_goes_on_where_it_stopped(how, evaluate, script):
    def stop(question):
        if len(scripted.asked) == 3:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return boxed(question)

    usual = ("--tasks", "wemath,logicvista", "--limit", 4)
    scripted = script(stop)
    before = signal.getsignal(signal.SIGTERM)
    ended = evaluate(*usual)
    assert ended.status == 130
    assert ended.err.splitlines()[-1].startswith("interrupted; what was answered is kept")
    assert signal.getsignal(signal.SIGTERM) is before
    assert ended.rows("SELECT status FROM evaluation") == [("interrupted",)]
    answered = ended.keys
    assert answered == [("wemath", 3), ("wemath", 2)]

    scripted = script(boxed)
    ended = evaluate(*usual)
    assert ended.status == 0
    assert [(question.task, question.row) for question in scripted.asked] == [
        ("wemath", 1), ("wemath", 0), *(("logicvista", row) for row in (3, 2, 1, 0)),
    ]  # fmt: skip
    assert ended.rows("SELECT status FROM evaluation") == [("finished",)]
    assert [item.response for item in ended.items("wemath")] == [rf"wemath {row} 0 \boxed{{71}}" for row in range(4)]


@pytest.fixture
def room():
    """Let no file grow beyond a size, as a full disk would; None: there is room again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda n_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if n_bytes is None else n_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_it_in_words_and_costs_no_answer_that_was_written(evaluate, script, tmp_path, room):
    def fill(question):
        if len(scripted.asked) == 3:
            (journal,) = tmp_path.glob("evals/*/journal.jsonl")
            room(journal.stat().st_size + 10)
        return boxed(question)

    usual = ("--tasks", "wemath,logicvista", "--limit", 4)
    scripted = script(fill)
    ended = evaluate(*usual)
    room(None)
    assert ended.status == 2
    assert {question.task for question in scripted.asked} == {"wemath"}, "what cannot be kept must not be generated"
    _, _, last = ended.err.splitlines()
    assert f"{ended.folder / 'eval.duckdb'} cannot be written" in last
    assert "make room" in last
    assert ended.keys == [("wemath", 3), ("wemath", 2)]

    scripted = script(boxed)
    ended = evaluate(*usual)
    assert ended.status == 0
    assert len(scripted.asked) == 6
    assert len(ended.keys) == len(set(ended.keys)) == 8


def test_after_kill_9_nothing_is_asked_twice_and_the_results_are_those_of_a_run_in_one_piece(
    evaluate, monkeypatch, tmp_path, pocket_data
):
    evals = tmp_path / "killed"
    usual = ["--tasks", "logicvista,wemath", "--limit", str(N)]
    command = [sys.executable, "-m", "eval.run", *usual, "--data-root", pocket_data, "--evals-dir", evals]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and sum(map(lines_of, evals.glob("*/journal.jsonl"))) <= BATCH:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL

    whole = evaluate(*usual, evals=tmp_path / "whole")
    (journal,) = evals.glob("*/journal.jsonl")
    n_kept = lines_of(journal)
    assert BATCH < n_kept < 2 * N  # in the midst of a second batch, with whole ones behind and before it
    n_asked = count_asked(monkeypatch)
    resumed = evaluate(*usual, evals=evals)
    assert (whole.status, resumed.status) == (0, 0)
    assert sum(n_asked) == 2 * N - n_kept
    assert len(resumed.keys) == len(set(resumed.keys)) == 2 * N
    assert f"{n_kept} answers are there" in resumed.err
    for table in ("scores", "items", "images"):
        query = f"FROM {table} ORDER BY ALL"
        assert resumed.rows(query) == whole.rows(query)
    assert len({item.score for item in whole.items("logicvista")}) == 2  # or the scores would agree for nothing


def lines_of(file):
    return file.read_bytes().count(b"\n")


def count_asked(monkeypatch):
    """How many questions the model gets, call by call."""
    asked, answers = [], LocalAnswerer.answers
    monkeypatch.setattr(
        LocalAnswerer, "answers", lambda self, qs, sampling: [asked.append(len(qs)), answers(self, qs, sampling)][1]
    )
    return asked


# What is told


def test_the_table_has_scores_with_their_uncertainty_and_number_of_items(six):
    ended, _ = six
    lines = ended.out.splitlines()
    (base,) = [line for line in lines if line.startswith("Base ") and "40.00" in line]
    assert "60.00 ± 24.5" in base  # 3 of 5: sqrt(0.6 · 0.4 / 4)
    assert "40.00 ± –" in base  # variants of one question say nothing of another
    (n,) = [line for line in lines if line.startswith("n ") and "5" in line]
    assert n.split()[1:] == ["5"] * 6
    assert any(str(ended.folder / "eval.duckdb") in line for line in lines)


def test_json_is_the_last_line_and_the_only_one_on_standard_output(evaluate, script):
    script(lambda question: r"\boxed{71}")
    ended = evaluate("--tasks", "logicvista,wemath", "--limit", 3, "--json")
    (line,) = ended.out.splitlines()
    told = json.loads(line)
    assert told["folder"] == str(ended.folder)
    assert told["failed"] == {}
    logicvista, wemath = told["scores"]["logicvista"], told["scores"]["wemath"]
    assert (logicvista["value"], logicvista["n_items"], logicvista["n_seeds"]) == (pytest.approx(1 / 3), 3, 1)
    assert logicvista["stderr"] == pytest.approx(1 / 3)  # sqrt(1/3 · 2/3 / 2)
    assert wemath["value"] == pytest.approx(1 / 3)
    assert told["average"]["value"] == pytest.approx(1 / 3)
    assert "33.33 ± 33.3" in ended.err


def test_a_hostile_label_steers_neither_terminal_nor_files(evaluate, script):
    label = "\x1b]0;mine\x07[red]x=1,y/../../" + "long" * 80 + "‮.."
    script(boxed)
    ended = evaluate("--tasks", "logicvista", "--limit", 1, "--label", label)
    assert ended.status == 0
    for text in (ended.out, ended.err, str(ended.folder)):
        assert not {"\x1b", "\x07", "‮"} & set(text)
    assert ended.folder.parent == ended.evals
    assert sorted(path.name for path in ended.folder.iterdir()) == [
        "eval.duckdb", "journal.jsonl", "lmms-eval", "log.txt", "tasks",
    ]  # fmt: skip
    assert ended.rows("SELECT label FROM evaluation") == [(label,)]
    assert len(list(ended.folder.glob("lmms-eval/*/*_results.json"))) == 1


def test_the_file_says_what_was_evaluated_with_what(six):
    ended, _ = six
    names = EvaluationRow.__dataclass_fields__
    row = dict(zip(names, ended.rows(f"SELECT {', '.join(names)} FROM evaluation")[0], strict=True))
    assert (row["eval_id"], row["method"], row["adapter"], row["device"]) == (ended.folder.name, "base", None, "cpu")
    assert json.loads(row["versions"])["lmms-eval"] == "0.7.3"
    assert json.loads(row["config"])["limit"] == 5
    assert row["started_at"] <= row["finished_at"]
