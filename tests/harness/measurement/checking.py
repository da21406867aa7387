"""The assertions of conformance tests: they run, judge and count cases.

On a failure, they raise Nonconformance; or, if the run collects failures (Session.collects), they keep it and go on.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import currently_in_test_context, event

from ..cases.case import Case, drops
from ..cases.laws import Law
from ..contents.results import as_held, garbage_rows
from ..deviations import ledger
from ..deviations.call import Call
from ..deviations.facts import announces, backward_pass
from ..deviations.refusals import refusal
from ..execution.dangers import end_if_lost
from ..execution.implementation import DECLINED
from ..execution.runner import Observation, is_withheld, made_once, observe, observe_apart
from ..expectation import clauses
from ..expectation.specification import specification
from ..judgement import left_out
from ..judgement.comparison import CONTENT, Mismatch, compare_arrays
from ..judgement.prediction import bounds
from ..judgement.report import failure_of
from ..judgement.verdict import CONFORMS, FAILS, NOT_APPLICABLE, Verdict, judge
from . import session


def judged(case: Case, apart: bool = False) -> tuple[Observation, Verdict]:
    """Run and judge the case in the current session, and count it. apart: run it in a separate process."""
    run = session.current
    observation = _observed(case, apart)
    call = Call(case, run.release, observation.served)
    exercised: frozenset[int] = frozenset()
    if _is_not_made(observation):
        verdict = Verdict(NOT_APPLICABLE, counts={(left_out.NOT_MADE, "results"): 1})
    elif refused := refusal(call):
        found = tuple(refused.mismatches(observation))
        verdict = Verdict(FAILS if found else CONFORMS, (), found, counts={(left_out.REFUSED, "results"): 1})
    else:
        deviations, exercised = ledger.applying(call, run.entries), clauses.of(case)
        if run.has_own_ledger:
            warns = run.adopted is None and announces(call)
            verdict = judge(case, observation, deviations, warns, backward_pass(case, run.release))
        else:
            verdict = _judge_leniently(call, observation, deviations)
    run.tally.add(case, observation, verdict, exercised)
    return observation, verdict


def _observed(case, apart=False):
    """The observation of the case. The case is noted first, since its call may crash the process."""
    run = session.current
    run.last_call.note(case)
    if apart:
        return observe_apart(case, run.device, run.adopted)
    try:
        observation = observe(case, run.device, run.adopted)
    except Exception as raised:  # raised again unless the device is lost
        end_if_lost(run.device, str(raised))
        raise
    if observation.error:
        end_if_lost(run.device, observation.error[1])
    return observation


def _judge_leniently(call, observation, deviations):
    """The verdict on another implementation or device, which has no ledger of its own.

    A call may conform, or deviate as torch on CPU does; an error of torch's is not asked of others.
    """
    judged_by = partial(judge, call.case, observation, backward_pass=backward_pass(call.case, call.release))
    verdict = judged_by()
    if verdict.status == CONFORMS or not deviations:
        return verdict
    without_errors = tuple(its for its in deviations if its.change(specification(call.case)).error is None)
    alike = map(judged_by, dict.fromkeys((deviations, without_errors)))
    return next((its for its in alike if its.status != FAILS), verdict)


def _is_not_made(observation):
    """True if the call was not made: the subject declined it, or the harness skipped it because it may crash."""
    declined = session.current.adopted is not None and observation.error is not None
    return is_withheld(observation) or (declined and observation.error[0] == DECLINED)


def _is_asked(*cases, among=clauses.OF_CASES):
    """True unless the run is limited to clauses (--clause) and none of the cases exercises a selected one.

    among: the clauses that the test can check. If False is returned, the cases are counted as unasked.
    """
    run = session.current
    if not run.clauses or any(run.clauses & among & clauses.of(case) for case in cases):
        return True
    run.tally.unasked += len(cases)
    return False


def check(case: Case) -> None:
    """Fail unless the case conforms or deviates as predicted."""
    __tracebackhide__ = True
    if _is_asked(case):
        _checked(case)


def _checked(case, first=None):
    """(observation, verdict) of the case. Fails unless it conforms or deviates as predicted.

    first: the case for which the artifact was made, if it is not `case`.
    """
    __tracebackhide__ = True
    observation, verdict = judged(case)
    if currently_in_test_context():
        event(", ".join(sorted(set(observation.served))) or "no path")
    if verdict.status == FAILS:
        _fail(case, observation, verdict, first=first)
    return observation, verdict


def check_in_turn(cases: Sequence[Case]) -> None:
    """Check the cases one after the other; the artifact that the mode makes for the first serves the others, too.

    cases: the others differ from the first in masks or sizes.
    """
    __tracebackhide__ = True
    first, *others = cases
    if not _is_asked(*cases):
        return
    with made_once():
        _checked(first)
        for case in others:
            _checked(case, first)


def _fail(case, observation, verdict, **others):
    """Keep the failure of the case, or raise it. others: further fields of its Failure."""
    __tracebackhide__ = True
    session.current.fail(failure_of(case, observation, verdict, session.current.setting, **others))


def check_contents(case: Case, number: int = 2) -> None:
    """Check the case with `number` different contents: drawing another small case would cost as much as its call."""
    __tracebackhide__ = True
    for step in range(number):
        check(replace(case, seed=case.seed + step))


def check_law(law: Law, case: Case) -> None:
    """Check the two calls that the law derives from the case."""
    __tracebackhide__ = True
    one, other = map(session.current.release.adapt, law.twins(case))
    check_twins(one, other, law.id)


def check_twins(one: Case, other: Case, law: str = "") -> None:
    """Fail unless both calls conform and give the same result.

    If the ledger predicts that a call deviates or raises, each is only compared with its own prediction. law: the id of
    the law, for the report.
    """
    __tracebackhide__ = True
    if not _is_asked(one, other):
        return
    (first, verdict), (second, its_verdict) = _checked(one), _checked(other)
    if FAILS in (verdict.status, its_verdict.status):
        return  # collected
    if verdict.deviations or its_verdict.deviations or first.error or second.error:
        session.current.tally.count({(left_out.TWIN, "results"): 1})
        return
    session.current.tally.count({(left_out.COMPARED, "twins"): 1})
    expected, got = _in_one_shape(one, first.outputs), _in_one_shape(other, second.outputs)
    garbage = _in_one_shape(other, _garbage(other, second.outputs))
    if getattr(other, "only", None) is not None:
        expected = {name: array[other.only][None] for name, array in expected.items()}
    for name in sorted(set(expected) & set(got)):
        for allowed in bounds(other, name):
            arrays = (expected[name], got[name], 2 * allowed, garbage[name])
            mismatch, _ = compare_arrays(name, *arrays, zero_is_exact=False)
            if mismatch is None:
                break
        if mismatch:
            note = f"Expected is the result of the twin ({law.replace('_', ' ')}): {one!r}."
            _fail(other, second, Verdict(FAILS, (), (mismatch,)), twin=one, law=law, note=note, rules=("law",))


def _in_one_shape(case, outputs):
    """The results in batch-first layout, with a batch dimension."""
    shaped = {"output": as_held(case, "query", outputs["output"])}
    if "weights" in outputs:
        shaped["weights"] = outputs["weights"] if case.batched else outputs["weights"][None]
    return shaped


def _garbage(case, outputs):
    """{name: bool array in the shape of the result}: True in rows of garbage queries (results.garbage_rows)."""
    return {
        name: np.zeros(outputs[name].shape, bool) if rows is None else np.broadcast_to(rows, outputs[name].shape)
        for name, rows in garbage_rows(case, outputs).items()
    }


# The clauses that check_same_without_garbage can check: it compares nothing with the reference.
_HIDDEN, _HIDDEN_UNDER_DROPOUT = frozenset({5}), frozenset({5, 7})


def check_same_without_garbage(case: Case) -> None:
    """Fail if large numbers in hidden positions change a bit of the results, except in their own rows.

    A case that raises or deviates is left out: other tests compare its result with the prediction.
    """
    __tracebackhide__ = True
    checked = _HIDDEN_UNDER_DROPOUT if drops(case) else _HIDDEN
    if not _is_asked(case, among=checked):
        return
    outputs = []
    for garbage in (False, True):
        its_case = replace(case, garbage=garbage)
        observation = _observed(its_case)
        call = Call(its_case, session.current.release, observation.served)
        if observation.error or ledger.applying(call, session.current.entries):
            session.current.tally.count({(left_out.TWIN, "results"): 1})
            return
        outputs.append(observation.outputs)
    session.current.tally.add(case, observation, Verdict(CONFORMS), checked & clauses.of(case))
    for name, rows in _garbage(case, outputs[0]).items():
        expected, got = (np.where(rows, 0, array[name]) for array in outputs)
        if not np.array_equal(expected, got, equal_nan=True):
            where = tuple(int(i) for i in np.argwhere(expected != got)[0])
            what = f"{name} with large numbers in hidden positions"
            numbers = float(expected[where]), float(got[where])
            mismatch = Mismatch(what, *numbers, where, kind=CONTENT, of=(name,))
            _fail(case, observation, Verdict(FAILS, (), (mismatch,)))
