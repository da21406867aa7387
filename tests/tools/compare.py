"""`python -m tests.tools compare OLD NEW [--format text|markdown|json]` tells what changed from one record to another.

Exit code 1 if something regressed, 0 if not, 4 if a record cannot be used.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.measurement.record import CRASH, FAILED, HARNESS_ERROR, PASSED, depends_on_cpu, titles
from tests.harness.measurement.session import ABSENT, CHANGED, NOT_APPLICABLE, PRESENT

from .records import Record, Told, read_record

REGRESSED, FIXED = "regressed", "fixed"
BEGINS, ENDS, CHANGES = "deviation begins", "deviation ends", "deviation changes"
NEW, GONE, ERROR = "newly tested", "no longer tested", "harness error"
WORSE = (REGRESSED, BEGINS, CHANGES)
KINDS = (REGRESSED, BEGINS, CHANGES, FIXED, ENDS, NEW, GONE, ERROR)
_WRONG = (FAILED, CRASH)


@dataclass(frozen=True)
class Change:
    """One thing that changed. kind: one of KINDS. id: of a test or of a ledger's entry. what: in words."""

    kind: str
    id: str
    what: str

    @property
    def is_worse(self):
        """True if it is a regression."""
        return self.kind in WORSE


def changes(old, new):
    """The Changes from one Record to another, the worst first."""
    of_ledger = list(_of_ledger(old, new))
    told = {change.id: change.is_worse for change in of_ledger}  # the test of an entry says it once more
    of_tests = [its for its in _of_tests(old, new) if its.is_worse > told.get(_entry(its.id, old, new), -1)]
    found = _counted(old, new, [*of_ledger, *of_tests])
    return tuple(sorted(found, key=lambda change: (KINDS.index(change.kind), change.id)))


def _counted(old, new, found):
    """The changes; where a record is of a part of the suite, the tests that only the other one ran are one of them."""
    for record, kind, how in ((new, GONE, "not run now"), (old, NEW, "not run by the first record")):
        if record.part:
            others = [
                change
                for change in found
                if change.kind == kind and "::" in change.id and change.id not in record.tests
            ]
            found = [change for change in found if change not in others]
            what = f"{how}, which is of a part of the suite: {', '.join(record.part)}"
            found += [Change(kind, f"{len(others)} tests", what)] if others else []
    return found


def forgiven(old, new):
    """Lines that tell which tests fail in both records, and how many of the new one the old one has not run."""
    failing = [id for id in new.tests if all(_test(record, id).outcome in _WRONG for record in (old, new))]
    if failing:
        yield f"forgiven, since the baseline has these failures too ({len(failing)}):"
        yield from (f"  {id}: {new.tests[id].headline}" for id in sorted(failing))
    if missing := new.tests.keys() - old.tests.keys():
        yield f"The baseline lacks {len(missing)} of these {len(new.tests)} tests: of them it forgives nothing."


def _test(record, id):
    return record.tests.get(id, Told(None))


def _of_ledger(old: Record, new: Record) -> Iterator[Change]:
    known = titles()
    for id in sorted(old.ledger.keys() | new.ledger.keys()):
        before, after = (record.state(id) or NOT_APPLICABLE for record in (old, new))
        if (old.part and before == NOT_APPLICABLE) or (new.part and after == NOT_APPLICABLE):
            continue  # a part does not ask for every entry
        kind = {
            (ABSENT, PRESENT): BEGINS,
            (NOT_APPLICABLE, PRESENT): NEW,
            (PRESENT, NOT_APPLICABLE): GONE,
            (PRESENT, ABSENT): ENDS,
            (CHANGED, ABSENT): ENDS,
        }.get((before, after), CHANGES if CHANGED in (before, after) and before != after else None)
        if kind is not None:
            title = f"{known[id].title} ({known[id].upstream})" if id in known else "an entry that this ledger lacks"
            whose = ", which depends on the CPU" * depends_on_cpu(id)
            yield Change(kind, id, f"{title}: {before}, now {after}{whose}")


def _of_tests(old: Record, new: Record) -> Iterator[Change]:
    for id in sorted(old.tests.keys() | new.tests.keys()):
        test = _test(new, id)
        before, after = _test(old, id).outcome, test.outcome
        if HARNESS_ERROR in (before, after):
            yield Change(ERROR, id, f"{before or 'not run'}, now {after or 'not run'}")
        elif after in _WRONG and before not in _WRONG:
            yield Change(REGRESSED, id, f"{before or 'not run'}, now {after}: {test.headline}")
        elif before in _WRONG and after == PASSED:
            yield Change(FIXED, id, f"{before}, now {after}")
        elif after == PASSED and before != PASSED:
            yield Change(NEW, id, "")
        elif before in (PASSED, *_WRONG) and after not in (PASSED, *_WRONG):
            yield Change(GONE, id, f"{before}, now {after or 'not run'}")


def _entry(id, *records):
    """The entry that a test of a ledger is about; its change is told once."""
    return next((entry for record in records if (entry := _test(record, id).entry)), None)


# ---- how it reads --------------------------------------------------------------------------------------------------


def as_text(old, new, found):
    """The changes for a terminal."""
    yield f"torch {old.version} on {old.device}, then torch {new.version} on {new.device}: {_summary(found)}."
    for kind, members in _by_kind(found):
        yield f"{kind} ({len(members)}):"
        yield from (f"  {change.id}" + (f": {change.what}" if change.what else "") for change in members)


def as_markdown(old, new, found):
    """The changes for a page."""
    yield from (f"### torch {old.version} on {old.device} → {new.version} on {new.device}", "", f"{_summary(found)}.")
    for kind, members in _by_kind(found):
        yield from ("", f"**{kind}** ({len(members)})", "")
        yield from (f"- `{change.id}`" + (f": {change.what}" if change.what else "") for change in members)


def as_json(old, new, found):
    """The changes as data."""
    plain = {"old": f"{old.version} {old.device}", "new": f"{new.version} {new.device}"}
    yield json.dumps(plain | {"changes": [asdict(change) for change in found]}, indent=1)


def _summary(found):
    worse = sum(change.is_worse for change in found)
    if not found:
        return "nothing changed"
    return f"{worse or 'nothing'} regressed, {len(found) - worse} other changes"


def _by_kind(found):
    for kind in KINDS:
        members = [change for change in found if change.kind == kind]
        if members:
            yield kind, members


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main(arguments):
    parser = Parser(prog="python -m tests.tools compare", description="What changed from one record to another.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--format", choices=FORMATS, default="text")
    options = parser.parse_args(arguments)
    try:
        old, new = read_record(options.old), read_record(options.new)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    found = changes(old, new)
    print("\n".join(FORMATS[options.format](old, new, found)))
    return int(any(change.is_worse for change in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
