"""The tokens of a run file: those of one rollout, those a search finds, and counts of evidence over any part of it.

Evidence is read from the three log-probabilities, so that a run of any method can be looked at through RLSD's and
CEPO's eyes, whatever trained it.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from analysis.heatmap import Tokens
from analysis.store import RunFile
from core.errors import InputError
from core.histogram import BIN_WIDTH, BINS, LOWEST
from core.schema import TokenClass

CLASSES: tuple[str, ...] = get_args(TokenClass)
Against = Literal["student", "wrong"]
"""What P_T⁺ is held against: P_S (RLSD, Eq. 4) or P_T⁻ (CEPO, Eq. 5)."""

PER_TOKEN = (
    "log_p_sampler", "log_p_student", "log_p_correct", "log_p_wrong", "delta", "weight", "clipped", "token_advantage",
    "divergence", "entropy",
)  # fmt: skip
ONE_ROLLOUT = """
SELECT r.*, g.question, g.answer AS true_answer, coalesce(r.hint_correct, g.hint_correct) AS told_correct,
  coalesce(r.hint_wrong, g.hint_wrong) AS told_wrong, g.hint_wrong_rollout, g.fallback, i.png AS image, s.lam,
  s.epsilon_w
FROM rollouts r JOIN groups g USING (step, group_id) JOIN steps s USING (step) LEFT JOIN images i USING (image_id)
WHERE r.step = ? AND r.group_id = ? AND r.rollout_id = ?
"""
ITS_GROUP = """
SELECT rollout_id, r.answer, reward, is_correct, advantage, coalesce(r.hint_wrong, g.hint_wrong) AS hint_wrong
FROM rollouts r JOIN groups g USING (step, group_id) WHERE r.step = ? AND r.group_id = ? ORDER BY rollout_id
"""
ITS_TOKENS = f"""
SELECT position, token_id, coalesce(piece, '') AS piece, piece_bytes, coalesce(token_class, 'special') AS class,
  {", ".join(PER_TOKEN)}
FROM tokens LEFT JOIN vocabulary USING (token_id)
WHERE step = ? AND group_id = ? AND rollout_id = ? ORDER BY position
"""
ROLLOUT_LIST = """
WITH strongest AS (
  SELECT step, group_id, rollout_id, max(abs(log_p_correct - log_p_wrong)) AS max_cepo,
    max(abs(log_p_correct - log_p_student)) AS max_rlsd
  FROM tokens WHERE step = ? GROUP BY ALL
)
SELECT row_number() OVER (ORDER BY group_id, rollout_id) - 1 AS rollout, group_id AS group, g.question, r.answer,
  g.answer AS true_answer, r.reward, r.is_correct, r.advantage, r.n_tokens, r.truncated, g.fallback, max_cepo, max_rlsd
FROM rollouts r JOIN groups g USING (step, group_id) LEFT JOIN strongest USING (step, group_id, rollout_id)
WHERE r.step = ? ORDER BY group_id, rollout_id
"""


@dataclass(frozen=True)
class Rollout:
    """One recorded response: the problem it answers, the hints its teachers read, its verdict and its tokens."""

    step: int
    index: int
    """Place among the rollouts of its step, from 0."""
    count: int
    """Rollouts of the step."""
    group_id: int
    rollout_id: int
    question: str
    true_answer: str
    image: bytes | None
    hint_correct: str | None
    hint_wrong: str | None
    hint_wrong_rollout: int | None
    fallback: bool
    response: str
    answer: str | None
    reward: float
    is_correct: bool
    truncated: bool
    advantage: float
    lam: float | None
    """λ of the step; None where the method has none."""
    epsilon_w: float | None
    tokens: Tokens
    group: pd.DataFrame
    """Its group's rollouts: rollout_id, answer, reward, is_correct, advantage, hint_wrong."""


class Scope(NamedTuple):
    """A part of a run: all of it, a step, or one rollout of a step."""

    step: int | None = None
    group_id: int | None = None
    rollout_id: int | None = None


WHOLE_RUN = Scope()


