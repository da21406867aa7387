"""Options and exit codes of a conformance run, on the command line."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.harness.measurement.record import SCHEMA
from tests.harness.releases import NEWEST, OLDEST
from tests.selftest.runs import ROOT, run

USAGE, HARNESS_ERROR = 4, 3
RIGHT = "def test_it():\n    pass\n"
WRONG = "def test_it():\n    assert False, 'torch is wrong'\n"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--device=toaster"], "--device toaster: torch cannot use it"),
        (["--device=meta"], "--device meta: torch cannot use it"),
        (["--hypothesis-profile=bogus"], "--hypothesis-profile bogus: not one of quick, default, long"),
        (["--no-ledger", "--strict"], "contradict each other"),
        (["--import=no_such_backend"], "--import no_such_backend: ModuleNotFoundError"),
        (["--shard=3/2"], "--shard 3/2: not a part"),
        (["--clause=11"], "--clause 11: reference/README.md has clauses 1 to 10"),
        (["--clause=4", "--clause=four"], "--clause four: reference/README.md has"),
        (["--model=new"], "--model new: not a version"),
        (["--model=9.9"], f"--model 9.9: no release that is modelled: {OLDEST} to {NEWEST}, the newest"),
        (["--model=1.12.1"], "--model 1.12.1: no release that is modelled"),
        (["--no-ledger", f"--model={NEWEST}"], "--no-ledger and --model contradict each other"),
        (["--budget=0"], "--budget 0: not a number of seconds above 0"),
        (["--budget=nan"], "--budget nan: not a number of seconds above 0"),
        (["--report=/proc/no/such/folder/record.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_clear_line_and_a_usage_error(arguments, words):
    result = run(*arguments)
    assert result.returncode == USAGE
    (line,) = result.stderr.strip().splitlines()
    assert words in line


def test_a_torch_that_is_missing_is_a_usage_error(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    result = run(env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert result.returncode == USAGE
    assert "torch cannot be imported: no torch here" in result.stderr


def test_a_torch_that_is_too_old_is_a_usage_error(tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '1.12.1'")
    result = run(env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert result.returncode == USAGE
    assert "torch 1.12.1 is too old" in result.stderr


def test_a_run_writes_a_record_and_junit_and_says_what_it_ran_on(tmp_path):
    report = tmp_path / "record.json"
    result = run(f"--report={report}", "--hypothesis-seed=7")
    assert result.returncode == 0, result.stdout
    record = json.loads(report.read_text())
    assert record["schema"] == SCHEMA
    assert record["complete"]
    assert record["environment"]["seed"] == "7"
    assert report.with_suffix(".xml").exists()
    for words in ("attention masks: torch", "numpy", "profile quick, seed 7", "OMP_NUM_THREADS"):
        assert words in result.stdout


def test_an_error_of_the_suite_is_told_apart_from_a_failure(run_test, tmp_path):
    result = run_test("def test_it():\n    raise KeyError('a bug of ours')\n", f"--report={tmp_path / 'r.json'}")
    assert result.returncode == HARNESS_ERROR
    assert "HARNESS ERROR" in result.stdout


def test_a_failure_is_an_ordinary_one(run_test, tmp_path):
    result = run_test(WRONG, f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"failed": 1}


def test_patience_ends(run_test, tmp_path):
    """Tests of compiled calls start Hypothesis inside the test function, like this test."""
    text = """
import pytest
from hypothesis import given, strategies as st

@pytest.mark.parametrize("number", range(2))
def test_it(number):
    @given(st.integers(0, 10**6))
    def ask(n):
        assert n < 1000, f"of {number}: {n}"

    ask()
"""
    told = {}
    for patience in ("0", "60"):
        run_test(text, f"--report={tmp_path}/record.json", f"--patience={patience}")
        results = json.loads((tmp_path / "record.json").read_text())["tests"].values()
        told[patience] = [re.search(r"of \d: (\d+)", result["message"])[1] == "1000" for result in results]
    assert told == {"0": [True, False], "60": [True, True]}


def test_a_crash_keeps_what_was_found(run_test, tmp_path):
    body = "import os\n\ndef test_a():\n    pass\n\ndef test_b():\n    os.abort()\n"
    result = run_test(body, "-n1", f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"passed": 1, "crash": 1}


def test_a_crash_tells_the_call_that_was_being_made(run_test, tmp_path):
    body = """
import os
from tests.harness.measurement import session
from tests.harness.cases.case import MultiHead

def test_it():
    session.current.last_call.note(MultiHead(N=3))
    os.abort()
