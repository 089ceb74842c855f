"""Evaluate: `python -m eval.run --tasks dynamath,logicvista --model PATH_OR_HUB_ID`; `--help` lists everything."""

import argparse
import io
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from core.console import say
from core.errors import EngineError, InputError
from core.sampling import Sampling
from eval.install import check_installed
from eval.tasks import BENCHMARKS, PAPER, Benchmark, benchmarks

EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED = 2, 3, 130

LARGEST_SEED = 2**31 - 1
"""What the evaluation file has room for."""

PAPER_SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 40,
    "presence_penalty": 2.0,
    "max_new_tokens": 32_000,
}
"""As the paper evaluates."""


@dataclass(frozen=True)
class Options:
    """What the command line asks for, checked as far as that goes without a model."""

    benchmarks: tuple[Benchmark, ...]
    seeds: tuple[int, ...]
    sampling: Sampling
    arguments: argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 2 bad input, 3 a benchmark or the engine failed, 130 interrupted; answers are kept."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        check_installed()
        with redirect_stdout(io.StringIO()):  # latex2sympy2 prints when it is imported
            from eval.evaluation import run  # lmms-eval, torch and transformers load only for what can start

        with _terminable():
            outcome = run(options)
    except InputError as error:
        say(str(error))
        return EXIT_BAD_INPUT
    except EngineError as error:
        say(f"{error}; what was answered is kept, and the same command goes on from there")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("interrupted; what was answered is kept, and the same command goes on from there")
        return EXIT_INTERRUPTED
    if options.arguments.json:
        print(json.dumps(outcome.report))
    return EXIT_FAILED if outcome.failed else 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        """Bad input."""
        raise InputError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = _Parser(prog="python -m eval.run", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--tasks", default=",".join(PAPER), help=f"comma-separated, of {', '.join(BENCHMARKS)}; default: the paper's")
    add("--model", help="hub id, model folder, run folder or adapter folder; default: the pocket base")
    add("--adapter", type=Path, metavar="DIR", help="LoRA in PEFT's format, put on the model")
    add("--data-root", type=Path, metavar="DIR", help="parquet files in the benchmarks' schema; default: the hub")
    add("--evals-dir", type=Path, default=Path("evals"), metavar="DIR", help="where evaluations go; default: evals")
    add("--limit", type=int, metavar="N", help="only the first N items of each benchmark")
    add("--seeds", default="0", help="comma-separated seeds of the sampler; each answers everything; default: 0")
    add("--label", help="how tables call it; default: the method that trained it")
    add("--prompt", choices=("official", "student"), help="as the benchmark asks, or as training does; default: "
        "official, and student for the pocket model, which knows no other")  # fmt: skip
    add("--backend", choices=("transformers", "vllm"), help="default: vllm where it is installed beside a GPU")
    for name, value in PAPER_SAMPLING.items():
        add(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default: {value}, as the paper")
    add("--yes", action="store_true", help="start even if it will take many hours")
    add("--json", action="store_true", help="print one JSON object as the last line")
    return parser


def parse(argv: Sequence[str]) -> Options:
    """Read the command line; one line for the first thing that is wrong."""
    arguments = parser().parse_args(argv)
    try:
        seeds = tuple(dict.fromkeys(int(seed) for seed in arguments.seeds.split(",")))
    except ValueError:
        raise InputError(f"--seeds: expected whole numbers such as 0,1,2, got {arguments.seeds!r}") from None
    if arguments.limit is not None and arguments.limit < 1:
        raise InputError(f"--limit: expected at least 1, got {arguments.limit}")
    try:
        sampling = Sampling(**{name: getattr(arguments, name) for name in PAPER_SAMPLING})
    except InputError as error:
        name, _, rest = str(error).partition(":")
        raise InputError(f"--{name.replace('_', '-')}:{rest}") from None
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise InputError(f"--seeds: expected numbers from 0 to {LARGEST_SEED}, got {seed}")
    return Options(tuple(benchmarks(arguments.tasks.split(","))), seeds, sampling, arguments)


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


if __name__ == "__main__":
    sys.exit(main())
