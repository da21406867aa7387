"""Simple wrong behaviours: a mask that is ignored or misread, a wrong value in fully masked rows, an unexpected error.

A behaviour is an effect without a condition. explanation/ tries behaviours on calls that no entry of the ledger
explains, and entries of proposed.py name them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from reference import masks as meaning

from ..cases.case import Case, MultiHead, ScaledDotProduct, is_padding, masks_of
from ..cases.dtypes import rounded
from ..contents.arrays import mask_arrays
from ..expectation.arithmetic import multiplying, multiplying_safely
from ..expectation.changes import raising, warning, with_kernel, with_masks, without_gradient, without_weights
from ..expectation.specification import Computation
from .call import Call
from .effects import HidingNonzero
from .entry import Change
from .facts import bias_of


@dataclass(frozen=True)
class Behaviour:
    """A wrong behaviour."""

    text: str  # in words, such as "src_mask is ignored"
    code: str  # a Python expression of `change` in a module that imports this one as `behaviours`
    change: Change


# ---- masks ---------------------------------------------------------------------------------------------------------


def _hidden(mask, true_hides):
    """bool: True at hidden positions of a bool or a float mask."""
    return (mask == true_hides) if mask.dtype == bool else meaning.hidden(mask)


def _as_given(hidden, mask, true_hides):
    """The mask that hides these positions, bool or float as `mask` is."""
    return (hidden == true_hides) if mask.dtype == bool else np.where(hidden, -np.inf, 0.0)


def _inverted(mask, call, true_hides):
    return _as_given(~_hidden(mask, true_hides), mask, true_hides)


def _read_as_bool(mask, call, true_hides):
    return None if mask.dtype == bool else np.where(mask.real != 0, -np.inf, 0.0)


def _read_as_keeping(mask, call, true_hides):
    """A float mask as the other polarity of a bool mask: every number other than 0 keeps its key."""
    return None if mask.dtype == bool else np.where(mask.real == 0, -np.inf, 0.0)


def _added(mask, call, true_hides):
    return mask.astype("float64") if mask.dtype == bool else None


def _without_numbers(mask, call, true_hides):
    """A float mask as 0 and -inf: only its hidden positions count."""
    return None if mask.dtype == bool else np.where(meaning.hidden(mask), -np.inf, 0.0)


def _negated(mask, call, true_hides):
    return None if mask.dtype == bool else np.where(np.isfinite(mask), -mask, mask)


def _transposed(mask, call, true_hides):
    is_square = mask.ndim > 1 and mask.shape[-1] == mask.shape[-2]
    return np.swapaxes(mask, -1, -2) if is_square else None


def _reversed(mask, call, true_hides):
    return mask[..., ::-1]


def _lower_right(mask, call, true_hides):
    L, S = mask.shape[-2:] if mask.ndim > 1 else (0, 0)
    if not np.array_equal(_hidden(mask, true_hides), np.broadcast_to(meaning.causal(L, S), mask.shape)):
        return None
    return _as_given(np.arange(S) > np.arange(L)[:, None] + S - L, mask, true_hides)


def _causal(mask, call, true_hides):
    return None if mask.ndim < 2 else _as_given(meaning.causal(*mask.shape[-2:]), mask, true_hides)


def _causal_too(mask, call, true_hides):
    if mask.ndim < 2:
        return None
    hidden = np.broadcast_to(meaning.causal(*mask.shape[-2:]), mask.shape)
    return np.where(hidden, true_hides if mask.dtype == bool else -np.inf, mask)


def _of_neighbour(mask, call, true_hides, sizes):
    """The mask with its slices moved by one. sizes: (samples, heads, 1 to move samples and 0 to move heads)."""
    samples, heads, moves_samples = sizes
    if mask.ndim < 3 or mask.shape[0] != samples * heads:
        return None
    slices = mask.reshape(samples, heads, *mask.shape[1:])
    return np.roll(slices, 1, axis=0 if moves_samples else 1).reshape(mask.shape)


def _of_another_head(mask, call, true_hides):
    if isinstance(call.case, ScaledDotProduct):
        return np.roll(mask, 1, axis=-3) if mask.ndim > 2 and mask.shape[-3] > 1 else None
    return _of_neighbour(mask, call, true_hides, (call.case.N, call.case.num_heads, False))


def _of_another_sample(mask, call, true_hides):
    if isinstance(call.case, ScaledDotProduct):
        return np.roll(mask, 1, axis=0) if mask.ndim > 3 and mask.shape[0] > 1 else None
    if mask.ndim == 2 and mask.shape[0] == call.case.N > 1:
        return np.roll(mask, 1, axis=0)
    return _of_neighbour(mask, call, true_hides, (call.case.N, call.case.num_heads, True))


def _of_the_first(mask, call, true_hides):
    if mask.ndim < 3:
        return None
    return np.broadcast_to(mask[:1], mask.shape)


def _of_the_first_sample(mask, call, true_hides):
    return np.broadcast_to(mask[:1], mask.shape) if mask.ndim == 2 and len(mask) > 1 else None


def _in_the_first_sample_alone(mask, call, true_hides):
    if mask.ndim != 2 or len(mask) < 2:
        return None
    return np.concatenate([mask[:1], np.zeros_like(mask[1:])])


def _heads_before_samples(mask, call, true_hides):
    """Slices counted by head first: slice h * N + n is read for sample n and head h."""
    case = call.case
    if isinstance(case, ScaledDotProduct) or mask.ndim < 3 or len(mask) != case.N * case.num_heads:
        return None
    slices = mask.reshape(case.num_heads, case.N, *mask.shape[1:])
    return np.swapaxes(slices, 0, 1).reshape(mask.shape)


def _hides_all(mask, call, true_hides):
    return _as_given(np.ones(mask.shape, bool), mask, true_hides)


# {name: (words, (mask, call, true_hides) -> another mask, or None if the behaviour has no meaning for it, kinds)}
# kinds: "attn", "padding" or both.
_MISREADINGS: dict[str, tuple[str, Callable, str]] = {
    "ignored": ("is ignored", lambda mask, call, true_hides: None, "attn padding"),
    "inverted": ("is inverted", _inverted, "attn padding"),
    "read_as_bool": ("is read as a bool mask: every number other than 0 hides", _read_as_bool, "attn padding"),
    "read_as_keeping": ("is read as a bool mask: every number other than 0 keeps", _read_as_keeping, "attn padding"),
    "added": ("is added as 0 and 1", _added, "attn padding"),
    "without_numbers": ("loses its finite numbers", _without_numbers, "attn padding"),
    "negated": ("is subtracted where it is finite", _negated, "attn padding"),
    "transposed": ("is transposed", _transposed, "attn"),
    "of_another_head": ("is that of another head", _of_another_head, "attn"),
    "of_another_sample": ("is that of another sample", _of_another_sample, "attn padding"),
    "of_the_first": ("is that of the first slice everywhere", _of_the_first, "attn"),
    "of_the_first_sample": ("is that of the first sample everywhere", _of_the_first_sample, "padding"),
    "in_the_first_sample_alone": ("counts in the first sample alone", _in_the_first_sample_alone, "padding"),
    "heads_before_samples": ("is read with heads before samples", _heads_before_samples, "attn"),
    "lower_right": ("is aligned at the last query and the last key", _lower_right, "attn"),
    "reversed": ("is aligned at the other end", _reversed, "padding"),
    "causal": ("is replaced by a causal mask", _causal, "attn"),
    "causal_too": ("hides the future, too", _causal_too, "attn"),
    "hides_all": ("hides every key", _hides_all, "attn padding"),
}


def misreading(computation: Computation, call: Call, name: str, how: str) -> Computation:
    """The computation with the mask of this argument name misread. how: a key of _MISREADINGS."""
    mask = computation.arguments.get(name)
    if mask is None:
        return computation
    other = _MISREADINGS[how][1](mask, call, not isinstance(call.case, ScaledDotProduct))
    if other is None and how != "ignored":
        return computation
    return with_masks(computation, {name: other})


def misread(name: str, how: str) -> Change:
    """A change: the mask of this argument name is misread. how: a key of _MISREADINGS."""
    return partial(misreading, name=name, how=how)


def hint_ignored(computation: Computation, call: Call) -> Computation:
    """is_causal=True of scaled_dot_product_attention has no effect."""
    return with_masks(computation, {"is_causal": False})  # type: ignore[dict-item]


def hint_lower_right(computation: Computation, call: Call) -> Computation:
    """is_causal=True of scaled_dot_product_attention is aligned at the last query and the last key."""
    L, S = call.case.L, call.case.S
    keeps = np.arange(S) <= np.arange(L)[:, None] + S - L
    return replace(computation, arguments={**computation.arguments, "attn_mask": keeps, "is_causal": False})


# ---- kernels and results -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unmasked:
    """A kernel that ignores the merged mask."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        return self.kernel(query, key, value, None, scale)


