"""Evaluations read from their files, and the table of the paper's Table 2 for a terminal."""

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from core.console import printable
from core.errors import InputError
from core.eval_schema import EVAL_TABLES, EVALUATION_FILE, FILE_NAME, EvaluationRow
from core.runfile import reading
from core.schema import columns
from eval.scores import Scored, Summary, average, in_order, summary
from eval.tasks import BENCHMARKS

NARROW = 6
"""Labels are wrapped to no fewer characters than these."""

LONGEST = 40
"""Characters of a label that are shown; longer ones lose their middle, as names tend to differ at an end."""


@dataclass(frozen=True)
class ItemScore:
    """What tables need to know of one answer."""

    task: str
    item_id: str
    seed: int
    score: float
    cluster: str | None
    has_answer: bool
    """An answer could be read from the response."""
    truncated: bool


@dataclass(frozen=True)
class Evaluation:
    """One evaluation file: what was evaluated, and the answers that count."""

    path: Path
    about: EvaluationRow
    tasks: tuple[str, ...]
    """Benchmarks it was asked for, as tables order them."""
    items: tuple[ItemScore, ...]
    """Of the benchmarks and seeds that have a score."""
    versions: Mapping[str, str]
    """Version of each benchmark that names one."""
    unfinished: tuple[str, ...]
    """Benchmarks asked for of which some seed, or all, has no score yet."""
    noted: Mapping[tuple[str, str], float]
    """What scoring noted beside the scores, by benchmark and metric: the mean over seeds of a share."""

    @property
    def label(self) -> str:
        """How tables call it."""
        return self.about.label or self.about.method or self.path.parent.name


