"""The summary of a run reports changes of the ledger."""

import json
from pathlib import Path

import pytest

from tests.harness.measurement.summary import summary

RECORD = Path(__file__).parents[2] / "docs" / "results" / "2.15.0-cpu.json"
ENTRY, OF_SOME_CPUS, ELSEWHERE = "empty-row-nan-explicit", "bfloat16-nan-spreads", "native-layer-bias"


def told(id, status):
    """The lines of the summary that name the entry, if the record gives it this status."""
    record = json.loads(RECORD.read_text())
    record["ledger"][id] |= {"status": status, "cases": 0}
    return [line for line in summary(record, "record.json") if id in line]


@pytest.mark.parametrize(
    "id, status, begins",
    [
        (ENTRY, "absent", "Good news: "),
        (OF_SOME_CPUS, "absent", "Not on this CPU: "),
        (ELSEWHERE, "present", "The ledger's range is wrong: "),
        (ENTRY, "changed", "Changed: "),
    ],
)
def test_an_entry_that_is_not_as_expected_is_told(id, status, begins):
    (line,) = told(id, status)
    assert line.startswith(begins)


@pytest.mark.parametrize("id, status", [(ENTRY, "present"), (OF_SOME_CPUS, "present"), (ELSEWHERE, "absent")])
def test_one_that_is_as_expected_is_not(id, status):
    assert not told(id, status)


def lines_of(**environment):
    record = json.loads(RECORD.read_text())
    record["environment"] |= environment
    record["ledger"][ENTRY] |= {"status": "changed"}
    return "\n".join(summary(record, "record.json"))


def test_the_model_that_judged_is_named():
    assert "as the ledger predicts for this release" in lines_of()
    assert "as the ledger predicts for torch 2.4.1" in lines_of(model="2.4.1")


@pytest.mark.parametrize("environment", [{"device": "mps"}, {"subject": "module:factory"}], ids=str)
def test_where_nothing_was_measured_an_entry_that_is_neither_is_no_news(environment):
    assert f"Changed: {ENTRY}" in lines_of()
    assert "Changed: " not in lines_of(**environment)


def test_what_is_left_out_is_told_by_its_reason():
    record = json.loads(RECORD.read_text())
    record |= {"compared": {"elements": 90, "results": 3}, "left_out": {"raised": {"results": 1}}}
    record["left_out"]["garbage query"] = {"elements": 10}
    lines = list(summary(record, "record.json"))
    assert "Compared: 90 elements, 3 results. Left out: 10.00% of elements, 25.00% of results:" in lines
    assert "  garbage query: 10.00% of elements, 0.00% of results" in lines
    assert "  raised: 0.00% of elements, 25.00% of results" in lines
