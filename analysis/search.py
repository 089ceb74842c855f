"""Find tokens in a whole run by what the evidence says of them."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.store import RunFile
from analysis.tokens import EVIDENCE

Order = Literal["gap", "cepo", "rlsd"]
Verdict = Literal["any", "right", "wrong"]


@dataclass(frozen=True)
class Search:
    """Which tokens to find in a run; Δ in nats, and log w = sign(A)·Δ, so that above 0 means more credit or blame."""

    token_class: str | None = None
    text: str = ""
    """Found anywhere in the token's text, as it is."""
    verdict: Verdict = "any"
    """Tokens of right rollouts, of wrong ones, or of both."""
    cepo_at_least: float | None = None
    cepo_at_most: float | None = None
    """Bounds of log w by CEPO."""
    rlsd_at_least: float | None = None
    rlsd_at_most: float | None = None
    """Bounds of log w by RLSD."""
    order: Order = "gap"
    """Largest first: |log w by CEPO − log w by RLSD|, or |log w| by either."""


PRESETS: dict[str, Search] = {
    "decisive in CEPO, filler in RLSD": Search(cepo_at_least=0.5, rlsd_at_least=-0.1, rlsd_at_most=0.1),
    "decisive in CEPO": Search(order="cepo"),
    "decisive in RLSD, filler in CEPO": Search(cepo_at_least=-0.1, cepo_at_most=0.1, rlsd_at_least=0.5),
    "blamed although the rollout is right": Search(verdict="right", cepo_at_most=-0.1, order="cepo"),
    "format tokens with a weight above 1.3": Search(token_class="format", cepo_at_least=0.2624, order="cepo"),
    "digits": Search(token_class="digit", order="cepo"),
}
"""Questions worth asking of any run; w = 1.3 is log w = 0.2624."""

FOUND_COLUMNS = (
    "step", "rollout", "position", "token", "before", "after", "class", "reward", "is_correct", "advantage",
    "delta_cepo", "delta_rlsd", "log_w_cepo", "log_w_rlsd",
)  # fmt: skip
CONTEXT = 6
"""Tokens shown on either side of one that was found."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    total: int
    rows: pd.DataFrame
    """`FOUND_COLUMNS`; rollout is its index in the step, Δ and log w are in nats."""


def search(run: RunFile, what: Search, limit: int = 100) -> Found:
    """Find tokens in a whole run; rollouts with A = 0 have none worth finding."""
    conditions, values = ["true"], []
    for column, sign, bound in (
        ("log_w_cepo", ">=", what.cepo_at_least),
        ("log_w_cepo", "<=", what.cepo_at_most),
        ("log_w_rlsd", ">=", what.rlsd_at_least),
        ("log_w_rlsd", "<=", what.rlsd_at_most),
    ):
        if bound is not None:
            conditions.append(f"{column} {sign} ?")
            values.append(bound)
    if what.token_class is not None:
        conditions.append("token_class = ?")
        values.append(what.token_class)
    if what.text:
        conditions.append("contains(piece, ?)")
        values.append(what.text)
    if what.verdict != "any":
        conditions.append("is_correct = ?")
        values.append(what.verdict == "right")
    order = {"gap": "abs(log_w_cepo - log_w_rlsd)", "cepo": "abs(log_w_cepo)", "rlsd": "abs(log_w_rlsd)"}[what.order]
    with run.reading() as connection:
        found = connection.execute(
            # NaN would count as the largest of all; whatever is not a number is no evidence
            f"WITH evidence AS ({EVIDENCE}), weighed AS (SELECT *, "
            "CASE WHEN NOT isnan(delta_cepo) THEN sign(advantage) * delta_cepo END AS log_w_cepo, "
            "CASE WHEN NOT isnan(delta_rlsd) THEN sign(advantage) * delta_rlsd END AS log_w_rlsd FROM evidence), "
            "matching AS (SELECT * FROM weighed LEFT JOIN vocabulary USING (token_id) "
            f"JOIN (SELECT step, group_id, rollout_id, reward, is_correct FROM rollouts) "
            f"USING (step, group_id, rollout_id) WHERE {' AND '.join(conditions)}) "
            "SELECT *, count(*) OVER () AS total FROM matching "
            f"ORDER BY {order} DESC NULLS LAST, step, group_id, rollout_id, position LIMIT {int(limit)}",
            values,
        ).df()
        if found.empty:
            return Found(0, found)
        connection.register("found", found[["step", "group_id", "rollout_id", "position"]])
        around = connection.execute(
            "SELECT f.step, f.group_id, f.rollout_id, f.position, "
            "coalesce(string_agg(piece, '' ORDER BY t.position) FILTER (t.position < f.position), '') AS before, "
            "coalesce(string_agg(piece, '' ORDER BY t.position) FILTER (t.position > f.position), '') AS after "
            "FROM found f JOIN tokens t ON t.step = f.step AND t.group_id = f.group_id AND "
            "t.rollout_id = f.rollout_id AND abs(t.position::INTEGER - f.position::INTEGER) <= ? "
            "LEFT JOIN vocabulary USING (token_id) GROUP BY ALL",
            [CONTEXT],
        ).df()
        indices = connection.execute(
            "SELECT step, group_id, rollout_id, "
            "row_number() OVER (PARTITION BY step ORDER BY group_id, rollout_id) - 1 "
            "AS rollout FROM rollouts WHERE step IN (SELECT step FROM found)"
        ).df()
    keys = ["step", "group_id", "rollout_id"]
    rows = found.merge(around, on=[*keys, "position"], how="left").merge(indices, on=keys, how="left")
    rows = rows.rename(columns={"piece": "token", "token_class": "class"})
    return Found(int(found.total.iloc[0]), rows.loc[:, list(FOUND_COLUMNS)])
