"""The search for the smallest edit of a model that predicts every call of a group exactly."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, combinations
from typing import Any, Protocol

from .edits import Edits
from .explanation import BEHAVIOUR, NEW, Changed, Explanation, Part, gravest

_MOST_PAIRED = 14  # edits that are tried in pairs
NEAREST = 2  # the first neighbours that are drawn, which differ in their contents alone
_MOST_COMPARED = 6  # edits of one stage whose predictions for neighbours are compared


class Seen(Protocol):
    """A call that was made, and its comparison with an edited model: a Sight, or a SightOfRow."""

    @property
    def call(self) -> Any:
        """The call, as plain data."""

    def is_predicted(self, edits: Edits) -> bool:
        """True if the edited model predicts the outcome exactly."""

    def alters(self, edits: Edits) -> bool:
        """True if the edits change the prediction."""

    def is_vague(self, edits: Edits) -> bool:
        """True if the edited model leaves results open: it then fits more outcomes than one."""


@dataclass(frozen=True)
class Stage:
    """Edits of one kind, tried together."""

    edits: tuple[Edits, ...]
    is_paired: bool = False  # True if two of these edits at once are tried, too
    needs_others: bool = False  # True if a neighbour must confirm such an edit


@dataclass(frozen=True)
class Search:
    """The search for explanations of a group."""

    group: Sequence[Seen]  # the failing calls, the smallest first
    stages: Callable[[Sequence[Seen]], Iterator[Stage]]  # the edits for some calls, in the order of trial
    changed: Callable[[Edits, Sequence[Seen]], tuple[Changed, ...]]  # the changes of entries that edits stand for
    around: Callable[[Sequence[Seen]], Sequence[Seen]]  # calls in the neighbourhood of some calls
    # Edits that explain other groups: they are tried first. A neighbour may show one of them, too.
    suspects: list[Edits] = field(default_factory=list)

    @cached_property
    def within(self) -> list[Edits]:
        """Edits that explain some calls of the group, but not all."""
        return []

    @cached_property
    def _drawn(self) -> dict[tuple[int, ...], Sequence[Seen]]:
        return {}

    def whole(self) -> Explanation | None:
        """The explanation of all calls at once; None if there is none."""
        return self._of(self.group)

    def parts(self) -> tuple[Part, ...]:
        """The calls, split so that each part has one explanation. Calls that nothing explains come last."""
        left, found = list(self.group), []
        while left:
            explanation, its = self._of(left), left
            if explanation is None:
                explanation, its = self._largest(left)
            found.append(Part(tuple(seen.call for seen in its), explanation))
            left = [seen for seen in left if seen not in its]
        return tuple(found)

    def _of(self, part):
        """The explanation of all these calls; None if there is none."""
        vague, paired = [], []
        known = [Stage(tuple(self.suspects)), Stage(tuple(self._together(part)))]
        for stage in chain(known, self._stages_and_pairs(part, paired)):
            fitting = [_concerned(edits, part) for edits in stage.edits if _predicted(part, edits)]
            vague += [edits for edits in fitting if part[0].is_vague(edits)]
            sharp = [edits for edits in fitting if edits not in vague]
            if best := self._best(sharp, part, stage.needs_others):
                return best
        return self._best(vague, part, False)

    def _together(self, part):
        """The fewest of the suspects that together predict all these calls; none if all suspects at once do not.

        Of suspects that see an entry differently, the first is taken, and as another edit the last.
        """
        concerned = [its for its in self.suspects if not its.behaviours and any(seen.alters(its) for seen in part)]
        for ordered in (concerned, concerned[::-1]):
            chosen = _compatible(ordered)
            if len(chosen) < 2 or not _predicted(part, _sum(chosen)):
                continue
            for its in tuple(chosen):
                fewer = [other for other in chosen if other is not its]
                chosen = fewer if fewer and _predicted(part, _sum(fewer)) else chosen
            yield _sum(chosen)

    def _stages_and_pairs(self, part, paired):
        """The stages; behind the last that is paired, a stage of the pairs that some call needs."""
        is_open = True
        for stage in self.stages(part):
            if is_open and not stage.is_paired:
                is_open = False
                yield Stage(tuple(self._pairs(part, paired)))
            paired += [edits for edits in stage.edits if any(seen.alters(edits) for seen in part)]
            yield stage

    def _pairs(self, part, edits):
        """Pairs of edits both of which some call needs. If each call needs only one, the group mixes two changes."""
        singles = sorted(edits, key=lambda its: -sum(seen.is_predicted(its) for seen in part))[:_MOST_PAIRED]
        for one, other in combinations(singles, 2):
            if set(one.ids) & set(other.ids):
                continue
            if any(not seen.is_predicted(one) and not seen.is_predicted(other) for seen in part):
                yield one + other

    def _largest(self, left):
        """(explanation, calls): the explanation of the most of these calls; NEW with all of them if there is none."""
        found = {}
        for stage in self.stages(left):
            for edits in stage.edits:
                its = [seen for seen in left if seen.is_predicted(edits)]
                if its and not its[0].is_vague(edits):
                    found.setdefault(edits, (its, stage.needs_others))
        self.within.extend(found)
        for edits, (its, needs_others) in sorted(found.items(), key=lambda item: -len(item[1][0])):
            if explanation := self._best([edits], its, needs_others or len(its) < len(left) / 4):
                return explanation, its
        return Explanation(NEW), left

    def _best(self, fitting, part, needs_others):
        """The explanation by the edits that most neighbours confirm, and none contradicts; None without such edits."""
        best, most = None, -1
        for edits in fitting[:_MOST_COMPARED]:
            confirmed, is_contradicted = self._asked(edits, part)
            if not is_contradicted and confirmed > most and not (needs_others and not confirmed):
                best, most = edits, confirmed
        if best is None:
            return None
        told = self.changed(best, part)
        suspected = replace(best, views={its.id: best.view(its.id) for its in told}, every=None)
        if suspected not in self.suspects:
            self.suspects.append(suspected)
        return _explanation(best, part, told, len(part) + most)

    def _asked(self, edits, part):
        """(number of neighbours that show the edits, True if they are contradicted)

        The nearest neighbours must show the edits, or be as before. Of the others, one in four may show something else:
        calls of other kinds may meet other changes.
        """
        key = tuple(map(id, part))
        if key not in self._drawn:
            self._drawn[key] = self.around(part)
        failing = [seen for seen in self._drawn[key] if seen.alters(edits) and not seen.is_predicted(Edits())]
        wrong = [its for its in failing if not its.is_predicted(edits) and not self._shows_another(its, edits)]
        nearest = self._drawn[key][:NEAREST]
        is_contradicted = any(its in nearest for its in wrong) or len(wrong) > len(failing) / 4
        return sum(seen.is_predicted(edits) for seen in failing), is_contradicted

    def _shows_another(self, seen, edits):
        """True if a neighbour shows a change that explains other calls, alone or with the edits."""
        others = (*self.suspects, *self.within)
        return any(seen.is_predicted(other) or seen.is_predicted(edits + other) for other in others)


def _explanation(edits, part, changed, checked):
    words = ", and ".join(behaviour.text for behaviour in edits.behaviours)
    words = words or ("the documented warning of masks of two types is not given" if edits.is_silent else "")
    code = edits.behaviours[0].code if edits.behaviours else ""
    kinds = [*(its.kind for its in changed), *[BEHAVIOUR] * bool(words)]
    note = "its results are left open" if part[0].is_vague(edits) else ""
    return Explanation(gravest(kinds), changed, words, code, note, checked)


def _compatible(edits):
    """Those of the edits that share no entry with one before them."""
    chosen, ids = [], set()
    for its in edits:
        if not ids & set(its.ids):
            chosen.append(its)
            ids |= set(its.ids)
    return chosen


def _sum(edits):
    return sum(edits[1:], edits[0])


def _predicted(part, edits):
    return all(seen.is_predicted(edits) for seen in part)


def _concerned(edits, part):
    """The edits without those of entries that concern none of these calls."""
    for id, view in edits.views.items() if len(edits.views) > 1 else ():
        fewer = replace(edits, views={its: other for its, other in edits.views.items() if its != id})
        if not any(seen.alters(Edits({id: view})) for seen in part) and _predicted(part, fewer):
            edits = fewer
    return edits
