"""A remedy as a reader sees it: in words, and as the lines of the call that change, which are those that were run."""

from dataclasses import dataclass
from difflib import unified_diff

from packaging.version import Version

from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.remedies import NoRemedy, meeting, remedies_of
from tests.harness.execution.setting import Setting
from tests.harness.wrong_masks.table import source

from .case_script import call_lines

_MOST, _LAST = 24, 4  # lines: of a long diff the last ones, where the call is
OLDEST = "1.13"
UNTESTED = "not tested: needs a GPU"


@dataclass(frozen=True)
class Shown:
    """A remedy on a page. diff: the lines of the least call that it changes, empty if it leaves this one alone."""

    text: str
    releases: str
    only: str
    cost: str
    untested: str
    diff: str

    @property
    def facts(self):
        """What follows the sentence, in words."""
        cost = f"cost: {self.cost}" if self.cost else ""
        return "; ".join(filter(None, (self.releases, self.only, cost, self.untested)))


def shown_remedies(entry, example=None):
    """The remedies of an entry of either ledger. example: the row of the table of wrong masks that is shown."""
    return tuple(
        Shown(
            remedy.text,
            "" if remedy.upgrade else _in_words(remedy.releases),
            remedy.only_in_words,
            remedy.cost,
            "" if remedy.tested else UNTESTED,
            "" if remedy.upgrade else _diff(entry, remedy, example),
        )
        for remedy in remedies_of(entry)
    )


def why_none(entry):
    """Why an entry has no remedy; empty if it has one."""
    return entry.remedies.reason if isinstance(entry.remedies, NoRemedy) else ""


def sentences(entry):
    """What to do about an entry, one sentence each with its facts; or why nothing helps."""
    shown = shown_remedies(entry)
    texts = [f"{its.text[:-1]} ({its.facts})." if its.facts else its.text for its in shown]
    return texts or [f"No remedy: {why_none(entry)}."]


def _in_words(releases):
    """A version specifier as a reader has it: ">=2.3,<2.5" is "from 2.3, before 2.5"; empty for all releases."""
    parts = {sign: [] for sign in (">=", "<", "==", "!=")}
    for part in releases.split(","):
        sign = part[:2] if part[:2] in parts else part[:1]
        parts[sign].append(part.removeprefix(sign).removesuffix(".*"))
    first, last = max(parts[">="], key=Version, default=OLDEST), min(parts["<"], key=Version, default="")
    words = [f"in {version}" for version in parts["=="]]
    if not words:
        words = [f"from {first}"] * (first != OLDEST) + [f"before {last}"] * bool(last)
    return ", ".join([*words, *(f"not in {version}" for version in parts["!="])])


def _diff(entry, remedy, example):
    if isinstance(entry, Deviation):
        setting = Setting(entry.devices[0])
        changes = (remedy.applied(entry.pinned, version) for version in meeting(entry, remedy))
        changed = next((case for case in changes if case is not None), None)
        texts = None if changed is None else [call_lines(case, setting) for case in (entry.pinned, changed)]
    elif example is None or remedy.check:
        return f"+ assert {remedy.check(example)}" if example and remedy.check else ""
    else:
        changed = remedy.applied(example)
        texts = None if changed is None else [source(call).splitlines() for call in (example, changed)]
    if texts is None:
        return ""
    lines = list(unified_diff(*texts, n=0, lineterm=""))[2:]
    lines = [line for line in lines if not line.startswith("@@") and line[1:].strip()]
    lines = [f"{line[0]} {line[1:]}" for line in lines]
    return "\n".join(lines if len(lines) <= _MOST else ["...", *lines[-_LAST:]])
