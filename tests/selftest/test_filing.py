"""A failing run leaves scripts and issues, which say what the failure said."""

import subprocess
import sys

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.runner import observe
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.report import explain
from tests.harness.judgement.verdict import FAILS, Verdict
from tests.harness.wrong_masks.judge import Judgement, explain_row
from tests.harness.wrong_masks.table import ACCEPTS, CALLS, Outcome
from tests.tools.filing import Failure, file_failures

EMPTY_ROW = MultiHead(attn_mask=Mask("bool", "all"))
ROW = next(call for call in CALLS if call.module == "Transformer" and call.fault.name == "int64")
ENVIRONMENT = {"torch": "2.15.0+cpu", "device": "cpu", "seed": "7"}


def message(case, deviations=()):
    mismatch = Mismatch("output", 0.5, float("nan"), (0, 0, 0), 0.0, 1e-9)
    return explain(case, observe(case), Verdict(FAILS, deviations, (mismatch,)))


def record(**tests):
    tests = {f"tests/conformance/test_{name}.py::test_it[{name}]": result for name, result in tests.items()}
    return {"environment": ENVIRONMENT, "tests": tests}


def test_a_failure_leaves_a_script_and_an_issue(tmp_path):
    made = record(
        module={"outcome": "failed", "message": message(EMPTY_ROW)},
        fine={"outcome": "passed"},
        ours={"outcome": "harness error", "message": message(EMPTY_ROW)},
        other={"outcome": "failed", "message": "no case in it"},
    )
    (place,) = file_failures(made, tmp_path)
    assert place == tmp_path / "2.15.0" / "module-it-module"
    text = (place / "issue.md").read_text()
    assert text.startswith("# MultiheadAttention: output[0, 0, 0]: expected 0.5, got nan")
    for words in ("1. The score", "4. A query that sees no key", "(exit code 1)", "seed: 7", "import torch"):
        assert words in text
    assert subprocess.run([sys.executable, place / "script.py"], capture_output=True, check=False).returncode == 1


def test_an_issue_names_the_remedies_of_what_is_known_of_the_call(tmp_path):
    text = message(EMPTY_ROW, ("empty-row-nan-explicit", "native-layer-float-mask"))
    (place,) = file_failures(record(known={"outcome": "failed", "message": text}), tmp_path)
    issue = (place / "issue.md").read_text()
    assert "- empty-row-nan-explicit: Call with need_weights=False (from 2.5" in issue
    assert "- native-layer-float-mask: Call torch.backends.mha.set_fastpath_enabled(False) first (" in issue


def test_a_wrong_mask_leaves_its_row(tmp_path):
    text = explain_row(ROW, Outcome(ACCEPTS), Judgement(FAILS))
    (place,) = file_failures(record(wrong={"outcome": "failed", "message": text}), tmp_path)
    assert "int64" in (place / "script.py").read_text()
    assert "got      no exception" in (place / "issue.md").read_text()


def test_clauses_are_read_from_ranges_and_pairs():
    assert Failure("t", "(clause 1 to 4 of x)\n(clause 9 of x)").clauses == [1, 2, 3, 4, 9]
    assert Failure("t", "(clause 1 and 5 of x)").clauses == [1, 5]
    assert Failure("tests/conformance/test_a.py::test_b[c-d e]", "").id == "a-b-c-d-e"
