"""Table 2, and the study's own main tables: accuracy by method, what shown answers add, the search for a rate."""

import pandas as pd

from analysis.collect import LAST_VALIDATIONS
from analysis.comparison import AVERAGE, column_name, compare
from analysis.contenders import FEW_CLUSTERS, PairedContest, contenders, differing_settings, models
from analysis.gains import GRPO, search_scores
from analysis.recorded import RecordedStudy, accuracies
from analysis.reported import MODELS, PrintedContest, printed_notes
from analysis.style import LOOKS
from analysis.tables.arm_names import METHODS
from analysis.tables.arms import measured, missing, problems, stand_in
from analysis.tables.benchmarks import benchmark_table
from analysis.tables.paper_table import PaperTable
from analysis.tables.words import (
    DASH,
    OVER_SEEDS,
    PAIRED,
    Cell,
    counted,
    laid_out,
    percent,
    rate_text,
    sentences,
    with_reach,
)
from core.errors import InputError
from core.eval_schema import BENCHMARKS
from core.intervals import mean_interval


def table2(study: RecordedStudy) -> PaperTable:
    """Table 2 as the study has it: base and methods on the five benchmarks, held against GRPO item by item."""
    evaluations = study.benchmark_evaluations()
    found = {each.about.method for each in evaluations}
    absent = [look.label for name, look in LOOKS.items() if name not in found]
    not_there = f"Not evaluated: {', '.join(absent)}." if absent else ""
    if not evaluations:
        return PaperTable(pd.DataFrame(columns=["method", *BENCHMARKS.values(), "Average"]), not_there)
    contest = PairedContest(tuple(contenders(evaluations, models(evaluations)[0])))
    baseline = next((each for each in contest.labels if contest.method(each) == GRPO[1]), LOOKS[GRPO[1]].label)
    comparison = compare(contest, baseline)
    shown = benchmark_table(comparison, baseline, "se", "cluster", "paired")
    caption = sentences(
        "Small stand-ins drawn with Pocket Geo3k: no results on the real ones."
        if study.about.scale == "pocket"
        else "",
        shown.caption,
        _items(comparison),
        _over_runs(contest),
        f"Evaluations differ in {', '.join(differ)}." if (differ := differing_settings(contest.rows)) else "",
        not_there,
    )
    return PaperTable(shown.cells, caption, shown.bold)


def _items(comparison: pd.DataFrame) -> str:
    """How many items were asked, and where they are too few for a bootstrap."""
    asked = (
        comparison.loc[comparison["column"] != AVERAGE].groupby("column", sort=False)[["n_items", "n_clusters"]].max()
    )
    items = [
        f"{column_name(str(name))} {n}" + (f" in {clusters} clusters" if clusters < n else "")
        for name, n, clusters in asked.itertuples(name=None)
    ]
    few = [column_name(str(name)) for name in asked.index[asked["n_clusters"] < FEW_CLUSTERS]]
    narrow = f"Fewer than {FEW_CLUSTERS} clusters, so intervals are too narrow: {', '.join(few)}." if few else ""
    return sentences(f"Items: {', '.join(items)}.", narrow)


def _over_runs(contest: PairedContest) -> str:
    """How far the averages of single training runs are apart, which the table's own ± does not say."""
    parts = []
    for row in contest.rows:
        over, n = contest.over_runs(row.label), len(row.evaluations)
        parts.append(f"{row.label} {f'{with_reach(over)} (n = {n})' if over else f'n = {n}'}")
    averages = ", ".join(parts)
    return f"The ± and the tests leave out how training runs differ; averages over runs, ± {OVER_SEEDS}: {averages}."


def table2_paper(model: str) -> PaperTable:
    """Table 2 as printed, and what printed numbers alone can separate.

    Args:
        model: "2B" or "4B".
    """
    if model not in MODELS:
        raise InputError(f"Table 2: expected a model of {', '.join(MODELS)}, got {model!r}; name one of these")
    baseline = LOOKS[GRPO[1]].label
    shown = benchmark_table(compare(PrintedContest(model), baseline), baseline, "se", "item", "unpaired")
    return PaperTable(shown.cells, sentences(f"{MODELS[model]}.", shown.caption, *printed_notes(model)), shown.bold)


