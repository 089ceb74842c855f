"""What one group costs to score and to learn from: `python -m benchmarks.scoring [--repetitions N] [--json]`.

On the miniature Qwen3-VL, 8 responses under one prompt of 300 tokens, 256 of them an image, LoRA of rank 16, float32,
one thread. "plain" is the padded forward with the logits of every position, "plain, response logits" the same with
those of the responses alone, "packed" is Credence's `Policy.score`. To score is a pass without gradient; an update is
forward and backward of Σ c_t log P(y_t) with random c. Each side encodes the image itself at every call: the plain ones
once a row, the packed one once. Held equal: weights, prompt, pixels, responses, dtype, threads. Not equal: the packed
side also computes the entropy.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import miniature
from benchmarks.measure import Seconds, interleaved, machine, peak_mib_above_now
from benchmarks.ways import PASSES, WAYS, Group, Pass, Side, Way, Work, adapted, side
from core.policy import Policy
from core.scoring import Sheaf

LARGE, SMALL = Work(vocabulary=151_936), Work(response=256)
TEACHERS = (Work(), SMALL)
TINY = {"group_size": 2, "response": 4, "image_tokens": 4, "text_tokens": 12}
"""A first call, so that what is set up but once is not measured."""
GROWTH: dict[str, tuple[Work, ...]] = {
    "group_size": tuple(Work(group_size=n) for n in (1, 2, 4, 8, 16)),
    "response": tuple(Work(response=n) for n in (32, 64, 128, 256, 512)),
    "image_tokens": tuple(Work(image_tokens=n) for n in (64, 144, 256, 400, 576)),
    "vocabulary": tuple(Work(vocabulary=n) for n in (2816, 32_768, 151_936)),
}


@dataclass(frozen=True)
class Comparison:
    """All ways on the same group: CPU seconds, peak MiB, and how far the packed numbers are from the plain ones."""

    work: Work
    seconds: dict[str, Seconds]
    """By pass and way, as "score, packed"."""
    peak_mib: dict[str, float]
    log_p_difference: float
    gradient_difference: float
    """Of the largest gradient."""

    def times(self, which: Pass, over: Way = "plain") -> float:
        """How many times faster the packed way is."""
        return self.seconds[f"{which}, {over}"].median / self.seconds[f"{which}, packed"].median

    def memory(self, which: Pass, over: Way = "plain") -> float:
        """How many times less memory it needs."""
        return self.peak_mib[f"{which}, {over}"] / self.peak_mib[f"{which}, packed"]


def compare(work: Work, repetitions: int) -> Comparison:
    """Measure the three ways in turns."""
    group, sides = Group(work), {way: side(way, work.vocabulary) for way in WAYS}
    log_p, gradient = differences(sides["plain"], sides["packed"], group)
    calls = {f"{which}, {way}": partial(sides[way].run, group, which) for which in PASSES for way in WAYS}
    for measured in sides.values():
        measured.run(Group(replace(work, **TINY)), "update")
    seconds = interleaved(calls, repetitions, warm_up=0)
    peaks = {f"{which}, {way}": peak_mib_alone(way, work, which) for which in PASSES for way in WAYS}
    return Comparison(work, seconds, peaks, log_p, gradient)


def differences(one: Side, other: Side, group: Group) -> tuple[float, float]:
    """max |Δ log P|, and max |Δ gradient| over the largest gradient."""
    log_p, gradients = [], []
    for s in (one, other):
        values = s.log_probs(group)
        (values * group.coefficients).sum().backward()
        log_p.append(values.detach())
        gradients.append([p.grad.clone() for p in s.model.parameters() if p.grad is not None])
        s.model.zero_grad(set_to_none=True)
    apart = max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True))
    return float((log_p[0] - log_p[1]).abs().max()), apart / max(float(a.abs().max()) for a in gradients[0])


def peak_mib_alone(way: Way, work: Work, which: Pass) -> float:
    """Peak MiB above the model of one call, in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_mib, way, work, which).result()


