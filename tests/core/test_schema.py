"""The run file's tables, its macros against core.credit, and the histogram of log-weights."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core import credit, schema
from core.histogram import clip_rate_from_histogram, log_weight_histogram
from core.spool import rows_to_arrow

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorder_runs.py"))))


@pytest.fixture
def database():
    with duckdb.connect() as connection:
        for statement in (*schema.create_statements(), *schema.credit_macros()):
            connection.execute(statement)
        yield connection


def test_the_file_has_the_declared_columns_and_explains_each(database):
    for table in schema.TABLES:
        found = database.execute(
            "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() WHERE table_name = ? "
            "ORDER BY column_index",
            [table],
        ).fetchall()
        assert found == list(schema.columns(table))
        assert all(column.meaning for column in schema.columns(table))


def test_token_columns_must_describe_the_same_tokens():
    with pytest.raises(ValueError, match="equally long"):
        runs.token_columns(1, 2, 3, entropy=np.zeros(5, np.float32))


def test_joined_token_columns_are_null_where_a_part_had_none():
    tokens = runs.token_columns(1, 1, 2)
    joined = schema.TokenColumns.concatenate([tokens, runs.token_columns(1, 1, 3, entropy=np.ones(3, np.float32))])
    assert len(joined) == 5
    np.testing.assert_array_equal(joined.entropy, [np.nan, np.nan, 1, 1, 1])
    assert joined.divergence is None


def test_a_record_holds_one_step_only():
    record = runs.step_record(1)
    with pytest.raises(ValueError, match=r"step 1 holds rows of steps \[1, 2\]"):
        schema.StepRecord(
            step=record.step, groups=record.groups, rollouts=record.rollouts, tokens=runs.token_columns(2, 1, 3)
        )


def credited(database, macro: str, log_p: dict[str, list], advantages: list[float], lam: float, epsilon_w: float):
    """Rows (delta, weight, clipped, token_advantage) of one token a rollout."""
    for i, advantage in enumerate(advantages):
        database.execute(
            "INSERT INTO rollouts BY NAME SELECT 1 AS step, 0 AS group_id, ? AS rollout_id, '' AS response, "
            "1 AS n_tokens, 0 AS reward, true AS is_correct, true AS is_formatted, ? AS advantage, false AS truncated",
            [i, advantage],
        )
        database.execute(
            "INSERT INTO tokens BY NAME SELECT 1 AS step, 0 AS group_id, ? AS rollout_id, 0 AS position, "
            "0 AS token_id, ? AS log_p_student, ? AS log_p_correct, ? AS log_p_wrong",
            [i, *(log_p[name][i] for name in ("student", "correct", "wrong"))],
        )
    query = f"SELECT delta, weight, clipped, token_advantage FROM {macro}(?, ?) ORDER BY rollout_id"
    return database.execute(query, [lam, epsilon_w]).fetchall()


@pytest.mark.parametrize("macro", ["rlsd_credit", "cepo_credit"])
@pytest.mark.parametrize(("lam", "epsilon_w"), [(0.5, 0.5), (1.0, 0.2), (0.0, 0.9), (0.3, 0.01)])
def test_macros_credit_tokens_as_core_credit_does(database, macro, lam, epsilon_w):
    draw = torch.Generator().manual_seed(0)
    n = 60
    log_p = {name: (-3 * torch.rand(n, generator=draw)) for name in ("student", "correct", "wrong")}
    log_p["correct"][:3], log_p["wrong"][1:4] = -60.0, -90.0
    advantages = torch.randn(n, generator=draw)
    advantages[5:8] = 0.0
    rows = credited(database, macro, {k: v.tolist() for k, v in log_p.items()}, advantages.tolist(), lam, epsilon_w)

    delta = credit.evidence_delta(log_p["correct"], log_p["student" if macro == "rlsd_credit" else "wrong"])
    weight = credit.evidence_weight(delta, advantages)
    token_advantages = credit.modulate(advantages, weight, lam, epsilon_w)
    found = [torch.tensor(column) for column in zip(*rows, strict=True)]
    assert torch.equal(found[0], delta)
    torch.testing.assert_close(found[1], weight, rtol=1e-6, atol=1e-6)
    assert torch.equal(found[2].to(torch.int8), credit.clip_flags(weight, epsilon_w))
    torch.testing.assert_close(found[3], token_advantages, rtol=1e-6, atol=1e-6)


def test_macros_leave_tokens_without_evidence_alone(database):
    log_p = {"student": [-1.0, -1.0, -1.0], "correct": [None, None, -0.5], "wrong": [None, None, None]}
    rows = credited(database, "cepo_credit", log_p, [1.0, 0.0, 1.0], 0.5, 0.5)
    assert rows[0] == (None, None, None, None)
    assert rows[1] == (None, None, None, 0.0)
    assert rows[2][0] == 0.5, "without a wrong hint CEPO compares with the student"


@pytest.mark.parametrize(("method", "delta"), [("rlsd", 1.0), ("cepo", 2.0), ("grpo", 2.0)])
def test_token_credit_uses_the_runs_own_delta_and_cepos_otherwise(database, method, delta):
    database.register("rows", rows_to_arrow("run", [runs.run_row(method)]))
    database.execute("INSERT INTO run BY NAME SELECT * FROM rows")
    rows = credited(database, "token_credit", {"student": [-2.0], "correct": [-1.0], "wrong": [-3.0]}, [1.0], 0.5, 0.5)
    assert rows[0][0] == delta


@given(st.integers(0, 10), st.floats(0.01, 0.86))
def test_the_histogram_knows_the_clip_rate_at_any_epsilon(seed, epsilon_w):
    draw = np.random.default_rng(seed)
    delta = draw.standard_t(2, 40_000).astype(np.float32) * 0.5
    delta[:10_000] = 0.0
    low, high = clip_rate_from_histogram(log_weight_histogram(delta), epsilon_w)
    assert low == pytest.approx(np.mean(delta < math.log(1 - epsilon_w)), abs=1e-3)
    assert high == pytest.approx(np.mean(delta > math.log(1 + epsilon_w)), abs=1e-3)


def test_the_histogram_centres_its_bins_and_leaves_out_what_has_no_weight():
    histogram = log_weight_histogram(np.array([0.0, 0.004, -0.0049, 0.01, -9.0, 9.0, np.inf, np.nan], np.float32))
    assert histogram.dtype == np.uint32
    assert {int(place): int(histogram[place]) for place in np.flatnonzero(histogram)} == {0: 1, 200: 3, 201: 1, 400: 2}
    assert all(math.isnan(rate) for rate in clip_rate_from_histogram(np.zeros(401, np.uint32), 0.5))
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        clip_rate_from_histogram(histogram, 1.5)
