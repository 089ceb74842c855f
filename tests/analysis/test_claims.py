"""Claims are held against the record by one rule, and their numbers are those that a hand would get."""

import dataclasses
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.claim_measures import Measured
from analysis.claims import VERDICTS, Claim, claims, findings, verdict
from analysis.evidence import COLUMNS
from analysis.recorded import RecordedStudy
from analysis.tables.claims import claims_table, measured_text, number
from core.intervals import Interval

made_up = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made_up_study.py"))))


@pytest.fixture(scope="module")
def study() -> RecordedStudy:
    """CEPO gains 8 points less than GRPO, OPSD loses 20; one arm of the ablations gains more than the default."""
    gains = {"grpo": 0.4, "cepo": 0.325, "opsd": -0.2, "epsilon_w/0.1": 0.4}
    return made_up.made_up_study(gains, told_gain={"opsd": 0.1})


def value(study: RecordedStudy, text: str) -> Measured:
    (claim,) = [each for each in claims() if each.text == text]
    return claim.measure(study)


@pytest.mark.parametrize(
    ("low", "high", "paper", "expected"),
    [
        (0.01, 0.05, 0.02, "shown"),
        (-0.05, -0.01, 0.02, "not shown"),
        (-0.05, 0.01, 0.02, "not shown"),
        (-0.05, 0.03, 0.02, "cannot tell"),
        (-0.05, 0.03, math.nan, "cannot tell"),
        (math.nan, math.nan, 0.02, "cannot tell"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_papers_number(low, high, paper, expected):
    assert verdict(Interval(0.0, low, high), paper) == expected


def test_without_a_number_nothing_is_measured():
    assert verdict(Interval(math.nan, math.nan, math.nan), 0.1) == "not measured"


def test_a_difference_is_that_of_the_accuracies_after_training(study):
    # 40 problems: 0.4 + 0.325 is 29 right ones, 0.4 + 0.4 is 32
    assert value(study, "CEPO ends above GRPO").value.estimate == pytest.approx(-3 / 40)
    assert value(study, "CEPO ends above GRPO").n == "5 seeds"
    assert value(study, "ε_w = 0.5 is above ε_w = 0.1").value.estimate == pytest.approx(-3 / 40)
    assert value(study, "ε_w = 0.5 is above ε_w = 0.1").n == "3 seeds"


def test_a_fall_below_the_base_and_a_leak_are_measured_run_by_run(study):
    assert value(study, "OPSD falls below the untrained base").value.estimate == pytest.approx(0.2)
    # shown: 0.7 to 0.8; not shown: 0.4 to 0.2
    leak = value(study, "OPSD leaks: showing the answer helps more after training than before")
    assert leak.value.estimate == pytest.approx((0.8 - 0.2) - (0.7 - 0.4))


def test_the_course_of_training_is_the_mean_over_validations_after_the_first(study):
    # steps 10, 20, 30 of 30: CEPO 20, 25, 29 of 40 right (16 + 13 · step / 30, rounded), GRPO 21, 27, 32
    mine, theirs = (20 + 25 + 29) / 120, (21 + 27 + 32) / 120
    assert value(study, "CEPO is ahead of GRPO during training").value.estimate == pytest.approx(mine - theirs)


def test_the_share_of_positive_evidence_rises_from_the_first_third_to_the_last(study):
    steps = study.steps.loc[study.steps["run_id"] == study.run_ids("methods", "cepo")[0]]
    shares = steps.loc[steps["lam"] > 0].sort_values("step")["delta_positive"].tolist()
    alone = dataclasses.replace(study, arms=study.arms.loc[study.arms["seed"] == 0])
    rise = value(alone, "The share of tokens with Δ > 0 rises while λ > 0")
    assert rise.value.estimate == pytest.approx(sum(shares[-8:]) / 8 - sum(shares[:8]) / 8)
    assert rise.n == "1 seed, no interval"


def test_evidence_is_compared_step_by_step(study):
    run_id = study.run_ids("evidence", "cepo")[0]
    rows = []
    for step, (rlsd, cepo) in {1: (2.0, 3.0), 2: (2.0, 5.0)}.items():
        for kind, sharper in (("rule", 9), ("filler", 4)):
            row = dict.fromkeys(COLUMNS, 0) | {"step": step, "sign": 1, "kind": kind, "n": 10}
            row |= {"n_rlsd": 10, "n_cepo": 10, "n_contrast": 10, "sharper": sharper, "clipped_low_rlsd": 4}
            rows.append(
                row | {"abs_delta_rlsd": rlsd, "abs_delta_cepo": cepo, "run_id": run_id, "clipped_high_cepo": 1}
            )
    recorded = dataclasses.replace(study, evidence=pd.DataFrame(rows))
    assert value(recorded, "CEPO clips fewer weights than RLSD").value.estimate == pytest.approx(0.3)
    decisive = value(recorded, "At decisive tokens CEPO's |Δ| is above RLSD's")
    assert (decisive.value.estimate, decisive.unit, decisive.n) == (pytest.approx(0.2), "nats", "2 steps of one run")
    assert value(recorded, "At filler CEPO's |Δ| is below RLSD's").value.estimate == pytest.approx(-0.2)
    often = value(recorded, "In right rollouts CEPO is the sharper at decisive tokens more often than at filler")
    assert often.value.estimate == pytest.approx(0.5)


def test_the_overhead_is_that_of_the_teachers_within_a_run(study):
    # made-up seconds: 3.8 a step in all, of it 0.1 each for validation, probe and teachers
    found = value(study, "CEPO's teachers lengthen a run")
    assert found.value.estimate == pytest.approx(0.1 / (3.8 - 0.3))
    assert found.unit == "percent"


def test_the_papers_numbers_are_above_zero_where_it_prints_any():
    assert all(claim.paper > 0 or math.isnan(claim.paper) for claim in claims())


def test_an_empty_record_measures_nothing_and_says_so(study):
    empty = dataclasses.replace(study, arms=study.arms.iloc[:0])
    assert {each.verdict for each in findings(empty)} == {"not measured"}


def test_every_claim_is_a_row_of_the_table(study):
    found = findings(study)
    table = claims_table(found)
    assert table.cells["claim"].tolist() == [claim.text for claim in claims()]
    assert set(table.cells["verdict"]) <= set(VERDICTS)


def test_numbers_are_written_with_their_sign_and_unit():
    assert measured_text(Measured(Interval(0.0234, -0.01, 0.05), "")) == "+2.3 [−1.0, +5.0]"
    assert measured_text(Measured(Interval(0.1, 0.05, 0.15), "", "percent")) == "+10.0 % [+5.0, +15.0]"
    assert measured_text(Measured(Interval(0.1, math.nan, math.nan), "")) == "+10.0"
    assert number(-0.5, "nats") == "−0.5000 nats"


def test_a_claim_is_named_once():
    texts = [claim.text for claim in claims() if not claim.text.startswith("…")]
    assert len(set(texts)) == len(texts)
    assert all(isinstance(claim, Claim) for claim in claims())