@dataclass(frozen=True)
class Averaging:
    """A kernel that attends to all keys alike where the query may attend to none."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        is_empty = meaning.hidden(bias).all(axis=-1, keepdims=True)
        return self.kernel(query, key, value, np.where(is_empty, 0, bias), scale)


@dataclass(frozen=True)
class LosingNan:
    """A kernel that gives 0 for a query that is NaN."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_nan = np.isnan(query).any(axis=-1, keepdims=True)
        return np.where(is_nan, 0, context), np.where(is_nan, 0, weights)


@dataclass(frozen=True)
class HeadsFirst:
    """A kernel that reads the slices of the merged mask by head first: slice h * N + n for sample n and head h."""

    kernel: Callable

    def __call__(self, query, key, value, bias, scale):
        if bias is None or query.ndim != 4:
            return self.kernel(query, key, value, bias, scale)
        N, H, L, _ = query.shape
        slices = np.broadcast_to(bias, (N, H, L, key.shape[-2]))
        slices = np.swapaxes(slices.reshape(H, N, *slices.shape[-2:]), 0, 1)
        return self.kernel(query, key, value, slices, scale)


@dataclass(frozen=True)
class Rebiased:
    """A kernel that gets another merged mask: change(bias, in the shape of the scores)."""

    kernel: Callable
    change: Callable[[np.ndarray], np.ndarray]

    def __call__(self, query, key, value, bias, scale):
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])
        whole = np.broadcast_to(bias, (*batch, query.shape[-2], key.shape[-2]))
        return self.kernel(query, key, value, self.change(whole), scale)


