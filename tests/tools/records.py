"""Reads and checks the records of runs (tests/harness/measurement/record.py). Fields that no tool needs are dropped."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from packaging.version import Version

from tests.harness.command_line import BadInput
from tests.harness.judgement.groups import key_of
from tests.harness.judgement.report import Failure
from tests.harness.measurement.record import NOT_EXERCISED, SCHEMA
from tests.harness.measurement.session import NOT_APPLICABLE, PRESENT
from tests.harness.modes.modes import EAGER

from .schema_2 import as_schema_3


@dataclass(frozen=True)
class Told:
    """The result of a test in a record."""

    outcome: str | None  # None if the run did not include the test
    titles: tuple[str, ...] = ()  # of the failures; the first line of a message if a record has no failures
    entry: str | None = None  # id of the entry that the test is about
    failures: tuple[Any, ...] = ()  # plain data, one for each group of failing calls

    @property
    def kinds(self) -> dict[str, str]:
        """{what the failing calls of a group have in common, in words: the title of the simplest}

        Raises BadInput, or an error of Python, for data that is no failure.
        """
        failures = map(Failure.from_plain, self.failures)
        return {key_of(failure).words: failure.title for failure in failures}

    @property
    def headline(self) -> str:
        """One line: the title of the first failure, and the number of further ones."""
        first, *others = self.titles
        return f"{first} (and {len(others)} more)" if others else first


@dataclass(frozen=True)
class Record:
    """The results of one run."""

    version: Version  # of torch, without the local part
    device: str  # its type
    part: tuple[str, ...]  # the options that limited the run; empty if nothing did
    statuses: dict[str, int]  # {verdict: number of calls}
    tests: dict[str, Told]  # {id in pytest: result}
    clauses: dict[
        str, Counter
    ]  # {"file::function": {number of a clause: calls that exercise it}}; empty in old records
    ways: dict[str, Counter]  # {mode or low precision: {verdict: number of calls}}
    shown: dict[str, set[str]]  # {id of an entry: modes and low precisions whose calls show it, or "eager"}
    ledger: dict  # {id of an entry: finding as a dict, see `finding`}
    seconds: float  # by the clock
    cpu_seconds: float  # of the tests
    cpu_seconds_in_torch: float
    profile: str  # of Hypothesis
    seed: str
    cpu: str  # its vector extension
    accelerator: str = ""  # the name of the device, if it is not the CPU
    collects: bool = False  # True if calls failed and did not end their tests

    @property
    def is_whole(self) -> bool:
        """True if nothing limited the run."""
        return not self.part

    @property
    def calls(self) -> int:
        """The number of calls that were judged."""
        return sum(self.statuses.values())

    def finding(self, id: str) -> dict:
        """The finding about an entry: "status" (or None), "paths", "cases" (number of calls), "modules"."""
        return self.ledger.get(id, {"status": None, "paths": [], "cases": 0, "modules": {}})

    def state(self, id: str) -> str | None:
        """The state of an entry: PRESENT, ABSENT, CHANGED or NOT_APPLICABLE; None if the run did not look for it.

        It is also present if calls show it in a release that refuses the pinned case.
        """
        finding = self.finding(id)
        is_shown = finding["status"] == NOT_APPLICABLE and finding["cases"] > 0
        return PRESENT if is_shown or finding["status"] == NOT_EXERCISED else finding["status"]


def read_records(folder: str | Path) -> tuple[Record, ...]:
    """The records of a folder, sorted by device and version, the CPU first.

    Raises BadInput if there is no record, if one cannot be read, or if two are of the same version and device.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder of records")
    records = sorted((read_record(path) for path in sorted(folder.glob("*.json"))), key=_place)
    if not records:
        raise BadInput(f"{folder}: holds no record")
    for one, other in pairwise(records):
        if _place(one) == _place(other):
            raise BadInput(f"{folder}: holds two records of {one.version} on {one.device}")
    return tuple(records)


def _place(record):
    """The key by which records are sorted."""
    return record.device != "cpu", record.device, record.version


def read_record(path: str | Path) -> Record:
    """The record in a file. Raises BadInput if it cannot be read."""
    return as_record(read_json(path), path)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file. Raises BadInput if it cannot be read."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a whole record: {in_one_line(error)}") from None


def current(plain: dict) -> dict:
    """The record, as plain data, in the current schema if it has this schema or the one before; else unchanged."""
    return as_schema_3(plain) if plain["schema"] == 2 else plain


def as_record(plain: Any, path: str | Path) -> Record:
    """The record of plain data. Raises BadInput if it is none, or is incomplete. path: its file, for the message."""
    if not isinstance(plain, dict) or "schema" not in plain:
        raise BadInput(f"{path}: not a record: it has no field 'schema'")
    try:
        plain = current(plain)
        if plain["schema"] != SCHEMA:
            raise BadInput(f"{path}: a record of schema {plain['schema']}, not {SCHEMA}: measure this release again")
        if not plain["complete"]:
            raise BadInput(f"{path}: the record of a run that was interrupted: measure this release again")
        environment = plain["environment"]
        return Record(
            version=Version(Version(environment["torch"]).base_version),
            device=environment["device"].split(":")[0],
            part=tuple(map(str, plain.get("part", ()))),
            statuses={verdict: int(number) for verdict, number in plain["statuses"].items()},
            tests={id: _told(test) for id, test in plain["tests"].items()},
            clauses=_clauses(plain["tests"]),
            ways=_ways(plain["tests"]),
            shown=_shown(plain["tests"]),
            ledger={id: _finding(finding) for id, finding in plain["ledger"].items()},
            seconds=float(plain["seconds"]),
            cpu_seconds=float(plain["cpu_seconds"]),
            cpu_seconds_in_torch=float(plain["cpu_seconds_in_torch"]),
            profile=str(environment["profile"]),
            seed=str(environment["seed"]),
            cpu=str(environment["cpu"]),
            accelerator=str(environment.get("accelerator", "")),
            collects=bool(plain.get("groups")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a whole record: {in_one_line(error)}") from None


def _clauses(tests):
    """{"file::function": {number of a clause: calls}}"""
    counts = {}
    for id, test in tests.items():
        if isinstance(test.get("clauses"), dict) and test["clauses"]:
            function = id.rpartition("/")[2].partition("[")[0]
            calls = {int(number): calls for number, calls in test["clauses"].items()}
            counts.setdefault(function, Counter()).update(calls)
    return counts


def _ways(tests):
    """{mode or low precision: {verdict: number of calls}}"""
    ways = {}
    for test in tests.values():
        if (way := test.get("way", EAGER.id)) != EAGER.id and test.get("statuses"):
            ways.setdefault(way, Counter()).update(test["statuses"])
    return ways


def _shown(tests):
    """{id of an entry: modes and low precisions whose calls show it, or "eager"}"""
    shown = {}
    for test in tests.values():
        for entry in test.get("deviations", ()) if "way" in test else ():
            shown.setdefault(entry, set()).add(test["way"])
    return shown


def _told(test):
    """The Told of a test. In an older record, the first line of the message takes the place of the titles."""
    message = next(iter(test.get("message", "").splitlines()), "no message")
    failures = tuple(test.get("failures", ()))
    titles = tuple(str(failure["title"]) for failure in failures)
    return Told(test["outcome"], titles or (message,), test.get("entry"), failures)


def in_one_line(error: Exception) -> str:
    """The type and the message of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _finding(finding):
    """The fields of a finding that are used. Raises KeyError if one is missing."""
    return {name: finding[name] for name in ("status", "paths", "cases", "modules")}
