"""docs/claims.md is up to date, and each claim names tests that exist."""

import ast
import inspect
from pathlib import Path

import pytest

from tests.tools import claims as tool

CLAIMS = [(module, claim) for module in tool.modules() for claim in tool.claims_of(module)]
each_claim = pytest.mark.parametrize("module, claim", CLAIMS, ids=[claim.id for _, claim in CLAIMS])
each_file = pytest.mark.parametrize("module", tool.modules(), ids=tool.FILES)

# The imports that the page shows to its readers.
IMPORTED = {"math", "torch", "F", "nn"}


def test_the_page_is_up_to_date():
    assert tool.main(["--check"]) == 0, "run python -m tests.tools claims"


def test_a_stale_page_is_noticed(tmp_path, monkeypatch):
    stale = tmp_path / "claims.md"
    monkeypatch.setattr(tool, "PAGE", stale)
    assert tool.main(["--check"]) == 1
    tool.main([])
    assert tool.main(["--check"]) == 0
    stale.write_text(stale.read_text().replace("false", "true", 1))
    assert tool.main(["--check"]) == 1


def test_every_file_of_claims_is_on_the_page():
    folder = Path(tool.__file__).parents[1] / "claims"
    assert {path.stem for path in folder.glob("test_*.py")} == set(tool.FILES)


def test_ids_are_unique():
    ids = [claim.id for _, claim in CLAIMS]
    assert len(ids) == len(set(ids))


@each_claim
def test_a_claim_is_complete(module, claim):
    assert claim.verdict.split()[0].strip(",") in ("true", "false")
    assert claim.says
    assert claim.because
    assert claim.recipe
    assert claim.proof
    assert "|" not in claim.says + claim.verdict  # both are cells of a table


@each_claim
def test_a_claim_names_tests_that_exist(module, claim):
    for name in claim.proof:
        assert name.startswith("test_")
        assert inspect.isfunction(getattr(module, name, None)), name


@each_file
def test_every_test_proves_a_claim(module):
    tests = {name for name in vars(module) if name.startswith("test_")}
    assert tests == {name for claim in tool.claims_of(module) for name in claim.proof}


@each_claim
def test_a_recipe_is_called_by_the_tests(module, claim):
    recipes = {part.__name__ for part in claim.recipe}
    others = [
        node
        for node in ast.parse(inspect.getsource(module)).body
        if getattr(node, "name", None) not in recipes and not _declares_a_claim(node)
    ]
    called = {node.id for other in others for node in ast.walk(other) if isinstance(node, ast.Name)}
    assert recipes <= called


def _declares_a_claim(node):
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and "Claim" in ast.unparse(node.value.func)


@each_claim
def test_a_recipe_needs_only_what_is_printed(module, claim):
    printed = IMPORTED | {part.__name__ for part in claim.recipe}
    for part in claim.recipe:
        nodes = list(ast.walk(ast.parse(inspect.getsource(part))))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {node.arg for node in nodes if isinstance(node, ast.arg)}
        own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
        assert {name.id for name in names} & vars(module).keys() - own <= printed
