"""Made-up runs for the tests of the workbench; as a program, a trainer that writes a step for every line on stdin."""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch
from PIL import Image, ImageDraw

from core import runfile
from core.config import load_config, to_tree
from core.credit import group_advantages
from core.histogram import log_weight_histogram
from core.methods import Credit, Evidence, EvidenceCredit, TokenCredit
from core.recorder import FILE_NAME, Recorder
from core.schema import (
    GroupRow,
    ImageRow,
    RolloutRow,
    RunRow,
    StepRecord,
    StepRow,
    TokenColumns,
    ValidationRow,
    VocabularyRow,
    columns,
)
from core.turns import waiting_for

Piece = str | bytes
"""Text of a token, or the bytes of one that is no text by itself."""

HOSTILE: tuple[Piece, ...] = (
    "<script>window.__xss=1</script>", '<img src=x onerror="window.__xss=1">', "</style><b>bold</b>", "</script>",
    "$x^2$", ":red[a]", "**b**", "![p](http://198.51.100.7/p.png)", "[go](javascript:window.__xss=1)",
    "\u202egnol\u202c", "a\u200bb", "\x07", "\n", "=1+1", "@SUM(A1)", "&lt;", b"\xe2\x96", b"\x88", b"\xff",
)  # fmt: skip
"""What a model may write to harm the page, the terminal or a spreadsheet, and bytes that are half a character."""

HOSTILE_TEXT = "".join(piece for piece in HOSTILE if isinstance(piece, str))
START = (*"We add 45+29=74", ".", " ", "\n", "So", " ", "x", " ", "is", " ")
RIGHT = (*START, *"2*74=148", ". ", "\\boxed{", *"148", "}", "<|im_end|>")
WRONG = (*START, "\\boxed{", *"74", "}", "<|im_end|>")


@dataclass(frozen=True)
class Response:
    """One rollout to make up."""

    pieces: tuple[Piece, ...]
    reward: float
    answer: str | None


@dataclass(frozen=True)
class Prompt:
    """One group to make up; without a wrong hint its wrong teacher is the student (Algorithm 1)."""

    responses: tuple[Response, ...]
    hint_wrong: str | None
    question: str = "What is the perimeter?"
    answer: str = "148"


GOOD, BAD = Response(RIGHT, 1.0, "148"), Response(WRONG, 0.0, "74")
MIXED = Prompt((GOOD, BAD, GOOD, Response(WRONG, 0.0, "75")), hint_wrong="74")
ALL_CORRECT = Prompt((GOOD, GOOD), hint_wrong=None)
NO_WRONG_HINT = Prompt((GOOD, Response(WRONG[:-4], 0.0, None)), hint_wrong=None)
ORDINARY = (MIXED, ALL_CORRECT, NO_WRONG_HINT)
"""Rollouts 0 to 3 are a mixed group, 4 and 5 have A = 0, 6 and 7 no wrong hint."""


def long_prompt(length: int) -> Prompt:
    """A group whose first rollout has that many tokens."""
    words = ("so ", "the ", "angle ", "is ", "equal ", "to ", "40", "+", "2", "*", "8", "=", "56", " and ", "then ")
    body = tuple(words[i % len(words)] if i % 60 else "\n" for i in range(1, length))
    return Prompt((Response((*body, "<|im_end|>"), 1.0, "148"), BAD), hint_wrong="74")


