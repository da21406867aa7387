"""Changes of the calls to which an entry or a refusal applies."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

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


def altered(entry: Any, reaches: Iterable[Reach]) -> Any:
    """The Deviation or Refusal with those of the reaches that are its own."""
    its = [reach for reach in reaches if reach.id == entry.id]
    if not its:
        return entry

    def seen(call: Call) -> Call | None:
        for reach in its:
            if reach.holds(call):
                return reach.view.look(call) if reach.view.is_kept else None
        return call

    def applies(call: Call) -> bool:
        shown = seen(call)
        return shown is not None and bool(entry.applies(shown))

    if not hasattr(entry, "change"):
        return replace(entry, applies=applies)
    return replace(entry, applies=applies, change=lambda computation, call: entry.change(computation, seen(call)))
