"""The results of calls that accept a wrong mask: changes of the specified computation."""

from dataclasses import replace
from math import prod

import numpy as np

from reference import masks as meaning

from ..cases.case import is_padding
from ..deviations.effects import MaskingHalfOfAVector
from ..expectation.changes import undefined, with_kernel, with_masks
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.vectors import extension
from .results import argument
from .table import HEADS, N, WrongCall


def _with_mask(computation, call, array):
    """The computation with this mask in the place of the wrong one."""
    return with_masks(computation, {argument(call, call.argument): array})


def _given(computation, call):
    """The wrong mask as an array."""
    return computation.arguments[argument(call, call.argument)]


def by_elements(computation: Computation, call: WrongCall) -> Computation:
    """The computation with the mask reshaped to the right shape."""
    mask = _given(computation, call)
    is_sliced = mask.ndim == 3 and not is_padding(call.argument)
    shape = (N * HEADS, *call.right_shape) if is_sliced else call.right_shape
    return _with_mask(computation, call, mask.reshape(shape))


def per_sample(computation: Computation, call: WrongCall) -> Computation:
    """The computation with each slice of the mask for all heads of a sample."""
    return _with_mask(computation, call, np.repeat(_given(computation, call), HEADS, axis=0))


def causal_instead(computation: Computation, call: WrongCall) -> Computation:
    """The computation with a causal mask in the place of the given one."""
    return _with_mask(computation, call, meaning.causal(*call.right_shape))


def causal_as_well(computation: Computation, call: WrongCall) -> Computation:
    """The computation with both the given mask and a causal mask."""
    return _with_mask(computation, call, _given(computation, call) & ~meaning.causal(*call.right_shape))


def causal(computation: Computation, call: WrongCall) -> Computation:
    """The computation with is_causal=True."""
    return replace(computation, arguments={**computation.arguments, "is_causal": True})


def as_specified(computation: Computation, call: WrongCall) -> Computation:
    """The computation unchanged: with the mask in the precision of the inputs, or without a mask if none is given."""
    return computation


def by_half_vectors(computation: Computation, call: WrongCall) -> Computation:
    """The computation by a kernel that scales and masks half of each vector of keys."""
    lanes = 16 if extension() == "AVX512" else 8
    blocks = ("self", "src", "tgt", "memory")  # blocks without a mask are unchanged
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), blocks)


def as_many_keys_as_values(computation: Computation, call: WrongCall) -> Computation:
    """The computation with as many keys as values.

    Behind the keys of a head come the keys of the next head, and behind the last head foreign memory.
    """
    arguments = {**computation.arguments, "is_causal": call.fault.hint}
    key, S = arguments["key"], arguments["value"].shape[-2]
    key = arguments.pop("stored", key)
    *batch, length, features = key.shape
    heads = prod(batch)
    places = np.arange(heads)[:, None] * length + np.arange(S)
    is_foreign = (places >= heads * length).any(axis=1) & (not call.fault.hint)  # a causal mask hides these keys
    keys = key.reshape(-1, features)[np.minimum(places, heads * length - 1)]
    arguments["key"] = keys.reshape(*batch, S, features)
    return undefined(replace(computation, arguments=arguments), left_out.MEMORY, is_foreign.reshape(*batch, 1, 1))


def never_computed(computation: Computation, call: WrongCall) -> Computation:
    """The computation with uninitialised results."""
    return undefined(computation, left_out.MEMORY)


def never_computed_beside_meta(computation: Computation, call: WrongCall) -> Computation:
    """The computation with an uninitialised output, and weights on the meta device unless a native path serves."""
    is_native = call.mode == "inference" and call.callee.variant == "self"
    return never_computed(replace(computation, devices={} if is_native else {"weights": "meta"}), call)


def on_meta(computation: Computation, call: WrongCall) -> Computation:
    """The computation with all results on the meta device."""
    return never_computed(replace(computation, devices={"output": "meta", "weights": "meta"}), call)