def _peak_mib(way: Way, work: Work, which: Pass) -> float:
    torch.set_num_threads(1)
    measured, group = side(way, work.vocabulary), Group(work)
    measured.run(Group(replace(work, **TINY)), which)
    return peak_mib_above_now(partial(measured.run, group, which))


def teachers_over_update(work: Work, repetitions: int) -> dict[str, Seconds]:
    """Both teachers in one packed row without gradient, and the update of the same group; CPU seconds.

    The image's features are there already for both, as in a step.
    """
    group, model = Group(work), adapted(work.vocabulary)
    policy = Policy(model, tokenizer=None, image_processor=object())
    features = miniature.look(policy, group.question)
    prompt, *told = (miniature.encode(policy, group.question, features, hint) for hint in (None, *group.hints))

    def ask() -> None:
        with torch.no_grad():
            policy.score([[Sheaf(prompt, group.responses) for prompt in told]])

    def update() -> None:
        log_p, _ = policy.score([[Sheaf(prompt, group.responses)]])
        (log_p * group.coefficients).sum().backward()
        model.zero_grad(set_to_none=True)

    return interleaved({"teachers": ask, "update": update}, repetitions)


@dataclass(frozen=True)
class Line:
    """Cost against one size: a least-squares line through the medians."""

    slope: float
    """Seconds for one more."""
    intercept: float
    departure: float
    """The largest distance from the line, as a share of what was measured."""

    @classmethod
    def through(cls, x: list[float], y: list[float]) -> "Line":
        """Fit."""
        slope, intercept = statistics.linear_regression(x, y)
        return cls(slope, intercept, max(abs(slope * a + intercept - b) / b for a, b in zip(x, y, strict=True)))


@dataclass(frozen=True)
class Growth:
    """CPU seconds of the packed way as one size grows, all else as in `Work`."""

    over: str
    sizes: tuple[int, ...]
    """Response tokens for group size and response; otherwise what is named."""
    seconds: dict[Pass, tuple[Seconds, ...]]

    def line(self, which: Pass) -> Line:
        """The cost's line."""
        return Line.through([float(n) for n in self.sizes], [s.median for s in self.seconds[which]])


def grow(repetitions: int, growth: Mapping[str, tuple[Work, ...]] = GROWTH) -> Iterator[Growth]:
    """Measure the packed way along every size; all sizes of one kind in turns."""
    sides = {v: side("packed", v) for v in sorted({w.vocabulary for works in growth.values() for w in works})}
    for over, works in growth.items():
        groups = [Group(work) for work in works]
        calls = {
            f"{which} {i}": partial(sides[work.vocabulary].run, groups[i], which)
            for i, work in enumerate(works)
            for which in PASSES
        }
        found = interleaved(calls, repetitions)
        counts_tokens = over in ("group_size", "response")
        sizes = tuple(work.tokens if counts_tokens else getattr(work, over) for work in works)
        seconds: dict[Pass, tuple[Seconds, ...]] = {
            which: tuple(found[f"{which} {i}"] for i in range(len(works))) for which in PASSES
        }
        yield Growth(over, sizes, seconds)


