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
def find():
    """A function: query -> ids of the results, best first."""
    page = PAGE.read_text()
    assert SCORER.read_text() in page, "docs/index.html is stale: run python -m tests.tools catalogue"
    context = quickjs.Context()
    context.eval(SCORER.read_text())
    context.set("text", re.search(r"^const documents = (\[.*\])$", page, re.MULTILINE)[1])
    context.eval("var search = createSearch(JSON.parse(text))")
    return lambda query: json.loads(context.eval(f"JSON.stringify(search({json.dumps(query)}).map(({{id}}) => id))"))


def test_there_are_enough_queries():
    assert len(QUERIES) >= 60


@pytest.mark.parametrize("query, ids", QUERIES.items())
def test_a_query_finds_its_entry_among_the_first_three(find, query, ids):
    assert set(find(query)[:3]) & set(ids), find(query)[:6]


@pytest.mark.parametrize("query", QUERIES)
def test_the_beginning_of_the_last_word_finds_it_too(find, query):
    """While the reader still types, the results are not empty."""
    assert find(query[:-1]) or len(query) < 5


@pytest.mark.parametrize("query", WITHOUT_RESULT)
def test_what_is_not_covered_is_not_found(find, query):
    assert find(query) == []


@pytest.mark.parametrize("query", ["src_maks", "scaled_dot_prodct_attention", "alibbi", "autocsat"])
def test_one_wrong_letter_does_not_matter(find, query):
    assert find(query)


def test_boilerplate_is_not_indexed(find):
    """Remedies and facts that stand in many entries do not make them results."""
    assert len(find("every module of the process leaves its fast path")) < 15
    assert find("Seen in calls of the run with on cpu") == []


def test_every_alias_finds_its_document(find):
    documents = json.loads(re.search(r"^const documents = (\[.*\])$", PAGE.read_text(), re.MULTILINE)[1])
    lost = [
        (alias, document["id"])
        for document in documents
        for alias in document["aliases"]
        if document["id"] not in find(alias)
    ]
    assert not lost