@dataclass(frozen=True)
class MadeUp:
    """A run to make up."""

    run_id: str
    method: str = "cepo"
    seed: int = 0
    prompts: tuple[Prompt, ...] = ORDINARY
    steps: int = 4
    steps_planned: int = 4
    has_teachers: bool = True
    text: str = ""
    """Takes the place of every name and word that a stranger's file could choose."""

    @property
    def vocabulary(self) -> dict[Piece, int]:
        """Token id of every piece."""
        pieces = (piece for prompt in self.prompts for response in prompt.responses for piece in response.pieces)
        return {piece: token_id for token_id, piece in enumerate(dict.fromkeys(pieces))}

    def row(self) -> RunRow:
        """Its row in the table run, begun just now."""
        config = load_config(method=self.method, flags={"seed": self.seed, "steps": self.steps_planned})
        now = datetime.now(UTC).replace(tzinfo=None)
        return RunRow(
            run_id=self.run_id, method=self.method, seed=self.seed, model=self.text or "pocket",
            problems=self.text or "pocket", config=json.dumps(to_tree(config)), git_commit="0123456789abcdef",
            versions='{"torch": "2.13.0"}', device="cpu", started_at=now, heartbeat_at=now,
            teacher_source='{"kind": "actor", "every": 25, "decay": 0.999}' if self.has_teachers else "",
            teacher_sees_image=self.has_teachers, steps_planned=self.steps_planned,
        )  # fmt: skip

    def record(self, step: int) -> StepRecord:
        """Everything of one step."""
        return _record(self, step)

    def validation(self, step: int) -> list[ValidationRow]:
        """Held-out answers, more of them right at every step; at step 0 the same for every run."""
        draws = np.random.default_rng([step, self.seed if step else 0]).random(64)
        text = self.text or "r"
        return [
            ValidationRow(step=step, problem_id=f"v{i}", response=text, is_correct=bool(draw < 0.4 + 0.05 * step))
            for i, draw in enumerate(draws)
        ]


def write(runs_dir: Path, run: MadeUp) -> Path:
    """Write a whole run; returns its file."""
    folder = runs_dir / run.run_id
    with begin(folder, run) as recorder:
        for step in range(1, run.steps + 1):
            recorder.write(run.record(step))
    return folder / FILE_NAME


def begin(folder: Path, run: MadeUp) -> Recorder:
    """A recorder of a run that has validated once."""
    vocabulary = [_vocabulary_row(token_id, piece) for piece, token_id in run.vocabulary.items()]
    recorder = Recorder.create(folder, run.row(), vocabulary)
    recorder.write_validation(0, run.validation(0))
    return recorder


def _vocabulary_row(token_id: int, piece: Piece) -> VocabularyRow:
    if isinstance(piece, bytes):
        return VocabularyRow(token_id=token_id, piece="\ufffd", piece_bytes=piece, token_class="special")
    text = piece.strip()
    if piece.startswith("<|"):
        kind = "special"
    elif text.isdigit():
        kind = "digit"
    elif text in {"+", "-", "*", "="}:
        kind = "operator"
    else:
        kind = "word" if text.isalpha() else "format"
    return VocabularyRow(token_id=token_id, piece=piece, token_class=kind)


@cache
def triangle() -> ImageRow:
    """The picture of every problem."""
    picture = Image.new("RGB", (120, 90), "white")
    ImageDraw.Draw(picture).polygon([(10, 80), (110, 80), (60, 10)], outline="black")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return ImageRow.from_png(buffer.getvalue())


@dataclass(frozen=True)
class _Flat:
    """The tokens of a step, one after the other."""

    keys: np.ndarray
    """[4, tokens]: group_id, rollout_id, position, token_id."""
    advantage: torch.Tensor
    evidence: Evidence


def _flat(run: MadeUp, step: int) -> _Flat:
    vocabulary = run.vocabulary
    keys, advantages, fallback = [], [], []
    for g, prompt in enumerate(run.prompts):
        scores = group_advantages(torch.tensor([[r.reward for r in prompt.responses]]))[0].tolist()
        for i, (response, score) in enumerate(zip(prompt.responses, scores, strict=True)):
            keys += [(g, i, t, vocabulary[piece]) for t, piece in enumerate(response.pieces)]
            advantages += [score] * len(response.pieces)
            fallback += [prompt.hint_wrong is None] * len(response.pieces)
    draw = np.random.default_rng([step, run.seed, len(keys)])

    def log_p(*around: np.ndarray) -> np.ndarray:
        start = around[0] if around else -draw.exponential(0.5, len(keys))
        return np.minimum(start + draw.normal(0, 0.5, len(keys)), -1e-4).astype(np.float32)

    student = log_p()
    correct, wrong = log_p(student), log_p(student)
    wrong = np.where(fallback, student, wrong)
    teachers = (torch.tensor(correct), torch.tensor(wrong)) if run.has_teachers else (None, None)
    return _Flat(np.array(keys).T, torch.tensor(advantages), Evidence(torch.tensor(student), *teachers))


