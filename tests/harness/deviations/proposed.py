"""Changes of the ledger that `python -m tests.tools propose` writes, until a person moves each to its family.

An entry here, and a change of an entry's reach, holds for the calls that a run has shown: its condition is as wide as
these calls tell.
"""

from .entry import Deviation
from .reach import Reach

ENTRIES: tuple[Deviation, ...] = ()

REACHES: tuple[Reach, ...] = ()
