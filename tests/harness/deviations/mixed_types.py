"""An attention mask given with a float padding mask (1.13)."""

from dataclasses import replace

import numpy as np

from ..cases.case import MultiHead, masks_of, source_of
from ..cases.dtypes import PRECISIONS, rounded
from ..cases.masks import Mask, Merged
from ..contents.arrays import mask_arrays
from ..expectation.arithmetic import multiplying
from ..expectation.changes import raising, with_kernel, with_masks
from ..expectation.specification import Computation
from ..path_names import EXPLICIT
from .call import Call
from .entry import Deviation
from .facts import is_empty
from .nested_tensors import truncates
from .remedies import EVERY_QUERY_SEES_A_KEY, MASKS_ONLY_HIDE, Condition, Remedy, upgrade


def mixed_blocks(call: Call, form: str) -> list[str]:
    """The explicit blocks that get a float padding mask and an attention mask of this form, "bool" or "float"."""
    served = [block for block in call.blocks(EXPLICIT) if not (source_of(block) == "memory" and truncates(call))]
    served = [block for block in served if not is_empty(call.case, block)]
    masks = {block: [getattr(call.case, name) for name in call.case.mask_names(block)] for block in served}
    return [
        block
        for block, (attn_mask, padding) in masks.items()
        if attn_mask and padding and attn_mask.form == form and padding.is_float
    ]


def reads_padding_as_bool(computation: Computation, call: Call) -> Computation:
    """The computation in which every number other than 0 in the padding mask hides its key."""
    blocks = mixed_blocks(call, "bool")
    names = [call.case.mask_names(block)[1] for block in blocks]
    masks = {name: mask_arrays(call.case)[name] != 0 for name in names}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def unreadable_blocks(call: Call) -> list[str]:
    """The blocks that read the lowest byte of each number in their padding masks, and raise: one is neither 0 nor 1."""
    names = {block: call.case.mask_names(block)[1] for block in mixed_blocks(call, "float")}
    return [block for block, name in names.items() if (_lowest_bytes_of(call.case, name) > 1).any()]


def reads_padding_bytes(computation: Computation, call: Call) -> Computation:
    """The computation in which the lowest byte of each number in the padding mask is read as a bool.

    The call raises if a byte is neither 0 nor 1.
    """
    blocks = mixed_blocks(call, "float")
    names = [call.case.mask_names(block)[1] for block in blocks]
    if unreadable_blocks(call):
        return raising(computation, "RuntimeError", "Mask tensor can take 0 and 1 values only")
    masks = {name: _lowest_bytes_of(call.case, name) == 1 for name in names}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def _lowest_bytes_of(case, name):
    dtype = masks_of(case)[name].dtype_beside(case.dtype)
    return lowest_bytes(rounded(mask_arrays(case)[name], dtype), dtype)


def lowest_bytes(array: np.ndarray, dtype: str) -> np.ndarray:
    """The byte at the address of each number of this torch dtype, on a little-endian machine."""
    first = array.itemsize - PRECISIONS[dtype].size
    return np.ascontiguousarray(array).view(np.uint8)[..., first :: array.itemsize]


ONE_ATTENTION = Condition("the module is nn.MultiheadAttention", lambda case: not case.has_layers)


def merged(case: MultiHead) -> MultiHead:
    """The case of a multi-head attention with both masks merged into the attention mask."""
    both = Merged("float", per_head=True, attn_mask=case.attn_mask, key_padding_mask=case.key_padding_mask)
    return replace(case, attn_mask=both, key_padding_mask=None)


MERGED = Remedy(
    "Add both masks, and give the sum as an attention mask of shape (N * num_heads, L, S).",
    merged,
    only=(ONE_ATTENTION, EVERY_QUERY_SEES_A_KEY),
    cost="memory for the mask",
)

ENTRIES = (
    Deviation(
        id="bool-mask-float-padding",
        title="A float padding mask given with a bool mask is read as a bool mask",
        affects="<2.0",
        upstream="pytorch/pytorch#92554",
        clause=2,
        trigger="attn_mask is bool; key_padding_mask is float, and holds values other than 0 and -inf or requires a"
        " gradient",
        instead="every key whose padding mask is not 0 is hidden",
        applies=lambda call: bool(mixed_blocks(call, "bool")),
        change=reads_padding_as_bool,
        pinned=MultiHead(S=2, attn_mask=Mask("bool", "none"), key_padding_mask=Mask("float", "one", "finite")),
        remedies=(MERGED, upgrade("2.0")),
    ),
    Deviation(
        id="float-mask-float-padding",
        title="A float padding mask given with a float mask is ignored, or raises",
        affects="<2.0",
        upstream="pytorch/pytorch#92554",
        clause=1,
        trigger="attn_mask and key_padding_mask are both float",
        instead="the lowest byte of each padding value is read: 0 ignores the value (so does the byte of -inf), 1"
        " hides the key, any other raises RuntimeError",
        applies=lambda call: bool(mixed_blocks(call, "float")),
        change=reads_padding_bytes,
        pinned=MultiHead(S=2, attn_mask=Mask("float", "none"), key_padding_mask=Mask("float", "one", "inf")),
        stage="attention",
        remedies=(
            Remedy(
                "Give the padding mask as bool.",
                lambda case: replace(
                    case,
                    **{
                        name: replace(mask, form="bool")
                        for name, mask in masks_of(case).items()
                        if name.endswith("key_padding_mask")
                    },
                ),
                only=(MASKS_ONLY_HIDE,),
            ),
            MERGED,
            upgrade("2.0"),
        ),
    ),
)
