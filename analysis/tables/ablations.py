"""Tables 4 and 5, and the study's own ablations: presets, deviations of the released code, a smaller learning rate."""

import pandas as pd

from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.tables.arm_names import ARM_NAMES, METHODS
from analysis.tables.arms import measured, missing, problems, setting, stand_in
from analysis.tables.paper_table import PaperTable
from analysis.tables.words import DASH, PAIRED, Cell, counted, laid_out, rate_text, sentences, with_reach

PAPER = "paper: accuracy (over GRPO)"
PAPERS_NUMBERS = "The paper's: mean of five benchmarks, Qwen3-VL-2B after 50 steps on Geo3k, one training run."

FALLING, CONSTANT = "teacher_source", "teacher_source_constant"
PRINTED_TEACHERS = {"actor": "actor", "reference": "reference", "periodic": "every_25"}
"""Arms by the names of the rows of Table 4; the paper copies every 25 steps."""


def table4(study: RecordedStudy) -> PaperTable:
    """Table 4: whose weights CEPO's teachers read with, under the paper's schedule and at a constant λ."""
    under = {FALLING: "falling λ", CONSTANT: "constant λ"}
    found = {group: measured(study, group) for group in under}
    table = reported("table4")
    printed = dict(zip([PRINTED_TEACHERS[each] for each in table["teacher"]], _printed(table), strict=True))
    rows: list[dict[str, Cell]] = []
    for arm, name in ARM_NAMES[FALLING].items():
        row: dict[str, Cell] = {"teacher": name, PAPER: printed.get(arm, DASH)}
        for group, words in under.items():
            if arm in found[group]:
                row[f"{words}: accuracy"] = with_reach(found[group][arm].after)
                row[f"{words}: over GRPO [95 %]"] = found[group][arm].gain
        row["seeds"] = counted(arms[arm].seeds for arms in found.values() if arm in arms)
        rows.append(row)
    columns = [column for words in under.values() for column in (f"{words}: accuracy", f"{words}: over GRPO [95 %]")]
    caption = sentences(
        f"CEPO by whose weights its teachers have: accuracy in percent after training ({problems(study, *under)}), "
        "points over GRPO, under the paper's falling λ and at a constant one.",
        _reference_and_copies(study),
        PAIRED,
        PAPERS_NUMBERS,
        *(missing(study, group, f" under {words}") for group, words in under.items()),
        stand_in(study),
    )
    return laid_out(rows, ["teacher", *columns, PAPER, "seeds"], caption)


def _reference_and_copies(study: RecordedStudy) -> str:
    """Whether a frozen teacher and a seldom copied one can differ, and whether their recorded answers do."""
    warmup, every = (
        setting(study, FALLING, "every_25", f"method.{name}") for name in ("warmup_steps", "teacher.every")
    )
    because = ""
    if isinstance(warmup, int) and isinstance(every, int) and warmup <= every:
        because = (
            f"A first copy after step {every} is read from step {every + 1} on, but a falling λ is 0 from step "
            f"{warmup + 1} on: under it a copy every {every} steps and the frozen reference are the same computation."
        )
    pairs = {"falling": _same_answers(study, FALLING), "constant": _same_answers(study, CONSTANT)}
    counts = [f"{same} of {n} seeds under {words} λ" for words, (same, n) in pairs.items() if n]
    told = f"All their recorded answers are the same in {' and in '.join(counts)}." if counts else ""
    return sentences(because, told)


def _same_answers(study: RecordedStudy, group: str) -> tuple[int, int]:
    """For how many of the seeds of both every answer to a held-out problem is right or wrong alike, and how many."""
    reference, copies = (study.final(group, arm).set_index("seed")["run_id"] for arm in ("reference", "every_25"))
    seeds = reference.index.intersection(copies.index)
    same = [_answers(study, str(reference[seed])).equals(_answers(study, str(copies[seed]))) for seed in seeds]
    return sum(same), len(same)


def _answers(study: RecordedStudy, run_id: str) -> pd.Series:
    answers = study.validation.loc[study.validation["run_id"] == run_id]
    return answers.set_index(["step", "problem_id"])["is_correct"].sort_index()


def _printed(table: pd.DataFrame) -> list[str]:
    """The paper's accuracies with their gains."""
    return [
        f"{value:.2f} ({gain:+.2f})".replace("-", "−")
        for value, gain in zip(table["value"], table["gain"], strict=True)
    ]


FEEDBACK = "feedback_source"


