"""Views: a call as an entry sees it. Through a view, an entry applies to other calls than its condition alone says.

Through `AsInRelease("2.4.0")` an entry sees the call as one of torch 2.4, so that its condition and its effect are
those of 2.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from packaging.version import Version

from ..releases import RELEASES
from .call import Call


@dataclass(frozen=True)
class View:
    """The call as it is."""

    is_kept = True  # False if the entry is removed
    text = ""  # ends the sentence "the entry shows on other calls: ..."
    code = "call"  # a Python expression of the Call that the entry sees, from the Call `call`

    def look(self, call: Call) -> Call | None:
        """The Call that the entry sees; None if the view has no meaning for it."""
        return call


@dataclass(frozen=True)
class Removed(View):
    """The entry is removed from the model."""

    is_kept = False
    code = "views.REMOVED"


AS_IS, REMOVED = View(), Removed()


@dataclass(frozen=True)
class AsInRelease(View):
    """The call as one of another release."""

    version: str

    @property
    def text(self) -> str:  # type: ignore[override]
        """The release in words."""
        return f"as in {self.version}"

    @property
    def code(self) -> str:  # type: ignore[override]
        """An expression of the Call."""
        return f'views.AsInRelease("{self.version}").look(call)'

    def look(self, call: Call) -> Call | None:
        """The call as one of that release."""
        return replace(call, release=replace(call.release, version=Version(self.version)))


class _OnAnyPath(Call):
    """A call all of whose blocks are served by every path."""

    def blocks(self, path: str) -> tuple[str, ...]:
        """All blocks."""
        return self.case.blocks

    def sdpa_blocks(self, *kernels: str) -> tuple[str, ...]:
        """All blocks."""
        return self.case.blocks


@dataclass(frozen=True)
class OnAnyPath(View):
    """The call as if each of its blocks were served by the path of the entry."""

    text = "on other paths"
    code = "views.OnAnyPath().look(call)"

    def look(self, call: Call) -> Call | None:
        """The call on every path."""
        return _OnAnyPath(call.case, call.release, call.served, call.lengths)


@dataclass(frozen=True)
class WithField(View):
    """The call as if a field of its case had another value."""

    name: str
    value: object

    @property
    def text(self) -> str:  # type: ignore[override]
        """The field in words."""
        return f"as if {self.name} were {self.value!r}"

    @property
    def code(self) -> str:  # type: ignore[override]
        """An expression of the Call."""
        return f"views.WithField({self.name!r}, {self.value!r}).look(call)"

    def look(self, call: Call) -> Call | None:
        """The call with the other value; None if it has this value already, or has no such field."""
        if getattr(call.case, self.name, self.value) == self.value or self.name not in vars(call.case):
            return None
        other: dict[str, Any] = {self.name: self.value}
        return replace(call, case=replace(call.case, **other))


LOOSENED: tuple[View, ...] = (
    OnAnyPath(),
    WithField("mode", "eager"),
    *(WithField("autograd", value) for value in ("no_grad", "grad")),
    WithField("training", False),
    WithField("training", True),
    *(WithField("dtype", value) for value in ("float64", "float32", "bfloat16", "float16")),
)


def releases_nearest(release: Version, until: Version | None = None) -> Iterator[AsInRelease]:
    """The views as in other modelled releases, with patch releases, the nearest first; none later than `until`."""
    minors = [Version(minor) for minor in RELEASES]
    at = next((i for i, its in enumerate(minors) if its.release == release.release[:2]), len(minors))
    for i in sorted(range(len(minors)), key=lambda i: (abs(i - at), -i)):
        for patch in (0, 1, 9):
            version = Version(f"{minors[i]}.{patch}")
            if version != release and not (until and version > until):
                yield AsInRelease(str(version))
