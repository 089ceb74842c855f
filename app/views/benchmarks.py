"""Benchmarks: own evaluations and the paper's numbers, each by itself, with what the data separate."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import reported
from analysis.comparison import AVERAGE, Contest, best_of, reading
from analysis.contenders import Contender, PairedContest, contenders, models, notes, provenance
from analysis.eval_store import Evaluation
from analysis.figures.forest import forest
from analysis.store import EXAMPLE
from analysis.tables import export
from analysis.tables.benchmarks import PLUS_MINUS, UNITS, BenchmarkTable, PlusMinus, Unit, benchmark_table, precise
from app import loading, markup
from app.choices import choose, chosen
from app.sections import items

# How the address names the paper's models.
PAPER = {f"paper-{size.lower()}": size for size in reported.MODELS}

MAKE_DATA = "python -m eval.pocket"
COMMAND = "python -m eval.run --tasks dynamath,logicvista,mathvision_mini,mmmu,wemath"


def main() -> None:
    """The page."""
    st.title("Benchmarks")
    evaluations, unreadable = loading.evaluations()
    for each in unreadable:
        st.warning("An evaluation cannot be read; the others are shown.", icon=":material/error:")
        st.code(each.reason, language=None, wrap_lines=True)
    if not evaluations:
        how_to_evaluate()
    own = models(evaluations)
    model, *boxes = st.columns([2.2, 1.2, 1, 1, 1])
    with model:
        options = [*own, *PAPER]
        source = chosen(
            "model", "model", options, options[0], show=name_of, forgets=("baseline", "method", "seed", "task", "item")
        )
    if source in own:
        show_own(evaluations, source, boxes)
    else:
        show_paper(PAPER[source], boxes)


def how_to_evaluate() -> None:
    """No evaluation yet: how to make one, and where it was looked for."""
    st.info("No evaluations yet; below are the paper's numbers. Make your own:", icon=":material/info:")
    st.code(COMMAND, language="bash")
    st.caption("Without a network, on small stand-ins for the five:")
    st.code(f"{MAKE_DATA}\n{COMMAND} --data-root data/pocket_benchmarks", language="bash")
    st.caption("Looked for eval.duckdb, one folder deep, in")
    st.code(str(loading.evals_dir().resolve()), language=None)


def name_of(source: str) -> str:
    """How the choice of a model reads."""
    return f"{reported.MODELS[PAPER[source]]} (as the paper prints it)" if source in PAPER else source


def show_own(evaluations: Sequence[Evaluation], model: str, boxes: Sequence[DeltaGenerator]) -> None:
    """Evaluations made here, compared item by item."""
    rows = tuple(contenders(evaluations, model))
    every = PairedContest(rows)
    with boxes[2]:
        unit: Unit = chosen(
            "unit", "unit", list(UNITS), "cluster", help="What is drawn: single items, or clusters of them."
        )
    seeds = [str(seed) for seed in every.sampling_seeds]
    with boxes[3]:
        seed = chosen("seed", "seeds", ["all", *seeds], "all", help="Seeds of the sampler.")
    contest = PairedContest(rows, unit == "cluster", None if seed == "all" else int(seed))
    baseline, plus_minus = comparison_boxes(contest, boxes)
    st.subheader("Own evaluations")
    st.text(model)
    table = loading.comparison(contest, baseline)
    laid_out = benchmark_table(table, baseline, plus_minus, unit, "paired")
    first = show_comparison(table, laid_out, baseline, notes(contest, baseline), f"own evaluations of {model}")
    if first:
        items.show(contest, first, baseline)
    with st.expander("Where these numbers come from"):
        markup.table(provenance(rows), caption="One line an evaluation")
        training_runs(rows)


def show_paper(model: str, boxes: Sequence[DeltaGenerator]) -> None:
    """Table 2 as printed."""
    contest = reported.PrintedContest(model)
    baseline, plus_minus = comparison_boxes(contest, boxes)
    st.subheader(f"As the paper prints it: {reported.MODELS[model]}")
    table = loading.comparison(contest, baseline)
    laid_out = benchmark_table(table, baseline, plus_minus, "item", "unpaired")
    show_comparison(table, laid_out, baseline, reported.printed_notes(model), "arXiv 2605.19436v1, Table 2")


def comparison_boxes(contest: Contest, boxes: Sequence[DeltaGenerator]) -> tuple[str, PlusMinus]:
    """The baseline, and what ± is."""
    labels = list(contest.labels)
    usual = next((label for label in labels if contest.method(label) == "grpo"), labels[0])
    with boxes[0]:
        baseline = chosen("baseline", "baseline", labels, usual, forgets=("method", "item"))
    with boxes[1]:
        plus_minus: PlusMinus = chosen("pm", "±", list(PLUS_MINUS), "se", show=lambda each: PLUS_MINUS[each])
    return baseline, plus_minus


def show_comparison(
    table: pd.DataFrame, laid_out: BenchmarkTable, baseline: str, remarks: Sequence[str], source: str
) -> str | None:
    """The table, its reading, what to know, the forest plot and the exports; the method that was chosen to be read."""
    st.html(export.to_html(laid_out.cells, laid_out.caption, laid_out.bold))
    others = [label for label in dict.fromkeys(table["label"]) if label != baseline]
    first = None
    if others:
        first = chosen(
            "method",
            "read",
            others,
            best_of(table, others),
            show=lambda each: f"{each} against {baseline}",
            forgets=("item",),
        )
        st.text(reading(table, first, baseline))
    for remark in remarks:
        st.text(remark)
    if len(table.dropna(subset="difference")):
        st.plotly_chart(
            forest(table, baseline, loading.theme()),
            key="forest",
            on_select=pick,
            selection_mode="points",
            theme=None,
            alt=f"Differences from {baseline} by benchmark with 95 % intervals; the numbers are in the table above.",
        )
    downloads(laid_out, precise(table, baseline, source))
    return first


def pick() -> None:
    """A point of the forest plot was clicked: read its method, show its items."""
    for point in st.session_state["forest"]["selection"]["points"]:
        label, column = point["customdata"][:2]
        choose("method", label)
        if column != AVERAGE:
            choose("task", column)


def downloads(laid_out: BenchmarkTable, every_digit: pd.DataFrame) -> None:
    """The table for a paper, a page or a spreadsheet."""
    written: dict[str, tuple[str, Callable[[], str]]] = {
        "LaTeX": ("tex", lambda: export.to_latex(laid_out.cells, laid_out.caption, laid_out.bold)),
        "Markdown": ("md", lambda: export.to_markdown(laid_out.cells, laid_out.caption, laid_out.bold)),
        "CSV": ("csv", lambda: export.to_csv(every_digit)),
    }
    with st.container(horizontal=True):
        for name, (suffix, write) in written.items():
            st.download_button(name, write(), f"benchmarks.{suffix}", icon=":material/download:", on_click="ignore")


def training_runs(rows: Sequence[Contender]) -> None:
    """A way to the tokens of every training run that is recorded here."""
    own = (key for key in reversed(loading.store().files()) if not key.startswith(f"{EXAMPLE}/"))
    recorded = {key.rsplit("/", 1)[-1]: key for key in own}
    for run_id in dict.fromkeys(each.about.run_id for row in rows for each in row.evaluations if each.about.run_id):
        if run_id not in recorded:
            st.text(f"The training run {run_id} is not among the runs here.")
            continue
        st.text(f"Training run {run_id}")
        # a link, not a button: a figure that reports itself while the page runs can swallow a button's press
        st.page_link(
            "views/tokens.py", label="Open its tokens", icon=":material/token:", query_params={"run": recorded[run_id]}
        )


main()
