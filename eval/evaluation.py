"""One evaluation from its options to its files: finds what is there already, asks the rest, scores, and tells."""

import dataclasses
import json
import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets.exceptions import DatasetsError
from rich.console import Console
from transformers import AutoImageProcessor

from core.config import ModelConfig
from core.console import printable
from core.errors import EngineError, InputError
from core.eval_schema import FILE_NAME, EvaluationRow
from core.policy import device_of
from core.provenance import git_commit, versions
from core.runfile import first_line
from core.schema import Status
from eval import report
from eval.estimate import check_patience
from eval.journal import Journal, JournalError, sole
from eval.lmms.checks import check_scorers
from eval.lmms.running import evaluate, quietly
from eval.model import LocalAnswerer
from eval.progress import Display
from eval.questions import Answerer
from eval.results import Results
from eval.sandbox import ScorerError
from eval.scores import HeadlineError, Summary, check_headline, score_rows
from eval.settings import Data, Settings, local_data
from eval.tasks import Benchmark
from eval.weights import load_policy, resolve

if TYPE_CHECKING:
    from eval.run import Options

LOG = "log.txt"
"""What lmms-eval and other libraries print, and where failures are told at length; below an evaluation's folder."""

LIBRARIES = ("torch", "transformers", "peft", "datasets", "lmms-eval", "math-verify", "latex2sympy2", "duckdb")

TASK_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, OSError, RuntimeError),
    *(SyntaxError, TypeError, ValueError, DatasetsError),
)
"""What a data set, a task or a scorer of somebody else may raise; the other benchmarks go on, the log has it all."""


@dataclass(frozen=True)
class Outcome:
    """How an evaluation ended."""

    folder: Path
    failed: dict[str, str]
    """Benchmark to the reason it failed, one line."""
    report: dict[str, Any]
    """For --json."""


def run(options: "Options") -> Outcome:
    """Evaluate, or go on with an evaluation of the same settings.

    Bad input raises InputError before anything is asked; after that a benchmark that fails does not stop the others.
    """
    given, display = options.arguments, Display()
    if device_of(ModelConfig()).type == "cpu":
        torch.set_num_threads(1)  # more threads on few cores cost more than they bring at these sizes
    settings = settings_of(options)
    folder = given.evals_dir / settings.eval_id
    with sole(folder), (folder / LOG).open("a", encoding="utf-8", buffering=1) as log:
        with quietly(log):
            check_scorers()
        results = Results(folder / FILE_NAME)
        finished = results.finished() if results.path.exists() else set()
        asked = [(benchmark, seed) for benchmark in options.benchmarks for seed in options.seeds]
        todo = [each for each in asked if (each[0].name, each[1]) not in finished]
        if todo and settings.backend == "transformers":
            answers = sum(settings.size(benchmark) for benchmark, _ in todo)
            if line := check_patience(settings.weights, answers, settings.sampling, given.yes):
                display.line(line)
        results = Results.open(folder, about(settings, options))  # not before it is sure to start
        with Journal(folder / "journal.jsonl") as journal, _ending(results) as failed:
            _greet(display, settings, folder, journal, len(asked) - len(todo))
            with quietly(log):
                answerer = open_answerer(settings) if todo else None
            for benchmark, seed in todo:
                assert answerer is not None
                try:
                    with display.counting(_title(benchmark, seed), settings.size(benchmark)) as counter:
                        result = evaluate(benchmark, seed, answerer, settings, journal, counter, folder, log)
                    check_headline(benchmark, result.items, result.headline)
                    rows = score_rows(benchmark, seed, result.items, result.metrics, result.version)
                    results.put(benchmark.name, seed, rows, result.items, result.images)
                except JournalError:
                    raise  # what cannot be kept must not be generated
                except TASK_ERRORS as error:
                    failed[f"{benchmark.name}, seed {seed}"] = reason = reason_of(error)
                    display.line(f"{benchmark.name}, seed {seed}, failed: {reason}")
                    with suppress(OSError):
                        traceback.print_exc(file=log)
    return _told(folder, options, failed)


def settings_of(options: "Options") -> Settings:
    """What the command line comes to: weights, data, prompt and engine."""
    given = options.arguments
    weights = resolve(given.model, given.adapter)
    if given.label:
        weights = dataclasses.replace(weights, label=given.label)
    data = Data() if given.data_root is None else local_data(given.data_root, options.benchmarks)
    # the pocket model has learnt to answer one wording of a question, and no other
    prompt = given.prompt or ("student" if weights.model == "pocket" else "official")
    backend = given.backend or ("vllm" if find_spec("vllm") and torch.cuda.is_available() else "transformers")
    if backend == "vllm" and find_spec("vllm") is None:
        raise InputError("--backend vllm: vLLM is not installed; pip install -e '.[vllm]', or leave --backend out")
    return Settings(weights, backend, prompt, options.sampling, data, given.limit)


