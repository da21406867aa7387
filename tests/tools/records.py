"""The records of runs (tests/harness/measurement/record.py), read back and checked; no more of them than needed."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from packaging.version import Version

from tests.harness.command_line import BadInput
from tests.harness.measurement.record import NOT_EXERCISED, SCHEMA
from tests.harness.measurement.session import PRESENT


@dataclass(frozen=True)
class Record:
    """What one run found.

    part: what limited the run to a part of the suite, if anything. is_whole: it had no such limit, and ran more than
    the ledgers' own tests. statuses: {verdict: number of calls}. cpu: its vector extension. tests: {id: (outcome,
    message)}. ways: {mode or low precision: {verdict: number of calls}}. shown: {entry: in which of these ways it was
    seen, or "eager"}.
    """

    version: Version
    device: str
    part: tuple[str, ...]
    is_whole: bool
    statuses: dict[str, int]
    tests: dict[str, tuple[str, str]]
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


def as_record(plain, path):
    """The Record of plain data, which the file of this path holds."""
    try:
        if plain["schema"] != SCHEMA:
            raise BadInput(f"{path}: a record of schema {plain['schema']}, not {SCHEMA}: measure this release again")
        if not plain["complete"]:
            raise BadInput(f"{path}: the record of a run that was interrupted: measure this release again")
        environment = plain["environment"]
        return Record(
            version=Version(Version(environment["torch"]).base_version),
            device=environment["device"].split(":")[0],
            part=tuple(map(str, plain.get("part", ()))),
            is_whole=not plain.get("part")
            and any(not re.search("test_(ledger|wrong_masks).py", test) for test in plain["tests"]),
            statuses={verdict: int(number) for verdict, number in plain["statuses"].items()},
            tests={id: (test["outcome"], test.get("message", "")) for id, test in plain["tests"].items()},
            ways=_ways(plain["tests"]),
            shown=_shown(plain["tests"]),
            ledger={id: _finding(finding) for id, finding in plain["ledger"].items()},
            **{name: float(plain[name]) for name in ("seconds", "cpu_seconds", "cpu_seconds_in_torch")},
            **{name: str(environment[name]) for name in ("profile", "seed", "cpu")},
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a whole record: {_in_one_line(error)}") from None


_WAY = re.compile(
    r"test_(?:modes|low_precision)\.py::"
    r"test_(?:is_as_specified(?:_when_compiled|_when_built)?|every_kind_of_mask_on_every_path)"
    r"\[(?!NOTSET)(\w+)(?:-\w+)?\]$"
)


def _ways(tests):
    """{mode or low precision: Counter of the verdicts on its calls}"""
    ways = {}
    for id, test in tests.items():
        if (match := _WAY.search(id)) and test.get("statuses"):
            ways.setdefault(match[1], Counter()).update(test["statuses"])
    return ways


_EAGER = re.compile(r"test_(?:equivalences|hidden_content|transformer|multihead_attention|scaled_\w+|wrong_masks)\.py")


def _shown(tests):
    shown = {}
    for id, test in tests.items():
        match = _WAY.search(id)
        if match or _EAGER.search(id):
            for entry in test.get("deviations", ()):
                shown.setdefault(entry, set()).add(match[1] if match else "eager")
    return shown


def _in_one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


def _finding(finding):
    """The finding, if it has all that is asked of it later."""
    return {name: finding[name] for name in ("status", "paths", "cases", "modules")}
