"""Who may import whom: the contracts of pyproject.toml hold, and would notice."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess:
    """Run import-linter on the packages in a folder, which come before the installed ones."""
    command = [sys.executable, "-c", LINT]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages' sources, to be broken."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("core", "analysis", "app", "eval"):
        only_sources = shutil.ignore_patterns("__pycache__", "base")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=only_sources)
    return tmp_path


def test_the_layers_and_the_pure_modules_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "5 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/credit.py", "import transformers", "the maths and the records are pure"),
        ("core/hints.py", "import core.runfile", "the maths and the records are pure"),
        ("core/run.py", "import analysis", "app above analysis and eval, those above core"),
        ("analysis/measures.py", "import streamlit", "analysis knows neither models nor the page"),
        ("analysis/figures/forest.py", "import duckdb", "in analysis only the stores open files"),
        ("eval/__init__.py", "import analysis", "app above analysis and eval, those above core"),
    ],
)
def test_a_wrong_import_is_noticed(module: str, line: str, contract: str, copy: Path) -> None:
    path = copy / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{contract} BROKEN" in result.stdout
