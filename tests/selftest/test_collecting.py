"""A run collects its failures, and tells each change once."""

import json
import subprocess
import sys

import pytest

from tests.selftest.runs import ROOT

# Two of the deviations of every release, which fail under --no-ledger.
KNOWN = """
from hypothesis import given, strategies as st
from tests.harness.cases.case import MultiHead, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.measurement.checking import check

EMPTY = MultiHead(N=2, L=5, S=5, num_heads=2, head_dim=2, seed=3, attn_mask=Mask("bool", "all"))
DECODER = Transformer(module="TransformerDecoder", head_dim=4, activation="gelu_tanh", N=2)

@given(case=st.sampled_from([EMPTY, DECODER]), seed=st.integers(0, 30))
def test_two(case, seed):
    check(case)

def test_one():
    check(EMPTY)
"""

# torch ignores the padding while the test runs, and not afterwards.
AT_TIMES = """
from torch.nn import functional
from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.measurement.checking import check

def test_it(monkeypatch):
    original = functional.multi_head_attention_forward
    def faulty(*given, **options):
        return original(*given, **options | {"key_padding_mask": None})
    monkeypatch.setattr(functional, "multi_head_attention_forward", faulty)
    check(MultiHead(L=2, S=2, attention="cross", key_padding_mask=Mask("bool", "one")))
"""

# torch ignores the padding of the first call of a shape, and not of later ones.
ONCE = """
from hypothesis import given, strategies as st
from torch.nn import functional
from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.measurement.checking import check

SEEN, original = set(), functional.multi_head_attention_forward
def faulty(query, *given, **options):
    masks = {} if query.shape in SEEN else {"key_padding_mask": None}
    SEEN.add(query.shape)
    return original(query, *given, **options | masks)
functional.multi_head_attention_forward = faulty

@given(S=st.integers(2, 4))
def test_it(S):
    check(MultiHead(L=S, S=S, attention="cross", key_padding_mask=Mask("bool", "one")))
"""

# The model has an entry of an older release, so that torch is better than it says.
BETTER = """
from tests.harness.deviations import ledger
from tests.harness.measurement import session
from tests.harness.measurement.checking import check

ENTRY = next(entry for entry in ledger.ENTRIES if entry.id == "empty-row-nan-sdpa")
session.current.entries = (*session.current.entries, ENTRY)

def test_it():
    check(ENTRY.pinned)
"""


@pytest.fixture
def read(run_test, tmp_path):
    """A function that runs a test in a run that collects, and returns (the run, its record)."""

    def run_and_read(body, *arguments):
        result = run_test(body, f"--report={tmp_path / 'r.json'}", *arguments)
        return result, json.loads((tmp_path / "r.json").read_text())

    return run_and_read


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=str)
def test_each_change_is_told_once_with_its_minimal_call_and_files(read, tmp_path, workers):
    result, record = read(KNOWN, "--no-ledger", *workers)
    assert result.returncode == 1
    by_module = {group["key"]["module"]: group for group in record["groups"]}
    empty, decoder = by_module["MultiheadAttention"], by_module["TransformerDecoder"]
    assert empty["calls"][0]["case"] == "MultiHead(attention='self', attn_mask=Mask(pattern='all'))"
    assert decoder["calls"][0]["case"].startswith("Transformer(module='TransformerDecoder', head_dim=4, activation=")
    assert all(group["is_minimal"] and not group["is_flaky"] for group in record["groups"])
    assert [len(group["tests"]) for group in (empty, decoder)] == [2, 1]
    assert empty["seen"] + decoder["seen"] == record["statuses"]["fails"]
    assert empty["seen"] > 2
    failed = record["tests"]["tests/conformance/test_it.py::test_two"]
    assert len(failed["failures"]) == 2
    assert "NEW (2)" in result.stdout
    assert f'python -m tests.tools again "{empty["calls"][0]["case"]}"' in result.stdout
    assert "Traceback" not in result.stdout
    assert "INTERNALERROR" not in result.stdout
    for group in record["groups"]:
        script = ROOT / group["folder"] / "script.py"
        assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 1
    for suffix in (".html", ".md"):
        assert "2 new" in (tmp_path / "r.json").with_suffix(suffix).read_text()


