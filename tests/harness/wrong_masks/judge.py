"""Judges a call with a wrong mask: clause 9, or the entry that applies."""

from dataclasses import dataclass
from functools import cache

from ..execution.implementation import DECLINED
from ..execution.setting import CPU
from ..judgement.report import Nonconformance
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from .ledger import ENTRIES, WrongMaskDeviation
from .results import NOTHING_COMPARED, Comparison, compare
from .sequences import ROWS
from .table import ACCEPTS, UNHELPFUL, not_applicable, observe, source


@dataclass(frozen=True)
class Judgement:
    """status: one of verdict.py. entry: what was expected instead of a helpful exception, if anything.

    comparison: of the result with what was expected, where the call is accepted.
    """

    status: str
    entry: WrongMaskDeviation | None = None
    comparison: Comparison = NOTHING_COMPARED


def predicted_entry(call, release, entries):
    """The entry that applies to the call, or None."""
    return next((entry for entry in entries if entry.predicts(call, release)), None)


def judge_row(call, outcome, release, entries):
    """Compare what happened with clause 9, or with the entry that applies."""
    if release.adopted and outcome.error.startswith(DECLINED):
        return Judgement(NOT_APPLICABLE)
    entry = predicted_entry(call, release, entries)
    compared = entry.compared(call, outcome) if entry else None
    if compared is not None and not compared.mismatches:
        return Judgement(DEVIATES, entry, compared)
    conforms, right = outcome.kind in call.conforming, NOTHING_COMPARED
    if conforms and outcome.kind == ACCEPTS:
        right = compare(call, outcome)
        conforms = not right.mismatches
    if entry is None or release.adopted or not release.is_measured:
        return Judgement(CONFORMS if conforms else FAILS, None, right)
    # fixed as a whole, or is this one row that the entry is wrong about?
    is_fixed = conforms and not is_shown(entry, release)
    return Judgement(CONFORMS, None, right) if is_fixed else Judgement(FAILS, entry, compared or NOTHING_COMPARED)


@cache
def is_shown(entry, release):
    """True if any row shows the deviation."""
    return any(entry.shows(call, observe(call, release.setting)) for call in rows_of(entry, release))


def rows_of(entry, release):
    """The calls that would show the deviation, had the release got it: those that no other entry predicts."""
    others = [other for other in ENTRIES if other is not entry]
    possible = (call for call in ROWS if not not_applicable(call, release) and entry.applies(call, release))
    return [call for call in possible if predicted_entry(call, release, others) is None]


def check_row(call, run):
    """Fail unless what happens in this session (session.Session) is right, or predicted."""
    __tracebackhide__ = True
    outcome = observe(call, run.setting)
    judgement = judge_row(call, outcome, run.release, run.wrong_masks)
    run.tally.add_wrong_call(call, judgement)
    if judgement.status == FAILS:
        raise Nonconformance(explain_row(call, outcome, judgement, run.setting))


def check_rows(calls, run):
    """Check each of the calls, and fail with the reports on all that fail."""
    __tracebackhide__ = True
    reports = []
    for call in calls:
        try:
            check_row(call, run)
        except Nonconformance as failure:
            reports.append(str(failure))
    if reports:
        raise Nonconformance("\n".join(reports))


def explain_row(call, outcome, judgement, setting=CPU):
    """The report on a row that fails, as text."""
    entry = judgement.entry
    expected = call.expected
    if entry is not None:
        expected = f"what the ledger knows here: {entry.id}, {entry.instead} ({entry.effect})"
    elif judgement.comparison.mismatches:
        expected = "the result of the mask in the precision of the inputs, or " + expected
    got = {ACCEPTS: "no exception", UNHELPFUL: f"an exception that does not name the mask: {outcome.error}"}
    called = setting.subject or call.module
    lines = [
        f"{called} does not do what it should with a wrong {call.argument}, {call.fault.name}:",
        "",
        f"    expected {expected}",
        f"    got      {got.get(outcome.kind, outcome.error)}",
        *(f"    {_told(mismatch)}" for mismatch in judgement.comparison.mismatches),
        "",
        f"Call (the right shape of {call.argument} is {call.right_shape}):",
        "",
        *(f"    {line}" for line in ("import torch", *source(call, setting).splitlines())),
        "",
        f"Row: {call.id}",
    ]
    return "\n".join([*lines, ""])


def _told(mismatch):
    where = f" at {list(mismatch.where)}" if mismatch.where is not None else ""
    off = f", off by {mismatch.error:.3g} where {mismatch.bound:.3g} is allowed" if mismatch.bound is not None else ""
    return f"{mismatch.what}{where}: expected {mismatch.expected}, got {mismatch.got}{off}"
