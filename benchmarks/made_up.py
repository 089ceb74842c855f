"""Made-up runs of any size for the benchmark of the app, written by SQL into the schema of a run file.

A run of 25 million tokens takes about a minute. Its log-probabilities are drawn at random, and Δ, weights and flags
follow from them by the macros that every run file carries, so that the app finds nothing amiss.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from core import runfile
from core.config import load_config, to_tree
from core.recorder import FILE_NAME
from core.schema import RunRow, Status, VocabularyRow, columns
from core.turns import waiting_for

GROUP = 8
"""Rollouts of a problem; the first half is right."""
WORDS = ("so ", "the ", "angle ", "is ", "\n", "40", " + ", "2", " = ", "42", " and ", "then ", "we ", "halve ", "it")
EVIDENCE = """
SELECT {step}::INTEGER AS step, (i // {length} // {group})::INTEGER AS group_id,
  (i // {length} % {group})::INTEGER AS rollout_id, (i % {length})::USMALLINT AS position,
  (hash(i, {step}) % {words})::INTEGER AS token_id, ln(1 - random())::FLOAT AS log_p_student,
  (random() - 0.5)::FLOAT AS for_correct, (random() - 0.5)::FLOAT AS for_wrong
FROM range({rollouts} * {length}) r(i)
"""
TOKENS = """
INSERT INTO tokens BY NAME WITH evidence AS MATERIALIZED ({evidence}), teachers AS (
  SELECT * EXCLUDE (for_correct, for_wrong), log_p_student AS log_p_sampler, -log_p_student AS entropy,
    least(log_p_student + for_correct, 0)::FLOAT AS log_p_correct,
    least(log_p_student + for_wrong, 0)::FLOAT AS log_p_wrong,
    CASE WHEN rollout_id < {group} // 2 THEN {advantage} ELSE -{advantage} END::FLOAT AS advantage FROM evidence
), weighted AS (
  SELECT *, evidence_delta(log_p_correct, log_p_wrong) AS delta, evidence_weight(delta, advantage) AS weight
  FROM teachers
)
SELECT * EXCLUDE (advantage), clip_flag(weight, 0.5::DOUBLE) AS clipped, modulate(advantage, weight, {lam}, 0.5::DOUBLE)
  AS token_advantage FROM weighted ORDER BY group_id, rollout_id, position
"""
ROLLOUTS = """
INSERT INTO rollouts BY NAME SELECT step, group_id, rollout_id,
  repeat('so the angle is 42 ', {length} // 5) AS response, count(*) AS n_tokens,
  (rollout_id < {group} // 2)::DOUBLE AS reward, rollout_id < {group} // 2 AS is_correct,
  true AS is_formatted, '42' AS answer,
  CASE WHEN rollout_id < {group} // 2 THEN {advantage} ELSE -{advantage} END AS advantage, false AS truncated,
  count_if(delta > 0) AS n_delta_positive, count_if(delta < 0) AS n_delta_negative, count_if(clipped < 0) AS n_clip_low,
  count_if(clipped > 0) AS n_clip_high, sum(abs(delta)) AS sum_abs_delta, max(abs(delta)) AS max_abs_delta
FROM tokens WHERE step = {step} GROUP BY ALL ORDER BY ALL
"""
GROUPS = """
INSERT INTO groups BY NAME SELECT {step} AS step, g::INTEGER AS group_id, 'p' || g AS problem_id,
  'Find the angle.' AS question, '42' AS answer, '42' AS hint_correct, '40' AS hint_wrong, 4 AS hint_wrong_rollout,
  false AS fallback FROM range({rollouts} // {group}) r(g)
"""
STEPS = """
INSERT INTO steps BY NAME WITH counted AS (SELECT
  floor((greatest(least(ln(weight), 1.995), -2.005) + 2.005) / 0.01 + 1e-9)::INTEGER AS bin, count(*) AS n,
  count_if(delta > 0) AS positive, count_if(delta < 0) AS negative, count_if(clipped < 0) AS low,
  count_if(clipped > 0) AS high
  FROM tokens WHERE step = {step} GROUP BY bin)
SELECT {step} AS step, {lam} AS lam, 0.5 AS epsilon_w, {required}, 0.4 + 0.005 * {step} AS val_accuracy, 256 AS val_n,
  sum(positive) / sum(n) AS delta_positive, sum(negative) / sum(n) AS delta_negative,
  sum(low) / sum(n) AS evidence_clip_low, sum(high) / sum(n) AS evidence_clip_high, 0 AS grad_skipped,
  {rollouts} AS n_rollouts, sum(n) AS n_tokens,
  list_transform(range(401), lambda b: coalesce(map_from_entries(list((bin, n)))[b], 0))::UINTEGER[401]
    AS log_weight_histogram FROM counted
"""


@dataclass(frozen=True)
class Size:
    """How much there is in a made-up run."""

    steps: int
    rollouts: int
    """In a step."""
    length: int
    """Tokens of every rollout."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.steps * self.rollouts * self.length


def write_run(folder: Path, size: Size, status: Status = "finished", seed: int = 0) -> Path:
    """Write a CEPO run; returns its file."""
    folder.mkdir(parents=True)
    path = folder / FILE_NAME
    vocabulary = [
        VocabularyRow(token_id=i, piece=word, token_class="digit" if word.isdigit() else "word")
        for i, word in enumerate(WORDS)
    ]
    runfile.create(path, run_row(folder.name, size.steps), vocabulary)
    with duckdb.connect(str(path), config={"memory_limit": "4GB"}) as connection:
        connection.execute(f"SELECT setseed({seed / (seed + 1):g})")
        for step in range(1, size.steps + 1):
            add_step(connection, size, step)
    with runfile.writing(path, waiting_for(5)) as connection:
        runfile.mark(connection, status, None)
    return path


def add_step(connection: duckdb.DuckDBPyConnection, size: Size, step: int) -> None:
    """Add one step, in one transaction as the trainer does."""
    required = [c.name for c in columns("steps") if c.type == "DOUBLE" and not c.nullable]
    given = vars(size) | {
        "step": step,
        "group": GROUP,
        "words": len(WORDS),
        "advantage": 0.935413,
        "lam": f"{0.5 * max(0.0, 1 - (step - 1) / 25)!r}::DOUBLE",
        "required": ", ".join(f"0.25 AS {name}" for name in required),
    }
    connection.begin()
    connection.execute(TOKENS.format(**given, evidence=EVIDENCE.format(**given)))
    for statement in (ROLLOUTS, GROUPS, STEPS):
        connection.execute(statement.format(**given))
    connection.commit()


def run_row(run_id: str, steps: int) -> RunRow:
    """A CEPO run that has just begun."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return RunRow(
        run_id=run_id,
        method="cepo",
        seed=0,
        model="made up",
        problems="made up",
        config=json.dumps(to_tree(load_config(method="cepo", flags={"steps": steps}))),
        git_commit="",
        versions="{}",
        device="cpu",
        teacher_source='{"kind": "actor"}',
        teacher_sees_image=True,
        started_at=now,
        heartbeat_at=now,
        steps_planned=steps,
    )
