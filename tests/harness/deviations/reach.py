"""Changes of the calls to which an entry or a refusal applies."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from packaging.version import Version

from .call import Call
from .views import View


@dataclass(frozen=True)
class Reach:
    """A change of the calls to which an entry or a refusal applies: since a release, it sees some calls by a view."""

    id: str  # of the entry or the refusal
    first: str  # the first release
    view: View  # REMOVED if the entry no longer applies to these calls
    when: Callable[[Call], Any] = lambda call: True  # truthy for the calls

    def holds(self, call: Call) -> bool:
        """True if the entry sees the call by the view."""
        return call.release.version.release >= Version(self.first).release and bool(self.when(call))


Look = Callable[[Call], Call | None]  # the call as an entry sees it; None if the entry does not apply to it


class Applying(Protocol):
    """A Deviation or Refusal."""

    @property
    def id(self) -> str:
        """The public id."""

    def through(self, look: Look) -> Any:
        """The same, which sees each call by `look`."""


Entry = TypeVar("Entry", bound=Applying)


def applying_through(applies: Callable[[Call], object], look: Look) -> Callable[[Call], bool]:
    """The condition, asked of calls as `look` shows them."""
    return lambda call: (shown := look(call)) is not None and bool(applies(shown))


def altered(entry: Entry, reaches: Iterable[Reach]) -> Entry:
    """The entry with those of the reaches that are its own."""
    its = [reach for reach in reaches if reach.id == entry.id]
    if not its:
        return entry

    def seen(call: Call) -> Call | None:
        for reach in its:
            if reach.holds(call):
                return reach.view.look(call) if reach.view.is_kept else None
        return call

    return entry.through(seen)
