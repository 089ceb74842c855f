"""Arms of the study as rows of a table: what each came to over its seeds, and which are missing."""

from dataclasses import dataclass

from analysis.curves import configuration
from analysis.gains import GRPO, gains
from analysis.recorded import RecordedStudy
from analysis.tables.arm_names import ARM_NAMES
from analysis.tables.words import counted
from core.intervals import Interval


@dataclass(frozen=True)
class Measured:
    """One arm against a baseline, over the seeds that both have; shares in [0, 1]."""

    seeds: int
    after: Interval
    """Held-out accuracy after training."""
    gain: Interval
    """That, minus the baseline's; NaN where the two share no seed."""


def measured(study: RecordedStudy, group: str, baseline: tuple[str, str] = GRPO) -> dict[str, Measured]:
    """The arms of a group that have runs, by name."""
    table = gains(study, group, baseline)
    numbers = table.drop(columns=["arm", "n"]).itertuples(index=False, name=None)
    return {
        arm: Measured(int(n), Interval(*values[:3]), Interval(*values[3:]))
        for arm, n, values in zip(table["arm"], table["n"], numbers, strict=True)
    }


def missing(study: RecordedStudy, group: str, where: str = "") -> str:
    """Which arms of a group have no run, as a sentence; empty where all have.

    Args:
        study: what was recorded.
        group: one of `study.yaml`.
        where: the group in words, for a table of two.
    """
    trained = study.arm_names(group)
    absent = [name for arm, name in ARM_NAMES[group].items() if arm not in trained]
    return f"Not trained{where}: {'; '.join(absent)}." if absent else ""


def problems(study: RecordedStudy, *groups: str) -> str:
    """How many held-out problems the runs of some groups were asked."""
    run_ids = study.arms.loc[study.arms["group"].isin(groups), "run_id"]
    counts = study.accuracies.loc[study.accuracies["run_id"].isin(run_ids), "n"].tolist()
    return f"{counted(counts)} held-out problems, one response each" if counts else "no run yet"


def setting(study: RecordedStudy, group: str, arm: str, name: str) -> object:
    """A setting of an arm's runs by its dotted name; None where it has no run, or no such setting."""
    run_ids = study.run_ids(group, arm)
    return configuration(study.recording(run_ids[0]).info).get(name) if run_ids else None


def stand_in(study: RecordedStudy) -> str:
    """What the numbers of a pocket study are not."""
    if study.about.scale != "pocket":
        return ""
    return "Pocket Geo3k and its tiny model: no results on Geo3k or Qwen3-VL."
