"""Figure 5 from a recorded run: one rollout under RLSD and under CEPO, chosen and annotated by rule."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.evidence import EPSILON_W, FILLER, token_kinds
from analysis.figures.evidence import kind_name
from analysis.heatmap import Heatmap
from analysis.heatmap_svg import circled, heatmap_svg
from analysis.reported import reported
from analysis.search import CONTEXT
from analysis.store import RunFile
from analysis.style import Theme, label
from analysis.tokens import Rollout, read_rollout
from core.errors import InputError
from core.methods import CEPO
from core.problems import PocketProblems
from core.schema import RunRow

PROSE = (*FILLER, "word")
"""Filler on Pocket Geo3k; elsewhere the nearest thing to it, words."""
CHOICE = (
    "Chosen by rule: of all rollouts with A > 0 and an r⁻ at steps with λ > 0 (in a run without one, at all steps) the "
    "one whose mean |Δ| by CEPO is the median: typical, not the best."
)
CANDIDATES = """
WITH places AS (
  SELECT *, row_number() OVER (PARTITION BY step ORDER BY group_id, rollout_id) - 1 AS place FROM rollouts
), sizes AS (
  SELECT step, group_id, rollout_id, round(avg(abs((log_p_correct - log_p_wrong)::DOUBLE)), 9) AS size FROM tokens
  GROUP BY ALL HAVING count(*) = count(log_p_student + log_p_correct + log_p_wrong) AND
    bool_or(log_p_wrong <> log_p_student)
)
SELECT step, lam, place FROM places JOIN sizes USING (step, group_id, rollout_id) JOIN groups USING (step, group_id)
  JOIN steps USING (step)
WHERE advantage > 0 AND NOT fallback ORDER BY size, step, place
"""


def choose_rollout(run: RunFile) -> tuple[int, int]:
    """A typical rollout of a run, by a rule that knows no taste: its step, and its place there (Figure 5).

    Of all rollouts with A > 0, in groups with an r⁻ and with both teachers' log-probabilities, at steps with λ > 0, it
    is the one whose mean |Δ| of CEPO is the median, of an even number the lower of the two in the middle; equal ones
    stand in the order of the run. A run without such a step, as GRPO's, is asked at all its steps.
    """
    found: Any = run.frame(CANDIDATES)
    if found.empty:
        raise InputError(
            f"{run.path}: expected a rollout with A > 0, an r⁻ and both teachers' log-probabilities, found none; "
            "record a run with record.evidence 'all'"
        )
    credited = found[found["lam"] > 0]
    ordered = found if credited.empty else credited
    middle = ordered.iloc[(len(ordered) - 1) // 2]
    return int(middle["step"]), int(middle["place"])


@dataclass(frozen=True)
class Callout:
    """A numbered token of the figure, and what was measured there."""

    token: int
    text: str


def callouts(view: Heatmap, kinds: tuple[str, ...]) -> tuple[Callout, ...]:
    """Up to three tokens worth a look, by rules that do not ask which method looks better there (Figure 5).

    ① of the filler (where kinds are recorded classes: of the words) the token at which RLSD's weight is furthest from
    1, its |log w| largest; ② CEPO's lowest weight, if below 1; ③ CEPO's highest, if above 1. Weights before clipping;
    of equal ones the first. A rule that finds nothing leaves its callout out.

    Args:
        view: a heatmap of RLSD on the left and CEPO on the right, both with weights.
        kinds: of its tokens.
    """
    weights = {panel.method: np.asarray(panel.weight, float) for panel in view.panels}
    far, cepo = np.abs(np.log(weights["rlsd"])), weights["cepo"]
    found: list[tuple[str, int]] = []
    prose = [token for token, kind in enumerate(kinds) if kind in PROSE]
    if prose:
        found.append(("RLSD furthest from 1 in prose", prose[int(np.argmax(far[prose]))]))
    if cepo.min() < 1:
        found.append(("CEPO's lowest weight", int(cepo.argmin())))
    if cepo.max() > 1:
        found.append(("CEPO's highest weight", int(cepo.argmax())))
    return tuple(
        Callout(
            token,
            f"{circled(number)} {rule}: {_where(view, token)}, {kind_name(kinds[token])}, {_weights(weights, token)}",
        )
        for number, (rule, token) in enumerate(found, 1)
    )


def _where(view: Heatmap, token: int) -> str:
    """A token in brackets between its neighbours."""
    texts = [piece.text for piece in view.tokens.display]
    before, after = texts[max(token - CONTEXT, 0) : token], texts[token + 1 : token + 1 + CONTEXT]
    return f"“{''.join(before)}[{texts[token]}]{''.join(after)}”"


def _weights(weights: dict[str, np.ndarray], token: int) -> str:
    return " and ".join(f"w = {values[token]:.4g} by {label(name)}" for name, values in weights.items())


def figure5(run: RunFile, theme: Theme = "light") -> str:
    """An SVG of the chosen rollout under RLSD and CEPO, with both clip rates and the callouts (Figure 5)."""
    view, rollout, info, marks = _plate(run)
    place = f"{_trained(info)}: step {rollout.step}, rollout {rollout.index}, {_verdict(rollout)}"
    title = f"{rollout.question} r⁺ = {rollout.hint_correct}, r⁻ = {rollout.hint_wrong}"
    return heatmap_svg(replace(view, title=title, caption="\n".join([place, *(mark.text for mark in marks)])), theme)


def figure5_caption(run: RunFile) -> str:
    """What `figure5` shows, by which rules, and what it comes to beside the paper's rollout (Figure 5)."""
    view, rollout, info, marks = _plate(run)
    printed: Any = reported("figure5").set_index("method")["value"]
    rates = [f"{label(p.method)} {100 * sum(p.clip_rates or (np.nan,)):.1f} %" for p in view.panels]
    paper = " and ".join(f"{printed[panel.method]:.1f} %" for panel in view.panels)
    rules = "Callouts by rule too, weights before clipping: " if marks else "No callout: no weight but 1."
    return (
        f"One rollout under RLSD and CEPO, {_trained(info)}: step {rollout.step}, rollout {rollout.index} of "
        f"{rollout.count}, {_verdict(rollout)}. {CHOICE} Weights clipped at ε_w = "
        f"{view.epsilon_w:g}: {' and '.join(rates)} of its {len(view.tokens)} tokens; in the paper's rollout {paper}. "
        f"{rules}{'; '.join(mark.text for mark in marks)}{'.' if marks else ''} n = 1 rollout."
    )


def _plate(run: RunFile) -> tuple[Heatmap, Rollout, RunRow, tuple[Callout, ...]]:
    """The chosen rollout as it is drawn."""
    info, rollout = run.info(), read_rollout(run, *choose_rollout(run))
    kinds = rollout.tokens.classes
    if info.problems == PocketProblems.name:
        what = f"step {rollout.step}, rollout {rollout.index} of {run.path}"
        kinds = token_kinds(rollout.response, rollout.truncated, kinds, what)
    view = Heatmap(
        rollout.tokens,
        rollout.advantage,
        lam=rollout.lam or CEPO().lambda_0,
        epsilon_w=rollout.epsilon_w or EPSILON_W,
    )
    marks = callouts(view, kinds)
    return replace(view, callouts=tuple((mark.token, mark.token) for mark in marks)), rollout, info, marks


def _trained(info: RunRow) -> str:
    return f"trained by {label(info.method)}, seed {info.seed}"


def _verdict(rollout: Rollout) -> str:
    return "right" if rollout.is_correct else "wrong"
