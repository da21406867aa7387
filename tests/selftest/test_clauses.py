"""Every clause of the specification has a test, and every conformance test names its clauses."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLAUSES = {int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "reference" / "README.md").read_text(), re.MULTILINE)}
TESTS = sorted((ROOT / "tests" / "conformance").glob("test_*.py"))


def clauses_of(path):
    """{test: clauses}, read from the marks in the source."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(mark) for mark in node.decorator_list if "mark.clause" in ast.unparse(mark)]
            found[node.name] = {int(n) for mark in marks for n in re.findall(r"\d+", mark)}
    return found


def test_the_specification_has_its_clauses():
    assert set(range(1, 11)) == CLAUSES


@pytest.mark.parametrize("path", [path for path in TESTS if path.name != "test_ledger.py"], ids=lambda path: path.stem)
def test_every_conformance_test_names_clauses_that_exist(path):
    for name, clauses in clauses_of(path).items():
        assert clauses, name
        assert clauses <= CLAUSES, name


def test_every_clause_is_tested():
    tested = set().union(*(clauses for path in TESTS for clauses in clauses_of(path).values()))
    assert tested == CLAUSES
