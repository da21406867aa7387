"""Explains the groups of failures of a run, and joins those with the same explanation: each change is told once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from packaging.version import Version

from ..deviations.entry import Entry
from ..execution.implementation import Adopted
from ..execution.setting import CPU, Setting
from ..judgement.groups import message_of, unnamed_error
from ..judgement.report import Failure
from .edits import Edits, Suspects
from .explain import Options, explain, explained_parts, set_apart, shows
from .explanation import BACK, BEHAVIOUR, GONE, KINDS, NARROWER, NEW, Changed, Explanation
from .rows import ModelOfRows, explained_rows
from .sight import Model, sighted


class Grouped(Protocol):
    """Failures that look alike (judgement/groups.py)."""

    @property
    def calls(self) -> tuple[Failure, ...]:
        """The failures that are kept, the simplest first."""

    @property
    def seen(self) -> int:
        """The number of failures."""


@dataclass(frozen=True)
class Explained:
    """The failures that one change of torch explains."""

    explanation: Explanation
    calls: tuple[Failure, ...]  # the simplest first
    seen: int = 0  # failing calls, those that are not kept included

    @property
    def least(self) -> Failure | None:
        """The simplest failure; None if only a pinned case tells the change."""
        return self.calls[0] if self.calls else None

    def as_plain(self) -> dict[str, Any]:
        """The change as plain data for a record."""
        calls = [failure.as_plain() for failure in self.calls]
        return {"explanation": self.explanation.as_plain(), "calls": calls, "seen": self.seen}

    @classmethod
    def from_plain(cls, plain: Any) -> "Explained":
        """The change from the data of `as_plain`. Raises BadInput, or an error of Python, for other data."""
        calls = tuple(map(Failure.from_plain, plain["calls"]))
        return cls(Explanation.from_plain(plain["explanation"]), calls, int(plain["seen"]))


@dataclass(frozen=True)
class Judge:
    """The models by which a run was judged, and the circumstances of its calls."""

    cases: Model
    rows: ModelOfRows
    shown: frozenset[str] = frozenset()  # ids of entries that some call of the run shows
    absent: frozenset[str] = frozenset()  # ids of entries whose pinned case does not show them, though it should
    until: Version | None = None  # the latest release whose entries and conditions are known; None for all
    setting: Setting = CPU
    adopted: Adopted | None = None

    def entry(self, id: str) -> Entry | None:
        """The entry of this id in either ledger."""
        entries: tuple[Any, ...] = (*self.cases.candidates, *self.rows.known)
        return next((its for its in entries if its.id == id), None)


def explained(groups: Iterable[Grouped], judge: Judge, suspects: Suspects | None = None) -> tuple[Explained, ...]:
    """The changes of torch that explain the groups, the gravest first, and entries that no call shows any more.

    suspects: edits that explain other groups. They are tried first; those that explain these are added.
    """
    found: list[Explained] = []
    suspects = Suspects() if suspects is None else suspects
    again = []
    for group in groups:
        for calls, explanation in _parts(group.calls, judge, suspects):
            change = Explained(explanation, tuple(calls), _seen(group, calls))
            if explanation.kind == NEW:
                again.append((change, suspects.number))
            else:
                _join(found, change)
    for change, known in again:  # by now more may be known that their neighbours show
        if known == suspects.number:
            _join(found, change)
            continue
        for calls, explanation in _parts(change.calls, judge, suspects):
            _join(found, Explained(explanation, tuple(calls), _seen(change, calls)))
    told = {id for its in found for id in its.explanation.entries}
    for id in sorted(judge.absent - told):
        kind = NARROWER if id in judge.shown else GONE
        found.append(Explained(Explanation(kind, (Changed(id, kind),), checked=1), ()))
    return tuple(sorted(found, key=lambda its: (KINDS.index(its.explanation.kind), -its.seen)))


def _seen(group, calls):
    """The number of failing calls of a part of a group; of a part alone only those that are kept are known."""
    return group.seen if len(calls) == len(group.calls) else len(calls)


def _join(found, change):
    """Add the change to those that were found; one with the same entries and the same effect grows."""
    key = _key(change)
    for i, other in enumerate(found):
        if key is not None and _key(other) == key:
            checked = other.explanation.checked + change.explanation.checked
            explanation = replace(other.explanation, checked=checked)
            calls = tuple(dict.fromkeys((*other.calls, *change.calls)))
            found[i] = Explained(explanation, calls, other.seen + change.seen)
            return
    found.append(change)


def _key(change):
    """The entries and their kinds of change, and the effect; None if nothing is known of a change.

    Wrong masks that are met by one error, which names none of them, have one cause, even if it is not known; so have
    calls with one error or warning.
    """
    explanation = change.explanation
    if explanation.kind == NEW:
        errors = {unnamed_error(failure) or message_of(failure) for failure in change.calls}
        return errors.pop() or None if len(errors) == 1 else None
    return frozenset((its.id, its.kind) for its in explanation.changed), explanation.effect


def _parts(calls: Sequence[Failure], judge: Judge, suspects: Suspects):
    """Generates (failures, explanation) for failures that look alike."""
    if judge.adopted and (known := tuple(_known(calls, judge, suspects))):
        yield from known
        told = [failure for its, _ in known for failure in its]
        if left := [failure for failure in calls if failure not in told]:
            yield left, Explanation(NEW, is_untried=True)
        return
    cases = [failure for failure in calls if failure.case and failure.mismatches and not failure.twin]
    rows = [failure for failure in calls if failure.row]
    others = [failure for failure in calls if failure not in cases and failure not in rows]
    if cases:
        asked = tuple(dict.fromkeys(failure.case for failure in cases if failure.case))
        options = _options(cases, judge, suspects)
        for part in explained_parts(asked, judge.cases, options):
            its = [failure for failure in cases if failure.case in part.calls]
            if its:
                yield its, _with_their_entries(part.explanation, its, judge)
    if rows:
        ids = tuple(dict.fromkeys(failure.row for failure in rows))
        for part in explained_rows(ids, judge.rows, judge.shown, judge.until, judge.setting, suspects.rows):
            named = {row.id for row in part.calls}
            its = [failure for failure in rows if failure.row in named]
            if its:
                yield its, part.explanation
    for failure in others:
        yield [failure], _of_twins(failure, judge, suspects) if failure.twin else _of_other(failure, judge)


def recognized(group: Grouped, judge: Judge, suspects: Suspects) -> tuple[Explained, ...]:
    """The parts of the group that a behaviour among the suspects predicts, one for each; little time is needed."""
    found = _known(group.calls, judge, suspects)
    return tuple(Explained(explanation, tuple(calls), _seen(group, calls)) for calls, explanation in found)


def _known(calls, judge, suspects):
    """Generates (failures, explanation) for calls that a behaviour predicts which other calls have shown.

    For groups that are not searched; of another implementation for all, as what is wrong in it shows in calls of every
    kind, and beside what torch does.
    """
    left = [(failure, _failing_by_itself(failure, judge)) for failure in calls if failure.case and failure.mismatches]
    for edits in suspects.cases if left else ():
        its = [failure for failure, sights in left if sights and all(one.is_predicted(edits) for one in sights)]
        if edits.behaviours and not edits.views and its:
            (behaviour, *_) = edits.behaviours
            yield its, Explanation(BEHAVIOUR, (), behaviour.text, behaviour.code, checked=len(its))
            left = [(failure, sights) for failure, sights in left if failure not in its]


def _failing_by_itself(failure, judge):
    """The calls of a failure that are wrong by themselves, without dropout, whose choice may not be known."""
    cases = [replace(case, dropout=0.0) for case in (failure.case, failure.twin) if case]
    options = _options([failure], judge, Suspects())
    sights = set_apart(sighted(cases, judge.cases, options.device, options.adopted, options.firsts))
    return [sight for sight in sights if not sight.is_predicted(Edits())]


def _options(failures, judge, suspects):
    firsts = {failure.case: failure.first for failure in failures if failure.case and failure.first}
    return Options(judge.shown, judge.until, judge.setting.device, judge.adopted, firsts, suspects.cases)


def is_shown_by(failure: Failure, explanation: Explanation, judge: Judge) -> bool:
    """True if the failure shows the changes of entries of an explanation, all of them and no other."""
    if failure.case is None or not failure.mismatches or failure.twin:
        return False
    return shows(failure.case, explanation, judge.cases, _options([failure], judge, Suspects()))


def _with_their_entries(explanation, failures, judge):
    """The explanation, with the entries whose pinned cases are among the failures: they do not show them any more."""
    ids = dict.fromkeys(failure.entry for failure in failures if judge.entry(failure.entry))
    lost = [id for id in ids if id not in explanation.entries and id not in judge.cases.ids]
    kinds = {id: NARROWER if id in judge.shown else GONE for id in lost}
    if explanation.kind == NEW or not lost:
        return explanation
    return replace(explanation, changed=(*explanation.changed, *(Changed(id, kind) for id, kind in kinds.items())))


def _of_twins(failure, judge, suspects):
    """The explanation of two calls whose results must agree: the one of each call that is wrong by itself."""
    its = (failure.case, failure.twin)
    return explain(its, judge.cases, _options([], judge, suspects)) if all(its) else Explanation(NEW)


def _of_other(failure, judge):
    """The explanation of a failure that is about the range of an entry, or of a crash; NEW for another failure."""
    if failure.case and not failure.mismatches and not failure.entry:
        return Explanation(BEHAVIOUR, behaviour=_ENDS, effect=_DIES, checked=1)
    entry = judge.entry(failure.entry) if failure.entry else None
    if entry is None:
        return Explanation(NEW)
    kind = (NARROWER if entry.id in judge.shown else GONE) if entry.concerns(judge.cases.release) else BACK
    return Explanation(kind, (Changed(entry.id, kind),), checked=1)


_ENDS = "the process ends during the call"
_DIES = "behaviours.raises('Died', 'the process that makes the call has ended')"
