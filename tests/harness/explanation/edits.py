"""Edits of a model: entries that are removed, added, or applied to other calls, and simple behaviours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..deviations.behaviours import Behaviour
from ..deviations.views import View


@dataclass(frozen=True)
class Edits:
    """Edits of a model. Hashable by the text of its parts."""

    views: Mapping[str, View] = field(default_factory=dict)  # {id of an entry or a refusal: its view}
    every: View | None = None  # the view of all entries and refusals of the model that have none of their own
    behaviours: tuple[Behaviour, ...] = ()  # applied after all entries
    is_silent: bool = False  # the documented warning of two types of masks is not expected

    @cached_property
    def _key(self):
        return frozenset(self.views.items()), self.every, tuple(its.code for its in self.behaviours), self.is_silent

    def __hash__(self):
        return hash(self._key)

    def __eq__(self, other):
        return isinstance(other, Edits) and self._key == other._key

    def __add__(self, other: "Edits") -> "Edits":
        """Both edits at once."""
        both = (*self.behaviours, *other.behaviours)
        every = self.every or other.every
        return Edits({**self.views, **other.views}, every, both, self.is_silent or other.is_silent)

    def view(self, id: str) -> View | None:
        """The view of an entry or a refusal of the model; None if it is not edited."""
        return self.views.get(id, self.every)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the entries that are edited."""
        return tuple(self.views)


@dataclass(frozen=True)
class Suspects:
    """Edits that explain calls of a run: they are tried first on other calls."""

    cases: list[Edits] = field(default_factory=list)
    rows: list[Edits] = field(default_factory=list)  # of the table of wrong masks

    @property
    def number(self) -> int:
        """The number of edits."""
        return len(self.cases) + len(self.rows)

    def add(self, others: "Suspects") -> None:
        """Add those of the others that are not known."""
        for mine, its in ((self.cases, others.cases), (self.rows, others.rows)):
            mine += [edits for edits in its if edits not in mine]

    def without_outcomes(self) -> "Suspects":
        """Those without simple outcomes of rows, which are functions: another process can read them."""
        return Suspects(self.cases, [its for its in self.rows if not its.behaviours])
