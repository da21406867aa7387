"""An entry of a ledger, and those of the ledger of deviations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..cases.base import WRITTEN
from ..cases.case import Case
from ..execution.release import Release
from ..execution.setting import ON_CPU
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..releases import since
from .call import Call
from .reach import Look, applying_through
from .remedies import AnyRemedy, Remedy

# The stages of a call at which deviations show, in the order in which they are applied. An error that is applied later
# replaces an earlier one. Backward errors come early: after an error in the forward pass there is no backward pass.
STAGES = ("result", "backward", "attention", "layer", "stack", "call")


class Change(Protocol):
    """A function that makes the specified computation of a call that of an affected release."""

    def __call__(self, computation: Computation, call: Call) -> Computation:
        """The computation of an affected release."""


@dataclass(frozen=True)
class Entry:
    """A known difference between some releases and the specification, in either ledger.

    Tools ask an entry by these fields and methods, which both ledgers have, and never for its ledger.
    """

    id: str  # public and stable
    title: str
    affects: str  # releases, as a version specifier
    upstream: str  # "pytorch/pytorch#N", an issue of another repository, or "not found"
    devices: tuple[str, ...] = field(default=ON_CPU, kw_only=True)  # types of devices that show the deviation
    every_cpu: bool = field(default=True, kw_only=True)  # False if only some CPUs show the deviation
    remedies: Sequence[AnyRemedy] = field(default=(), kw_only=True)  # the cheapest first
    no_remedy: str = field(default="", kw_only=True)  # the reason why there is none; empty if there is one

    @property
    def minimal_case(self) -> Case | None:
        """The minimal case that shows the deviation; None if rows of a table show it."""
        return None

    @property
    def may_end_the_process(self) -> bool:
        """True if its calls may crash the process or lose the device."""
        return False

    def can_be_asked(self, release: Release) -> bool:
        """True if the release has the mode of the minimal case, if there is one."""
        return self.minimal_case is None or since(release, BY_ID[self.minimal_case.mode].since)

    def concerns(self, release: Release) -> bool:
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)


@dataclass(frozen=True)
class Deviation(Entry):
    """An entry of the ledger of deviations: what some releases do with a right call."""

    clause: int  # number of the clause that the deviation breaks (reference/README.md)
    trigger: str  # the calls that show the deviation, in words
    instead: str  # the result, error or warning of these calls, in words
    applies: Callable[[Call], object]  # truthy if the call shows the deviation on an affected release
    change: Change  # makes the specified computation that of an affected release
    pinned: Case  # minimal case that shows the deviation
    ends: bool = False  # True if calls may crash the process or lose the device: only `pinned` runs, in its own process
    stage: str = "result"  # one of STAGES
    remedies: Sequence[Remedy] = field(default=(), kw_only=True)  # the cheapest first

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ValueError(f"{self.id}: stage={self.stage!r}: not one of {', '.join(STAGES)}")

    @property
    def minimal_case(self) -> Case:
        """The pinned case."""
        return self.pinned

    @property
    def may_end_the_process(self) -> bool:
        """True if calls may crash the process or lose the device."""
        return self.ends

    def through(self, look: Look) -> "Deviation":
        """The entry that sees each call by `look`."""

        def change(computation: Computation, call: Call) -> Computation:
            seen = look(call)
            return computation if seen is None else self.change(computation, seen)

        return replace(self, applies=applying_through(self.applies, look), change=change)

    def is_about(self, case: Case) -> bool:
        """True if the entry may affect calls of the kind of the case: it makes a mask, attends, or is FlexAttention."""
        return (case.attends, case.is_flex) == (self.pinned.attends, self.pinned.is_flex)

    @property
    def is_asked_late(self) -> bool:
        """True if the pinned case runs after the tests, since it may end the process or takes long."""
        mode = BY_ID[self.pinned.mode]
        is_slow = mode.builds or mode.family == WRITTEN or mode.packages  # WRITTEN imports inductor
        return self.ends or bool(is_slow)
