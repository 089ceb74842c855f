"""What a person gets wrong on the command line costs one line and exit code 2, and nothing is written or lost."""

import io
import json
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from core.config import POCKET_BASE
from core.methods import METHODS
from core.train import main

TINY = ["--rollouts.problems-per-step", "2", "--rollouts.group-size", "2", "--validation.problems", "2"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, so that whatever a command writes is seen."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(workplace: Path, capsys: pytest.CaptureFixture):
    """Runs a command that must fail for its input; returns its one line."""

    def command(*arguments: object, writes: bool = False) -> str:
        before = sorted(workplace.rglob("*"))
        code = main([str(argument) for argument in arguments])
        printed, errors = capsys.readouterr()
        assert code == 2
        assert len(errors.splitlines()) == 1, errors
        assert "Traceback" not in errors
        if not writes:
            assert printed == ""
            assert sorted(workplace.rglob("*")) == before
        return errors.strip()

    return command


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "white").save(buffer, "PNG")
    return buffer.getvalue()


def write_rows(path: Path, answers: list[str | None], image: bytes) -> Path:
    """A small data set in the schema of hiyouga/geometry3k."""
    images = [[{"bytes": image, "path": None}] for _ in answers]
    rows = {"problem": ["<image>What is x?"] * len(answers), "answer": answers, "images": images}
    pq.write_table(pa.table(rows), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "ceppo"], "method 'ceppo' is unknown; did you mean 'cepo'?"),
        (["--method.epsilon-w", "1.5"], "method.epsilon_w: expected less than 1, got 1.5"),
        (["--method.epsilon-v", "0.5"], "method.epsilon_v is unknown; did you mean 'epsilon_w'?"),
        (["--stepz", "3"], "stepz is unknown; did you mean 'steps'?"),
        (["--steps=0"], "steps: expected greater than or equal to 1, got 0"),
        (["--steps", "many"], "steps: expected a valid integer, got 'many'"),
        (["--steps"], "--steps: expected a value after it"),
        (["--steps", "--seed", "1"], "--steps: expected a value after it"),
        (["--config"], "--config: expected one argument"),
        (["30"], "'30': expected an option such as --steps 30; see --help"),
        (["--rollouts.group-size", "1"], "rollouts.group_size: expected greater than or equal to 2, got 1"),
        (["--config", "none.yaml"], "configuration none.yaml: cannot be read (No such file or directory)"),
        (["--resume", "none"], "--resume none: "),
        (["--resume", "."], "--resume .: "),
        (["--run-id", "a/b"], "--run-id 'a/b': expected a name without folders"),
        (["--model.path", "no/such/folder"], "model.path 'no/such/folder': expected a model folder or a hub id"),
        (["--problems.source", "none.parquet"], "none.parquet: no such file or folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_costs_one_line(arguments: list[str], said: str, refused) -> None:
    assert refused(*arguments).startswith(said)


@pytest.mark.parametrize(
    "flag", [["--steps", "3"], ["--method", "cepo"], ["--run-id", "b"], ["--runs-dir", "b"], ["--config", "b.yaml"]]
)
def test_a_resumed_run_keeps_its_configuration(flag: list[str], refused) -> None:
    assert refused("--resume", ".", *flag) == f"--resume takes the run's own configuration; leave out {flag[0]}"


@pytest.mark.parametrize("text", ["steps: [1", "just words", "- a\n- list"])
def test_a_configuration_that_is_none_is_named(text: str, workplace: Path, refused) -> None:
    (workplace / "bad.yaml").write_text(text)
    assert refused("--config", "bad.yaml").startswith("configuration bad.yaml: ")


def test_files_and_flags_of_a_command_are_merged_in_order(workplace: Path, refused) -> None:
    (workplace / "first.yaml").write_text("seed: first\nsteps: 1")
    (workplace / "second.yaml").write_text("seed: second")
    both = ["--config", "first.yaml", "--config", "second.yaml"]
    assert refused(*both) == "seed: expected a valid integer, got 'second'"
    assert refused("--seed", "flag", *both) == "seed: expected a valid integer, got 'flag'"


def test_an_existing_run_folder_is_left_as_it_is(workplace: Path, refused) -> None:
    (workplace / "runs" / "mine").mkdir(parents=True)
    assert refused("--run-id", "mine").startswith("run folder runs/mine exists; resume it with --resume runs/mine")


def test_a_runs_folder_that_cannot_be_made_is_named(workplace: Path, refused) -> None:
    (workplace / "file").write_text("")
    assert "file/below" in refused("--runs-dir", "file/below", *TINY)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:1000], lambda data: b"\xff" * 8 + data[8:], lambda data: b"", lambda data: b"no weights here"],
    ids=["cut", "header", "empty", "text"],
)
def test_damaged_weights_are_named(damage, workplace: Path, refused) -> None:
    shutil.copytree(POCKET_BASE, workplace / "model")
    weights = workplace / "model" / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    assert refused("--model.path", "model").startswith("model.path 'model': expected a model folder or a hub id")


def test_a_row_without_an_answer_is_named(workplace: Path, refused) -> None:
    write_rows(workplace / "rows.parquet", ["1", None], png())
    said = refused("--problems.source", "rows.parquet")
    assert said.startswith("rows.parquet row 1: expected an answer")
    assert said.endswith("mend the row or set problems.on_bad_row to skip")


@pytest.mark.parametrize("image", [b"", b"no picture", png()[:-20]], ids=["empty", "text", "cut"])
def test_a_row_with_a_broken_image_is_named(image: bytes, workplace: Path, refused) -> None:
    write_rows(workplace / "rows.parquet", ["1"], image)
    assert refused("--problems.source", "rows.parquet").startswith("rows.parquet row 0: expected a PNG")


def test_what_goes_wrong_on_the_way_leaves_a_failed_run_with_its_reason(workplace: Path, refused) -> None:
    limit = ["--problems.max-prompt-tokens", "20", "--run-id", "long"]
    said = refused(*TINY, *limit, writes=True)
    assert "tokens, problems.max_prompt_tokens is 20; raise the limit or leave the problem out" in said
    with duckdb.connect(workplace / "runs" / "long" / "run.duckdb", read_only=True) as connection:
        status, reason = connection.execute("SELECT status, reason FROM run").fetchone()
    assert status == "failed"
    assert reason in said


@pytest.mark.parametrize("method", METHODS)
def test_help_shows_the_chosen_methods_options(method: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--method", method, "--help"])
    assert ended.value.code == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    for option in ("--config", "--resume", "--steps", "--rollouts.group-size", "--method.learning-rate"):
        assert option in printed
    assert ("--method.epsilon-w" in printed) == (method in ("rlsd", "cepo"))
    assert ("--method.hint-wrong.pick" in printed) == (method == "cepo")


def test_json_is_all_that_stdout_gets(workplace: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([*TINY, "--method", "grpo", "--steps", "1", "--run-id", "one", "--json"]) == 0
    printed, told = capsys.readouterr()
    summary = json.loads(printed)
    assert (summary["status"], summary["last_step"], summary["folder"]) == ("finished", 1, "runs/one")
    assert "step 1/1" in told
