"""The clauses agree with the specification. A run counts the calls that exercise each, and can select by clause."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conformance.test_clauses import CALLS, as_tuple
from tests.harness.cases.case import MultiHead, ScaledDotProduct, SquareSubsequentMask, Transformer
from tests.harness.cases.laws import LAWS
from tests.harness.cases.masks import Mask
from tests.harness.command_line import BAD_INPUT
from tests.harness.deviations import ledger
from tests.harness.expectation import clauses
from tests.harness.expectation.clauses import BY_NUMBER, CLAUSES, OF_CASES
from tests.harness.measurement import checking, record, session
from tests.harness.measurement.checking import check, check_in_turn, check_same_without_garbage, check_twins, judged
from tests.harness.measurement.summary import summary
from tests.harness.strategies.contents import cases_under, garbage_cases
from tests.harness.strategies.modules import any_cases, cases_of
from tests.harness.wrong_masks.sequences import ROWS
from tests.tools import clauses as tool
from tests.tools.edge_cases import read_clauses
from tests.tools.records import as_record

from .sampling import sample

ROOT = Path(__file__).parents[2]
SELFTESTS = ROOT / "tests" / "selftest"
TEXTS = read_clauses((ROOT / "reference" / "README.md").read_text())
TEST = "test_clauses.py::test_holds"
RELEASE = session.start().release

PLAIN = MultiHead(N=2, L=2, S=2, autograd="grad", need_weights=False)
WEIGHTS = replace(PLAIN, need_weights=True)
SDPA = ScaledDotProduct(batch=(1, 1), L=2, S=2, autograd="grad")
ENCODER = Transformer(module="TransformerEncoder", N=2, S=3, autograd="grad")
DECODER = Transformer(module="TransformerDecoder", N=2, S=3, T=2, autograd="grad")
BOTH_MASKS = {"attn_mask": Mask("bool", "causal"), "key_padding_mask": Mask("bool", "one")}


# ---- the texts -----------------------------------------------------------------------------------------------------


def test_the_clauses_are_those_of_the_specification():
    assert [clause.number for clause in CLAUSES] == sorted(TEXTS) == list(range(1, 11))


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.title)
def test_a_text_is_the_beginning_of_the_clause(clause):
    assert re.match(re.escape(clause.text) + r"\b", TEXTS[clause.number])


# ---- clauses of a case ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number, case, other",
    [
        (1, PLAIN, SquareSubsequentMask(sz=2)),
        (2, replace(PLAIN, attn_mask=Mask("bool", "none")), PLAIN),
        (2, replace(SDPA, attn_mask=Mask("float", "one", "finite")), replace(SDPA, is_causal=True)),
        (2, replace(ENCODER, src_key_padding_mask=Mask()), replace(ENCODER, S=0, src_key_padding_mask=Mask())),
        (
            3,
            replace(WEIGHTS, attn_mask=Mask("float", "one")),
            replace(WEIGHTS, attn_mask=Mask("float", "one", "finite")),
        ),
        (3, replace(WEIGHTS, **BOTH_MASKS), replace(WEIGHTS, attn_mask=Mask("bool", "causal"))),
        (3, replace(ENCODER, training=True), replace(ENCODER, training=True, dropout=0.5)),
        (3, replace(SDPA, mode="sdpa_math"), SDPA),
        (4, replace(PLAIN, attn_mask=Mask("bool", "row")), replace(PLAIN, attn_mask=Mask("bool", "causal"))),
        (4, replace(PLAIN, attn_mask=Mask("bool", "all")), replace(PLAIN, attn_mask=Mask("float", "all", "-1e9"))),
        (4, replace(SDPA, S=0), replace(SDPA, L=0, S=0)),
        (4, replace(SDPA, attn_mask=Mask("bool", "all")), replace(SDPA, attn_mask=Mask("bool", "none"))),
        (4, replace(ENCODER, src_key_padding_mask=Mask("bool", "sample")), replace(ENCODER, N=0)),
        (4, replace(DECODER, memory_mask=Mask("bool", "row")), replace(DECODER, memory_mask=Mask("bool", "column"))),
        (4, replace(PLAIN, S=0), replace(PLAIN, S=0, add_zero_attn=True)),
        (5, replace(PLAIN, attn_mask=Mask("bool", "last_column")), replace(PLAIN, attn_mask=Mask("bool", "diagonal"))),
        (5, replace(PLAIN, attn_mask=Mask("float")), replace(PLAIN, attn_mask=Mask("float"), autograd="inputs")),
        (6, replace(SDPA, is_causal=True), SDPA),
        (6, replace(PLAIN, attn_mask=Mask("float", "causal")), replace(PLAIN, attn_mask=Mask("float", "window"))),
        (6, replace(DECODER, memory_is_causal=True), replace(DECODER, memory_is_causal=False)),
        (6, SquareSubsequentMask(), replace(PLAIN, attn_mask=Mask("float", "causal", "finite"))),
        (7, replace(PLAIN, add_bias_kv=True), PLAIN),
        (7, WEIGHTS, ENCODER),
        (7, replace(ENCODER, dropout=0.5), SquareSubsequentMask()),
        (8, replace(ENCODER, src_key_padding_mask=Mask("bool", "one")), replace(ENCODER, src_key_padding_mask=Mask())),
        (8, replace(PLAIN, key_padding_mask=Mask("float", "one")), replace(PLAIN, attn_mask=Mask("bool", "column"))),
        (9, ROWS[0], PLAIN),
        (10, SquareSubsequentMask(), ROWS[-1]),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_one_call_exercises_the_clause_and_another_does_not(number, case, other):
    assert number in clauses.of(case)
    assert number not in clauses.of(other)


def test_padding_that_is_packed_is_no_mask():
    packed = replace(PLAIN, attention="self", key_padding_mask=Mask("bool", "right"), mode="nested_strided")
    assert clauses.of(packed).isdisjoint({2, 5, 8})
    assert 4 in clauses.of(replace(packed, key_padding_mask=Mask("bool", "all")))  # samples without keys


def test_a_low_mask_hides_in_a_lower_precision():
    lowest = replace(PLAIN, dtype="float32", attn_mask=Mask("float", "all", "min"))
    assert 4 not in clauses.of(lowest)
    assert 4 in clauses.of(replace(lowest, mode="autocast"))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.id)
def test_a_law_exercises_the_clause_on_what_must_not_matter(law):
    for case in sample(cases_under(RELEASE, law), 20):
        one, other = law.twins(case)
        assert one == other or 3 in clauses.of(one) | clauses.of(other)


# Entries whose pinned case does not exercise the broken clause, with the reason.
ELSEWHERE = {
    "float16-mask-overflow": "the mask is finite, but its sum with a score overflows",
    "nested-beside-padding": "the only wrong mask outside the table of wrong masks",
}


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_the_pinned_case_of_an_entry_exercises_the_clause_that_it_breaks(entry):
    assert (entry.clause in clauses.of(entry.pinned)) != (entry.id in ELSEWHERE)


@pytest.mark.parametrize("number", CALLS)
def test_the_calls_that_state_a_clause_exercise_it(number):
    assert 2 <= len(CALLS[number]) <= 4
    for value in CALLS[number].values():
        assert any(number in clauses.of(call) for call in as_tuple(value))


def test_every_clause_is_stated():
    assert set(CALLS) == set(BY_NUMBER)


# ---- counts of a run -----------------------------------------------------------------------------------------------


def test_a_draw_reaches_every_clause_of_a_case():
    drawn = [clauses.of(case) for case in sample(any_cases(RELEASE), 300)]
    for number in OF_CASES:
        assert sum(number in exercised for exercised in drawn) >= 0.03 * len(drawn), number


@pytest.mark.parametrize("module, missing", [("MultiheadAttention", set()), ("TransformerEncoder", set())])
def test_a_draw_of_one_module_reaches_them_too(module, missing):
    drawn = sample(cases_of(RELEASE, module), 200)
    assert OF_CASES - frozenset().union(*map(clauses.of, drawn)) == missing


def test_a_call_counts_for_its_clauses_by_its_verdict(run):
    judged(replace(PLAIN, key_padding_mask=Mask("bool", "one")))
    judged(PLAIN)
    assert run.tally.clauses["1 conforms"] == 2
    assert run.tally.clauses["8 conforms"] == 1


def test_calls_that_are_compared_to_each_other_alone_count_for_what_that_shows(run):
    for case in sample(garbage_cases(RELEASE), 40):
        check_same_without_garbage(case)
    assert set(run.tally.clauses) == {"5 conforms"}
    for case in sample(garbage_cases(RELEASE, dropout=0.5), 40):
        check_same_without_garbage(case)
    assert set(run.tally.clauses) == {"5 conforms", "7 conforms"}


def measured(**counts):
    return {"outcome": record.PASSED, "message": "", "tally": {"clauses": counts}}


def test_the_record_counts_calls_by_clause(run):
    tests = {"a": measured(**{"4 conforms": 2, "1 conforms": 3}), "b": measured(**{"4 fails": 1})}
    made = record.assemble(run, {}, tests, True, 0)
    assert made["clauses"] == {"1": {"calls": 3, "conforms": 3}, "4": {"calls": 3, "conforms": 2, "fails": 1}}
    assert made["tests"]["a"]["clauses"] == {"1": 3, "4": 2}


_TELLS = re.compile("Calls by clause|NOT EXERCISED")


def lines_of(run, counts, **more):
    made = record.assemble(run, record.environment(run, "quick", "1"), {"a": measured(**counts)}, True, 0)
    return [line for line in summary(made | {"neglected_paths": []} | more, "record.json") if _TELLS.match(line)]


def test_the_summary_tells_of_clauses_that_no_call_exercises(run):
    counts = {f"{number} conforms": 1000 * number for number in BY_NUMBER if number != 4}
    told = lines_of(run, counts)
    assert told[0].startswith("Calls by clause: 1: 1,000, 2: 2,000, 3: 3,000, 5: 5,000")
    assert told[1:] == ["NOT EXERCISED: no call is about clause 4, fully masked queries."]
    assert not lines_of(run, counts, part=["-k it"])[1:]
    assert lines_of(run, counts, part=["--clause 4"])[1:] == told[1:]


# ---- selection of calls --------------------------------------------------------------------------------------------

MASKED = replace(PLAIN, attn_mask=Mask("bool", "row"))


@pytest.fixture
def about_clause_4(run):
    run.clauses = frozenset({4})
    yield run
    run.clauses = frozenset()


def test_only_calls_that_exercise_a_selected_clause_are_made(about_clause_4, monkeypatch):
    monkeypatch.setattr(checking, "event", lambda _: None)
    made = about_clause_4.tally.statuses
    for case in (PLAIN, MASKED):
        check(case)
    assert made.total() == 1
    check_twins(PLAIN, replace(PLAIN, batch_first=False))
    assert made.total() == 1
    check_twins(MASKED, replace(MASKED, batch_first=False))
    assert made.total() == 3
    check_in_turn((PLAIN, MASKED))  # the first call creates the artifact of the second
    assert made.total() == 5
    check_same_without_garbage(replace(MASKED, garbage=True))  # exercises only clause 5
    assert made.total() == 5
    assert about_clause_4.tally.unasked == 4


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_tables_of_the_specification_are_fresh():
    assert tool.main(["--check"]) == 0


def test_the_tables_have_every_test_and_the_calls_that_a_record_counts():
    text = tool.PAGE.read_text()
    made = json.loads((tool.RECORDS / "2.15.0-cpu.json").read_text())
    folder = "tests/conformance/"
    counts = {"test_transformer.py::test_inference_is_as_specified[Transformer]": 1200, f"{TEST}[clause_4-no_keys]": 1}
    made["tests"] = {folder + id: {"outcome": "passed", "clauses": {"4": n}} for id, n in counts.items()}
    rows = tool.page(text, [as_record(made, "made")]).splitlines()
    assert "| transformer: inference_is_as_specified |  |  |  | 1,200 |  |  |  |  |  |  |" in rows
    assert "| all tests |  |  |  | 1,201 |  |  |  |  |  |  |" in rows
    assert all(any(row.startswith(f"| {tool.short(test)} |") for row in rows) for test in tool.conformance_tests())
    assert TEST in tool.conformance_tests()


def test_a_page_without_a_place_for_the_tables_is_bad_input(tmp_path, capsys):
    (tmp_path / "page.md").write_text("# The specification\n")
    assert tool.main([f"--page={tmp_path / 'page.md'}"]) == BAD_INPUT
    assert "lacks one of the lines" in capsys.readouterr().err


# ---- the suite's own files -----------------------------------------------------------------------------------------


def test_only_the_suites_own_tests_import_from_each_other():
    """No file outside the tests imports from tests/selftest."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.parent == SELFTESTS or path.name.startswith("test_"):
            continue
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in nodes if "selftest" in (node.module or "")], path
