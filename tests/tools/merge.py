"""`python -m tests.tools merge OUT RECORD...` merges the records of shards, or of runs with different seeds, into one.

Numbers are added up, and nothing is counted twice: a duplicate of a record is ignored, and two records that ran the
same test with the same seed are refused. Exit code 4 if the records cannot be merged.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

from packaging.version import Version

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.deviations.paths import reachable_paths
from tests.harness.execution.release import Release
from tests.harness.measurement import record
from tests.harness.measurement.news import merged as merged_news
from tests.harness.measurement.news import news_of
from tests.harness.measurement.record import CRASH, FAILED, HARNESS_ERROR, NOT_EXERCISED, PASSED, SCHEMA
from tests.harness.measurement.session import CHANGED, PRESENT

from .records import as_record, current, read_json

_SAME = ("torch", "git", "device", "ledger", "model")  # facts of the environment that must be equal
_OUTCOMES = (CRASH, HARNESS_ERROR, FAILED, PASSED)  # the worst first
_STATUSES = (CHANGED, PRESENT, NOT_EXERCISED)


def merged(records: Iterable[dict]) -> dict:
    """One record of several records of one release on one device. Records are plain data.

    Raises BadInput if the environments differ, or if two records ran the same test with the same seed.
    """
    first, *others = records = _distinct(list(map(current, records)))
    for other in others:
        for name in _SAME:
            ours, theirs = (its["environment"].get(name) for its in (first, other))
            if ours != theirs:
                raise BadInput(f"records of different runs: {name} is {ours} and {theirs}")
    tests, entries = (sorted({id for its in records for id in its[name]}) for name in ("tests", "ledger"))
    made = {
        "schema": SCHEMA,
        "complete": all(its["complete"] for its in records),
        **{name: round(sum(its[name] for its in records), 1) for name in _SECONDS},
        "environment": first["environment"] | {name: _listed(records, name) for name in ("seed", "profile")},
        "tests": {id: _test([its["tests"][id] for its in records if id in its["tests"]]) for id in tests},
        "ledger": {id: _entry([its["ledger"][id] for its in records if id in its["ledger"]]) for id in entries},
        "statuses": _sum(its["statuses"] for its in records),
        "paths": _paths(records),
        "ratios": _largest(its["ratios"] for its in records),
        **{name: _sum(its.get(name, {}) for its in records) for name in ("margins", "uncomputed", "compared")},
        **{name: _nested_sum(records, name) for name in ("left_out", "clauses")},
    }
    if any("groups" in its for its in records):
        made["groups"] = [its.as_plain() for its in merged_news(news for its in records for news in news_of(its))]
        made["lost"] = sum(its.get("lost", 0) for its in records)
    made |= {"part": part} if (part := _part(records)) else {}
    made["outcomes"] = _sum({test["outcome"]: 1} for test in made["tests"].values())
    environment = made["environment"]
    release = Release(Version(environment.get("model", environment["torch"])), environment["device"])
    made["neglected_paths"] = record.neglected_paths(made, reachable_paths(release))
    others = ("margins", "compared", "left_out", "clauses", "groups", "lost")  # missing in old records
    added = {name: made[name] for name in others if made.get(name) is not None}
    return {name: made[name] for name in first if name in made} | added


def _part(records):
    """The limits of the merged record; none if one record is of a whole run, or if the shards make a whole run."""
    parts = [its.get("part", []) for its in records]
    shards = [frozenset(text for text in part if text.startswith("--shard ")) for part in parts]
    others = [[text for text in part if not text.startswith("--shard ")] for part in parts]
    found = set().union(*shards)
    number = max((int(text.partition("/")[2]) for text in found), default=1)
    is_all = found == {f"--shard {i}/{number}" for i in range(1, number + 1)} and all(shards)
    if not all(parts) or (is_all and all(its == others[0] for its in others)):
        return others[0] if all(parts) else []
    return list(dict.fromkeys(text for part in parts for text in part))


_SECONDS = ("seconds", "cpu_seconds", "cpu_seconds_in_torch")


def _distinct(records):
    """The records without duplicates. Raises BadInput if two ran the same test with the same seed."""
    distinct = [its for i, its in enumerate(records) if its not in records[:i]]
    for one, other in combinations(distinct, 2):
        common = one["tests"].keys() & other["tests"].keys()
        if common and one["environment"]["seed"] == other["environment"]["seed"]:
            raise BadInput(f"{len(common)} tests ran twice with seed {one['environment']['seed']}: {min(common)}")
    return distinct


def _listed(records, name):
    return ", ".join(dict.fromkeys(str(its["environment"][name]) for its in records))


def _sum(counters):
    return dict(sorted(sum(map(Counter, counters), Counter()).items()))


def _largest(ratios):
    largest = {}
    for its in ratios:
        largest |= {key: max(ratio, largest.get(key, 0.0)) for key, ratio in its.items()}
    return dict(sorted(largest.items()))


def _paths(records):
    modules = sorted({module for its in records for module in its["paths"]})
    return {module: _sum(its["paths"].get(module, {}) for its in records) for module in modules}


def _nested_sum(records, name):
    """The sum of a field {key: {key: number}} over all records. A record may lack the field."""
    keys = sorted({key for its in records for key in its.get(name, {})})
    return {key: _sum(its.get(name, {}).get(key, {}) for its in records) for key in keys}


def _worst(values, order):
    """The value that comes first in `order`; values that are not in it come last."""
    return min(values, key=lambda value: order.index(value) if value in order else len(order))


def _test(runs):
    """The result of a test, merged from several runs."""
    worst = _worst([run["outcome"] for run in runs], _OUTCOMES)
    told = next((run for run in runs if run["outcome"] == worst and "message" in run), {})
    others = {name: value for run in runs for name, value in run.items() if name in ("entry", "way")}
    sums = {name: _sum(run.get(name, {}) for run in runs) for name in ("statuses", "deviations")}
    seconds = {"seconds": round(sum(run["seconds"] for run in runs if "seconds" in run), 3)}
    clauses = _sum(run["clauses"] for run in runs if isinstance(run["clauses"], dict))  # a list in older records
    made = {"outcome": worst, "clauses": clauses, **sums, **seconds, **others}
    made |= {"failures": [its for run in runs for its in run.get("failures", ())], "message": told.get("message")}
    return {name: value for name, value in made.items() if value or name in ("outcome", "clauses")}


def _entry(findings):
    """The finding about an entry, merged from several runs."""
    status = _worst([finding["status"] for finding in findings], _STATUSES)
    counts = {"cases": sum(f["cases"] for f in findings), "modules": _sum(f["modules"] for f in findings)}
    return findings[0] | {"status": status} | counts


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog="python -m tests.tools merge", description="Merge several records into one.")
    parser.add_argument("out", type=Path)
    parser.add_argument("records", type=Path, nargs="+", metavar="record")
    options = parser.parse_args(arguments)
    try:
        plain = []
        for path in options.records:
            plain.append(read_json(path))
            as_record(plain[-1], path)
        made = merged(plain)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    record.write(made, options.out)
    calls = sum(made["statuses"].values())
    print(f"{len(plain)} records, {len(made['tests'])} tests, {calls} calls: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
