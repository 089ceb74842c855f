"""Record the example that ships with Credence: `python -m benchmarks.example`.

Five short runs by the trainer as it is, one a method, small enough for the repository: 4 problems a step, 12 steps, λ
falling to 0 over the first 6. Their run files are then copied block by block into smaller ones, row for row the same.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

from analysis.store import EXAMPLE_DIR
from core.methods import METHODS

STEPS = 12
SETTINGS = (
    "--steps", str(STEPS), "--seed", "0", "--rollouts.problems-per-step", "4",
    "--optimizer.groups-per-micro-batch", "4", "--validation.every", "3", "--validation.problems", "64",
)  # fmt: skip
BLOCK_SIZE = 16384
"""Bytes; DuckDB's smallest. A file of twelve steps would be three times as large at the default."""


def train(method: str, runs_dir: Path) -> Path:
    """One run; its folder."""
    warmup = ("--method.warmup-steps", str(STEPS // 2)) if method in ("rlsd", "cepo") else ()
    command = [sys.executable, "-m", "core.train", "--method", method, "--runs-dir", str(runs_dir), "--run-id", method]
    subprocess.run([*command, *SETTINGS, *warmup], check=True)
    return runs_dir / method


def copy_compactly(source: Path, target: Path) -> None:
    """The same tables, comments and macros in a file of small blocks."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{source}' AS source (READ_ONLY)")
        connection.execute(f"ATTACH '{target}' AS target (BLOCK_SIZE {BLOCK_SIZE}, STORAGE_VERSION 'v1.5.0')")
        connection.execute("COPY FROM DATABASE source TO target")


def main() -> None:
    """Replace the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=EXAMPLE_DIR)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            recorded = train(method, Path(folder))
            shutil.rmtree(out / method, ignore_errors=True)
            (out / method).mkdir(parents=True)
            copy_compactly(recorded / "run.duckdb", out / method / "run.duckdb")
            shutil.copy(recorded / "config.yaml", out / method)


if __name__ == "__main__":
    main()
