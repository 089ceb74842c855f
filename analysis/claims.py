"""What the paper claims, held against a recorded study: each claim with our number, its interval, and a verdict.

The verdict follows from one rule. A claim is about the sign of a number. It is `shown` where the 95 % interval of our
number lies on the claimed side of 0, `not shown` where it lies on the other side, or excludes an effect as large as the
paper's; else the data `cannot tell`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from analysis.claim_measures import (
    CEPO,
    Measured,
    below_base,
    during,
    fewer_clips,
    leaks,
    over,
    overhead,
    rise,
    sharper_at_decisive,
    stronger_at_decisive,
    weaker_at_filler,
)
from analysis.gains import GRPO
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from core.intervals import Interval

Verdict = Literal["shown", "not shown", "cannot tell", "not measured"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Claim:
    """One thing the paper says, turned so that our number should be above 0."""

    text: str
    where: str
    measure: Callable[[RecordedStudy], Measured]
    paper: float = math.nan
    """The paper's own number, same unit and sign; NaN where it prints none."""


@dataclass(frozen=True)
class Finding:
    """A claim and what came of it."""

    claim: Claim
    measured: Measured
    verdict: Verdict


def verdict(value: Interval, paper: float) -> Verdict:
    """The rule of this module.

    Args:
        value: ours; NaN ends where it cannot be told how sure it is.
        paper: the paper's number, above 0, or NaN.
    """
    if math.isnan(value.estimate):
        return "not measured"
    if value.low > 0:
        return "shown"
    if value.high < 0 or value.high < paper:
        return "not shown"
    return "cannot tell"


def findings(study: RecordedStudy) -> list[Finding]:
    """Every claim with its verdict."""
    found = []
    for claim in claims():
        measured = claim.measure(study)
        found.append(Finding(claim, measured, verdict(measured.value, claim.paper)))
    return found


def claims() -> list[Claim]:
    """The paper's claims, in its order."""
    return [*_accuracy_claims(), *_teacher_claims(), *_hint_claims(), *_sweep_claims(), *_evidence_claims(), _cost()]


def _accuracy_claims() -> Iterator[Claim]:
    average = _averages()
    for other in ("grpo", "rlsd", "opsd", "sdpo"):
        yield Claim(
            f"CEPO ends above {other.upper()}",
            "Table 2",
            over(CEPO, ("methods", other)),
            average["cepo"] - average[other],
        )
    yield Claim("CEPO is ahead of GRPO during training", "Figure 1", during(CEPO, GRPO), _figure1("grpo"))
    yield Claim(
        "CEPO is ahead of RLSD during training", "Figure 1", during(CEPO, ("methods", "rlsd")), _figure1("rlsd")
    )
    for method in ("opsd", "sdpo"):
        fall = average["base"] - average[method]
        yield Claim(f"{method.upper()} falls below the untrained base", "Table 2", below_base(method), fall)
        yield Claim(
            f"{method.upper()} leaks: showing the answer helps more after training than before",
            "Section 3.2",
            leaks(method),
        )


def _teacher_claims() -> Iterator[Claim]:
    table: Any = reported("table4").set_index("teacher")["value"].astype(float)
    for group, when in (("teacher_source", ""), ("teacher_source_constant", ", λ constant")):
        for arm, name, key in (
            ("reference", "the reference", "reference"),
            ("every_25", "a copy every 25", "periodic"),
        ):
            paper = (table["actor"] - table[key]) / 100
            yield Claim(
                f"The actor is a better teacher than {name}{when}",
                "Table 4",
                over((group, "actor"), (group, arm)),
                paper,
            )


def _hint_claims() -> Iterator[Claim]:
    table: Any = reported("table5")
    values = {(r, w): v / 100 for r, w, v in table[["hint_correct", "hint_wrong", "value"]].itertuples(index=False)}
    best = ("feedback_source", "answer_answer")
    sources = {"answer": "peer answer", "rollout": "peer rollout", "prefix": "peer prefix", "suffix": "peer suffix"}
    for arm in ("answer_rollout", "rollout_rollout", "prefix_prefix", "suffix_suffix"):
        first, second = arm.split("_")
        key = ("true answer" if first == "answer" else sources[first], sources[second])
        paper = values["true answer", "peer answer"] - values[key]
        text = f"Two answers are better hints than {key[0]} and {key[1]}"
        yield Claim(text, "Table 5", over(best, ("feedback_source", arm)), paper)


def _sweep_claims() -> Iterator[Claim]:
    figure: Any = reported("figure3")
    grpo = 100 * _averages()["grpo"]
    half = float(figure.loc[figure["panel"] == "a", "value"].iloc[0]) - grpo
    decay = float(figure.loc[figure["panel"] == "b", "value"].iloc[0]) - grpo
    constant, linear, epsilon = "lambda_constant", "lambda_linear", "epsilon_w"
    yield Claim("A constant λ of 0.5 is above GRPO", "Figure 3 a", over((constant, "0.5"), GRPO), half / 100)
    yield Claim("… and above a constant λ of 1", "Figure 3 a", over((constant, "0.5"), (constant, "1")))
    yield Claim("λ falling from 1 in 25 steps is above GRPO", "Figure 3 b", over((linear, "25"), GRPO), decay / 100)
    yield Claim("… and above falling in 50 steps", "Figure 3 b", over((linear, "25"), (linear, "50")))
    for arm in ("0.1", "0.95"):
        yield Claim(f"ε_w = 0.5 is above ε_w = {arm}", "Figure 3 c", over((epsilon, "0.5"), (epsilon, arm)))


def _evidence_claims() -> Iterator[Claim]:
    yield Claim("The share of tokens with Δ > 0 rises while λ > 0", "Figure 4", rise("delta_positive", 1))
    yield Claim("The share of tokens with Δ < 0 falls while λ > 0", "Figure 4", rise("delta_negative", -1))
    rates: Any = reported("figure5").set_index("method")["value"].astype(float) / 100
    yield Claim("CEPO clips fewer weights than RLSD", "Figure 5", fewer_clips, rates["rlsd"] - rates["cepo"])
    yield Claim(
        "In right rollouts CEPO is the sharper at decisive tokens more often than at filler", "Proposition 1",
        sharper_at_decisive,
    )  # fmt: skip
    yield Claim("At decisive tokens CEPO's |Δ| is above RLSD's", "Section 5.2", stronger_at_decisive)
    yield Claim("At filler CEPO's |Δ| is below RLSD's", "Section 5.2", weaker_at_filler)


def _cost() -> Claim:
    minutes: Any = reported("table3").set_index("method")["value"].astype(float)
    return Claim("CEPO's teachers lengthen a run", "Table 3", overhead, minutes["cepo"] / minutes["grpo"] - 1)


def _averages() -> Any:
    """The paper's averages at 2B, shares, each as the mean of its row."""
    table: Any = reported("table2")
    rows: Any = table.loc[(table["model"] == "2B") & (table["benchmark"] != "average")]
    return rows.groupby("method")["value"].mean() / 100


def _figure1(other: str) -> float:
    table: Any = reported("figure1")
    means: Any = table.loc[table["step"] > 0].groupby("method")["value"].mean()
    return float(means["cepo"] - means[other])
