"""Cheap tests come first, for each worker."""

import pytest

from tests.harness.measurement.order import FILES, dealt, place
from tests.selftest.runs import ROOT, run


def test_every_file_of_conformance_tests_has_its_place():
    files = {path.name for path in (ROOT / "tests" / "conformance").glob("test_*.py")}
    assert set(FILES) == files


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_each_worker_begins_with_the_first_tests(workers):
    tests = list(range(20))
    blocks = dealt(tests, workers)
    assert sorted(blocks) == tests
    starts = [blocks.index(number) for number in range(workers)]
    assert starts == sorted(starts)
    assert blocks[:3] == [0, workers, 2 * workers]


def test_compiled_calls_come_last():
    assert place("test_modes.py", is_slow=False) < place("test_ledger.py", is_slow=True)
    assert place("test_clauses.py", is_slow=False) < place("test_wrong_masks.py", is_slow=False)


def test_a_run_collects_in_this_order(tmp_path):
    result = run("--collect-only", "-q", f"--report={tmp_path / 'r.json'}", path="tests/conformance")
    names = [line.partition("::")[0].rpartition("/")[2] for line in result.stdout.splitlines() if "::" in line]
    cheap = names[: names.index("test_modes.py")]
    assert cheap == sorted(cheap, key=FILES.index)
    last = result.stdout.splitlines()[len(names) - 1]
    assert any(word in last for word in ("compiled", "written"))  # attention written by hand is compiled, too