def read_rollout(run: RunFile, step: int, index: int | None = None) -> Rollout:
    """Read one rollout of a step, in one opening of the file.

    Args:
        run: where it was recorded.
        step: a recorded step.
        index: its place in the step, or the nearest there is; None takes the `strongest`.
    """
    with run.reading() as connection:
        places = connection.execute(
            "SELECT group_id, rollout_id FROM rollouts WHERE step = ? ORDER BY group_id, rollout_id", [step]
        ).fetchall()
        if not places:
            raise InputError(f"step {step} of {run.path} holds no rollouts; choose another step")
        if index is None:
            index = strongest(connection.execute(ROLLOUT_LIST, [step, step]).df())
        index = min(max(index, 0), len(places) - 1)
        rows = connection.execute(ONE_ROLLOUT, [step, *places[index]]).df()
        if rows.empty:
            raise InputError(f"step {step} of {run.path} has rollouts without a group or step; record the run again")
        row = rows.iloc[0]
        group = connection.execute(ITS_GROUP, [step, places[index][0]]).df()
        tokens = connection.execute(ITS_TOKENS, [step, *places[index]]).df()
    return Rollout(
        step=step,
        index=index,
        count=len(places),
        group_id=int(row.group_id),
        rollout_id=int(row.rollout_id),
        question=row.question,
        true_answer=row.true_answer,
        image=_none(row.image, bytes),
        hint_correct=_none(row.told_correct, str),
        hint_wrong=_none(row.told_wrong, str),
        hint_wrong_rollout=_none(row.hint_wrong_rollout, int),
        fallback=bool(row.fallback),
        response=row.response,
        answer=_none(row.answer, str),
        reward=float(row.reward),
        is_correct=bool(row.is_correct),
        truncated=bool(row.truncated),
        advantage=float(row.advantage),
        lam=_none(row.lam, float),
        epsilon_w=_none(row.epsilon_w, float),
        tokens=_tokens(tokens),
        group=group,
    )


def _none(value: Any, kind: type) -> Any:
    return (
        None if value is None or value is pd.NaT or (pd.api.types.is_scalar(value) and pd.isna(value)) else kind(value)
    )


def _tokens(rows: pd.DataFrame) -> Tokens:
    floats = {name: rows[name].to_numpy(np.float32, na_value=np.nan) for name in PER_TOKEN if name != "log_p_sampler"}
    return Tokens(
        position=rows.position.to_numpy(np.int64),
        token_id=rows.token_id.to_numpy(np.int64),
        pieces=tuple(rows.piece),
        piece_bytes=tuple(_none(value, bytes) for value in rows.piece_bytes),
        classes=tuple(rows["class"]),
        **floats,
    )


def rollout_list(run: RunFile, step: int) -> pd.DataFrame:
    """The rollouts of a step, row i for rollout i, with the strongest evidence in each.

    Columns: rollout, group, question, answer, true_answer, reward, is_correct, advantage, n_tokens, truncated,
    fallback, max_cepo and max_rlsd (largest |Δ| in nats, NaN without evidence).
    """
    return run.frame(ROLLOUT_LIST, [step, step])


def strongest(rollouts: pd.DataFrame) -> int:
    """The rollout a step opens at: of those that are credited and have an r⁻, the one with the largest |Δ| of CEPO.

    Right ones come first, then any that is credited, then the first.
    """
    is_credited = rollouts.advantage != 0
    is_told = is_credited & ~rollouts.fallback & rollouts.max_cepo.notna()
    for candidates in (is_told & rollouts.is_correct, is_told):
        if candidates.any():
            return int(rollouts.rollout[rollouts.max_cepo[candidates].idxmax()])
    return int(rollouts.rollout[is_credited.idxmax()])


def step_tokens(run: RunFile, step: int) -> pd.DataFrame:
    """Every token of a step with its rollout's A and its class, in order; `analysis.whatif` credits it again."""
    return run.frame(
        "SELECT t.*, r.advantage, r.is_correct, coalesce(v.piece, '') AS piece, "
        "coalesce(v.token_class, 'special') AS class FROM tokens t JOIN rollouts r USING (step, group_id, rollout_id) "
        "LEFT JOIN vocabulary v USING (token_id) WHERE t.step = ? ORDER BY t.group_id, t.rollout_id, t.position",
        [step],
    )


