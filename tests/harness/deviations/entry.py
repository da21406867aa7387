"""What an entry of the ledger of deviations says."""

from collections.abc import Callable
from dataclasses import dataclass

from ..cases.case import Case
from ..execution.setting import ON_CPU
from ..modes.modes import BY_ID


@dataclass(frozen=True)
class Deviation:
    """One entry.

    affects: the releases, as a version specifier. trigger, instead: in words. applies: Call -> bool, for a release
    that is affected. change: (computation, call) -> computation. pinned: a least case that shows it. upstream:
    "pytorch/pytorch#N" or of another repository, or "not found". devices: the types of devices that show it.
    every_cpu: whether each CPU does. ends: whether the process, or its use of the device, may end with it, so that no
    such call is made but the pinned one, in a process of its own.
    """

    id: str
    title: str
    affects: str
    upstream: str
    clause: int
    trigger: str
    instead: str
    applies: Callable
    change: Callable
    pinned: Case
    devices: tuple[str, ...] = ON_CPU
    every_cpu: bool = True
    ends: bool = False

    @property
    def is_asked_late(self):
        """True if its least case is not tried before the tests, for what may come of it, or how long it takes."""
        return self.ends or BY_ID[self.pinned.mode].builds

    def concerns(self, release):
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)
