"""Judges a call with a wrong mask by clause 9, or by the entry that predicts its outcome."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ..execution.implementation import DECLINED
from ..execution.release import Release
from ..execution.setting import CPU, Setting
from ..judgement.outcomes import ACCEPTS, UNHELPFUL, outcome_in_words
from ..judgement.report import Failure, Nonconformance, quotations
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from ..judgement.wording import differences
from .entry import WrongMaskDeviation
from .ledger import ENTRIES
from .outcome import Outcome, observe, source
from .results import NOTHING_COMPARED, Comparison, compare
from .sequences import ROWS
from .table import WrongCall, not_applicable

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
    is_lent = release.adopted is not None and release.adopted.ledger is None
    if entry is None or is_lent or not release.is_measured:
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
    known = release.adopted.ledger.WRONG_MASKS if release.adopted and release.adopted.ledger else ENTRIES
    others = [other for other in known if other is not entry]
    possible = (call for call in ROWS if not not_applicable(call, release) and entry.applies(call, release))
    return [call for call in possible if predicted_entry(call, release, others) is None]


def check_row(call: WrongCall, run: "Session") -> None:
    """Make the call and fail unless the outcome conforms to clause 9 or is predicted."""
    __tracebackhide__ = True
    outcome = observe(call, run.setting)
    judgement = judge_row(call, outcome, run.release, run.wrong_masks)
    run.tally.add_wrong_call(call, judgement)
    if judgement.status == FAILS:
        run.fail(failure_of(call, outcome, judgement, run.setting), report)


def check_rows(calls: Iterable[WrongCall], run: "Session") -> None:
    """Check each call. Unless the run collects failures, raise one Nonconformance on all calls that fail."""
    __tracebackhide__ = True
    failed = []
    for call in calls:
        try:
            check_row(call, run)
        except Nonconformance as raised:
            failed.append(raised)
    if failed:
        raise Nonconformance("\n".join(map(str, failed)), *(failure for its in failed for failure in its.failures))


def failure_of(call: WrongCall, outcome: Outcome, judgement: Judgement, setting: Setting = CPU) -> Failure:
    """The failure of a row, from its judgement."""
    entry, module = judgement.entry, setting.factory or call.module
    who = ", ".join(filter(None, (module, {"training": "train", "inference": "eval"}.get(call.mode))))
    need_not_name = UNHELPFUL in call.conforming
    expects = "an error" if need_not_name else "an error that names it"
    if ACCEPTS in call.conforming:
        expects += ", or the result of the mask in the precision of the inputs"
    expects = f"the ledger expects: {entry.instead}" if entry else f"expected {expects}"
    found = differences(None, judgement.comparison.mismatches, ids := (entry.id,) if entry else ())
    result = f"; {found[0].says}" if found else ""
    message = next(iter(outcome.error.splitlines()), "")
    return Failure(
        title=f"{who}: {_wrong_argument(call)} {outcome_in_words(outcome.kind, message)}; {expects}{result}",
        module=module,
        row=call.id,
        outcome=outcome.kind,
        message=message,
        mismatches=found,
        rules=("silent",) if need_not_name else ("wrong mask",),
        deviations=ids,
        setting=setting,
    )


def _wrong_argument(call):
    """The argument and its fault: "memory_mask of shape (24,) (flat; right is (4, 6))"."""
    fault, words = call.fault, call.fault.name.replace("_", " ")
    if call.shape not in (None, call.right_shape, dict(call.callee.masks).get(call.argument)):
        return f"{call.argument} of shape {call.shape} ({words}; right is {call.right_shape})"
    dtype = f" of dtype {fault.dtype} beside {fault.inputs}" if fault.dtype != "bool" else ""
    return f"{call.argument}{dtype} ({words})"


def report(failure: Failure) -> str:
    """The text on the failure of a row."""
    call = next(call for call in ROWS if call.id == failure.row)
    lines = [failure.title, "", *(f"    and {difference.says}" for difference in failure.mismatches[1:])]
    lines += [*quotations(failure), "", f"Call (the right shape of {call.argument} is {call.right_shape}):", ""]
    lines += [f"    {line}" for line in ("import torch", *source(call, failure.setting).splitlines())]
    return "\n".join([*lines, "", f"Row: {failure.row}", ""])
