"""The paper's claims as a table: what it says, what we measured, and what follows."""

import math
from collections.abc import Sequence

import pandas as pd

from analysis.claim_measures import Measured, Unit
from analysis.claims import Finding
from analysis.tables.paper_table import PaperTable

COLUMNS = ["claim", "where", "paper", "here [95 % interval]", "n", "verdict"]
CAPTION = (
    "Every claim is turned so that it holds where the number is above 0. Shown: the 95 % interval lies above 0. Not "
    "shown: it lies below 0, or below the paper's own number. Cannot tell: neither; not measured: no such runs. "
    "Intervals are t-intervals over what n counts, paired by seed where two arms are compared, and not corrected for "
    "their number: of twenty, one leaves out 0 by chance."
)
SUFFIX: dict[Unit, str] = {"points": "", "percent": " %", "nats": " nats"}


def claims_table(found: Sequence[Finding]) -> PaperTable:
    """One row a claim."""
    rows = [
        (
            each.claim.text,
            each.claim.where,
            number(each.claim.paper, each.measured.unit),
            measured_text(each.measured),
            each.measured.n,
            each.verdict,
        )
        for each in found
    ]
    return PaperTable(pd.DataFrame(rows, columns=COLUMNS), CAPTION)


def measured_text(measured: Measured) -> str:
    """Our number with its interval."""
    value = measured.value
    if math.isnan(value.estimate):
        return "–"
    text = number(value.estimate, measured.unit)
    if math.isnan(value.low):
        return text
    return f"{text} [{number(value.low, measured.unit, bare=True)}, {number(value.high, measured.unit, bare=True)}]"


def number(value: float, unit: Unit, *, bare: bool = False) -> str:
    """A difference with its sign: points of a hundred, percent, or nats."""
    if math.isnan(value):
        return "–"
    text = f"{value:+.4f}" if unit == "nats" else f"{100 * value:+.1f}"
    return text.replace("-", "−") + ("" if bare else SUFFIX[unit])
