"""One benchmark under one seed through lmms-eval's own `simple_evaluate`."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

from lmms_eval.evaluator import simple_evaluate
from lmms_eval.loggers import EvaluationTracker
from loguru import logger

from eval.journal import Journal
from eval.lmms.model import CredenceModel, generation_settings
from eval.lmms.results import TaskResult, result_of
from eval.lmms.tasks import GuardedTasks
from eval.progress import Counter
from eval.questions import Answerer
from eval.settings import Settings
from eval.tasks import Benchmark

REASONING_TAGS = [["<think>", "</think>"], ["<analysis>", "</analysis>"]]
"""Taken off before scoring, as lmms-eval's command does; an unclosed thought stays."""


def evaluate(
    benchmark: Benchmark,
    seed: int,
    answerer: Answerer,
    settings: Settings,
    journal: Journal,
    counter: Counter,
    folder: Path,
    log: TextIO,
) -> TaskResult:
    """Run one benchmark through lmms-eval and read its result.

    Args:
        benchmark: what is asked.
        seed: of the sampler.
        answerer: who answers.
        settings: how it is asked.
        journal: answers that are there already, and where new ones go.
        counter: told of every answer.
        folder: of the evaluation; gets lmms-eval's own files.
        log: takes what lmms-eval prints; a file.
    """
    model = CredenceModel(answerer, settings.prompt, seed, journal, counter)
    tracker = EvaluationTracker(output_path=str(folder / "lmms-eval"))
    stamp = _unused_stamp(folder / "lmms-eval")
    data = settings.data.folder(benchmark)
    with quietly(log), GuardedTasks(benchmark, data, seed, folder, Path(log.name)) as tasks:
        report = simple_evaluate(
            model=model,
            model_args=f"pretrained={settings.eval_id}",  # names lmms-eval's folder; a label may hold anything
            tasks=[benchmark.task],
            task_manager=tasks,
            limit=settings.limit,
            bootstrap_iters=0,
            log_samples=True,
            evaluation_tracker=tracker,
            gen_kwargs=generation_settings(settings.sampling),
            random_seed=seed,
            datetime_str=stamp,
            cli_args=argparse.Namespace(
                reasoning_tags=json.dumps(REASONING_TAGS), process_with_media=False, output_path=str(folder)
            ),
            process_docs_parallel=1,
            verbosity="WARNING",
        )
        assert report is not None  # it is None on every process but the first of several
        samples = report.pop("samples")[benchmark.task]
        result = result_of(benchmark, seed, model, report, samples, tasks.unscored)
        tracker.general_config_tracker.model_source = "credence"  # lmms-eval put the model itself there
        tracker.save_results_aggregated(report, {benchmark.task: samples}, stamp)
        tracker.save_results_samples(benchmark.task, samples)
    return result


@contextmanager
def quietly(log: TextIO) -> Iterator[None]:
    """Send what other people's libraries print into a file; a person watches our own display."""
    with redirect_stdout(log), redirect_stderr(log):
        logger.remove()
        sink = logger.add(log, level="INFO")
        try:
            yield
        finally:
            logger.remove(sink)  # or it would go on writing into a closed file


def _unused_stamp(folder: Path) -> str:
    """lmms-eval names its files by the second; two benchmarks may end within one."""
    now = datetime.now()
    while any(folder.glob(f"*/{now:%Y%m%d_%H%M%S}_*")):
        now += timedelta(seconds=1)
    return f"{now:%Y%m%d_%H%M%S}"
