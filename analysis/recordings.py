"""Reads what curves need from a run file, in one opening each; tokens only where a question cannot do without."""

import pandas as pd

from analysis.curves import Recording
from analysis.measures import DeltaKind, against_of
from analysis.store import RunFile
from core.schema import RunRow, columns

STEPS = ", ".join(c.name for c in columns("steps") if c.name != "log_weight_histogram")


def read_recording(run: RunFile) -> Recording:
    """What was run, its steps, its validation, and the signs of Δ its rollouts recorded; no token is read."""
    names = [c.name for c in columns("run")]
    with run.reading() as connection:
        row = connection.execute(f"SELECT {', '.join(names)} FROM run").fetchall()[0]
        steps = connection.execute(f"SELECT {STEPS} FROM steps ORDER BY step").df()
        validation = connection.execute(
            "SELECT step, avg(is_correct::DOUBLE) AS accuracy, count(*) AS n FROM validation GROUP BY ALL ORDER BY step"
        ).df()
        counts = connection.execute(
            "SELECT step, group_id, rollout_id, advantage, n_tokens AS n, n_delta_positive AS above, "
            "n_delta_negative AS below FROM rollouts WHERE advantage <> 0 AND n_delta_positive IS NOT NULL"
        ).df()
    return Recording(
        run.key, RunRow(**dict(zip(names, row, strict=True))), steps, validation, counts, run.waiting_steps()
    )


def read_counts(run: RunFile, method: str, kind: DeltaKind, tau: float = 0.0) -> pd.DataFrame:
    """`analysis.measures.rollout_counts` of a whole run, in one scan of its tokens; no row without such evidence."""
    if kind == "own":
        delta = "delta"
    else:
        against = {"student": "log_p_student", "wrong": "log_p_wrong"}[against_of(method, kind) or "student"]
        delta = f"log_p_correct - {against}"
    return run.frame(
        f"WITH evidence AS (SELECT step, group_id, rollout_id, advantage, {delta} AS delta "
        "FROM tokens JOIN rollouts USING (step, group_id, rollout_id) WHERE advantage <> 0) "
        "SELECT step, group_id, rollout_id, advantage, count(*) AS n, count_if(delta > ?) AS above, "
        "count_if(delta < -?) AS below FROM evidence WHERE delta IS NOT NULL AND NOT isnan(delta) "
        "GROUP BY ALL ORDER BY step, group_id, rollout_id",
        [tau, tau],
    )


def sharper_counts(run: RunFile) -> pd.DataFrame:
    """How many tokens meet the condition of Proposition 1, by the sign of A: columns sign, n, sharper.

    The condition is that of `analysis.measures.sharper`; groups without r⁻ have no P_T⁻ and are left out.
    """
    return run.frame(
        "SELECT sign(advantage)::INTEGER AS sign, count(*) AS n, "
        "count_if(sign(advantage) * (log_p_student - log_p_wrong) > 0) AS sharper "
        "FROM tokens JOIN rollouts USING (step, group_id, rollout_id) JOIN groups USING (step, group_id) "
        "WHERE advantage <> 0 AND NOT fallback AND log_p_wrong IS NOT NULL AND log_p_student IS NOT NULL "
        "GROUP BY ALL ORDER BY sign"
    )
