"""What app/README.md promises, it names a test for, and the test is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<feature>[^|]+) \| `(?P<path>[^`]+)::(?P<test>[^`]+)` \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "app" / "README.md").read_text(encoding="utf-8"))


def test_every_feature_is_there_once() -> None:
    assert len(ROWS) == len({feature for feature, _, _ in ROWS}) == 24


@pytest.mark.parametrize(("feature", "path", "test"), ROWS, ids=[test for _, _, test in ROWS])
def test_a_feature_names_a_test_that_exists(feature: str, path: str, test: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, feature
