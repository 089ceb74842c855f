"""Made-up evaluation files: what `evals/<id>/eval.duckdb` looks like, without a model."""

import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
from PIL import Image

from core.eval_schema import EVAL_TABLES, FILE_NAME, EvaluationRow, ItemRow, ScoreRow
from core.schema import ImageRow, create_statements
from core.spool import rows_to_arrow

TASKS = ("dynamath", "logicvista", "mathvision_mini", "mmmu", "wemath")
SIZES = dict(zip(TASKS, (300, 90, 60, 120, 150), strict=True))
VARIANTS = 10
HOSTILE = (
    '<script>window.__xss=1</script><img src=x onerror="window.__xss=1"> $x^2$ :red[a] ![b](https://b.example/c.png)'
)


def evaluation(label: str = "CEPO", **changes: object) -> EvaluationRow:
    """A finished evaluation."""
    now = datetime(2026, 1, 2, 3, 4, 5)
    row = EvaluationRow(
        eval_id=label.lower(), label=label, method=label.lower(), model="pocket", tasks=json.dumps(TASKS),
        data="data/pocket", backend="transformers", prompt="official", pixels="[3136, 12845056]",
        sampling='{"temperature": 1.0, "top_k": 40}', config="{}", versions="{}", git_commit="a1b2c3d4e5f6",
        device="cpu", status="finished", started_at=now, finished_at=now,
    )  # fmt: skip
    return replace(row, **changes)


def png(color: tuple[int, int, int] = (120, 160, 220)) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), color).save(buffer, "PNG")
    return buffer.getvalue()


def answers(
    task: str, rate: float, draw: np.random.Generator, *, n: int | None = None, seed: int = 0, text: str = "so it is 7"
) -> list[ItemRow]:
    """Answers to a benchmark: items are as hard for everyone, DynaMath's variants as hard as each other."""
    n = SIZES[task] if n is None else n
    image_id = ImageRow.from_png(png()).image_id
    hard = np.random.default_rng(len(task)).uniform(size=n)
    if task == "dynamath":
        hard = np.repeat(hard[: -(-n // VARIANTS)], VARIANTS)[:n]
    right = np.clip(hard + draw.normal(0, 0.15, n), 0, 1) < rate
    return [
        ItemRow(
            task=task, item_id=f"{task}-{i}", seed=seed, score=float(right[i]),
            cluster=str(i // VARIANTS) if task == "dynamath" else None, question=f"What is x in figure {i}?",
            image_ids=json.dumps([image_id]), target="7", response=f"{text} {i}", answer="7" if right[i] else None,
            n_tokens=5, truncated=not right[i],
        )
        for i in range(n)
    ]  # fmt: skip


def write(folder: Path, about: EvaluationRow, items: list[ItemRow], unfinished: tuple[str, ...] = ()) -> Path:
    """An evaluation file in its folder below `folder`; a benchmark that is `unfinished` has items and no score."""
    path = folder / about.eval_id / FILE_NAME
    path.parent.mkdir(parents=True)
    pairs = dict.fromkeys((item.task, item.seed) for item in items if item.task not in unfinished)
    scores = []
    for task, seed in pairs:
        values = [item.score for item in items if (item.task, item.seed) == (task, seed)]
        scores.append(
            ScoreRow(
                task=task, metric="accuracy", is_headline=True, score=float(np.mean(values)), n=len(values), seed=seed,
                task_version="1.0",
            )
        )  # fmt: skip
    rows = {"evaluation": [about], "scores": scores, "items": items, "images": [ImageRow.from_png(png())]}
    with duckdb.connect(path) as connection:
        for statement in create_statements(EVAL_TABLES):
            connection.execute(statement)
        for table, those in rows.items():
            new = rows_to_arrow(table, those, EVAL_TABLES)
            connection.register("new_rows", new)
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")
            connection.unregister("new_rows")
    return path


def write_all(folder: Path) -> None:
    """A base, four methods (one unfinished), and a file of junk."""
    rates = {"base": 0.40, "grpo": 0.50, "rlsd": 0.51, "cepo": 0.56}
    for i, (method, rate) in enumerate(rates.items()):
        draw = np.random.default_rng(i)
        items = [item for task in TASKS for item in answers(task, rate, draw)]
        label = "Base" if method == "base" else method.upper()
        run = {} if method == "base" else {"run_id": method, "run_seed": 0}
        write(folder, evaluation(label, method=method, **run), items)
    draw = np.random.default_rng(9)
    some = [item for task in TASKS[:4] for item in answers(task, 0.3, draw, text=HOSTILE)]
    about = evaluation(f"SDPO {HOSTILE}", eval_id="sdpo", method="sdpo", status="interrupted", finished_at=None)
    write(folder, about, some, unfinished=("mmmu",))
    (folder / "junk").mkdir()
    (folder / "junk" / FILE_NAME).write_bytes(b"no database")