def _unmasked_last(bias, axis):
    if bias.ndim < 3:
        return bias
    is_last = np.arange(bias.shape[axis]) == bias.shape[axis] - 1
    return np.where(is_last.reshape([-1, *[1] * (-axis - 1)]), 0, bias)


def _first_head(bias):
    return bias[..., :1, :, :] if bias.ndim > 2 else bias


_REBIASED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "inverted": ("the merged mask is inverted", lambda bias: np.where(meaning.hidden(bias), 0.0, -np.inf)),
    "doubled": ("the merged mask is added twice", lambda bias: 2 * bias),
    "last_head": ("the last head is not masked", partial(_unmasked_last, axis=-3)),
    "last_sample": ("the last sample is not masked", partial(_unmasked_last, axis=-4)),
    "first_head": (
        "all heads have the mask of the first",
        lambda bias: np.broadcast_to(bias[..., :1, :, :], bias.shape),
    ),
}


_KERNELS: dict[str, tuple[str, Callable[[Callable], Callable]]] = {
    "unmasked": ("no mask is applied", Unmasked),
    "nan": ("fully masked rows are NaN", lambda _: multiplying),
    "zero": ("fully masked rows are 0", lambda _: multiplying_safely),
    "averaging": ("fully masked rows attend to all keys", Averaging),
    "losing_nan": ("a query that is NaN gives 0", LosingNan),
    "heads_first": ("the merged mask is read with heads before samples", HeadsFirst),
    **{name: (words, partial(Rebiased, change=change)) for name, (words, change) in _REBIASED.items()},
    "as_bool": ("every number of the merged mask other than 0 hides", lambda _: HidingNonzero()),
}


def with_behaviour(computation: Computation, call: Call, how: str, blocks: tuple[str, ...]) -> Computation:
    """The computation with a kernel of _KERNELS in these blocks."""
    return with_kernel(computation, _KERNELS[how][1], blocks)


