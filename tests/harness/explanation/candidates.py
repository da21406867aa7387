"""The edits of a model that may explain failing cases, in the order in which they are tried."""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from packaging.version import Version

from ..deviations import behaviours, views
from ..deviations.refusals import REFUSALS
from ..deviations.views import AS_IS, LOOSENED, REMOVED, View, WithField, releases_nearest
from ..path_names import NATIVE_PATHS
from .edits import Edits
from .explanation import BACK, GONE, NARROWER, WIDER, Changed
from .search import Stage
from .sight import Model, Sight

_ASKED = 3  # calls of a group that tell which edits are tried


def stages(part: Sequence[Sight], model: Model, until: Version | None = None) -> Iterator[Stage]:
    """The edits for these cases. until: the latest release that is known."""
    asked = part[:_ASKED]
    yield Stage(tuple(_removals(asked, model)), is_paired=True)
    yield Stage(tuple(_additions(part, model, False)), is_paired=True)
    yield Stage(tuple(_as_in_others(asked, model, until)), is_paired=True)
    yield Stage(tuple(_additions(part, model, True)), is_paired=True)
    yield Stage(tuple(_seen_as_others(asked, model, until)))
    yield Stage(tuple(_loosened(asked, model)), needs_others=True)
    yield Stage(tuple(_behaviours(asked)), needs_others=True)
    yield Stage(tuple(_behaviours_with_nan(asked)), needs_others=True)


def _removals(asked, model):
    for id in dict.fromkeys(applied.id for sight in asked for applied in sight.changes(Edits())):
        yield Edits({id: REMOVED})
    for id in dict.fromkeys(refusal.id for sight in asked if (refusal := sight.refusal(Edits()))):
        yield Edits({id: REMOVED})


def _additions(part, model, are_out_of_place):
    """Known entries whose condition holds for a call, whatever their range; those that concern the release first.

    are_out_of_place: True for those that affect native paths alone, where none has served some call.
    """
    found = [its for its in model.candidates if its.id not in model.ids and any(sight.applied(its) for sight in part)]
    found = [its for its in found if any(_is_out_of_place(its, sight) for sight in part) == are_out_of_place]
    for entry in sorted(found, key=lambda its: not its.concerns(model.release)):
        yield Edits({entry.id: AS_IS})
    if not are_out_of_place:
        yield Edits(is_silent=True)


def _is_out_of_place(entry, sight):
    """True if the entry affects native paths alone, and none has served the call."""
    served, case = sight.observation.served, sight.case
    if not served or not set(served).isdisjoint(NATIVE_PATHS) or not case.has_fast_path or case.training:
        return False
    return not sight.applied(entry, WithField("training", True))


def _as_in_others(asked, model, until):
    """Entries and refusals that another release applies to these calls, or does not apply, unlike the model."""
    views = list(releases_nearest(model.release.version, until))
    for entry in model.candidates:
        if entry.id not in model.ids and any(_is_out_of_place(entry, sight) for sight in asked):
            continue
        told = [bool(sight.applied(entry)) and entry.id in model.ids for sight in asked]
        if view := next((view for view in views if told != [bool(its.applied(entry, view)) for its in asked]), None):
            yield Edits({entry.id: view})
    for refusal in REFUSALS:
        told = [sight.refuses(refusal) for sight in asked]
        if view := next((view for view in views if told != [its.refuses(refusal, view) for its in asked]), None):
            yield Edits({refusal.id: view})


def _seen_as_others(asked, model, until):
    """The whole model, which sees the calls as calls of another kind: they take another path than it says."""
    for view in (*LOOSENED, WithField("fast_path", False), *releases_nearest(model.release.version, until)):
        edits = Edits(every=view)
        if all(sight.alters(edits) for sight in asked):
            yield edits


def _loosened(asked, model):
    """Entries that apply under a looser condition. Before them, those that another kind of call would show."""
    for view in LOOSENED:
        for entry in model.candidates:
            if all(sight.applied(entry, view) for sight in asked) and not any(map(_applying(entry), asked)):
                yield Edits({entry.id: view})


def _applying(entry):
    return lambda sight: sight.applied(entry)


def _behaviours(asked):
    first = asked[0]
    found = behaviours.of_outcome(first.observation)
    if not first.observation.error and first.case.attends:
        found = [*behaviours.of_masks(first.case), *behaviours.of_rows(first.case), *found]
    for behaviour in found:
        yield Edits(behaviours=(behaviour,))


def _behaviours_with_nan(asked):
    case = asked[0].case
    for behaviour in behaviours.with_nan(behaviours.of_masks(case), case) if case.attends else ():
        yield Edits(behaviours=(behaviour,))


def changed(edits: Edits, part: Sequence[Sight], model: Model, shown: Collection[str]) -> tuple[Changed, ...]:
    """The changes of entries that the edits stand for. shown: ids of entries that other calls still show."""
    views = dict(edits.views)
    if edits.every:
        differ = [its.id for its in model.entries if _differs(its, edits.every, part)]
        differ += [its.id for its in REFUSALS if any(_refuses_else(sight, its, edits.every) for sight in part)]
        views = dict.fromkeys(differ or sorted(model.ids & _ids(part)), edits.every) | views
    return tuple(_changed(id, view, part, model, shown) for id, view in views.items())


def _differs(entry, view, part):
    return any(bool(sight.applied(entry)) != bool(sight.applied(entry, view)) for sight in part)


def _refuses_else(sight, refusal, view):
    return sight.refuses(refusal) != sight.refuses(refusal, view)


def _ids(part):
    return {applied.id for sight in part for applied in sight.changes(Edits())}


def _changed(id: str, view: View, part: Sequence[Sight], model: Model, shown: Collection[str]) -> Changed:
    if view == REMOVED:
        return Changed(id, NARROWER if id in shown else GONE, view.code)
    entry = next((its for its in model.candidates if its.id == id), None)
    if entry is None:
        refusal = next(its for its in REFUSALS if its.id == id)
        is_lost = not any(sight.refuses(refusal, view) for sight in islice(part, _ASKED))
        return Changed(id, NARROWER if is_lost else WIDER, view.code, view.text)
    if view == AS_IS:
        return Changed(id, NARROWER if entry.concerns(model.release) else BACK)
    is_lost = not any(sight.applied(entry, view) for sight in islice(part, _ASKED))
    return Changed(id, NARROWER if is_lost else WIDER, view.code, view.text)


def view_of(its: Changed, model: Model) -> View:
    """The view by which a changed entry sees calls; of an entry without one, it is added or removed."""
    if not its.view:
        return REMOVED if its.id in model.ids else AS_IS
    return eval(its.view.removesuffix(".look(call)"), {"views": views})  # the code of a View