OVER_GRPO = "over GRPO [95 %]"
HELDOUT = ["method", "before", "after", "gain", OVER_GRPO, "learning rate", "seeds"]


def heldout(study: RecordedStudy) -> PaperTable:
    """What the five methods gain on held-out problems: the study's own main table."""
    over = measured(study, *GRPO[:1])
    rows: list[dict[str, Cell]] = []
    for arm, name in METHODS.items():
        final = study.final(GRPO[0], arm)
        row: dict[str, Cell] = {"method": name, "seeds": str(len(final))}
        if len(final):
            paired = over[arm]
            row["before"], row["after"] = percent(final["before"].tolist()), percent(final["after"].tolist())
            row["gain"] = with_reach(mean_interval((final["after"] - final["before"]).tolist()), sign="+")
            row[OVER_GRPO] = "baseline" if arm == GRPO[1] else paired.gain
            if paired.seeds < len(final):
                row["seeds"] = f"{len(final)}, {paired.seeds} of them paired"
        if arm in study.about.rates:
            row["learning rate"] = rate_text(study.about.rates[arm])
        rows.append(row)
    caption = sentences(
        f"Accuracy in percent before and after training ({problems(study, GRPO[0])}), and gains in points.",
        PAIRED,
        missing(study, GRPO[0]),
        stand_in(study),
    )
    return laid_out(rows, HELDOUT, caption)


LEAKAGE = ["method", "before", "after", "shown, before", "shown, after", "what showing adds [95 %]", "seeds"]


def table_leakage(study: RecordedStudy) -> PaperTable:
    """Accuracy with and without the true answer shown: who comes to rely on it (Section 3.2) gains with it alone."""
    told = accuracies(study.told) if len(study.told) else pd.DataFrame(columns=["run_id", "step", "accuracy", "n"])
    ends = told.sort_values("step").groupby("run_id")["accuracy"].agg(["first", "last"])
    rows: list[dict[str, Cell]] = []
    for arm, name in METHODS.items():
        found = study.final(GRPO[0], arm).join(ends, on="run_id", how="inner")
        row: dict[str, Cell] = {"method": name, "seeds": str(len(found))}
        if len(found):
            columns = zip(LEAKAGE[1:5], ("before", "after", "first", "last"), strict=True)
            row |= {title: percent(found[column].tolist()) for title, column in columns}
            adds = (found["last"] - found["after"]) - (found["first"] - found["before"])
            row["what showing adds [95 %]"] = mean_interval(adds.tolist())
        rows.append(row)
    without = [str(row["method"]) for row in rows if row["seeds"] == "0"]
    caption = sentences(
        f"Accuracy in percent before and after training ({problems(study, GRPO[0])}), asked as the student is, and "
        "with the true answer shown as to a teacher. What showing adds: the accuracy it adds after training minus what "
        "it added before, in points; above 0 it helps more than it did. Near 100 % there is little left to add.",
        f"± and [ ]: {OVER_SEEDS}, each run held against itself. Bold: the interval leaves out 0.",
        f"Not asked with the answer shown: {', '.join(without)}." if without else "",
        stand_in(study),
    )
    return laid_out(rows, LEAKAGE, caption)


def table_learning_rates(study: RecordedStudy) -> PaperTable:
    """The search for a learning rate: every method tried the same rates and keeps its best."""
    found = search_scores(study)
    rates = sorted(set(found["rate"]))
    keys = zip(found["method"], found["rate"], strict=True)
    marks = [" *" if is_chosen else "" for is_chosen in found["is_chosen"]]
    texts = [f"{100 * score:.1f}{mark}" for score, mark in zip(found["score"], marks, strict=True)]
    cells = dict(zip(keys, texts, strict=True))
    rows = [[name, *(cells.get((method, rate), DASH) for rate in rates)] for method, name in METHODS.items()]
    caption = sentences(
        f"Held-out accuracy in percent by learning rate: mean of a run's last {LAST_VALIDATIONS} validations "
        f"({counted(found['n'])} responses, to other problems than in the rest of the study). *: the rate a method "
        f"keeps. One run a cell (seed {counted(found['seed'])}), so there are no intervals.",
        stand_in(study),
    )
    return PaperTable(pd.DataFrame(rows, columns=["method", *map(rate_text, rates)]), caption)
