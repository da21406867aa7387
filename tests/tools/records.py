"""The records of runs (tests/harness/measurement/record.py), read back and checked; no more of them than needed."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

from tests.harness.command_line import BadInput
from tests.harness.measurement.record import NOT_EXERCISED, SCHEMA
from tests.harness.measurement.session import PRESENT
from tests.harness.modes.modes import EAGER

from .schema_2 import as_schema_3


@dataclass(frozen=True)
class Told:
    """What a record says of a test. titles: of its failures. entry: the id of the entry that it is about, or None."""

    outcome: str | None
    titles: tuple[str, ...] = ()
    entry: str | None = None

    @property
    def headline(self):
        """The failures in a line."""
        first, *others = self.titles
        return f"{first} (and {len(others)} more)" if others else first


@dataclass(frozen=True)
class Record:
    """What one run found.

    part: what limited the run to a part of the suite, if anything. statuses: {verdict: number of calls}. cpu: its
    vector extension. tests: by id. clauses: {"file::function": {clause: calls of the test that exercise it}}, empty if
    the record is older than these counts. ways: {mode or low precision: {verdict: number of calls}}. shown: {entry: in
    which of these ways it was seen, or "eager"}.
    """

    version: Version
    device: str
    part: tuple[str, ...]
    statuses: dict[str, int]
    tests: dict[str, Told]
    clauses: dict[str, Counter]
    ways: dict[str, Counter]
    shown: dict[str, set[str]]
    ledger: dict
    seconds: float
    cpu_seconds: float
    cpu_seconds_in_torch: float
    profile: str
    seed: str
    cpu: str

    @property
    def is_whole(self):
        """True if nothing limited the run."""
        return not self.part

    @property
    def calls(self):
        """How many were judged."""
        return sum(self.statuses.values())

    def finding(self, id):
        """What the run says of an entry."""
        return self.ledger.get(id, {"status": None, "paths": [], "cases": 0, "modules": {}})

    def state(self, id):
        """PRESENT, ABSENT, CHANGED, NOT_APPLICABLE, or None where the run did not ask."""
        status = self.finding(id)["status"]
        return PRESENT if status == NOT_EXERCISED else status


def read_records(folder):
    """The records of a folder, by device and version."""
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
    return record.device != "cpu", record.device, record.version


def read_record(path):
    """The Record in a file."""
    return as_record(read_json(path), path)


def read_json(path):
    """What a JSON file holds."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a whole record: {_in_one_line(error)}") from None


def current(plain):
    """The plain data of a record in the present schema, if it is a record of this one or of the one before."""
    return as_schema_3(plain) if plain["schema"] == 2 else plain


def as_record(plain, path):
    """The Record of plain data, which the file of this path holds."""
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
            **{name: float(plain[name]) for name in ("seconds", "cpu_seconds", "cpu_seconds_in_torch")},
            **{name: str(environment[name]) for name in ("profile", "seed", "cpu")},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a whole record: {_in_one_line(error)}") from None


def _clauses(tests):
    counts = {}
    for id, test in tests.items():
        if isinstance(test.get("clauses"), dict) and test["clauses"]:
            function = id.rpartition("/")[2].partition("[")[0]
            calls = {int(number): calls for number, calls in test["clauses"].items()}
            counts.setdefault(function, Counter()).update(calls)
    return counts


def _ways(tests):
    """{mode or low precision: Counter of the verdicts on its calls}"""
    ways = {}
    for test in tests.values():
        if (way := test.get("way", EAGER.id)) != EAGER.id and test.get("statuses"):
            ways.setdefault(way, Counter()).update(test["statuses"])
    return ways


def _shown(tests):
    shown = {}
    for test in tests.values():
        for entry in test.get("deviations", ()) if "way" in test else ():
            shown.setdefault(entry, set()).add(test["way"])
    return shown


def _told(test):
    """The Told of a test; of what an older record says the first line stands for it."""
    message = next(iter(test.get("message", "").splitlines()), "no message")
    titles = tuple(str(failure["title"]) for failure in test.get("failures", ()))
    return Told(test["outcome"], titles or (message,), test.get("entry"))


def _in_one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


def _finding(finding):
    """The finding, if it has all that is asked of it later."""
    return {name: finding[name] for name in ("status", "paths", "cases", "modules")}
