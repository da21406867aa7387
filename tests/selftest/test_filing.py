"""A failing run writes scripts and issues that agree with its failures."""

import subprocess
import sys
from dataclasses import replace

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.runner import observe
from tests.harness.judgement.comparison import SETTING, Mismatch
from tests.harness.judgement.outcomes import ACCEPTS
from tests.harness.judgement.report import Failure, failure_of, report
from tests.harness.judgement.verdict import FAILS, Verdict
from tests.harness.wrong_masks.judge import Judgement
from tests.harness.wrong_masks.judge import failure_of as failure_of_row
from tests.harness.wrong_masks.outcome import Outcome
from tests.harness.wrong_masks.table import CALLS
from tests.tools.filing import file_failures, folder_of

EMPTY_ROW = MultiHead(attn_mask=Mask("bool", "all"))
LARGE = MultiHead(N=2, L=60, S=60, num_heads=2, attn_mask=Mask("float", "random", "bias", per_head=True))
ROW = next(call for call in CALLS if call.module == "Transformer" and call.fault.name == "int64")
ENVIRONMENT = {"torch": "2.15.0+cpu", "device": "cpu", "seed": "7"}


def failure(case, deviations=()):
    mismatch = Mismatch("output", 0.5, float("nan"), (0, 0, 0), 0.0, 1e-9)
    return failure_of(case, observe(case), Verdict(FAILS, deviations, (mismatch,)))


def failed(*failures, outcome="failed"):
    return {"outcome": outcome, "failures": [its.as_plain() for its in failures], "message": "read by nobody"}


def record(**tests):
    tests = {f"tests/conformance/test_{name}.py::test_it[{name}]": result for name, result in tests.items()}
    return {"environment": ENVIRONMENT, "tests": tests}


def test_a_failure_leaves_a_script_and_an_issue(tmp_path):
    made = record(
        module=failed(failure(EMPTY_ROW)),
        fine={"outcome": "passed"},
        ours=failed(failure(EMPTY_ROW), outcome="harness error"),
        other=failed(Failure("an entry is absent", entry="flash-float32-mask")),
        silent={"outcome": "failed", "message": "no failure"},
    )
    (place,) = file_failures(made, tmp_path)
    assert place == tmp_path / "2.15.0" / "module-it-module"
    title, *lines = (place / "issue.md").read_text().splitlines()
    assert title == f"# {failure(EMPTY_ROW).title}"
    text = "\n".join(lines)
    for words in ("4. A query that sees no key", "(exit code 1)", "seed: 7", "import torch"):
        assert words in text
    assert "1. The score" not in text  # clause 1 is not broken
    assert subprocess.run([sys.executable, place / "script.py"], capture_output=True, check=False).returncode == 1


def test_an_issue_names_the_remedies_of_what_is_known_of_the_call(tmp_path):
    told = failure(EMPTY_ROW, ("empty-row-nan-explicit", "native-layer-float-mask"))
    (place,) = file_failures(record(known=failed(told)), tmp_path)
    issue = (place / "issue.md").read_text()
    assert "- empty-row-nan-explicit: Call with need_weights=False (from 2.5" in issue
    assert "- native-layer-float-mask: Call torch.backends.mha.set_fastpath_enabled(False) first (" in issue


def test_a_setting_that_changes_leaves_no_script_that_could_not_show_it(tmp_path):
    changed = Mismatch("training after the call", "unchanged", "changed", kind=SETTING, of=("training",))
    told = failure_of(EMPTY_ROW, observe(EMPTY_ROW), Verdict(FAILS, (), (changed,)))
    assert file_failures(record(settings=failed(told)), tmp_path) == []


def test_a_wrong_mask_leaves_its_row(tmp_path):
    row = failure_of_row(ROW, Outcome(ACCEPTS), Judgement(FAILS))
    (place,) = file_failures(record(wrong=failed(row, replace(row, title="another row"))), tmp_path)
    assert "int64" in (place / "script.py").read_text()
    issue = (place / "issue.md").read_text()
    assert issue.startswith(f"# Transformer, train: {ROW.argument} of dtype int64 beside float32 (int64) is accepted;")
    assert "- another row" in issue


def test_a_mask_may_be_so_large_that_its_report_is_not_kept_whole(tmp_path):
    assert len(report(failure(LARGE))) > 20_000
    (place,) = file_failures(record(large=failed(failure(LARGE))), tmp_path)
    assert "per_head" not in (place / "issue.md").read_text()
    assert subprocess.run([sys.executable, place / "script.py"], capture_output=True, check=False).returncode == 0


def test_the_first_failure_that_a_script_can_show_is_filed(tmp_path):
    (place,) = file_failures(record(two=failed(Failure("no call"), failure(EMPTY_ROW))), tmp_path)
    assert "- no call" in (place / "issue.md").read_text()


def test_a_folder_has_the_name_of_its_test():
    assert folder_of("tests/conformance/test_a.py::test_b[c-d e]") == "a-b-c-d-e"
