"""`python -m tests.tools propose RECORD` prints edits of the ledgers, as a patch for `git apply`.

The record is that of a run judged by the model of an earlier release (--model). An entry whose calls have changed gets
an end or a beginning of its range, or another reach; what is new gets the skeleton of an entry, in which a person fills
in words. Conditions are found by running calls, so the release of the record must be installed.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

from packaging.version import Version

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.deviations.refusals import REFUSALS
from tests.harness.deviations.views import REMOVED
from tests.harness.execution.release import installed
from tests.harness.explanation.conditions import condition, condition_of_rows, is_as_before, variants
from tests.harness.explanation.explanation import BACK, GONE, NEW, Changed
from tests.harness.explanation.groups import Explained, Judge, explained
from tests.harness.explanation.rows import BY_ID
from tests.harness.explanation.sight import sighted
from tests.harness.measurement import news, session
from tests.harness.measurement.record import SCHEMA
from tests.harness.wrong_masks.table import not_applicable

from .affected import begun, ended, short
from .ledger_text import OF_CASES, OF_ROWS, Texts
from .records import current, read_json

COMMAND = "python -m tests.tools propose"
_WIDEST = 116


# ---- the changes of a record ---------------------------------------------------------------------------------------


def judge_of(plain: Mapping[str, Any], until: Version | None = None) -> Judge:
    """The models that judged the run of a record. Begins a session, in which entries are tried again.

    until: see Judge. Raises BadInput if the release of the record is not installed.
    """
    environment = plain["environment"]
    here = installed().version
    if Version(environment["torch"]).release != here.release:
        raise BadInput(f"a record of torch {environment['torch']}, but {here} is installed, on which calls are to run")
    if "subject" in environment or environment["device"] != "cpu":
        raise BadInput("a record of another device or implementation: its known deviations are its --baseline")
    run = session.start(environment["device"], model=environment.get("model"))
    failures = [failure for its in news.news_of(plain) for failure in its.group.calls]
    return replace(news.judge_of(run, plain["ledger"], failures), until=until)


def changes_of(plain: Mapping[str, Any], judge: Judge) -> Sequence[Explained]:
    """The changes that a record tells. Those that the run could not explain, or not in its time, are explained now."""
    groups = [Explained.from_plain({"explanation": {"kind": NEW}} | group) for group in _groups(plain)]
    known = [group for group in groups if group.explanation.kind != NEW]
    told = frozenset(id for group in known for id in group.explanation.entries)
    others = [group for group in groups if group not in known]
    return [*known, *explained(others, replace(judge, absent=judge.absent - told))]


def _groups(plain):
    """The groups of failures of a record as plain data; the failures of each test if the run collected no groups."""
    if "groups" in plain:
        return [group for group in plain["groups"] if not group.get("is_flaky")]
    calls = [test["failures"] for test in plain["tests"].values() if test.get("failures")]
    return [{"calls": its, "seen": len(its)} for its in calls]


# ---- the edits -----------------------------------------------------------------------------------------------------


def proposed(changes: Iterable[Explained], judge: Judge, version: Version, texts: Texts) -> list[str]:
    """Edit the texts so that the ledgers predict the changes since `version`. Returns what is left to a person."""
    notes: list[str] = []
    writer = _Writer(judge, version, texts, notes)
    for number, change in enumerate(changes, 1):
        for its in change.explanation.changed:
            writer.change_entry(its, change)
        if change.explanation.effect or change.explanation.kind == NEW:
            writer.add_entry(change, f"new-{short(version).replace('.', '-')}-{number}")
    return notes


class _Writer:
    """Writes the edits of a run into texts."""

    def __init__(self, judge, version, texts, notes):
        self.judge, self.version, self.texts, self.notes = judge, version, texts, notes
        self.reaches: dict[tuple[str, str, str], str] = {}  # {(file, id, view): code}, for each the widest condition

    def change_entry(self, its: Changed, change: Explained) -> None:
        """Edit the range or the reach of an entry."""
        is_whole = its.view in ("", REMOVED.code) and not any(refusal.id == its.id for refusal in REFUSALS)
        if its.kind in (GONE, BACK) and is_whole:
            if not self._change_range(its.id, ended if its.kind == GONE else begun):
                self.notes.append(f"{its.id} is {its.kind}: edit its range by hand")
        elif not its.view:
            self.notes.append(f"{its.id}: its pinned case does not show it any more, but other calls do; find another")
        else:
            self._add_reach(its, change)

    def _change_range(self, id, edit):
        try:
            return self.texts.change_range(id, lambda affects: edit(affects, self.version))
        except ValueError:  # no specifier says it
            return False

    def _add_reach(self, its, change):
        """A reach by which the entry sees calls since the version by a view, or not at all."""
        cases, rows = _calls(change)
        is_as_release = its.view.startswith("views.AsInRelease")
        if rows:
            when = "True" if is_as_release else condition_of_rows(rows, self._other_rows(rows))
            seen = its.view.partition('("')[2].partition('"')[0] if is_as_release else ""
            by = f'"{seen}"' if seen else "None"
            self._reach(OF_ROWS, its.id, by, when)
        else:
            view = its.view.removesuffix(".look(call)")
            when = "True" if is_as_release else self._condition(cases)
            self._reach(OF_CASES, its.id, view, when)

    def _reach(self, path, id, view, when):
        """Add the reach, unless it is there already."""
        code = _reach(id, self.version, view, when)
        if self.reaches.get((path, id, view)) not in (code, _reach(id, self.version, view, "True")):
            self.reaches[path, id, view] = code
            self.texts.add(path, reaches=[code])

    def add_entry(self, change: Explained, id: str) -> None:
        """A skeleton of an entry for what is new."""
        cases, rows = _calls(change)
        if rows:
            when = condition_of_rows(rows, self._other_rows(rows))
            self.texts.add(OF_ROWS, entries=[self._row_entry(change, id, when)])
        elif cases:
            self.texts.add(OF_CASES, entries=[self._entry(change, id, cases)])
        else:
            self.notes.append(f"{change.least.title if change.least else id}: no call to pin; write the entry by hand")

    def _entry(self, change, id, cases):
        least, told = change.least, change.explanation
        clause = next(iter(least.clauses), 3)
        effect = told.effect or "behaviours.unknown"
        return "\n".join(
            [
                "Deviation(",
                f'    id="{id}",',
                *_text("title", f"{least.module}: {told.behaviour or least.title.partition(': ')[2]}"),
                f'    affects=">={short(self.version)}",',
                '    upstream="not found",',
                f"    clause={clause},",
                *_text("trigger", _in_words(cases)),
                *_text("instead", told.behaviour or least.title.partition(": ")[2]),
                *_function("applies", "call", self._applies(cases, least)),
                f"    change={_quoted(effect)},",
                *_pinned(least.case),
                *(["    ends=True,"] if not least.mismatches else []),
                '    stage="call",',
                '    no_remedy="unknown",',
                ")",
            ]
        )

    def _applies(self, cases, least):
        """The condition of an entry; calls near one that ends the process are not made."""
        return self._condition(cases) if least.mismatches else f"call.case == {least.case!r}"

    def _row_entry(self, change, id, when):
        least, told = change.least, change.explanation
        fields = told.effect or "instead=ACCEPTS, change=effects.never_computed"
        instead, _, rest = fields.partition(", ")
        return "\n".join(
            [
                "WrongMaskDeviation(",
                f'    id="{id}",',
                *_text("title", least.title.partition(": ")[2]),
                f'    affects=">={short(self.version)}",',
                '    upstream="not found",',
                f"    {instead},",
                *_text("effect", told.behaviour or least.title),
                *_function("applies", "call, release", when),
                f"    {rest},",
                ")",
            ]
        )

    def _condition(self, cases):
        judge = self.judge
        positives = sighted(cases, judge.cases)
        found = [*positives, *(sight for case in cases[:2] for sight in variants(case, judge.cases))]
        return condition(positives, [sight for sight in found if is_as_before(sight)])

    def _other_rows(self, rows):
        return [row for row in BY_ID.values() if row not in rows and not not_applicable(row, self.judge.rows.release)]


def _calls(change):
    """(cases, rows of the table of wrong masks) of a change"""
    cases = tuple(dict.fromkeys(failure.case for failure in change.calls if failure.case))
    rows = tuple(
        BY_ID[id] for id in dict.fromkeys(failure.row for failure in change.calls if failure.row) if id in BY_ID
    )
    return cases, rows


def _in_words(cases):
    return f"{len(cases)} calls of {', '.join(dict.fromkeys(case.module for case in cases))}; describe them"


# ---- code ----------------------------------------------------------------------------------------------------------


def _reach(id, version, view, when):
    given = f'"{id}", "{version.base_version}", {_quoted(view)}'
    if when == "True":
        return f"Reach({given})"
    return "\n".join(
        ["Reach(", *(f"    {part}," for part in given.split(", ", 2)), *_function("when", "call", when), ")"]
    )


def _text(name, value) -> Iterator[str]:
    """Lines of a text as an argument, split if it is long."""
    first, *others = [_quoted(repr(part)) for part in _pieces(value)]
    yield f"    {name}={first}" + ("" if others else ",")
    for i, part in enumerate(others):
        yield f"    {part}" + ("," if i == len(others) - 1 else "")


def _pieces(value):
    return wrap(" ".join(value.split()), _WIDEST - 30, drop_whitespace=False, break_long_words=True) or [""]


def _function(name, arguments, code) -> Iterator[str]:
    """Lines of a function as an argument; a conjunction has a line for each part if it is long."""
    code = _quoted(code)
    line = f"    {name}=lambda {arguments}: {code},"
    if len(line) <= _WIDEST:
        yield line
        return
    first, *others = _split(code, " and ")
    yield f"    {name}=lambda {arguments}: ("
    yield f"        {first}"
    yield from (f"        and {part}" for part in others)
    yield "    ),"


def _pinned(case) -> Iterator[str]:
    """Lines of the pinned case as an argument; a line for each field if it is long."""
    code = _quoted(repr(case))
    if len(code) <= _WIDEST - 20:
        yield f"    pinned={code},"
        return
    kind, _, rest = code.partition("(")
    yield f"    pinned={kind}("
    yield from (f"        {part}," for part in _split(rest[:-1], ", "))
    yield "    ),"


def _quoted(code):
    """The code with double quotes."""
    return code if '"' in code else code.replace("'", '"')


def _split(code, separator) -> list[str]:
    """The parts of the code between separators outside of brackets."""
    parts, depth = [""], 0
    for piece in re.split(rf"({re.escape(separator)})", code):
        if piece == separator and not depth:
            parts.append("")
            continue
        parts[-1] += piece
        depth += sum(map(piece.count, "([{")) - sum(map(piece.count, ")]}"))
    return parts


# ---- command line --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(
        prog=COMMAND,
        description=__doc__.partition("\n\n")[2] if __doc__ else "",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("record", type=Path, help="the record of a run with --model")
    parser.add_argument("--output", type=Path, metavar="PATH", help="write the patch to this file")
    options = parser.parse_args(arguments)
    texts = Texts()
    try:
        notes = _read_and_propose(options.record, texts)
        patch = texts.patch()
        if options.output:
            _write(options.output, patch)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    if not options.output:
        print(patch, end="")
    for note in notes:
        print(f"by hand: {note}", file=sys.stderr)
    return 0


def _read_and_propose(path, texts):
    plain = read_json(path)
    try:
        plain = current(plain)
        if plain["schema"] != SCHEMA:
            raise BadInput(f"{path}: a record of schema {plain['schema']}, not {SCHEMA}: measure this release again")
        judge = judge_of(plain)
        changes = changes_of(plain, judge)
        version = Version(Version(plain["environment"]["torch"]).base_version)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a record: {type(error).__name__}: {error}") from None
    return proposed(changes, judge, version, texts)


def _write(path, patch):
    try:
        path.write_text(patch)
    except OSError as error:
        raise BadInput(f"--output {path}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
