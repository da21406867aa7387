"""The comparison of two records lists only changes, and its exit code tells if something regressed."""

import json
from pathlib import Path

import pytest

from tests.harness.cases.dtypes import LOW
from tests.harness.modes.modes import BY_ID
from tests.tools import compare
from tests.tools.records import as_record, current

RECORDS = Path(__file__).parents[2] / "docs" / "results"
OLD = RECORDS / "2.13.0-cpu.json"
TEST = "tests/conformance/test_multihead_attention.py::test_inference_is_as_specified"
ENTRY = "empty-row-nan-explicit"
PINNED = f"tests/conformance/test_ledger.py::test_pinned_case_does_what_the_ledger_says[{ENTRY}]"
DEEP = "[" * 100_000 + "]" * 100_000
ELSEWHERE = "native-layer-bias"  # an entry of other releases


def plain():
    return json.loads(OLD.read_text())


def fails(record, test=TEST, outcome="failed"):
    failures = [{"title": "MultiheadAttention, eval: output is NaN; expected 1"}, {"title": "another"}]
    record["tests"][test] |= {"outcome": outcome, "failures": failures, "message": "as a person reads it"}


def found(edit_old, edit_new):
    """[(kind, id, what)] of the changes between two edited copies of one record."""
    old, new = plain(), plain()
    edit_old(old)
    edit_new(new)
    changes = compare.changes(as_record(old, "old"), as_record(new, "new"))
    return [(change.kind, change.id, change.what) for change in changes]


def nothing(record):
    pass


def status(id, status):
    is_shown = status in ("present", "changed")
    return lambda record: record["ledger"][id].update({"status": status} | ({} if is_shown else {"cases": 0}))


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_has_not_changed_since_itself(path, capsys):
    assert compare.main([str(path), str(path)]) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_a_test_that_fails_has_regressed_and_one_that_passes_again_is_fixed():
    ((kind, id, what),) = found(nothing, fails)
    assert (kind, id) == (compare.REGRESSED, TEST)
    assert what.endswith("now failed: MultiheadAttention, eval: output is NaN; expected 1 (and 1 more)")
    assert [change[0] for change in found(fails, nothing)] == [compare.FIXED]
    assert found(fails, fails) == []


def test_a_crash_is_a_regression_and_a_harness_error_is_none():
    assert found(nothing, lambda record: fails(record, outcome="crash"))[0][0] == compare.REGRESSED
    assert found(nothing, lambda record: fails(record, outcome="harness error"))[0][0] == compare.ERROR


def test_what_is_newly_or_no_longer_tested():
    def without(record):
        del record["tests"][TEST]

    assert [change[0] for change in found(without, nothing)] == [compare.NEW]
    assert [change[0] for change in found(nothing, without)] == [compare.GONE]


@pytest.mark.parametrize(
    "id, before, after, kind",
    [
        (ELSEWHERE, "absent", "present", compare.BEGINS),
        (ENTRY, "present", "absent", compare.ENDS),
        (ENTRY, "not exercised", "absent", compare.ENDS),
        (ENTRY, "present", "changed", compare.CHANGES),
        (ENTRY, "not applicable", "present", compare.NEW),
        (ENTRY, "present", "not applicable", compare.GONE),
    ],
)
def test_a_deviation(id, before, after, kind):
    ((its_kind, its_id, _),) = found(status(id, before), status(id, after))
    assert (its_kind, its_id) == (kind, id)


def test_a_deviation_of_some_cpus_is_called_that():
    id = "bfloat16-nan-spreads"
    ((_, _, what),) = found(status(id, "present"), status(id, "absent"))
    assert what.endswith("which depends on the CPU")
    ((_, _, what),) = found(status(ENTRY, "present"), status(ENTRY, "absent"))
    assert not what.endswith("which depends on the CPU")


def test_a_deviation_is_told_once():
    def changed(record):
        status(ENTRY, "changed")(record)
        fails(record, PINNED)

    assert [change[:2] for change in found(nothing, changed)] == [(compare.CHANGES, ENTRY)]


