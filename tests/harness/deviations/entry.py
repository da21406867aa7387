"""An entry of the ledger of deviations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..cases.case import Case
from ..execution.release import Release
from ..execution.setting import ON_CPU
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from .call import Call
from .remedies import NoRemedy, Remedy

# The stages of a call at which deviations show, in the order in which they are applied. An error that is applied later
# replaces an earlier one. Backward errors come early: after an error in the forward pass there is no backward pass.
STAGES = ("result", "backward", "attention", "layer", "stack", "call")


class Change(Protocol):
    """A function that makes the specified computation of a call that of an affected release."""

    def __call__(self, computation: Computation, call: Call) -> Computation:
        """The computation of an affected release."""


@dataclass(frozen=True)
class Deviation:
    """A known difference between some releases and the specification."""

    id: str  # public and stable
    title: str
    affects: str  # releases, as a version specifier
    upstream: str  # "pytorch/pytorch#N", an issue of another repository, or "not found"
    clause: int  # number of the clause that the deviation breaks (reference/README.md)
    trigger: str  # the calls that show the deviation, in words
    instead: str  # the result, error or warning of these calls, in words
    applies: Callable[[Call], object]  # truthy if the call shows the deviation on an affected release
    change: Change  # makes the specified computation that of an affected release
    pinned: Case  # minimal case that shows the deviation
    devices: tuple[str, ...] = ON_CPU  # types of devices that show the deviation
    every_cpu: bool = True  # False if only some CPUs show the deviation
    ends: bool = False  # True if calls may crash the process or lose the device: only `pinned` runs, in its own process
    stage: str = "result"  # one of STAGES
    remedies: tuple[Remedy, ...] | NoRemedy = ()  # the cheapest first

    def __post_init__(self):
        if self.stage not in STAGES:
            raise ValueError(f"{self.id}: stage={self.stage!r}: not one of {', '.join(STAGES)}")

    @property
    def is_asked_late(self) -> bool:
        """True if the pinned case runs after the tests, since it may end the process or takes long."""
        return self.ends or BY_ID[self.pinned.mode].builds

    def concerns(self, release: Release) -> bool:
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)
