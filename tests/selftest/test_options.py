"""The options and exit codes of a conformance run, as a person meets them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
USAGE, HARNESS_ERROR = 4, 3
CHEAP = "tests/conformance/test_generate_square_subsequent_mask.py"


def run(*arguments, path=CHEAP, **options):
    command = [sys.executable, "-m", "pytest", path, "-p", "no:cacheprovider", "--hypothesis-profile=quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--device=toaster"], "--device toaster: torch cannot use it"),
        (["--no-ledger", "--strict"], "contradict each other"),
        (["--import=no_such_backend"], "--import no_such_backend: ModuleNotFoundError"),
        (["--shard=3/2"], "--shard 3/2: not a part"),
        (["--model=new"], "--model new: not a version"),
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
    assert record["schema"] == 2
    assert record["complete"]
    assert record["environment"]["seed"] == "7"
    assert report.with_suffix(".xml").exists()
    for words in ("attention masks: torch", "numpy", "profile quick, seed 7", "OMP_NUM_THREADS"):
        assert words in result.stdout


@pytest.fixture
def conformance_test():
    """Puts a test file among the conformance tests for a moment, in a folder that no other test looks into."""
    with TemporaryDirectory(dir=ROOT / "tests" / "conformance", prefix="of_the_harness_") as folder:
        path = Path(folder) / "test_it.py"

        def write(body):
            path.write_text(body)
            return str(path.relative_to(ROOT))

        yield write


def test_an_error_of_the_suite_is_told_apart_from_a_failure(conformance_test, tmp_path):
    path = conformance_test("def test_it():\n    raise KeyError('a bug of ours')\n")
    result = run(f"--report={tmp_path / 'r.json'}", path=path)
    assert result.returncode == HARNESS_ERROR
    assert "HARNESS ERROR" in result.stdout


def test_a_failure_is_an_ordinary_one(conformance_test, tmp_path):
    path = conformance_test("def test_it():\n    assert False, 'torch is wrong'\n")
    result = run(f"--report={tmp_path / 'r.json'}", path=path)
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"failed": 1}


def test_patience_ends(conformance_test, tmp_path):
    """Of tests like those of compiled calls, which ask Hypothesis when they are run."""
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
    path = conformance_test(text)
    told = {}
    for patience in ("0", "60"):
        run(f"--report={tmp_path}/record.json", f"--patience={patience}", path=path)
        results = json.loads((tmp_path / "record.json").read_text())["tests"].values()
        told[patience] = [re.search(r"of \d: (\d+)", result["message"])[1] == "1000" for result in results]
    assert told == {"0": [True, False], "60": [True, True]}


def test_a_crash_keeps_what_was_found(conformance_test, tmp_path):
    path = conformance_test("import os\n\ndef test_a():\n    pass\n\ndef test_b():\n    os.abort()\n")
    result = run("-n1", f"--report={tmp_path / 'r.json'}", path=path)
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"passed": 1, "crash": 1}


def test_a_crash_tells_the_call_that_was_being_made(conformance_test, tmp_path):
    body = """
import os
from tests.harness import session
from tests.harness.cases import MultiHead

def test_it():
    session.current.last_call.note(MultiHead(N=3))
    os.abort()
"""
    run("-n1", f"--report={tmp_path / 'r.json'}", path=conformance_test(body))
    (test,) = json.loads((tmp_path / "r.json").read_text())["tests"].values()
    assert 'python -m tests.harness.again "MultiHead(N=3)"' in test["message"]
    assert not list(tmp_path.glob("*.call"))


def test_a_hang_ends_its_test_and_keeps_what_was_found(conformance_test, tmp_path):
    path = conformance_test("import time\n\ndef test_a():\n    pass\n\ndef test_b():\n    time.sleep(100)\n")
    result = run("-n1", "-o", "faulthandler_timeout=3", f"--report={tmp_path / 'r.json'}", path=path)
    assert result.returncode == 1
    assert json.loads((tmp_path / "r.json").read_text())["outcomes"] == {"passed": 1, "crash": 1}


def test_an_interrupted_run_is_marked_incomplete(conformance_test, tmp_path):
    path = conformance_test("def test_a():\n    pass\n\ndef test_b():\n    raise KeyboardInterrupt\n")
    result = run(f"--report={tmp_path / 'r.json'}", path=path)
    assert result.returncode == 2
    assert not json.loads((tmp_path / "r.json").read_text())["complete"]
    assert "INCOMPLETE" in result.stdout


def test_without_the_ledger_the_known_deviations_fail(tmp_path):
    path = "tests/conformance/test_multihead_attention.py"
    result = run("--no-ledger", f"--report={tmp_path / 'r.json'}", "--hypothesis-seed=1", path=path)
    assert result.returncode == 1
    assert "MultiheadAttention does not do what it should" in result.stdout
    assert "python -m tests.harness.again" in result.stdout


@pytest.mark.parametrize("folder", ["tests/reference", "tests/selftest"])
def test_the_suites_own_tests_measure_nothing(folder):
    result = run("--collect-only", "-q", path=folder)
    assert result.returncode == 0
    assert "attention masks" not in result.stdout


def test_a_baseline_makes_the_run_a_gate(conformance_test, tmp_path):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    path = conformance_test("def test_it():\n    assert False, 'torch is wrong'\n")
    assert run(f"--report={old}", path=path).returncode == 1
    same = run(f"--baseline={old}", f"--report={new}", path=path)
    assert same.returncode == 0
    assert "nothing changed" in same.stdout
    conformance_test("def test_it():\n    pass\n")
    fixed = run(f"--baseline={old}", f"--report={new}", path=path)
    assert fixed.returncode == 0
    assert "fixed (1)" in fixed.stdout
    conformance_test("def test_it():\n    assert False\n")
    assert run(f"--baseline={new}", f"--report={old}", path=path).returncode == 1


def test_a_baseline_that_is_no_record_is_a_usage_error(tmp_path):
    result = run(f"--baseline={tmp_path / 'none.json'}")
    assert result.returncode == USAGE
    assert "none.json: not a whole record" in result.stderr


def test_shards_are_the_whole(tmp_path):
    tests = []
    for name in ("1/2", "2/2", "1/1"):
        report = tmp_path / f"{name[0]}{name[2]}.json"
        assert run(f"--shard={name}", f"--report={report}").returncode == 0
        tests.append(set(json.loads(report.read_text())["tests"]))
    one, two, whole = tests
    assert one | two == whole
    assert not one & two
