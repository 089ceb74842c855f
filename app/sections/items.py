"""Items of a benchmark that one method has right and another wrong, with picture, question and both answers."""

import streamlit as st

from analysis.comparison import column_name
from analysis.contenders import Contender, PairedContest
from analysis.eval_store import EvalFile
from app.choices import chosen
from app.sections.problem import show_picture
from core.eval_schema import ItemRow

LONGEST = 20_000
"""Characters of an answer that the page shows."""


def show(contest: PairedContest, first: str, baseline: str) -> None:
    """Choose a benchmark and a side, then one of its items."""
    st.subheader("Items where they differ")
    shared = [column for column in contest.columns if contest.shared(first, baseline, column) is not None]
    if not shared:
        st.info("These two share no item.", icon=":material/info:")
        return
    left, middle, right = st.columns([1, 1.4, 1.6])
    with left:
        task = chosen("task", "benchmark", shared, shared[0], show=column_name, forgets=("item",))
    split = contest.split(first, baseline, task)
    sides = {
        "won": f"{first} right, {baseline} wrong ({len(split.only_first)})",
        "lost": f"{first} wrong, {baseline} right ({len(split.only_second)})",
    }
    with middle:
        side = chosen("side", "which", list(sides), "won", show=lambda each: sides[each], forgets=("item",))
    items = split.only_first if side == "won" else split.only_second
    st.caption(
        f"Both right {split.both}, both wrong {split.neither}, asked of only one {split.unmatched}. Exact McNemar "
        f"test, every item taken as independent: p = {split.p_value:.3g}. Right is a mean score of at least one half."
    )
    if items.empty:
        st.info("There is no such item.", icon=":material/info:")
        return
    with right:
        item_id = chosen("item", "item", [str(each) for each in items.index], str(items.index[0]))
    compare_answers(contest.row(first), contest.row(baseline), task, item_id)


def compare_answers(first: Contender, second: Contender, task: str, item_id: str) -> None:
    """One item: what was asked, and what both answered."""
    sides = [(row, answers_of(row, task, item_id)) for row in (first, second)]
    file, asked = next(pair for _, answers in sides for pair in answers)
    picture, question = st.columns([1, 3], gap="medium")
    with picture:
        for png in file.images(asked) or [None]:
            show_picture(png)
    with question:
        st.caption("question")
        text(asked.question)
        st.caption("right answer")
        text(asked.target)
    for column, (row, answers) in zip(st.columns(2, gap="medium"), sides, strict=True):
        with column:
            st.text(row.label)
            for file, answer in answers:
                run = f"{file.key}, " if len(row.evaluations) > 1 else ""
                st.caption(f"{run}seed {answer.seed}, score {answer.score:g}, {answer.n_tokens} tokens{cut(answer)}")
                text(answer.answer if answer.answer is not None else "no answer found")
                text(answer.response)


def answers_of(row: Contender, task: str, item_id: str) -> list[tuple[EvalFile, ItemRow]]:
    """Every answer to an item, with the file that holds it."""
    return [(each.file, answer) for each in row.evaluations for answer in each.file.answers(task, item_id)]


def cut(answer: ItemRow) -> str:
    """Whether it ended by itself."""
    return ", cut at the token limit" if answer.truncated else ""


def text(recorded: str) -> None:
    """What a model or a benchmark wrote, literally."""
    st.code(recorded[:LONGEST], language=None, wrap_lines=True)
    if len(recorded) > LONGEST:
        st.caption(f"{len(recorded) - LONGEST} more characters are in the file.")
