"""The matrix of a study (`study.yaml`): which runs the paper's figures and tables need, and which of them are one run.

A group answers one question by its arms, an arm is one configuration trained from several seeds. A run is named after
what it resolves to, so arms that mean the same thing share it, and a changed setting is another run.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.config import TrainConfig, load_config, to_tree, write_config
from core.errors import InputError
from core.methods import METHODS

ROOT = Path(__file__).parent.parent
STUDY = Path(__file__).parent / "study.yaml"

Flags = dict[str, Any]
"""Dotted paths of `TrainConfig` to values."""
Asked = Literal["told", "benchmarks", "evidence"]
"""What a finished run is asked besides: its held-out problems with the answer shown (`core.told`), the benchmarks
(`eval.run`), or its evidence by kind of token (`analysis.evidence`)."""


class Strict(BaseModel):
    """Part of the file; a key that nothing reads is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Arm(Strict):
    """One configuration: what it changes in the group's."""

    method: str = "cepo"
    files: tuple[str, ...] = ()
    """Overlays after the scale's own configuration."""
    flags: Flags = {}
    learning_rate: float = Field(1.0, gt=0)
    """Times the rate that the search chose for the method."""


class Group(Strict):
    """One question."""

    title: str
    reference: str
    """Where the paper asks it."""
    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    flags: Flags = {}
    asked: tuple[Asked, ...] = ()


class Scale(Strict):
    """A model and its data: what every run of a study at that scale begins with."""

    config: str
    learning_rates: tuple[float, ...]
    """What the search tries, the same for every method."""
    flags: Flags = {}
    arms: dict[str, Flags] = {}
    """What an arm, `GROUP/ARM`, needs besides at this scale."""
    data_root: str | None = None
    """Benchmarks from files made by `eval.pocket`; None: from the hub."""


class Search(Strict):
    """How a method's learning rate is chosen."""

    seed: int
    flags: Flags


class Matrix(Strict):
    """The whole study."""

    scales: dict[str, Scale]
    search: Search
    groups: dict[str, Group]


@dataclass(frozen=True)
class Run:
    """One training run."""

    config: TrainConfig

    @property
    def run_id(self) -> str:
        """Method, seed, and what tells its configuration from all others."""
        tree = to_tree(self.config)
        seed = tree.pop("seed")
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        return f"{self.config.method.name}-{digest[:8]}-s{seed}"

    def write(self, path: Path) -> None:
        """Save its whole configuration, for `python -m core.train --config`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_config(self.config, path)


@dataclass(frozen=True)
class Study:
    """A matrix at one scale."""

    matrix: Matrix
    scale: str

    @property
    def at(self) -> Scale:
        """What belongs to the scale."""
        return self.matrix.scales[self.scale]

    @property
    def base_model(self) -> str:
        """What every run begins with."""
        return load_config([ROOT / self.at.config]).model.path

    def _config(self, method: str, files: Sequence[str], flags: Flags) -> TrainConfig:
        paths = [ROOT / name for name in (self.at.config, *files)]
        return load_config(paths, self.at.flags | flags, method)

    def search_runs(self) -> dict[str, dict[float, Run]]:
        """By method and learning rate, the runs that choose one."""
        search = self.matrix.search
        return {
            method: {
                rate: Run(self._config(method, (), search.flags | {"seed": search.seed, "method.learning_rate": rate}))
                for rate in self.at.learning_rates
            }
            for method in METHODS
        }

    def arm_runs(self, group: str, arm: str, rates: Mapping[str, float]) -> tuple[Run, ...]:
        """The runs of an arm, one a seed.

        Args:
            group: its group.
            arm: its name there.
            rates: each method's learning rate, as the search chose it.
        """
        asked = self.matrix.groups[group]
        own = asked.arms[arm]
        # to six digits: a fifth of a rate is a number somebody would write
        rate = float(f"{rates[own.method] * own.learning_rate:.6g}")
        flags = asked.flags | own.flags | self.at.arms.get(f"{group}/{arm}", {})
        flags = {"method.learning_rate": rate} | flags
        return tuple(Run(self._config(own.method, own.files, flags | {"seed": seed})) for seed in asked.seeds)

    def runs(self, rates: Mapping[str, float], only: Sequence[str] = (), asked: Asked | None = None) -> list[Run]:
        """The runs of the arms asked for, each once, in the order of the file; only of groups asked something."""
        groups = self.matrix.groups
        names = [name for name in self.names(only) if asked is None or asked in groups[name[0]].asked]
        return list(dict.fromkeys(run for name in names for run in self.arm_runs(*name, rates)))

    def names(self, only: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
        """Groups and arms in their order, those named by `GROUP` or `GROUP/ARM` where any are."""
        known = [(group, arm) for group, asked in self.matrix.groups.items() for arm in asked.arms]
        for name in only:
            if name not in self.matrix.groups and tuple(name.split("/", 1)) not in known:
                raise InputError(
                    f"--only {name}: expected a group or GROUP/ARM of the study; groups are "
                    f"{', '.join(self.matrix.groups)}"
                )
        for group, arm in known:
            if not only or group in only or f"{group}/{arm}" in only:
                yield group, arm


def best_rate(scores: Mapping[float, float]) -> float:
    """The learning rate with the best score; the smaller one among equals."""
    return max(scores, key=lambda rate: (scores[rate], -rate))


def read_matrix(path: Path) -> Matrix:
    """The matrix from its file."""
    try:
        return Matrix.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"study {path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"study {path}: is not YAML ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"study {path}: {where}: {first['msg']}, got {first['input']!r}") from None


def study_of(config: Path | None = None) -> Study:
    """The study at the scale that a configuration belongs to; pocket without one."""
    matrix = read_matrix(STUDY)
    if config is None:
        return Study(matrix, "pocket")
    for name, scale in matrix.scales.items():
        if (ROOT / scale.config).resolve() == config.resolve():
            return Study(matrix, name)
    known = ", ".join(scale.config for scale in matrix.scales.values())
    raise InputError(f"--config {config}: the study has no scale for it; expected one of {known}")
