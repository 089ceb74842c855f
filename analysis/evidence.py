"""Evidence of whole runs by kind of token: what RLSD and CEPO saw where, and where CEPO is the sharper (Proposition 1).

On Pocket Geo3k a token is a character and its kind is what the character does in the response; elsewhere its kind is
the recorded class of the token.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from analysis.measures import sharper
from analysis.recorded import RecordedStudy
from analysis.store import RunFile
from analysis.style import LOOKS
from analysis.tokens import CLASSES
from core import credit
from core.errors import InputError
from core.intervals import Interval, clustered_stderr, t_quantile
from core.pocket.chains import CharacterClass, character_classes
from core.problems import PocketProblems

EPSILON_W = 0.5
"""ε_w at which clipping is counted: the default of both methods."""
END, SPECIAL = "end", "special"
KINDS: tuple[str, ...] = tuple(dict.fromkeys((*get_args(CharacterClass), END, *CLASSES)))
"""Every kind there can be, in the order in which they are shown; `end` is the end token of a whole response."""
DECISIVE = ("rule", "result_digit")
FILLER = ("filler",)
"""What decides a chain of Pocket Geo3k and what does not: the kinds that `core.pocket.report` compares."""

GROUP = "evidence"
"""The study's group of runs that record both teachers at every step."""
METHODS = ("rlsd", "cepo")
"""Those that weigh tokens, each with a Δ of its own."""
SUMS = ("n", "delta", "abs_delta", "positive", "negative", "clipped_low", "clipped_high", "weight")
CONTRAST = ("n_contrast", "sharper", "joint", "sharper_by")
COLUMNS = ("step", "sign", "kind", "n", *(f"{name}_{method}" for method in METHODS for name in SUMS), *CONTRAST)

STEPS_AT_ONCE = 10
"""Read in one opening of the file: few enough for memory, many enough for opening to cost little."""
ROLLOUT = ["step", "group_id", "rollout_id"]
TOKENS = """
SELECT step, group_id, rollout_id, sign(advantage)::INTEGER AS sign, coalesce(token_class, 'special') AS class,
  log_p_student, log_p_correct, log_p_wrong, coalesce(fallback, true) AS fallback
FROM tokens JOIN rollouts USING (step, group_id, rollout_id) LEFT JOIN groups USING (step, group_id)
  LEFT JOIN vocabulary USING (token_id)
WHERE step BETWEEN ? AND ? AND advantage <> 0 ORDER BY step, group_id, rollout_id, position
"""
RESPONSES = """
SELECT step, group_id, rollout_id, response, truncated FROM rollouts WHERE step BETWEEN ? AND ? AND advantage <> 0
"""


