"""Explains failing rows of the table of wrong masks (clause 9), by the same kinds of edits as failing cases."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from packaging.version import Version

from ..deviations.behaviours import pattern_of
from ..deviations.views import AS_IS, REMOVED, View, releases_nearest
from ..execution.release import Release
from ..execution.setting import CPU, Setting
from ..judgement.outcomes import ACCEPTS
from ..wrong_masks import ledger
from ..wrong_masks.effects import as_specified, never_computed
from ..wrong_masks.entry import WrongMaskDeviation
from ..wrong_masks.outcome import Outcome, observe
from ..wrong_masks.results import NOTHING_COMPARED, compare
from ..wrong_masks.sequences import ROWS
from ..wrong_masks.simple_outcomes import Expected, ignored
from ..wrong_masks.table import WrongCall, not_applicable
from .edits import Edits
from .explanation import BACK, GONE, NARROWER, NEW, WIDER, Changed, Explanation, Part
from .search import Search, Stage
from .sight import UNFIT

BY_ID = {row.id: row for row in ROWS}
_MOST_NEIGHBOURS = 40


@dataclass(frozen=True)
class ModelOfRows:
    """The model by which the rows of a run were judged."""

    release: Release
    entries: tuple[WrongMaskDeviation, ...]  # those that concern the release (Session.wrong_masks)
    known: tuple[WrongMaskDeviation, ...] = ledger.ENTRIES  # entries that may explain a row, whatever their range

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of the entries that predict outcomes."""
        return frozenset(entry.id for entry in self.entries)


@dataclass(frozen=True, eq=False)
class SightOfRow:
    """A row with its outcome, and the predictions of the model for it."""

    row: WrongCall
    outcome: Outcome
    model: ModelOfRows
    _cached: dict = field(default_factory=dict)

    @property
    def call(self) -> WrongCall:
        """The row."""
        return self.row

    def applied(self, entry: WrongMaskDeviation, view: View = AS_IS) -> bool:
        """True if the entry applies to the row as the view shows it, whatever the range of the entry."""
        key = entry.id, view
        if key not in self._cached:
            release = _seen(self.model.release, view)
            try:
                self._cached[key] = bool(entry.applies(self.row, release)) and not not_applicable(self.row, release)
            except UNFIT:  # a condition may not fit each row
                self._cached[key] = False
        return self._cached[key]

    def predicted(self, edits: Edits) -> WrongMaskDeviation | None:
        """The entry of the edited model that predicts the outcome; None if clause 9 does."""
        for entry in self.model.known:
            view = edits.views.get(entry.id, AS_IS if entry.id in self.model.ids else REMOVED)
            if view.is_kept and self.applied(entry, view):
                return entry
        return None

    def is_predicted(self, edits: Edits) -> bool:
        """True if the edited model predicts the outcome exactly."""
        if edits not in self._cached:
            self._cached[edits] = self._is_predicted(edits)
        return self._cached[edits]

    def _is_predicted(self, edits):
        if edits.behaviours:
            return _quietly(lambda: edits.behaviours[0].predicts(self.row, self.outcome))
        if entry := self.predicted(edits):
            return _quietly(lambda: entry.shows(self.row, self.outcome))
        if self.outcome.kind not in self.row.conforming:
            return False
        compared = compare(self.row, self.outcome) if self.outcome.kind == ACCEPTS else NOTHING_COMPARED
        return not compared.mismatches

    def alters(self, edits: Edits) -> bool:
        """True if the edits change the prediction."""
        return bool(edits.behaviours) or self.predicted(edits) is not self.predicted(Edits())

    def is_vague(self, edits: Edits) -> bool:
        """True if the edited model does not compare the result."""
        return bool(edits.behaviours) and edits.behaviours[0].change is never_computed


def _quietly(asked):
    try:
        return asked()
    except UNFIT:  # a change may not fit a row that its entry was not written for
        return False


def _seen(release, view):
    version = getattr(view, "version", None)
    return Release(Version(version), release.device, release.adopted) if version else release


