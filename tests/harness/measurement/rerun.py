"""Makes the calls of a failure again, and of simpler variants of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from ..cases.case import Case
from ..cases.simpler import is_valid, simpler
from ..judgement.comparison import CONTENT
from ..judgement.groups import are_alike
from ..judgement.report import Failure
from ..modes.modes import BY_ID
from ..wrong_masks.judge import check_row
from ..wrong_masks.sequences import ROWS
from . import session
from .checking import check_in_turn, check_same_without_garbage, check_twins
from .last_call import LastCall


@contextmanager
def collecting() -> Iterator[session.Tally]:
    """A context in which failures are collected in a tally of their own. No clause limits the calls."""
    run = session.current
    changed: dict[str, Any] = {"tally": session.Tally(), "collects": True, "clauses": frozenset()}
    changed["last_call"] = LastCall()
    before = {name: getattr(run, name) for name in changed}
    vars(run).update(changed)
    try:
        yield run.tally
    finally:
        vars(run).update(before)


def failures_again(failure: Failure) -> tuple[Failure, ...]:
    """The failures when the calls of a failure are made again in this process. Empty if they conform now."""
    with collecting() as tally:
        if failure.row:
            check_row(next(call for call in ROWS if call.id == failure.row), session.current)
        elif failure.case is not None and failure.twin is not None:
            check_twins(failure.twin, failure.case, failure.law)
        elif failure.case is not None and any(its.kind == CONTENT for its in failure.mismatches):
            check_same_without_garbage(failure.case)
        elif failure.case is not None:
            check_in_turn([case for case in (failure.first, failure.case) if case is not None])
    return tuple(call for group in tally.groups.all() for call in group.calls)


def still_failing(failure: Failure) -> Failure | None:
    """The failure when the calls are made again, if it differs from the expected outcome in the same way; else None."""
    if failure.case is not None and not session.current.release.offers(failure.case):
        return None
    try:
        found = failures_again(failure)
    except Exception:  # a variant may be a call that the suite cannot judge
        return None
    return next((its for its in found if are_alike(its, failure)), None)


def simpler_failures(failure: Failure) -> Iterator[Failure]:
    """Generates the failure with simpler calls, not yet made: its mismatches are those of the failure."""
    if failure.case is None:
        return
    if failure.first is not None:  # does the call fail by itself, without reuse of an artifact?
        yield replace(failure, first=None)
    for case in simpler(failure.case):
        others: dict[str, Any] = {
            name: _alike(case, failure.case, getattr(failure, name)) for name in ("first", "twin")
        }
        is_whole = all((others[name] is None) == (getattr(failure, name) is None) for name in others)
        cases = (case, *(its for its in others.values() if its is not None))
        if is_whole and all(is_valid(its) and BY_ID[its.mode].takes(its.dtype) for its in cases):
            yield replace(failure, case=case, **others)


def plainer(failure: Failure) -> Failure:
    """The failure of a plainer call: made eagerly, or of a module inside, as far as it fails in the same way."""
    tries, is_plainer = _PLAINER_CALLS, True
    while is_plainer:
        is_plainer = False
        for asked in simpler_failures(failure):
            if _place(asked) != _place(failure) and tries:
                tries -= 1
                if found := still_failing(asked):
                    failure, is_plainer = found, True
                    break
    return failure


_PLAINER_CALLS = 10  # that are tried for one failure


def _place(failure):
    return (failure.case.mode, failure.case.module) if failure.case else None


def _alike(simple: Case, case: Case, other: Case | None) -> Case | None:
    """The other case with the changes from a case to a simple one; None if they cannot be made to it."""
    if other is None or type(simple) is not type(other):
        return None
    names = [field.name for field in fields(simple) if getattr(simple, field.name) != getattr(case, field.name)]
    if any(getattr(other, name) != getattr(case, name) for name in names):
        return None
    return replace(other, **{name: getattr(simple, name) for name in names})
