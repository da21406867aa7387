"""Judges a call with a wrong mask by clause 9, or by the entry that predicts its outcome."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ..execution.implementation import DECLINED
from ..execution.release import Release
from ..execution.setting import CPU, Setting
from ..judgement.report import Nonconformance
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from .ledger import ENTRIES, WrongMaskDeviation
from .results import NOTHING_COMPARED, Comparison, compare
from .sequences import ROWS
from .table import ACCEPTS, UNHELPFUL, Outcome, WrongCall, not_applicable, observe, source

if TYPE_CHECKING:
    from ..measurement.session import Session


@dataclass(frozen=True)
class Judgement:
    """The judgement on one call."""

    status: str  # one of verdict.py
    entry: WrongMaskDeviation | None = None  # the expected deviation, if any
    comparison: Comparison = NOTHING_COMPARED  # of the result of an accepted call


def predicted_entry(
    call: WrongCall, release: Release, entries: Iterable[WrongMaskDeviation]
) -> WrongMaskDeviation | None:
    """The first entry that predicts the outcome of the call; None if none does."""
    return next((entry for entry in entries if entry.predicts(call, release)), None)


def judge_row(call: WrongCall, outcome: Outcome, release: Release, entries: Sequence[WrongMaskDeviation]) -> Judgement:
    """Compare the outcome with the entry that predicts it, and with clause 9."""
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
    # If no other row shows the entry either, it is fixed; else it is wrong about this row.
    is_fixed = conforms and not is_shown(entry, release)
    return Judgement(CONFORMS, None, right) if is_fixed else Judgement(FAILS, entry, compared or NOTHING_COMPARED)


@cache
def is_shown(entry: WrongMaskDeviation, release: Release) -> bool:
    """True if any row shows the deviation in the release, which must be the installed one."""
    return any(entry.shows(call, observe(call, release.setting)) for call in rows_of(entry, release))


def rows_of(entry: WrongMaskDeviation, release: Release) -> list[WrongCall]:
    """The rows that show the deviation if the release has it: the entry applies, and no other entry predicts them."""
    others = [other for other in ENTRIES if other is not entry]
    possible = (call for call in ROWS if not not_applicable(call, release) and entry.applies(call, release))
    return [call for call in possible if predicted_entry(call, release, others) is None]


def check_row(call: WrongCall, run: "Session") -> None:
    """Make the call and raise Nonconformance unless the outcome conforms to clause 9 or is predicted."""
    __tracebackhide__ = True
    outcome = observe(call, run.setting)
    judgement = judge_row(call, outcome, run.release, run.wrong_masks)
    run.tally.add_wrong_call(call, judgement)
    if judgement.status == FAILS:
        raise Nonconformance(explain_row(call, outcome, judgement, run.setting))


def check_rows(calls: Iterable[WrongCall], run: "Session") -> None:
    """Check each call; raise one Nonconformance with the reports on all calls that fail."""
    __tracebackhide__ = True
    reports = []
    for call in calls:
        try:
            check_row(call, run)
        except Nonconformance as failure:
            reports.append(str(failure))
    if reports:
        raise Nonconformance("\n".join(reports))


def explain_row(call: WrongCall, outcome: Outcome, judgement: Judgement, setting: Setting = CPU) -> str:
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