def table5(study: RecordedStudy) -> PaperTable:
    """Table 5: where r⁺ and r⁻ come from."""
    table = reported("table5")
    printed = dict(zip(table["hint_correct"] + " / " + table["hint_wrong"], _printed(table), strict=True))
    found = measured(study, FEEDBACK)
    rows: list[dict[str, Cell]] = []
    for arm, name in ARM_NAMES[FEEDBACK].items():
        row: dict[str, Cell] = {"r⁺ / r⁻": name, PAPER: printed.get(name, DASH), "seeds": "0"}
        if arm in found:
            row |= {"accuracy": with_reach(found[arm].after), "over GRPO [95 %]": found[arm].gain}
            row["seeds"] = str(found[arm].seeds)
        rows.append(row)
    length = setting(study, FEEDBACK, "prefix_prefix", "method.hint_correct.length")
    caption = sentences(
        f"CEPO by what its teachers are told: accuracy in percent after training ({problems(study, FEEDBACK)}), and "
        "points over GRPO.",
        f"Prefix and suffix: {length} tokens here; the paper does not say how many." if length else "",
        PAIRED,
        PAPERS_NUMBERS,
        missing(study, FEEDBACK),
        stand_in(study),
    )
    return laid_out(rows, ["r⁺ / r⁻", "accuracy", "over GRPO [95 %]", PAPER, "seeds"], caption)


PRESETS = "presets"


def table_presets(study: RecordedStudy) -> PaperTable:
    """What it changes to train as the released code does, and not as the paper says (Section 4)."""
    own = {preset: measured(study, PRESETS, (PRESETS, f"grpo_{preset}")) for preset in ("paper", "released")}
    columns = [column for preset in own for column in (f"{preset}: accuracy", f"{preset}: over GRPO [95 %]")]
    rows: list[dict[str, Cell]] = []
    for method in ("grpo", "rlsd", "cepo"):
        row: dict[str, Cell] = {"method": METHODS[method]}
        for preset, arms in own.items():
            if (arm := f"{method}_{preset}") in arms:
                row[f"{preset}: accuracy"] = with_reach(arms[arm].after)
                row[f"{preset}: over GRPO [95 %]"] = "baseline" if method == "grpo" else arms[arm].gain
        changed = measured(study, PRESETS, (PRESETS, f"{method}_paper")).get(f"{method}_released")
        row["released − paper [95 %]"] = changed.gain if changed else DASH
        row["seeds"] = counted(arms[arm].seeds for preset, arms in own.items() if (arm := f"{method}_{preset}") in arms)
        rows.append(row)
    caption = sentences(
        f"Accuracy in percent after training ({problems(study, PRESETS)}) as the paper says and as the authors' "
        "released code does, points over GRPO trained the same way, and what the released way changes for a method.",
        PAIRED,
        missing(study, PRESETS),
        stand_in(study),
    )
    return laid_out(rows, ["method", *columns, "released − paper [95 %]", "seeds"], caption)


def table_deviations(study: RecordedStudy) -> PaperTable:
    """What each deviation of CEPO's released code changes by itself."""
    group, none = "deviations", "none"
    rows: list[dict[str, Cell]] = []
    found = measured(study, group, (group, none))
    for arm, name in ARM_NAMES[group].items():
        row: dict[str, Cell] = {"changed": name, "seeds": "0"}
        if arm in found:
            row |= {"accuracy": with_reach(found[arm].after), "seeds": str(found[arm].seeds)}
            row["change [95 %]"] = "baseline" if arm == none else found[arm].gain
        rows.append(row)
    caption = sentences(
        "CEPO with one deviation of the authors' released code at a time, all else as the paper says: accuracy in "
        f"percent after training ({problems(study, group)}) and the change in points.",
        PAIRED,
        missing(study, group),
        stand_in(study),
    )
    return laid_out(rows, ["changed", "accuracy", "change [95 %]", "seeds"], caption)


def table_smaller_rate(study: RecordedStudy) -> PaperTable:
    """GRPO and CEPO at their own rate and at a fifth of it: the paper gives CEPO five times GRPO's (Section 4)."""
    group = "learning_rate"
    over = {title: measured(study, group, (group, arm)) for title, arm in OVER_RATES.items()}
    rows: list[dict[str, Cell]] = []
    for arm, name in ARM_NAMES[group].items():
        rate = setting(study, group, arm, "method.learning_rate")
        row: dict[str, Cell] = {"method and rate": name, "rate": rate_text(rate) if isinstance(rate, float) else DASH}
        for title, arms in over.items():
            if arm in arms:
                row["accuracy"] = with_reach(arms[arm].after)
                row[title] = "baseline" if arm == OVER_RATES[title] else arms[arm].gain
        row["seeds"] = counted(arms[arm].seeds for arms in over.values() if arm in arms)
        rows.append(row)
    rates = [setting(study, group, arm, "method.learning_rate") for arm in ("cepo", "grpo")]
    is_papers = rates[0] is not None and rates[0] == rates[1]
    caption = sentences(
        f"Accuracy in percent after training ({problems(study, group)}) and points over GRPO at either rate.",
        "The paper trains CEPO at five times GRPO's rate: here that is CEPO at its chosen rate over GRPO at a fifth."
        if is_papers
        else "",
        PAIRED,
        missing(study, group),
        stand_in(study),
    )
    return laid_out(rows, ["method and rate", "rate", "accuracy", *OVER_RATES, "seeds"], caption)


OVER_RATES = {"over GRPO, chosen rate [95 %]": "grpo", "over GRPO, a fifth [95 %]": "grpo_fifth"}