def stages(part: Sequence[SightOfRow], model: ModelOfRows, until: Version | None = None) -> Iterator[Stage]:
    """The edits for these rows. until: the latest release that is known."""
    gone = {entry.id: REMOVED for sight in part if (entry := sight.predicted(Edits()))}
    yield Stage(tuple(Edits({id: REMOVED}) for id in gone), is_paired=True)
    come = [its for its in model.known if its.id not in model.ids and any(sight.applied(its) for sight in part)]
    yield Stage(tuple(_in_their_place(gone, entry.id, AS_IS) for entry in come), is_paired=True)
    views = _as_in_others(part, model, until)
    yield Stage(tuple(_in_their_place(gone, entry.id, view) for entry, view in views), is_paired=True)
    yield Stage(tuple(Edits(behaviours=(its,)) for its in _outcomes(part[0])))


def _in_their_place(gone: Mapping[str, View], id: str, view: View) -> Edits:
    """The entry, seen by the view, predicts the rows. Those that predicted them are gone: the first one predicts."""
    return Edits({id: view} | {its: removed for its, removed in gone.items() if its != id})


def _as_in_others(part, model, until) -> Iterator[tuple[WrongMaskDeviation, View]]:
    """(entry, view) for each set of these rows to which another release applies the entry, and the model does not."""
    views = list(releases_nearest(model.release.version, until))
    for entry in model.known:
        met = {tuple(sight.applied(entry) and entry.id in model.ids for sight in part)}
        for view in views:
            told = tuple(its.applied(entry, view) for its in part)
            if told not in met:
                met.add(told)
                yield entry, view


def _outcomes(sight) -> Iterator[Any]:
    outcome, message = sight.outcome, pattern_of(sight.outcome.error.partition(": ")[2])
    if outcome.kind == ACCEPTS:
        for words, name, change in (
            ("is accepted, in the precision of the inputs", "effects.as_specified", as_specified),
            ("is accepted and ignored", "simple_outcomes.ignored", ignored),
            ("is accepted", "effects.never_computed", never_computed),
        ):
            yield Expected(f"the mask {words}", f"instead=ACCEPTS, change={name}", ACCEPTS, change=change)
    else:
        words = f"the error does not name the mask: {outcome.error.splitlines()[0][:120]}"
        yield Expected(words, f"instead=UNHELPFUL, message={message!r}", outcome.kind, message)


def explained_rows(
    rows: Sequence[str],
    model: ModelOfRows,
    shown: Collection[str] = (),
    until: Version | None = None,
    setting: Setting = CPU,
    suspects: list[Edits] | None = None,
) -> tuple[Part, ...]:
    """The rows of these ids, split so that each part has one explanation. Other arguments: see explain.Options."""
    sights = [SightOfRow(BY_ID[id], observe(BY_ID[id], setting), model) for id in dict.fromkeys(rows) if id in BY_ID]
    failing = [sight for sight in sights if not sight.is_predicted(Edits())]
    if not failing:
        note = "the calls do not fail when they are made again"
        return (Part(tuple(sight.row for sight in sights), Explanation(NEW, note=note)),)
    around = partial(_around, model=model, setting=setting)
    edits = partial(stages, model=model, until=until)
    changes = partial(_changed, model=model, shown=shown)
    search = Search(failing, edits, changes, around, [] if suspects is None else suspects)
    return search.parts()


def _around(part, model, setting):
    """Rows of the same fault and mask, of other modules and variants."""
    faults = {(sight.row.fault.kind, sight.row.mode) for sight in part}
    near = [row for row in ROWS if (row.fault.kind, row.mode) in faults and not not_applicable(row, model.release)]
    others = [row for row in near if row not in [sight.row for sight in part]]
    step = max(len(others) // _MOST_NEIGHBOURS, 1)
    return [SightOfRow(row, observe(row, setting), model) for row in others[::step]]


def _changed(edits, part, model, shown):
    return tuple(_change(id, view, part, model, shown) for id, view in edits.views.items())


def _change(id, view, part, model, shown):
    if view == REMOVED:
        return Changed(id, NARROWER if id in shown else GONE, view.code)
    if view == AS_IS:
        return Changed(id, BACK)
    entry = next(entry for entry in model.known if entry.id == id)
    is_lost = not any(sight.applied(entry, view) for sight in part)
    return Changed(id, NARROWER if is_lost else WIDER, view.code, view.text)