def read_evidence(run: RunFile) -> pd.DataFrame:
    """Sum a run's evidence by step, sign of A and kind of token; one scan, a few steps at a time.

    Tokens count where A ≠ 0 and P_T⁺ was recorded, as in `analysis.tokens.evidence_counts`.

    Returns:
        Columns step, sign (of A, −1 or 1), kind, n (tokens); for RLSD and CEPO, ending in _rlsd and _cepo: n (tokens
        with that Δ), delta and abs_delta (sums of Δ and |Δ|, nats), positive, negative, clipped_low and clipped_high
        (counts; clipped at `EPSILON_W`), weight (sum of w after clipping). For Proposition 1, over rollouts that both
        teachers were told something of: n_contrast; sharper, the tokens where CEPO's weight is above RLSD's before
        clipping; joint, those of them where RLSD's is not below 1 (A > 0: P_T⁻ < P_S ≤ P_T⁺; A < 0: the reverse), so
        that CEPO strictly amplifies; sharper_by, log w of CEPO minus log w of RLSD summed over the sharper ones, nats.
    """
    outline = run.outline()
    parts = []
    for start in range(0, len(outline.steps), STEPS_AT_ONCE):
        steps = outline.steps[start : start + STEPS_AT_ONCE]
        with run.reading() as connection:
            tokens = connection.execute(TOKENS, [steps[0], steps[-1]]).df()
            responses = connection.execute(RESPONSES, [steps[0], steps[-1]]).df()
        if outline.info.problems == PocketProblems.name:
            tokens["kind"] = _pocket_kinds(tokens, responses, str(run.path))
        else:  # a class that a stranger made up counts as special
            tokens["kind"] = [name if name in CLASSES else SPECIAL for name in tokens["class"]]
        parts.append(_sums(tokens.loc[tokens["log_p_correct"].notna()]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def token_kinds(response: str, truncated: bool, classes: Sequence[str], what: str) -> tuple[str, ...]:
    """The kind of each token of a response on Pocket Geo3k.

    Special tokens are no part of the text; the last one of a response that was not cut is its end.

    Args:
        response: its text.
        truncated: it was cut at the token limit.
        classes: its tokens' recorded classes.
        what: names the rollout in an error.
    """
    characters = character_classes(response)
    is_text = [name != SPECIAL for name in classes]
    if sum(is_text) != len(characters) or (not truncated and (not is_text or is_text[-1])):
        raise InputError(
            f"{what}: expected a token for each of the response's {len(characters)} characters"
            f"{'' if truncated else ' and one for its end'}, got {len(classes)} tokens, {sum(is_text)} of them text; "
            "record the run again"
        )
    rest = iter(characters)
    kinds = [next(rest) if text else SPECIAL for text in is_text]
    return tuple(kinds) if truncated else (*kinds[:-1], END)


def _pocket_kinds(tokens: pd.DataFrame, responses: pd.DataFrame, where: str) -> list[str]:
    """Kinds of all tokens, in their order."""
    texts = dict(zip(_keys(responses), zip(responses["response"], responses["truncated"], strict=True), strict=True))
    kinds: list[str] = []
    for key, those in groupby(zip(_keys(tokens), tokens["class"], strict=True), key=itemgetter(0)):
        response, truncated = texts[key]
        what = "step {}, group {}, rollout {} of {}".format(*key, where)
        kinds += token_kinds(response, truncated, [name for _, name in those], what)
    return kinds


def _keys(rows: pd.DataFrame) -> Iterable[tuple[int, ...]]:
    """Which rollout each row is of."""
    return rows[ROLLOUT].itertuples(index=False, name=None)


def _sums(tokens: pd.DataFrame) -> pd.DataFrame:
    """Tokens summed by step, sign of A and kind."""
    student, correct, wrong = (
        tokens[name].to_numpy(np.float32, na_value=np.nan) for name in ("log_p_student", "log_p_correct", "log_p_wrong")
    )
    sign = tokens["sign"].to_numpy(np.float32)
    each: dict[str, Any] = {
        "step": tokens["step"].astype(int),
        "sign": tokens["sign"].astype(int),
        "kind": tokens["kind"],
        "n": 1,
    }
    for method, against in zip(METHODS, (student, wrong), strict=True):
        each |= {f"{name}_{method}": values for name, values in _effects(correct, against, sign).items()}
    each |= _contrast(tokens, student, correct, wrong, sign)
    sums: Any = pd.DataFrame(each, index=tokens.index).groupby(["step", "sign", "kind"], as_index=False).sum()
    return sums[list(COLUMNS)]


def _effects(correct: np.ndarray, against: np.ndarray, sign: np.ndarray) -> dict[str, np.ndarray]:
    """What a Δ is and does at each token, by the functions that train; 0 where there is none."""
    delta = correct - against
    known = ~np.isnan(delta)
    delta = np.where(known, delta, np.float32(0))
    weight = credit.evidence_weight(torch.from_numpy(delta), torch.from_numpy(sign))
    flags = credit.clip_flags(weight, EPSILON_W).numpy()
    acting = weight.double().clamp(1 - EPSILON_W, 1 + EPSILON_W).numpy()
    exact = delta.astype(np.float64)
    counts = (delta > 0, delta < 0, flags < 0, flags > 0)
    columns = (known.astype(int), exact, np.abs(exact), *(each.astype(int) for each in counts), acting * known)
    return dict(zip(SUMS, columns, strict=True))


def _contrast(
    tokens: pd.DataFrame, student: np.ndarray, correct: np.ndarray, wrong: np.ndarray, sign: np.ndarray
) -> dict[str, np.ndarray]:
    """Where the condition of Proposition 1 holds, in rollouts with both hints."""
    # a rollout without a hint of its own keeps the student's log-probabilities
    told: Any = pd.DataFrame({"correct": correct != student, "wrong": wrong != student}, index=tokens.index)
    told = told.groupby([tokens[name] for name in ROLLOUT]).transform("any").all(axis=1).to_numpy(bool)
    asked = told & ~tokens["fallback"].to_numpy(bool) & ~np.isnan(correct + wrong + student)
    above = asked & sharper(student, wrong, sign)
    by = np.where(above, np.abs(student.astype(np.float64) - wrong), 0.0)
    columns = (asked.astype(int), above.astype(int), (above & (sign * (correct - student) >= 0)).astype(int), by)
    return dict(zip(CONTRAST, columns, strict=True))


def evidence_runs(study: RecordedStudy) -> dict[str, pd.DataFrame]:
    """A study's evidence by the method that trained, CEPO first: the rows of all runs of its group of that name."""
    asked = study.arms.loc[study.arms["group"] == GROUP, "run_id"]
    runs = study.runs.loc[study.runs["run_id"].isin(asked), ["run_id", "method", "seed"]]
    known: Any = study.evidence.merge(runs, on="run_id")
    found = {str(method): rows for method, rows in known.groupby("method")}
    return {method: found[method] for method in reversed(LOOKS) if method in found}


def pooled(rows: pd.DataFrame, sums: str, n: str) -> Interval:
    """Mean over tokens with a 95 % t-interval in which the tokens of one step of one run stand or fall together.

    No ends where they cannot be formed: from a single step, or where all steps agree to the last digit.

    Args:
        rows: of `read_evidence`, with their run_id.
        sums: the column of the tokens' sums.
        n: the column that counts those tokens.
    """
    steps: Any = rows.groupby(["run_id", "step"])[[sums, n]].sum()
    totals, sizes = (steps.loc[steps[n] > 0, name].to_numpy() for name in (sums, n))
    if not len(sizes):
        return Interval(np.nan, np.nan, np.nan)
    mean = float(totals.sum() / sizes.sum())
    # only the sum of a cluster counts, so each of its tokens may have their mean
    stderr = clustered_stderr(np.repeat(totals / sizes, sizes), np.repeat(np.arange(len(sizes)), sizes))
    if not stderr > 0:
        return Interval(mean, np.nan, np.nan)
    reach = t_quantile(len(sizes) - 1) * stderr
    return Interval(mean, mean - reach, mean + reach)
