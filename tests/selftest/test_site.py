"""The words of readers, the queries, the examples and the data of the site are complete and fit each other."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

from tests.harness.deviations.call import Call
from tests.harness.execution.release import Release
from tests.harness.expectation.clauses import CLAUSES
from tests.harness.ledgers import BY_ID
from tests.tools.claims import claims_of, modules
from tests.tools.remedied import shown_remedies
from tests.tools.site import words
from tests.tools.site.example import Example
from tests.tools.site.examples import EXAMPLES
from tests.tools.site.facets import BIAS, EVAL, GRAD, NO_GRAD, PADDING, TRAIN, facets
from tests.tools.site.natural import example_of
from tests.tools.site.natural_case import affected, lifelike, shows
from tests.tools.site.natural_mask import mask_lines
from tests.tools.site.queries import QUERIES

DOCS = Path(__file__).parents[2] / "docs"
CLAIMS = {claim.id for module in modules() for claim in claims_of(module)}
RULES = {f"clause-{clause.number}" for clause in CLAUSES}


def test_each_entry_and_each_claim_has_words():
    """If this fails, add the words of readers to tests/tools/site/words_of_*.py."""
    assert set(words.ENTRIES) == set(BY_ID)
    assert set(words.CLAIMS) == CLAIMS


def test_a_symptom_is_a_sentence_and_aliases_are_queries():
    for id, its in words.ENTRIES.items():
        assert re.match(r"[A-Za-z].*\.$", its.symptom), id
        assert len(its.aliases) >= 2, id
    for its in (*words.ENTRIES.values(), *words.CLAIMS.values()):
        assert all(its.aliases)
        assert len(set(its.aliases)) == len(its.aliases), its.aliases


def test_a_query_names_entries_claims_or_clauses():
    assert {id for ids in QUERIES.values() for id in ids} <= {*BY_ID, *CLAIMS, *RULES, "public-models"}
    assert len(QUERIES) >= 60


def test_an_example_is_of_an_entry_and_fits_the_page():
    assert set(EXAMPLES) <= set(BY_ID)
    lines = [line for example in EXAMPLES.values() for line in example.code.splitlines()]
    assert max(map(len, lines)) <= 120


def test_a_remedy_of_an_example_must_change_its_code():
    with pytest.raises(ValueError, match="lacks 'padding'"):
        Example("print(1)", "1", "2", (("padding", ""),))
    example = Example("a = 1\nprint(a)", "1", "2", (("a = 1", "a = 2"),))
    assert example.remedied == "a = 2\nprint(a)"
    assert example.diff == "- a = 1\n+ a = 2"


def test_each_line_of_a_diff_is_taken_away_or_added():
    for entry in BY_ID.values():
        lines = [line for remedy in shown_remedies(entry) for line in remedy.diff.splitlines()]
        assert all(line.startswith(("+ ", "- ")) or line == "..." for line in lines), entry.id


def test_each_entry_has_natural_code():
    """No pasted parameters, no long lists: as people write it, and short. If this fails, write an example by hand."""
    for entry in BY_ID.values():
        example = EXAMPLES.get(entry.id) or example_of(entry)
        assert example, entry.id
        assert not re.search(r"load_state_dict\(\{name: torch.tensor|\d\.\d{3}", example.code), entry.id
        assert len(example.code.splitlines()) <= 15, entry.id
        assert max(map(len, example.code.splitlines())) <= 140, entry.id


def test_only_examples_that_no_run_here_can_tell_are_without_an_outcome():
    for entry in BY_ID.values():
        example = EXAMPLES.get(entry.id) or example_of(entry)
        assert bool(example.comes) == ("cpu" in entry.devices and entry.id != "bfloat16-nan-spreads"), entry.id


def test_a_case_grows_only_as_far_as_its_entry_shows():
    """The fast path needs an even number of heads; an empty batch stays empty."""
    entry = BY_ID["native-mha-empty-weights"]
    case = lifelike(entry)
    assert (case.N, case.L, case.num_heads, case.head_dim, case.dtype) == (0, 4, 2, 4, "float32")
    assert shows(entry, case, affected(entry))


@pytest.mark.parametrize(
    "array, line",
    [
        (np.zeros((2, 4), bool), "m = torch.zeros(2, 4, dtype=torch.bool)"),
        (np.triu(np.ones((4, 4), bool), 1), "m = torch.triu(torch.ones(4, 4, dtype=torch.bool), diagonal=1)"),
        (np.tril(np.ones((3, 4), bool)), "m = torch.ones(3, 4, dtype=torch.bool).tril()"),
        (np.array([[True, False], [False, True]]), "m = torch.tensor([[True, False], [False, True]])"),
        (np.full((2, 2), -1e9), "m = torch.full((2, 2), -1000000000.0)"),
        (np.array([[0, -np.inf], [0, 0]]), 'm = torch.triu(torch.full((2, 2), float("-inf")), diagonal=1)'),
    ],
)
def test_a_mask_is_written_as_people_write_it(array, line):
    assert mask_lines("m", array, ()) == [line]
    torch_array = eval(line.removeprefix("m = "), {"torch": torch})
    assert np.array_equal(torch_array.numpy(), array)


def test_a_row_that_is_hidden_is_set():
    array = np.zeros((4, 5), bool)
    array[2] = True
    assert mask_lines("m", array, ()) == ["m = torch.zeros(4, 5, dtype=torch.bool)", "m[2] = True"]


def test_a_long_irregular_mask_is_not_written():
    assert mask_lines("m", np.random.default_rng(0).random((9, 9)) < 0.5, ()) is None


def _facets(id):
    entry = BY_ID[id]
    return facets(entry, Call(entry.pinned, Release(Version("2.4.0"), "cpu"), ("sdpa_flash",)))


def test_facets_are_the_settings_in_which_an_entry_shows():
    on_the_fast_path = _facets("native-layer-float-mask")
    assert (on_the_fast_path.training, on_the_fast_path.autograd) == ((EVAL,), (NO_GRAD,))
    assert {BIAS, PADDING} <= set(on_the_fast_path.masks)
    anywhere = _facets("empty-row-nan-explicit")
    assert (anywhere.training, anywhere.autograd) == ((EVAL, TRAIN), (GRAD, NO_GRAD))
    assert _facets("causal-mask-gradient").autograd == (GRAD,)
    assert _facets("nested-partly-frozen").training == (EVAL,)


def test_the_data_have_all_entries_in_the_shape_of_the_schema():
    data, schema = (json.loads((DOCS / name).read_text()) for name in ("edge-cases.json", "edge-cases.schema.json"))
    assert [set(entry) for entry in data["entries"]] == [
        set(schema["properties"]["entries"]["items"]["required"])
    ] * len(data["entries"])
    assert {entry["id"] for entry in data["entries"]} == set(BY_ID)
    assert all((DOCS / entry["script"]).is_file() for entry in data["entries"])


def test_what_works_names_entries():
    works = json.loads((DOCS / "what-works.json").read_text())
    named = {entry["id"] for cell in works["cells"] for part in cell["not"] for entry in part["entries"]}
    assert named <= set(BY_ID)
    assert {cell["module"] for cell in works["cells"]} == set(works["modules"])
