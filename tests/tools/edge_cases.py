"""The catalogue of edge cases as one value: what the ledgers and the records of all releases say together."""

import re
from dataclasses import dataclass
from itertools import groupby

from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.release import Release
from tests.harness.execution.setting import Setting
from tests.harness.measurement.session import ABSENT, CHANGED, NOT_APPLICABLE, PRESENT
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import source

from . import ways
from .kinds import KINDS, Kind, kind_of, kind_of_wrong_mask
from .ranges import in_words, minor, on_device
from .records import Record
from .remedied import Shown, shown_remedies, why_none
from .reproduce import script_of_entry

# The states of a cell, beside those that a record knows.
IN_PART, UNMEASURED = "in part", "not measured"

# What became of an edge case: PRESENT, or one of these.
GONE, UNSEEN = "gone", "not seen"

MARKS = {
    PRESENT: ("●", "present"),
    IN_PART: ("◐", "present in some of its patch releases"),
    ABSENT: ("·", "absent: the release does what is specified"),
    CHANGED: ("◆", "neither"),
    NOT_APPLICABLE: ("–", "the release cannot be asked"),
    UNMEASURED: ("", ""),
}
_WRONG_MASKS_CLAUSE = 9


# ---- its parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A minor release on a device."""

    device: str
    minor: str
    records: tuple[Record, ...]

    @property
    def name(self):
        """As a head."""
        return on_device(self.minor, self.device)


@dataclass(frozen=True)
class Cell:
    """What was found in a column. text: in words, with the patch releases where they differ."""

    state: str
    text: str

    @property
    def glyph(self):
        return MARKS[self.state][0]


@dataclass(frozen=True)
class EdgeCase:
    """A section of the catalogue, and a row of its matrix.

    present_in: the newest release of a device that has it, if one has. where: (device, releases in words).
    seen: how many calls showed it. code: shows it, where it is present.
    """

    id: str
    title: str
    kind: str
    present_in: str
    clause: int
    trigger: str
    instead: str
    remedies: tuple[Shown, ...]
    why_none: str
    upstream: str
    where: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    modules: tuple[str, ...]
    paths: tuple[str, ...]
    ways: tuple[str, ...]
    seen: str
    code: str
    cells: tuple[Cell, ...]

    @property
    def status(self):
        """What became of it: PRESENT, GONE, or UNSEEN."""
        if self.present_in:
            return PRESENT
        return GONE if self.devices else UNSEEN

    @property
    def releases(self):
        """In words."""
        return " · ".join(f"{device} {words}" for device, words in self.where)

    @property
    def link(self):
        """The thread upstream, or None."""
        repository, _, number = self.upstream.partition("#")
        return f"https://github.com/{repository}/issues/{number}" if number else None


@dataclass(frozen=True)
class Catalogue:
    """All that the two pages say."""

    columns: tuple[Column, ...]
    groups: tuple[tuple[Kind, tuple[EdgeCase, ...]], ...]
    clauses: dict[int, str]

    @property
    def cases(self):
        return tuple(case for _, cases in self.groups for case in cases)

    @property
    def records(self):
        return tuple(record for column in self.columns for record in column.records)

    @property
    def devices(self):
        return tuple(dict.fromkeys(column.device for column in self.columns))

    @property
    def newest(self):
        """The newest release of the first device."""
        return [column.minor for column in self.columns if column.device == self.columns[0].device][-1]

    @property
    def present(self):
        """How many edge cases that release has."""
        return sum(case.present_in == self.newest for case in self.cases)

    @property
    def calls(self):
        """How many calls the records judged."""
        return sum(record.calls for record in self.records)

    @property
    def legend(self):
        """(state, glyph, words) of each mark in the matrix."""
        used = {cell.state for case in self.cases for cell in case.cells}
        return tuple((state, *mark) for state, mark in MARKS.items() if state in used and state != UNMEASURED)

    def values(self, name):
        """What the filter of this name offers."""
        return sorted({value for case in self.cases for value in getattr(case, name)}, key=str.lower)


# ---- made ----------------------------------------------------------------------------------------------------------


def read_clauses(text):
    """{number: what must hold}, from the table in reference/README.md."""
    return {int(number): words for number, words in re.findall(r"^\| (\d+) \| (.+?) \| .* \|$", text, re.MULTILINE)}


