"""Notebooks hold no logic and no output, run from top to bottom, and show the whole catalogue."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from analysis.catalogue import PAPER

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CODE = re.compile(
    r"from analysis\.notebook import show, sources(, verdicts)?\n\nstudy = sources\(\)"
    r'|show\("[a-z0-9-]+", study\)|verdicts\(study(, "[A-Za-z0-9. ]+")+\)'
)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def shown(path: Path) -> set[str]:
    """The entries of the catalogue that a notebook shows."""
    return {name for cell in read(path).cells for name in re.findall(r'^show\("([a-z0-9-]+)"', cell.source)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_the_catalogue_and_nothing_else(path):
    notebook = read(path)
    assert len(notebook.cells) <= 10
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert CODE.fullmatch(cell.source), cell.source
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_the_paper_says_and_what_we_measured(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ")
    assert "**Here" in prose[-1]


def test_the_notebooks_together_show_the_whole_catalogue():
    assert set().union(*map(shown, NOTEBOOKS)) == PAPER.keys()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Iterator[KernelManager]:
    """One kernel for all: most of a notebook's time is the import of what the first one has imported already."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("notebooks")))
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_leaves_its_pictures(path, kernel, tmp_path):
    notebook = read(path)
    before = nbformat.v4.new_code_cell(f"%reset -f\nimport os; os.chdir({str(tmp_path)!r})")
    notebook.cells.insert(0, before)
    NotebookClient(notebook, km=kernel, timeout=240).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"][2:]
    assert all(len(each) == 1 and "text/html" in each[0].data for each in outputs)
    files = list((tmp_path / "figures").iterdir())
    assert {file.stem for file in files} == shown(path)
    assert {file.suffix for file in files} <= {".svg", ".pdf", ".csv", ".tex"}
