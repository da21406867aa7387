"""Simple wrong behaviours: a mask that is ignored or misread, a wrong value in fully masked rows, an unexpected error.

A behaviour is an effect without a condition. explanation/ tries behaviours on calls that no entry of the ledger
explains, and entries of proposed.py name them.
"""

import re
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from reference import masks as meaning

from ..cases.case import Case, is_padding, masks_of
from ..cases.dtypes import rounded
from ..contents.arrays import mask_arrays
from ..expectation.changes import raising, warning, with_kernel, with_masks, without_gradient, without_weights
from ..expectation.specification import Computation
from .call import Call
from .entry import Change
from .facts import bias_of
from .misreadings import MISREADINGS, hidden
from .wrong_kernels import KERNELS


@dataclass(frozen=True)
class Behaviour:
    """A wrong behaviour."""

    text: str  # in words, such as "src_mask is ignored"
    code: str  # a Python expression of `change` in a module that imports this one as `behaviours`
    change: Change

    def __reduce__(self) -> tuple:
        """Its words and its code: another process makes the change anew."""
        return from_code, (self.text, self.code)


def from_code(text: str, code: str) -> Behaviour:
    """The behaviour of this code, which is that of a Behaviour."""
    return Behaviour(text, code, eval(code, {"behaviours": sys.modules[__name__]}))


# ---- masks ---------------------------------------------------------------------------------------------------------


def misreading(computation: Computation, call: Call, name: str, how: str) -> Computation:
    """The computation with the mask of this argument name misread. how: a key of MISREADINGS."""
    mask = computation.arguments.get(name)
    if mask is None:
        return computation
    other = MISREADINGS[how][1](mask, call, call.case.true_hides)
    if other is None and how != "ignored":
        return computation
    return with_masks(computation, {name: other})


def misread(name: str, how: str) -> Change:
    """A change: the mask of this argument name is misread. how: a key of MISREADINGS."""
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


def with_behaviour(computation: Computation, call: Call, how: str, blocks: tuple[str, ...]) -> Computation:
    """The computation with a kernel of KERNELS in these blocks."""
    return with_kernel(computation, KERNELS[how][1], blocks)


def in_blocks(how: str, *blocks: str) -> Change:
    """A change: these attention blocks have another kernel. how: a key of KERNELS."""
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
    bias = bias_of(call.case, "self") if "self" in call.case.blocks else None
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
    of_itself = [its for its in case.attentions if its.keys == case.query_input or case.attention == "copies"]
    mask = mask_arrays(case).get(of_itself[0].key_padding_mask) if of_itself else None
    return None if mask is None else np.atleast_2d(hidden(mask, True))[..., None]


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
            for how, (words, _, kinds) in MISREADINGS.items()
            if kind in kinds
        ]
    if case.asks_for_causal_mask:
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
    """The behaviours of whole blocks: all at once, one after the other, and only some layers of a stack."""
    groups = [tuple(dict.fromkeys(block.partition(".")[0] for block in case.blocks))]
    groups += [(block,) for block in groups[0]] if len(groups[0]) > 1 else []
    if case.num_layers > 1:
        groups += [(f"{block}{part}",) for block in groups[0] for part in (".later", ".last", ".early")]
    found = [
        Behaviour(f"{words} in {_blocks_in_words(blocks)}", f"behaviours.in_blocks({how!r}, *{blocks!r})", change)
        for how, (words, _) in KERNELS.items()
        for blocks in groups
        for change in [in_blocks(how, *blocks)]
    ]
    return found + [Behaviour(words, f"behaviours.{name}", change) for name, (words, change) in _OUTPUTS.items()]


def _blocks_in_words(blocks):
    return ", ".join(
        f"{block[:-6]}, but for its first layer" if block.endswith(".later") else block for block in blocks
    )


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