def in_blocks(how: str, *blocks: str) -> Change:
    """A change: these attention blocks have another kernel. how: a key of _KERNELS."""
    return partial(with_behaviour, how=how, blocks=blocks)


def _with_output(computation, change):
    """The computation with change(output)."""
    return replace(computation, finish=lambda name, array: change(array) if name == "output" else array)


def _zeroed(computation, where):
    """The computation whose output is 0 at these positions; bool, broadcastable to the output."""
    return _with_output(computation, lambda output: np.where(where, 0, output))


def _rounded(name, array, dtype):
    if not isinstance(array, np.ndarray):  # of a backward pass, which does not round
        return array
    return array + (rounded(np.real(array), dtype) - np.real(array))


def zeros_in_padded_rows(computation: Computation, call: Call) -> Computation:
    """The computation whose output is 0 at padded positions of the sequence that it belongs to."""
    padded = _padded(call.case)
    return computation if padded is None else _zeroed(computation, padded)


def zeros_in_fully_masked_rows(computation: Computation, call: Call) -> Computation:
    """The computation whose output is 0 where every head of a query sees no key, without the bias of the projection."""
    bias = bias_of(call.case, "self") if isinstance(call.case, MultiHead) else None
    if bias is None:
        return computation
    is_empty = np.all(meaning.hidden(bias), axis=(1, 3))  # (N or 1, L or 1) of a merged mask (N, H, L, S)
    return _zeroed(computation, is_empty[..., None])


def exchanged(computation: Computation, call: Call) -> Computation:
    """The computation whose output has samples and positions exchanged."""
    return _with_output(computation, lambda output: np.swapaxes(output, 0, 1))


def cropped(computation: Computation, call: Call) -> Computation:
    """The computation whose output is as long as the longest sample."""
    padded = _padded(call.case)
    if padded is None:
        return computation
    longest = int((~padded[..., 0]).sum(axis=1).max(initial=0))
    return _with_output(computation, lambda output: output[:, :longest])


def _padded(case):
    """bool (N, L, 1): the padded positions of the output; None if no mask tells."""
    name = "key_padding_mask" if isinstance(case, MultiHead) else None
    if not isinstance(case, (MultiHead, ScaledDotProduct)) and case.attends:
        name = "tgt_key_padding_mask" if case.has_decoder else "src_key_padding_mask"
    mask = mask_arrays(case).get(name) if name else None
    if mask is None or (isinstance(case, MultiHead) and case.attention not in ("self", "copies")):
        return None
    return np.atleast_2d(_hidden(mask, True))[..., None]


def raises(error: str, message: str) -> Change:
    """A change: the call raises. error, message: regular expressions of the type's name and the message."""
    return lambda computation, call: raising(computation, error, message)


def warns(message: str) -> Change:
    """A change: the call warns. message: a regular expression."""
    return lambda computation, call: warning(computation, message)


def returns_dtype(dtype: str) -> Change:
    """A change: the results are rounded to this dtype."""

    def change(computation: Computation, call: Call) -> Computation:
        if computation.dtype == dtype:
            return computation
        finish = partial(_rounded, dtype=dtype)
        return replace(computation, finish=finish, dtype=dtype, weights_dtype=None)

    return change


def both(*changes: Change) -> Change:
    """A change that applies the changes in turn."""

    def change(computation: Computation, call: Call) -> Computation:
        for its in changes:
            computation = its(computation, call)
        return computation

    return change


def weights_lost(computation: Computation, call: Call) -> Computation:
    """The call returns no weights."""
    return without_weights(computation)


def loses_gradient(*names: str) -> Change:
    """A change: the gradients of these arguments are 0."""
    return lambda computation, call: without_gradient(computation, names)


# ---- the behaviours of a call --------------------------------------------------------------------------------------


def of_masks(case: Case) -> list[Behaviour]:
    """The behaviours that misread one mask of the case, or apply none in a block."""
    found = []
    for name in masks_of(case):
        kind = "padding" if is_padding(name) else "attn"
        found += [
            Behaviour(f"{name} {words}", f"behaviours.misread({name!r}, {how!r})", misread(name, how))
            for how, (words, _, kinds) in _MISREADINGS.items()
            if kind in kinds
        ]
    if isinstance(case, ScaledDotProduct) and case.is_causal:
        found.append(Behaviour("is_causal=True is ignored", "behaviours.hint_ignored", hint_ignored))
        words = "is_causal=True is aligned at the last query and the last key"
        found.append(Behaviour(words, "behaviours.hint_lower_right", hint_lower_right))
    return found


