"""`python -m tests.tools news RECORD [--format text|markdown|html|json]` tells what a run found to have changed.

Each change is told once: calls that nothing explains, entries of the ledger that show on more calls or on fewer, and
calls that fail only at times. Exit code: 1 if something is new, wider or back, 0 if nothing is, 4 for bad input.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS
from tests.harness.measurement.news import BETTER, SECTIONS, News, news_of

from .records import in_one_line, read_json

MEANINGS = {
    "new": "Calls that no known deviation explains, or that no time was left to explain.",
    "wider or back": "Known deviations that show on calls, or in a release, where they did not.",
    "gone or narrower": "Known deviations that show on fewer calls, or no more.",
    "suspected flaky": "These calls failed once, and conform when they are made again, alone.",
}


@dataclass(frozen=True)
class Told:
    """The news of a run and the circumstances."""

    news: tuple[News, ...]  # in the order of SECTIONS
    environment: Mapping[str, Any]
    statuses: Mapping[str, int]  # {verdict: calls}
    is_complete: bool = True
    lost: int = 0  # failing calls beyond the number of groups that a run keeps

    @property
    def is_worse(self) -> bool:
        """True if anything is new, wider, back or flaky."""
        return bool(self.lost) or any(its.section != BETTER for its in self.news)

    @property
    def version(self) -> str:
        """The version of torch, without the build."""
        return self.environment["torch"].split("+")[0]

    @property
    def title(self) -> str:
        """One line: the release and the model."""
        model = self.environment.get("model")
        return f"torch {self.version} on {self.environment['device']}, " + (
            f"judged by the model of {model}" if model else "judged by its own model"
        )

    @property
    def counts(self) -> str:
        """The numbers of news, in one line."""
        numbers = {section: sum(its.section == section for its in self.news) for section in SECTIONS}
        told = ", ".join(f"{number} {section}" for section, number in numbers.items() if number)
        return told or "nothing changed"

    @property
    def as_before(self) -> str:
        """One line about the calls that are as before."""
        conform, deviate, fail = (self.statuses.get(its, 0) for its in (CONFORMS, DEVIATES, FAILS))
        lost = f" {self.lost:,} failing calls are of further groups, which are not kept." if self.lost else ""
        return f"As before: {conform:,} calls conform, {deviate:,} deviate as predicted. {fail:,} calls fail.{lost}"

    def sections(self) -> Iterator[tuple[str, list[tuple[int, News]]]]:
        """Generates (section, [(number, news), ...]) for each section that has news."""
        for section, numbered in groupby(enumerate(self.news, 1), key=lambda its: its[1].section):
            yield section, list(numbered)


def told_by(plain: Mapping[str, Any], path: str | Path) -> Told:
    """The news of a record. Raises BadInput if it is none. path: its file, for the message."""
    try:
        others = (plain["environment"], plain["statuses"], plain["complete"], int(plain.get("lost", 0)))
        if "groups" not in plain:
            raise BadInput(
                f"{path}: the record of a run that ended each test with its first failure, or of an older one"
            )
        told = Told(news_of(plain), *others)
        list(as_lines(told))  # raises an error if a field is missing
        return told
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a whole record: {in_one_line(error)}") from None


# ---- one piece of news ---------------------------------------------------------------------------------------------


def headline(news: News) -> str:
    """The change in one line: each entry and its title, or the failure of the least call."""
    changed = news.explanation.changed
    if not changed or news.section == SECTIONS[-1]:
        return news.least.title
    titles = {entry.id: entry.title for entry in news.entries}
    told = (f"{its.id} is {its.kind}: {titles.get(its.id, 'a documented error')}" for its in changed)
    return "; ".join(told)


def threads(news: News) -> list[str]:
    """The upstream threads of the entries."""
    return list(dict.fromkeys(entry.upstream for entry in news.entries if entry.upstream != "not found"))


def count(news: News) -> str:
    """The number of calls that show the change, and of tests."""
    seen, tests = news.group.seen, len(news.group.tests)
    if not seen:
        return "told by its pinned case"
    return f"{seen:,} call{'s' * (seen != 1)} of {tests} test{'s' * (tests != 1)}"


def least_call(news: News) -> str:
    """The minimal call, or the row of the table of wrong masks."""
    least = news.least
    return repr(least.case) if least.case is not None else least.row and f"row {least.row}"


def since_when(news: News, told: Told) -> str:
    """The command that finds the release, or the nightly build, of the change; empty if no script shows it."""
    model = told.environment.get("model")
    ends = f"--good {model} --bad {told.version}" if model else f"--bad {told.version}"
    entry = next((its.id for its in news.entries if getattr(its, "pinned", None)), "")
    what = f"{news.folder}/script.py" if news.folder else entry if news.section == BETTER else ""
    return f"python -m tox -e bisect -- {what} {ends}" if what else ""


def facts(news: News, told: Told) -> dict[str, str]:
    """{name: value} of a piece of news, without empty values."""
    least = news.least
    its = news.explanation
    words = "" if its.kind == "new" and not (its.note or its.is_untried) else its.text
    found = {
        "module": least.module,
        "path": ", ".join(least.served),
        "seen in": count(news),
        "explanation": words,
        ("minimal call" if news.group.is_minimal else "least call found"): least_call(news),
        "outcome": least.title if news.entries and least.title != headline(news) else "",
        "again": least.again,
        "since when": since_when(news, told),
        "script": f"{news.folder}/script.py" if news.folder else "",
        "issue draft": f"{news.folder}/issue.md" if news.folder else "",
        "upstream": ", ".join(threads(news)),
    }
    return {name: value for name, value in found.items() if value}


# ---- formats -------------------------------------------------------------------------------------------------------


def as_lines(told: Told) -> Iterator[str]:
    """Generates lines for a terminal."""
    yield f"{told.title}: {told.counts}."
    for section, numbered in told.sections():
        yield f"{section.upper()} ({len(numbered)}): {MEANINGS[section]}"
        for number, news in numbered:
            yield f"  {number}. {headline(news)}"
            yield from (f"       {name}: {value}" for name, value in facts(news, told).items())
    yield told.as_before


def as_markdown(told: Told) -> Iterator[str]:
    """Generates lines of Markdown, for the summary of a CI job."""
    yield from (f"### {told.title}: {told.counts}", "")
    for section, numbered in told.sections():
        yield from (f"#### {section} ({len(numbered)})", "", MEANINGS[section], "")
        for number, news in numbered:
            yield f"{number}. **{_escaped(headline(news))}**"
            for name, value in facts(news, told).items():
                yield f"   - {name}: " + (f"`{value}`" if name in CODE else _escaped(value))
        yield ""
    yield from (told.as_before, "")


CODE = ("minimal call", "least call found", "again", "since when", "script", "issue draft")


def _escaped(text):
    """The text without the characters that Markdown would read as markup."""
    return "".join(f"\\{character}" if character in "*_<>[]`#|" else character for character in text)


def as_json(told: Told) -> Iterator[str]:
    """Generates the text of a JSON object: the release, the model and {section, headline, ...} of each change."""
    changes = [
        {
            "section": news.section,
            "headline": headline(news),
            "kind": news.explanation.kind,
            "entries": list(news.explanation.entries),
            "calls": news.group.seen,
            "tests": list(news.group.tests),
            "minimal": news.group.is_minimal,
        }
        | {name.replace(" ", "_"): value for name, value in facts(news, told).items()}
        for news in told.news
    ]
    model = told.environment.get("model")
    plain = {"torch": told.version, "device": told.environment["device"], "model": model, "complete": told.is_complete}
    yield json.dumps(plain | {"worse": told.is_worse, "statuses": told.statuses, "changes": changes}, indent=1)


def formats() -> dict[str, Any]:
    """{name of a format: function from Told to lines}"""
    from .news_page import as_html  # which imports this module

    return {"text": as_lines, "markdown": as_markdown, "html": as_html, "json": as_json}


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog="python -m tests.tools news", description="Tell what a run found to have changed.")
    parser.add_argument("record", type=Path)
    parser.add_argument("--format", choices=("text", "markdown", "html", "json"), default="text")
    options = parser.parse_args(arguments)
    try:
        told = told_by(read_json(options.record), options.record)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print("\n".join(formats()[options.format](told)))
    return int(told.is_worse)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
