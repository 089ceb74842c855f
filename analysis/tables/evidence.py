"""What evidence does to each kind of token, and how often it is clipped."""

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence import DECISIVE, EPSILON_W, FILLER, METHODS, evidence_runs, pooled
from analysis.figures.evidence import NOTHING, kind_name, kinds_of, whose, without_evidence
from analysis.recorded import RecordedStudy
from analysis.reported import reported
from analysis.style import label
from analysis.tables.paper_table import PaperTable
from core.intervals import Interval

DASH = "–"
PLUS_MINUS = "± is the half-width of a 95 % t-interval over the steps of the runs; it says nothing about other runs."
USED = "Tokens of rollouts with A ≠ 0, all steps pooled."


def class_table(study: RecordedStudy) -> PaperTable:
    """Evidence by kind of token, in the runs of CEPO or of the first method that recorded both teachers.

    What Figure 5 shows of one rollout and Proposition 1 says of kinds of tokens, counted over all.
    """
    found = evidence_runs(study)
    if not found:
        return PaperTable(pd.DataFrame(columns=["kind of token"]), f"Evidence by kind of token: {NOTHING}.")
    method, rows = next(iter(found.items()))
    kinds = kinds_of(rows)
    parts = [(kind_name(kind), rows.loc[rows["kind"] == kind]) for kind in kinds]
    ratio = ""
    if all(set(names) & set(kinds) for names in (DECISIVE, FILLER)):
        decisive, filler = (rows.loc[rows["kind"].isin(names)] for names in (DECISIVE, FILLER))
        names = " and ".join(kind_name(kind) for kind in DECISIVE)
        parts.append(("decisive together", decisive))
        times = [f"{_mean(decisive, m) / _mean(filler, m):.2g} times ({label(m)})" for m in METHODS]
        ratio = f" Decisive: {names}; mean |Δ| there is {' and '.join(times)} that at filler."
    cells = pd.DataFrame([{"kind of token": name} | _row(of) for name, of in (*parts, ("all", rows))])
    caption = (
        f"Evidence by kind of token, trained by {whose(method, rows)}. {USED} Δ in nats; w after clipping to 1 ± "
        f"{EPSILON_W:g}, clipped counts the weights outside it. Sharper: tokens whose weight by CEPO is above that by "
        "RLSD before clipping, of those in groups with an r⁻ (how many in brackets), however small the difference. "
        f"{PLUS_MINUS}{ratio}"
    )
    return PaperTable(cells, caption)


def clip_rates(study: RecordedStudy) -> PaperTable:
    """How often RLSD's and CEPO's weights are clipped in whole runs, beside the paper's one rollout (Figure 5)."""
    rows, found = [], evidence_runs(study)
    for method, those in found.items():
        rates = {name: those.assign(clipped=_clipped(those, name)) for name in METHODS}
        texts = {f"clipped, {label(name)}": _rate(of, name) for name, of in rates.items()}
        both = those.assign(more=_clipped(those, "cepo") - _clipped(those, "rlsd"))
        is_same = bool((those["n_rlsd"] == those["n_cepo"]).all())
        change = _plus_minus(pooled(both, "more", "n"), "+.2f", 100) if is_same else DASH
        n = f"{_total(those, 'n'):,}"
        rows.append({"trained by": whose(method, those), "tokens": n} | texts | {"CEPO − RLSD, points": change})
    printed: Any = reported("figure5").set_index("method")["value"]
    paper = {f"clipped, {label(name)}": f"{printed[name]:.1f} %" for name in METHODS}
    gap = _plus_minus(Interval(printed["cepo"] - printed["rlsd"], math.nan, math.nan), "+.1f")
    rows.append({"trained by": "paper, one rollout", "tokens": DASH} | paper | {"CEPO − RLSD, points": gap})
    caption = (
        f"Weights outside 1 ± {EPSILON_W:g} before clipping; ↓ below, ↑ above. {USED} Both weights are those of the "
        f"same tokens, whichever method trained. {PLUS_MINUS} Paper: Figure 5, one rollout."
    )
    missing = without_evidence(found)
    return PaperTable(pd.DataFrame(rows), f"{caption} N{missing[1:]}." if missing else caption)


def _row(rows: pd.DataFrame) -> dict[str, str]:
    """The cells of one kind."""
    cells = {"tokens": f"{_total(rows, 'n'):,}"}
    for name in METHODS:
        cells[f"mean Δ, {label(name)}"] = _nats(pooled(rows, f"delta_{name}", f"n_{name}").estimate, "+")
    for name in METHODS:
        value = pooled(rows, f"abs_delta_{name}", f"n_{name}")
        width = "" if math.isnan(value.half_width) else f" ± {_nats(value.half_width)}"
        cells[f"mean |Δ|, {label(name)}"] = f"{_nats(value.estimate)}{width}"
    for name in METHODS:
        value = pooled(rows.assign(clipped=_clipped(rows, name)), "clipped", f"n_{name}")
        cells[f"clipped, {label(name)}"] = _plus_minus(value, ".2f", 100, " %")
    for name in METHODS:
        value = pooled(rows, f"weight_{name}", f"n_{name}")
        cells[f"mean w, {label(name)}"] = _plus_minus(Interval(value.estimate, math.nan, math.nan), ".4f")
    for sign, text in ((1, "A > 0"), (-1, "A < 0")):
        of = rows.loc[rows["sign"] == sign]
        share = _plus_minus(pooled(of, "sharper", "n_contrast"), ".1f", 100, " %")
        cells[f"sharper, {text}"] = f"{share} ({_total(of, 'n_contrast'):,})"
    return cells


def _total(rows: pd.DataFrame, column: str) -> int:
    return int(rows[column].to_numpy().sum())


def _mean(rows: pd.DataFrame, method: str) -> float:
    return pooled(rows, f"abs_delta_{method}", f"n_{method}").estimate


def _clipped(rows: pd.DataFrame, method: str) -> Any:
    return rows[f"clipped_low_{method}"] + rows[f"clipped_high_{method}"]


def _rate(rows: pd.DataFrame, method: str) -> str:
    """A clip rate with its two sides."""
    low, high = (100 * pooled(rows, f"clipped_{side}_{method}", f"n_{method}").estimate for side in ("low", "high"))
    total = _plus_minus(pooled(rows, "clipped", f"n_{method}"), ".2f", 100, " %")
    return total if total == DASH else f"{total} (↓ {low:.2f}, ↑ {high:.2f})"


def _plus_minus(value: Interval, form: str, scale: float = 1, unit: str = "") -> str:
    """A number with its ±, which is left out where there is none."""
    if np.isnan(value.estimate):
        return DASH
    text = format(scale * value.estimate, form).replace("-", "−")
    width = "" if math.isnan(value.half_width) else f" ± {format(scale * value.half_width, form.lstrip('+'))}"
    return f"{text}{width}{unit}"


def _nats(value: float, sign: str = "") -> str:
    """Two digits, however small."""
    return DASH if math.isnan(value) else format(value, f"{sign}.2g").replace("-", "−")
