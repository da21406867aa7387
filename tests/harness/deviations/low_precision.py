"""Numbers that a low precision does not have: masks that overflow, sums that lose their terms, tiles of bfloat16."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..cases.case import MultiHead, ScaledDotProduct, masks_of
from ..cases.dtypes import PRECISIONS, rounded
from ..cases.masks import Mask
from ..contents.arrays import directions, mask_arrays
from ..execution.setting import ON_BOTH
from ..expectation.arithmetic import finite, multiplying
from ..expectation.changes import undefined, with_kernel
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.modes import computed_in
from ..path_names import BY_SDPA, EXPLICIT, NATIVE_LAYER, SDPA_MATH
from ..releases import since
from .call import Call
from .effects import beyond, overflowed
from .entry import Deviation
from .facts import (
    absorbs_everything,
    bias_of,
    has_empty_row,
    is_cast,
)
from .fused_cpu import forgetful_blocks
from .mixed_types import mixed_blocks
from .remedies import BY_SMALLER_NUMBER, FIRST_KEY, FLOAT32, MATH_BACKEND, upgrade


def overflowing(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A kernel that adds scores and masks in float16.

    A sum below finfo.min is -inf, and hides its key, so that a row may become fully masked.
    """
    with np.errstate(over="ignore"):
        scaled, keys = (np.asarray(array.real, "float16").astype("float32") for array in (scale * query, key))
        sums = scaled @ np.swapaxes(keys, -1, -2) + np.asarray(finite(bias).real)
        overflows = np.isneginf(np.asarray(sums, "float16"))
    return multiplying(query, key, value, np.where(overflows, -np.inf, bias), scale)


def overflowing_masks(call: Call, blocks: Iterable[str]) -> dict[str, np.ndarray]:
    """{name: bool array} of float masks of these blocks, True at numbers too large for the inputs' dtype."""
    case, limit = call.case, PRECISIONS[call.case.dtype].max
    names = {name for block in blocks for name in case.mask_names(block) if not is_cast(case)}
    names -= _padding_without_numbers(call)
    masks = {name: mask_arrays(case)[name] for name in names & masks_of(case).keys() if masks_of(case)[name].dtype}
    return beyond(masks, limit)


def _padding_without_numbers(call):
    """The names of the padding masks that 1.13 reads as bool or byte by byte, since another mask is given."""
    if since(call.release, "2.0"):
        return set()
    return {call.case.mask_names(block)[1] for form in ("bool", "float") for block in mixed_blocks(call, form)}


def overflow_in_masks(computation: Computation, call: Call, blocks: tuple[str, ...]) -> Computation:
    """The computation with infinity where masks of these blocks overflow, and NaN in fully masked rows."""
    return with_kernel(overflowed(computation, overflowing_masks(call, blocks)), lambda _: multiplying, blocks)


def overflowing_blocks(call: Call) -> tuple[str, ...]:
    """The blocks that add masks in float16, with a query whose visible keys are all masked by about finfo.min."""
    if computed_in(call.case) != "float16":
        return ()
    exact = call.flash_blocks() if not since(call.release, "2.5") else call.blocks(BY_SDPA)
    blocks = call.blocks(EXPLICIT) + tuple(block for block in call.blocks(BY_SDPA) if block not in exact)
    return tuple(block for block in blocks if absorbs_everything(call.case, block, 1e4))


def overflow(computation: Computation, call: Call) -> Computation:
    """The computation in which a sum below finfo.min is -inf."""
    return with_kernel(computation, lambda _: overflowing, overflowing_blocks(call))