def read_evaluation(path: Path) -> Evaluation:
    """Read an evaluation from its folder or file.

    Raises:
        InputError: There is none, or it holds what no evaluation writes.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{path}: expected an evaluation's folder or its {FILE_NAME}, found none; check the path")
    names = [column.name for column in columns("evaluation", EVAL_TABLES)]
    with reading(file, kind=EVALUATION_FILE) as connection:
        abouts = connection.execute(f"SELECT {', '.join(names)} FROM evaluation").fetchall()
        scores = connection.execute("SELECT task, seed, task_version FROM scores ORDER BY ALL").fetchall()
        shares = connection.execute(
            "SELECT task, metric, avg(score) FROM scores WHERE metric IN ('unparsed_share', 'unscored_share') "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        answers = connection.execute(
            "SELECT task, item_id, seed, score, cluster, answer IS NOT NULL, truncated FROM items ORDER BY ALL"
        ).fetchall()
    _check(file, names, abouts, answers)
    about = EvaluationRow(**dict(zip(names, abouts[0], strict=True)))
    tasks, finished = _tasks(file, about.tasks), {(task, seed) for task, seed, _ in scores}
    every = [ItemScore(*answer) for answer in answers]
    items = tuple(item for item in every if (item.task, item.seed) in finished)
    waiting = {item.task for item in every if (item.task, item.seed) not in finished}
    answered = {item.task for item in items}
    unfinished = tuple(task for task in tasks if task in waiting or task not in answered)
    versions = {task: version for task, _, version in scores if version is not None}
    noted = {(task, metric): share for task, metric, share in shares}
    return Evaluation(file, about, tasks, items, versions, unfinished, noted)


def _check(file: Path, names: Sequence[str], abouts: Sequence[tuple], answers: Sequence[tuple]) -> None:
    """Refuse what would be shown as a number and is none."""
    if len(abouts) != 1:
        raise InputError(f"{file}: expected one row in its table evaluation, found {len(abouts)}; evaluate again")
    empty = [column.name for column in columns("evaluation", EVAL_TABLES) if not column.nullable]
    for name, value in zip(names, abouts[0], strict=True):
        if name in empty and value is None:
            raise InputError(f"{file}: expected a value in evaluation.{name}, found none; evaluate again")
    seen: set[tuple] = set()
    for task, item_id, seed, score, *_ in answers:
        key = (task, item_id, seed)
        where = f"{file}: item {item_id!r} of {task!r}, seed {seed}"
        if None in key:
            raise InputError(f"{where}: expected a name, a benchmark and a seed; evaluate again")
        if score is None or not 0 <= score <= 1:
            raise InputError(f"{where}: expected a score in [0, 1], found {score}; evaluate again")
        if key in seen:
            raise InputError(f"{where}: expected once, found twice; evaluate again")
        seen.add(key)


def _tasks(file: Path, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: expected a JSON list of names in evaluation.tasks, found {text[:40]!r}")
    return in_order(names)


def remarks(evaluation: Evaluation, label: str) -> list[str]:
    """What a reader of its scores has to know: answers that could not be read, were cut, or are not there yet."""
    finished = [task for task in evaluation.tasks if any(item.task == task for item in evaluation.items)]
    unread = _shares(evaluation, finished, lambda item: not item.has_answer)
    cut = _shares(evaluation, finished, lambda item: item.truncated)
    missing = ", ".join(title(task) for task in evaluation.unfinished)
    guessed = any(item.task == "mmmu" and not item.has_answer for item in evaluation.items)
    guess = "; on MMMU lmms-eval then draws an option at random" if guessed else ""
    drawn, costly = (
        ", ".join(
            f"{title(task)} {share:.1%}" for (task, m), share in evaluation.noted.items() if m == metric and share
        )
        for metric in ("unparsed_share", "unscored_share")
    )
    lines = [
        f"no answer could be read: {unread}{guess}" if unread else "",
        f"share of multiple-choice answers that are such random draws: {drawn}" if drawn else "",
        f"too costly to score, so counted as empty: {costly}" if costly else "",
        f"cut at the token limit: {cut}" if cut else "",
        f"unfinished, so left out in whole or in part: {missing}" if missing else "",
    ]
    return [f"{shown(label)}: {line}." for line in lines if line]


def _shares(evaluation: Evaluation, tasks: Sequence[str], holds: Callable[[ItemScore], bool]) -> str:
    parts = []
    for task in tasks:
        found = [holds(item) for item in evaluation.items if item.task == task]
        if any(found):
            parts.append(f"{title(task)} {sum(found) / len(found):.1%} ({sum(found)} of {len(found)})")
    return ", ".join(parts)


@dataclass(frozen=True)
class ReportRow:
    """One evaluation in the table."""

    label: str
    summaries: Mapping[str, Summary]
    """By benchmark, the finished ones."""
    seeds: tuple[int, ...]
    """Seeds of the sampler."""

    def average(self, tasks: Sequence[str]) -> Summary | None:
        """Plain mean of the benchmarks; None where one of them is not there."""
        known = [self.summaries[task] for task in tasks if task in self.summaries]
        return average(known) if known and len(known) == len(tasks) else None


def report_row(label: str, items: Sequence[Scored], tasks: Sequence[str], rng_seed: int = 0) -> ReportRow:
    """The row of an evaluation from its answers to finished benchmarks."""
    by_task = {task: [item for item in items if item.task == task] for task in tasks}
    summaries = {task: summary(those, rng_seed) for task, those in by_task.items() if those}
    return ReportRow(label, summaries, tuple(sorted({item.seed for item in items if item.task in by_task})))


@dataclass(frozen=True)
class Grid:
    """A table whose numbers are never wrapped or cut: columns that find no room are shown below, as another block."""

    head: tuple[str, ...]
    """The first column holds labels, the others hold numbers."""
    rows: tuple[tuple[str, ...], ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = zip(self.head, *self.rows, strict=True)
        label, *others = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in cells]
        gap, label, blocks = _layout(label, others, options.max_width)
        for block in blocks:
            table = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
            table.add_column(Text(self.head[0]), width=label, overflow="fold")
            for i in block:
                table.add_column(Text(self.head[i + 1]), width=others[i], justify="right", no_wrap=True)
            for row in self.rows:
                table.add_row(Text(row[0]), *(Text(row[i + 1]) for i in block))
            yield table


def _layout(label: int, others: Sequence[int], room: int) -> tuple[int, int, list[list[int]]]:
    """Gap between columns, width of the labels, and which columns stand beside each other."""
    for wanted in (label, min(label, NARROW)):
        for gap in (2, 1):
            left = room - sum(others) - gap * len(others)
            if left >= wanted:
                return gap, min(label, left), [list(range(len(others)))]
    label = min(label, 2 * NARROW, max(1, room - max(others) - 1))
    blocks: list[list[int]] = [[]]
    for i, width in enumerate(others):
        if blocks[-1] and label + sum(others[j] + 1 for j in blocks[-1]) + width + 1 > room:
            blocks.append([])
        blocks[-1].append(i)
    return 1, label, blocks


def table(rows: Sequence[ReportRow], tasks: Sequence[str], notes: Sequence[str] = ()) -> Group:
    """Evaluations by benchmarks as in Table 2, with what the ± and the numbers beneath mean.

    Args:
        rows: The evaluations, in order.
        tasks: Names of the benchmarks, in order; with two or more there is a column of averages.
        notes: What else a reader has to know, a line each.
    """
    last = ["Average"] if len(tasks) > 1 else []
    head = ("", *("\n".join(textwrap.wrap(name, 12)) for name in (*map(title, tasks), *last)))
    counts = [{_count(row.summaries[task]) for row in rows if task in row.summaries} for task in tasks]
    agree = all(len(found) < 2 for found in counts)
    lines = [("n", *(next(iter(found), "–") for found in counts), *("" for _ in last))] if agree else []
    for row in rows:
        lines += [_line(row.label, row, tasks, _score), _line("95 %", row, tasks, _interval)]
        lines += [] if agree else [_line("n", row, tasks, _count)]
    caption = (
        "Accuracy in percent ± one standard error, below it the 95 % bootstrap interval (exact binomial where all are "
        "right or all wrong); both over items, and where groups are given over groups of variants. "
        "Average: the plain mean of the benchmarks. "
    )
    texts = [caption + _seeds(rows), *notes]
    return Group(Grid(head, tuple(lines)), Text(), *(Text(printable(text)) for text in texts))


def title(task: str) -> str:
    """How a benchmark is written."""
    return BENCHMARKS[task].title if task in BENCHMARKS else shown(task)


def shown(label: str) -> str:
    """A label as it may stand in a terminal."""
    text = printable(label)
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[-half:]}"


def _line(label: str, row: ReportRow, tasks: Sequence[str], cell: Callable[[Summary], str]) -> tuple[str, ...]:
    cells = [cell(row.summaries[task]) if task in row.summaries else "–" for task in tasks]
    if len(tasks) > 1:
        whole = row.average(tasks)
        known = sum(task in row.summaries for task in tasks)
        withheld = f"{known}/{len(tasks)} tasks" if cell is _score else "–"
        cells.append(withheld if whole is None else cell(whole))
    return shown(label), *cells


def _score(score: Summary) -> str:
    return f"{100 * score.value:.2f} ± {'–' if math.isnan(score.stderr) else f'{100 * score.stderr:.1f}'}"


def _interval(score: Summary) -> str:
    return "–" if math.isnan(score.low) else f"{100 * score.low:.1f}–{100 * score.high:.1f}"


def _count(score: Summary) -> str:
    groups = score.n_clusters
    return f"{score.n_items}" if groups == score.n_items else f"{score.n_items}\n({groups} group{'s'[: groups != 1]})"


def _seeds(rows: Sequence[ReportRow]) -> str:
    found = {shown(row.label): ", ".join(map(str, row.seeds)) or "none" for row in rows}
    if len(set(found.values())) == 1:
        return f"Seeds of the sampler: {next(iter(found.values()))}."
    return f"Seeds of the sampler: {'; '.join(f'{label}: {seeds}' for label, seeds in found.items())}."
