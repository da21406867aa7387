"""The news of a run: each change of torch once, with its explanation and the calls that show it."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..deviations.behaviours import from_code
from ..deviations.entry import Entry
from ..explanation.edits import Edits, Suspects
from ..explanation.explanation import BEHAVIOUR, GONE, KINDS, NARROWER, NEW, Changed, Explanation
from ..explanation.groups import Explained, Judge, explained, recognized
from ..explanation.rows import ModelOfRows
from ..explanation.sight import Model
from ..judgement.groups import RANGE, Group, Key, accepted_argument, joined, key_of, message_of, side_effect_of, size
from ..judgement.report import Failure
from ..ledgers import BY_ID
from . import record, session

UNKNOWN, WORSE, BETTER, FLAKY = "new", "wider or back", "gone or narrower", "suspected flaky"
SECTIONS = (UNKNOWN, WORSE, BETTER, FLAKY)

NOT_TRIED = Explanation(NEW, is_untried=True)


@dataclass(frozen=True)
class News:
    """One change of torch: an entry that has gone or come, or calls that nothing explains."""

    group: Group
    explanation: Explanation = NOT_TRIED
    folder: str = ""  # of its script and issue text, if they are written

    @property
    def section(self) -> str:
        """One of SECTIONS."""
        if self.group.is_flaky:
            return FLAKY
        if self.explanation.is_better:
            return BETTER
        return UNKNOWN if self.explanation.kind in (NEW, BEHAVIOUR) else WORSE

    @property
    def least(self) -> Failure:
        """The simplest failure."""
        return self.group.least

    @property
    def entries(self) -> list[Entry]:
        """The entries of a ledger that have changed."""
        return [BY_ID[id] for id in self.explanation.entries if id in BY_ID]

    def as_plain(self) -> dict[str, Any]:
        """The news as plain data for a record."""
        others = {"folder": self.folder} if self.folder else {}
        return self.group.as_plain() | {"explanation": self.explanation.as_plain()} | others

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "News":
        """The news from the data of `as_plain`. Raises BadInput, or an error of Python, for other data."""
        explanation = Explanation.from_plain(plain["explanation"]) if "explanation" in plain else NOT_TRIED
        return cls(Group.from_plain(plain), explanation, str(plain.get("folder", "")))


def news_of(plain: Mapping[str, Any]) -> tuple[News, ...]:
    """The news in a record. plain: the record as plain data. Raises BadInput, or an error of Python, for other data."""
    return tuple(map(News.from_plain, plain.get("groups", ())))


def sort_key(news: News) -> tuple:
    """The key by which news are sorted: by section, the gravest explanation and the most calls first.

    In the section "new" the number of calls decides first: a mask that is ignored shows in hundreds of calls, and in
    some that hold so much else that they are not explained.
    """
    kind, seen = KINDS.index(news.explanation.kind), -news.group.seen
    order = (seen, kind) if news.section == UNKNOWN else (kind, seen)
    return (SECTIONS.index(news.section), *order, size(news.least), news.group.key)


def changes_of(news: News) -> Hashable:
    """The changes of entries that explain the news, or the behaviour and its module.

    If nothing explains them: the message of an error or a warning, which has one cause, or the argument in whose place
    wrong masks are accepted; None for wrong numbers.
    """
    explanation = news.explanation
    if explanation.kind == NEW:
        return message_of(news.least) or accepted_argument(news.least) or None
    module = "" if explanation.changed else news.least.module
    return frozenset((its.id, its.kind) for its in explanation.changed), explanation.effect, module


def added(one: News, other: News) -> News:
    """The news of the first with the calls of both."""
    checked = one.explanation.checked + other.explanation.checked
    group, explanation = joined(one.group, other.group), replace(one.explanation, checked=checked)
    return replace(one, group=group, explanation=explanation)


def merged(news: Iterable[News]) -> list[News]:
    """News of several runs, in which each change is told once."""
    found: dict[Hashable, News] = {}
    for its in news:
        key = changes_of(its) or key_of(its.least), its.group.is_flaky
        found[key] = added(found[key], its) if key in found else its
    return sorted(found.values(), key=sort_key)


# ---- explanations --------------------------------------------------------------------------------------------------


def judge_of(
    run: session.Session, findings: Mapping[str, Mapping[str, Any]], failures: Iterable[Failure] = ()
) -> Judge:
    """The model of the run, for explanations. findings: of the record ("ledger"). failures: those that are kept."""
    absent = {
        id
        for id, finding in findings.items()
        if finding["status"] == session.ABSENT and finding["expected"] and not record.depends_on_cpu(id)
    }
    return Judge(
        Model(run.release, run.entries, side_effects=frozenset(filter(None, map(side_effect_of, failures)))),
        ModelOfRows(run.release, run.wrong_masks),
        shown=frozenset(id for id, finding in findings.items() if finding["cases"]),
        absent=frozenset(absent),
        setting=run.setting,
        adopted=run.adopted,
    )


def parts_of(group: Group, suspects: Suspects, judge: Judge) -> tuple[News, ...]:
    """The group with its explanation; split in several news if parts of it have explanations of their own.

    suspects: edits that explain other groups. They are tried first; those that explain this one are added.
    """
    found = explained((group,), replace(judge, absent=frozenset()), suspects)
    return tuple(_part(group, its) for its in found)


def _part(group: Group, its: Explained) -> News:
    is_minimal = group.is_minimal and group.least in its.calls
    return News(replace(group, calls=its.calls, seen=its.seen, is_minimal=is_minimal), its.explanation)


def parts_with_cause(group: Group, causes: Sequence[News], judge: Judge) -> tuple[News, ...]:
    """The parts of a group that the behaviours of other news predict, which join these; the rest of the group last."""
    behaviours = [from_code(its.explanation.behaviour, its.explanation.effect) for its in causes]
    suspects = Suspects([Edits(behaviours=(behaviour,)) for behaviour in behaviours])
    parts = [_part(group, its) for its in recognized(group, judge, suspects)]
    told = [call for part in parts for call in part.group.calls]
    if left := tuple(call for call in group.calls if call not in told):
        seen = group.seen - sum(part.group.seen for part in parts)
        parts.append(News(replace(group, calls=left, seen=seen, is_minimal=False)))
    return tuple(parts)


def of_absent(told: Iterable[News], judge: Judge) -> Sequence[News]:
    """News of entries whose pinned case conforms although the ledger predicts a deviation, unless they are told."""
    known = {id for news in told for id in news.explanation.entries}
    return [_of_absent(judge.entry(id), judge) for id in sorted(judge.absent - known)]


def _of_absent(entry, judge):
    case = entry.minimal_case
    module = case.module if case else ""
    title = f"{entry.id} is absent: its pinned case conforms" if case else f"{entry.id} is absent: no call shows it"
    failure = Failure(title, module, case, entry=entry.id, setting=judge.setting)
    kind = NARROWER if entry.id in judge.shown else GONE
    group = Group(Key(module, RANGE, "", "", "", title, entry.id), (failure,), seen=0, is_minimal=True)
    return News(group, Explanation(kind, (Changed(entry.id, kind),), checked=1))
