"""`python -m tests.tools.catalogue [--check]` writes the catalogue of edge cases: docs/edge-cases.md, docs/index.html.

Both ledgers and the records of all releases become one value, a Catalogue, and that becomes two pages. --check writes
nothing, and exits 1 if a page is stale. A record that cannot be read is bad input: exit code 4.
"""

import argparse
import html
import json
import re
import sys
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from packaging.version import Version

from tests.harness import ledger, wrong_masks_ledger
from tests.harness.arrays import directions
from tests.harness.record import NOT_EXERCISED, SCHEMA
from tests.harness.release import Release
from tests.harness.results import present
from tests.harness.session import ABSENT, CHANGED, NOT_APPLICABLE, PRESENT
from tests.harness.situations import Call
from tests.harness.verdict import predict
from tests.harness.wrong_masks import ACCEPTS, CALLS, source

from .reproduce import script_of_entry

ROOT = Path(__file__).parents[2]
COMMAND = "python -m tests.tools.catalogue"
MARKDOWN, HTML = "edge-cases.md", "index.html"
IN_PART, UNMEASURED = "in part", "not measured"
GONE, UNSEEN = "gone", "not seen"


class BadInput(Exception):
    """What cannot be read, in one line."""


# ---- what is read --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What one run found. is_whole: it ran more than the ledgers' own tests. calls: how many were judged."""

    version: Version
    device: str
    is_whole: bool
    calls: int
    ledger: dict

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
    try:
        plain = json.loads(path.read_text())
        if plain["schema"] != SCHEMA:
            raise BadInput(f"{path}: a record of schema {plain['schema']}, not {SCHEMA}: measure this release again")
        if not plain["complete"]:
            raise BadInput(f"{path}: the record of a run that was interrupted: measure this release again")
        return Record(
            version=Version(Version(plain["environment"]["torch"]).base_version),
            device=plain["environment"]["device"].split(":")[0],
            is_whole=any(not re.search("test_(ledger|wrong_masks).py", test) for test in plain["tests"]),
            calls=sum(plain["statuses"].values()),
            ledger={id: _finding(finding) for id, finding in plain["ledger"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"{path}: not a whole record: {reason}") from None


def _finding(finding):
    """The finding, if it has all that is asked of it later."""
    return {name: finding[name] for name in ("status", "paths", "cases", "modules")}


def read_clauses(text):
    """{number: what must hold}, from the table in reference/README.md."""
    return {int(number): words for number, words in re.findall(r"^\| (\d+) \| (.+?) \| .* \|$", text, re.MULTILINE)}


# ---- in which releases ---------------------------------------------------------------------------------------------


def minor(version):
    return f"{version.major}.{version.minor}"


def in_words(states):
    """Where something was seen, as "2.1.0 to 2.4.1; gone in 2.5.0".

    states: (version, state) in order. Where the measured releases begin and end it names the minor release; at a
    border between them the patch release, unless another one that was not measured may be nearer to the border.
    """
    versions = [version for version, _ in states]
    spans = _spans([state for _, state in states])
    if not spans:
        return f"in none of {_ends(minor(versions[0]), minor(versions[-1]))}" if versions else "not measured"
    words = " and ".join(_span(versions, first, last) for first, last in spans)
    after = spans[-1][1] + 1
    if after < len(states) and states[after][1] == ABSENT:
        is_next = _follows(versions[after - 1], versions[after])
        words += f"; gone {'in' if is_next else 'by'} {_earliest(versions, after)}"
    changed = [str(version) for version, state in states if state == CHANGED]
    return words + (f"; neither this nor right in {', '.join(changed)}" if changed else "")


def _spans(states):
    """(first, last) index of each run of PRESENT."""
    runs = [(state, len(list(run))) for state, run in groupby(states)]
    starts = np.cumsum([0, *(length for _, length in runs)])
    return [
        (int(start), int(start) + length - 1)
        for start, (state, length) in zip(starts, runs, strict=False)
        if state == PRESENT
    ]


def _span(versions, first, last):
    of_minor = [i for i, version in enumerate(versions) if minor(version) == minor(versions[first])]
    if (first, last) == (of_minor[0], of_minor[-1]):
        return minor(versions[first])
    if last <= of_minor[-1]:
        return _ends(str(versions[first]), str(versions[last]))
    start = minor(versions[first]) if first == 0 else _earliest(versions, first)
    return _ends(start, minor(versions[last]) if last == len(versions) - 1 else str(versions[last]))


def _ends(start, end):
    return start if start == end else f"{start} to {end}"


def _earliest(versions, i):
    """The patch release, if no earlier one of its minor release can have gone unmeasured at this border."""
    is_known = versions[i].micro == 0 or minor(versions[i - 1]) == minor(versions[i])
    return str(versions[i]) if is_known else minor(versions[i])


def _follows(one, other):
    """Whether no minor release lies between the two."""
    same_major = one.major == other.major and other.minor - one.minor <= 1
    return same_major or ((one.major, one.minor), (other.major, other.minor)) == ((1, 13), (2, 0))


# ---- what a user sees ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A group of edge cases, by what a user sees."""

    key: str
    title: str
    about: str


KINDS = (
    Kind("wrong", "Wrong results", "The call succeeds, says nothing, and returns something else."),
    Kind("nan", "NaN", "The call succeeds, and part of the result is not a number."),
    Kind("gradient", "Lost or wrong gradients", "The result is right, what backward makes of it is not."),
    Kind("raises", "Errors", "The call is right, and it or its backward raises."),
    Kind("warns", "Warnings", "The result is right, and a warning speaks of something that the caller did not do."),
    Kind("accepts", "Wrong masks accepted", "The mask has a wrong shape, type or place, and nothing says so."),
    Kind("unhelpful", "Unhelpful errors", "The mask is wrong, and the error does not say that the mask is."),
)


def kind_of(entry, call):
    """The key of a Kind: for the pinned case, what the entry predicts is compared with what is specified."""
    prediction = predict(call.case, ledger.applying(call, (entry,)))
    if prediction.error or prediction.warnings or prediction.undefined:
        return "raises" if prediction.error else "warns" if prediction.warnings else "wrong"
    right = {name: array.real for name, array in present(call.case, predict(call.case)()).items()}
    wrong = {name: array.real for name, array in present(call.case, prediction()).items()}
    if any(np.isnan(array).any() for array in wrong.values()):
        return "nan"
    is_right = all(right[name].shape == wrong[name].shape and np.allclose(right[name], wrong[name]) for name in right)
    return "gradient" if is_right and directions(call.case) else "wrong"


# ---- the catalogue -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A minor release on a device."""

    device: str
    minor: str
    records: tuple[Record, ...]

    @property
    def name(self):
        """As a head: what is not of the CPU says so."""
        return self.minor if self.device == "cpu" else f"{self.minor} on {self.device}"


@dataclass(frozen=True)
class Cell:
    """What was found in a column. text: in words, with the patch releases where they differ."""

    state: str
    text: str


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
    advice: str
    upstream: str
    where: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    modules: tuple[str, ...]
    paths: tuple[str, ...]
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
        number = self.upstream.removeprefix("pytorch/pytorch#")
        return f"https://github.com/pytorch/pytorch/issues/{number}" if number != self.upstream else None


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
        return sum(record.calls for column in self.columns for record in column.records)

    def values(self, name):
        """What the filter of this name offers."""
        return sorted({value for case in self.cases for value in getattr(case, name)}, key=str.lower)


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
    kind, trigger, instead, seen, code = exemplify(entry, best)
    return EdgeCase(
        id=entry.id,
        title=entry.title,
        kind=kind,
        present_in=_present_in(entry.id, columns),
        clause=getattr(entry, "clause", 9),
        trigger=trigger,
        instead=instead,
        advice=entry.advice,
        upstream=entry.upstream,
        where=_where(entry.id, records),
        devices=tuple(dict.fromkeys(record.device for record in showing)),
        modules=_sorted(showing, entry.id, "modules"),
        paths=_sorted(showing, entry.id, "paths"),
        seen=f"{seen} with {best.version} on {best.device}" if showing else "no call",
        code=code,
        cells=tuple(_cell(entry.id, column) for column in columns),
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
        return Cell(*(2 * tuple(different) or (UNMEASURED, UNMEASURED)))
    text = ", ".join(f"{state} in {version}" for version, state in states.items())
    return Cell(IN_PART if PRESENT in different else list(states.values())[-1], text)


def _call_of(entry, record):
    """(kind, trigger, instead, seen, code) of an entry of ledger.py, as the record has it."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    kind = kind_of(entry, Call(entry.pinned, release, tuple(finding["paths"])))
    seen = f"{finding['cases']:,} of the {record.calls:,} calls of the run"
    if not finding["cases"]:
        seen = "no call of the run but the one below,"
    return kind, entry.trigger, entry.instead, seen, script_of_entry(entry, release.device)


def _wrong_call_of(entry, record):
    """The same of an entry of wrong_masks_ledger.py."""
    finding, release = record.finding(entry.id), Release(record.version, record.device)
    calls = tuple(_shown_by(entry, release, finding["modules"]))
    faults = ", ".join(dict.fromkeys(call.fault.name.replace("_", " ") for call in calls))
    texts = [f"import torch\n\n{source(call, release.device)}\n" for call in calls]
    kind = "accepts" if entry.instead == ACCEPTS else "unhelpful"
    trigger = f"a wrong mask: {faults}" if faults else ""
    seen = f"{finding['cases']:,} of the {len(CALLS):,} calls with a wrong mask,"
    return kind, trigger, entry.effect, seen, min(texts, key=len, default="")


def _shown_by(entry, release, modules):
    """The rows of the table that show the entry in the release, which need not be the installed one."""
    others = [other for other in wrong_masks_ledger.ENTRIES if other is not entry and other.concerns(release)]
    for call in CALLS:
        applies = call.module in modules and entry.applies(call, release)
        if applies and not any(other.applies(call, release) for other in others):
            yield call


# ---- text with code in it ------------------------------------------------------------------------------------------

_ARGUMENTS = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_SIZE = r"(?:\.\.\.|any|[A-Z0-9]\w*(?: \* \w+)?)"
_NAME = r"\*?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_CODE = re.compile(
    rf"`(?P<marked>[^`]+)`"
    rf"|(?P<found>{_NAME}{_ARGUMENTS}|(?<!\w){_NAME}=[\w.]*\w|(?<![\w.]){_NAME}\[\w+\]"
    rf"|\b(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w+)+|\w*[A-Za-z]_\w+)\b|\({_SIZE}(?:, {_SIZE})+\))"
)


def split_code(text):
    """[(is_code, part)]: what stands between backticks or reads like Python is code."""
    parts, end = [], 0
    for found in _CODE.finditer(text):
        parts += [(False, text[end : found.start()]), (True, found["marked"] or found["found"])]
        end = found.end()
    return [(is_code, part) for is_code, part in [*parts, (False, text[end:])] if part]


def _as_markdown(text):
    return "".join(
        f"`{part}`" if is_code else re.sub(r"([*<\[|])", r"\\\1", part) for is_code, part in split_code(text)
    )


def _as_html(text):
    parts = ((is_code, html.escape(part)) for is_code, part in split_code(text))
    return Markup("".join(f"<code>{_breakable(part)}</code>" if is_code else part for is_code, part in parts))


def _breakable(code):
    """Where a narrow screen may break a long name."""
    return re.sub(r"([.(])(?=\w)", r"\1<wbr>", code)


# ---- two pages -----------------------------------------------------------------------------------------------------

GLYPHS = {PRESENT: "●", IN_PART: "◐", ABSENT: "·", CHANGED: "◆", NOT_APPLICABLE: "–", UNMEASURED: ""}
LEGEND = {
    PRESENT: "present",
    IN_PART: "present in some of its patch releases",
    ABSENT: "absent: the release does what is specified",
    CHANGED: "neither",
    NOT_APPLICABLE: "the release cannot be asked",
}


def to_markdown(catalogue):
    """docs/edge-cases.md"""
    lines = [
        "# Edge cases of PyTorch's attention masks",
        "",
        f"<!-- Written by `{COMMAND}` from the ledgers and the records in docs/results: change those. -->",
        "<!-- fmt: off -->",  # or the formatter rewrites what reproduce.py prints
        "",
        "Where the attention of a PyTorch release does something else with a mask than what is",
        "[specified](../reference/README.md), found and measured by this [suite](../README.md). What works is in",
        "[claims.md](claims.md), what is known of it upstream in [upstream.md](upstream.md), and",
        "[index.html](index.html) is this page with filters and a search.",
        "",
        _marks(catalogue),
        "",
        *_matrix(catalogue),
    ]
    for kind, cases in catalogue.groups:
        lines += ["", f"## {kind.title}", "", kind.about]
        for case in cases:
            lines += _section(case, catalogue)
    return "\n".join([*lines, ""])


def _marks(catalogue):
    return "; ".join(f"{GLYPHS[state]} {words}" for state, words in _legend(catalogue).items()) + "."


def _legend(catalogue):
    used = {cell.state for case in catalogue.cases for cell in case.cells}
    return {state: words for state, words in LEGEND.items() if state in used}


def _matrix(catalogue):
    heads = [column.name for column in catalogue.columns]
    yield f"| edge case | {' | '.join(heads)} |"
    yield f"| --- |{' :-: |' * len(heads)}"
    for kind, cases in catalogue.groups:
        yield f"| **{kind.title}** |{' |' * len(heads)}"
        for case in cases:
            yield f"| [`{case.id}`](#{case.id}) | {' | '.join(GLYPHS[cell.state] for cell in case.cells)} |"


def _section(case, catalogue):
    yield from ("", f'<a id="{case.id}"></a>', "", f"### {_as_markdown(case.title)}", "")
    clause = f"{catalogue.clauses[case.clause]} ([clause {case.clause}](../reference/README.md))"
    facts = {
        "Expected": clause,
        "When": _as_markdown(case.trigger),
        "Instead": _as_markdown(case.instead),
        "What to do": _as_markdown(case.advice),
        "Releases": case.releases,
        "Modules": ", ".join(f"`{module}`" for module in case.modules),
        "Paths": ", ".join(f"`{path}`" for path in case.paths),
        "Seen in": case.seen,
        "Upstream": f"[{case.upstream}]({case.link})" if case.link else "not found upstream: [notes](upstream.md)",
        "Id": f"`{case.id}`",
    }
    yield from (f"- **{name}:** {words}" for name, words in facts.items() if words)
    if case.code:
        summary = "The least code that shows it"
        yield from (
            "",
            f"<details><summary>{summary}</summary>",
            "",
            "```python",
            case.code.strip(),
            "```",
            "",
            "</details>",
        )


def to_html(catalogue):
    """docs/index.html"""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = _as_html
    environment.filters["slug"] = lambda words: words.replace(" ", "-")
    template = environment.get_template("catalogue.html")
    return template.render(
        catalogue=catalogue, command=COMMAND, glyphs=GLYPHS, legend=_legend(catalogue), PRESENT=PRESENT, GONE=GONE
    )


def pages(folder, specification=ROOT / "reference" / "README.md"):
    """{file name: text}, from the records in the folder."""
    made = catalogue(read_records(folder), read_clauses(specification.read_text()))
    return {MARKDOWN: to_markdown(made), HTML: to_html(made)}


def main(arguments):
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the catalogue of edge cases.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is stale")
    parser.add_argument("--records", type=Path, default=ROOT / "docs" / "results", help="the folder of records")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="the folder of both pages")
    options = parser.parse_args(arguments)
    try:
        texts = pages(options.records)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 4
    stale = [options.output / name for name, text in texts.items() if not _holds(options.output / name, text)]
    if options.check and stale:
        print(f"stale: {', '.join(map(str, stale))}; run {COMMAND}", file=sys.stderr)
        return 1
    for path in stale:
        path.write_text(texts[path.name])
    return 0


def _holds(path, text):
    return path.is_file() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
