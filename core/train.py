"""Train: `python -m core.train --method cepo --steps 30`; `--help` lists everything."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tyro
import yaml

from core.config import TrainConfig, load_config, read_config
from core.console import console_for, say
from core.errors import InputError

USAGE = """\
python -m core.train [--config FILE]... [--method NAME] [--SECTION.OPTION VALUE ...]
                     [--runs-dir DIR] [--run-id NAME] [--json]
python -m core.train --resume RUN_FOLDER

--config FILE     YAML, merged left to right; default core/configs/pocket.yaml
--method NAME     grpo, opsd, sdpo, rlsd or cepo (default); its options are --method.OPTION
--runs-dir DIR    where runs/<run id> is made; default runs
--run-id NAME     default: method, seed and time
--resume FOLDER   go on with a run, with the configuration it was started with
--json            print one JSON object as the last line
"""
EXIT_BAD_INPUT, EXIT_INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 done, 1 failed, 2 bad input, 130 interrupted and saved."""
    try:
        return train(sys.argv[1:] if argv is None else argv)
    except InputError as error:
        say(str(error))
        return EXIT_BAD_INPUT


def train(argv: Sequence[str]) -> int:
    """Parse, train, and say how it ended."""
    options, flags = parse(argv)
    if options.help:
        config = load_config(options.config, flags, options.method)
        print(USAGE)
        shown = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
        tyro.cli(TrainConfig, default=config, args=["--help"], prog="python -m core.train", config=shown)
    if options.resume:
        folder, config = options.resume, resumed_config(options, flags)
    else:
        config = load_config(options.config, flags, options.method)
        folder = run_folder(options.runs_dir or Path("runs"), options.run_id or default_run_id(config))
    from core.run import run  # torch and transformers load only for a command that is going to train

    console = console_for(config, as_json=options.json)
    summary = run(config, folder, console, resume=options.resume is not None)
    console.finish(summary)
    if options.json:
        print(json.dumps(asdict(summary) | {"folder": str(summary.folder)}))
    return EXIT_INTERRUPTED if summary.status == "interrupted" else 0


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The command's own options, and the configuration's flags as dotted paths to values."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path, action="append", default=[])
    parser.add_argument("--method")
    parser.add_argument("--runs-dir", type=Path)
    parser.add_argument("--run-id")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    try:
        options, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise InputError(f"{error.argument_name}: {error.message}") from None
    flags = {}
    while rest:
        flag, *rest = rest
        name, equals, value = flag.partition("=")
        if not name.startswith("--"):
            raise InputError(f"{flag!r}: expected an option such as --steps 30; see --help")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise InputError(f"{name}: expected a value after it")
            value, *rest = rest
        try:
            flags[name.removeprefix("--").replace("-", "_")] = yaml.safe_load(value)
        except yaml.YAMLError:
            flags[name.removeprefix("--").replace("-", "_")] = value
    return options, flags


def resumed_config(options: argparse.Namespace, flags: dict[str, Any]) -> TrainConfig:
    """The configuration a run was started with; nothing may change half-way."""
    given = [name for name in ("config", "method", "runs_dir", "run_id") if getattr(options, name)] + list(flags)
    if given:
        raise InputError(f"--resume takes the run's own configuration; leave out --{given[0].replace('_', '-')}")
    saved = options.resume / "config.yaml"
    if not saved.is_file():
        raise InputError(f"--resume {options.resume}: holds no config.yaml; give the folder of an earlier run")
    return read_config(saved)


def run_folder(runs_dir: Path, run_id: str) -> Path:
    """Where a new run goes: a folder of its own, directly below the runs."""
    if run_id in ("", ".", "..") or Path(run_id).name != run_id:
        raise InputError(f"--run-id {run_id!r}: expected a name without folders; choose the place with --runs-dir")
    above = next(path for path in (runs_dir, *runs_dir.absolute().parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"--runs-dir {runs_dir}: {above} is no folder that can be written; choose another")
    return runs_dir / run_id


def default_run_id(config: TrainConfig) -> str:
    """Method, seed and time of the start."""
    return f"{config.method.name}-s{config.seed}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


if __name__ == "__main__":
    sys.exit(main())
