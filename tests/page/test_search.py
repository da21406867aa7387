"""The search of docs/index.html finds what readers look for. It runs in QuickJS, which needs no browser."""

import json
import re
from pathlib import Path

import pytest

from tests.tools.site.queries import QUERIES, WITHOUT_RESULT

quickjs = pytest.importorskip("quickjs", reason="python -m tox -e page installs it")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "index.html"
SCORER = ROOT / "tests" / "tools" / "site" / "search.js"


@pytest.fixture(scope="module")
def documents():
    """The documents that the page searches."""
    page = PAGE.read_text()
    assert SCORER.read_text() in page, "docs/index.html is stale: run python -m tests.tools catalogue"
    return json.loads(re.search(r"^const documents = (\[.*\])$", page, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def find(documents):
    """A function: query -> ids of the results, best first."""
    context = quickjs.Context()
    context.eval(SCORER.read_text())
    context.set("text", json.dumps(documents))
    context.eval("var search = createSearch(JSON.parse(text))")
    return lambda query: json.loads(context.eval(f"JSON.stringify(search({json.dumps(query)}).map(({{id}}) => id))"))


def test_there_are_enough_queries():
    assert len(QUERIES) >= 60


@pytest.mark.parametrize("query, ids", QUERIES.items())
def test_a_query_finds_its_entry_among_the_first_three(find, query, ids):
    assert set(find(query)[:3]) & set(ids), find(query)[:6]


@pytest.mark.parametrize("query", [query for query in QUERIES if query[-1].isalpha() and len(query.split()[-1]) > 3])
def test_while_the_last_word_is_typed_there_are_results(find, query):
    assert find(query[:-1])


@pytest.mark.parametrize("query", WITHOUT_RESULT)
def test_what_is_not_covered_is_not_found(find, query):
    assert find(query) == []


@pytest.mark.parametrize("query", ["src_maks", "scaled_dot_prodct_attention", "alibbi", "autocsat"])
def test_one_wrong_letter_does_not_matter(find, query):
    assert find(query)


def test_boilerplate_is_not_indexed(find, documents):
    """Remedies, counts and paths that stand in many entries do not make them results."""
    assert len(find("every module of the process leaves its fast path")) < 15
    assert not [one["id"] for one in documents if "calls of the run" in one["text"] or "tests/" in one["text"]]


def test_every_alias_finds_its_document(find, documents):
    lost = [(alias, one["id"]) for one in documents for alias in one["aliases"] if one["id"] not in find(alias)]
    assert not lost
