"""The table of ways to run a call (modes and low precisions), with the share of calls that deviates in each release."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tests.harness.cases.dtypes import LOW
from tests.harness.execution.release import Release
from tests.harness.judgement.verdict import DEVIATES
from tests.harness.modes.modes import BY_ID, EAGER, MODES
from tests.harness.releases import since

if TYPE_CHECKING:
    from .edge_cases import Column

TITLE = "Ways to run a call"
ORDER = (EAGER.id, *LOW, *(mode.id for mode in MODES if mode is not EAGER))


def about() -> tuple[str]:
    """One paragraph: the meaning of the cells."""
    return (
        "Of the calls that a run makes in this way or in a variant of it, the share that deviates as predicted; none "
        "fails. – if the release does not support the way, empty if it was not measured.",
    )


def heads(columns: Iterable["Column"]) -> tuple[str, ...]:
    """The heads of the table."""
    return ("way", *(column.name for column in columns))


def rows(columns: Sequence["Column"]) -> list[tuple[str, ...]]:
    """A row for each way that a record has measured: cells as text, in the order of `heads`."""
    ways = [*LOW, *(mode.id for mode in MODES if mode is not EAGER and not mode.kin)]
    found = [(f"`{way}`", *(_cell(way, column) for column in columns)) for way in ways]
    return [row for row in found if any("%" in cell for cell in row[1:])]


def _cell(way, column):
    """The share of the newest measurement; "–" if the way is not applicable, empty if it was not measured."""
    measured = [verdicts for record in column.records if (verdicts := _verdicts(way, record))]
    if measured:
        return f"{measured[-1][DEVIATES] / measured[-1].total():.0%}"
    newest = Release(column.records[-1].version, column.device)
    return "" if since(newest, _first(way)) else "–"


def _verdicts(way, record):
    """{verdict: number of calls} in this way and in its variants."""
    kin = {mode.id for mode in MODES if mode.family == way} | {way}
    return sum((record.ways[way] for way in kin & record.ways.keys()), Counter())


def _first(way):
    """The first release in which the way is tested."""
    return BY_ID[way].since if way in BY_ID else {"bfloat16": "2.0", "float16": "2.3"}[way]
