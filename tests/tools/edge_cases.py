"""The catalogue of edge cases as one value, made of both ledgers and the records of all releases."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch
from itertools import groupby
from typing import Any

from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation, Entry
from tests.harness.execution.release import Release
from tests.harness.execution.setting import Setting
from tests.harness.ledgers import ENTRIES
from tests.harness.measurement.session import ABSENT, CHANGED, NOT_APPLICABLE, PRESENT
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.entry import WrongMaskDeviation
from tests.harness.wrong_masks.outcome import source
from tests.harness.wrong_masks.sequences import ROWS

from . import ways
from .kinds import KINDS, Kind, kind_of, kind_of_wrong_mask
from .ranges import in_words, minor, on_device
from .records import Record
from .remedied import Shown, shown_remedies
from .reproduce import script_of_entry
from .site.examples import EXAMPLES, Example
from .site.facets import Facets, facets, facets_of_wrong_masks
from .site.natural import example_of
from .site.words import ENTRIES as WORDS
from .site.words import place

# States of a cell, in addition to the states of an entry in a record.
IN_PART, UNMEASURED = "in part", "not measured"

# The status of an edge case: PRESENT, or one of these.
GONE, UNSEEN = "gone", "not seen"

MARKS = {
    PRESENT: ("●", "present"),
    IN_PART: ("◐", "present in some of its patch releases"),
    ABSENT: ("·", "absent: the release conforms"),
    CHANGED: ("◆", "neither as specified nor as the entry says"),
    NOT_APPLICABLE: ("–", "not applicable: the release lacks the call, or the suite does not make it there"),
    UNMEASURED: ("", ""),
}


# ---- parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A column of the matrix: a minor release on a device."""

    device: str
    minor: str  # such as "2.1"
    records: tuple[Record, ...]  # of the patch releases, in order; never empty

    @property
    def name(self) -> str:
        """The head of the column."""
        return on_device(self.minor, self.device)


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix: the state of an edge case in a column."""

    state: str  # a key of MARKS
    text: str  # the state in words, for each patch release if they differ

    @property
    def glyph(self) -> str:
        """The character that the matrix shows."""
        return MARKS[self.state][0]

    @property
    def is_shown(self) -> bool:
        """True if the edge case shows in the column, or at least in one of its patch releases."""
        return self.state in (PRESENT, IN_PART, CHANGED)


@dataclass(frozen=True)
class EdgeCase:
    """A section of the catalogue, and a row of the matrix."""

    id: str  # of the entry
    title: str
    kind: str  # key of a Kind
    present_in: str  # the newest column of a device, if the edge case is present there; else empty
    clause: int  # the number of the broken clause
    trigger: str  # the condition, in words
    instead: str  # the behaviour in place of the specified one, in words
    remedies: tuple[Shown, ...]
    why_none: str  # the reason why there is no remedy; empty if there is one
    upstream: str  # "owner/repository#N", or "not found"
    where: tuple[tuple[str, str], ...]  # ((device, releases in words), ...)
    devices: tuple[str, ...]  # devices whose records show the edge case
    modules: tuple[str, ...]  # modules whose calls show it
    paths: tuple[str, ...]  # paths that served these calls
    ways: tuple[str, ...]  # modes and low precisions of these calls
    seen: str  # the number of calls that show it, in words
    affects: str  # the releases of the ledger, as a version specifier
    symptom: str  # the observation of a user, a sentence
    facets: Facets  # settings and kinds of mask
    example: Example | None  # tested code that shows it, as a user writes it; None if it would be too long
    is_by_hand: bool  # the example is one by hand; if not, the remedies have natural diffs
    code: str  # a script that exits with 1 in an affected release
    cells: tuple[Cell, ...]  # one for each column

    @property
    def status(self) -> str:
        """PRESENT if the newest release of a device has it, GONE if only older releases have, UNSEEN if none has."""
        if self.present_in:
            return PRESENT
        return GONE if self.devices else UNSEEN

    @property
    def releases(self) -> str:
        """The affected releases of each device, in words."""
        return " · ".join(f"{device} {words}" for device, words in self.where)

    @property
    def link(self) -> str | None:
        """The address of the thread upstream, or None."""
        repository, _, number = self.upstream.partition("#")
        return f"https://github.com/{repository}/issues/{number}" if number else None


@dataclass(frozen=True)
class Catalogue:
    """The contents of both pages."""

    columns: tuple[Column, ...]  # sorted by device and release
    groups: tuple[tuple[Kind, tuple[EdgeCase, ...]], ...]  # without empty groups
    clauses: dict[int, str]  # {number: text}

    @property
    def cases(self) -> tuple[EdgeCase, ...]:
        """All edge cases, in the order of the groups."""
        return tuple(case for _, cases in self.groups for case in cases)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, in the order of the columns."""
        return tuple(record for column in self.columns for record in column.records)

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices, in the order of the columns."""
        return tuple(dict.fromkeys(column.device for column in self.columns))

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The measurements on other devices than the CPU, in words: the device, its releases, its name."""
        others = [column for column in self.columns if column.device != "cpu"]
        found = []
        for device, run in groupby(others, key=lambda column: column.device):
            its = list(run)
            gpus = dict.fromkeys(record.accelerator for column in its for record in column.records)
            releases = ", ".join(column.minor for column in its)
            found.append(
                f"{device.upper()} with torch {releases} alone, on {', '.join(filter(None, gpus)) or 'one GPU'}"
            )
        return tuple(found)

    @property
    def newest(self) -> str:
        """The newest minor release of the first device."""
        return [column.minor for column in self.columns if column.device == self.columns[0].device][-1]

    @property
    def present(self) -> int:
        """The number of edge cases that are present in `newest`."""
        return sum(case.present_in == self.newest for case in self.cases)

    @property
    def calls(self) -> int:
        """The number of calls that were judged, in all records."""
        return sum(record.calls for record in self.records)

    @property
    def legend(self) -> tuple[tuple[str, str, str], ...]:
        """(state, glyph, words) of each mark that the matrix uses."""
        used = {cell.state for case in self.cases for cell in case.cells}
        return tuple((state, *mark) for state, mark in MARKS.items() if state in used and state != UNMEASURED)

    def values(self, name: str) -> list[str]:
        """The choices of a filter. name: "modules", "paths", "ways" or "devices"."""
        return sorted({value for case in self.cases for value in getattr(case, name)}, key=str.lower)


