"""A benchmark as lmms-eval packages it, with our changes and its scorer in the sandbox."""

from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import lmms_eval
import yaml
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config
from tenacity import RetryError

from core.errors import InputError
from core.runfile import first_line
from eval.lmms.model import BROKEN_PICTURE
from eval.sandbox import Sandbox
from eval.tasks import Benchmark, Doc

TASKS = Path(lmms_eval.__file__).parent / "tasks"


class GuardedTasks(TaskManager):
    """One benchmark as lmms-eval packages it, with our changes, its scorer in a sandbox; close it with ``with``."""

    def __init__(self, benchmark: Benchmark, data: Path | None, seed: int, folder: Path, log: Path) -> None:
        config = folder / "tasks" / benchmark.name / f"{benchmark.name}.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"include": str(TASKS / benchmark.config), "task": benchmark.task}
        content["dataset_kwargs"] = None  # MathVision's asks for a token that nobody needs
        if data is not None:
            content["dataset_path"] = str(data.resolve())
        config.write_text(yaml.safe_dump({**content, **benchmark.changes}, sort_keys=False), encoding="utf-8")
        # the name of the model chooses MMMU's prompt: any but Qwen's takes the default, as in the paper's command
        super().__init__("WARNING", include_path=str(config.parent), include_defaults=False, model_name="credence")
        self.benchmark, self.data, self.seed, self.log = benchmark, data, seed, log
        self.sandbox: Sandbox | None = None

    @property
    def unscored(self) -> frozenset[str]:
        """Keys of the items whose answer was too costly to score."""
        return frozenset(self.sandbox.unscored if self.sandbox else ())

    def load_task_or_group(self, task_list: Any = None, task_type: Any = "simple") -> dict:
        """The task, its `process_results` guarded.

        Raises:
            InputError: its data cannot be had.
        """
        try:
            tasks = super().load_task_or_group(task_list, task_type)
        except (RetryError, *BROKEN_PICTURE) as error:  # it tries five times, then looks at the first row
            raise InputError(self._without_data(error)) from error
        (task,) = tasks.values()
        # undecorated: lmms-eval's version tries a scorer that raises five times, and forgets what it raised
        score = partial(type(task).process_results.__wrapped__, task)
        self.sandbox = sandbox = Sandbox(self.benchmark.name, score, log=self.log)
        task.process_results = lambda doc, results: sandbox.score(key_of(self.benchmark, self.seed, doc), doc, results)
        return tasks

    def _without_data(self, error: Exception) -> str:
        reason = error.last_attempt.exception() if isinstance(error, RetryError) else error
        while reason is not None and reason.__cause__ is not None:  # datasets wraps what a file of rows is accused of
            reason = reason.__cause__
        why = "nothing more is known" if reason is None else f"{type(reason).__name__}: {first_line(reason)}"
        if self.data is not None:
            return f"the data in {self.data} cannot be read ({why}); fetch or make them again"
        hub = load_yaml_config(TASKS / self.benchmark.config)["dataset_path"]
        return (
            f"the data set {hub} cannot be had ({why}); see to the network, or give its parquet files with "
            "--data-root (python -m eval.pocket makes small ones)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.sandbox:
            self.sandbox.close()


def key_of(benchmark: Benchmark, seed: int, doc: Doc) -> str:
    """What an answer is called while it is scored; where lmms-eval guesses, the guess hangs on it alone."""
    question = sha256(benchmark.question(doc).encode("utf-8", "replace")).hexdigest()[:8]  # names may be missing
    return f"{benchmark.name}/{benchmark.item_id(doc)}/{question}/{seed}"