@dataclass(frozen=True)
class EvidenceCounts:
    """Counts of one kind of evidence over the tokens of some rollouts with A ≠ 0, one row a token class.

    Enough for the clip rate at any ε_w and the shares of Δ without reading a token again.
    """

    histogram: np.ndarray
    """[classes, 401] counts of log w = sign(A)·Δ, bins as in `core.histogram`."""
    n: np.ndarray
    """[classes] tokens."""
    positive: np.ndarray
    negative: np.ndarray
    sum_delta: np.ndarray
    sum_abs_delta: np.ndarray
    """[classes] nats."""


EVIDENCE = """
SELECT step, group_id, rollout_id, position, token_id, advantage, log_p_correct - log_p_student AS delta_rlsd,
  log_p_correct - log_p_wrong AS delta_cepo
FROM tokens JOIN rollouts USING (step, group_id, rollout_id)
WHERE advantage <> 0 AND log_p_correct IS NOT NULL
"""
"""Δ of both kinds at every token that can be credited, as float32, like `core.credit.evidence_delta`."""
DELTAS: dict[Against, str] = {"student": "delta_rlsd", "wrong": "delta_cepo"}


def evidence_counts(run: RunFile, scope: Scope = WHOLE_RUN) -> dict[Against, EvidenceCounts]:
    """Count both kinds of evidence in a part of a run, in one scan of its tokens."""
    conditions, values = _conditions(scope)
    kinds = " UNION ALL ".join(f"({_counted(against)})" for against in DELTAS)
    rows = run.frame(f"WITH evidence AS ({EVIDENCE} {conditions}) {kinds}", values)
    return {against: _counts(rows.loc[rows.against == against, :]) for against in DELTAS}


def _counted(against: Against) -> str:
    """Counts by class and bin, summed a token id first: the vocabulary is joined to few rows."""
    delta, highest = DELTAS[against], LOWEST + (BINS - 1) * BIN_WIDTH
    log_w = f"greatest(least(sign(advantage) * {delta}::DOUBLE, {highest}), {LOWEST})"
    return (
        f"SELECT '{against}' AS against, coalesce(token_class, 'special') AS class, bin, sum(n) AS n, "
        "sum(positive) AS positive, sum(negative) AS negative, sum(total) AS total, sum(magnitude) AS magnitude "
        f"FROM (SELECT token_id, floor(({log_w} - {LOWEST}) / {BIN_WIDTH} + 1e-9)::INTEGER AS bin, count(*) AS n, "
        f"count_if({delta} > 0) AS positive, count_if({delta} < 0) AS negative, sum({delta}::DOUBLE) AS total, "
        f"sum(abs({delta}::DOUBLE)) AS magnitude FROM evidence WHERE {delta} IS NOT NULL AND NOT isnan({delta}) "
        "GROUP BY ALL) LEFT JOIN vocabulary USING (token_id) GROUP BY ALL"
    )


def _counts(rows: pd.DataFrame) -> EvidenceCounts:
    """Rows by class and bin as arrays; a class that a stranger made up counts as special."""
    places = rows["class"].map(lambda name: CLASSES.index(name if name in CLASSES else "special")).to_numpy(np.int64)
    histogram = np.zeros((len(CLASSES), BINS), np.int64)
    np.add.at(histogram, (places, rows.bin.to_numpy(np.int64)), rows.n.to_numpy(np.int64))

    def by_class(column: str) -> np.ndarray:
        return np.bincount(places, rows[column].to_numpy(np.float64), minlength=len(CLASSES))

    return EvidenceCounts(
        histogram, by_class("n"), by_class("positive"), by_class("negative"), by_class("total"), by_class("magnitude")
    )


def _conditions(scope: Scope) -> tuple[str, list[int]]:
    given = {name: value for name, value in scope._asdict().items() if value is not None}
    return "".join(f" AND {name} = ?" for name in given), list(given.values())
