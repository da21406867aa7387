"""Describes an element of a result or a gradient in words, such as "the fully masked query 2 of sample 0"."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reference import masks as meaning

from ..cases.case import OF_ONE_LENGTH, Case, DotProduct, is_padding, masks_of
from ..cases.dtypes import held
from ..contents.arrays import hidden, ignored, inputs, mask_arrays
from ..contents.results import is_sequence_first

FULLY_MASKED, WITHOUT_KEYS, MASKED_IN_A_HEAD = "fully masked query", "query without keys", "query masked in a head"

NAN_QUERY, PADDED, HIDDEN_KEY, APPENDED = "NaN query", "padded query", "hidden key", "appended key"

SEES_NOTHING = (FULLY_MASKED, WITHOUT_KEYS)

SAMPLE, HEAD, QUERY, KEY = "sample", "head", "query", "key"

_SEQUENCES = ("query", "key", "value", "src", "tgt", "memory")


@dataclass(frozen=True)
class Position:
    """The description of an element."""

    role: str = ""  # of its query or key: one of the roles above, or empty
    words: str = ""  # a phrase for a sentence: "for the fully masked query 2 of sample 0"


def position(case: Case, name: str, where: Sequence[int]) -> Position:
    """The position of an element of a result.

    name: "output" or "weights". where: the index of the element, in the shape that torch returns.
    """
    place = _place(_axes_of_result(case, name), where)
    if QUERY not in place:
        return _unnamed(where)
    role = _role_of_query(case, place)
    if name == "weights" and not role:
        return _of_weight(case, place)
    key = f" and key {place[KEY]}" if name == "weights" else ""
    return Position(role, f"for {_named(role, QUERY, place)}{key}{_of(place)}{_BEHIND.get(role, '')}")


def position_in_argument(case: Case, name: str, where: Sequence[int]) -> Position:
    """The position of an element of a gradient.

    name: of the input, mask or parameter. where: the index of the element, in the batch-first shape of arrays.py.
    """
    place = _place(_axes_of_argument(case, name), where)
    kind = KEY if name in ("key", "value", "memory") else QUERY
    if kind not in place or name in masks_of(case):
        found = " and ".join(f"{axis} {place[axis]}" for axis in (QUERY, KEY) if axis in place)
        return Position("", f"for {found}{_of(place)}") if found else _unnamed(where)
    positions = ignored(case).get("key" if name == "value" else name)
    if positions is not None and np.ndim(positions) == len(where) - 1 and positions[where[:-1]]:
        return Position(HIDDEN_KEY, f"for the hidden {_noun(name)} {place[kind]}{_of(place)}")
    role = _role_of_query(case, place) if kind == QUERY and name in ("query", "tgt", "src") else ""
    noun = QUERY if name == "query" else _noun(name)
    return Position(role, f"for {_named(role, kind, place, noun)}{_of(place)}{_BEHIND.get(role, '')}")


def fully_masked_query(case: Case) -> str:
    """The first query that is fully masked in all heads, in words; empty if no attention of the case has one."""
    for source, where in () if case.appended_keys else _attentions(case):
        rows = where.all(axis=-1)
        axes = (*_axes_of_batch(rows.ndim - 1), QUERY)
        if case.has_parameters:
            rows, axes = rows.all(axis=1), (SAMPLE, QUERY)
        for index in np.argwhere(rows)[:1]:
            place = _place(axes, map(int, index))
            whose = f" of {source}" if source != case.query_input else ""
            return f"the fully masked query {place[QUERY]}{whose}{_of(place)}"
    return ""


# ---- axes ----------------------------------------------------------------------------------------------------------


def _place(axes, where):
    """{axis: index}; empty if the index has another number of axes."""
    where = tuple(where)
    return dict(zip(axes, where, strict=True)) if len(axes) == len(where) else {}


def _axes_of_result(case, name):
    if not case.attends:
        return ()
    if isinstance(case, DotProduct):
        return (*_axes_of_batch(len(case.batch)), QUERY, *["feature"] * (name != "lse"))
    sample = (SAMPLE,) if case.batched else ()
    if name == "weights":
        return (*sample, *(() if case.average_attn_weights else (HEAD,)), QUERY, KEY)
    return (QUERY, *sample, "feature") if is_sequence_first(case) else (*sample, QUERY, "feature")


def _axes_of_argument(case, name):
    if isinstance(case, DotProduct):
        if name in masks_of(case):
            shape = {"1-D": (KEY,), "0-D": ()}.get(case.broadcast, (QUERY, KEY))
            return (*_axes_of_batch(len(case.mask_batch) if case.broadcast not in ("1-D", "0-D") else 0), *shape)
        return (*_axes_of_batch(len(case.batch)), QUERY if name == "query" else KEY, "feature")
    if is_padding(name):
        return SAMPLE, KEY
    if name in masks_of(case):
        return ("slice", QUERY, KEY) if masks_of(case)[name].per_head else (QUERY, KEY)
    if name in _SEQUENCES:
        return SAMPLE, KEY if name in ("key", "value", "memory") else QUERY, "feature"
    return ()


def _axes_of_batch(number):
    return {0: (), 1: (SAMPLE,), 2: (SAMPLE, HEAD)}.get(number, tuple(f"batch dimension {i}" for i in range(number)))


# ---- roles ---------------------------------------------------------------------------------------------------------


def _attentions(case):
    """For each attention: (name of the input of its queries, bool array: True if a key is hidden from a query).

    The shape of the array is (samples, heads, L, S), for scaled_dot_product_attention (*batch, L, S).
    """
    if isinstance(case, DotProduct):
        yield "query", *hidden(case)
    elif case.attends:
        for attention, where in zip(case.attentions, hidden(case), strict=True):
            yield attention.queries, np.broadcast_to(where, (where.shape[0], case.num_heads, *where.shape[2:]))


def _role_of_query(case, place):
    own = [where for source, where in _attentions(case) if source == case.query_input]
    rows = [] if case.appended_keys else [_of_query(case, where, place) for where in own]
    if any(keys.shape[-1] == 0 for keys in rows):
        return WITHOUT_KEYS
    if any(keys.all() for keys in rows):
        return FULLY_MASKED
    if any(keys.all(axis=-1).any() for keys in rows):
        return MASKED_IN_A_HEAD
    if case.nan_query and np.isnan(inputs(case)["query"][_index(case, place)]).any():
        return NAN_QUERY
    return PADDED if _is_padded(case, place) else ""


def _of_query(case, where, place):
    """bool (heads, S): True for keys that are hidden from the query."""
    if isinstance(case, DotProduct):
        return where[_index(case, place)][None]
    rows = where[place.get(SAMPLE, 0), :, place[QUERY]]
    return rows[[place[HEAD]]] if HEAD in place else rows


def _index(case, place):
    """The index of the query in the input that supplies it."""
    if isinstance(case, DotProduct):
        return tuple(index for axis, index in place.items() if axis not in ("feature", KEY))
    return place.get(SAMPLE, 0), place[QUERY]


def _is_padded(case, place):
    """True if the query is also a key of the same attention, and hidden there by the padding mask."""
    name = {"query": "key_padding_mask"}.get(case.query_input, f"{case.query_input}_key_padding_mask")
    if name not in masks_of(case) or case.attention not in ("", *OF_ONE_LENGTH):
        return False
    where = meaning.hidden(meaning.as_bias(mask_arrays(case)[name], held(case.dtype)))
    return bool(where[place.get(SAMPLE, 0), place[QUERY]])


def _of_weight(case, place):
    """The position of an attention weight whose query has no role."""
    ((_, where),) = _attentions(case)
    key = place[KEY]
    role = APPENDED if key >= where.shape[-1] else ""
    if not role and _of_query(case, where, place)[:, key].all():
        role = HIDDEN_KEY
    return Position(role, f"for query {place[QUERY]} and {_named(role, KEY, place)}{_of(place)}")


# ---- words ---------------------------------------------------------------------------------------------------------


def _named(role, axis, place, noun=None):
    """A noun phrase for a query or key, such as "the hidden key 3" or "query 0"."""
    noun = noun or axis
    if not role or role in _BEHIND:
        return f"{noun} {place[axis]}"
    return f"the {role.removesuffix(f' {axis}')} {noun} {place[axis]}"


# The roles that stand behind the whole position.
_BEHIND = {MASKED_IN_A_HEAD: ", fully masked in a head", WITHOUT_KEYS: ", which has no keys"}


def _noun(name):
    return {"src": "position", "tgt": "position", "memory": "position of memory"}.get(name, KEY)


def _of(place):
    """The axes other than query, key and feature in words, such as " of sample 0, head 1"."""
    others = [f"{axis} {index}" for axis, index in place.items() if axis not in (QUERY, KEY, "feature")]
    return f" of {', '.join(others)}" if others else ""


def _unnamed(where):
    return Position("", f"at [{', '.join(map(str, where))}]")
