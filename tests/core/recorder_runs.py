"""Made-up runs for the tests of the recorder; as a program, a writer that is forked on demand to be killed."""

import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np

from core.recorder import Recorder
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

VOCABULARY = [
    VocabularyRow(token_id=0, piece="7", token_class="digit"),
    VocabularyRow(token_id=1, piece="\x1b[31m<script>\x00", token_class="format"),
]
STEP_FLOATS = [c.name for c in columns("steps") if c.type == "DOUBLE" and not c.nullable]


def run_row(method: str = "cepo") -> RunRow:
    """A run that has just begun."""
    now = datetime(2026, 1, 2, 3, 4, 5)
    return RunRow(
        run_id="a", method=method, seed=0, model="m", problems="p", config="{}", git_commit="", versions="{}",
        device="cpu", teacher_source="actor", teacher_sees_image=True, started_at=now, heartbeat_at=now,
        steps_planned=9,
    )  # fmt: skip


def token_columns(step: int, n_rollouts: int, length: int, **optional: np.ndarray) -> TokenColumns:
    """Tokens of one group, with random log-probabilities."""
    n = n_rollouts * length
    draw = np.random.default_rng(step)
    log_p = {
        name: draw.uniform(-6, 0, n).astype(np.float32)
        for name in ("log_p_sampler", "log_p_student", "log_p_correct", "log_p_wrong")
    }
    return TokenColumns(
        step=np.full(n, step),
        group_id=np.zeros(n, np.int64),
        rollout_id=np.repeat(np.arange(n_rollouts), length),
        position=np.tile(np.arange(length), n_rollouts),
        token_id=draw.integers(0, 2, n),
        **(log_p | optional),
    )


def step_record(step: int, *, n_rollouts: int = 4, length: int = 50, response: str = "y", **step_columns) -> StepRecord:
    """A whole step of one group."""
    n_tokens = n_rollouts * length
    image = ImageRow.from_png(b"png")
    return StepRecord(
        step=StepRow(
            step=step, n_rollouts=n_rollouts, n_tokens=n_tokens, **(dict.fromkeys(STEP_FLOATS, 0.5) | step_columns)
        ),
        groups=[
            GroupRow(
                step=step, group_id=0, problem_id="q", question="x", answer="7", image_id=image.image_id, fallback=False
            )
        ],
        rollouts=[
            RolloutRow(
                step=step, group_id=0, rollout_id=i, response=response, n_tokens=length, reward=1.0, is_correct=True,
                is_formatted=True, advantage=(-1.0) ** i, truncated=False,
            )
            for i in range(n_rollouts)
        ],
        tokens=token_columns(step, n_rollouts, length),
        validation=[ValidationRow(step=step, problem_id="v", response="r", is_correct=True)],
        images=[image, image],
    )  # fmt: skip


def write_until_killed(folder: Path, length: int) -> None:
    """Go on where the file ends, and say after which step everything was on disk."""
    recorder = Recorder.resume(folder)
    step = int((folder / "flushed").read_text())
    while True:
        step += 1
        recorder.write(step_record(step, length=length))
        recorder.flush()
        (folder / "flushed.part").write_text(str(step))
        (folder / "flushed.part").replace(folder / "flushed")
        print("flushed", flush=True)


def main() -> None:
    """For every line on stdin fork one writer, print its id, and wait for its end."""
    folder, length = Path(sys.argv[1]), int(sys.argv[2])
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write_until_killed(folder, length)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
