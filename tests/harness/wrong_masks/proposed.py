"""Changes of the ledger of wrong masks that `python -m tests.tools propose` writes, until a person moves them."""

from .entry import Reach, WrongMaskDeviation

ENTRIES: tuple[WrongMaskDeviation, ...] = ()

REACHES: tuple[Reach, ...] = ()
