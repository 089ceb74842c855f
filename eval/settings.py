"""What makes an evaluation this one: weights, engine, prompt, sampling, data. Its name is made from them."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from core.errors import InputError
from core.sampling import Sampling
from eval.questions import PromptVariant
from eval.tasks import Benchmark
from eval.weights import Weights

LONGEST_SLUG = 40
"""Characters of the label in the name of an evaluation, which names folders too."""


@dataclass(frozen=True)
class Data:
    """Where the items come from: the benchmarks' own data sets on the hub, or parquet files in their schema."""

    root: Path | None = None
    digest: str = ""
    """Of the files below the root; empty for the hub."""

    @property
    def name(self) -> str:
        """As the evaluation file says it."""
        return "hub" if self.root is None else str(self.root)

    def folder(self, benchmark: Benchmark) -> Path | None:
        """Where a benchmark's files lie; None for the hub."""
        return None if self.root is None else self.root / benchmark.folder

    def size(self, benchmark: Benchmark) -> int:
        """How many items it has."""
        if self.root is None:
            return benchmark.size
        return sum(pq.read_metadata(file).num_rows for file in _files(self.root / benchmark.folder))


def local_data(root: Path, benchmarks: Sequence[Benchmark]) -> Data:
    """The data below a folder, checked to hold every benchmark asked for."""
    if not root.is_dir():
        raise InputError(f"--data-root {root}: no such folder; python -m eval.pocket --out {root} makes a small one")
    digest = hashlib.sha256()
    for benchmark in benchmarks:
        folder = root / benchmark.folder
        if not _files(folder):
            raise InputError(
                f"--data-root {root}: expected parquet files of {benchmark.name} in {folder}, as the data set on the "
                f"hub has them; leave {benchmark.name} out of --tasks or put them there"
            )
        for file in _files(folder):
            try:
                pq.read_metadata(file)
            except (ArrowInvalid, OSError) as error:
                raise InputError(f"{file}: cannot be read as parquet ({error}); fetch or make it again") from None
    for file in sorted(root.glob("*/**/*.parquet")):
        digest.update(str(file.relative_to(root)).encode())
        digest.update(file.read_bytes())
    return Data(root, digest.hexdigest())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.parquet"))


@dataclass(frozen=True)
class Settings:
    """Everything that an answer or its score may depend on, except the benchmark and the seed."""

    weights: Weights
    backend: str
    prompt: PromptVariant
    sampling: Sampling
    data: Data
    limit: int | None
    """Items of each benchmark, from its first; None takes all."""

    def size(self, benchmark: Benchmark) -> int:
        """How many items of a benchmark are asked."""
        size = self.data.size(benchmark)
        return size if self.limit is None else min(size, self.limit)

    @property
    def eval_id(self) -> str:
        """Name of the evaluation: the same settings give the same name, and so go on where they stopped."""
        told = {
            "weights": self.weights.digest,
            "model": self.weights.model,
            "adapter": self.weights.adapter_name,
            "backend": self.backend,
            "prompt": self.prompt,
            "sampling": dataclasses.asdict(self.sampling),
            "data": self.data.digest or self.data.name,
            "limit": self.limit,
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        slug = re.sub(r"[^a-z0-9.]+", "-", self.weights.label.lower()[:LONGEST_SLUG]).strip("-.")
        return f"{slug or 'model'}-{digest[:8]}"
