"""Arms of the study as dots with intervals: teacher source (Table 4), feedback source (Table 5), the released code."""

from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from analysis.figures.study_parts import (
    AS_PAPER,
    OVER_GRPO,
    SINGLE,
    Mark,
    Marks,
    axis,
    axis_key,
    finished,
    frame,
    head,
    mark_trace,
    mean_style,
    our_marks,
    paper_mark,
    paper_style,
    seed_style,
    titled,
    why_absent,
    zero,
)
from analysis.gains import GRPO
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.style import Theme, label
from analysis.tables.arm_names import ARM_NAMES, arm_name

HOW_TO_READ = (
    "Large dots: mean over n seeds, with its 95 % t-interval, from two seeds on; small dots: single seeds; the line at "
    "0 is the baseline. An interval that holds 0 says that the data do not separate the two."
)
CAPTIONS = {
    "teacher_source": (
        "Held-out accuracy after training by which weights the teachers have, in points over the GRPO run of the same "
        f"seed. {HOW_TO_READ} Open: the paper's Table 4 less its GRPO, seeds and intervals not given. Under the "
        "paper's schedule λ is 0 before a copy made every 25 steps is first renewed, so “copy every 25 steps” and "
        "“reference” are one computation, although the paper prints different numbers for them. Below, λ stays 0.5."
    ),
    "feedback_source": (
        "Held-out accuracy after training by what the teachers are told (right / wrong), in points over the GRPO run "
        f"of the same seed. {HOW_TO_READ} Open: the paper's Table 5 less its GRPO, seeds and intervals not given; that "
        "its suffixes and prefixes stand on both sides is inferred from the released code."
    ),
    "deviations": (
        "What the released code does otherwise than the paper says. Above: its preset over the paper's, same method; "
        "below: one deviation at a time, over CEPO as the paper says. Held-out accuracy after training, in points over "
        f"the baseline's run of the same seed. {HOW_TO_READ} The paper reports no such comparison."
    ),
}
"""By function: how to read it, what n and ± are, and what the paper shows."""

TEACHERS = {"reference": "reference", "periodic": "every_25", "actor": "actor"}
"""Table 4's names, and ours; the paper's copy is one every 25 steps."""
HINTS = {
    "true answer": "answer", "peer answer": "answer", "peer rollout": "rollout", "peer prefix": "prefix",
    "peer suffix": "suffix",
}  # fmt: skip
"""Table 5's names of what a teacher is told, and ours."""
PRESETS = ("grpo", "rlsd", "cepo")
PAPER_OFFSET = 0.2
"""How far below ours the paper's marks stand, in rows."""


@dataclass(frozen=True)
class Series:
    """Marks of one method in a panel."""

    method: str
    marks: Marks
    absent: dict[float, str]
    """Rows without a mark, and why."""


@dataclass(frozen=True)
class Rows:
    """A panel: a row an arm, numbered from 0."""

    title: str
    names: list[str]
    series: list[Series]
    printed: list[Mark]
    """What the paper has."""