@pytest.mark.parametrize("option", ["-x", "--maxfail=2", "--patience=60"])
def test_a_run_for_the_first_failure_ends_each_test_with_it(read, tmp_path, option):
    result, record = read(KNOWN, "--no-ledger", option)
    assert result.returncode == 1
    failed = record["tests"]["tests/conformance/test_it.py::test_two"]
    assert len(failed["failures"]) == 1
    assert record["groups"] == []
    assert not (tmp_path / "r.html").exists()
    assert "To file: " in result.stdout


def test_a_call_that_conforms_when_it_is_made_again_is_suspected_to_be_flaky(read):
    result, record = read(AT_TIMES)
    assert result.returncode == 1
    assert [group["is_flaky"] for group in record["groups"]] == [True]
    assert "SUSPECTED FLAKY (1)" in result.stdout


def test_a_failure_that_is_seen_once_is_a_failure_of_the_first(run_test, tmp_path):
    result = run_test(ONCE, "-x", f"--report={tmp_path / 'once.json'}")
    (test,) = json.loads((tmp_path / "once.json").read_text())["tests"].values()
    assert (result.returncode, test["outcome"]) == (1, "failed")
    assert "HARNESS ERROR" not in result.stdout


def test_a_run_in_which_things_only_got_better_passes(read, tmp_path):
    release = json.loads((ROOT / "docs" / "results" / "2.15.0-cpu.json").read_text())["environment"]["torch"]
    result, record = read(BETTER, f"--model={release.split('+')[0]}")
    assert record["outcomes"] == {"failed": 1}
    assert result.returncode == 0, result.stdout
    assert "GONE OR NARROWER" in result.stdout
    assert "the exit code is 0, although tests fail" in result.stdout
    assert not list(tmp_path.glob("*/*/issue.md"))
    told, _ = read(BETTER)  # without --model the ledger is to blame
    assert told.returncode == 1
    assert "the exit code is 0" not in told.stdout


def test_an_interrupted_run_keeps_its_groups(read):
    result, record = read(
        f"{KNOWN}\ndef test_stops():\n    check(DECODER)\n    raise KeyboardInterrupt\n", "--no-ledger"
    )
    assert result.returncode == 2
    assert not record["complete"]
    assert len(record["groups"]) == 2
    (decoder,) = [group for group in record["groups"] if group["key"]["module"] == "TransformerDecoder"]
    assert "tests/conformance/test_it.py::test_stops" in decoder["tests"]


def test_a_crash_is_a_group_of_its_own_and_the_rest_goes_on(read):
    body = f"""{KNOWN}
import os
from tests.harness.measurement import session

def test_crashes():
    session.current.last_call.note(MultiHead(N=3))
    os.abort()

def test_more():
    check(DECODER)
"""
    result, record = read(body, "-n1", "--no-ledger")
    assert result.returncode == 1
    ways = [group["key"]["way"] for group in record["groups"]]
    assert sorted(ways) == ["crash", "eager", "eager"]
    (crashed,) = [group for group in record["groups"] if group["key"]["way"] == "crash"]
    assert crashed["calls"][0]["case"] == "MultiHead(N=3)"
    assert record["tests"]["tests/conformance/test_it.py::test_more"]["outcome"] == "failed"


def test_a_run_without_time_tells_groups_as_found(read):
    result, record = read(KNOWN, "--no-ledger", "--budget=0.001")
    assert result.returncode == 1
    assert [group["is_minimal"] for group in record["groups"]] == [False, False]
    assert "least call found" in result.stdout


def test_pages_of_an_earlier_run_are_removed(read, tmp_path):
    read(KNOWN, "--no-ledger", "--no-issues")
    assert (tmp_path / "r.html").exists()
    result, record = read("def test_it():\n    pass\n")
    assert result.returncode == 0
    assert record["groups"] == []
    assert not (tmp_path / "r.html").exists()
    assert "what has changed" not in result.stdout
