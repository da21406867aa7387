"""The table of the ways to run a call (modes, low precisions): which share of the calls deviates in each release."""

from collections import Counter

from tests.harness.cases.dtypes import LOW
from tests.harness.execution.release import Release
from tests.harness.judgement.verdict import DEVIATES
from tests.harness.modes.modes import BY_ID, EAGER, MODES
from tests.harness.releases import since

TITLE = "Every way to run it"
ORDER = (EAGER.id, *LOW, *(mode.id for mode in MODES if mode is not EAGER))


def about():
    """What the cells mean: a paragraph."""
    return (
        "Of the calls that a run makes in this way and its variants, the share that deviates as predicted; none fails. "
        "– where the release cannot be asked, nothing where it was not measured.",
    )


def heads(columns):
    return ("way", *(column.name for column in columns))


def rows(columns):
    """A row for each way, of texts, in the order of `heads`; none without a record that has measured one."""
    ways = [*LOW, *(mode.id for mode in MODES if mode is not EAGER and not mode.kin)]
    found = [(f"`{way}`", *(_cell(way, column) for column in columns)) for way in ways]
    return [row for row in found if any("%" in cell for cell in row[1:])]


def _cell(way, column):
    measured = [verdicts for record in column.records if (verdicts := _verdicts(way, record))]
    if measured:
        return f"{measured[-1][DEVIATES] / measured[-1].total():.0%}"
    newest = Release(column.records[-1].version, column.device)
    return "" if since(newest, _first(way)) else "–"


def _verdicts(way, record):
    """How often each was given on calls of the way, and of the modes that are variants of it."""
    kin = {mode.id for mode in MODES if mode.family == way} | {way}
    return sum((record.ways[way] for way in kin & record.ways.keys()), Counter())


def _first(way):
    """The first release that can be asked."""
    return BY_ID[way].since if way in BY_ID else {"bfloat16": "2.0", "float16": "2.3"}[way]
