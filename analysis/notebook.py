"""What a notebook calls: an entry of the catalogue on the page and in files, and what came of the paper's claims."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from analysis.catalogue import PAPER, Drawn, Plate, Sources
from analysis.claims import findings
from analysis.recorded import FOLDER, read_study
from analysis.still import save
from analysis.store import EXAMPLE_DIR, FILE_NAME, RunFile
from analysis.tables.claims import claims_table
from analysis.tables.export import to_csv, to_html, to_latex
from analysis.tables.paper_table import PaperTable

PICTURES = Path("figures")
"""Where files go, below the notebook's folder."""


@dataclass(frozen=True)
class Shown:
    """Something a notebook shows: HTML on the page, and the files it was saved as."""

    html: str
    files: tuple[Path, ...] = ()
    figure: go.Figure | None = None
    """The same to hover over, where it is a plotly figure."""

    def _repr_html_(self) -> str:
        return self.html


def sources(study: Path = FOLDER, run: Path = EXAMPLE_DIR / "cepo") -> Sources:
    """The recorded study and a run with tokens: those that ship with Credence, or others by their folders."""
    return Sources(read_study(study), RunFile(run.name, run / FILE_NAME))


def show(name: str, sources: Sources, folder: Path = PICTURES) -> Shown:
    """Show an entry of the catalogue's `PAPER`; a figure is saved as SVG and PDF, a table as CSV and LaTeX."""
    exhibit = PAPER[name]
    folder.mkdir(parents=True, exist_ok=True)
    match exhibit.build(sources):
        case Drawn(figure, caption):
            files = save(figure, folder / name)
            return Shown(_figure(files[0].read_text(encoding="utf-8"), caption), files, figure)
        case Plate(drawing, caption):
            path = folder / f"{name}.svg"
            path.write_text(drawing, encoding="utf-8")
            return Shown(_figure(drawing, caption), (path,))
        case PaperTable() as table:
            return Shown(to_html(table.cells, table.caption, table.bold), _save_table(table, folder / name))


def verdicts(sources: Sources, *where: str) -> Shown:
    """What came of the paper's claims in some of its figures, tables and sections."""
    found = [each for each in findings(sources.study) if any(each.claim.where.startswith(place) for place in where)]
    table = claims_table(found)
    return Shown(to_html(table.cells, table.caption, table.bold))


def _figure(drawing: str, caption: str) -> str:
    picture = drawing[drawing.index("<svg") :]
    return f'<figure style="margin:0">{picture}<figcaption>{escape(caption)}</figcaption></figure>'


def _save_table(table: PaperTable, stem: Path) -> tuple[Path, ...]:
    texts = {".csv": to_csv(table.cells), ".tex": to_latex(table.cells, table.caption, table.bold)}
    paths = []
    for suffix, text in texts.items():
        path = stem.with_suffix(suffix)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return tuple(paths)
