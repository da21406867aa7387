"""What a conformance test calls: run a case, judge it, count it, and fail so that a person can read it."""

from hypothesis import event, target

from . import ledger, session
from .failure import Nonconformance, explain
from .situations import Call
from .subject import observe
from .verdict import FAILS, judge


def judged(case):
    """(observation, verdict) of the case in this session, counted."""
    run = session.current
    observation = observe(case, run.device)
    deviations = ledger.applying(Call(case, run.release, observation.served), run.entries)
    verdict = judge(case, observation, deviations)
    run.tally.add(case, observation, verdict)
    return observation, verdict


def check(case):
    """Fail unless the case does what the model of the release says."""
    __tracebackhide__ = True
    observation, verdict = judged(case)
    event(", ".join(sorted(set(observation.served))) or "no path")
    if verdict.status == FAILS:
        raise Nonconformance(explain(case, observation, verdict))
    if verdict.ratio:
        target(verdict.ratio, label="error / bound")
