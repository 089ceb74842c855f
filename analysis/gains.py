"""What an arm of the study gains over another, paired by seed: the same seed means the same problems in their order.

And what the search for learning rates found.
"""

import math

import pandas as pd

from analysis.collect import LAST_VALIDATIONS
from analysis.recorded import SEARCH, RecordedStudy
from core.intervals import Interval, mean_interval

GRPO = ("methods", "grpo")
"""Group and arm that the paper's ablations are held against."""


def gains_by_seed(study: RecordedStudy, group: str, baseline: tuple[str, str] = GRPO) -> pd.DataFrame:
    """Held-out accuracy after training, run by run, and what it is above the baseline's run of the same seed.

    Args:
        study: what was recorded.
        group: whose arms.
        baseline: group and arm they are held against.

    Returns:
        Columns arm, seed, after, gain (shares; gain is NaN where the baseline has no run of the seed) and problems, how
        many were asked.
    """
    last = study.accuracies.sort_values("step").drop_duplicates("run_id", keep="last")
    runs = study.arms.merge(last, on="run_id").rename(columns={"accuracy": "after", "n": "problems"})
    against = runs.loc[(runs["group"] == baseline[0]) & (runs["arm"] == baseline[1]), ["seed", "after"]]
    found = runs.loc[runs["group"] == group].merge(against, on="seed", how="left", suffixes=("", "_baseline"))
    found["gain"] = found["after"] - found["after_baseline"]
    return found[["arm", "seed", "after", "gain", "problems"]]


def gains(study: RecordedStudy, group: str, baseline: tuple[str, str] = GRPO) -> pd.DataFrame:
    """A row for each arm of a group: accuracy after training and its gain over the baseline (Figure 3, Tables 4 and 5).

    Both are means over the n seeds that arm and baseline share, with their 95 % t-intervals; from one seed the ends are
    NaN. An arm that shares none with the baseline keeps all its seeds and has no gain (NaN).

    Returns:
        Columns arm, n, after_mean, after_low, after_high, gain, low, high: shares, not percent.
    """
    rows = []
    for arm, found in gains_by_seed(study, group, baseline).groupby("arm", sort=False):
        shared = found.loc[found["gain"].notna()]
        used = found if shared.empty else shared
        after = mean_interval(used["after"].tolist())
        over = Interval(*[math.nan] * 3) if shared.empty else mean_interval(shared["gain"].tolist())
        rows.append((arm, len(used), after.estimate, after.low, after.high, over.estimate, over.low, over.high))
    return pd.DataFrame(rows, columns=["arm", "n", "after_mean", "after_low", "after_high", "gain", "low", "high"])


def search_scores(study: RecordedStudy) -> pd.DataFrame:
    """What the search for learning rates compared, a row a run: the mean accuracy of its last validations.

    Returns:
        Columns method, rate, score, n (responses that it is a mean of), seed, is_chosen.
    """
    rows = []
    for arm in study.arm_names(SEARCH):
        method, rate = arm.rsplit(" ", 1)
        for run in study.recordings(SEARCH, [arm]):
            last = run.validation.sort_values("step").tail(LAST_VALIDATIONS)
            is_chosen = study.about.rates.get(method) == float(rate)
            rows.append((method, float(rate), last["accuracy"].mean(), last["n"].sum(), run.info.seed, is_chosen))
    return pd.DataFrame(rows, columns=["method", "rate", "score", "n", "seed", "is_chosen"])
