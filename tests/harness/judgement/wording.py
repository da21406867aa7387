"""Describes a mismatch in words: a sentence with the position and the numbers, and the clause that it breaks."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import isfinite, isnan
from typing import NamedTuple

from ..cases.case import Case, masks_of
from ..path_names import NATIVE_ENCODER_LAYER, NATIVE_MHA
from . import comparison
from .comparison import Mismatch
from .positions import (
    APPENDED,
    HIDDEN_KEY,
    MASKED_IN_A_HEAD,
    NAN_QUERY,
    PADDED,
    SEES_NOTHING,
    Position,
    fully_masked_query,
    position,
    position_in_argument,
)

# {rule: (number of the clause, quotation from the clause in reference/README.md with "..." for omissions)}
RULES = {
    "score": (
        1,
        "The score of a query and a key is `q·k / sqrt(head_dim)` (or `scale * q·k`) plus the attention mask plus the"
        " padding mask; weights are its softmax over the keys, the context is the sum of values by weight",
    ),
    "bool mask": (2, "A bool mask hides where `True` in the nn modules, and keeps where `True` in SDPA"),
    "float mask": (2, "A float mask is added to the score, whatever its values"),
    "law": (3, "The result does not depend on the form of the call"),
    "path": (3, "The result does not depend on the form of the call: ... with or without autograd; the fast path"),
    "mode": (
        3,
        "The result does not depend on the form of the call: ... the backend of SDPA; the vectors of the CPU; whether"
        " the call is copied, loaded, used before, compiled, exported or mapped",
    ),
    "dtype": (3, "`torch.autocast` changes the digits alone, and the dtype of what ends in a product"),
    "no key": (
        4,
        "A query that sees no key has zero weights and a zero context, so that multi-head attention returns the bias of"
        " its output projection there",
    ),
    "hidden content": (
        5,
        "What is hidden cannot matter: results and gradients do not depend, to the last bit, on what a hidden key or"
        " value holds",
    ),
    "hidden NaN": (5, "NaN or inf there is left out of the results, too"),
    "hidden gradient": (5, "the gradient of a key that every query ignores is exactly 0"),
    "gradient of a mask": (5, "a float mask that requires a gradient gets the derivative of the result"),
    "causal": (6, "`causal` hides key j from query i where j > i"),
    "hint": (6, "a hint without a mask is an error"),
    "true hint": (6, "a true hint changes nothing"),
    "square": (6, "`nn.Transformer.generate_square_subsequent_mask` makes a causal mask of 0 and -inf"),
    "appended": (7, "`add_bias_kv` and `add_zero_attn` append keys that no mask hides"),
    "weights": (7, "Returned weights are those after masking and dropout"),
    "dropout": (7, "A dropped weight is 0, a kept one `w / (1 - p)`"),
    "shape": (8, "the output has the shape of the input"),
    "padded": (8, "a padded position is an ordinary query"),
    "wrong mask": (9, "A mask of a wrong shape or dtype is an error whose message names it"),
    "silent": (9, "nothing is broadcast or reinterpreted in silence"),
    "changes": (
        10,
        "A right call changes no argument, no parameter and no setting of the module or of torch, returns new tensors,"
        " which require a gradient only where autograd records, and warns of nothing",
    ),
}

SILENT = "gives no warning"  # the symptom of a warning that is missing
RETURNS = "returns a result"  # the symptom of an error that is missing

_LONGEST = 160  # characters of a quoted message; the rest is cut off


@dataclass(frozen=True)
class Difference:
    """A mismatch in words, as plain data."""

    says: str  # a sentence without the name of the module: "output is NaN for query 0; expected 0.5"
    kind: str  # one of the kinds in comparison.py
    of: tuple[str, ...]  # names of the wrong results or arguments
    symptom: str  # the kind of difference without numbers, such as "is NaN", "is off" or "raises"
    role: str  # of the query or key at `where`, such as "fully masked query" (positions.py); or empty
    expected: str
    got: str
    rule: str  # a key of RULES: the rule that is broken
    where: tuple[int, ...] | None = None  # index of the first wrong element
    error: float | None = None  # absolute error; None unless expected and got are finite numbers
    bound: float | None = None  # largest allowed error; None unless expected and got are finite numbers

    @property
    def clause(self) -> int:
        """The number of the clause that is broken."""
        return RULES[self.rule][0]


def differences(
    case: Case | None, mismatches: Iterable[Mismatch], deviations: Iterable[str] = (), served: Iterable[str] = ()
) -> tuple[Difference, ...]:
    """The mismatches in words, the gravest first.

    case: None for a row of the table of wrong masks. deviations: ids of the entries of the ledger that predict the
    expected outcome; empty if it is the specified one. served: paths that served the call (watching.PATHS).
    """
    graded = sorted(mismatches, key=lambda mismatch: list(_PARTS).index(mismatch.kind))
    return tuple(_difference(case, mismatch, deviations, served) for mismatch in graded)


def _difference(case, mismatch, deviations, served):
    parts = _PARTS[mismatch.kind](case, mismatch)
    if deviations:
        parts = parts._replace(expected=_plain(mismatch.expected))
    expects = "the ledger expects" if deviations else "expected"
    wrong = " ".join(filter(None, (parts.subject, parts.symptom, parts.detail, parts.place.words)))
    is_finite = all(isinstance(x, float) and isfinite(x) for x in (mismatch.expected, mismatch.got))
    return Difference(
        says=f"{wrong}; {expects} {parts.expected}{parts.tail}",
        kind=mismatch.kind,
        of=mismatch.of,
        symptom=parts.symptom,
        role=parts.place.role,
        expected=_plain(mismatch.expected),
        got=_plain(mismatch.got),
        rule=parts.rule or _rule(case, served),
        where=mismatch.where,
        error=mismatch.error if is_finite else None,
        bound=mismatch.bound if is_finite else None,
    )


# ---- the parts of a sentence, for each kind of mismatch ------------------------------------------------------------


class _Parts(NamedTuple):
    """The parts of a sentence "SUBJECT SYMPTOM DETAIL PLACE; expected EXPECTED TAIL"."""

    subject: str
    symptom: str
    expected: str
    detail: str = ""
    place: Position = Position()
    tail: str = ""
    rule: str = ""  # a key of RULES; empty for the rule of the call (_rule)


def _error(case, mismatch):
    expected, got = mismatch.expected, mismatch.got
    if got is None:
        return _Parts("", RETURNS, f"an error: {_quoted(expected)}", rule="hint" if _has_hint(case) else "")
    rule = "gradient of a mask" if getattr(case, "autograd", "") == "mask" else "" if _has_hint(case) else "path"
    rule = "" if case is None or case.mode != "eager" else rule
    return _Parts("", "raises", _quoted(expected) if expected else "a result", _quoted(got), rule=rule)


def _results(case, mismatch):
    expected, got = (" and ".join(names) or "nothing" for names in (mismatch.expected, mismatch.got))
    return _Parts("", "has tangents of" if mismatch.what == "tangents" else "returns", expected, got, rule="weights")


def _property(case, mismatch, rule):
    """The parts of a sentence about a shape, dtype or device."""
    rule = "square" if case is not None and not case.attends else rule
    rule = "weights" if mismatch.of == ("weights",) and mismatch.kind == comparison.SHAPE else rule
    return _Parts(mismatch.of[0], "has", str(mismatch.expected), f"{mismatch.kind} {mismatch.got}", rule=rule)


def _value(case, mismatch):
    name = (mismatch.of or (mismatch.what,))[0]
    place = _nowhere(mismatch) if case is None else position(case, name, mismatch.where)
    parts = _numbers(mismatch)._replace(place=place)
    if case is None:
        return parts
    blind = "" if place.role in SEES_NOTHING else fully_masked_query(case)
    if isnan(mismatch.got) and blind:
        parts = parts._replace(place=Position(place.role, f"{place.words}, beside {blind}"))
    elif content := _content_of_hidden(case):
        parts = parts._replace(place=Position(place.role, f"{place.words}, where hidden positions hold {content}"))
    if place.role in SEES_NOTHING and case.module != "scaled_dot_product_attention" and mismatch.expected:
        number = f"{mismatch.expected:.6g}"
        is_bias = case.module in ("MultiheadAttention", "multi_head_attention_forward")
        words = f"the projection's bias, {number}" if is_bias else f"{number}, from the projection's bias"
        parts = parts._replace(expected=words)
    return parts._replace(rule=_rule_of_value(case, name, place.role, mismatch.got))


def _content_of_hidden(case):
    return {"nan": "NaN", "inf": "inf"}.get(case.nonfinite, "large numbers" if case.garbage else "")


def _content(case, mismatch):
    place = position(case, mismatch.of[0], mismatch.where)
    place = Position(place.role, f"{place.words} with the content of hidden positions")
    return _numbers(mismatch)._replace(symptom="changes", detail="", place=place, rule="hidden content")


def _leak(case, mismatch):
    place = position_in_argument(case, mismatch.of[0], mismatch.where)
    return _numbers(mismatch)._replace(place=place, rule="hidden gradient")


def _gradient(case, mismatch):
    if mismatch.where is None:
        place = Position("", "in a drawn direction")
    else:
        place = position_in_argument(case, mismatch.of[0], mismatch.where)
    rule = "gradient of a mask" if mismatch.of and set(mismatch.of) <= set(masks_of(case)) else ""
    if isnan(mismatch.got):
        rule = "hidden content" if place.role == HIDDEN_KEY else "no key" if fully_masked_query(case) else rule
    return _numbers(mismatch)._replace(place=place, rule=rule)


def _dropout(case, mismatch):
    return _Parts(mismatch.what, "is", str(mismatch.expected), str(mismatch.got), rule="dropout")


def _mutated(case, mismatch):
    return _Parts("", "changes its argument", "it unchanged", mismatch.of[0], rule="changes")


def _lent(case, mismatch):
    return _Parts("", "returns memory of its argument", "memory of its own", mismatch.of[0], rule="changes")


def _setting(case, mismatch):
    return _Parts("", "changes the setting", "it unchanged", mismatch.of[0], rule="changes")


def _path(case, mismatch):
    return _Parts("", "takes the path", str(mismatch.expected), str(mismatch.got), rule="changes")


def _attached(case, mismatch):
    return _Parts(mismatch.of[0], "requires a gradient", "none, as autograd records nothing", rule="changes")


def _warning(case, mismatch):
    if mismatch.got is None:
        return _Parts("", SILENT, f"one: {_quoted(mismatch.expected)}", rule="changes")
    return _Parts("", "warns", "no warning", f'"{_quoted(mismatch.got)}"', rule="changes")


# The gravest kind first: the first mismatch becomes the title of a failure.
_PARTS = {
    comparison.ERROR: _error,
    comparison.RESULTS: _results,
    comparison.SHAPE: partial(_property, rule="shape"),
    comparison.VALUE: _value,
    comparison.CONTENT: _content,
    comparison.LEAK: _leak,
    comparison.GRADIENT: _gradient,
    comparison.SECOND: _gradient,
    comparison.DROPOUT: _dropout,
    comparison.DTYPE: partial(_property, rule="dtype"),
    comparison.DEVICE: partial(_property, rule="square"),
    comparison.MUTATED: _mutated,
    comparison.LENT: _lent,
    comparison.SETTING: _setting,
    comparison.PATH: _path,
    comparison.ATTACHED: _attached,
    comparison.WARNING: _warning,
}


def _numbers(mismatch):
    """The parts of a sentence about an element or a derivative, without a place."""
    expected, got = mismatch.expected, mismatch.got
    subject = {"weights": "weight"}.get(mismatch.what, mismatch.what)
    if mismatch.kind in (comparison.GRADIENT, comparison.LEAK):
        subject = f"gradient of {_listed(mismatch.of)}"
    elif mismatch.kind == comparison.SECOND:
        subject = f"second derivative by {_listed(mismatch.of)}"
    elif mismatch.kind == comparison.CONTENT:
        subject = mismatch.of[0]
    if not isfinite(got):
        return _Parts(subject, f"is {_plain(got)}", _plain(expected))
    told, seen = _told_apart(expected, got)
    if not isfinite(expected):
        return _Parts(subject, "is a number", told, tail=f", got {seen}")
    if expected == 0 and not mismatch.bound:
        return _Parts(subject, "is not 0", "0", tail=f", got {seen}")
    allowed = f" ({mismatch.bound:.2g} is allowed)" if mismatch.bound is not None else ""
    return _Parts(subject, "is off", told, f"by {abs(expected - got):.2g}", tail=f", got {seen}{allowed}")


def _told_apart(expected, got):
    """Both numbers as text, with enough digits to be different texts."""
    for digits in (6, 9, 17):
        texts = tuple(_plain(number, digits) for number in (expected, got))
        if texts[0] != texts[1]:
            return texts
    return texts


def _plain(value, digits=6):
    """A value as text."""
    if isinstance(value, float):
        return "NaN" if isnan(value) else f"{value:.{digits}g}"
    return "nothing" if value is None else str(value)


def _quoted(message):
    """The first line of a message, shortened to _LONGEST characters."""
    line = next(iter(str(message).strip().splitlines()), "")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _listed(names):
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _nowhere(mismatch):
    return Position("", f"at {list(mismatch.where)}" if mismatch.where is not None else "")


# ---- the rule that is broken ---------------------------------------------------------------------------------------


def _rule_of_value(case, name, role, got):
    """The key of RULES for a wrong element of a result; empty if the element does not determine the rule."""
    if role in (*SEES_NOTHING, MASKED_IN_A_HEAD):
        return "no key"
    if role == APPENDED:
        return "appended"
    if role == HIDDEN_KEY:
        return _rule_of_masks(case)
    if role == NAN_QUERY:
        return "score"
    if isnan(got) and case.nonfinite:
        return "hidden NaN"
    if isnan(got) and fully_masked_query(case):
        return "no key"
    if role == PADDED:
        return "padded"
    return "hidden content" if case.garbage else ""


def _rule(case, served):
    """The key of RULES for a call: the first special feature decides. A shrunk case has only features that matter."""
    if case is None:
        return "silent"
    if not case.attends:
        return "square"
    if case.nonfinite:
        return "hidden NaN"
    if case.garbage:
        return "hidden content"
    if case.mode != "eager":
        return "mode"
    if case.dropout:
        return "dropout"
    if rule := _rule_of_masks(case):
        return rule
    return "path" if {NATIVE_MHA, NATIVE_ENCODER_LAYER} & set(served) else "score"


def _rule_of_masks(case):
    masks = masks_of(case).values()
    if case.asks_for_causal_mask:
        return "causal"
    if any(mask.is_float for mask in masks):
        return "float mask"
    if case.is_declared_causal:
        return "true hint"
    return "bool mask" if masks else ""


def _has_hint(case):
    return case is not None and case.is_declared_causal
