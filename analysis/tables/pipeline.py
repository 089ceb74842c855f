"""Figure 2 on a recorded group: what a step of CEPO did with the rollouts of one problem."""

import numpy as np
import pandas as pd

from analysis.figures.figure5 import choose_rollout
from analysis.store import RunFile
from analysis.tables.paper_table import PaperTable
from analysis.tokens import Rollout, read_rollout

COLUMNS = ["rollout", "answer", "R", "A", "part", "largest |Δ| at", "Δ, nats", "w", "Â there"]


def pipeline(run: RunFile) -> PaperTable:
    """The pipeline of Figure 2 as a table: a row a rollout of the group that Figure 5 takes its rollout from."""
    step, place = choose_rollout(run)
    chosen = read_rollout(run, step, place)
    first = place - chosen.rollout_id
    rollouts = [read_rollout(run, step, first + i) for i in range(len(chosen.group))]
    cells = pd.DataFrame([_row(each, chosen.hint_wrong_rollout) for each in rollouts], columns=COLUMNS)
    lam = "no λ" if chosen.lam is None else f"λ = {chosen.lam:g}"
    caption = (
        f"One group of {run.key}, step {step}, {lam}, ε_w = {chosen.epsilon_w}: {len(rollouts)} rollouts of "
        f"“{chosen.question}” (true answer r⁺ = {chosen.true_answer}), judged by the verifier (R), compared within the "
        f"group (A, Eq. 1). 𝒢⁺ and 𝒢⁻: right and wrong ones; r⁻ = {chosen.hint_wrong} is the answer of the one marked. "
        "Then the token at which the two teachers disagree most (Δ, Eq. 5; ␣ is a space), its weight before clipping, "
        "and its token advantage Â (Eq. 7). The group is that of Figure 5's rollout, chosen by the same rule."
    )
    return PaperTable(cells, caption)


def _row(rollout: Rollout, source: int | None) -> list[str]:
    part = "𝒢⁺" if rollout.is_correct else "𝒢⁻"
    part += ", gives r⁻" if rollout.rollout_id == source else ""
    head = [str(rollout.rollout_id), rollout.answer or "–", f"{rollout.reward:g}", f"{rollout.advantage:+.2f}", part]
    tokens = rollout.tokens
    delta = np.asarray(tokens.delta, float)
    if rollout.advantage == 0 or np.isnan(delta).all():
        return [*head, "–", "–", "–", "–"]
    at = int(np.nanargmax(np.abs(delta)))
    around = "".join(tokens.pieces[max(at - 8, 0) : at]), tokens.pieces[at]
    where = f"{around[0].replace(' ', '␣')}[{around[1].replace(' ', '␣')}]"
    return [
        *head,
        where,
        f"{delta[at]:+.2f}",
        f"{tokens.weight[at]:.2f}",
        f"{tokens.token_advantage[at]:+.2f}",
    ]
