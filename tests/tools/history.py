"""`python -m tests.tools history` writes docs/history.md: each release, judged by the model of the one before it.

`--add RECORD...` adds records of such runs. For example, `python -m tox -e torch2.5 -- --model 2.4.1 --report
reports/history.json` judges 2.5 by the model of 2.4.1, and `python -m tox -e matrix -- --days` all releases, with
records in reports/matrix. The model of a release consists of its entries in the ledgers.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from packaging.version import Version

from tests.harness.cases.case import Case
from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.facts import backward_pass
from tests.harness.deviations.kernels import kernels
from tests.harness.deviations.refusals import REFUSALS, Refusal, refusal
from tests.harness.execution.release import Release
from tests.harness.explanation.explanation import NEW
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.report import Failure
from tests.harness.ledgers import BY_ID
from tests.harness.measurement.record import CRASH, FAILED, SCHEMA
from tests.harness.measurement.session import ABSENT
from tests.harness.modes.parsing import parse
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.judge import predicted_entry
from tests.harness.wrong_masks.sequences import ROWS

from .filing import folder_of
from .history_measured import left_out, measured, table
from .records import Record, read_json, read_records
from .upstream import EXPLANATIONS, RELEASED, THREADS

ROOT = Path(__file__).parents[2]
DIGESTS = ROOT / "docs" / "results" / "history"
LEFT_OUT = DIGESTS / "left-out"
PAGE = ROOT / "docs" / "history.md"
COMMAND = "python -m tests.tools history"
_ROWS = {call.id: call for call in ROWS}


# ---- digests of runs -----------------------------------------------------------------------------------------------


def digest(record: dict) -> dict:
    """The part of a record that the page needs, as plain data.

    Raises BadInput if the run was judged by the model of its own release, if it was partial, or if it has failures in
    a schema that keeps only their text.
    """
    environment = record["environment"]
    if "model" not in environment:
        raise BadInput(
            f"{environment['torch']}: judged by its own model, not by the model of the release before (--model)"
        )
    if record.get("part"):
        raise BadInput(f"{environment['torch']}: the record of a partial run: {', '.join(record['part'])}")
    failed = {id: test for id, test in record["tests"].items() if test["outcome"] in (FAILED, CRASH)}
    if failed and record["schema"] < SCHEMA:
        raise BadInput(f"{environment['torch']}: a record of schema {record['schema']} keeps failures only as text")
    return {
        **{name: environment[name] for name in ("torch", "model", "device", "profile", "seed")},
        "seconds": record["seconds"],
        "statuses": record["statuses"],
        "absent": [id for id, entry in record["ledger"].items() if entry["status"] == ABSENT and entry["expected"]],
        "reports": [_report(id, test) for id, test in failed.items()],
        **(_changes(record["groups"]) if "groups" in record else {}),
    }


def _changes(groups):
    """{"changes": the explained groups of failures as plain data}"""
    return {"changes": [_change_of(group) for group in groups]}


def _change_of(group):
    kept = {name: group[name] for name in ("seen", "is_flaky") if group.get(name)}
    explanation = group.get("explanation", {"kind": NEW})
    return kept | {"explanation": explanation, "calls": [_call(plain) for plain in group["calls"]]}


def _call(plain):
    """A failure of a group as plain data, in the form of `_report`."""
    failure = Failure.from_plain(plain)
    return {
        "says": failure.title,
        "case": repr(failure.case) if failure.case else None,
        "served": list(failure.served),
        "rows": [failure.row] if failure.row else [],
        "entry": failure.entry,
    }


def _report(id, test):
    """A failed test as plain data: its first failure, and the rows of wrong masks of all its failures."""
    failures = [Failure.from_plain(plain) for plain in test.get("failures", ())]
    first = failures[0] if failures else Failure(next(iter(test.get("message", "").splitlines()), ""))
    return {
        "test": folder_of(id),
        "says": first.title,
        "case": repr(first.case) if first.case else None,
        "served": list(first.served),
        "rows": [failure.row for failure in failures if failure.row],
        "entry": first.entry,
    }


# ---- explanations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """A call of a change; in a run that ended each test with its first failure, a test with that failure."""

    test: str  # the name of the folder of the test (filing.folder_of), the row of wrong masks or the entry
    says: str  # the title of the failure
    case: str | None  # the repr of the case
    explained: frozenset[str]  # ids of the entries and refusals by which the two models differ on the case or the rows


@dataclass(frozen=True)
class Step:
    """The step from one release to the next."""

    plain: dict  # the digest of a run of the newer release with the model of the older one

    @cached_property
    def old(self) -> Release:
        """The release whose model judged the run."""
        return Release(Version(self.plain["model"]), self.plain["device"])

    @cached_property
    def new(self) -> Release:
        """The release that was judged."""
        return Release(Version(Version(self.plain["torch"]).base_version), self.plain["device"])

    @property
    def name(self) -> str:
        """Both versions, in words."""
        return f"{self.old.version} to {self.new.version}"

    @cached_property
    def changed(self) -> dict[str, bool]:
        """{id: True if the deviation begins, False if it ends} of the entries that only one of both releases has.

        An entry whose mode the older release lacks is left out: its deviation did not begin with the newer release. So
        is one whose pinned case the newer release refuses: the documented error is the change.
        """
        return {
            id: entry.concerns(self.new)
            for id, entry in BY_ID.items()
            if entry.concerns(self.old) != entry.concerns(self.new)
            and entry.can_be_asked(self.old)
            and id not in self.refused
        }

    @cached_property
    def refused(self) -> frozenset[str]:
        """The ids of entries of the older release whose pinned case the newer one refuses by a documented error."""
        ended = (its for its in BY_ID.values() if its.concerns(self.old) and not its.concerns(self.new))
        cases = {its.id: its.minimal_case for its in ended if its.minimal_case is not None}
        return frozenset(id for id, case in cases.items() if refusal(Call(case, self.new, ())))

    @property
    def moved(self) -> set[str]:
        """The ids of entries that both releases have, but that apply to different calls, as a report shows."""
        return self._explaining & BY_ID.keys() - self.changed.keys()

    @property
    def refusals(self) -> list[Refusal]:
        """The documented errors that one of both releases raises for a reported call, and the other does not."""
        return [its for its in REFUSALS if its.id in self._explaining]

    @cached_property
    def _explaining(self):
        return {id for report in self.reports for id in report.explained}

    @cached_property
    def reports(self) -> list[Report]:
        """The calls of the changes; the failed tests in a run that ended each with its first failure."""
        if not self.collects:
            return [self._report(plain) for plain in self.plain["reports"]]
        return [self._report(call) for its in self.changes for call in its["calls"]]

    @property
    def collects(self) -> bool:
        """True if the run collected failures, and told each change once."""
        return "changes" in self.plain

    @property
    def changes(self) -> list[dict]:
        """The changes that the run told, without those that are suspected flaky, as plain data."""
        return [its for its in self.plain["changes"] if not its.get("is_flaky")]

    def _report(self, plain):
        where = plain.get("test") or next(iter(plain["rows"]), plain.get("entry", ""))
        return Report(where, plain["says"], plain["case"], self.differing(plain))

    def differing(self, call: dict) -> frozenset[str]:
        """The ids that explain a call of a digest; see `Report.explained`."""
        return frozenset(self._differing(call))

    def _differing(self, report):
        yield from {report.get("entry")} & BY_ID.keys()
        for row in report["rows"]:
            entries = [predicted_entry(_ROWS[row], its, wrong_masks_ledger.ENTRIES) for its in (self.old, self.new)]
            yield from {entry.id for entry in entries if entry} if entries[0] is not entries[1] else ()
        if report["case"]:
            case = parse(report["case"])
            served = _served(case, self.new, report["served"])
            before, after = (_applying(report["case"], its, served) for its in (self.old, self.new))
            yield from _replaced(case, before, after)
            yield from (id for id in before.keys() & after.keys() if _differs(case, before[id], after[id]))
            refused = {refusal(Call(case, its, served)) for its in (self.old, self.new)}
            yield from {its.id for its in refused if its} if len(refused) > 1 else ()

    def has_other_nan(self, call: dict) -> bool:
        """True if the models differ in the gradients that are NaN in a call of a digest; no entry says so."""
        case = parse(call["case"]) if call["case"] else None
        return case is not None and backward_pass(case, self.old) != backward_pass(case, self.new)

    def told_by(self, id: str) -> list[Report]:
        """The reports that an entry explains, sorted by the size of their cases."""
        return sorted((report for report in self.reports if id in report.explained), key=_size)

    @property
    def unexplained(self) -> list[Report]:
        """The reports that no entry explains, sorted by the size of their cases; of a change the first alone."""
        if not self.collects:
            return sorted((report for report in self.reports if not report.explained), key=_size)
        told = [[self._report(call) for call in its["calls"]] for its in self.changes if its["calls"]]
        return sorted((calls[0] for calls in told if not any(call.explained for call in calls)), key=_size)


def _served(case: Case, release: Release, told: Sequence[str]) -> tuple[str, ...]:
    """The path of each attention. A report names each path once: the order of several kernels is predicted."""
    named, predicted = [path for path in told if path.startswith("sdpa")], kernels(case, release)
    if len(named) > 1 and set(predicted) == set(named):
        return predicted
    return (*told, *list(named or told)[-1:] * 20)


def _size(report):
    return report.case is None, len(report.case or ""), report.test


@cache
def _applying(text, release, served):
    """{id: Applied} of the entries that apply to a case on a release."""
    call = Call(parse(text), release, served)
    concerned = [entry for entry in ledger.ENTRIES if entry.concerns(release)]
    return {applied.id: applied for applied in ledger.applying(call, concerned)}


def _replaced(case, before, after):
    """The ids of entries that apply to a case on one release alone, and have no successor with the same effect.

    A query that is fully masked is NaN by one entry or another, if the call has changed its path.
    """
    gone, come = (
        {id: its[id] for id in its.keys() - others.keys()} for its, others in ((before, after), (after, before))
    )
    pairs = [(one, other) for one in gone for other in come if not _differs(case, gone[one], come[other])]
    return (gone.keys() | come.keys()) - {id for pair in pairs for id in pair}


def _differs(case, one, other):
    """True if an entry predicts something else on two releases."""
    plain = [predict(case, [applied], kept=None) for applied in (one, other)]
    told = [(its.error, its.warnings, its.dtype, its.lost, [*its.undefined], its.undefined_gradient) for its in plain]
    if told[0] != told[1] or plain[0].error:
        return told[0] != told[1]
    results = [its() for its in plain]
    return any(not np.array_equal(array, results[1][name], equal_nan=True) for name, array in results[0].items())


# ---- the page ------------------------------------------------------------------------------------------------------


def page(steps: Sequence[Step], records: Mapping[str, Record], left: Sequence[dict] = ()) -> str:
    """The text of docs/history.md.

    steps: in order. records: {version: record of an ordinary run}. left: results of leave_out.py.
    """
    sections = (line for step in steps for line in _section(step, records))
    return "\n".join([*_head(), *table(list(map(measured, steps))), *left_out(left), *sections, *_quiet(steps), ""])


def _head() -> Iterator[str]:
    yield from (
        "# Each release, judged on its day",
        "",
        f"<!-- Written by `{COMMAND}` from docs/results/history: change that. -->",
        "",
        "Each release of torch is judged by the model of the release before it:",
        "`python -m tox -e torch2.5 -- --model 2.4.1`. Such a run reports the changes between both releases, for the",
        "worse or the better, as minimal cases. The tables name the entry of the ledger that explains each report, the",
        "number of calls of an [ordinary run](edge-cases.md#runs) that show it, and the day of the first thread about",
        "it upstream. The generator has learned from these bugs, and makes calls near the pinned case of each entry. A",
        "run collects all failures and tells each change once ([method.md](method.md#runs)).",
    )


def _section(step, records):
    if not step.changed and not step.reports:
        return
    plain = step.plain
    calls, fails = sum(plain["statuses"].values()), plain["statuses"].get("fails", 0)
    day = f" ({RELEASED[minor]})" if (minor := _minor(step.new)) in RELEASED else ""
    yield from ("", f"## {step.name}{day}", "")
    told = f"{len(step.changes)} changes are told" if step.collects else f"{len(step.reports)} tests fail"
    yield (
        f"{told}, with {fails:,} of {calls:,} calls of the `{plain['profile']}` profile, in {plain['seconds']:.0f} s"
        f" (seed {plain['seed']})."
        + " This run ended each test with its first failure, which can hide another."
        * (not step.collects)
    )
    yield from (
        "",
        "| change | title or message | reported | calls that show it | upstream |",
        "| --- | --- | --- | ---: | --- |",
    )
    for id, begins in sorted(step.changed.items(), key=lambda item: (not item[1], item[0])):
        yield _change(step, id, "regression" if begins else "fix", records)
    for id in sorted(step.moved):
        yield _change(step, id, "other calls", records)
    for its in step.refusals:
        yield f"| documented error: `{its.id}` | {_cell(its.source)} | {_told(step.told_by(its.id))} | | |"
    by_hand = EXPLANATIONS.get(str(step.new.version), {})
    for says, reports in _alike(step.unexplained):
        why = next((words for pattern, words in by_hand.items() if pattern in says), "")
        yield f"| {'by hand' if why else 'not explained'} | {_cell(says)} | {_told(reports)} | | {why} |"
    yield from _known(step)


def _alike(reports):
    """[(title, reports with this title)]"""
    found = {}
    for report in reports:
        found.setdefault(report.says, []).append(report)
    return found.items()


def _change(step, id, kind, records):
    """The line of the table for an entry. kind: the kind of change, in words."""
    entry = BY_ID[id]
    told = step.told_by(id)
    reported = _told(told) if told else "no"
    if kind == "fix" and id in step.plain["absent"]:
        reported = "as fixed" + (f"; {reported}" if told else "")
    shown = records.get(str((step.old if kind == "fix" else step.new).version))
    calls = f"{shown.finding(id)['cases']:,}" if shown else ""
    change = f"{kind}: [`{id}`](edge-cases.md#{id})"
    return f"| {change} | {entry.title} | {reported} | {calls} | {_thread(entry.upstream)} |"


def _told(reports):
    """The first report, by its case or test, and the number of further ones, in words."""
    first, *others = reports
    where = f"`{_cell(first.case)}`" if first.case else f"by {first.test}"
    return where + (f" and by {len(others)} more" if others else "")


def _cell(text):
    return text.replace("|", "\\|")


def _thread(upstream):
    if not upstream.startswith("pytorch/"):
        return upstream
    number = upstream.rpartition("#")[2]
    opened = THREADS.get(number, {}).get("opened")
    return f"[#{number}](https://github.com/pytorch/pytorch/issues/{number})" + (f", {opened}" if opened else "")


def _known(step):
    """Generates lines with the regressions of this release that users reported, and the answer of the run to each."""
    known = {number: thread for number, thread in THREADS.items() if thread.get("regression") == str(step.new.version)}
    if known:
        yield from ("", "Regressions of this release that users reported:", "")
    for number, thread in known.items():
        link = f"[#{number}](https://github.com/pytorch/pytorch/issues/{number}) ({thread['opened']})"
        yield f"- {link}: {thread['what']}. {thread['seen']}"


def _minor(release):
    return f"{release.version.major}.{release.version.minor}"


def _quiet(steps):
    """Generates the table of the steps without changes and reports."""
    quiet = [step for step in steps if not step.changed and not step.reports]
    if quiet:
        yield from ("", "## Quiet releases", "", "No test failed, and no entry of the ledgers begins or ends.", "")
        yield from ("| | profile | calls | s | seed |", "| --- | --- | ---: | ---: | --- |")
    for step in quiet:
        plain = step.plain
        calls = sum(plain["statuses"].values())
        yield f"| {step.name} | {plain['profile']} | {calls:,} | {plain['seconds']:.0f} | {plain['seed']} |"


# ---- command line --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(
        prog=COMMAND, description="Write docs/history.md: each release, judged by the model of the one before it."
    )
    parser.add_argument(
        "--add", nargs="*", type=Path, default=[], metavar="RECORD", help="records of runs with --model"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    options = parser.parse_args(arguments)
    try:
        for path in options.add:
            _add(path)
        steps = sorted((Step(read_json(path)) for path in DIGESTS.glob("*.json")), key=lambda s: s.new.version)
        records = {str(r.version): r for r in read_records(ROOT / "docs" / "results") if r.device == "cpu"}
        text = page(steps, records, [read_json(path) for path in sorted(LEFT_OUT.glob("*.json"))])
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    is_stale = not PAGE.exists() or PAGE.read_text() != text
    if is_stale and options.check:
        print(f"stale: {PAGE}; run {COMMAND}", file=sys.stderr)
        return 1
    if is_stale:
        PAGE.write_text(text)
    return 0


def _add(path):
    """Write the digest of a record into DIGESTS."""
    try:
        plain = digest(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a record: {type(error).__name__}: {error}") from None
    DIGESTS.mkdir(parents=True, exist_ok=True)
    name = f"{Version(plain['torch']).base_version}-{plain['device'].replace(':', '')}.json"
    (DIGESTS / name).write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
