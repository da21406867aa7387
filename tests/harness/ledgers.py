"""The entries of both ledgers. Tools ask them by the fields and methods of Entry, which both have."""

from .deviations import ledger
from .deviations.entry import Entry
from .wrong_masks import ledger as wrong_masks_ledger

ENTRIES: tuple[Entry, ...] = (*ledger.ENTRIES, *wrong_masks_ledger.ENTRIES)
BY_ID = {entry.id: entry for entry in ENTRIES}
