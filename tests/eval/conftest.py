"""Whole evaluations in a test: pocket benchmarks, a scripted answerer, `python -m eval.run` in this process."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import duckdb
import pytest

from core.eval_schema import ItemRow
from core.sampling import Sampling
from eval.pocket import write
from eval.questions import Answer, Question
from eval.run import main

Script = Callable[[Question], str]

SIX = "dynamath,logicvista,mathvision_mini,mmmu,mmmu_reasoning,wemath"
SCRIPT = {
    "dynamath": (
        r"\boxed{\frac{270}{2}}",
        "<think>\n\n<answer>1</answer></think>\n<answer>80</answer>",
        r"\boxed{117}",
        "",
        r"\boxed{\text{ninety-six}}",
    ),
    "logicvista": (r"\boxed{71}", "<answer>52</answer>", "The answer is 246.", "A", "<answer>C</answer>"),
    "mathvision_mini": (r"\boxed{A}", r"\boxed{33}", "<answer>97</answer>", r"\boxed{\frac{364}{2}}", r"\boxed{D}"),
    "mmmu": ("So it is 186", "274", "B", r"\boxed{A}", "Not A.\n\nC"),
    "mmmu_reasoning": ("<answer>186</answer>", r"\boxed{273}", r"\boxed{B}", "<answer>B</answer>", "C"),
    "wemath": ("<answer>A</answer>", r"\boxed{136}", "71", r"\boxed{D}", "<answer>78</answer>"),
}
"""What is said to the first five items of each pocket benchmark."""


class Scripted:
    """An answerer with a script, last question first: the order is free."""

    backend, device = "transformers", "cpu"

    def __init__(self, says: Script) -> None:
        self.says = says
        self.asked: list[Question] = []
        self.samplings: list[Sampling] = []

    def answers(self, questions: Sequence[Question], sampling: Sampling) -> Iterator[tuple[Question, Answer]]:
        self.samplings.append(sampling)
        for question in reversed(questions):
            self.asked.append(question)
            text = self.says(question)
            yield question, Answer(text, 7, len(text.split()), truncated=False)


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    out: str
    err: str
    evals: Path

    @property
    def folder(self) -> Path:
        """The one evaluation that is there."""
        (folder,) = self.evals.iterdir()
        return folder

    def rows(self, query: str) -> list[tuple]:
        """What its file answers."""
        with duckdb.connect(str(self.folder / "eval.duckdb"), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def items(self, task: str) -> list[ItemRow]:
        """Its answers to a benchmark, in order of the items' names."""
        names = [field.name for field in fields(ItemRow)]
        rows = self.rows(f"SELECT {', '.join(names)} FROM items WHERE task = '{task}' ORDER BY item_id, seed")
        return [ItemRow(**dict(zip(names, row, strict=True))) for row in rows]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Benchmark and row of each line of its journal."""
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        return [(each["task"], each["row"]) for each in map(json.loads, lines)]


def run(*options: object, evals: Path, data: Path | None) -> Ended:
    """The command in this process, which pays for its imports once."""
    out, err = io.StringIO(), io.StringIO()
    where = ["--evals-dir", str(evals), *([] if data is None else ["--data-root", str(data)])]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*where, *map(str, options)])
    return Ended(status, out.getvalue(), err.getvalue(), evals)


@pytest.fixture(scope="session")
def pocket_data(tmp_path_factory):
    """Pocket benchmarks, and a cache of lmms-eval's own."""
    pytest.importorskip("lmms_eval", reason="lmms-eval is installed apart from the rest")
    folder = tmp_path_factory.mktemp("benchmarks")
    write(folder, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


def put(scripted: Scripted, patch: pytest.MonkeyPatch) -> None:
    """Let it answer for the model, whose time need not be measured then."""
    patch.setattr("eval.evaluation.open_answerer", lambda settings: scripted)
    patch.setattr("eval.estimate.decode_speed", lambda: 1e12)


@pytest.fixture
def evaluate(tmp_path, pocket_data):
    """Run the command: `evaluate("--limit", 2)`; its evaluations go below `tmp_path / "evals"`."""

    def evaluate(*options, evals=tmp_path / "evals", data=pocket_data):
        return run(*options, evals=evals, data=data)

    return evaluate


@pytest.fixture
def script(monkeypatch, pocket_data):
    """Put a script in the place of the model; without one, whoever asks fails the test."""

    def refuse(question):
        pytest.fail(f"{question.task}, row {question.row}, was asked")

    def script(says: Script = refuse):
        scripted = Scripted(says)
        put(scripted, monkeypatch)
        return scripted

    return script


@pytest.fixture(scope="session")
def six(tmp_path_factory, pocket_data):
    """Five items of each of six benchmarks, answered by `SCRIPT`: how it ended, and who answered."""
    scripted = Scripted(lambda question: SCRIPT[question.task][question.row])
    with pytest.MonkeyPatch.context() as patch:
        put(scripted, patch)
        ended = run("--tasks", SIX, "--limit", 5, evals=tmp_path_factory.mktemp("six"), data=pocket_data)
    return ended, scripted
