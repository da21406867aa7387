"""Which clauses of the specification each conformance test names, read from the marks in its source."""

import ast
import re
from pathlib import Path

TESTS = sorted((Path(__file__).parents[1] / "conformance").glob("test_*.py"))


def clauses_of(path):
    """{test: clauses} of a file of tests."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [ast.unparse(mark) for mark in node.decorator_list if "mark.clause" in ast.unparse(mark)]
            found[node.name] = {int(n) for mark in marks for n in re.findall(r"\d+", mark)}
    return found
