"""How much of the credit ε_w clips, in several parts of a run."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.style import label
from analysis.tokens import EvidenceCounts
from core.histogram import clip_rate_from_histogram

CLIPPED = "Evidence clip rate over the tokens of rollouts with A ≠ 0; ↓ below 1 − ε_w, ↑ above 1 + ε_w"


def clip_text(low: float | None, high: float | None) -> str:
    """A clip rate with its two sides; a dash where there is none."""
    if low is None or high is None or np.isnan(low) or np.isnan(high):
        return "–"
    return f"{100 * (low + high):.1f} % (↓ {100 * low:.1f}, ↑ {100 * high:.1f})"


def clip_rates(counts: Mapping[str, Mapping[str, EvidenceCounts]], epsilon_w: float) -> pd.DataFrame:
    """Clip rates at any ε_w, one row a part of a run (this rollout, this step, ...), one column a method."""
    rows = []
    for part, by_method in counts.items():
        rates = [clip_text(*clip_rate_from_histogram(c.histogram.sum(0), epsilon_w)) for c in by_method.values()]
        tokens = max(int(c.n.sum()) for c in by_method.values())
        rows.append([part, *rates, f"{tokens:,}"])
    methods = next(iter(counts.values()))
    return pd.DataFrame(rows, columns=[f"clipped at ε_w = {epsilon_w:g}", *map(label, methods), "tokens"])