@pytest.mark.parametrize("how", compare.FORMATS)
def test_every_format_tells_what_regressed_and_the_exit_code_says_so(how, tmp_path, capsys):
    new = plain()
    fails(new)
    path = tmp_path / "new.json"
    path.write_text(json.dumps(new))
    assert compare.main([str(OLD), str(path), "--format", how]) == 1
    assert TEST in capsys.readouterr().out
    assert compare.main([str(path), str(OLD), "--format", how]) == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", DEEP, '{"schema": 1}', '{"schema": 2, "complete": false}', '{"schema": 2, "complete": true}'],
    ids=lambda text: text[:40],
)
def test_what_is_no_record_is_bad_input(text, tmp_path, capsys):
    path = tmp_path / "torn.json"
    path.write_text(text)
    assert compare.main([str(OLD), str(path)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert compare.main([str(OLD), str(tmp_path / "none.json")]) == 4


def test_of_a_record_of_the_schema_before_the_first_line_is_told():
    def as_before(record):
        del record["tests"][TEST]["failures"]

    ((_, _, what),) = found(nothing, lambda record: (fails(record), as_before(record)))
    assert what.endswith("now failed: as a person reads it")


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_of_the_schema_before_says_as_much_of_its_tests(path):
    """The current schema has fields for the entry of a test and for the mode or low precision of its calls."""
    before = json.loads(path.read_text())
    tests = current(before)["tests"]
    assert {test["entry"] for test in tests.values() if "entry" in test} <= set(before["ledger"])
    ways = {test["way"] for test in tests.values() if "way" in test}
    assert ways <= {*BY_ID, *LOW}
    assert as_record(before, path).ways.keys() <= ways


def test_a_part_is_compared_with_the_whole_in_one_line():
    def keep_one(record):
        record["tests"] = {TEST: record["tests"][TEST]}
        record["part"] = ["-k inference"]
        record["ledger"] = {id: entry for id, entry in record["ledger"].items() if entry["status"] == "absent"}

    ((kind, id, what),) = found(nothing, keep_one)
    assert (kind, what) == (compare.GONE, "not run now, which is of a part of the suite: -k inference")
    assert id.endswith(" tests")
    ((kind, _, what),) = found(keep_one, nothing)
    assert (kind, what) == (compare.NEW, "not run by the first record, which is of a part of the suite: -k inference")


def test_a_test_of_an_entry_that_a_baseline_lacks_is_no_news_but_a_regression():
    def without(record):
        del record["ledger"][ENTRY]
        record["tests"].pop(PINNED, None)

    assert [change[:2] for change in found(without, lambda record: fails(record, PINNED))] == [
        (compare.REGRESSED, PINNED),
        (compare.NEW, ENTRY),
    ]


def test_what_is_forgiven_is_told():
    old, new = plain(), plain()
    fails(old)
    fails(new)
    del old["tests"][PINNED]
    lines = list(compare.forgiven(as_record(old, "old"), as_record(new, "new")))
    assert lines[0] == "forgiven, since the baseline has these failures too (1):"
    assert lines[1] == f"  {TEST}: MultiheadAttention, eval: output is NaN; expected 1 (and 1 more)"
    assert lines[2].startswith("The baseline lacks 1 of these ")
    assert not list(compare.forgiven(as_record(new, "new"), as_record(plain(), "plain")))


def test_failures_of_calls_that_were_not_made_again_are_forgiven_and_this_is_told():
    old, new = plain(), plain()
    fails(old)
    fails(new)
    new["environment"]["seed"] = "another"
    *_, first, second = compare.forgiven(as_record(old, "old"), as_record(new, "new"))
    profile = old["environment"]["profile"]
    assert first.startswith(f"The calls of the baseline (profile {profile}, seed ")
    assert second == "other failures of these tests are forgiven, too."
