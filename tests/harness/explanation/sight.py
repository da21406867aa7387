"""A case that ran on the installed torch, and its comparison with the model of a release that is edited a little."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from ..cases.case import Case
from ..deviations import ledger
from ..deviations.call import Call
from ..deviations.entry import Deviation
from ..deviations.facts import announces, backward_pass
from ..deviations.ledger import Applied
from ..deviations.refusals import REFUSALS, Refusal
from ..deviations.views import AS_IS, View
from ..execution.implementation import Adopted
from ..execution.release import Release
from ..execution.runner import Observation, made_once, observe
from ..expectation.dropout import UnlikeDropout
from ..expectation.specification import specification
from ..judgement.comparison import side_effect
from ..judgement.prediction import Prediction, predict
from ..judgement.verdict import FAILS, Verdict, judge
from .edits import Edits

_FAR = 1000  # times the full bound of the unedited model: no edit is expected to widen its own so much

# Errors of a condition or a change that meets a call for which it was not written.
UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Model:
    """The model by which a run was judged."""

    release: Release
    entries: tuple[Deviation, ...]  # those that predict outcomes in the run (Session.entries)
    known: tuple[Deviation, ...] = ledger.ENTRIES  # entries that may explain a call, whatever their range
    # Warnings and changed settings of calls that are right in all else (comparison.side_effect): changes of their own.
    side_effects: frozenset[tuple[str, str]] = frozenset()

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of the entries that predict outcomes."""
        return frozenset(entry.id for entry in self.entries)

    @cached_property
    def candidates(self) -> tuple[Deviation, ...]:
        """The known entries and those of the run, in the order in which their changes compose."""
        its = {entry.id: entry for entry in (*self.known, *self.entries)}
        order = {entry.id: number for number, entry in enumerate(ledger.ENTRIES)}
        return tuple(sorted(its.values(), key=lambda entry: order.get(entry.id, len(order))))