def _credited(run: MadeUp, flat: _Flat, step: int) -> Credit | None:
    method = load_config(method=run.method).method
    if not isinstance(method, TokenCredit):
        return None
    one = {name: x[None] for name, x in vars(flat.evidence).items() if x is not None}
    return method.credit(flat.advantage[None], Evidence(**one), step)


def _record(run: MadeUp, step: int) -> StepRecord:
    flat = _flat(run, step)
    credit = _credited(run, flat, step)
    weighted = (None, None, None) if credit is None else credit.weighted or (None, None, None)
    delta, weight, clipped = (None if x is None else x[0].numpy() for x in weighted)
    evidence = {name: None if x is None else x.numpy() for name, x in vars(flat.evidence).items()}
    student = flat.evidence.log_p_student.numpy()
    group_id, rollout_id, position, token_id = flat.keys
    tokens = TokenColumns(
        step=np.full(len(position), step), group_id=group_id, rollout_id=rollout_id, position=position,
        token_id=token_id, log_p_sampler=student, **evidence, delta=delta, weight=weight, clipped=clipped,
        token_advantage=None if credit is None else credit.token_advantages[0].numpy(), entropy=-student,
    )  # fmt: skip
    rollouts = list(_rollouts(run, flat, step))
    return StepRecord(
        step=_step(run, step, tokens, flat.advantage.numpy(), rollouts),
        groups=[
            GroupRow(
                step=step, group_id=g, problem_id=f"p{g}", question=run.text or prompt.question,
                answer=run.text or prompt.answer, image_id=triangle().image_id, fallback=prompt.hint_wrong is None,
                hint_correct=(run.text or prompt.answer) if run.has_teachers else None,
                hint_wrong=prompt.hint_wrong if run.has_teachers else None,
                hint_wrong_rollout=1 if prompt.hint_wrong and run.has_teachers else None,
            )
            for g, prompt in enumerate(run.prompts)
        ],
        rollouts=rollouts,
        tokens=tokens,
        validation=run.validation(step),
        images=[triangle()],
    )  # fmt: skip


def _rollouts(run: MadeUp, flat: _Flat, step: int) -> Iterable[RolloutRow]:
    for g, prompt in enumerate(run.prompts):
        for i, response in enumerate(prompt.responses):
            first = int(np.flatnonzero((flat.keys[0] == g) & (flat.keys[1] == i))[0])
            text = b"".join(p if isinstance(p, bytes) else p.encode() for p in response.pieces).decode(errors="replace")
            yield RolloutRow(
                step=step, group_id=g, rollout_id=i, response=text, n_tokens=len(response.pieces),
                reward=response.reward, is_correct=response.reward > 0, is_formatted=response.answer is not None,
                answer=response.answer, advantage=flat.advantage[first].item(), truncated=False,
            )  # fmt: skip


REQUIRED = [c.name for c in columns("steps") if c.type == "DOUBLE" and not c.nullable]


