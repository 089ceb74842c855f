"""The runs behind the paper's figures and tables: `python -m analysis.study`.

First every method tries the same learning rates and keeps its best; then every arm of `study.yaml` trains from its
seeds; then some of the runs are asked the benchmarks, and their held-out problems with the answer shown. What it all
comes to is recorded in a few small files. What is finished or recorded is not done again and a run cut short goes on,
so the command can be stopped and repeated.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from analysis.collect import Workplace, collect
from analysis.jobs import Crew, Job
from analysis.matrix import Run, Study, best_rate, study_of
from analysis.recorded import About, RecordedStudy, read_study, write_study
from core.console import say
from core.errors import InputError
from core.methods import METHODS

DESCRIPTION = """Train the runs of the study, ask some of them besides, and record what it all comes to. What is
finished or recorded is not done again and a run cut short goes on, so the command can be stopped and repeated."""
EXIT_BAD_INPUT, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 2, 3, 130


def train(runs: Sequence[Run], place: Workplace, crew: Crew, what: str) -> None:
    """Train the runs that are neither finished nor recorded."""
    missing = [run for run in runs if not place.is_finished(run)]

    def job(run: Run) -> Job:
        def command() -> list[str | Path]:
            if place.file(run).path.exists():
                return ["core.train", "--resume", place.folder(run)]
            shutil.rmtree(place.folder(run), ignore_errors=True)  # killed before its file was there: nothing is in it
            configuration = place.runs_dir / "configs" / f"{run.run_id}.yaml"
            run.write(configuration)
            return ["core.train", "--config", configuration, "--runs-dir", place.runs_dir, "--run-id", run.run_id]

        return Job(run.run_id, command)

    crew.do([job(run) for run in missing], what)


def ask(study: Study, rates: Mapping[str, float], only: Sequence[str], place: Workplace, crew: Crew) -> None:
    """Ask the finished runs what their groups want to know besides."""
    told = [run for run in study.runs(rates, only, "told") if place.lacks_told(run)]
    crew.do([Job(run.run_id, lambda run=run: ["core.told", place.folder(run)]) for run in told], "answer shown")
    asked, done = study.runs(rates, only, "benchmarks"), place.evaluated()
    models = [run for run in asked if place.is_trained(run) and run.run_id not in done]
    base = bool(asked) and None not in done
    where = ["--evals-dir", place.evals_dir]
    if study.at.data_root is not None:
        where += ["--data-root", study.at.data_root]
        if (base or models) and not Path(study.at.data_root).exists():
            crew.do([Job("data", lambda: ["eval.pocket", "--out", str(study.at.data_root)])], "benchmarks: data")
    jobs = [Job("base", lambda: ["eval.run", "--model", study.base_model, *where])] if base else []
    jobs += [Job(run.run_id, lambda run=run: ["eval.run", "--model", place.folder(run), *where]) for run in models]
    crew.do(jobs, "benchmarks")


def chosen_rates(study: Study, scores: Mapping[str, Mapping[float, float]]) -> dict[str, float]:
    """Each method's learning rate; only of methods whose search is complete."""
    rates = len(study.at.learning_rates)
    return {method: best_rate(found) for method, found in scores.items() if len(found) == rates}


def search_table(scores: Mapping[str, Mapping[float, float]], rates: Mapping[str, float]) -> Table:
    """What the search found."""
    columns = sorted({rate for found in scores.values() for rate in found})
    table = Table("method", *(f"{rate:g}" for rate in columns), box=SIMPLE, title="Search: held-out accuracy, * chosen")
    for method, found in scores.items():
        cells = [f"{found[r]:.1%}{' *' if rates.get(method) == r else ''}" if r in found else "–" for r in columns]
        table.add_row(method, *cells)
    return table


def matrix_table(study: Study, place: Workplace, rates: Mapping[str, float], only: Sequence[str]) -> Table:
    """Every arm, what it is for, and how many of its runs are finished."""
    table = Table("arm", "method", "seeds", "finished", box=SIMPLE, title=f"Study at scale {study.scale}")
    titled = ""
    for group, arm in study.names(only):
        asked = study.matrix.groups[group]
        if group != titled:
            table.add_row(f"[bold]{asked.title}[/bold] [dim]{asked.reference}[/dim]", "", "", "")
            titled = group
        method, finished = asked.arms[arm].method, "0"
        if method in rates:
            finished = str(sum(place.is_finished(run) for run in study.arm_runs(group, arm, rates)))
        table.add_row(f"  {group}/{arm}", method, str(len(asked.seeds)), finished)
    return table


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m analysis.study", description=DESCRIPTION)
    parser.add_argument("--config", type=Path, help="a configuration of core/configs: the scale; default pocket")
    parser.add_argument("--only", action="append", default=[], metavar="GROUP[/ARM]", help="some of it; repeatable")
    parser.add_argument("--list", action="store_true", help="show the matrix and what is finished, train nothing")
    parser.add_argument("--runs-dir", type=Path, help="default: runs/study-SCALE")
    parser.add_argument("--out", type=Path, help="where the record goes, and is extended; default: RUNS_DIR/recorded")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one process each; default 2")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    return parser.parse_args(argv)


def about(study: Study, rates: Mapping[str, float], options: argparse.Namespace) -> About:
    """What makes the record."""
    asked = [("--config", study.at.config)] if study.scale != "pocket" else []
    asked += [("--only", name) for name in options.only]
    command = shlex.join(["python", "-m", "analysis.study", *(part for pair in asked for part in pair)])
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {options.workers} runs at a time"
    return About(study.scale, command, dict(rates), machine)


def carry_out(study: Study, options: argparse.Namespace, place: Workplace, crew: Crew) -> RecordedStudy | None:
    """Search, train, ask, record; nothing is recorded before every method has its learning rate."""
    searched = study.search_runs()
    if not options.list:
        train([run for runs in searched.values() for run in runs.values()], place, crew, "search")
    scores = place.scores(searched)
    rates = chosen_rates(study, scores)
    if not options.list and len(rates) == len(METHODS):
        crew.console.print(search_table(scores, rates))
        train(study.runs(rates, options.only), place, crew, "study")
        ask(study, rates, options.only, place, crew)
    crew.console.print(matrix_table(study, place, rates, options.only))
    if options.list or len(rates) < len(METHODS):
        return None
    return collect(study, about(study, rates, options), place)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 bad input, 3 a run failed, 130 interrupted."""
    options = parse(argv)
    console = Console(stderr=options.json)
    try:
        study = study_of(options.config)
        list(study.names(options.only))  # a name that is wrong is told before anything trains
        runs_dir = options.runs_dir or Path("runs") / f"study-{study.scale}"
        out = options.out or runs_dir / "recorded"
        recorded = read_study(out) if (out / "study.json").exists() else None
        place, crew = Workplace(runs_dir, recorded), Crew(runs_dir, options.workers, console)
        found = carry_out(study, options, place, crew)
        if found is not None:
            write_study(found, out)
            console.print(f"recorded {len(found.runs)} runs and {len(found.evaluations)} evaluations in {out}")
    except InputError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted: what has trained is kept, and the same command goes on")
        return EXIT_INTERRUPTED
    for name, reason in crew.failures.items():
        say(f"{name}: {reason}")
    if options.json:
        runs = 0 if found is None else len(found.runs)
        print(json.dumps({"scale": study.scale, "out": str(out), "runs": runs, "failures": crew.failures}))
    return EXIT_SOME_FAILED if crew.failures else 0


if __name__ == "__main__":
    sys.exit(main())
