"""The suite runs on devices with unknown abilities."""

import json

import pytest
from hypothesis import find
from torch.utils import backend_registration

from tests.harness.execution.release import Release
from tests.harness.measurement import session
from tests.harness.strategies.modules import any_cases
from tests.harness.wrong_masks.table import CALLS, not_applicable

from .test_options import run

TRANSFORMER = "tests/conformance/test_transformer.py"
DECODERS = ("TransformerDecoder", "TransformerDecoderLayer")
MADE_IN_PYTHON = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


def test_a_device_without_float64_is_asked_in_float32(monkeypatch):
    monkeypatch.setattr(Release, "_can", lambda self, function, dtype: dtype == "float32")
    former = session.current
    try:
        run = session.start()
        assert {finding.status for finding in run.findings.values()} <= {"present", "absent", "not applicable"}
        assert find(any_cases(run.release), lambda case: True).dtype == "float32"
        possible = [call.fault for call in CALLS if not not_applicable(call, run.release)]
        assert all("float64" not in (fault.inputs, fault.dtype) for fault in possible)
        assert len(possible) > 900
    finally:
        session.current = former


@pytest.mark.skipif(not MADE_IN_PYTHON, reason="this release takes no device that is made in Python")
def test_a_device_that_is_neither_cpu_nor_cuda(tmp_path):
    report = tmp_path / "record.json"
    device = ("--import=tests.selftest.pretend", "--device=pretend", f"--report={report}")
    tests = ("-k", "as_specified and not Encoder and not Transformer]")  # these modules need nested tensors
    result = run(*device, *tests, "tests/conformance/test_multihead_attention.py", path=TRANSFORMER)
    assert result.returncode == 0, result.stdout
    record = json.loads(report.read_text())
    assert record["environment"]["device"] == "pretend"
    assert set(record["paths"]) == {"MultiheadAttention", "multi_head_attention_forward", *DECODERS}
