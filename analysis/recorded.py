"""A study as it ships: what its runs came to, step by step and item by item, without their tokens.

One parquet file a table, in `analysis/recorded/` for the study of this repository. `analysis.study` writes it, figures,
tables and `analysis.results` read it, and nobody needs the runs themselves.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowInvalid

from analysis.curves import Recording
from analysis.eval_store import EvalFile, Evaluation
from core.errors import InputError
from core.eval_schema import EvaluationRow
from core.schema import RunRow

FOLDER = Path(__file__).parent / "recorded"
SEARCH = "search"
"""The group of the runs that chose the learning rates; its arms are `METHOD RATE`."""
NO_COUNTS = pd.DataFrame(columns=["step", "group_id", "rollout_id", "advantage", "n", "above", "below"])


@dataclass(frozen=True)
class About:
    """What made the study."""

    scale: str
    command: str
    rates: dict[str, float]
    """Each method's learning rate, as the search chose it."""
    machine: str
    """What it ran on, in words."""


@dataclass(frozen=True, eq=False)
class RecordedStudy:
    """Everything the figures and tables of the paper are made from."""

    about: About
    runs: pd.DataFrame
    """One row a run: the columns of `core.schema.RunRow`."""
    arms: pd.DataFrame
    """Which runs answer which question: columns group, arm, seed, run_id. A run may stand in several arms."""
    steps: pd.DataFrame
    """One row a step: run_id and the columns of `core.schema.StepRow` without the histogram."""
    validation: pd.DataFrame
    """One row an answer to a held-out problem: run_id, step, problem_id, is_correct."""
    told: pd.DataFrame
    """The same where the true answer was shown, for runs that were asked so: run_id, step, problem_id, is_correct."""
    evidence: pd.DataFrame
    """Evidence by kind of token, as of `analysis.evidence`, for runs that recorded all of it."""
    evaluations: pd.DataFrame
    """One row an evaluation on the benchmarks: the columns of `core.eval_schema.EvaluationRow`."""
    items: pd.DataFrame
    """One row an answer there: eval_id, task, item_id, seed, score, cluster."""

    def arm_names(self, group: str) -> list[str]:
        """The arms of a group that have at least one run, in their order."""
        return list(dict.fromkeys(self.arms.loc[self.arms["group"] == group, "arm"]))

    def run_ids(self, group: str, arm: str) -> list[str]:
        """The runs of an arm, by seed."""
        return [run_id for _, run_id in self._seeds(group, arm)]

    def _seeds(self, group: str, arm: str) -> list[tuple[int, str]]:
        rows = self.arms.loc[(self.arms["group"] == group) & (self.arms["arm"] == arm), ["seed", "run_id"]]
        return sorted(rows.itertuples(index=False, name=None))

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """Held-out accuracy: columns run_id, step, accuracy, n."""
        return accuracies(self.validation)

    def final(self, group: str, arm: str) -> pd.DataFrame:
        """Held-out accuracy of an arm's runs before and after training: columns seed, run_id, before, after, n."""
        rows = []
        for seed, run_id in self._seeds(group, arm):
            curve = self.accuracies.loc[self.accuracies["run_id"] == run_id].sort_values("step")
            rows.append((seed, run_id, curve["accuracy"].iloc[0], curve["accuracy"].iloc[-1], curve["n"].iloc[-1]))
        return pd.DataFrame(rows, columns=["seed", "run_id", "before", "after", "n"])

    def recordings(self, group: str, arms: Sequence[str] | None = None) -> tuple[Recording, ...]:
        """The runs of a group, or of some of its arms, as the figures of the workbench take them."""
        names = self.arm_names(group) if arms is None else arms
        return tuple(self.recording(run_id) for arm in names for run_id in self.run_ids(group, arm))

    def recording(self, run_id: str) -> Recording:
        """One run."""
        validation = self.accuracies.loc[self.accuracies["run_id"] == run_id, ["step", "accuracy", "n"]]
        steps = self.steps.loc[self.steps["run_id"] == run_id].drop(columns="run_id").reset_index(drop=True)
        return Recording(run_id, RunRow(**self._run(run_id)), steps, validation.reset_index(drop=True), NO_COUNTS)

    def _run(self, run_id: str) -> dict[str, Any]:
        return _values(self.runs.loc[self.runs["run_id"] == run_id].iloc[0])

    def benchmark_evaluations(self) -> list[Evaluation]:
        """The evaluations, as the tables of the Benchmarks page take them."""
        found = []
        for _, row in self.evaluations.iterrows():
            about = EvaluationRow(**_values(row))
            items = self.items.loc[self.items["eval_id"] == about.eval_id].drop(columns="eval_id")
            file = EvalFile(about.eval_id, FOLDER / "items.parquet")
            found.append(Evaluation(file, about, items.reset_index(drop=True), {}))
        return found


def accuracies(answers: pd.DataFrame) -> pd.DataFrame:
    """Share of right answers: columns run_id, step, accuracy, n.

    Args:
        answers: columns run_id, step, is_correct, as of `RecordedStudy.validation` and `told`.
    """
    grouped = answers.groupby(["run_id", "step"])["is_correct"]
    return pd.DataFrame({"accuracy": grouped.mean(), "n": grouped.size()}).reset_index()


TABLES = tuple(field.name for field in fields(RecordedStudy) if field.name != "about")


def read_study(folder: Path = FOLDER) -> RecordedStudy:
    """Read a recorded study.

    Raises:
        InputError: the folder holds none, or a file of it is damaged.
    """
    about = folder / "study.json"
    if not about.is_file():
        raise InputError(f"{folder}: holds no recorded study; python -m analysis.study --out {folder} makes one")
    try:
        values = json.loads(about.read_text(encoding="utf-8"))
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    except (OSError, ValueError, ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: the recorded study cannot be read ({reason}); restore it from a copy") from error
    return RecordedStudy(About(**values), **tables)


def write_study(study: RecordedStudy, folder: Path) -> None:
    """Write a recorded study; files of an earlier one are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        getattr(study, name).to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    text = json.dumps(dataclasses.asdict(study.about), indent=2, ensure_ascii=False)
    (folder / "study.json").write_text(text + "\n", encoding="utf-8")


def _values(row: Any) -> dict[str, Any]:
    """A row as plain Python values, None where nothing is."""
    return {str(name): _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, np.generic):
        value = value.item()
    return None if pd.isna(value) else value
