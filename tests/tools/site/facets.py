"""The settings and the kinds of mask with which an entry shows, for the filters of the page.

They are found by asking the ledger about the pinned case of an entry, and about the same case in other settings and
with other masks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.harness.cases.case import AUTOGRAD, Case, is_padding, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.wrong_masks.table import WrongCall

TRAIN, EVAL = "train", "eval"
GRAD, NO_GRAD = "grad", "no_grad"
BOOL, FLOAT, BIAS, CAUSAL, PADDING, NO_MASK = "bool", "float", "bias", "causal", "padding", "none"
MASKS = {
    BOOL: "bool",
    FLOAT: "float, 0 and -inf",
    BIAS: "float with other numbers",
    CAUSAL: "causal",
    PADDING: "padding",
    NO_MASK: "none",
}

# Values of Case.autograd: of a call outside of any context, and of one without gradients. Where an entry shows with
# neither, it needs modules that are frozen in part, or a learned mask.
_ORDINARY = ("grad", "inputs")
_WITHOUT_GRAD = ("no_grad", "inference_mode", "frozen")
_ATTENTION_PATTERNS = ("none", "causal", "random", "all")
_PADDING_PATTERNS = ("none", "trailing", "left", "all")
_FORMS = (("bool", "inf"), ("float", "inf"), ("float", "finite"), ("float", "-1e9"))


@dataclass(frozen=True)
class Facets:
    """The settings and kinds of mask with which an entry shows; sorted."""

    training: tuple[str, ...]  # of TRAIN, EVAL
    autograd: tuple[str, ...]  # of GRAD, NO_GRAD
    masks: tuple[str, ...]  # keys of MASKS


def facets(entry: Deviation, call: Call) -> Facets:
    """The Facets of an entry. call: its pinned case on an affected release."""
    settings = [case for case in _settings(call.case) if _shows(entry, call, case)] or [call.case]
    ordinary = [case for case in settings if case.autograd in (*_ORDINARY, *_WITHOUT_GRAD)]
    masks = [case for case in (call.case, *_masks(call.case)) if _shows(entry, call, case)] or [call.case]
    return Facets(
        _sorted(TRAIN if case.training else EVAL for case in ordinary or settings if "training" in _names(case))
        or (EVAL, TRAIN),
        _sorted(NO_GRAD if case.autograd in _WITHOUT_GRAD else GRAD for case in ordinary or settings),
        _sorted(kind for case in masks for kind in _kinds(case)),
    )


def facets_of_wrong_masks(calls: tuple[WrongCall, ...]) -> Facets:
    """The Facets of an entry of the ledger of wrong masks, from the calls that show it."""
    is_training = {call.mode != "inference" for call in calls} | {call.mode == "training" for call in calls}
    return Facets(
        _sorted(TRAIN if training else EVAL for training in is_training),
        _sorted(GRAD if training else NO_GRAD for training in is_training),
        _sorted(kind for call in calls for kind in _kinds_of_wrong(call)),
    )


def _kinds_of_wrong(call):
    yield PADDING if is_padding(call.argument) else FLOAT if "float" in call.fault.dtype else BOOL
    if call.fault.hint or call.fault.bias:
        yield CAUSAL


def _sorted(values):
    return tuple(sorted(set(values)))


def _names(case):
    return {field.name for field in fields(case)}


def _settings(case: Case) -> Iterator[Case]:
    """Generates the case in train and eval mode, and with each choice of the tensors that require a gradient."""
    modes: list[dict[str, Any]] = (
        [{"training": value} for value in (True, False)] if "training" in _names(case) else [{}]
    )
    for autograd in {*AUTOGRAD, case.autograd}:
        yield from (replace(case, autograd=autograd, **mode) for mode in modes)


def _masks(case: Case) -> Iterator[Case]:
    """Generates the case without masks, if it has none; with each of its masks replaced; with one other mask alone."""
    given = masks_of(case)
    nothing: dict[str, Any] = dict.fromkeys(given)
    without = replace(case, **nothing)
    if not given:
        yield case
    for name in [name for name in _names(case) if name.endswith("mask")]:
        base, mask = (case, given[name]) if name in given else (without, Mask())
        for pattern in _PADDING_PATTERNS if is_padding(name) else _ATTENTION_PATTERNS:
            for form, values in _FORMS:
                changed: dict[str, Any] = {name: replace(mask, form=form, pattern=pattern, values=values)}
                yield replace(base, **changed)


def _kinds(case):
    """The kinds of the masks of a case."""
    masks = masks_of(case)
    for name, mask in masks.items():
        if is_padding(name):
            yield PADDING
        if mask.pattern in ("causal", "lower_right"):
            yield CAUSAL
        yield BOOL if not mask.is_float else FLOAT if mask.values == "inf" else BIAS
    if case.is_declared_causal:
        yield CAUSAL
    if not masks:
        yield NO_MASK


def _shows(entry, call, case):
    """True if the entry applies to the case; False also where its condition cannot be asked of such a case."""
    try:
        return bool(entry.applies(replace(call, case=case)))
    except (ValueError, TypeError, KeyError, AssertionError, IndexError, StopIteration):
        return False