@dataclass(frozen=True)
class SummingOnTheMask:
    """A kernel that adds the products of a query and a key to their mask one by one, each sum in bfloat16."""

    kernel: Callable

    def __call__(
        self, query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(context, weights); arguments as in reference.attention.attend."""
        if bias is None:
            return self.kernel(query, key, value, bias, scale)
        q, k = (np.array(rounded(given.real, "bfloat16"), subok=False) for given in (query, key))
        q, mask = rounded(scale * q, "bfloat16"), np.array(finite(bias).real, subok=False)
        sums = np.broadcast_to(rounded(mask, "bfloat16"), (*q.shape[:-1], k.shape[-2]))
        with np.errstate(all="ignore"):  # of garbage and NaN
            for feature in range(q.shape[-1]):
                products = rounded(q[..., feature, None] * k[..., None, :, feature], "bfloat16")
                sums = rounded(sums + products, "bfloat16")
            off = sums - (scale * (query.real @ np.swapaxes(key.real, -1, -2)) + mask)
        return self.kernel(query, key, value, bias + np.where(np.isfinite(off), off, 0), scale)


def blocks_with_sums_on_masks(call: Call) -> tuple[str, ...]:
    """The blocks that add the products of a query and a key to their mask in bfloat16.

    A head with 400 products and more goes to a matrix product, which adds its sum to the mask; so does a batch of more
    than 4096 products, to oneDNN.
    """
    case = call.case
    if computed_in(case) != "bfloat16":
        return ()

    def is_small(block):
        products = case.number_of_queries(block) * case.number_of_keys(block) * case.head_dim
        return products < 400 and products * case.num_heads * case.N <= 4096

    return tuple(
        its for its in call.blocks(EXPLICIT) if is_small(its) and set(case.mask_names(its)) & masks_of(case).keys()
    )


def sums_in_bfloat16(call: Call) -> bool:
    """True if a sum in bfloat16 may have more than 256 terms, the most that bfloat16 counts one by one."""
    longest = max(1, *call.case.lengths)
    return computed_in(call.case) == "bfloat16" and longest > 256


def reads_past_a_row(call: Call) -> bool:
    """True if a tile of bfloat16 may include the memory behind a row, and this memory may hold NaN."""
    case = call.case
    samples = case.N if case.has_parameters else prod(case.batch)
    if computed_in(case) != "bfloat16" or samples * max(1, *case.lengths) <= 16:
        return False
    if case.garbage or case.nan_query or case.nonfinite or (case.layout == "sliced" and not is_cast(case)):
        return True
    return any(has_empty_row(case, block) for block in case.blocks) or _reads_a_row_as_empty(call)


def _reads_a_row_as_empty(call):
    """True if the encoder layer's fast path takes a mask's row without a 0 for fully masked."""
    biases = [bias_of(call.case, block) for block in call.blocks(NATIVE_LAYER)]
    return any(bias is not None and (bias != 0).all(axis=-1).any() for bias in biases)


def spread_nan(computation: Computation, call: Call) -> Computation:
    """The computation in which any number may be NaN.

    If the fused kernel then takes a query of NaN for a fully masked one, any number may be any other.
    """
    is_forgotten = call.case.has_parameters and bool(forgetful_blocks(call))
    computation = replace(computation, may_be_nan=True)
    return undefined(computation, left_out.FORGOTTEN) if is_forgotten else computation


def garbles_gradients(call: Call) -> bool:
    """True if the fused kernel computes gradients in bfloat16 by oneDNN, for heads of one feature.

    oneDNN takes blocks of more than 16 * 16 * 16 products.
    """
    case = call.case
    if computed_in(case) != "bfloat16" or not directions(case):
        return False
    if case.heads < 2 or case.head_dim != 1:
        return False
    return any(
        _products_of_a_block(case.number_of_queries(block), case.number_of_keys(block) + case.appended_keys) > 16**3
        for block in call.flash_blocks()
    )


def _products_of_a_block(L, S):
    """The number of pairs of a query and a key in the first block of the fused kernel's backward pass."""
    rows = 32 if L < 192 else 64 if L < 768 else 256
    return min(L, rows) * min(S, 512)


ENTRIES = (
    Deviation(
        id="explicit-mask-overflows",
        title="A number in a float mask beyond the range of the inputs' dtype becomes infinite",
        affects="<2.1",
        upstream="not found",
        clause=2,
        trigger="a float mask of a higher precision than the inputs with a number beyond their range, such as"
        " finfo.min, if weights are computed explicitly; 2.1 refuses such a mask",
        instead="the mask is converted, and the number becomes infinite: a row that holds only such numbers becomes"
        " fully masked, and gives NaN",
        applies=lambda call: bool(overflowing_masks(call, call.blocks(EXPLICIT))),
        change=lambda computation, call: overflow_in_masks(computation, call, call.blocks(EXPLICIT)),
        pinned=MultiHead(dtype="float32", S=2, attn_mask=Mask("float", "all", "min", dtype="float64")),
        remedies=(BY_SMALLER_NUMBER,),
    ),
    Deviation(
        id="sdpa-mask-overflows",
        title="A number in a float32 mask beyond the range of bfloat16 or float16 becomes infinite",
        affects=">=2.4,<2.5",
        upstream="not found",
        clause=2,
        trigger="a float32 mask with a number beyond the range of bfloat16 or float16 inputs, such as finfo.min, on"
        " the math backend of scaled_dot_product_attention; 2.3 refuses such a mask",
        instead="the mask is converted, and the number becomes infinite: a row that holds only such numbers becomes"
        " fully masked, and gives NaN",
        applies=lambda call: bool(overflowing_masks(call, call.sdpa_blocks(SDPA_MATH))),
        change=lambda computation, call: overflow_in_masks(computation, call, call.sdpa_blocks(SDPA_MATH)),
        pinned=ScaledDotProduct(
            dtype="bfloat16", mode="sdpa_math", attn_mask=Mask("float", "all", "min", dtype="float32")
        ),
        remedies=(BY_SMALLER_NUMBER, upgrade("2.5")),
    ),
    Deviation(
        id="float16-mask-overflow",
        title="In float16 a query whose visible keys are all masked by finfo.min may give NaN",
        affects=">=2.3",
        upstream="not found",
        clause=4,
        trigger="float16, a query whose visible keys are all masked by about finfo.min and have scores below -16, and"
        " a call that returns weights (or, before 2.5, a mask that requires a gradient)",
        instead="score and mask add up to -inf, so that the row becomes fully masked, and gives NaN",
        applies=lambda call: bool(overflowing_blocks(call)),
        change=overflow,
        pinned=MultiHead(
            dtype="float16",
            seed=5,
            L=2,
            S=2,
            attention="self",
            garbage=True,
            attn_mask=Mask("float", "all", "min"),
            key_padding_mask=Mask("float", "one"),
        ),
        devices=ON_BOTH,
        remedies=(BY_SMALLER_NUMBER, FLOAT32),
    ),
    Deviation(
        id="flash-gradient-bfloat16",
        title="In bfloat16 gradients are wrong if a head has one feature",
        affects=">=2.7,<2.11",
        upstream="not found",
        clause=1,
        trigger="bfloat16 or autocast, several heads of head_dim 1, on the CPU's fused kernel, if a block of queries"
        " and keys has more than 4096 pairs. A block has up to 512 keys and 32 queries (64 if there are 192 queries or"
        " more, 256 if there are 768 or more): so from 32 queries on with 129 keys, from 9 on with 512 (seen on CPUs"
        " with AVX512, not on one with AVX2)",
        instead="the gradients of query, key and value are off by their own size or more, and differ from run to run",
        applies=garbles_gradients,
        change=lambda computation, call: replace(computation, undefined_gradient=left_out.RACE),
        pinned=ScaledDotProduct(dtype="bfloat16", autograd="inputs", batch=(1, 2), L=32, S=129),
        every_cpu=False,
        remedies=(MATH_BACKEND, FLOAT32, upgrade("2.11")),
    ),
    Deviation(
        id="bfloat16-sums-on-mask",
        title="In bfloat16 small calls lose digits of the scores beside a large number in a float mask",
        affects=">=2.0,<2.1",
        upstream="pytorch/pytorch#95125",
        clause=1,
        trigger="bfloat16, also of autocast, a mask, and weights computed explicitly, with fewer than 400 products of"
        " queries and keys in a head (L * S * head_dim), and at most 4096 in the batch",
        instead="each product is added to the mask in bfloat16, which rounds as often as a head has features: beside a"
        " mask of 100, a score of 8 features can be off by more than 1",
        applies=lambda call: bool(blocks_with_sums_on_masks(call)),
        change=lambda computation, call: with_kernel(computation, SummingOnTheMask, blocks_with_sums_on_masks(call)),
        pinned=MultiHead(dtype="bfloat16", seed=1, S=2, head_dim=8, attn_mask=Mask("float", "all", "large")),
        remedies=(FLOAT32, upgrade("2.1")),
    ),
    Deviation(
        id="bfloat16-long-sums",
        title="In bfloat16 attention over more than 256 keys loses the contribution of later keys",
        affects=">=2.0,<2.1",
        upstream="pytorch/pytorch#83863",
        clause=1,
        trigger="bfloat16 and a length above 256, on a CPU with AVX2 (not seen on one with AMX; 1.13 does it too, but"
        " is not tested in bfloat16)",
        instead="sums are kept in bfloat16: for 1,024 equal keys a quarter of the right result comes back",
        applies=sums_in_bfloat16,
        change=lambda computation, call: undefined(computation, left_out.LOW_SUMS),
        pinned=MultiHead(dtype="bfloat16", seed=40, S=1025, head_dim=4, attention="cross", need_weights=False),
        every_cpu=False,
        remedies=(FLOAT32, upgrade("2.1"), MATH_BACKEND),
    ),
    Deviation(
        id="bfloat16-nan-spreads",
        title="In bfloat16 a fully masked query makes others NaN, on CPUs with AMX",
        affects=">=2.7",
        upstream="uxlfoundation/oneDNN#5717",
        clause=1,
        trigger="bfloat16 on a CPU with AMX, more than 16 rows of a width that is no multiple of 32, and NaN where the"
        " next row in memory begins: in a fully masked query, in a padded position whose content is NaN or overflows,"
        " or around a slice",
        instead="oneDNN multiplies the memory behind a row by 0, so that NaN there makes the row NaN, whatever the"
        " masks are. Without a mask, and with fewer keys than fill a vector (32), the fused kernel then loses the NaN,"
        " and a wrong number comes back",
        applies=reads_past_a_row,
        change=spread_nan,
        pinned=MultiHead(dtype="bfloat16", L=17, S=33, head_dim=8, attn_mask=Mask("bool", "row")),
        every_cpu=False,
        remedies=(FIRST_KEY, FLOAT32),
    ),
)
