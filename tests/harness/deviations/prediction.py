"""The model of a release applied to a call that is not run."""

from dataclasses import dataclass
from functools import cache

from ..cases.case import Case
from ..execution.release import Release
from ..judgement.verdict import showing
from ..modes.written import is_written
from . import ledger
from .call import Call
from .entry import Deviation
from .kernels import kernels
from .refusals import Refusal, refusal

CONFORMS, DEVIATES, REFUSED, LACKING = "conforms", "deviates", "refused", "lacking"


@dataclass(frozen=True)
class Prediction:
    """The predicted outcome of a call."""

    status: str  # CONFORMS, DEVIATES, REFUSED, or LACKING if the release cannot make the call, or it is not predicted
    ids: tuple[str, ...] = ()  # of the entries that show, in order
    refusal: Refusal | None = None  # the documented error


def prediction(case: Case, release: Release, named: str | None = None) -> Prediction:
    """The predicted outcome of a case in a release (AnotherRelease, or the installed one). named: see `kernels`."""
    if not _can_be_called(case, release):
        return Prediction(LACKING)
    call = Call(case, release, kernels(case, release, named))
    if refused := refusal(call):
        return Prediction(REFUSED, refusal=refused)
    ids = _showing(call)
    return Prediction(DEVIATES if ids else CONFORMS, ids)


def _showing(call):
    """The ids of the entries that show: with those that some CPUs alone have, or else without them."""
    applied = ledger.applying(call, concerning(call.release))
    on_some = {entry.id for entry in concerning(call.release) if not entry.every_cpu}
    ids = showing(call.case, applied, call.served)
    if on_some.isdisjoint(ids):
        return ids
    everywhere = showing(call.case, [its for its in applied if its.id not in on_some], call.served)
    return tuple(its.id for its in applied if its.id in everywhere or (its.id in on_some and its.id in ids))


@cache
def concerning(release: Release) -> tuple[Deviation, ...]:
    """The entries of the ledger that concern the release on some CPU."""
    return tuple(entry for entry in ledger.ENTRIES if entry.concerns(release))


def _can_be_called(case, release):
    """True if the call can be made and predicted; attention written by hand tells only when run if it is rewritten."""
    return not is_written(case) and case.dtype in (*release.dtypes, *release.low_dtypes) and release.offers(case)
