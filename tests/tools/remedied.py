"""Remedies for readers: in words, and as a diff of the call. tests/remedies runs the changed calls."""

from dataclasses import dataclass
from difflib import unified_diff
from functools import singledispatch

from packaging.version import Version

from tests.harness.cases.case import Case
from tests.harness.deviations.entry import Entry
from tests.harness.deviations.remedies import meeting
from tests.harness.execution.setting import Setting
from tests.harness.wrong_masks.outcome import source
from tests.harness.wrong_masks.table import WrongCall

from .case_script import call_lines
from .site.natural import example_of, remedied

_MOST, _LAST = 24, 4  # a diff of more than _MOST lines is cut to its _LAST lines, which hold the call
OLDEST = "1.13"
UNTESTED = "not tested: needs a GPU"


@dataclass(frozen=True)
class Shown:
    """A remedy on a page. A string is empty if it does not apply."""

    text: str  # an imperative sentence
    releases: str  # releases in which the remedy helps, if not all
    only: str  # conditions on the call
    cost: str
    untested: str  # UNTESTED
    diff: str  # of the minimal case, if the remedy changes it

    @property
    def facts(self) -> str:
        """Releases, conditions, cost and UNTESTED, in words."""
        cost = f"cost: {self.cost}" if self.cost else ""
        return "; ".join(filter(None, (self.releases, self.only, cost, self.untested)))


def shown_remedies(entry: Entry, example: WrongCall | None = None) -> tuple[Shown, ...]:
    """The remedies of an entry, the cheapest first. example: for a wrong mask, the call to show."""
    return tuple(
        Shown(
            remedy.text,
            "" if remedy.upgrade else specifier_in_words(remedy.releases),
            remedy.only_in_words,
            remedy.cost,
            "" if remedy.tested else UNTESTED,
            "" if remedy.upgrade else _diff(entry, remedy, example),
        )
        for remedy in entry.remedies
    )


def sentences(entry: Entry) -> list[str]:
    """The remedies of an entry, one sentence with the facts for each; else one sentence with the reason for none."""
    shown = shown_remedies(entry)
    texts = [f"{its.text[:-1]} ({its.facts})." if its.facts else its.text for its in shown]
    return texts or [f"No remedy: {entry.no_remedy}."]


def specifier_in_words(releases: str) -> str:
    """A version specifier in words: "from 2.3, before 2.5" for ">=2.3,<2.5". Empty if it allows all releases."""
    parts: dict[str, list[str]] = {sign: [] for sign in (">=", "<", "==", "!=")}
    for part in releases.split(","):
        sign = part[:2] if part[:2] in parts else part[:1]
        parts[sign].append(part.removeprefix(sign).removesuffix(".*"))
    first, last = max(parts[">="], key=Version, default=OLDEST), min(parts["<"], key=Version, default="")
    words = [f"in {version}" for version in parts["=="]]
    if not words:
        words = [f"from {first}"] * (first != OLDEST) + [f"before {last}"] * bool(last)
    return ", ".join([*words, *(f"not in {version}" for version in parts["!="])])


def _diff(entry, remedy, example):
    """The lines of the minimal case, or of the example, that the remedy changes; or the assertion that it adds."""
    example = example or entry.minimal_case
    if example is None:
        return ""
    if assertion := remedy.assertion(example):
        return f"+ assert {assertion}"
    texts = _natural(entry, remedy) or _changed(entry, remedy, example)
    if texts is None:
        return ""
    texts = [[line for text in side for line in text.splitlines()] for side in texts]  # a text may be a definition
    lines = list(unified_diff(*texts, n=0, lineterm=""))[2:]
    lines = [line for line in lines if not line.startswith("@@") and line[1:].strip()]
    lines = [f"{line[0]} {line[1:]}" for line in lines]
    return "\n".join(lines if len(lines) <= _MOST else ["...", *lines[-_LAST:]])


def _natural(entry, remedy):
    """The lines of the example that is made for the entry, without and with the remedy; None if there are none."""
    if entry.minimal_case is None:
        return None
    changed = (remedied(entry, remedy, version) for version in meeting(entry, remedy))
    with_remedy, plain = next((example for example in changed if example), None), example_of(entry)
    return [example.code.splitlines() for example in (plain, with_remedy)] if plain and with_remedy else None


def _changed(entry, remedy, example):
    """The lines of the minimal case or the wrong call, without and with the remedy; None if no release has both."""
    changes = (remedy.applied(example, version) for version in meeting(entry, remedy))
    changed = next((call for call in changes if call is not None), None)
    return None if changed is None else [_lines(call, Setting(entry.devices[0])) for call in (example, changed)]


@singledispatch
def _lines(call: Case | WrongCall, setting: Setting) -> list[str]:
    """The lines of the code of a call."""
    raise NotImplementedError(type(call).__name__)


@_lines.register
def _(call: Case, setting: Setting) -> list[str]:
    return call_lines(call, setting)


@_lines.register
def _(call: WrongCall, setting: Setting) -> list[str]:
    """The row as it is asked on the CPU."""
    del setting
    return source(call).splitlines()
