"""Base, GRPO and CEPO on the pocket benchmarks, paired: `python -m benchmarks.evaluations`.

Trains the same number of steps from the same seeds, each method at its own learning rate in `core/configs/pocket.yaml`
(the best of one grid), evaluates every checkpoint as `python -m eval.run` does, and compares item by item as the
workbench does. What is finished is not done again, so the command can be stopped and repeated.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.comparison import compare, reading
from analysis.contenders import PairedContest, contenders, notes
from analysis.eval_store import EvalStore
from analysis.tables.benchmarks import benchmark_table
from analysis.tables.export import to_markdown
from eval.pocket import write

METHODS = ("grpo", "cepo")


def run(*arguments: str | Path) -> None:
    """A Python command, which must not fail."""
    subprocess.run([sys.executable, "-m", *map(str, arguments)], check=True)


def train(method: str, seed: int, steps: int, runs_dir: Path) -> Path:
    """The folder of a finished run."""
    folder = runs_dir / f"{method}-s{seed}"
    if (folder / "model").is_dir():
        return folder
    if (folder / "run.duckdb").exists():
        run("core.train", "--resume", folder)
    else:
        options = ("--method", method, "--seed", str(seed), "--steps", str(steps))
        run("core.train", *options, "--runs-dir", runs_dir, "--run-id", folder.name)
    return folder


def tell(evals_dir: Path) -> None:
    """The table, what it says, and the training runs behind it."""
    evaluations, unreadable = EvalStore(evals_dir).read()
    for each in unreadable:
        print(each.reason)
    contest = PairedContest(tuple(contenders(evaluations, "pocket")))
    table = compare(contest, "GRPO")
    laid_out = benchmark_table(table, "GRPO", "se", "cluster", "paired")
    print(to_markdown(laid_out.cells, laid_out.caption, laid_out.bold))
    for label in contest.labels:
        if label != "GRPO":
            print(reading(table, label, "GRPO"))
    print(*notes(contest, "GRPO"), sep="\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/evaluations"))
    parser.add_argument("--evals-dir", type=Path, default=Path("evals/pocket"))
    parser.add_argument("--data-root", type=Path, default=Path("data/pocket_benchmarks"))
    options = parser.parse_args(arguments)
    write(options.data_root, 0)
    weights: list[Path | str] = ["pocket"]
    weights += [train(m, seed, options.steps, options.runs_dir) for seed in options.seeds for m in METHODS]
    for model in weights:
        run("eval.run", "--model", model, "--data-root", options.data_root, "--evals-dir", options.evals_dir)
    tell(options.evals_dir)


if __name__ == "__main__":
    main()