def _step(
    run: MadeUp, step: int, tokens: TokenColumns, advantage: np.ndarray, rollouts: Sequence[RolloutRow]
) -> StepRow:
    method = load_config(method=run.method).method
    mixed = isinstance(method, EvidenceCredit)
    validation = run.validation(step)
    given: dict[str, Any] = dict.fromkeys(REQUIRED, 0.1) | {
        "accuracy": float(np.mean([r.is_correct for r in rollouts])),
        "reward_mean": float(np.mean([r.reward for r in rollouts])),
        "response_tokens_mean": len(tokens) / len(rollouts),
        "truncated_share": 0.0,
        "val_accuracy": float(np.mean([v.is_correct for v in validation])),
        "val_n": len(validation),
        "zero_advantage_share": float(np.mean([r.advantage == 0 for r in rollouts])),
        "lam": method.mixing(step) if mixed else None,
        "epsilon_w": method.epsilon_w if mixed else None,
    }
    used = advantage != 0
    if tokens.delta is not None and tokens.weight is not None and tokens.clipped is not None:
        delta, clipped = tokens.delta[used], tokens.clipped[used]
        for name, sign in (("", 0), ("_correct", 1), ("_wrong", -1)):
            those = delta[advantage[used] * sign > 0] if sign else delta
            given |= {f"delta_positive{name}": (those > 0).mean(), f"delta_negative{name}": (those < 0).mean()}
        given |= {
            "delta_mean": float(delta.mean()), "delta_std": float(delta.std()),
            "weight_mean": float(tokens.weight[used].mean()),
            "evidence_clip_low": float((clipped < 0).mean()), "evidence_clip_high": float((clipped > 0).mean()),
            "ppo_clip_low": 0.0, "ppo_clip_high": 0.01,
            "log_weight_histogram": log_weight_histogram(np.sign(advantage[used]) * delta),
        }  # fmt: skip
    return StepRow(step=step, n_rollouts=len(rollouts), n_tokens=len(tokens), **given)


def spoil_evidence(path: Path, step: int) -> None:
    """Put NaN and infinity where the teachers' log-probabilities of rollout 0 were, at every third token."""
    where = f"WHERE step = {step} AND group_id = 0 AND rollout_id = 0 AND position % 3 = 1"
    with runfile.writing(path, waiting_for(5)) as connection:
        connection.execute(f"UPDATE tokens SET log_p_correct = 'nan'::FLOAT, log_p_wrong = '-inf'::FLOAT {where}")


def abandon(path: Path, minutes: int) -> None:
    """Leave a run as a trainer does that was killed: running, and silent for minutes."""
    silent = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=minutes)
    with runfile.writing(path, waiting_for(5)) as connection:
        connection.execute("UPDATE run SET status = 'running', heartbeat_at = ?", [silent])


def write_unreadable(runs_dir: Path) -> None:
    """Files that are called like a run and are none: damaged, foreign, of the future, and one that reads our files."""
    for name in ("damaged", "foreign"):
        (runs_dir / name).mkdir()
    (runs_dir / "damaged" / FILE_NAME).write_bytes(b"DUCK" + bytes(range(256)) * 64)
    with duckdb.connect(str(runs_dir / "foreign" / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE sales AS SELECT 1 AS n")
    newer = write(runs_dir, MadeUp("newer", steps=1, steps_planned=1))
    with runfile.writing(newer, waiting_for(5)) as connection:
        connection.execute("UPDATE run SET schema_version = 99")
    spying = write(runs_dir, MadeUp("spying", steps=1, steps_planned=1))
    with duckdb.connect(str(spying)) as connection:
        connection.execute("DROP TABLE groups")
        connection.execute("CREATE VIEW groups AS SELECT content AS question FROM read_text('/etc/passwd')")


HOSTILE_PROMPT = Prompt((Response(HOSTILE, 1.0, HOSTILE_TEXT), BAD), hint_wrong=HOSTILE_TEXT)
RUNS = (
    MadeUp("cepo", seed=0),
    MadeUp("cepo-1", seed=1),
    MadeUp("cepo-2", seed=2),
    MadeUp("rlsd", "rlsd"),
    MadeUp("blind", "grpo", has_teachers=False),
    MadeUp("stale", seed=3),
    MadeUp("hostile", prompts=(HOSTILE_PROMPT,), steps=2, steps_planned=2, text=HOSTILE_TEXT),
    MadeUp("long", prompts=(long_prompt(8192), long_prompt(2048)), steps=1, steps_planned=1),
)
LIVE = MadeUp("live", seed=5, steps_planned=40)


def train(folder: Path) -> None:
    """Begin a run in the folder given, and add a step for every line; says when each is on disk."""
    with begin(folder, LIVE) as recorder:
        recorder.write(LIVE.record(1))
        recorder.flush()
        print(1, flush=True)
        for step, _ in enumerate(sys.stdin, start=2):
            recorder.write(LIVE.record(step))
            recorder.flush()
            print(step, flush=True)


if __name__ == "__main__":
    train(Path(sys.argv[1]))
