"""Write what came of the paper's claims: `python -m analysis.results`, from the recorded study to RESULTS.md."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.catalogue import PAPER, Drawn, Plate, Sources
from analysis.claims import VERDICTS, Finding, findings
from analysis.notebook import sources
from analysis.recorded import FOLDER, RecordedStudy
from analysis.still import svg
from analysis.tables.claims import claims_table
from analysis.tables.export import markdown, to_markdown
from analysis.tables.paper_table import PaperTable
from analysis.tables.words import counted
from core.console import say
from core.errors import InputError

ROOT = Path(__file__).parent.parent
PICTURES = Path("docs") / "results"
SECTIONS: dict[str, tuple[str, ...]] = {
    "Accuracy": ("held-out", "figure-1", "table-2", "learning-rates", "search", "smaller-rate"),
    "Teachers and hints": ("table-4", "teacher-source", "table-5", "feedback-source"),
    "λ and ε_w": ("figure-3",),
    "What is credited": ("figure-4", "figure-5", "clip-rates", "token-classes", "token-kinds", "proposition-1"),
    "Leakage": ("leakage-table", "leakage"),
    "The released code": ("presets", "deviations", "deviations-drawn"),
    "Time": ("table-3",),
}
"""What stands below the claims, by name in the catalogue."""


def written(sources: Sources) -> tuple[str, dict[str, str]]:
    """The text of RESULTS.md, and its pictures by file name."""
    found = findings(sources.study)
    pictures: dict[str, str] = {}
    lines = ["# What came of the paper's claims", "", *_head(sources.study, found), "", "## Claims", ""]
    table = claims_table(found)
    lines += [to_markdown(table.cells, table.caption)]
    for section, names in SECTIONS.items():
        lines += [f"## {section}", ""]
        for name in names:
            lines += _exhibit(name, sources, pictures)
    return "\n".join(lines), pictures


def _head(study: RecordedStudy, found: Sequence[Finding]) -> Iterator[str]:
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in VERDICTS}
    runs = study.runs
    commits = ", ".join(sorted({commit[:9] for commit in runs["git_commit"] if commit}))
    days = sorted({f"{day:%Y-%m-%d}" for day in runs["started_at"]})
    yield (
        f"*Written by `python -m analysis.results` from the recorded study in `analysis/recorded/`. "
        f"`{study.about.command}` made that: {len(runs)} runs of {counted(runs['last_step'])} steps of the model "
        f"{', '.join(sorted(set(runs['model'])))}, commit {commits}, {' to '.join(days)}; {study.about.machine}.*"
    )
    yield ""
    if study.about.scale == "pocket":
        yield (
            "These are results on Pocket Geo3k: a model of 0.59 million parameters, drawn problems, 30 steps. They say "
            "which claims show at this scale, and nothing about the paper's own models, whose effects may have another "
            "size: a number with its interval says more than its verdict. What the pocket model cannot test is said in "
            "the README."
        )
        yield ""
    yield f"Of {len(found)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + "."


def _exhibit(name: str, sources: Sources, pictures: dict[str, str]) -> list[str]:
    exhibit = PAPER[name]
    lines = [f"### {exhibit.title} ({exhibit.reference})", ""]
    built = exhibit.build(sources)
    if isinstance(built, PaperTable):
        return [*lines, to_markdown(built.cells, built.caption, built.bold)]
    pictures[f"{name}.svg"] = svg(built.figure) if isinstance(built, Drawn) else _drawing(built)
    return [
        *lines,
        f"![{markdown(exhibit.title)}]({(PICTURES / name).as_posix()}.svg)",
        "",
        markdown(built.caption),
        "",
    ]


def _drawing(plate: Plate) -> str:
    return plate.svg


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file and its pictures."""
    parser = argparse.ArgumentParser(prog="python -m analysis.results", description=__doc__)
    parser.add_argument("--study", type=Path, default=FOLDER, help="a recorded study; default: the one that ships")
    parser.add_argument("--out", type=Path, default=ROOT, help="where RESULTS.md and its pictures go")
    options = parser.parse_args(argv)
    try:
        text, pictures = written(sources(options.study))
    except InputError as error:
        say(str(error))
        return 2
    (options.out / PICTURES).mkdir(parents=True, exist_ok=True)
    (options.out / "RESULTS.md").write_text(text, encoding="utf-8")
    for name, drawing in pictures.items():
        (options.out / PICTURES / name).write_text(drawing, encoding="utf-8")
    print(options.out / "RESULTS.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
