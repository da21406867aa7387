"""The masks of a call that is asked about: named by their kind, or tensors that the text makes."""

from typing import Any

import numpy as np
import torch

from reference import masks as meaning
from tests.harness.cases.case import Case, ScaledDotProduct, is_padding
from tests.harness.cases.dtypes import PRECISIONS
from tests.harness.cases.masks import ATTENTION_PATTERNS, LAYOUTS, PADDING_PATTERNS, VALUES, Given, Mask
from tests.harness.command_line import BadInput

# Names that people use for a kind.
_NAMES = {
    "generate_square_subsequent_mask": "float:causal",
    "alibi": "float:causal:bias",
    "padding": "bool:right",
    "-inf": "inf",
}


def kind_of_mask(text: str, argument: str) -> Mask:
    """The Mask that "bool:causal", "float:trailing:-1e9", "causal" or the like names. Raises BadInput for others.

    Without a form, values make a mask float; other masks are bool.
    """
    parts = [part for name in text.split(":") for part in _NAMES.get(name, name).split(":")]
    is_float = any(part in VALUES or part in PRECISIONS for part in parts)
    forms = [part for part in parts if part in ("bool", "float")] or ["float" if is_float else "bool"]
    choices: dict[str, tuple[str, ...]] = {
        "pattern": PADDING_PATTERNS if is_padding(argument) else ATTENTION_PATTERNS,
        "layout": LAYOUTS,
    }
    if forms == ["float"]:
        choices |= {"values": VALUES, "dtype": tuple(PRECISIONS)}
    found: dict[str, Any] = {"form": forms[0]}
    for part in [*parts, *forms[1:]]:
        name = next((name for name, values in choices.items() if part in values), None)
        if part in forms[:1]:
            continue
        if part == "per_head" and not is_padding(argument):
            found["per_head"] = True
        elif name is None or name in found:
            known = "".join(f"; at most one {name}: {' '.join(values)}" for name, values in choices.items())
            others = ", ".join(name for name, kind in _NAMES.items() if ":" in kind)
            raise BadInput(
                f"{argument}={text}: {part!r} is unknown or given twice. A mask is one of {others}; or parts with a"
                f" colon between them: bool or float{known}{'; per_head' if not is_padding(argument) else ''}"
            )
        else:
            found[name] = part
    return Mask(**found)


def given_mask(case: Case, name: str, tensor: torch.Tensor) -> Given:
    """The Mask with the elements of a tensor. Raises BadInput if no mask of the call may have its dtype or shape."""
    is_bool = tensor.dtype is torch.bool
    if not (is_bool or tensor.is_floating_point()):
        raise BadInput(f"{name} is {str(tensor.dtype).removeprefix('torch.')}: a mask is bool or float")
    array = tensor.detach().double().numpy() != 0 if is_bool else tensor.detach().double().numpy()
    array = ~array if is_bool and not case.true_hides else array
    padded = array[None] if is_padding(name) and array.ndim == 1 and not case.batched else array
    _check_shape(case, name, padded)
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Given(
        form="bool" if is_bool else "float",
        pattern=_pattern(name, padded),
        per_head=padded.ndim == 3 and case.has_parameters,
        layout=layout_of(tensor),
        dtype=None if is_bool or dtype == case.dtype else dtype,
        content=np.ascontiguousarray(padded).tobytes(),
        shape=padded.shape,
        was_float=not is_bool,
    )


def _pattern(name, array):
    """The pattern that a mask has, where a remedy or a sentence asks for it; else "random"."""
    hides = array if array.dtype == bool else array < 0
    if not hides.any():
        return "none"
    if hides.all():
        return "all"
    is_causal = not is_padding(name) and array.ndim >= 2 and (hides == meaning.causal(*array.shape[-2:])).all()
    return "causal" if is_causal else "scattered" if is_padding(name) else "random"


def _check_shape(case, name, array):
    """Raise BadInput for a shape that no call may have."""
    if isinstance(case, ScaledDotProduct):
        scores = (*case.batch, case.L, case.S)
        try:
            fits = np.broadcast_shapes(array.shape, scores) == scores
        except ValueError:
            fits = False
        allowed = [scores]
    else:
        stream = name.partition("_")[0]
        number_of_queries, number_of_keys = case.number_of_queries(stream), case.number_of_keys(stream)
        allowed = [(number_of_queries, number_of_keys), (case.N * case.num_heads, number_of_queries, number_of_keys)]
        allowed = [(case.N, number_of_keys)] if is_padding(name) else allowed
        fits = array.shape in allowed
    if not fits:
        told = " or ".join(map(str, allowed))
        raise BadInput(f"{name} has shape {array.shape}: the call takes {told}; docs/edge-cases.md has wrong masks")


def layout_of(tensor: torch.Tensor) -> str:
    """The layout (masks.LAYOUTS) of a tensor's memory."""
    strides = _strides(tensor)
    if 0 in strides:
        return "expanded"
    if strides == _strides(tensor.new_empty(tensor.shape)):  # is_contiguous() is true of every empty tensor
        return "contiguous"
    if strides[::-1] == _strides(tensor.new_empty(tensor.shape[::-1])):
        return "transposed"
    if tensor.stride(-1) == 1:
        return "sliced"
    return "stepped" if strides == sorted(strides, reverse=True) else "transposed"


def _strides(tensor):
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size != 1]