@dataclass(frozen=True)
class Figure:
    """One of the numbers that have a goal."""

    name: str
    value: float
    goal: float
    at_least: bool = True

    @property
    def is_kept(self) -> bool:
        """The goal is reached."""
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True)
class Report:
    """Everything measured."""

    comparisons: tuple[Comparison, ...]
    teachers: dict[int, dict[str, Seconds]]
    """By the responses' length."""
    growth: tuple[Growth, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The goals: against the plain way at the large vocabulary; of the teachers the worse of the lengths."""
        large = self.comparisons[0]
        ratio = max(found["teachers"].median / found["update"].median for found in self.teachers.values())
        return (
            Figure("score_speedup", large.times("score"), 6),
            Figure("score_memory_ratio", large.memory("score"), 20),
            Figure("update_speedup", large.times("update"), 5),
            Figure("update_memory_ratio", large.memory("update"), 12),
            Figure("teachers_over_update", ratio, 0.70, at_least=False),
        )


def measure(repetitions: int, console: Console) -> Report:
    """Measure everything, the long part first."""
    comparisons = []
    for work in (LARGE, SMALL):
        console.print(f"{work.vocabulary:,} words, {work.group_size} x {work.response} tokens")
        comparisons.append(compare(work, repetitions))
    console.print("teachers, and how the cost grows")
    teachers = {work.response: teachers_over_update(work, repetitions) for work in TEACHERS}
    return Report(tuple(comparisons), teachers, tuple(grow(repetitions)))


def show(report: Report, facts: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()))
    for found in report.comparisons:
        table = Table("", "CPU s (range)", "packed is x faster", "peak MiB", "x less", title=_title(found))
        for which in PASSES:
            for way in WAYS:
                name = f"{which}, {way}"
                ratios = (f"{found.times(which, way):.2f}", f"{found.memory(which, way):.1f}")
                table.add_row(name, str(found.seconds[name]), ratios[0], f"{found.peak_mib[name]:,.0f}", ratios[1])
        console.print(table)
    table = Table("response", "two teachers, CPU s", "update", "teachers / update", title="Two teachers in one row")
    for length, s in report.teachers.items():
        ratio = s["teachers"].median / s["update"].median
        table.add_row(f"{Work.group_size} x {length}", str(s["teachers"]), str(s["update"]), f"{ratio:.2f}")
    console.print(table)
    console.print(growth_table(report.growth))
    table = Table("figure", "value", "goal", "")
    for figure in report.figures:
        goal = f"{'≥' if figure.at_least else '≤'} {figure.goal:g}"
        table.add_row(figure.name, f"{figure.value:.3g}", goal, "kept" if figure.is_kept else "MISSED")
    console.print(table)


def _title(found: Comparison) -> str:
    n = next(iter(found.seconds.values())).n
    return (
        f"{found.work.vocabulary:,} words, {found.work.group_size} x {found.work.response} tokens, n = {n}; "
        f"|Δ log P| ≤ {found.log_p_difference:.1e} nats, |Δ gradient| ≤ {found.gradient_difference:.1e} of the largest"
    )


def growth_table(growth: tuple[Growth, ...]) -> Table:
    """Every size with its seconds and its line."""
    table = Table("over", "pass", "CPU s at each size", "µs for one more", "at none, s", "off the line")
    for grown in growth:
        for which in PASSES:
            line = grown.line(which)
            pairs = zip(grown.sizes, grown.seconds[which], strict=True)
            cells = ", ".join(f"{n:,}: {s.median:.3g}" for n, s in pairs)
            slope, departure = f"{1e6 * line.slope:.3g}", f"≤ {line.departure:.0%}"
            table.add_row(grown.over, which, cells, slope, f"{line.intercept:.3g}", departure)
    return table


def as_json(report: Report, facts: dict[str, Any]) -> dict[str, Any]:
    """The figures by name, then all that was measured."""
    return {
        **{figure.name: round(figure.value, 3) for figure in report.figures},
        "goals": {figure.name: figure.goal for figure in report.figures},
        "comparisons": [asdict(found) for found in report.comparisons],
        "teachers": {length: {k: asdict(s) for k, s in found.items()} for length, found in report.teachers.items()},
        "growth": [asdict(g) | {f"{which}_line": asdict(g.line(which)) for which in PASSES} for g in report.growth],
        "machine": facts,
    }


def main() -> int:
    """Measure, print, and tell by the exit status whether every goal was reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of every measured call")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.repetitions < 1:
        parser.error(f"--repetitions: expected at least 1, got {arguments.repetitions}")
    torch.set_num_threads(1)
    console = Console(stderr=arguments.json)
    report, facts = measure(arguments.repetitions, console), machine()
    show(report, facts, console)
    if arguments.json:
        print(json.dumps(as_json(report, facts)))
    return int(not all(figure.is_kept for figure in report.figures))


if __name__ == "__main__":
    sys.exit(main())