# ---- making it -----------------------------------------------------------------------------------------------------


def read_clauses(text: str) -> dict[int, str]:
    """{number: text of the clause}, from the text of reference/README.md."""
    return {int(number): words for number, words in re.findall(r"^\| (\d+) \| (.+?) \| .* \|$", text, re.MULTILINE)}


def catalogue(records: Iterable[Record], clauses: dict[int, str]) -> Catalogue:
    """The catalogue of both ledgers. records: sorted by device and version."""
    columns = tuple(
        Column(*key, tuple(run))
        for key, run in groupby(records, key=lambda record: (record.device, minor(record.version)))
    )
    cases = [_edge_case(entry, columns) for entry in ENTRIES]
    cases.sort(key=lambda case: (case.status != PRESENT, place(case.id)))
    groups = [(kind, tuple(case for case in cases if case.kind == kind.key)) for kind in KINDS]
    return Catalogue(columns, tuple(group for group in groups if group[1]), clauses)


def _edge_case(entry, columns):
    """The EdgeCase of an entry."""
    records = [record for column in columns for record in column.records]
    showing = [record for record in records if record.state(entry.id) == PRESENT]
    best = max(showing or records, key=lambda record: (record.is_whole, record.version, record.device == "cpu"))
    example = _exemplified(entry, best)
    example["seen"] = f"{example['seen']} with {best.version} on {best.device}" if showing else "no call"
    return EdgeCase(
        id=entry.id,
        title=entry.title,
        present_in=_present_in(entry.id, columns),
        clause=entry.clause,
        remedies=shown_remedies(entry, example.pop("call", None)),
        why_none=entry.no_remedy,
        upstream=entry.upstream,
        where=_where(entry, records),
        devices=tuple(dict.fromkeys(record.device for record in showing)),
        modules=_sorted(showing, entry.id, "modules"),
        paths=_sorted(showing, entry.id, "paths"),
        ways=tuple(sorted({way for record in showing for way in record.shown.get(entry.id, ())}, key=ways.ORDER.index)),
        cells=tuple(_cell(entry, column) for column in columns),
        affects=entry.affects,
        symptom=WORDS[entry.id].symptom if entry.id in WORDS else "",
        is_by_hand=entry.id in EXAMPLES,
        **example,
    )


