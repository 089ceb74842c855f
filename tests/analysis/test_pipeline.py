"""Figure 2 as a table: a recorded group, and what one step did with it."""

import numpy as np
import pandas as pd

from analysis.figures.figure5 import choose_rollout
from analysis.store import EXAMPLE_DIR, RunFile
from analysis.tables.pipeline import pipeline
from analysis.tokens import read_rollout

RUN = RunFile("cepo", EXAMPLE_DIR / "cepo" / "run.duckdb")


def rollout():
    return read_rollout(RUN, *choose_rollout(RUN))


def test_the_group_is_that_of_figure_5_with_one_row_a_rollout():
    cells, chosen = pipeline(RUN).cells, rollout()
    assert cells["rollout"].tolist() == [str(i) for i in chosen.group.rollout_id]
    assert cells["answer"].tolist() == [answer or "–" for answer in chosen.group.answer]
    assert cells["A"].astype(float).round(2).tolist() == chosen.group.advantage.round(2).tolist()


def test_right_and_wrong_rollouts_are_parted_and_the_one_that_gives_the_wrong_hint_is_marked():
    cells, chosen = pipeline(RUN).cells, rollout()
    right = cells["part"].str.startswith("𝒢⁺").tolist()
    assert right == chosen.group.is_correct.tolist()
    assert [i for i, part in enumerate(cells["part"]) if "gives r⁻" in part] == [chosen.hint_wrong_rollout]
    assert cells["answer"][chosen.hint_wrong_rollout] == chosen.hint_wrong


def test_the_token_shown_is_where_the_teachers_disagree_most():
    chosen = rollout()
    row: pd.Series = pipeline(RUN).cells.iloc[chosen.rollout_id]
    at = int(np.argmax(np.abs(chosen.tokens.delta)))
    assert row["largest |Δ| at"].endswith(f"[{chosen.tokens.pieces[at].replace(' ', '␣')}]")
    assert float(row["Δ, nats"]) == round(float(chosen.tokens.delta[at]), 2)
    assert float(row["Â there"]) == round(float(chosen.tokens.token_advantage[at]), 2)


def test_the_caption_says_which_group_it_is_and_what_was_told():
    caption, chosen = pipeline(RUN).caption, rollout()
    assert f"step {chosen.step}, λ = {chosen.lam:g}" in caption
    assert f"r⁺ = {chosen.true_answer}" in caption
    assert f"r⁻ = {chosen.hint_wrong} " in caption