"""
    run_test(body, "-n1", f"--report={tmp_path / 'r.json'}")
    (test,) = json.loads((tmp_path / "r.json").read_text())["tests"].values()
    assert 'python -m tests.tools again "MultiHead(N=3)"' in test["message"]
    assert not list(tmp_path.glob("*.call"))


def test_a_failure_is_a_value_that_comes_from_a_worker_whole(run_test, tmp_path):
    """And leaves its script, although its masks are so large that a record has no room for a report on the call."""
    body = """
from hypothesis import given, strategies as st
from tests.harness.cases.case import MultiHead
from tests.harness.measurement.checking import check
from tests.harness.cases.masks import Mask

LARGE = MultiHead(N=2, L=60, S=60, num_heads=2, attn_mask=Mask("float", "slice", "bias", per_head=True))

@given(case=st.just(LARGE))
def test_it(case):
    check(case)
"""
    result = run_test(body, "-n1", "--no-ledger", f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 1
    assert "HARNESS ERROR" not in result.stdout
    (test,) = json.loads((tmp_path / "r.json").read_text())["tests"].values()
    (failure,) = test["failures"]
    least = json.loads((tmp_path / "r.json").read_text())["groups"][0]["calls"][0]
    assert len(test["message"]) < 20_000
    assert "fully masked in a head" in failure["title"]
    (script,) = tmp_path.glob("*/*/script.py")
    assert (script.parent / "issue.md").read_text().startswith(f"# {least['title']}\n")
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 1


def test_a_worker_has_the_findings_of_its_controller_whole(run_test, tmp_path):
    body = """
from tests.harness.deviations import ledger
from tests.harness.measurement import session

def test_it():
    run = session.current
    concerned = [entry for entry in ledger.ENTRIES if entry.concerns(run.release)]
    tried = [entry for entry in concerned if not entry.is_asked_late][:4]
    assert {entry.id: session.probe(entry, run.release, concerned) for entry in tried}.items() <= run.findings.items()
    statuses = {run.findings[entry.id].status for entry in run.entries if not entry.is_asked_late}
    assert statuses == {session.PRESENT}
"""
    result = run_test(body, "-n1", f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 0, result.stdout


def test_a_hang_ends_its_test_and_keeps_what_was_found(run_test, tmp_path):
    body = "import time\n\ndef test_a():\n    pass\n\ndef test_b():\n    time.sleep(100)\n"
    result = run_test(body, "-n1", "-o", "faulthandler_timeout=3", f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"passed": 1, "crash": 1}


def test_an_interrupted_run_is_marked_incomplete(run_test, tmp_path):
    body = "def test_a():\n    pass\n\ndef test_b():\n    raise KeyboardInterrupt\n"
    result = run_test(body, f"--report={tmp_path / 'r.json'}")
    assert result.returncode == 2
    assert not json.loads((tmp_path / "r.json").read_text())["complete"]
    assert "INCOMPLETE" in result.stdout


def test_without_the_ledger_the_known_deviations_fail(tmp_path):
    path = "tests/conformance/test_multihead_attention.py"
    result = run("--no-ledger", f"--report={tmp_path / 'r.json'}", "--hypothesis-seed=1", path=path)
    assert result.returncode == 1
    assert "MultiheadAttention, eval: output is NaN for the fully masked query 0 of sample 0; expected" in result.stdout
    assert "(dtype='float64'" not in result.stdout  # as it would stand where every field of a case is spelled
    assert "python -m tests.tools again" in result.stdout


@pytest.mark.parametrize("folder", ["tests/reference", "tests/selftest"])
def test_the_suites_own_tests_measure_nothing(folder):
    result = run("--collect-only", "-q", path=folder)
    assert result.returncode == 0
    assert "attention masks" not in result.stdout


def test_a_baseline_makes_the_run_a_gate(run_test, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert run_test(WRONG, f"--report={old}").returncode == 1
    same = run_test(WRONG, f"--baseline={old}", f"--report={new}")
    assert same.returncode == 0
    assert "nothing changed" in same.stdout
    assert (
        "forgiven, since the baseline has these failures too (1):\n  tests/conformance/test_it.py::test_it: "
        in same.stdout
    )
    fixed = run_test(RIGHT, f"--baseline={old}", f"--report={new}")
    assert fixed.returncode == 0
    assert "fixed (1)" in fixed.stdout
    assert "forgiven" not in fixed.stdout
    assert run_test(WRONG, f"--baseline={new}", f"--report={old}").returncode == 1


def test_a_baseline_forgives_nothing_that_it_has_not_run(run_test, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert run_test(RIGHT, f"--report={old}").returncode == 0
    result = run_test(f"{RIGHT}\ndef test_other():\n    assert False\n", f"--baseline={old}", f"--report={new}")
    assert result.returncode == 1
    assert "The baseline lacks 1 of these 2 tests: of them it forgives nothing." in result.stdout


def test_a_part_of_the_suite_says_so_and_leaves_the_record_of_the_whole_alone(run_test, copy_of_the_suite):
    reports = copy_of_the_suite / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    result = run_test(RIGHT, "-k", "test_it", "--shard=1/1")
    (report,) = reports.glob("*.json")
    assert report.stem.endswith("-cpu-part")
    assert json.loads(report.read_text())["part"] == ["tests/conformance/test_it.py", "-k test_it"]
    assert "This is a part of the suite: tests/conformance/test_it.py, -k test_it" in result.stdout


ABOUT_CLAUSES = """
import pytest
from hypothesis import given, strategies as st
from tests.harness.cases.case import MultiHead
from tests.harness.measurement.checking import check
from tests.harness.cases.masks import Mask

