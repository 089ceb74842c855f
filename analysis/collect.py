"""From the files of a study's runs to its record: what was finished, and what it came to."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.eval_store import EvalStore, Evaluation
from analysis.evidence import COLUMNS, read_evidence
from analysis.matrix import Run, Study
from analysis.recorded import SEARCH, About, RecordedStudy, accuracies
from analysis.store import FILE_NAME, RunFile
from core.config import check
from core.eval_schema import EvaluationRow
from core.schema import RunRow, StepRow

LAST_VALIDATIONS = 2
"""How many of a run's last validations make its score in the search."""
TOLD = "told.csv"
"""What `core.told` leaves in a run's folder; its module loads models, so its name for it is not read here."""
ANSWERS = ("run_id", "step", "problem_id", "is_correct")
EMPTY: dict[str, tuple[str, ...]] = {
    "runs": tuple(field.name for field in fields(RunRow)),
    "steps": ("run_id", *(field.name for field in fields(StepRow) if field.name != "log_weight_histogram")),
    "validation": ANSWERS,
    "told": ANSWERS,
    "evidence": ("run_id", *COLUMNS),
    "evaluations": tuple(field.name for field in fields(EvaluationRow)),
    "items": ("eval_id", "task", "item_id", "seed", "score", "cluster"),
}
"""The columns of tables in which nothing stands yet."""


@dataclass(frozen=True)
class Workplace:
    """Where a study's runs and evaluations are, and what an earlier record already holds of it."""

    runs_dir: Path
    recorded: RecordedStudy | None

    @property
    def evals_dir(self) -> Path:
        """Where its evaluations go."""
        return self.runs_dir / "evals"

    def folder(self, run: Run) -> Path:
        """A run's folder, whether it is there or not."""
        return self.runs_dir / run.run_id

    def file(self, run: Run) -> RunFile:
        """A run's file, whether it is there or not."""
        return RunFile(run.run_id, self.folder(run) / FILE_NAME)

    @cached_property
    def names(self) -> dict[Run, str]:
        """Recorded runs, and how they are named there.

        The configuration is what counts: fields that came later have their defaults, so a new field changes no run.
        """
        if self.recorded is None:
            return {}
        rows = self.recorded.runs
        return {Run(check(json.loads(text))): name for text, name in zip(rows["config"], rows["run_id"], strict=True)}

    def is_trained(self, run: Run) -> bool:
        """Its own file says that it has trained all its steps."""
        return self.file(run).path.exists() and self.file(run).info().status == "finished"

    def is_finished(self, run: Run) -> bool:
        """It is recorded, or has trained all its steps."""
        return run in self.names or self.is_trained(run)

    def lacks_told(self, run: Run) -> bool:
        """It has trained here and was not, or not at every checkpoint, asked with the answer shown."""
        asked, kept = self.folder(run) / TOLD, self.folder(run).glob("checkpoints/step-*")
        found = set(pd.read_csv(asked)["step"]) if asked.exists() else set()
        return self.is_trained(run) and not found >= {0, *(int(path.name.removeprefix("step-")) for path in kept)}

    def evaluated(self) -> set[str | None]:
        """The runs that were evaluated, here or in the record; None stands for the base."""
        recorded = () if self.recorded is None else tuple(self.recorded.evaluations["run_id"])
        here = {each.about.run_id for each in self.finished_evaluations()}
        return here | {None if _is_none(name) else name for name in recorded}

    def finished_evaluations(self) -> list[Evaluation]:
        """What was evaluated here, whole."""
        evaluations, _ = EvalStore(self.evals_dir).read()
        return [each for each in evaluations if each.about.status == "finished"]

    def validation(self, run: Run) -> pd.DataFrame:
        """Answers of a finished run to held-out problems: columns run_id, step, problem_id, is_correct."""
        if run in self.names and self.recorded is not None:
            answers = self.recorded.validation
            return answers.loc[answers["run_id"] == self.names[run]]
        answers = self.file(run).frame("SELECT step, problem_id, is_correct FROM validation ORDER BY step, problem_id")
        return answers.assign(run_id=run.run_id)

    def scores(self, searched: Mapping[str, Mapping[float, Run]]) -> dict[str, dict[float, float]]:
        """By method and learning rate, the mean of the last validations of each finished run of the search."""
        return {
            method: {rate: self._score(run) for rate, run in runs.items() if self.is_finished(run)}
            for method, runs in searched.items()
        }

    def _score(self, run: Run) -> float:
        found = accuracies(self.validation(run)).sort_values("step")
        return statistics.mean(found["accuracy"].tolist()[-LAST_VALIDATIONS:])


def collect(study: Study, about: About, place: Workplace) -> RecordedStudy:
    """Everything that is finished, with what an earlier record holds; what was trained anew replaces it."""
    arms = [
        (SEARCH, f"{method} {rate:g}", run)
        for method, runs in study.search_runs().items()
        for rate, run in runs.items()
    ]
    arms += [(*name, run) for name in study.names() for run in study.arm_runs(*name, about.rates)]
    arms = [(group, arm, run) for group, arm, run in arms if place.is_finished(run)]
    trained = [run for run in dict.fromkeys(run for _, _, run in arms) if place.is_trained(run)]
    names = place.names | {run: run.run_id for run in trained}
    evidence = [run for run in study.runs(about.rates, asked="evidence") if run in set(trained)]
    told = [run for run in trained if (place.folder(run) / TOLD).exists()]
    evaluations = place.finished_evaluations()
    new = {
        "runs": [_run_row(place.file(run)) for run in trained],
        "steps": [_steps(place.file(run)) for run in trained],
        "validation": [place.validation(run) for run in trained],
        "told": [pd.read_csv(place.folder(run) / TOLD).assign(run_id=run.run_id) for run in told],
        "evidence": [read_evidence(place.file(run)).assign(run_id=run.run_id) for run in evidence],
        "evaluations": [pd.DataFrame([asdict(each.about)]) for each in evaluations],
        "items": [each.items.assign(eval_id=each.about.eval_id) for each in evaluations],
    }
    tables = {name: _merged(name, frames, place.recorded) for name, frames in new.items()}
    rows = [(group, arm, run.config.seed, names[run]) for group, arm, run in arms]
    tables["arms"] = pd.DataFrame(rows, columns=["group", "arm", "seed", "run_id"])
    return RecordedStudy(about, **tables)


def _merged(name: str, frames: Sequence[pd.DataFrame], recorded: RecordedStudy | None) -> pd.DataFrame:
    """New rows behind the recorded ones, which they replace run by run."""
    key = "eval_id" if name in ("evaluations", "items") else "run_id"
    old = [] if recorded is None else [getattr(recorded, name)]
    if not frames:
        return old[0] if old else pd.DataFrame(columns=[*EMPTY[name]])
    new = pd.concat(frames, ignore_index=True)
    kept = [frame.loc[~frame[key].isin(set(new[key]))] for frame in old]
    return pd.concat([*(frame for frame in kept if len(frame)), new], ignore_index=True)


def _run_row(file: RunFile) -> pd.DataFrame:
    return pd.DataFrame([asdict(file.info())])


def _steps(file: RunFile) -> pd.DataFrame:
    return file.steps().assign(run_id=file.key)


def _is_none(value: object) -> bool:
    return value is None or value != value
