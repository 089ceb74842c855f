"""Compare finished runs in the terminal: `python -m core.summary RUNS_DIR`."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.console import percent, printable, say
from core.errors import InputError
from core.runfile import reading


@dataclass(frozen=True)
class RunLine:
    """One run in a row; shares in [0, 1]."""

    method: str
    status: str
    steps: int
    val_start: float | None
    val_end: float | None
    val_n: int
    accuracy: float | None
    delta_positive: float | None
    delta_negative: float | None
    clip_rate: float | None
    tokens: int
    seconds_per_step: float | None
    run_file: str


QUERY = """
SELECT r.method, r.status, r.last_step,
  (SELECT avg(is_correct::DOUBLE) FROM validation WHERE step = 0),
  (SELECT avg(is_correct::DOUBLE) FROM validation WHERE step = (SELECT max(step) FROM validation) AND step > 0),
  (SELECT count(*) FROM validation WHERE step = 0),
  avg(s.accuracy), avg(s.delta_positive), avg(s.delta_negative), avg(s.evidence_clip_low + s.evidence_clip_high),
  coalesce(sum(s.n_tokens), 0)::BIGINT, avg(s.seconds_total - s.seconds_validate)
FROM run r LEFT JOIN steps s ON true GROUP BY ALL
"""


def line_of(run_file: Path) -> RunLine:
    """Read one run file."""
    with reading(run_file) as connection:
        return RunLine(*connection.execute(QUERY).fetchall()[0], run_file=str(run_file))


def lines_in(folder: Path) -> list[RunLine]:
    """Every run below a folder, by path."""
    files = sorted(folder.rglob("run.duckdb"))
    if not files:
        raise InputError(f"{folder}: holds no run; train one with python -m core.train --runs-dir {folder}")
    return [line_of(file) for file in files]


def table_of(lines: list[RunLine]) -> Table:
    """The runs side by side."""
    caption = "held-out: one response to each of n problems, before → after; the rest: means over steps"
    columns = ("method", "steps", "held-out", "n", "train", "Δ>0", "Δ<0", "clip", "s/step")
    table = Table(*columns, box=SIMPLE, caption=caption, pad_edge=False)
    for line in lines:
        steps = str(line.steps) if line.status == "finished" else f"{line.steps} {line.status}"
        seconds = "–" if line.seconds_per_step is None else f"{line.seconds_per_step:.1f}"
        cells = [line.method, steps, f"{percent(line.val_start)} → {percent(line.val_end)}", str(line.val_n)]
        cells += [percent(line.accuracy), percent(line.delta_positive), percent(line.delta_negative)]
        cells += [percent(line.clip_rate), seconds]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def main() -> int:
    """Print the table; with --json one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    try:
        lines = lines_in(arguments.folder)
    except InputError as error:
        say(str(error))
        return 2
    console = Console(stderr=arguments.json)
    console.print(table_of(lines))
    for line in lines:
        console.print(Text(printable(f"  {line.method}: {line.run_file}")), soft_wrap=True)
    if arguments.json:
        print(json.dumps({"runs": [asdict(line) for line in lines]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
