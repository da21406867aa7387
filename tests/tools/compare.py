"""`python -m tests.tools compare OLD NEW [--format text|markdown|json]` lists the changes from one record to another.

Exit code: 1 if something regressed, 0 if nothing did, 4 if a record cannot be used.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.ledgers import BY_ID
from tests.harness.measurement.record import CRASH, FAILED, HARNESS_ERROR, PASSED, depends_on_cpu
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
    """One change from a record to another."""

    kind: str  # one of KINDS
    id: str  # of a test or of an entry of a ledger
    what: str  # the change in words; may be empty

    @property
    def is_worse(self) -> bool:
        """True if the change is a regression."""
        return self.kind in WORSE


def changes(old: Record, new: Record) -> tuple[Change, ...]:
    """The changes from one record to another, sorted by kind (the worst first) and id."""
    of_ledger = list(_of_ledger(old, new))
    told = {change.id: change.is_worse for change in of_ledger}  # the test of an entry shows the same change
    of_tests = [its for its in _of_tests(old, new) if its.is_worse > told.get(_entry(its.id, old, new), -1)]
    found = _counted(old, new, [*of_ledger, *of_tests])
    return tuple(sorted(found, key=lambda change: (KINDS.index(change.kind), change.id)))


def _counted(old, new, found):
    """The changes, in which all tests that only one record has are one change if the other record is a partial run."""
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


def forgiven(old: Record, new: Record) -> Iterator[str]:
    """Generates lines that list the tests that fail in both records, and count the tests that the old record lacks."""
    failing = [id for id in new.tests if all(_test(record, id).outcome in _WRONG for record in (old, new))]
    if failing:
        yield f"forgiven, since the baseline has these failures too ({len(failing)}):"
        yield from (f"  {id}: {new.tests[id].headline}" for id in sorted(failing))
        if not _draw_the_same(old, new):
            yield f"The calls of the baseline (profile {old.profile}, seed {old.seed}) were not made again, so that"
            yield "other failures of these tests are forgiven, too."
    if missing := new.tests.keys() - old.tests.keys():
        yield f"The baseline lacks {len(missing)} of these {len(new.tests)} tests: of them it forgives nothing."


def _test(record, id):
    return record.tests.get(id, Told(None))


def _of_ledger(old: Record, new: Record) -> Iterator[Change]:
    for id in sorted(old.ledger.keys() | new.ledger.keys()):
        before, after = (record.state(id) or NOT_APPLICABLE for record in (old, new))
        if (old.part and before == NOT_APPLICABLE) or (new.part and after == NOT_APPLICABLE):
            continue  # a partial run does not look for every entry
        kind = {
            (ABSENT, PRESENT): BEGINS,
            (NOT_APPLICABLE, PRESENT): NEW,
            (PRESENT, NOT_APPLICABLE): GONE,
            (PRESENT, ABSENT): ENDS,
            (CHANGED, ABSENT): ENDS,
        }.get((before, after), CHANGES if CHANGED in (before, after) and before != after else None)
        if kind is not None:
            title = f"{BY_ID[id].title} ({BY_ID[id].upstream})" if id in BY_ID else "an entry that this ledger lacks"
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
        elif after in _WRONG and (others := _other_failures(old, new, id)):
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            yield Change(REGRESSED, id, f"fails in another way: {others[0]}{more}")
        elif before in _WRONG and after == PASSED:
            yield Change(FIXED, id, f"{before}, now {after}")
        elif after == PASSED and before != PASSED:
            yield Change(NEW, id, "")
        elif before in (PASSED, *_WRONG) and after not in (PASSED, *_WRONG):
            yield Change(GONE, id, f"{before}, now {after or 'not run'}")


def _other_failures(old, new, id):
    """The titles of failures of a test, in groups that the same test of the old record lacks.

    Other calls fall into other groups: none, unless both runs draw the same calls and collect their failures.
    """
    if not (_draw_the_same(old, new) and old.collects and new.collects):
        return []
    try:
        known, now = _test(old, id).kinds, _test(new, id).kinds
    except (BadInput, LookupError, TypeError, ValueError, AttributeError):  # of another version of the suite
        return []
    return [title for kind, title in now.items() if kind not in known]


def _draw_the_same(old, new):
    return (old.seed, old.profile) == (new.seed, new.profile)


def _entry(id, *records):
    """The id of the entry that the test is about, or None. `changes` lists an entry instead of its tests."""
    return next((entry for record in records if (entry := _test(record, id).entry)), None)


# ---- formats -------------------------------------------------------------------------------------------------------


def as_text(old: Record, new: Record, found: Sequence[Change]) -> Iterator[str]:
    """Generates lines that list the changes, for a terminal."""
    yield f"torch {old.version} on {old.device}, then torch {new.version} on {new.device}: {_summary(found)}."
    for kind, members in _by_kind(found):
        yield f"{kind} ({len(members)}):"
        yield from (f"  {change.id}" + (f": {change.what}" if change.what else "") for change in members)


def as_markdown(old: Record, new: Record, found: Sequence[Change]) -> Iterator[str]:
    """Generates lines that list the changes, in Markdown."""
    yield from (f"### torch {old.version} on {old.device} → {new.version} on {new.device}", "", f"{_summary(found)}.")
    for kind, members in _by_kind(found):
        yield from ("", f"**{kind}** ({len(members)})", "")
        yield from (f"- `{change.id}`" + (f": {change.what}" if change.what else "") for change in members)


def as_json(old: Record, new: Record, found: Sequence[Change]) -> Iterator[str]:
    """Generates the text of a JSON object: {"old": release and device, "new": the same, "changes": [fields, ...]}."""
    plain = {"old": f"{old.version} {old.device}", "new": f"{new.version} {new.device}"}
    yield json.dumps(plain | {"changes": [asdict(change) for change in found]}, indent=1)


def _summary(found):
    worse = sum(change.is_worse for change in found)
    if not found:
        return "nothing changed"
    others = len(found) - worse
    return f"{worse or 'nothing'} regressed, {others} other change{'s' * (others != 1)}"


def _by_kind(found):
    for kind in KINDS:
        members = [change for change in found if change.kind == kind]
        if members:
            yield kind, members


FORMATS = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog="python -m tests.tools compare", description="List the changes from one record to another.")
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
