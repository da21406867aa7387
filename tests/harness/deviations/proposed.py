"""Entries that `python -m tests.tools propose` writes, until a person moves each to its family.

An entry here predicts exactly the calls that a run has shown; its condition is as wide as these calls tell.
"""

from .entry import Deviation

ENTRIES: tuple[Deviation, ...] = ()
