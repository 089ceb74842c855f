"""The run file: every table, column, type, unit and meaning, once; SQL and Arrow are derived from here.

Keys: ``steps(step)``, ``groups(step, group_id)``, ``rollouts(step, group_id, rollout_id)``,
``tokens(step, group_id, rollout_id, position)``. Steps count from 1 (validation also has a step 0), everything
else from 0. Log-probabilities and Δ are in nats, shares and rates lie in [0, 1], times are UTC.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from types import NoneType
from typing import Annotated, Literal, NamedTuple, get_args, get_type_hints

import numpy as np

SCHEMA_VERSION = 2

Status = Literal["running", "finished", "interrupted", "failed"]
TokenClass = Literal["digit", "operator", "word", "format", "special"]


class Column(NamedTuple):
    """The DuckDB type of a column and its meaning with unit; a field that may be None may be NULL."""

    type: str
    meaning: str


Step = Annotated[int, Column("INTEGER", "training step, from 1 (0: before training)")]
GroupId = Annotated[int, Column("INTEGER", "group (prompt) within the step, from 0")]
RolloutId = Annotated[int, Column("INTEGER", "rollout within its group, from 0")]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """Table ``run``: the one row that says what was run, with what, and how it ended."""

    run_id: Annotated[str, Column("VARCHAR", "name of the run, also of its folder")]
    schema_version: Annotated[int, Column("INTEGER", "version of this schema")] = SCHEMA_VERSION
    method: Annotated[str, Column("VARCHAR", "grpo, opsd, sdpo, rlsd or cepo")]
    seed: Annotated[int, Column("INTEGER", "seed of every random choice")]
    model: Annotated[str, Column("VARCHAR", "hub id or folder of the policy")]
    problems: Annotated[str, Column("VARCHAR", "name of the problem set")]
    config: Annotated[str, Column("VARCHAR", "resolved configuration, JSON")]
    git_commit: Annotated[str, Column("VARCHAR", "commit of the code, empty outside a repository")]
    versions: Annotated[str, Column("VARCHAR", "versions of the libraries, JSON")]
    device: Annotated[str, Column("VARCHAR", "device that trained")]
    teacher_source: Annotated[str, Column("VARCHAR", "weights of the teachers (Table 4), empty without teachers")]
    teacher_sees_image: Annotated[bool, Column("BOOLEAN", "whether the teachers read the image")]
    status: Annotated[Status, Column("VARCHAR", "running, finished, interrupted or failed")] = "running"
    reason: Annotated[str | None, Column("VARCHAR", "why it failed or stopped, one line")] = None
    started_at: Annotated[datetime, Column("TIMESTAMP", "start, UTC")]
    heartbeat_at: Annotated[datetime, Column("TIMESTAMP", "last sign of life of the trainer, UTC")]
    last_step: Annotated[int, Column("INTEGER", "last step in this file")] = 0
    steps_planned: Annotated[int, Column("INTEGER", "steps of the whole run")]


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """Table ``steps``: one training step; the curves of Figure 1, 3 and 4 and the seconds of Table 3."""

    step: Step
    lam: Annotated[float | None, Column("DOUBLE", "λ of this step (Eq. 4, 7), in [0, 1]")] = None
    epsilon_w: Annotated[float | None, Column("DOUBLE", "ε_w: the weight is clipped to [1 − ε_w, 1 + ε_w]")] = None
    learning_rate: Annotated[float, Column("DOUBLE", "learning rate of the step's first update")]
    loss: Annotated[float, Column("DOUBLE", "mean loss of the step's updates")]
    reward_mean: Annotated[float, Column("DOUBLE", "mean reward R of the rollouts")]
    accuracy: Annotated[float, Column("DOUBLE", "share of correct rollouts")]
    format_rate: Annotated[float, Column("DOUBLE", "share of rollouts with a boxed answer")]
    response_tokens_mean: Annotated[float, Column("DOUBLE", "mean length of a response, tokens")]
    truncated_share: Annotated[float, Column("DOUBLE", "share of rollouts cut at the token limit")]
    val_accuracy: Annotated[float | None, Column("DOUBLE", "accuracy on held-out problems after the step")] = None
    val_n: Annotated[int | None, Column("INTEGER", "held-out problems asked")] = None
    delta_positive: Annotated[float | None, Column("DOUBLE", "share of tokens with Δ > 0 (Figure 4)")] = None
    delta_negative: Annotated[float | None, Column("DOUBLE", "share of tokens with Δ < 0 (Figure 4)")] = None
    delta_positive_correct: Annotated[float | None, Column("DOUBLE", "Δ > 0 among tokens of A > 0")] = None
    delta_negative_correct: Annotated[float | None, Column("DOUBLE", "Δ < 0 among tokens of A > 0")] = None
    delta_positive_wrong: Annotated[float | None, Column("DOUBLE", "Δ > 0 among tokens of A < 0")] = None
    delta_negative_wrong: Annotated[float | None, Column("DOUBLE", "Δ < 0 among tokens of A < 0")] = None
    delta_mean: Annotated[float | None, Column("DOUBLE", "mean Δ, nats")] = None
    delta_std: Annotated[float | None, Column("DOUBLE", "standard deviation of Δ, nats")] = None
    weight_mean: Annotated[float | None, Column("DOUBLE", "mean weight w before clipping")] = None
    evidence_clip_low: Annotated[float | None, Column("DOUBLE", "share of weights below 1 − ε_w")] = None
    evidence_clip_high: Annotated[float | None, Column("DOUBLE", "share of weights above 1 + ε_w")] = None
    ppo_clip_low: Annotated[float | None, Column("DOUBLE", "share of tokens clipped at 1 − ε_low")] = None
    ppo_clip_high: Annotated[float | None, Column("DOUBLE", "share of tokens clipped at 1 + ε_high")] = None
    mixed_share: Annotated[float, Column("DOUBLE", "share of groups with correct and wrong rollouts")]
    all_correct_share: Annotated[float, Column("DOUBLE", "share of groups with only correct rollouts")]
    all_wrong_share: Annotated[float, Column("DOUBLE", "share of groups with only wrong rollouts")]
    zero_advantage_share: Annotated[float, Column("DOUBLE", "share of rollouts with A = 0")]
    fallback_share: Annotated[float, Column("DOUBLE", "share of groups without a usable wrong hint")]
    divergence_mean: Annotated[float | None, Column("DOUBLE", "mean D(P_T ‖ P_S) (Eq. 3), nats")] = None
    entropy_mean: Annotated[float, Column("DOUBLE", "mean entropy of P_S, nats")]
    grad_norm: Annotated[float | None, Column("DOUBLE", "mean gradient norm before clipping")] = None
    grad_skipped: Annotated[int, Column("INTEGER", "updates skipped for a gradient that was not finite")] = 0
    ratio_drift: Annotated[float | None, Column("DOUBLE", "mean |ρ − 1| over the step's later updates")] = None
    sampler_gap: Annotated[float, Column("DOUBLE", "mean |log_p_student − log_p_sampler|, nats")]
    n_rollouts: Annotated[int, Column("INTEGER", "rollouts of the step")]
    n_tokens: Annotated[int, Column("BIGINT", "sampled tokens of the step")]
    log_weight_histogram: Annotated[
        np.ndarray | None, Column("UINTEGER[401]", "counts of log w = sign(A)·Δ, bins of 0.01 over [-2.005, 2.005)")
    ] = None
    seconds_rollout: Annotated[float, Column("DOUBLE", "seconds of sampling")]
    seconds_verify: Annotated[float, Column("DOUBLE", "seconds of the verifier")]
    seconds_score: Annotated[float, Column("DOUBLE", "seconds of the student's scoring pass")]
    seconds_teacher: Annotated[float, Column("DOUBLE", "seconds of the teachers' passes")]
    seconds_probe: Annotated[float, Column("DOUBLE", "seconds of passes made for the record alone")]
    seconds_update: Annotated[float, Column("DOUBLE", "seconds of forward, backward and optimizer")]
    seconds_record: Annotated[float, Column("DOUBLE", "seconds the trainer spent on recording")]
    seconds_validate: Annotated[float, Column("DOUBLE", "seconds of validation")]
    seconds_total: Annotated[float, Column("DOUBLE", "seconds of the whole step")]
    peak_memory_mb: Annotated[float, Column("DOUBLE", "peak memory, MB (10^6 bytes)")]


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """Table ``groups``: one prompt of a step and the hints its teachers read."""

    step: Step
    group_id: GroupId
    problem_id: Annotated[str, Column("VARCHAR", "identity of the problem")]
    question: Annotated[str, Column("VARCHAR", "question x")]
    answer: Annotated[str, Column("VARCHAR", "verified answer")]
    image_id: Annotated[str | None, Column("VARCHAR", "first image, key of images")] = None
    hint_correct: Annotated[str | None, Column("VARCHAR", "r⁺, the correct hint")] = None
    hint_wrong: Annotated[str | None, Column("VARCHAR", "r⁻, the wrong hint")] = None
    hint_wrong_rollout: Annotated[int | None, Column("INTEGER", "rollout the wrong hint was read from")] = None
    fallback: Annotated[bool, Column("BOOLEAN", "no usable wrong hint: P_T⁻ := P_S (Algorithm 1)")]


@dataclass(frozen=True, kw_only=True)
class RolloutRow:
    """Table ``rollouts``: one response, its verdict, its advantage (Eq. 1) and sums over its tokens."""

    step: Step
    group_id: GroupId
    rollout_id: RolloutId
    response: Annotated[str, Column("VARCHAR", "response y as text")]
    n_tokens: Annotated[int, Column("INTEGER", "sampled tokens, end token included")]
    reward: Annotated[float, Column("DOUBLE", "reward R(x, y)")]
    is_correct: Annotated[bool, Column("BOOLEAN", "the verifier accepts the answer")]
    is_formatted: Annotated[bool, Column("BOOLEAN", "the response holds a boxed answer")]
    answer: Annotated[str | None, Column("VARCHAR", "boxed answer")] = None
    advantage: Annotated[float, Column("DOUBLE", "A within the group (Eq. 1)")]
    truncated: Annotated[bool, Column("BOOLEAN", "cut at the token limit")]
    hint_correct: Annotated[str | None, Column("VARCHAR", "own r⁺ where it is not the group's")] = None
    hint_wrong: Annotated[str | None, Column("VARCHAR", "own r⁻ where it is not the group's")] = None
    n_delta_positive: Annotated[int | None, Column("INTEGER", "tokens with Δ > 0")] = None
    n_delta_negative: Annotated[int | None, Column("INTEGER", "tokens with Δ < 0")] = None
    n_clip_low: Annotated[int | None, Column("INTEGER", "tokens with w < 1 − ε_w")] = None
    n_clip_high: Annotated[int | None, Column("INTEGER", "tokens with w > 1 + ε_w")] = None
    sum_abs_delta: Annotated[float | None, Column("DOUBLE", "sum of |Δ|, nats")] = None
    max_abs_delta: Annotated[float | None, Column("DOUBLE", "largest |Δ|, nats")] = None


@dataclass(frozen=True, kw_only=True)
class TokenColumns:
    """Table ``tokens``: one equally long 1-D array a column; None or NaN means NULL (nothing was there)."""

    step: Annotated[np.ndarray, Column("INTEGER", "training step, from 1")]
    group_id: Annotated[np.ndarray, Column("INTEGER", "group (prompt) within the step, from 0")]
    rollout_id: Annotated[np.ndarray, Column("INTEGER", "rollout within its group, from 0")]
    position: Annotated[np.ndarray, Column("USMALLINT", "place t in the response, from 0")]
    token_id: Annotated[np.ndarray, Column("INTEGER", "sampled token y_t, key of vocabulary")]
    log_p_sampler: Annotated[np.ndarray | None, Column("FLOAT", "log P(y_t) by the engine, nats")] = None
    log_p_student: Annotated[np.ndarray | None, Column("FLOAT", "log P_S(y_t) (Eq. 2), nats")] = None
    log_p_correct: Annotated[np.ndarray | None, Column("FLOAT", "log P_T⁺(y_t) (Eq. 2), nats")] = None
    log_p_wrong: Annotated[np.ndarray | None, Column("FLOAT", "log P_T⁻(y_t) (Eq. 2), nats")] = None
    delta: Annotated[np.ndarray | None, Column("FLOAT", "Δ as used (Eq. 4, 5), nats")] = None
    weight: Annotated[np.ndarray | None, Column("FLOAT", "w = exp(sign(A)·Δ) before clipping (Eq. 4, 7)")] = None
    clipped: Annotated[np.ndarray | None, Column("TINYINT", "-1: w < 1 − ε_w, 1: w > 1 + ε_w, else 0")] = None
    token_advantage: Annotated[np.ndarray | None, Column("FLOAT", "Â_t as used (Eq. 4, 7)")] = None
    divergence: Annotated[np.ndarray | None, Column("FLOAT", "D(P_T ‖ P_S) at t (Eq. 3), nats")] = None
    entropy: Annotated[np.ndarray | None, Column("FLOAT", "entropy of P_S at t, nats")] = None

    def __post_init__(self) -> None:
        """Every column describes the same tokens."""
        shapes = {field.name: np.shape(getattr(self, field.name)) for field in fields(self) if self._has(field.name)}
        if set(shapes.values()) != {(len(self),)}:
            raise ValueError(f"token columns must be 1-D and equally long, got {shapes}; flatten them together")

    def __len__(self) -> int:
        """Number of tokens."""
        return self.step.size

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None

    @classmethod
    def concatenate(cls, parts: Sequence["TokenColumns"]) -> "TokenColumns":
        """Join parts in order; a column that only some parts have is NULL in the others."""
        columns: dict[str, np.ndarray] = {}
        for field in fields(cls):
            if any(part._has(field.name) for part in parts):
                arrays = [getattr(part, field.name) for part in parts]
                missing = (np.full(len(part), np.nan, np.float32) for part in parts)
                pairs = zip(arrays, missing, strict=True)
                columns[field.name] = np.concatenate([gap if array is None else array for array, gap in pairs])
        return cls(**columns)


@dataclass(frozen=True, kw_only=True)
class ValidationRow:
    """Table ``validation``: one held-out problem at one step."""

    step: Step
    problem_id: Annotated[str, Column("VARCHAR", "identity of the problem")]
    response: Annotated[str, Column("VARCHAR", "response as text")]
    answer: Annotated[str | None, Column("VARCHAR", "boxed answer")] = None
    is_correct: Annotated[bool, Column("BOOLEAN", "the verifier accepts the answer")]


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """Table ``images``: each picture once."""

    image_id: Annotated[str, Column("VARCHAR", "SHA-256 of the PNG, hexadecimal")]
    png: Annotated[bytes, Column("BLOB", "the picture, PNG")]

    @classmethod
    def from_png(cls, png: bytes) -> "ImageRow":
        """The row of one encoded picture."""
        return cls(image_id=hashlib.sha256(png).hexdigest(), png=png)


@dataclass(frozen=True, kw_only=True)
class VocabularyRow:
    """Table ``vocabulary``: what a token id reads as, so that nobody needs the model to read a run."""

    token_id: Annotated[int, Column("INTEGER", "token id")]
    piece: Annotated[str, Column("VARCHAR", "text of the token")]
    piece_bytes: Annotated[bytes | None, Column("BLOB", "the token's bytes, where they are no text by themselves")] = (
        None
    )
    token_class: Annotated[TokenClass, Column("VARCHAR", "digit, operator, word, format or special")]


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """Everything one training step leaves behind, written in one transaction."""

    step: StepRow
    groups: Sequence[GroupRow]
    rollouts: Sequence[RolloutRow]
    tokens: TokenColumns
    validation: Sequence[ValidationRow] = ()
    images: Sequence[ImageRow] = ()

    def __post_init__(self) -> None:
        """A re-run step replaces itself by its number, so every row must carry that number."""
        rows = (*self.groups, *self.rollouts, *self.validation)
        strays = {row.step for row in rows} | set(np.unique(self.tokens.step).tolist())
        if strays - {self.step.step}:
            raise ValueError(f"a record of step {self.step.step} holds rows of steps {sorted(strays)}")


TABLES: dict[str, type] = {
    "run": RunRow,
    "steps": StepRow,
    "groups": GroupRow,
    "rollouts": RolloutRow,
    "tokens": TokenColumns,
    "validation": ValidationRow,
    "images": ImageRow,
    "vocabulary": VocabularyRow,
}


class ColumnSpec(NamedTuple):
    """One column of one table, as its dataclass declares it."""

    name: str
    type: str
    nullable: bool
    meaning: str


def columns(table: str, tables: Mapping[str, type] = TABLES) -> tuple[ColumnSpec, ...]:
    """The columns of a table, in order."""
    hints = get_type_hints(tables[table], include_extras=True)
    specs = ((name, *get_args(hint)) for name, hint in hints.items())
    return tuple(ColumnSpec(name, c.type, NoneType in get_args(kind), c.meaning) for name, kind, c in specs)


def create_statements(tables: Mapping[str, type] = TABLES) -> tuple[str, ...]:
    """The SQL that makes an empty file, with every meaning as a comment inside the file."""
    statements = []
    for table, row in tables.items():
        specs = columns(table, tables)
        body = ", ".join(f"{c.name} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in specs)
        statements.append(f"CREATE TABLE {table} ({body})")
        statements.append(f"COMMENT ON TABLE {table} IS {_quoted((row.__doc__ or '').partition(': ')[2])}")
        statements += [f"COMMENT ON COLUMN {table}.{c.name} IS {_quoted(c.meaning)}" for c in specs]
    return tuple(statements)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def credit_macros() -> tuple[str, ...]:
    """The SQL macros every run file carries: `core.credit` for whoever opens it in the ``duckdb`` shell.

    ``token_credit(lam, epsilon_w)`` credits every token again, by the run's own Δ for RLSD and CEPO and by CEPO's for
    the others; ``rlsd_credit`` and ``cepo_credit`` name the Δ. Same names, same float32, same ±20 as `core.credit`
    (Eq. 4, 5, 7); what has no evidence stays NULL.
    """
    return (
        "CREATE MACRO evidence_delta(log_p_for, log_p_against) AS log_p_for - log_p_against",
        # least and greatest skip NULL, so every macro that uses them has to ask first
        "CREATE MACRO evidence_weight(delta, advantage) AS CASE WHEN delta IS NOT NULL THEN "
        "exp(sign(advantage) * least(greatest(delta, -20), 20))::FLOAT END",
        "CREATE MACRO clip_flag(weight, epsilon_w) AS CASE WHEN weight > (1 + epsilon_w::DOUBLE)::FLOAT THEN 1 "
        "WHEN weight < (1 - epsilon_w::DOUBLE)::FLOAT THEN -1 WHEN weight IS NOT NULL THEN 0 END::TINYINT",
        "CREATE MACRO modulate(advantage, weight, lam, epsilon_w) AS CASE WHEN lam = 0 OR advantage = 0 THEN advantage "
        "WHEN weight IS NOT NULL THEN "
        "advantage * ((1 - lam) + lam * least(greatest(weight, 1 - epsilon_w), 1 + epsilon_w)) END::FLOAT",
        "CREATE MACRO credit_by(method, lam, epsilon_w) AS TABLE WITH evidence AS ("
        "SELECT step, group_id, rollout_id, position, token_id, advantage::FLOAT AS advantage, evidence_delta("
        "log_p_correct, CASE method WHEN 'rlsd' THEN log_p_student ELSE coalesce(log_p_wrong, log_p_student) END"
        ") AS delta FROM tokens JOIN rollouts USING (step, group_id, rollout_id)"
        "), weighted AS (SELECT *, evidence_weight(delta, advantage) AS weight FROM evidence) "
        "SELECT *, clip_flag(weight, epsilon_w) AS clipped, "
        "modulate(advantage, weight, lam, epsilon_w) AS token_advantage FROM weighted",
        "CREATE MACRO rlsd_credit(lam, epsilon_w) AS TABLE FROM credit_by('rlsd', lam, epsilon_w)",
        "CREATE MACRO cepo_credit(lam, epsilon_w) AS TABLE FROM credit_by('cepo', lam, epsilon_w)",
        "CREATE MACRO token_credit(lam, epsilon_w) AS TABLE "
        "FROM credit_by((SELECT any_value(run.method) FROM run), lam, epsilon_w)",
    )


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What one of our DuckDB files must hold to be opened."""

    noun: str
    head: str
    """The table of one row that carries the schema_version."""
    version: int
    tables: Mapping[str, type]
    macros: tuple[str, ...] = ()
    """The only macros it may carry, as the SQL that makes them."""


RUN_FILE = FileKind(noun="a run file", head="run", version=SCHEMA_VERSION, tables=TABLES, macros=credit_macros())
