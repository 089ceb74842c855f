"""PAPER.md is true both ways: what it names exists and says so, and what docstrings name stands in it."""

import ast
import importlib
import re
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis.catalogue import PAPER as PAPER_EXHIBITS

ROOT = Path(__file__).parents[1]
PAPER = {
    *(f"Eq. {n}" for n in range(1, 8)),
    "Algorithm 1",
    *(f"Theorem 1 {part}" for part in ("i", "ii", "iii")),
    "Proposition 1",
    *(f"Table {n}" for n in range(1, 8)),
    *(f"Figure {n}" for n in range(1, 6)),
    "Appendix B",
}
TAG = re.compile(
    r"(Eq\.|Algorithm|Theorem|Proposition|Tables?|Figures?|Appendix)\s+(\d|B)((?:(?:,| and| or)\s+\d)*)( i{1,3}\b)?"
)


class Row(NamedTuple):
    """One row of PAPER.md: what implements a thing."""

    tag: str
    symbol: str
    test: str


class Place(NamedTuple):
    """One row of its second table: where a figure or table is shown."""

    tag: str
    entry: str
    notebook: str
    test: str


def cells(width: int) -> list[list[str]]:
    """The rows of the table with so many columns, without its head."""
    lines = (ROOT / "PAPER.md").read_text(encoding="utf-8").splitlines()
    found = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line[:2] == "| "]
    return [row for row in found if len(row) == width][1:]


def rows() -> list[Row]:
    """What implements what."""
    return [Row(*row) for row in cells(3)]


def places() -> list[Place]:
    """Where what is shown."""
    return [Place(*row) for row in cells(4)]


def tags(text: str) -> set[str]:
    """What a docstring names: `Eq. 4, 5` names Eq. 4 and Eq. 5."""
    found = set()
    for kind, first, more, part in TAG.findall(text):
        kind = kind if kind == "Eq." else kind.removesuffix("s")
        found |= {f"{kind} {number}{part}" for number in (first, *re.findall(r"\d", more))}
    return found


def docstrings(source: str) -> str:
    """Docstrings of a module, its classes, functions and attributes."""
    return "\n".join(
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )


def test_the_map_covers_the_paper():
    assert {row.tag for row in rows()} == PAPER


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.tag} {row.symbol}")
def test_a_symbol_exists_and_says_what_it_implements(row):
    module, _, name = row.symbol.partition(":")
    symbol = reduce(getattr, name.split(".") if name else (), importlib.import_module(module))
    assert row.tag in tags(symbol.__doc__ or ""), f"the docstring of {row.symbol} does not name {row.tag}"


@pytest.mark.parametrize("row", [*rows(), *places()], ids=lambda row: f"{row.tag} {row.test}")
def test_a_test_exists(row):
    path, _, name = row.test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_figure_and_table_is_shown():
    assert {place.tag for place in places()} == {tag for tag in PAPER if tag.startswith(("Figure", "Table"))}


@pytest.mark.parametrize("place", places(), ids=lambda place: place.tag)
def test_an_entry_is_of_the_catalogue_and_stands_in_its_notebook(place):
    assert PAPER_EXHIBITS[place.entry].reference == place.tag
    assert f'show(\\"{place.entry}\\", study)' in (ROOT / place.notebook).read_text(encoding="utf-8")


def test_whatever_a_docstring_names_stands_in_the_map():
    known = {row.tag for row in rows()} | {"Theorem 1"}
    for path in sorted(path for package in ("core", "analysis") for path in (ROOT / package).rglob("*.py")):
        named = tags(docstrings(path.read_text(encoding="utf-8")))
        assert named <= known, f"{path.relative_to(ROOT)} names {sorted(named - known)}, which PAPER.md does not list"


def test_tags_are_read_as_people_write_them():
    text = "x (Eq. 4, 5 and 7; Theorem 1 ii), Tables 2 and 3, Figure 1 but Table ``run`` is none; Theorem 1 it asks"
    assert tags(text) == {"Eq. 4", "Eq. 5", "Eq. 7", "Theorem 1 ii", "Table 2", "Table 3", "Figure 1", "Theorem 1"}
