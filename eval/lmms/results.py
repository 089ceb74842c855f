"""What lmms-eval says of a benchmark, item by item, as our own rows."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from lmms_eval.tasks._task_utils.reasoning_utils import extract_anwser_tag
from lmms_eval.tasks.mmmu.utils import evaluate_mmmu, get_multi_choice_info, parse_multi_choice_response

from core.errors import InputError
from core.eval_schema import ItemRow
from core.schema import ImageRow
from core.verifier import extract_boxed
from eval.lmms.model import CredenceModel
from eval.lmms.tasks import key_of
from eval.tasks import Benchmark


@dataclass(frozen=True)
class TaskResult:
    """What one benchmark under one seed came to."""

    items: tuple[ItemRow, ...]
    images: tuple[ImageRow, ...]
    headline: float
    """lmms-eval's own number, as a share."""
    metrics: dict[str, float]
    """Every metric that lmms-eval gives as a number, as shares, and two of ours. `unscored_share`: answers that cost
    the scorer too much and count as empty. `unparsed_share`: MMMU's multiple-choice answers in which nothing could be
    read, so that an option was drawn."""
    version: str
    """The task's version and a digest of the items asked."""


def result_of(
    benchmark: Benchmark,
    seed: int,
    model: CredenceModel,
    report: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    unscored: Set[str],
) -> TaskResult:
    """Read a benchmark's report and samples.

    Args:
        benchmark: what was asked.
        seed: of the sampler.
        model: knows the answers as they were said, and the pictures.
        report: of `simple_evaluate`.
        samples: its samples of this benchmark.
        unscored: keys of items whose answer was too costly to score.
    """
    expected = report["n-samples"][benchmark.task]["effective"]
    if len(samples) != expected:
        raise InputError(f"{benchmark.name}: lmms-eval scored {len(samples)} of {expected} items; see its log")
    lost = [key_of(benchmark, seed, sample["doc"]) in unscored for sample in samples]
    readings = [
        None if is_lost else _read_answer(benchmark, sample) for sample, is_lost in zip(samples, lost, strict=True)
    ]
    rows = zip(samples, _item_ids(benchmark, samples), readings, strict=True)
    items = tuple(_item_row(benchmark, seed, model, *row) for row in rows)
    numbers = report["results"][benchmark.task]
    metrics = _shares(benchmark, numbers) | {"unscored_share": sum(lost) / len(samples)}
    if benchmark.headline == "mmmu_acc":
        chosen = [r for r, s in zip(readings, samples, strict=True) if s["doc"]["question_type"] == "multiple-choice"]
        metrics["unparsed_share"] = chosen.count(None) / max(len(chosen), 1)
    asked = json.dumps([[item.question, item.target, item.image_ids] for item in items])
    return TaskResult(
        items=items,
        images=tuple(image for pictures in model.shown.values() for image in pictures),
        headline=numbers[f"{benchmark.headline},none"] / benchmark.scale,
        metrics=metrics,
        version=f"{report['versions'][benchmark.task]} {sha256(asked.encode()).hexdigest()[:8]}",
    )


def _item_row(
    benchmark: Benchmark,
    seed: int,
    model: CredenceModel,
    sample: Mapping[str, Any],
    item_id: str,
    reading: str | None,
) -> ItemRow:
    doc, place = sample["doc"], (benchmark.name, sample["doc_id"])
    said = model.said[place]
    return ItemRow(
        task=benchmark.name,
        item_id=item_id,
        seed=seed,
        score=float(HEADLINE_SCORES[benchmark.headline](sample[benchmark.headline])),
        cluster=benchmark.cluster(doc) if benchmark.cluster else None,
        question=benchmark.question(doc),
        image_ids=json.dumps([picture.image_id for picture in model.shown[place]]),
        target=str(doc[benchmark.target]),
        response=said.text,
        answer=reading,
        n_tokens=said.n_tokens,
        truncated=said.truncated,
    )


HEADLINE_SCORES: dict[str, Callable[[Any], float]] = {
    "acc_score": float,
    "dynamath_average": lambda sample: sample["acc"],
    "mathvision_standard_eval": lambda sample: sample["scores"][0],
    "mmmu_acc": lambda sample: cast("tuple[dict, dict]", evaluate_mmmu([sample]))[1]["acc"],
}
"""What each scorer says of one item, as 0 or 1."""


def _item_ids(benchmark: Benchmark, samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """Its authors' names of the items where they tell them apart, else their rows."""
    names = [benchmark.item_id(sample["doc"]) for sample in samples]
    return names if len(set(names)) == len(names) else [str(sample["doc_id"]) for sample in samples]


def _shares(benchmark: Benchmark, numbers: Mapping[str, Any]) -> dict[str, float]:
    """Every metric that is a number; lmms-eval also leaves texts, empty lists and its own standard errors there."""
    shares = {}
    for key, value in numbers.items():
        name, _, _ = key.partition(",")
        if isinstance(value, int | float) and "_stderr" not in name:
            shares[name] = value / (benchmark.scale if name == benchmark.headline else 1.0)
    return shares


class _Watched(list):
    """Options that notice when one is drawn by its place: the mark of a guess."""

    drawn = False

    def __getitem__(self, place: Any) -> Any:
        self.drawn = True
        return super().__getitem__(place)


def _read_answer(benchmark: Benchmark, sample: Mapping[str, Any]) -> str | None:
    """What the scorer took for the answer, None where it found none."""
    text, doc = sample["filtered_resps"][0], sample["doc"]
    if benchmark.headline == "mathvision_standard_eval":
        return extract_boxed(text)
    if benchmark.headline != "mmmu_acc":
        return extract_anwser_tag(text).strip() or None
    (parsed,) = sample["mmmu_acc"]["parsed_pred"]
    if doc["question_type"] != "multiple-choice":
        return ", ".join(sorted(map(str, parsed))) or None
    by_letter, letters = get_multi_choice_info(ast.literal_eval(doc["options"]))
    watched = _Watched(letters)
    parse_multi_choice_response(text, watched, by_letter)
    return None if watched.drawn else parsed
