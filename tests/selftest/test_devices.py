"""Other devices: nothing in the suite assumes what they can do."""

from hypothesis import find

from tests.harness import session
from tests.harness.release import Release
from tests.harness.strategies import any_cases
from tests.harness.wrong_masks import CALLS, not_applicable


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