@dataclass(frozen=True, eq=False)
class Sight:
    """A case with its observation, and the predictions of the model for it."""

    case: Case
    observation: Observation
    model: Model
    is_lenient: bool = False  # another implementation is judged (measurement/checking.py)
    is_apart: bool = False  # side effects that are changes of their own (Model.side_effects) are not compared
    _cached: dict = field(default_factory=dict)  # {(id, view): Applied, Refusal or None}
    _calls: dict = field(default_factory=dict)  # {view: Call}

    @property
    def call(self) -> Case:
        """The case."""
        return self.case

    def applied(self, entry: Deviation, view: View = AS_IS) -> Applied | None:
        """The change of the entry, if it applies to the call as the view shows it."""
        key = entry.id, view
        if key not in self._cached:
            self._cached[key] = self._applied(entry, view)
        return self._cached[key]

    def _applied(self, entry, view):
        met = self._met(view)
        if met is None or not entry.is_about(self.case):
            return None
        try:
            return Applied(entry.id, partial(entry.change, call=met)) if entry.applies(met) else None
        except UNFIT:  # a condition may not fit a call that the view has altered
            return None

    def _met(self, view):
        """The Call through the view, as torch sees it; None if the view has no meaning for it."""
        if view not in self._calls:
            seen = view.look(Call(self.case, self.model.release, self.observation.served))
            self._calls[view] = seen.met if seen else None
        return self._calls[view]

    def refusal(self, edits: Edits) -> Refusal | None:
        """The refusal that the edited model predicts."""
        if not self.case.attends:
            return None
        every = self._every(edits)
        return next((its for its in REFUSALS if self.refuses(its, edits.views.get(its.id, every))), None)

    def _every(self, edits):
        """The view of the entries that have none of their own."""
        return edits.every if edits.every and self._met(edits.every) else AS_IS

    def refuses(self, refusal: Refusal, view: View = AS_IS) -> bool:
        """True if the refusal applies to the call as the view shows it."""
        key = refusal.id, view
        if key not in self._cached:
            met = self._met(view) if view.is_kept else None
            self._cached[key] = met is not None and _is_met(refusal, met)
        return self._cached[key]

    def changes(self, edits: Edits) -> tuple[Applied, ...]:
        """The changes that the edited model applies to the specification, in order."""
        return tuple(self._changes(edits))

    def _changes(self, edits):
        every = self._every(edits)
        for entry in self.model.candidates:
            view = edits.views.get(entry.id, every if entry.id in self.model.ids else None)
            applied = self.applied(entry, view) if view is not None and view.is_kept else None
            if applied:
                yield applied
        for behaviour in edits.behaviours:
            yield Applied(behaviour.code, partial(behaviour.change, call=self._met(AS_IS)))

    def is_predicted(self, edits: Edits) -> bool:
        """True if the edited model predicts the observation exactly."""
        if edits not in self._cached:
            self._cached[edits] = self._is_predicted(edits)
        return self._cached[edits]

    def _is_predicted(self, edits):
        refused = self.refusal(edits)
        if refused and not edits.behaviours:
            return not list(refused.mismatches(self.observation))
        try:
            return any(self._is_right(self._verdict(its, edits)) for its in self._alternatives(edits))
        except UNFIT:  # a change may not fit a call that its entry was not written for
            return False

    def _is_right(self, verdict):
        if verdict.status != FAILS or not self.is_apart:
            return verdict.status != FAILS
        return {side_effect(its.kind, its.of, its.got) for its in verdict.mismatches} <= self.model.side_effects

    def apart(self) -> "Sight":
        """The sight without side effects that are changes of their own."""
        return replace(self, is_apart=True, _cached={})

    def _alternatives(self, edits):
        """The changes; of another implementation also without torch's errors, and without what torch does at all."""
        changes = self.changes(edits)
        yield changes
        if self.is_lenient:
            plain = specification(self.case)
            yield tuple(its for its in changes if its.change(plain).error is None)
            codes = {its.code for its in edits.behaviours}
            yield tuple(its for its in changes if its.id in codes)

    def _verdict(self, changes: Sequence[Applied], edits: Edits) -> Verdict:
        release = self.model.release
        warns = announces(Call(self.case, release)) and not edits.is_silent
        with np.errstate(all="ignore"):  # a wrong prediction may be off by any number
            return judge(self.case, self.observation, changes, warns, backward_pass(self.case, release), self._limit)

    def _limit(self, name):
        """An error of the result of this name that is far above the full bound of the unedited model.

        Infinite where that bound tells nothing about those of edited models: beside garbage, which an edit may make
        visible, and of results that are 0 or no numbers.
        """
        return self._limits.get(name, np.inf)

    @cached_property
    def _limits(self):
        seen = self.observation
        prediction = Prediction(self.case, self.changes(Edits()), seen.kept, seen.served)
        try:
            if self.case.garbage or prediction.computation.error:
                return {}
            names = [name for name, array in prediction.exact.items() if np.isfinite(array).all() and array.any()]
            return {name: _FAR * float(np.max(list(prediction.bounds(name))[-1])) for name in names}
        except (*UNFIT, UnlikeDropout):
            return {}

    def alters(self, edits: Edits) -> bool:
        """True if the edits change the prediction for the call."""
        if self.refusal(edits) is not self.refusal(Edits()) or edits.is_silent:
            return True
        before, after = self.changes(Edits()), self.changes(edits)
        return [(its.id, _call_of(its)) for its in before] != [(its.id, _call_of(its)) for its in after]

    def is_vague(self, edits: Edits) -> bool:
        """True if the edited model leaves results open: it then fits more observations than one."""
        if self.refusal(edits):
            return False
        return _leaves_open(self.case, self.changes(edits)) and not _leaves_open(self.case, self.changes(Edits()))


def _leaves_open(case, changes):
    computation = predict(case, changes, kept=None)
    return bool(computation.undefined or computation.undefined_gradient or computation.may_be_nan)


def _is_met(refusal, met):
    try:
        return bool(refusal.applies(met))
    except UNFIT:  # a condition may not fit a call that a view has altered
        return False


def _call_of(applied):
    return getattr(applied.change, "keywords", {}).get("call")


def sighted(
    cases: Sequence[Case],
    model: Model,
    device: str = "cpu",
    adopted: Adopted | None = None,
    firsts: Mapping[Case, Case] | None = None,
) -> list[Sight]:
    """The cases, run on the installed torch.

    firsts: {case: the case for which the artifact is made that serves it}, for modes whose artifacts are used again.
    """
    found = []
    for case in cases:
        with ExitStack() as stack:
            if first := (firsts or {}).get(case):
                stack.enter_context(made_once())
                observe(first, device, adopted)
            observation = observe(case, device, adopted)
        found.append(Sight(case, replace(observation, seconds=0.0), model, is_lenient=adopted is not None))
    return found
