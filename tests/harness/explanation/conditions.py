"""Finds the condition that failing calls have in common: a conjunction of simple features, as Python text.

The failing calls are compared with calls that are as before: calls that differ from a failing one in one field, or any
other rows of the table of wrong masks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from ..cases.case import Case, is_padding, masks_of
from ..cases.dtypes import FULL, LOW
from ..cases.masks import Mask
from ..deviations.call import Call
from ..deviations.facts import does_more_than_hide, has_empty_row
from ..wrong_masks.table import WrongCall
from .edits import Edits
from .neighbours import neighbours
from .sight import Model, Sight, sighted

# The names, besides `call`, that a condition may use.
NAMES = {"has_empty_row": has_empty_row, "does_more_than_hide": does_more_than_hide, "masks_of": masks_of}
_NAMES = {**NAMES, "is_padding": is_padding}

_LONGEST = 6  # values that a feature lists


def holds(code: str) -> Callable[[Any], bool]:
    """The function of `call` with this code; False for calls that lack a field that the code reads."""
    compiled = compile(code, "<condition>", "eval")

    def of(call: Any) -> bool:
        try:
            return bool(eval(compiled, {**_NAMES, "call": call}))
        except AttributeError:
            return False

    return of


def conjunction(first: str, positives: Sequence, negatives: Iterable, features: Iterable[str]) -> str:
    """The code of `first` and the fewest features that hold for all positives and exclude all negatives, if any do.

    positives, negatives: values of `call`. The features that come first are preferred.
    """
    functions = {code: holds(code) for code in dict.fromkeys(features)}
    usable = {code: function for code, function in functions.items() if all(map(function, positives))}
    chosen, left = [first], list(filter(holds(first), negatives))
    while left and usable:
        best = max(usable, key=lambda code: sum(not usable[code](call) for call in left))
        remaining = [call for call in left if usable[best](call)]
        if len(remaining) == len(left):
            break
        chosen.append(best)
        left = remaining
    return " and ".join(chosen)


def among(code: str, values: Iterable[Any]) -> str:
    """The code of a feature: `code` has one of the values."""
    found = tuple(sorted(dict.fromkeys(values), key=repr))
    if len(found) > 1:
        return f"{code} in {found!r}"
    is_constant = found[0] is None or isinstance(found[0], bool)
    return f"{code} {'is' if is_constant else '=='} {found[0]!r}"


# ---- cases ---------------------------------------------------------------------------------------------------------


def condition(positives: Sequence[Sight], negatives: Sequence[Sight]) -> str:
    """The code of the condition on a Call that tells failing calls from calls that are as before."""
    failing, others = ([_call(sight) for sight in sights] for sights in (positives, negatives))
    first = among("call.case.module", [call.case.module for call in failing])
    return conjunction(first, failing, others, _features(failing))


def variants(case: Case, model: Model, device: str = "cpu") -> list[Sight]:
    """Calls that differ from the case in one respect: its neighbours, and calls with another value of one field."""
    found = dict.fromkeys((*neighbours(case, model.release), *_of_other_fields(case)))
    found.pop(case, None)
    return list(_made(filter(model.release.offers, found), model, device))


def _made(cases, model, device):
    for case in cases:
        try:
            yield from sighted([case], model, device)
        except Exception:  # fields may contradict each other: such a call cannot be made
            continue


def is_as_before(sight: Sight) -> bool:
    """True if the model predicts the call without an edit."""
    return sight.is_predicted(Edits())


def _call(sight):
    return Call(sight.case, sight.model.release, sight.observation.served)


_VALUES = {
    "dtype": (*FULL, *LOW),
    "autograd": ("grad", "no_grad", "inputs", "mask"),
    "mode": ("eager", "deepcopy"),
    "attention": ("self", "cross", "distinct"),
    "activation": ("relu", "gelu"),
    "layout": ("contiguous", "sliced"),
    "dropout": (0.0,),
    "nonfinite": ("",),
    "broadcast": ("",),
    "num_layers": (1, 2),
    "given_dtype": (None, "float32"),
    **dict.fromkeys(("kdim", "vdim", "scale", "kv_heads", "given_device", "default_device"), (None,)),
}
_NOT_CONDITIONS = ("seed", "only")


def _of_other_fields(case) -> Iterator[Case]:
    for field in fields(case):
        value = getattr(case, field.name)
        if isinstance(value, Mask):
            yield from _of_other_mask(case, field.name, value)
        values = (True, False) if isinstance(value, bool) else _VALUES.get(field.name, ())
        yield from (replace(case, **{field.name: other}) for other in values if other != value)
    if case.attention:
        yield replace(case, attention="self", L=case.S, kdim=None, vdim=None, static=False)


def _of_other_mask(case, name, mask):
    yield replace(case, **{name: None})
    yield replace(case, **{name: Mask("bool", mask.pattern, per_head=mask.per_head)})
    for values in ("inf", "finite", "bias"):
        yield replace(case, **{name: Mask("float", mask.pattern, values, per_head=mask.per_head)})
    for pattern in ("none", "one", *(("right",) if is_padding(name) else ("causal", "random"))):
        yield replace(case, **{name: replace(mask, pattern=pattern)})


def _features(calls: Sequence[Call]) -> Iterator[str]:
    """The features of some calls, those that say most first."""
    for name in dict.fromkeys(name for call in calls for name in masks_of(call.case)):
        mask = f"call.case.{name}"
        yield f"{mask} is not None"
        yield from (f"({mask} is not None and {its})" for its in (f"{mask}.is_float", f"not {mask}.is_float"))
        yield f"({mask} is not None and {mask}.per_head)"
    yield from ("masks_of(call.case)", "not masks_of(call.case)", "len(masks_of(call.case)) == 1")
    for fact in ("has_empty_row", "does_more_than_hide"):
        yield from (f"{no}any({fact}(call.case, block) for block in call.case.blocks)" for no in ("", "not "))
    for name in dict.fromkeys(field.name for call in calls for field in fields(call.case)):
        values = {getattr(call.case, name, None) for call in calls}
        if name not in _NOT_CONDITIONS and len(values) <= _LONGEST and all(map(_is_plain, values)):
            yield among(f"call.case.{name}", values)
    every = sorted({path for call in calls for path in call.served})
    yield from (f"{path!r} in call.served" for path in every)
    yield f"set(call.served) <= {set(every)!r}" if every else "not call.served"
    for name in ("N", "L", "S", "T", "num_heads", "num_layers", "sz"):
        yield from (f"call.case.{name} {told}" for told in ("> 1", "== 1", "> 0", "% 2 == 0", "% 2 == 1"))
    yield from ("call.case.L == call.case.S", "call.case.L != call.case.S", "call.case.L < call.case.S")


def _is_plain(value):
    return value is None or isinstance(value, (bool, str))


# ---- rows ----------------------------------------------------------------------------------------------------------


def condition_of_rows(positives: Sequence[WrongCall], negatives: Sequence[WrongCall]) -> str:
    """The code of the condition on a WrongCall that tells some rows from the others."""
    first = among("call.fault.kind", [row.fault.kind for row in positives])
    found = conjunction(first, positives, negatives, _features_of_rows(positives))
    if any(map(holds(found), negatives)):
        return among("call.id", [row.id for row in positives])
    return found


def _features_of_rows(rows: Sequence[WrongCall]) -> Iterator[str]:
    for code in ("call.mode", "call.argument", "call.module", "call.callee.variant", "call.fault.name", "call.way"):
        values = {eval(code, {"call": row}) for row in rows}
        if len(values) <= 2 * _LONGEST:
            yield among(code, values)
    yield from ("call.fault.beside", "not call.fault.beside", "call.fault.hint", "not call.fault.hint")
    yield from ("call.callee.is_batched", "not call.callee.is_batched")