def open_answerer(settings: Settings) -> Answerer:
    """The model on the engine of its choice; loading takes a while."""
    weights = settings.weights
    if settings.backend == "transformers":
        return LocalAnswerer(load_policy(weights))
    from eval.vllm_model import VllmAnswerer  # only there where vLLM is

    return VllmAnswerer(weights.path, weights.adapter, weights.revision)


def about(settings: Settings, options: "Options") -> EvaluationRow:
    """The provenance of an evaluation."""
    weights = settings.weights
    config = {name: str(v) if isinstance(v, Path) else v for name, v in vars(options.arguments).items()}
    return EvaluationRow(
        eval_id=settings.eval_id,
        label=weights.label,
        method=weights.method,
        model=weights.model,
        adapter=weights.adapter_name,
        revision=weights.revision,
        run_id=weights.run_id,
        run_seed=weights.run_seed,
        tasks=json.dumps([benchmark.name for benchmark in options.benchmarks]),
        data=settings.data.name,
        backend=settings.backend,
        prompt=f"{settings.prompt}, lmms-eval {version('lmms-eval')}",
        pixels=json.dumps(pixels(weights.path)),
        sampling=json.dumps(dataclasses.asdict(settings.sampling)),
        config=json.dumps(config),
        versions=versions(LIBRARIES),
        git_commit=git_commit(),
        device=str(device_of(ModelConfig())),
        started_at=datetime.now(UTC).replace(tzinfo=None),
    )


def pixels(path: str) -> list[int] | None:
    """Smallest and largest picture that the model takes as it is, in pixels; None for a model without eyes."""
    try:
        size = AutoImageProcessor.from_pretrained(path, backend="pil").size
    except OSError:  # what transformers raises where there is no image processor
        return None
    return [size.shortest_edge, size.longest_edge]


def _title(benchmark: Benchmark, seed: int) -> str:
    return benchmark.title if seed == 0 else f"{benchmark.title}, seed {seed}"


def reason_of(error: BaseException) -> str:
    """Why a benchmark failed, in one line; that of a library says too of what kind it is: a KeyError is but a key."""
    line = first_line(error)
    return line if isinstance(error, InputError | ScorerError | HeadlineError) else f"{type(error).__name__}: {line}"


@contextmanager
def _ending(results: Results) -> Iterator[dict[str, str]]:
    """Whatever happens inside, the file says how the evaluation ended; yields where failures are noted."""
    failed: dict[str, str] = {}
    status: Status = "interrupted"
    reason: str | None = None
    try:
        yield failed
        status = "failed" if failed else "finished"
        reason = "; ".join(f"{name}: {why}" for name, why in failed.items()) or None
    except (InputError, EngineError) as error:
        status, reason = "failed", first_line(error)
        raise
    finally:
        results.finish(status, reason)


def _greet(display: Display, settings: Settings, folder: Path, journal: Journal, n_finished: int) -> None:
    sampling = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(settings.sampling).items())
    weights = " + ".join(filter(None, (settings.weights.model, settings.weights.adapter_name)))
    display.line(f"{settings.weights.label}: {weights} · {settings.backend} · {settings.prompt} prompts · {folder}")
    display.line(f"data: {settings.data.name} · {sampling}")
    if journal.resumed or n_finished:
        display.line(f"going on: {n_finished} benchmarks are finished, {journal.resumed} answers are there")
    if journal.unreadable:
        display.line(f"{journal.path}: {journal.unreadable} lines cannot be read; those answers are generated again")


def _told(folder: Path, options: "Options", failed: dict[str, str]) -> Outcome:
    """Print the table, say where everything lies, and collect what --json prints."""
    read = report.read_evaluation(folder)
    tasks = [benchmark.name for benchmark in options.benchmarks]
    row = report.report_row(read.about.label, read.items, tasks)
    stream = sys.stderr if options.arguments.json else sys.stdout
    console = Console(file=stream)
    if row.summaries:
        console.print(report.table([row], tasks, report.remarks(read, row.label)))
    for line in (
        *(f"failed: {name}: {why} (details in {folder / LOG})" for name, why in failed.items()),
        f"every item and score: {folder / FILE_NAME}; in the workbench: Benchmarks",
        f"paired with another: python -m eval.compare OTHER {folder}",
    ):
        print(printable(line), file=stream)
    summaries = {task: _as_json(each) for task, each in row.summaries.items()}
    average = row.average(tasks)
    told = {"folder": str(folder), "failed": failed, "scores": summaries}
    return Outcome(folder, failed, told | ({"average": _as_json(average)} if average else {}))


def _as_json(summary: Summary) -> dict[str, Any]:
    values = {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary) if field.compare}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