def with_nan(behaviours: list[Behaviour], case: Case) -> list[Behaviour]:
    """The behaviours, each beside NaN in the rows that are then fully masked."""
    blocks = tuple(dict.fromkeys(block.partition(".")[0] for block in case.blocks))
    nan = f"behaviours.in_blocks('nan', *{blocks!r})"
    return [
        Behaviour(
            f"{its.text}; fully masked rows are NaN",
            f"behaviours.both({its.code}, {nan})",
            both(its.change, in_blocks("nan", *blocks)),
        )
        for its in behaviours
    ]


def of_rows(case: Case) -> list[Behaviour]:
    """The behaviours of whole blocks: all at once, one after the other, and the last or the earlier layers alone."""
    groups = [tuple(dict.fromkeys(block.partition(".")[0] for block in case.blocks))]
    groups += [(block,) for block in groups[0]] if len(groups[0]) > 1 else []
    if case.num_layers > 1:
        groups += [(f"{block}{part}",) for block in groups[0] for part in (".last", ".early")]
    found = [
        Behaviour(f"{words} in {', '.join(blocks)}", f"behaviours.in_blocks({how!r}, *{blocks!r})", change)
        for how, (words, _) in _KERNELS.items()
        for blocks in groups
        for change in [in_blocks(how, *blocks)]
    ]
    return found + [Behaviour(words, f"behaviours.{name}", change) for name, (words, change) in _OUTPUTS.items()]


_OUTPUTS: dict[str, tuple[str, Change]] = {
    "zeros_in_padded_rows": ("the output is 0 in padded rows", zeros_in_padded_rows),
    "zeros_in_fully_masked_rows": ("the output is 0 in fully masked rows", zeros_in_fully_masked_rows),
    "exchanged": ("samples and positions of the output are exchanged", exchanged),
    "cropped": ("the output is cropped to the longest sample", cropped),
}


def of_outcome(observation: Any) -> list[Behaviour]:
    """The behaviours that the observation itself names: its error, warnings, dtype and lost results and gradients."""
    if observation.error:
        error, message = observation.error[0], pattern_of(observation.error[1])
        words = f"raises {error}: {_first_line(observation.error[1])}"
        return [Behaviour(words, f"behaviours.raises({error!r}, {message!r})", raises(error, message))]
    found = []
    for told in dict.fromkeys(map(pattern_of, observation.warnings)):
        words = f"warns: {_first_line(next(text for text in observation.warnings if re.search(told, text)))}"
        found.append(Behaviour(words, f"behaviours.warns({told!r})", warns(told)))
    for dtype in dict.fromkeys(observation.dtypes.values()):
        code = f"behaviours.returns_dtype({dtype!r})"
        found.append(Behaviour(f"the result is of dtype {dtype}", code, returns_dtype(dtype)))
    if "weights" not in observation.outputs:
        found.append(Behaviour("no weights are returned", "behaviours.weights_lost", weights_lost))
    lost = [name for name, array in observation.gradients.items() if array is None or not array.any()]
    for names in dict.fromkeys([*((name,) for name in lost), tuple(lost)]):
        if names:
            code = f"behaviours.loses_gradient(*{names!r})"
            found.append(Behaviour(f"the gradient of {', '.join(names)} is lost", code, loses_gradient(*names)))
    return found


def _first_line(text):
    return next(iter(text.splitlines()), "")[:120]


def pattern_of(message: str) -> str:
    """A regular expression of the first line of a message in which numbers may differ."""
    parts = re.split(r"[\d.]*\d", _first_line(message))
    return r"[\d.]*\d".join(re.escape(part).replace(r"\ ", " ") for part in parts)


def unknown(computation: Computation, call: Call) -> Computation:
    """The computation unchanged: the effect of a proposed entry that a person is to write."""
    return computation