def catalogue(records, clauses):
    """The Catalogue that the ledgers and the records make."""
    columns = tuple(
        Column(*key, tuple(run))
        for key, run in groupby(records, key=lambda record: (record.device, minor(record.version)))
    )
    cases = [
        *(_edge_case(entry, _call_of, columns) for entry in ledger.ENTRIES),
        *(_edge_case(entry, _wrong_call_of, columns) for entry in wrong_masks_ledger.ENTRIES),
    ]
    cases.sort(key=lambda case: case.status != PRESENT)
    groups = [(kind, tuple(case for case in cases if case.kind == kind.key)) for kind in KINDS]
    return Catalogue(columns, tuple(group for group in groups if group[1]), clauses)


def _edge_case(entry, exemplify, columns):
    records = [record for column in columns for record in column.records]
    showing = [record for record in records if record.state(entry.id) == PRESENT]
    best = max(showing or records, key=lambda record: (record.is_whole, record.version, record.device == "cpu"))
    example = exemplify(entry, best)
    example["seen"] = f"{example['seen']} with {best.version} on {best.device}" if showing else "no call"
    return EdgeCase(
        id=entry.id,
        title=entry.title,
        present_in=_present_in(entry.id, columns),
        remedies=shown_remedies(entry, example.pop("call", None)),
        why_none=why_none(entry),
        upstream=entry.upstream,
        where=_where(entry.id, records),
        devices=tuple(dict.fromkeys(record.device for record in showing)),
        modules=_sorted(showing, entry.id, "modules"),
        paths=_sorted(showing, entry.id, "paths"),
        ways=tuple(sorted({way for record in showing for way in record.shown.get(entry.id, ())}, key=ways.ORDER.index)),
        cells=tuple(_cell(entry.id, column) for column in columns),
        **example,
    )


def _sorted(records, id, name):
    """The modules or paths that the records name."""
    return tuple(sorted({value for record in records for value in record.finding(id)[name]}))


def _present_in(id, columns):
    newest = {column.device: column for column in columns}
    having = [column for column in newest.values() if column.records[-1].state(id) == PRESENT]
    return having[0].name if having else ""


def _where(id, records):
    """(device, releases in words) of each device."""
    devices = groupby(records, key=lambda record: record.device)
    states = {
        device: [(record.version, record.state(id)) for record in run if record.state(id)] for device, run in devices
    }
    return tuple((device, in_words(its_states)) for device, its_states in states.items() if its_states)


def _cell(id, column):
    states = {str(record.version): record.state(id) for record in column.records if record.state(id)}
    different = set(states.values())
    if len(different) < 2:
        state = different.pop() if different else UNMEASURED
        return Cell(state, state)
    text = ", ".join(f"{state} in {version}" for version, state in states.items())
    return Cell(IN_PART if PRESENT in different else list(states.values())[-1], text)


# ---- by example ----------------------------------------------------------------------------------------------------


def _call_of(entry, record):
    """What an EdgeCase says of an entry of ledger.py by its pinned case, as the record has it."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    seen = f"{finding['cases']:,} of the {record.calls:,} calls of the run"
    return {
        "kind": kind_of(entry, Call(entry.pinned, release, tuple(finding["paths"]))),
        "clause": entry.clause,
        "trigger": entry.trigger,
        "instead": entry.instead,
        "seen": seen if finding["cases"] else "no call of the run but the one below,",
        "code": script_of_entry(entry, Setting(release.device if finding["cases"] else entry.devices[0])),
    }


def _wrong_call_of(entry, record):
    """The same of an entry of ledger.py, by its rows of the table of wrong masks."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    calls = tuple(_shown_by(entry, release, finding["modules"]))
    faults = ", ".join(dict.fromkeys(call.fault.name.replace("_", " ") for call in calls))
    texts = {f"import torch\n\n{source(call, release.setting)}\n": call for call in calls}
    code = min(texts, key=len, default="")
    return {
        "kind": kind_of_wrong_mask(entry),
        "clause": _WRONG_MASKS_CLAUSE,
        "trigger": f"a wrong mask: {faults}" if faults else "",
        "instead": entry.effect,
        "seen": f"{finding['cases']:,} of the {len(ROWS):,} calls with a wrong mask or sequence,",
        "code": code,
        "call": texts.get(code),
    }


def _shown_by(entry, release, modules):
    """The rows of the table that show the entry in the release, which need not be the installed one."""
    others = [other for other in wrong_masks_ledger.ENTRIES if other is not entry and other.concerns(release)]
    for call in ROWS:
        applies = call.module in modules and entry.applies(call, release)
        if applies and not any(other.applies(call, release) for other in others):
            yield call