def teacher_source(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """What the teachers' weights change, under the paper's schedule and at a constant λ (Table 4)."""
    group = "teacher_source"
    values = {TEACHERS[str(row["teacher"])]: row for _, row in reported("table4").iterrows()}
    panels = [
        _arms(study, group, "λ as in the paper: from 0.5 to 0 over 25 steps", _printed(group, values)),
        _arms(study, "teacher_source_constant", "constant λ = 0.5", []),
    ]
    return dots("Teacher source (Table 4)", OVER_GRPO, panels, theme)


def feedback_source(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """What r⁺ and r⁻ are taken from changes (Table 5)."""
    group = "feedback_source"
    values = {
        f"{HINTS[str(row['hint_correct'])]}_{HINTS[str(row['hint_wrong'])]}": row
        for _, row in reported("table5").iterrows()
    }
    panel = _arms(study, group, "what the teachers are told: r⁺ / r⁻", _printed(group, values))
    return dots("Feedback source (Table 5)", OVER_GRPO, [panel], theme)


def deviations(study: RecordedStudy, theme: Theme = "light") -> go.Figure:
    """What the released code changes: its whole presets, and one deviation at a time."""
    series = [
        _series(study, "presets", {f"{each}_released": float(i)}, each, ("presets", f"{each}_paper"))
        for i, each in enumerate(PRESETS)
    ]
    presets = Rows("released code over the paper, same method", [label(each) for each in PRESETS], series, [])
    alone = _arms(study, "deviations", "one deviation over CEPO as the paper says", [], AS_PAPER)
    return dots("What the released code changes", "points over the baseline, same seeds", [presets, alone], theme)


def _arms(study: RecordedStudy, group: str, title: str, printed: list[Mark], baseline: tuple[str, str] = GRPO) -> Rows:
    """A group whose arms are CEPO's, a row each; the baseline, where it is one of them, is the line at 0."""
    arms = _order(group, study.arm_names(group), baseline)
    series = _series(study, group, {arm: float(i) for i, arm in enumerate(arms)}, "cepo", baseline)
    return Rows(title, [escape(arm_name(group, arm), quote=False) for arm in arms], [series], printed)


def _series(study: RecordedStudy, group: str, rows: dict[str, float], method: str, baseline: tuple[str, str]) -> Series:
    """Arms of one method at their rows."""
    marks = our_marks(study, group, rows, baseline)
    there = {mark.place for mark in marks.means}
    absent = {row: why_absent(study, group, arm, baseline) for arm, row in rows.items() if row not in there}
    return Series(method, marks, absent)


def _order(group: str, recorded: list[str], baseline: tuple[str, str] = GRPO) -> list[str]:
    """The arms of a group from top to bottom, those that a changed study has added last."""
    return [arm for arm in dict.fromkeys([*ARM_NAMES[group], *recorded]) if (group, arm) != baseline]


def _printed(group: str, values: dict[str, Any]) -> list[Mark]:
    """The paper's averages at the rows of our arms."""
    rows = _order(group, [])
    return [
        paper_mark(rows.index(arm) + PAPER_OFFSET, arm_name(group, arm), float(row["value"]), str(row["confidence"]))
        for arm, row in values.items()
    ]


def dots(title: str, unit: str, panels: list[Rows], theme: Theme) -> go.Figure:
    """Panels of rows of dots, one below the other, along one axis of points; a row without a mark says so."""
    data: list[dict[str, Any]] = []
    layout = frame(title, 190 + 60 * (len(panels) - 1) + 36 * sum(len(panel.names) for panel in panels))
    for i, (panel, span) in enumerate(zip(panels, _spans([len(panel.names) for panel in panels]), strict=True)):
        for series in panel.series:
            name = f"{label(series.method)}, {series.marks.said}"
            data += mark_trace(series.marks.means, "x", i, name, panel.title, mean_style(series.method, theme))
        singles = [mark for series in panel.series for mark in series.marks.seeds]
        data += mark_trace(singles, "x", i, SINGLE, panel.title, seed_style(theme))
        data += mark_trace(panel.printed, "x", i, "CEPO, the paper", panel.title, paper_style("cepo", theme))
        is_last = i == len(panels) - 1
        layout[axis_key("x", i)] = {"anchor": axis("y", i), "domain": [0, 1], "showticklabels": is_last} | (
            {"matches": "x"} if i else {}
        ) | ({"title": titled(unit)} if is_last else {})  # fmt: skip
        layout[axis_key("y", i)] = {
            "anchor": axis("x", i), "domain": span, "range": [len(panel.names) - 0.5, -0.5], "showgrid": False,
            "tickvals": [*range(len(panel.names))], "ticktext": panel.names,
        }  # fmt: skip
        layout["shapes"].append(zero("x", i, [len(panel.names) - 0.5, -0.5], theme))
        layout["annotations"].append(head(panel.title, [0, 1], span[1]))
        absent = [(row, why) for series in panel.series for row, why in series.absent.items()]
        layout["annotations"] += [_beside_zero(why, row, i) for row, why in absent]
    return finished(data, layout, theme)


def _spans(rows: list[int]) -> list[list[float]]:
    """Where panels of so many rows stand, from the top, with room for their heads."""
    gap = 0.14
    share = (1 - gap * (len(rows) - 1)) / sum(rows)
    tops = [1 - sum(rows[:i]) * share - i * gap for i in range(len(rows))]
    return [[round(max(top - n * share, 0), 6), round(top, 6)] for n, top in zip(rows, tops, strict=True)]


def _beside_zero(text: str, row: float, i: int) -> dict[str, Any]:
    place = {"x": 0, "y": row, "xref": axis("x", i), "yref": axis("y", i), "xanchor": "left", "xshift": 6}
    return {"text": text, "showarrow": False, "font": {"size": 11}} | place
