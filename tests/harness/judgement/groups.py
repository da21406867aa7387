"""Groups of failures that look alike: the module, the path, the mode, the masks and the difference are the same.

A run collects its failures in groups, bounded in number. Each group keeps its least calls and counts the others.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..cases.case import Case, is_padding, masks_of
from ..cases.dtypes import LOW
from ..modes.modes import BY_ID, EAGER
from . import comparison
from .outcomes import ACCEPTS, UNHELPFUL, outcome_in_words
from .report import Failure, Nonconformance
from .wording import RETURNS, SILENT

KEPT, KEPT_ROWS = 6, 24  # calls that a group keeps, the least ones; rows of the table of wrong masks cost little
MOST = 400  # groups that a collection keeps; further groups are only counted

WRONG_MASK, RANGE, CRASH = "wrong mask", "range of an entry", "crash"

_MESSAGE = 60  # characters of a message that tell errors and warnings apart


@dataclass(frozen=True, order=True)
class Key:
    """The features that the failures of a group have in common."""

    module: str  # empty for wrong masks, which many modules refuse by the same code
    way: str  # the family of the mode, with a low precision; or WRONG_MASK, RANGE or CRASH
    training: str  # "train", "eval" or empty
    path: str  # the paths that served the call, sorted
    masks: str  # the kinds of its masks, such as "bool attn_mask, float padding"
    differs: str  # the gravest difference: its kind, symptom and role, and the message of an error or a warning
    predicted: str = ""  # ids of the entries of the ledger that predict the expected outcome

    @property
    def words(self) -> str:
        """The key in one line."""
        parts = [getattr(self, field.name) for field in fields(self)]
        return "; ".join(part for part in parts if part and part != EAGER.id)


@dataclass(frozen=True)
class Group:
    """Failures that look alike."""

    key: Key
    calls: tuple[Failure, ...]  # the least first, at most KEPT
    seen: int = 1  # number of failing calls, those that are not kept included
    tests: tuple[str, ...] = ()  # ids in pytest of the tests that saw it, sorted
    is_minimal: bool = False  # True if no simpler call than the first shows the failure
    is_flaky: bool = False  # True if the calls, made again, conform

    @property
    def least(self) -> Failure:
        """The simplest failure."""
        return self.calls[0]

    def as_plain(self) -> dict[str, Any]:
        """The group as plain data for a record."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        key = {name: value for name, value in asdict(self.key).items() if value}
        calls = [failure.as_plain() for failure in self.calls]
        return plain | {"key": key, "calls": calls, "tests": list(self.tests)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Group":
        """The group from the data of `as_plain`. Raises BadInput, or an error of Python, for other data."""
        key = Key(**dict.fromkeys((field.name for field in fields(Key)), "") | plain["key"])
        calls = tuple(map(Failure.from_plain, plain["calls"]))
        others = {name: plain[name] for name in ("seen", "is_minimal", "is_flaky")}
        return cls(key, calls, tests=tuple(map(str, plain["tests"])), **others)


def joined(one: Group, other: Group) -> Group:
    """One group of two with the same cause; it has the key of the first, and the least calls of both."""
    kept = KEPT_ROWS if one.key.way == WRONG_MASK else KEPT
    calls = tuple(sorted(dict.fromkeys((*one.calls, *other.calls)), key=size))[:kept]
    tests = tuple(sorted({*one.tests, *other.tests}))
    return replace(one, calls=calls, seen=one.seen + other.seen, tests=tests)


class Collection:
    """Failures by group, bounded in number."""

    def __init__(self, groups: Iterable[Group] = ()):
        self.groups: dict[Key, Group] = {}
        self.seen = 0  # failures, those of groups that are not kept included
        self.lost = 0  # failures of groups that are not kept
        for group in groups:
            self.join(group)

    def add(self, failure: Failure) -> None:
        """Add one failure."""
        self.join(Group(key_of(failure), (failure,)))

    def join(self, group: Group) -> None:
        """Add the failures of a group."""
        self.seen += group.seen
        known = self.groups.get(group.key)
        if known is None and len(self.groups) >= MOST:
            self.lost += group.seen
        else:
            self.groups[group.key] = joined(known, group) if known else group

    def all(self) -> tuple[Group, ...]:
        """The groups, those with the least call first."""
        return tuple(sorted(self.groups.values(), key=lambda group: (size(group.least), group.key)))


_TOLD = 20  # groups of a test that its message lists


def collected(collection: Collection) -> Nonconformance:
    """The exception of a test that has collected failures: the least one of each group, and all rows that are kept."""
    groups = collection.all()
    number = f"{len(groups)} groups" if len(groups) > 1 else "1 group"
    calls_fail = "1 call fails" if collection.seen == 1 else f"{collection.seen} calls fail"
    lines = [f"{calls_fail}, in {number}. The least found of each:", ""]
    lines += [line for group in groups[:_TOLD] for line in (group.least.title, f"    {group.least.again}".rstrip(), "")]
    lines += [f"and {len(groups) - _TOLD} more groups"] if len(groups) > _TOLD else []
    calls = [call for group in groups for call in (group.calls if group.least.row else group.calls[:1])]
    return Nonconformance("\n".join(lines), *calls)


def key_of(failure: Failure) -> Key:
    """The key of the group of a failure."""
    predicted = ", ".join(failure.deviations)
    if failure.row:
        return _key_of_row(failure, predicted)
    if failure.case is None:
        return Key(failure.module, RANGE, "", "", "", failure.title, failure.entry)
    case, way = failure.case, CRASH
    if failure.mismatches:
        way = " ".join([BY_ID[case.mode].family, *[case.dtype] * (case.dtype in LOW)])
    training = ("train" if case.training else "eval") if case.has_training_mode else ""
    path = ", ".join(sorted(failure.served))
    return Key(failure.module, way, training, path, _kinds(case), _difference(failure), predicted)


def _kinds(case: Case) -> str:
    kinds = {f"{mask.form} {'padding' if is_padding(name) else 'attn_mask'}" for name, mask in masks_of(case).items()}
    return ", ".join([*sorted(kinds), *["is_causal"] * case.is_declared_causal])


def _difference(failure: Failure) -> str:
    if not failure.mismatches:
        return failure.title.rpartition(": ")[2]
    first = failure.mismatches[0]
    name = first.of[0] if first.kind in _WITH_NAME and first.of else ""
    message = f"{first.expected} {first.got}" if first.kind in _WITH_MESSAGE else ""
    return " ".join(filter(None, (first.kind, name, first.symptom, first.role, _without_numbers(message))))


def message_of(failure: Failure) -> str:
    """The kind and the text of an error or a warning that is there, or is missing, or the setting that a call changes.

    Of an error that is missing with the module, as several causes may avoid it. Empty for another failure.
    """
    if failure.row or not failure.mismatches or failure.mismatches[0].kind not in (*_WITH_MESSAGE, comparison.SETTING):
        return ""
    is_missing = failure.mismatches[0].symptom == RETURNS
    return f"{failure.module}: {_difference(failure)}" if is_missing else _difference(failure)


def side_effect_of(failure: Failure) -> tuple[str, str] | None:
    """The warning or the changed setting of a call that is right in all else, as comparison.side_effect tells it."""
    if failure.row or len(failure.mismatches) != 1:
        return None
    (its,) = failure.mismatches
    return comparison.side_effect(its.kind, its.of, its.got) if its.symptom != SILENT else None


_WITH_NAME = (comparison.VALUE, comparison.SETTING)
_WITH_MESSAGE = (comparison.ERROR, comparison.WARNING)
_WRONG_NUMBERS = ("is off", "is not 0", "is a number")


def are_alike(one: Failure, other: Failure) -> bool:
    """True if the gravest differences are of one kind, whatever the element: a wrong number, NaN, the same error."""
    return _sort(one) == _sort(other)


def _sort(failure: Failure) -> tuple[str, ...]:
    if failure.row or not failure.mismatches:
        return (key_of(failure).differs,)
    first = failure.mismatches[0]
    if first.kind in (*_WITH_MESSAGE, comparison.SETTING):
        return (_difference(failure),)
    return (first.kind, "is off" if first.symptom in _WRONG_NUMBERS else first.symptom)


def _without_numbers(message: str) -> str:
    return re.sub(r"\d+", "#", message)[:_MESSAGE]


def _key_of_row(failure: Failure, predicted: str) -> Key:
    """The key of a row of the table of wrong masks: the kind of the argument, the fault and the outcome."""
    argument, fault, mode = _parts_of(failure.row)
    fault = fault.partition("_beside_")[0]
    kind = "padding" if is_padding(argument) else "attn_mask" if argument.endswith("mask") else argument
    told = _without_numbers(outcome_in_words(failure.outcome, failure.message)) if failure.outcome else ""
    differs = " ".join(filter(None, (fault, told, *(its.symptom for its in failure.mismatches[:1]))))
    return Key("", WRONG_MASK, {"training": "train", "inference": "eval"}.get(mode, ""), "", kind, differs, predicted)


def _parts_of(row: str) -> tuple[str, str, str]:
    """The argument, the fault and the mode ("training", "inference" or empty) of a row, by its id."""
    parts = row.split("-")  # the module, perhaps a variant, the argument, the fault, perhaps the mode
    mode = parts.pop() if parts[-1] in ("training", "inference") else ""
    return parts[-2], parts[-1], mode


def unnamed_error(failure: Failure) -> str:
    """The error of a row of the table of wrong masks that does not name the mask; empty for another outcome."""
    return outcome_in_words(failure.outcome, failure.message) if failure.outcome == UNHELPFUL else ""


def accepted_argument(failure: Failure) -> str:
    """The module and the argument in whose place a wrong mask is accepted; empty for another failure."""
    return f"{failure.module} {_parts_of(failure.row)[0]}" if failure.outcome == ACCEPTS else ""


# From the simplest to the most complex.
_MODULES: tuple[str, ...] = ("scaled_dot_product_attention", "MultiheadAttention", "multi_head_attention_forward")
_MODULES += ("TransformerEncoderLayer", "TransformerDecoderLayer", "TransformerEncoder", "TransformerDecoder")
_MODULES += ("Transformer",)


def size(failure: Failure) -> tuple:
    """The key by which failures are sorted, the simplest first."""
    case = failure.case
    if case is None:
        return (0, 0, 0, 0, len(failure.row), failure.row, failure.title)
    mode = BY_ID[case.mode]
    cases = [its for its in (case, failure.first, failure.twin) if its is not None]
    text = " ".join(map(repr, cases))
    sizes = sum(_elements(its) for its in cases)
    module = _MODULES.index(case.module) if case.module in _MODULES else 0
    given = text.count("=") - text.count("head_dim=")  # one number of heads or two sizes: the features count
    return (mode.compiles + mode.builds, mode is not EAGER, module, given, sizes, len(text), text)


def _elements(case: Case) -> int:
    """A measure of the cost of a call: the number of scores, times layers, and of features."""
    scores = sum(case.number_of_queries(block) * case.number_of_keys(block) for block in case.blocks) + 1
    samples = getattr(case, "N", 1) * (1 + sum(case.batch))
    return samples * scores * case.num_layers * (1 + getattr(case, "E", 1))
