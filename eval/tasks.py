"""The benchmarks: our names, what lmms-eval calls them, which of its numbers is the headline, and how items group.

Sizes and headline metrics are the paper's: the cells of its Table 2 are k/n for these n, so DynaMath is the average
over all variants, and WeMath is `acc_score` over all 1,740 questions, not the strict or loose score.
"""

import ast
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.errors import InputError
from core.eval_schema import BENCHMARKS as TITLES
from core.prompts import IMAGE_MARKER

Doc = Mapping[str, Any]
"""A row of a benchmark's data."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, and how lmms-eval runs it."""

    name: str
    title: str
    """As the paper's Table 2 calls it."""
    task: str
    """lmms-eval's name."""
    config: str
    """lmms-eval's own YAML, below its folder of tasks."""
    split: str
    headline: str
    """The metric that the paper reports."""
    size: int
    """Items of the official data."""
    folder: str
    """Where its data lie below a data root."""
    question: Callable[[Doc], str]
    """The bare question with its options, without a word on how to answer; images as `IMAGE_MARKER` or not at all."""
    item_id: Callable[[Doc], str]
    """What its authors call an item."""
    target: str
    """Column of the right answer."""
    pictures: Callable[[Doc], Sequence[str]]
    """Columns whose pictures a row needs."""
    scale: float = 1.0
    """What the headline metric is divided by to be a share."""
    cluster: Callable[[Doc], str] | None = None
    """Items with equal clusters are variants of one question; None: every item stands alone."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the YAML that we set otherwise, each for a reason given beside it."""


def _mathvision_question(doc: Doc) -> str:
    choices = [f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(doc["options"])]
    return "\n".join([re.sub(r"<image\d+>", "", doc["question"]).strip(), *choices])


def _mmmu_pictures(doc: Doc) -> list[str]:
    return [f"image_{number}" for number in re.findall(r"<image (\d+)>", doc["question"] + doc["options"])]


def _mmmu_question(doc: Doc) -> str:
    choices = ast.literal_eval(doc["options"]) if doc["question_type"] == "multiple-choice" else []
    text = "\n".join([doc["question"], *(f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(choices))])
    numbers = re.findall(r"<image (\d+)>", text)
    # lmms-eval hands the pictures over in order of their numbers, each once; other mentions stay names
    return re.sub(r"<image \d+>", IMAGE_MARKER, text) if numbers == sorted(set(numbers)) else text


_ACCURACY = (
    {"metric": "acc_score", "aggregation": "mean", "higher_is_better": True},
    {"metric": "format_score", "aggregation": "mean", "higher_is_better": True},
)

MMMU = Benchmark(
    name="mmmu",
    title=TITLES["mmmu"],
    task="mmmu_val",
    config="mmmu/mmmu_val.yaml",
    split="validation",
    headline="mmmu_acc",
    size=900,
    folder="mmmu",
    question=_mmmu_question,
    item_id=lambda doc: doc["id"],
    target="answer",
    pictures=_mmmu_pictures,
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="dynamath",
            title=TITLES["dynamath"],
            task="dynamath_reasoning",
            config="dynamath/reasoning/dynamath.yaml",
            split="test",
            headline="dynamath_average",
            size=5010,
            folder="dynamath",
            question=lambda doc: doc["question"],
            item_id=lambda doc: doc["question_id"],
            target="ground_truth",
            pictures=lambda doc: ["decoded_image"],
            cluster=lambda doc: doc["id"],
            changes={"score_key": "acc", "cluster_key": "variant_id"},  # or it gives no standard error
        ),
        Benchmark(
            name="logicvista",
            title=TITLES["logicvista"],
            task="logicvista_reasoning",
            config="logicvista/reasoning/logicvista_thinking.yaml",
            split="test",
            headline="acc_score",
            size=448,
            folder="logicvista",
            question=lambda doc: doc["question"],
            item_id=lambda doc: str(doc.get("question_id", "")),
            target="answer",
            pictures=lambda doc: ["image"],
        ),
        Benchmark(
            name="mathvision_mini",
            title=TITLES["mathvision_mini"],
            task="mathvision_testmini",
            config="mathvision/mathvision_testmini.yaml",
            split="testmini",
            headline="mathvision_standard_eval",
            size=304,
            folder="mathvision",
            question=_mathvision_question,
            item_id=lambda doc: str(doc.get("id", "")),
            target="answer",
            pictures=lambda doc: ["decoded_image"],
            scale=100.0,
        ),
        MMMU,
        replace(
            MMMU,
            name="mmmu_reasoning",
            title="MMMU (tags and boxes read)",
            task="mmmu_val_reasoning",
            config="mmmu/reasoning/mmmu_val_reasoning.yaml",
            headline="acc_score",
        ),
        Benchmark(
            name="wemath",
            title=TITLES["wemath"],
            task="wemath_testmini_reasoning",
            config="wemath/reasoning/wemath_testmini_thinking.yaml",
            split="testmini",
            headline="acc_score",
            size=1740,
            folder="wemath",
            question=lambda doc: f"{doc['question']}\n{doc['option']}".strip(),
            item_id=lambda doc: f"{doc['ID']}/{doc['key']}",
            target="answer",
            pictures=lambda doc: ["image_path"],
            # its strict and loose scores divide by zero where no multi-step problem is solved, and the run is lost
            changes={"metric_list": list(_ACCURACY)},
        ),
    )
}

PAPER = tuple(TITLES)
"""The columns of Table 2, in order."""


def benchmarks(names: Sequence[str]) -> list[Benchmark]:
    """The named benchmarks, each once, in the order named."""
    for name in names:
        if name not in BENCHMARKS:
            near = difflib.get_close_matches(name, BENCHMARKS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(BENCHMARKS)}"
            raise InputError(f"--tasks: {name!r} is no benchmark; {hint}")
    return [BENCHMARKS[name] for name in dict.fromkeys(names)]
