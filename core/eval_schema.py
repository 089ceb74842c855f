"""The evaluation file ``evals/<id>/eval.duckdb``: every table, column, type, unit and meaning, as `core.schema` does.

Keys: ``scores(task, metric, seed)``, ``items(task, item_id, seed)``. Scores are shares in [0, 1], times are UTC. An
item answered under several sampling seeds has a row for each; the mean score of a task's items is its headline score.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from core.schema import Column, FileKind, ImageRow, Status

EVAL_SCHEMA_VERSION = 1
FILE_NAME = "eval.duckdb"

BENCHMARKS = {
    "dynamath": "DynaMath",
    "logicvista": "LogicVista",
    "mathvision_mini": "MathVision mini",
    "mmmu": "MMMU",
    "wemath": "WeMath",
}
"""The paper's five, in its order (Table 2), and how they are written."""

SETTINGS = ("data", "backend", "prompt", "pixels", "sampling")
"""What must be equal for two evaluations to be comparable."""

Task = Annotated[str, Column("VARCHAR", "benchmark: dynamath, logicvista, mathvision_mini, mmmu, wemath, ...")]
Seed = Annotated[int, Column("INTEGER", "seed of the sampler")]


@dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """Table ``evaluation``: the one row that says what was evaluated, with what, and how it ended."""

    eval_id: Annotated[str, Column("VARCHAR", "name of the evaluation, also of its folder")]
    schema_version: Annotated[int, Column("INTEGER", "version of this schema")] = EVAL_SCHEMA_VERSION
    label: Annotated[str, Column("VARCHAR", "how tables call it, by default the method")]
    method: Annotated[str, Column("VARCHAR", "base, grpo, opsd, sdpo, rlsd or cepo; empty when unknown")]
    model: Annotated[str, Column("VARCHAR", "hub id or folder of the model before training")]
    adapter: Annotated[str | None, Column("VARCHAR", "adapter or trained checkpoint put on the model")] = None
    revision: Annotated[str | None, Column("VARCHAR", "revision of the model on the hub")] = None
    run_id: Annotated[str | None, Column("VARCHAR", "training run the weights come from")] = None
    run_seed: Annotated[int | None, Column("INTEGER", "seed of that run")] = None
    tasks: Annotated[str, Column("VARCHAR", "benchmarks asked for, JSON list")]
    data: Annotated[str, Column("VARCHAR", "where the items come from: hub, or a folder")]
    backend: Annotated[str, Column("VARCHAR", "what generated the answers: vllm or transformers")]
    prompt: Annotated[str, Column("VARCHAR", "variant of the prompts")]
    pixels: Annotated[str, Column("VARCHAR", "smallest and largest picture in pixels, JSON")]
    sampling: Annotated[str, Column("VARCHAR", "sampling parameters as applied, JSON")]
    config: Annotated[str, Column("VARCHAR", "resolved configuration, JSON")]
    versions: Annotated[str, Column("VARCHAR", "versions of the libraries, JSON")]
    git_commit: Annotated[str, Column("VARCHAR", "commit of the code, empty outside a repository")]
    device: Annotated[str, Column("VARCHAR", "device that answered")]
    status: Annotated[Status, Column("VARCHAR", "running, finished, interrupted or failed")] = "running"
    reason: Annotated[str | None, Column("VARCHAR", "why it failed or stopped, one line")] = None
    started_at: Annotated[datetime, Column("TIMESTAMP", "start, UTC")]
    finished_at: Annotated[datetime | None, Column("TIMESTAMP", "end, UTC")] = None


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """Table ``scores``: one metric of a finished benchmark under one seed."""

    task: Task
    metric: Annotated[str, Column("VARCHAR", "metric, as the scorer names it")]
    is_headline: Annotated[bool, Column("BOOLEAN", "the metric that is the mean of items.score")]
    score: Annotated[float, Column("DOUBLE", "score, share in [0, 1]")]
    stderr: Annotated[float | None, Column("DOUBLE", "standard error over clusters of items")] = None
    ci_low: Annotated[float | None, Column("DOUBLE", "lower end of the 95 % interval")] = None
    ci_high: Annotated[float | None, Column("DOUBLE", "upper end of the 95 % interval")] = None
    n: Annotated[int, Column("INTEGER", "items scored")]
    seed: Seed
    task_version: Annotated[str | None, Column("VARCHAR", "version of the benchmark")] = None


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """Table ``items``: one answer to one item of a benchmark."""

    task: Task
    item_id: Annotated[str, Column("VARCHAR", "identity of the item within its benchmark")]
    seed: Seed
    score: Annotated[float, Column("DOUBLE", "score of the answer, in [0, 1]")]
    cluster: Annotated[str | None, Column("VARCHAR", "items that stand or fall together; NULL: it stands alone")] = None
    question: Annotated[str, Column("VARCHAR", "question as asked")]
    image_ids: Annotated[str, Column("VARCHAR", "its images in order, keys of images, JSON list")] = "[]"
    target: Annotated[str, Column("VARCHAR", "right answer")]
    response: Annotated[str, Column("VARCHAR", "response as text")]
    answer: Annotated[str | None, Column("VARCHAR", "answer read from the response, NULL where none was found")] = None
    n_tokens: Annotated[int, Column("INTEGER", "sampled tokens")]
    truncated: Annotated[bool, Column("BOOLEAN", "cut at the token limit")]


EVAL_TABLES: dict[str, type] = {
    "evaluation": EvaluationRow,
    "scores": ScoreRow,
    "items": ItemRow,
    "images": ImageRow,
}

EVALUATION_FILE = FileKind(
    noun="an evaluation file", head="evaluation", version=EVAL_SCHEMA_VERSION, tables=EVAL_TABLES
)
