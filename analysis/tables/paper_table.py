"""A table of the study: what it shows, and what a reader has to know about it."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, eq=False)
class PaperTable:
    """A table as it is shown, in any format of `analysis.tables.export`."""

    cells: pd.DataFrame
    """Texts; the first column names the rows."""
    caption: str
    bold: pd.DataFrame | None = None
    """Which cells stand out; of the shape of `cells`."""