def _sorted(records, id, name):
    """The values of a finding, such as "modules" or "paths", in all records; sorted."""
    return tuple(sorted({value for record in records for value in record.finding(id)[name]}))


def _state(entry, record):
    """The state of an entry in a record, None if it is not known.

    A record that lacks the call of an entry whose range includes the release was made without the packages of the
    call, or by a suite that did not make it yet.
    """
    state = record.state(entry.id)
    has_the_call = state == NOT_APPLICABLE and entry.concerns(Release(record.version, record.device))
    return None if has_the_call else state


def _present_in(id, columns):
    """The name of the newest column of the first device that has the entry there; empty if none has."""
    newest = {column.device: column for column in columns}
    having = [column for column in newest.values() if column.records[-1].state(id) == PRESENT]
    return having[0].name if having else ""


def _where(entry, records):
    """((device, releases in words), ...) of all devices with a measurement."""
    devices = groupby(records, key=lambda record: record.device)
    states = {
        device: [(record.version, state) for record in run if (state := _state(entry, record))]
        for device, run in devices
    }
    return tuple((device, in_words(its_states)) for device, its_states in states.items() if its_states)


def _cell(entry, column):
    """The Cell of an entry in a column."""
    states = {str(record.version): state for record in column.records if (state := _state(entry, record))}
    different = set(states.values())
    if len(different) < 2:
        state = different.pop() if different else UNMEASURED
        return Cell(state, state)
    text = ", ".join(f"{state} in {version}" for version, state in states.items())
    return Cell(IN_PART if PRESENT in different else list(states.values())[-1], text)


# ---- examples ------------------------------------------------------------------------------------------------------


@singledispatch
def _exemplified(entry: Entry, record: Record) -> dict[str, Any]:
    """The fields of an EdgeCase that depend on the calls that show the entry, and on the record."""
    raise NotImplementedError(type(entry).__name__)


@_exemplified.register
def _(entry: Deviation, record: Record) -> dict[str, Any]:
    """The call is the pinned case."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    seen = f"{finding['cases']:,} of the {record.calls:,} calls of the run"
    call = Call(entry.pinned, release, tuple(finding["paths"]))
    return {
        "kind": kind_of(entry, call),
        "facets": facets(entry, call),
        "example": example_of(entry),
        "trigger": entry.trigger,
        "instead": entry.instead,
        "seen": seen if finding["cases"] else "no call of the run, only the one below,",
        "code": script_of_entry(entry, Setting(release.device if finding["cases"] else entry.devices[0])),
    }


@_exemplified.register
def _(entry: WrongMaskDeviation, record: Record) -> dict[str, Any]:
    """The calls are the rows that no other entry predicts."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    calls = tuple(_shown_by(entry, release, finding["modules"]))
    faults = ", ".join(dict.fromkeys(call.fault.name.replace("_", " ") for call in calls))
    texts = {source(call, release.setting): call for call in calls}
    code = min(texts, key=len, default="")
    return {
        "facets": facets_of_wrong_masks(calls),
        "example": EXAMPLES.get(entry.id),
        "kind": kind_of_wrong_mask(entry),
        "trigger": f"a wrong mask: {faults}" if faults else "",
        "instead": entry.effect,
        "seen": f"{finding['cases']:,} of the {len(ROWS):,} calls with a wrong mask or sequence,",
        "code": script_of_entry(entry),
        "call": texts.get(code),
    }


def _shown_by(entry, release, modules):
    """Generates the wrong calls of these modules that show the entry, and no other, in the release."""
    others = [other for other in wrong_masks_ledger.ENTRIES if other is not entry and other.concerns(release)]
    for call in ROWS:
        applies = call.module in modules and entry.applies(call, release)
        if applies and not any(other.applies(call, release) for other in others):
            yield call