MASKS = st.sampled_from([None, Mask("bool", "row")])

@given(mask=MASKS)
def test_masks(mask):
    check(MultiHead(L=2, S=2, attn_mask=mask))

@given(seed=st.integers(0, 9))
def test_seeds(seed):
    check(MultiHead(L=2, S=2, seed=seed))

@pytest.mark.clause(9)
def test_about_another():
    assert False
"""


def test_a_run_about_a_clause_makes_the_calls_that_exercise_it_and_is_a_part(run_test, tmp_path):
    calls = {}
    for name, options in {"whole": [], "part": ["--clause=4", "--clause=2"]}.items():
        result = run_test(ABOUT_CLAUSES, "--hypothesis-seed=7", f"--report={tmp_path / name}.json", *options)
        record = json.loads((tmp_path / f"{name}.json").read_text())
        calls[name] = record["clauses"]["4"]
    assert result.returncode == 0, result.stdout
    assert "1 passed, 1 skipped, 1 deselected" in result.stdout
    assert "no call of it exercises a selected clause" in result.stdout
    assert calls["whole"] == calls["part"]
    assert record["clauses"]["1"] == record["clauses"]["4"]  # no other calls were made
    assert record["part"][-2:] == ["--clause 2", "--clause 4"]


def test_a_run_that_ends_with_the_first_failure_is_not_complete(run_test, tmp_path):
    run_test(f"{WRONG}\ndef test_other():\n    pass\n", "-x", f"--report={tmp_path / 'r.json'}")
    assert not json.loads((tmp_path / "r.json").read_text())["complete"]


@pytest.mark.parametrize("arguments", [[], ["tests/selftest", "tests/conformance"]], ids=str)
def test_every_test_is_found_from_the_root(arguments):
    """An editor collects all tests in one run, from the root or from folders in any order."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout
    for found in ("tests/conformance/test_ledger.py::", "tests/selftest/test_options.py::"):
        assert found in result.stdout


def test_in_one_run_with_the_suites_own_tests_only_conformance_is_measured(run_test, copy_of_the_suite, tmp_path):
    """The conformance tests keep their session, although a selftest starts another one with the whole ledger."""
    own = copy_of_the_suite / "tests" / "selftest" / "test_own.py"
    own.write_text(
        "from tests.harness.measurement import session\n"
        "RUN = session.start()\n"
        "def test_own():\n    assert session.current.entries\n"
        "def test_fails():\n    assert False\n"
    )
    body = (
        "from tests.harness.measurement import session\n"
        "RUN = session.current\n"
        "def test_it():\n    assert session.current is RUN and not RUN.entries\n"
    )
    report = tmp_path / "r.json"
    result = run_test(body, str(own), "--no-ledger", f"--report={report}")
    own.unlink()
    assert result.returncode == 1, result.stdout
    assert "1 failed, 2 passed" in result.stdout
    assert list(json.loads(report.read_text())["tests"]) == ["tests/conformance/test_it.py::test_it"]


def test_a_baseline_that_is_no_record_is_a_usage_error(tmp_path):
    result = run(f"--baseline={tmp_path / 'none.json'}")
    assert result.returncode == USAGE
    assert "none.json: no such file" in result.stderr


def test_shards_are_the_whole(tmp_path):
    tests = []
    for name in ("1/2", "2/2", "1/1"):
        report = tmp_path / f"{name[0]}{name[2]}.json"
        assert run(f"--shard={name}", f"--report={report}").returncode == 0
        tests.append(set(json.loads(report.read_text())["tests"]))
    one, two, whole = tests
    assert one | two == whole
    assert not one & two
