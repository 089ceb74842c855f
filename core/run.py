"""One run from its configuration to its files: builds the parts, trains, checkpoints, and ends in a known state."""

import dataclasses
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch
from transformers.utils.logging import disable_progress_bar

from core.algorithm import Trainer, observer_of
from core.checkpoint import Checkpoints
from core.config import TrainConfig, to_tree, write_config
from core.console import Console, RunSummary
from core.engines.local_engine import LocalEngine
from core.errors import InputError
from core.policy import Policy, device_of
from core.problems import problem_source
from core.provenance import git_commit, versions
from core.recorder import Recorder
from core.records import vocabulary_rows
from core.schema import RunRow, Status
from core.teachers import TeacherWeights
from core.updates import Updater
from core.verifier import Verifier

LIBRARIES = ("torch", "transformers", "peft", "duckdb")


class Interrupt:
    """Turns Ctrl-C and SIGTERM into a request to stop after the step in flight; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, *_: object) -> None:
        """Handle the signal."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def watching(self) -> Iterator["Interrupt"]:
        """Within the block the signals set `requested`."""
        former = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def run(config: TrainConfig, folder: Path, console: Console, *, resume: bool) -> RunSummary:
    """Train in `folder`, or go on with what is there.

    Bad input raises InputError before anything is written; after that the run file always says how the run ended.
    """
    _check_folder(folder, resume)
    disable_progress_bar()  # ours is the one to look at
    if device_of(config.model).type == "cpu":
        torch.set_num_threads(1)  # more threads on few cores cost more than they bring at these sizes
    started = perf_counter()
    with Verifier() as verifier:
        trainer = build_trainer(config, verifier)
        checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints)
        policy, optimizer, method = trainer.policy, trainer.updater.optimizer, config.method.name
        last_step = checkpoints.restore(method, policy, optimizer, trainer.teacher) if resume else 0
        recorder = _recorder(config, folder, trainer, last_step, resume)
        console.start(config, folder, sum(p.numel() for p in policy.trainable.values()), last_step + 1)
        val_start = val_end = None
        seconds_recording = 0.0
        status: Status = "finished"
        with recorder, Interrupt().watching() as interrupt:
            if last_step == 0:
                validation = trainer.validate(0)
                recorder.write_validation(0, validation)
                val_start = sum(row.is_correct for row in validation) / len(validation)
                console.note(f"before training: {val_start:.1%} of {len(validation)} held-out problems")
            for step in range(last_step + 1, config.steps + 1):
                record = trainer.step(step)
                before = perf_counter()
                recorder.write(record)
                last_step = step
                if step % config.checkpoint_every == 0 or step == config.steps or interrupt.requested:
                    recorder.flush()
                    seconds_recording += perf_counter() - before
                    checkpoints.save(step, method, policy, optimizer, trainer.teacher)
                else:
                    seconds_recording += perf_counter() - before
                seconds_recording += record.step.seconds_record
                val_end = record.step.val_accuracy if record.step.val_accuracy is not None else val_end
                console.step(record.step)
                if interrupt.requested and step < config.steps:
                    status = "interrupted"
                    break
            else:
                policy.save(folder / "model")
            recorder.finish(status)
    n = config.validation.problems
    return RunSummary(status, folder, last_step, val_start, val_end, n, perf_counter() - started, seconds_recording)


def build_trainer(config: TrainConfig, verifier: Verifier) -> Trainer:
    """The parts of a run, from the configuration alone."""
    problems = problem_source(config.problems)
    policy = Policy.load(config.model, config.rollouts.temperature, config.seed)
    teacher = TeacherWeights(observer_of(config.method).teacher, policy)
    optimizer = torch.optim.AdamW(
        policy.trainable.values(),
        lr=config.method.learning_rate,
        betas=config.optimizer.betas,
        weight_decay=config.optimizer.weight_decay,
    )
    updater = Updater(policy, optimizer, config.optimizer, config.surrogate)
    return Trainer(config, policy, LocalEngine(policy), problems, verifier, teacher, updater)


def _check_folder(folder: Path, resume: bool) -> None:
    if resume and not (folder / "run.duckdb").is_file():
        raise InputError(f"--resume {folder}: holds no run.duckdb; give the folder of a run that was started before")
    if not resume and folder.exists():
        raise InputError(f"run folder {folder} exists; resume it with --resume {folder}, or choose another --run-id")


def _recorder(config: TrainConfig, folder: Path, trainer: Trainer, last_step: int, resume: bool) -> Recorder:
    """A new run file with its configuration beside it, or the old one cut back to the checkpoint."""
    if resume:
        recorder = Recorder.resume(folder)
        recorder.discard_after(last_step)
        return recorder
    try:
        folder.mkdir(parents=True)
        write_config(config, folder / "config.yaml")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"run folder {folder}: cannot be made ({reason}); choose another --runs-dir") from error
    return Recorder.create(folder, run_row(config, folder.name, trainer), vocabulary_rows(trainer.policy))


def run_row(config: TrainConfig, run_id: str, trainer: Trainer) -> RunRow:
    """The provenance of a run."""
    now = datetime.now(UTC).replace(tzinfo=None)
    observer, has_teachers = trainer.observer, bool(trainer.observed_roles)
    return RunRow(
        run_id=run_id,
        method=config.method.name,
        seed=config.seed,
        model=config.model.path,
        problems=trainer.problems.name,
        config=json.dumps(to_tree(config)),
        git_commit=git_commit(),
        versions=versions(LIBRARIES),
        device=str(trainer.policy.device),
        teacher_source=json.dumps(dataclasses.asdict(observer.teacher)) if has_teachers else "",
        teacher_sees_image=observer.teacher_sees_image,
        started_at=now,
        heartbeat_at=now,
        steps_planned=config.steps,
    )
