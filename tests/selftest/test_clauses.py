"""Every clause of the specification has a test, and every conformance test names its clauses."""

import ast
import re
from pathlib import Path

import pytest

from tests.tools.clauses import TESTS, clauses_of

ROOT = Path(__file__).parents[2]
CLAUSES = {int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "reference" / "README.md").read_text(), re.MULTILINE)}
SELFTESTS = ROOT / "tests" / "selftest"


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


def test_only_the_suites_own_tests_import_from_each_other():
    """What else there is stands on the harness and the tools alone."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.parent == SELFTESTS or path.name.startswith("test_"):
            continue
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in nodes if "selftest" in (node.module or "")], path
