"""Sequences of calls that share an artifact, such as a compiled graph, with other masks or other sizes."""

from dataclasses import replace
from itertools import product

from hypothesis import strategies as st

from ..cases.case import Case, hint_about, is_padding, masks_of
from ..cases.masks import ATTENTION_PATTERNS, NAN, PADDING_PATTERNS, VALUES
from ..modes.mode import Mode
from .basics import evenly, one_of
from .by_mode import suits


@st.composite
def call_sequences(draw: st.DrawFn, cases: st.SearchStrategy, mode: Mode) -> tuple[Case, ...]:
    """A call from `cases`, and up to five more that reuse the artifact made for the first."""
    case = draw(cases)
    number = 5 if mode.serves and _may_be_followed(case, mode) else 0  # a tenth of the time of the first call
    others = [_following(draw, case, mode) for _ in range(number)]
    return tuple(dict.fromkeys((case, *(other for other in others if suits(other, mode)))))


_SIZES = (2, 3, 4, 5, 7, 9, 17)
_VALUES = tuple(values for values in VALUES if values != NAN)  # some releases do not take it (release.py)
_CONTENTS = {
    (form, of_keys): evenly(tuple(product(patterns, values)))
    for form, values in (("bool", ("inf",)), ("float", (*("inf", "min", "bias") * 2, *_VALUES)))
    for of_keys, patterns in ((False, ATTENTION_PATTERNS), (True, PADDING_PATTERNS))
}


def _may_be_followed(case, mode):
    """True if no layout depends on the contents of a tensor, nor on its sizes if these vary."""
    fixed = {"expanded"} | ({"swapped", "sliced", "stepped"} if mode.serves == "sizes" else set())
    return fixed.isdisjoint((case.layout, *(mask.layout for mask in masks_of(case).values())))


def _following(draw, case, mode):
    """The case with other masks, except for masks with a hint, and with other sizes if the mode can vary them."""
    changes = {}
    for name, mask in masks_of(case).items():
        if not getattr(case, hint_about(name), None):
            pattern, values = draw(_CONTENTS[mask.form, is_padding(name)])
            changes[name] = replace(mask, pattern=pattern, values=values)
    if mode.serves == "sizes":
        sizes = {name: getattr(case, name) for name in ("N", "L", "S", "T") if getattr(case, name, 1) > 1}
        others = {size: one_of(draw, *_SIZES) for size in dict.fromkeys(sizes.values())}  # equal sizes stay equal
        changes |= {name: others[size] for name, size in sizes.items()}
    return replace(case, **changes)
