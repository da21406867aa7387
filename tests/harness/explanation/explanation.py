"""An explanation of failing calls, as a value that records carry."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NEW, BEHAVIOUR, BACK, WIDER = "new", "new behaviour", "back", "wider"
NARROWER, GONE = "narrower", "gone"
KINDS = (NEW, BEHAVIOUR, BACK, WIDER, NARROWER, GONE)  # the gravest first
BETTER = (NARROWER, GONE)  # torch is nearer to the specification than the model says


@dataclass(frozen=True)
class Changed:
    """An entry of a ledger, or a refusal, that has changed."""

    id: str
    kind: str  # BACK, WIDER, NARROWER or GONE
    # A Python expression of the Call that the entry sees (deviations/views.py), if not the call itself;
    # "views.REMOVED" if the entry does not apply to these calls any more
    view: str = ""
    words: str = ""  # the view in words


_WORDS = {
    BACK: "{id} is back",
    WIDER: "{id} shows on other calls: {words}",
    NARROWER: "{id} no longer shows on these calls",
    GONE: "{id} is gone",
}


@dataclass(frozen=True)
class Explanation:
    """The smallest edit of a model that predicts a group of calls."""

    kind: str  # the gravest of KINDS
    changed: tuple[Changed, ...] = ()
    behaviour: str = ""  # in words
    effect: str = ""  # the behaviour as a Python expression (deviations/behaviours.py, or rows.py)
    note: str = ""  # a reservation, in words
    checked: int = 0  # calls that are as predicted, those of the group included
    is_untried: bool = False  # True if no time was left to look for an explanation

    @property
    def entries(self) -> tuple[str, ...]:
        """The ids of the entries that have changed."""
        return tuple(its.id for its in self.changed)

    @property
    def is_better(self) -> bool:
        """True if torch is nearer to the specification than the model says."""
        return self.kind in BETTER

    @property
    def text(self) -> str:
        """The explanation in a sentence."""
        told = [_WORDS[its.kind].format(id=its.id, words=its.words) for its in self.changed]
        told += [self.behaviour] if self.behaviour else []
        if not told:
            unknown = "no known entry and no simple behaviour predicts these calls"
            told = ["no time was left to explain these calls: raise --budget"] if self.is_untried else [unknown]
        return ", and ".join(told) + (f" ({self.note})" if self.note else "")

    def as_plain(self) -> dict[str, Any]:
        """The explanation as plain data for a record, without empty values."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Explanation":
        """The explanation from the data of `as_plain`. Raises an error of Python for other data."""
        return cls(**{**plain, "changed": tuple(Changed(**its) for its in plain.get("changed", ()))})


def gravest(kinds: Iterable[str]) -> str:
    """The gravest of some of KINDS; NEW if there are none."""
    return min(kinds, key=KINDS.index, default=NEW)


@dataclass(frozen=True)
class Part:
    """Calls of a group that share an explanation."""

    calls: tuple[Any, ...]  # of Case, or of WrongCall
    explanation: Explanation
