"""Compare evaluations in the terminal, item by item: `python -m eval.compare evals/BASE evals/OTHER [...]`."""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from core.console import printable, say
from core.errors import InputError
from core.eval_schema import SETTINGS
from core.intervals import Difference
from eval.report import Evaluation, Grid, ReportRow, read_evaluation, remarks, report_row, shown, table, title
from eval.scores import Comparison, Paired, Summary, comparison, in_order

LEFT_OUT = (
    "Intervals and p-values cover which items were asked, nothing else: how another training run, or other seeds of "
    "the sampler, would have turned out is not in them. Each evaluation stands for one training run."
)


def labels(evaluations: Sequence[Evaluation]) -> list[str]:
    """How the evaluations are called: apart, so with the folder's name where a label comes twice."""
    counts = Counter(each.label for each in evaluations)
    return [
        each.label if counts[each.label] == 1 else f"{each.label} ({each.path.parent.name})" for each in evaluations
    ]


def warnings(evaluations: Sequence[Evaluation], tasks: Sequence[str]) -> list[str]:
    """Why differences may not be those of the models alone, in at most two lines."""
    found = []
    abouts = [each.about for each in evaluations]
    settings = [setting for setting in SETTINGS if len({getattr(about, setting) for about in abouts}) > 1]
    if settings:
        found.append(f"These evaluations differ in {', '.join(settings)}: differences are not those of models alone.")
    versions = {task: sorted({each.versions[task] for each in evaluations if task in each.versions}) for task in tasks}
    mixed = [f"{title(task)} {' and '.join(map(shown, those))}" for task, those in versions.items() if len(those) > 1]
    if mixed:
        found.append(f"These evaluations used different versions of benchmarks: {', '.join(mixed)}.")
    return found


def comparison_table(found: Comparison, tasks: Sequence[str], label: str, baseline: str) -> Group:
    """One evaluation against the baseline: a line a benchmark, in percentage points."""
    head = ("", "difference", "95 % interval", "p", "won", "lost", "McNemar p", "n", "left out")
    lines = [(title(task), *_paired_cells(found.benchmarks.get(task))) for task in tasks]
    if len(tasks) > 1:
        whole = found.average
        lines.append(("Average", *(_difference_cells(whole) if whole else ("–",) * 3), *("",) * 5))
    heading = f"{shown(label)} minus {shown(baseline)}, percentage points, on the items that both answered"
    return Group(Text(heading, style="bold"), Text(), Grid(tuple(_two_lines(name) for name in head), tuple(lines)))


def _two_lines(name: str) -> str:
    return name.replace(" p", "\np").replace(" out", "\nout")


def _paired_cells(pair: Paired | None) -> tuple[str, ...]:
    if pair is None:
        return ("–",) * 8
    counts = (str(pair.only_first), str(pair.only_second), _p(pair.p_mcnemar))
    return *_difference_cells(pair.difference), *counts, str(pair.difference.n_items), str(pair.unmatched)


def _difference_cells(difference: Difference) -> tuple[str, str, str]:
    low, high = _points(difference.low), _points(difference.high)
    interval = "–" if math.isnan(difference.low) else f"[{low}, {high}]"
    return _points(difference.estimate), interval, _p(difference.p_value)


def _points(share: float) -> str:
    return f"{100 * share:+.2f}".replace("-", "−")


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def result(
    rows: Sequence[ReportRow],
    evaluations: Sequence[Evaluation],
    tasks: Sequence[str],
    found: Sequence[Comparison],
    warned: Sequence[str],
) -> dict[str, Any]:
    """Everything as JSON: scores and differences are shares, null where something cannot be said."""
    return {
        "tasks": list(tasks),
        "evaluations": [
            {
                "label": row.label,
                "file": str(each.path),
                "seeds": list(row.seeds),
                "scores": {task: _score_json(score) for task, score in row.summaries.items()},
                "average": _score_json(row.average(tasks)),
            }
            for row, each in zip(rows, evaluations, strict=True)
        ],
        "comparisons": [
            {
                "label": row.label,
                "baseline": rows[0].label,
                "benchmarks": {task: _paired_json(pair) for task, pair in each.benchmarks.items()},
                "average": _difference_json(each.average),
            }
            for row, each in zip(rows[1:], found, strict=True)
        ],
        "warnings": list(warned),
    }


def _score_json(score: Summary | None) -> dict[str, float | None] | None:
    names = ("value", "stderr", "low", "high", "n_items", "n_clusters", "n_seeds")
    return None if score is None else _known({name: getattr(score, name) for name in names})


def _difference_json(difference: Difference | None) -> dict[str, float | None] | None:
    return None if difference is None else _known(vars(difference))


def _paired_json(pair: Paired) -> dict[str, float | None]:
    counts = {"only_first": pair.only_first, "only_second": pair.only_second, "unmatched": pair.unmatched}
    return _known(vars(pair.difference) | counts | {"p_mcnemar": pair.p_mcnemar})


def _known(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(number) else number for name, number in numbers.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all scores, then each evaluation against the first; with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("baseline", type=Path, help="an evaluation's folder or eval.duckdb; the others are held to it")
    parser.add_argument("others", type=Path, nargs="+", help="evaluations to compare with it")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args(arguments)
    try:
        evaluations = [read_evaluation(path) for path in (options.baseline, *options.others)]
    except InputError as error:
        say(str(error))
        return 2
    tasks = in_order([task for each in evaluations for task in each.tasks])
    named = list(zip(labels(evaluations), evaluations, strict=True))
    rows = [report_row(label, each.items, tasks) for label, each in named]
    found = [comparison(each.items, evaluations[0].items, tasks) for each in evaluations[1:]]
    warned = warnings(evaluations, tasks)
    console = Console(stderr=options.json)
    notes = [remark for label, each in named for remark in remarks(each, label)]
    console.print(table(rows, tasks, notes))
    for (label, _), each in zip(named[1:], found, strict=True):
        console.print(Text(), comparison_table(each, tasks, label, rows[0].label), sep="\n")
    for line in (*_explanation(rows[0].label), *warned):
        console.print(Text(printable(line)))
    if options.json:
        print(json.dumps(result(rows, evaluations, tasks, found, warned)))
    return 0


def _explanation(baseline: str) -> tuple[str, ...]:
    return (
        "",
        "p: paired bootstrap over items, or groups of variants; McNemar p: exact, takes every item as independent. "
        "Neither is corrected for the number of comparisons. "
        f"won, lost: items that only it, or only {shown(baseline)}, has right; left out: asked of only one of the two.",
        LEFT_OUT,
    )


if __name__ == "__main__":
    sys.exit(main())
