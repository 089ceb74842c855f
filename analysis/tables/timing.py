"""Table 3: where the time of a step goes."""

from collections.abc import Mapping

import pandas as pd

from analysis.curves import Recording
from analysis.figures.bars import STAGES
from analysis.gains import GRPO
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.tables.arm_names import METHODS
from analysis.tables.arms import missing
from analysis.tables.paper_table import PaperTable
from analysis.tables.words import DASH, OVER_SEEDS, is_separated, sentences, with_reach
from core.intervals import mean_interval

APART = {"seconds_validate": "validation", "seconds_probe": "probe, for the record alone"}
"""Stages that training does not need."""


def table3(study: RecordedStudy) -> PaperTable:
    """Table 3: seconds of a step by stage and method, and what a method costs over GRPO, here and in the paper."""
    seconds = {arm: _by_seed(study.recordings(GRPO[0], [arm])) for arm in METHODS}
    over = {arm: _over(found, seconds[GRPO[1]]) for arm, found in seconds.items() if arm != GRPO[1]}
    rows = {name: _means(seconds, column) for column, (name, *_) in STAGES.items() if column not in APART}
    rows["other"] = _means(seconds, "other")
    rows["step, without validation and probe"] = _means(seconds, "step")
    rows["over GRPO, %"] = {arm: with_reach(mean_interval(each), sign="+") for arm, each in over.items() if each}
    strong = [arm for arm, each in over.items() if each and is_separated(mean_interval(each))]
    shares = {arm: (found["seconds_teacher"] / found["step"]).tolist() for arm, found in seconds.items() if len(found)}
    rows["teachers' share, %"] = {arm: with_reach(mean_interval(each)) for arm, each in shares.items()}
    rows |= {name: _means(seconds, column) for column, name in APART.items()}
    rows |= _paper()
    rows["seeds"] = {arm: str(len(found)) for arm, found in seconds.items()}
    cells = [[name, *(row.get(arm, DASH) for arm in METHODS)] for name, row in rows.items()]
    bold = [[False, *(name == "over GRPO, %" and arm in strong for arm in METHODS)] for name in rows]
    columns = ["seconds", *METHODS.values()]
    return PaperTable(pd.DataFrame(cells, columns=columns), _caption(study), pd.DataFrame(bold, columns=columns))


def _by_seed(recordings: tuple[Recording, ...]) -> pd.DataFrame:
    """Mean seconds of a step by stage, a row a seed; the first step of a run, which warms things up, is left out."""
    rows = {}
    for recording in recordings:
        steps = recording.steps.iloc[1:]
        means = steps[[*STAGES, "seconds_total"]].astype(float).mean()
        means["step"] = means["seconds_total"] - means[list(APART)].sum()
        means["other"] = means["seconds_total"] - means[list(STAGES)].sum()
        rows[recording.info.seed] = means
    return pd.DataFrame(rows, index=[*STAGES, "seconds_total", "step", "other"]).T


def _over(mine: pd.DataFrame, grpo: pd.DataFrame) -> list[float]:
    """How much longer a step is than GRPO's, a share, for each seed of both."""
    theirs = dict(zip(grpo.index, grpo["step"].tolist(), strict=True))
    return [
        step / theirs[seed] - 1 for seed, step in zip(mine.index, mine["step"].tolist(), strict=True) if seed in theirs
    ]


def _means(seconds: Mapping[str, pd.DataFrame], column: str) -> dict[str, str]:
    return {arm: f"{found[column].mean():.2f}" for arm, found in seconds.items() if len(found)}


def _paper() -> dict[str, dict[str, str]]:
    """The printed minutes, and what they are over GRPO's."""
    table = reported("table3")
    minutes = {str(m): float(v) for m, v in zip(table["method"], table["value"], strict=True)}
    over = {m: f"{100 * (v / minutes[GRPO[1]] - 1):+.1f}" for m, v in minutes.items() if m != GRPO[1]}
    return {"paper: minutes in all": {m: f"{v:g}" for m, v in minutes.items()}, "paper: over GRPO, %": over}


def _caption(study: RecordedStudy) -> str:
    return sentences(
        "Mean seconds of a training step by stage, over steps (the first of a run left out) and training runs. Over "
        f"GRPO: what a step takes longer, without validation and probe, paired by seed; ±: {OVER_SEEDS}, none from a "
        "single seed; bold where it leaves out 0.",
        f"Timed on {study.about.machine}, where runs train side by side: its speed changes from run to run, which is "
        "in what a step takes over GRPO's, and not in the teachers' share of a run's own step.",
        _asked(study),
        "The paper's times are of another model and machine; it gives none for OPSD.",
        missing(study, GRPO[0]),
    )


def _asked(study: RecordedStudy) -> str:
    """In how many steps the token methods ask their teachers, here and in the paper: it decides what they cost."""
    recordings = study.recordings(GRPO[0], ["cepo"])
    if not recordings:
        return ""
    counted = recordings[0].steps.iloc[1:]
    here = int((counted["lam"].astype(float) > 0).sum())
    steps, warmup = (_printed(*where) for where in (("table6", "steps"), ("table7", "T_warm")))
    return (
        f"RLSD and CEPO ask teachers only where λ > 0: here in {here} of {len(counted)} counted steps, in the paper in "
        f"{warmup} of {steps}."
    )


def _printed(table: str, name: str) -> str:
    found = reported(table)
    return str(found.loc[found["name"] == name, "value"].iloc[0])
