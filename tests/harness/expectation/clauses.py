"""The clauses of reference/README.md as data: which of them a call exercises is computed from its case.

A call exercises a clause if a release that breaks the clause could fail on the call: it has what the clause speaks of.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reference import masks as meaning

from ..cases.case import LEARNED, Case, is_padding, masks_of
from ..cases.dtypes import held
from ..cases.masks import Merged
from ..contents.arrays import hidden, ignored, mask_arrays
from ..contents.packing import packs, without_padding
from ..modes.modes import EAGER


@dataclass(frozen=True)
class Clause:
    """One clause of the specification.

    title: its subject in a few words.
    text: how reference/README.md begins it, as one sentence for a report.
    is_exercised: of a case; None if only rows of the table of wrong masks exercise the clause.
    """

    number: int
    title: str
    text: str
    is_exercised: Callable[[Case], bool] | None


def of(call: object) -> frozenset[int]:
    """The numbers of the clauses that a case, or a row of the table of wrong masks (table.py), exercises."""
    if not isinstance(call, Case):
        return WRONG_MASKS
    return frozenset(clause.number for clause in CLAUSES if clause.is_exercised and clause.is_exercised(call))


def _given(case):
    """The case as torch is given it: a mode that packs leaves the padding out."""
    return without_padding(case) if packs(case) else case


def _gives_a_mask(case):
    return any(array.size for array in mask_arrays(_given(case)).values())


# The plainest form of a call: nothing is optimised or transformed.
_PLAIN = {
    "mode": EAGER.id,
    "autograd": "grad",
    "layout": "contiguous",
    "batched": True,
    "batch_first": True,
    "only": None,
    "need_weights": True,
    "fast_path": True,
    "enable_nested_tensor": True,
    "mask_check": True,
}


def _has_another_form(case):
    """True if the call has a form that must not matter, rather than the plainest."""
    if not case.attends:
        return False
    trains = case.training and not case.dropout
    copies = case.attention == "copies"
    masks = masks_of(case)
    return (
        any(vars(case).get(name, plain) != plain for name, plain in _PLAIN.items())
        or (trains or copies or case.is_hinted)
        or any(map(_is_another_form, masks.values()))
        or any(masks.keys() >= set(attention.masks) for attention in case.attentions)
    )


def _is_another_form(mask):
    """True of a mask that has a twin: the same for each head, in float, of another layout, or the sum of two."""
    is_float_twin = mask.is_float and mask.values == "inf"
    is_alike = mask.repeated or mask.over_heads or mask.over_samples
    return is_float_twin or is_alike or mask.layout != "contiguous" or isinstance(mask, Merged)


def _has_a_query_without_keys(case):
    """True if some query sees no key: each is hidden from it or left out by packing, or there are none."""
    return not case.appended_keys and any(bool(where.all(axis=-1).any()) for where in hidden(case))


def _hides_a_position(case):
    """True if every query is told to ignore some position, or autograd asks for the gradient of a float mask."""
    case = _given(case)
    learns = case.autograd in ("grad", "mask", LEARNED) and any(mask.is_float for mask in masks_of(case).values())
    return learns or (case.attends and bool(ignored(case)))


def _is_causal(case):
    """True if a mask is causal, or is said to be."""
    if not case.attends or case.is_declared_causal:
        return True
    hiding = (mask for mask in masks_of(case).values() if not mask.is_float or mask.values in ("inf", "bias", "slight"))
    return any(mask.pattern == "causal" for mask in hiding)


def _appends_or_drops_or_returns_weights(case):
    return case.appended_keys > 0 or case.need_weights or case.dropout > 0


def _pads(case):
    """True if a padding mask hides a key."""
    arrays = (array for name, array in mask_arrays(_given(case)).items() if is_padding(name))
    return any(bool(np.any(meaning.hidden(meaning.as_bias(array, held(case.dtype))))) for array in arrays)


CLAUSES = (
    Clause(
        1,
        "score, softmax and sum",
        "The score of a query and a key is `q·k / sqrt(head_dim)` (or `scale * q·k`) plus the attention mask plus the"
        " padding mask",
        lambda case: case.attends,
    ),
    Clause(
        2,
        "bool and float masks",
        "A bool mask hides where `True` in the nn modules, and keeps where `True` in SDPA. A float mask is added to the"
        " score",
        _gives_a_mask,
    ),
    Clause(
        3,
        "the form of a call",
        "The result does not depend on the form of the call",
        _has_another_form,
    ),
    Clause(
        4,
        "fully masked queries",
        "A query that sees no key has zero weights and a zero context",
        _has_a_query_without_keys,
    ),
    Clause(
        5,
        "hidden content",
        "What is hidden cannot matter: results and gradients do not depend, to the last bit, on what a hidden key or"
        " value holds",
        _hides_a_position,
    ),
    Clause(
        6,
        "causal masks and hints",
        "`causal` hides key j from query i where j > i, aligned at the first query and the first key",
        _is_causal,
    ),
    Clause(
        7,
        "appended keys, returned weights and dropout",
        "`add_bias_kv` and `add_zero_attn` append keys that no mask hides; weights are returned for them, too",
        _appends_or_drops_or_returns_weights,
    ),
    Clause(
        8,
        "padding",
        "Padding is about keys: a padded position is an ordinary query, and the output has the shape of the input",
        _pads,
    ),
    Clause(
        9,
        "wrong masks",
        "A mask of a wrong shape or dtype is an error whose message names it",
        None,
    ),
    Clause(
        10,
        "arguments and warnings",
        "A right call changes no argument, no parameter and no setting of the module or of torch, returns new tensors,"
        " which require a gradient only where autograd records, and warns of nothing",
        lambda case: True,
    ),
)

BY_NUMBER = {clause.number: clause for clause in CLAUSES}

OF_CASES = frozenset(clause.number for clause in CLAUSES if clause.is_exercised)

WRONG_MASKS = frozenset(BY_NUMBER) - OF_CASES  # which rows of the table of wrong masks exercise
