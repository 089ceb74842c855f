"""What the benchmarks measure with: CPU seconds of interleaved repetitions, peak memory of a process, the machine."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Seconds:
    """CPU seconds of one thing, measured several times."""

    median: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, measured: list[float]) -> "Seconds":
        """The middle and the ends of what was measured."""
        return cls(statistics.median(measured), min(measured), max(measured), len(measured))

    def __str__(self) -> str:
        """Median, and the range in brackets."""
        return f"{self.median:.3g} ({self.least:.3g} to {self.most:.3g})"


def interleaved(
    functions: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1
) -> dict[str, Seconds]:
    """CPU seconds of each function, taken in turns, so that a busy moment of the machine falls on all of them."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for repetition in range(warm_up + repetitions):
        for name, function in functions.items():
            gc.collect()
            started = time.process_time()
            function()
            seconds = time.process_time() - started
            if repetition >= warm_up:
                found[name].append(seconds)
    return {name: Seconds.of(measured) for name, measured in found.items()}


def peak_mib_above_now(function: Callable[[], object]) -> float:
    """MiB that a call needs at its peak beyond what the process holds already; Linux."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the peak to what is held now
    before = _status_mib("VmRSS")
    function()
    return _status_mib("VmHWM") - before


def _status_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def machine() -> dict[str, Any]:
    """Where a number comes from: processor, cores, load, threads and versions."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ("torch", "transformers", "peft", "duckdb")
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
