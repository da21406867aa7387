"""The CPU's fused kernel of scaled_dot_product_attention, which torch calls flash, and the choice of kernel."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reference import masks as meaning
from reference.attention import added

from ..cases.case import Case, MultiHead, ScaledDotProduct, drops
from ..cases.dtypes import LOW, PRECISIONS
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.arithmetic import computed_keys, highest, last_block
from ..expectation.changes import raising, undefined, with_kernel
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.modes import BY_ID, MATH, computed_in
from ..modes.written import gives_other_heads
from ..releases import since
from .call import Call
from .effects import MaskingHalfOfAVector, hides_first_block
from .entry import Deviation
from .facts import (
    absorbs_everything,
    bias_of,
    drops_the_mask,
    is_served_by_no_kernel,
    mask_dtype,
    needs_mask_gradient,
)
from .remedies import (
    BY_SMALLER_NUMBER,
    EXPANDED,
    MATH_BACKEND,
    SEES_A_KEY_BEFORE_2_5,
    Condition,
    Remedy,
    changed,
    upgrade,
    with_masks,
)


@dataclass(frozen=True)
class RoundingTheNormaliser:
    """A backward pass that recovers the softmax as exp(score - lse) from the rounded log-sum-exp of a row.

    Beside a score like finfo.min the logarithm is rounded away, and each weight counts as exp(0).
    """

    kernel: Callable  # computes the attention without the deviation
    dtype: str  # of the log-sum-exp

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        if bias is None or not np.iscomplexobj(context):
            return context, weights
        scores = added(scale * (query.real @ np.swapaxes(key.real, -1, -2)), bias.real)
        scores = np.where(meaning.hidden(bias), -np.inf, scores)
        top = highest(scores)
        logarithm = np.log(np.exp(scores - top).sum(axis=-1, keepdims=True))
        lost = logarithm - ((top + logarithm).astype(self.dtype) - top)
        return context.real + 1j * context.imag * np.where(np.isfinite(lost), np.exp(lost), 1), weights


@dataclass(frozen=True)
class MaskingBeforeScaling:
    """The CPU's fused kernel under is_causal=True, which masks scores with -inf before it scales them.

    A negative scale turns -inf into inf, and the row becomes NaN. Keys are computed in blocks of 512, up to the block
    with the last key that some query of a block of queries may see; keys behind it are never read. If the keys fill
    whole vectors of `lanes`, the largest score is inf, not NaN, so that the weights of the backward pass are 0.
    """

    kernel: Callable  # computes the attention without the deviation
    lanes: int | None = None  # float32 numbers in a vector; None if the largest score is always NaN
    forgets: bool = False  # True if a row of NaN that fills whole vectors then counts as fully masked

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        L, S = query.shape[-2], key.shape[-2]
        fills = (last_block(L, S) % (self.lanes or np.inf) == 0)[:, None]
        is_turned = (computed_keys(L, S) > np.arange(L) + 1)[:, None]
        what_remains = context * np.where(fills & self.forgets, 0.0, np.nan)
        return np.where(is_turned, what_remains, context), np.where(
            is_turned, np.where(fills & (scale < 0), 0, np.nan), weights
        )


@dataclass(frozen=True)
class LostInTheFirstBlock:
    """A softmax over blocks of 512 keys that stays NaN if a row sees no key of the first block."""

    kernel: Callable  # computes the attention without the deviation

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_lost = hides_first_block(bias)[..., None]
        return np.where(is_lost, context * np.nan, context), np.where(is_lost, np.nan, weights)


@dataclass(frozen=True)
class ForgettingNaN:
    """A softmax that takes a row of NaN for a fully masked one.

    Beside scores of inf it does so only if the keys fill whole vectors of `lanes`.
    """

    kernel: Callable  # computes the attention without the deviation
    lanes: int  # numbers in a vector, of the dtype in which the kernel keeps its sums

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        lost = np.isnan(query).any(axis=-1)
        if scale < 0 and bias is not None:  # scores of hidden keys are inf
            is_beside_inf = meaning.hidden(bias).any(axis=-1)
            lost &= ~is_beside_inf | (last_block(query.shape[-2], key.shape[-2]) % self.lanes == 0)
        return np.where(lost[..., None], 0.0, context), weights


@dataclass(frozen=True)
class IgnoringTheQuery:
    """A kernel whose scores are 0, even for a query of NaN."""

    kernel: Callable  # computes the attention without the deviation

    def __call__(self, query, key, value, bias, scale):
        return self.kernel(np.zeros_like(query), key, value, bias, scale)


def rounding_flash_blocks(call: Call) -> tuple[str, ...]:
    """The blocks on the fused kernel with a row whose log-sum-exp is too large for its digits.

    Only blocks in a call that is differentiated count, since the log-sum-exp is for the backward pass.
    """
    # the fused kernel takes no float mask that requires a gradient
    if call.case.autograd not in ("inputs", "one_input", "parameters", "one_parameter", "last_layer"):
        return ()
    least = 0.02 / PRECISIONS[summed_in(call.case)].eps  # beside such a number, 0.01 is lost
    return tuple(block for block in call.flash_blocks() if absorbs_everything(call.case, block, least))


def round_the_normaliser(computation: Computation, call: Call) -> Computation:
    """The computation whose backward pass recovers the weights from a rounded log-sum-exp."""
    dtype = summed_in(call.case)
    return with_kernel(computation, lambda kernel: RoundingTheNormaliser(kernel, dtype), rounding_flash_blocks(call))


def half_masked_blocks(call: Call) -> tuple[str, ...]:
    """The blocks on the fused kernel with a float32 mask, float64 inputs and a float32 vector full of keys."""
    if computed_in(call.case) != "float64":
        return ()
    return tuple(
        block
        for block in call.flash_blocks()
        if mask_dtype(call.case, block) == "float32"
        and not needs_mask_gradient(call.case, block)
        and not drops_the_mask(call.case, call.release, block)
        and call.case.number_of_keys(block) + call.case.appended_keys >= lanes_of(call, "float32")
    )


def mask_half_of_a_vector(computation: Computation, call: Call) -> Computation:
    """The computation in which half of the keys of each vector are not masked."""
    lanes = lanes_of(call, "float32")
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), half_masked_blocks(call))


def summed_in(case: Case) -> str:
    """The dtype in which the fused kernel keeps its sums."""
    dtype = computed_in(case)
    return "float32" if dtype in LOW else dtype


def scales_the_causal_mask(call: Call) -> bool:
    """True if the fused kernel gets is_causal=True and a scale that turns -inf into inf or NaN."""
    case = call.case
    if not case.is_causal or case.scale is None:
        return False
    return case.scale <= 0 and case.S > 1 and bool(call.flash_blocks())


def mask_before_scaling(computation: Computation, call: Call) -> Computation:
    """The computation in which scores are masked with -inf before they are scaled.

    Since 2.9 bfloat16 and float16 lose the NaN if the keys fill whole float32 vectors, the type of the scores. With a
    scale of 0 only single scores are NaN. In these dtypes since 2.9, and in 2.5, their place in the vector then decides
    if the NaN is lost, so that the row is undefined.
    """
    lanes = None if computed_in(call.case) == "float64" else {"AVX512": 16, "AVX2": 8}.get(call.vectors)
    is_low = computed_in(call.case) in LOW and since(call.release, "2.9")
    is_2_5 = since(call.release, "2.5") and not since(call.release, "2.6")
    if (is_low or is_2_5) and not call.case.scale:
        hides = np.any(meaning.causal(call.case.L, call.case.S), axis=1)
        computation = undefined(computation, left_out.FORGOTTEN, hides[:, None])
    return with_kernel(computation, partial(MaskingBeforeScaling, lanes=lanes, forgets=is_low), ("sdpa",))


def hides_the_first_keys(call: Call) -> tuple[str, ...]:
    """The blocks on the fused kernel with a query that sees none of the first 512 keys, the first block."""
    return tuple(block for block in call.flash_blocks() if _hides_the_first_keys(call.case, block))


def _hides_the_first_keys(case, block):
    bias = bias_of(case, block)
    width = 0 if bias is None else bias.shape[-1]
    return width >= 512 and width + case.appended_keys > 512 and bool(hides_first_block(bias).any())


def forgets_nan(call: Call) -> tuple[str, ...]:
    """The blocks on the fused kernel that lose the NaN of a query."""
    return forgetful_blocks(call) if call.case.nan_query else ()


def forgetful_blocks(call: Call) -> tuple[str, ...]:
    """The blocks on the fused kernel that take a row of NaN for a fully masked one.

    They have no mask, or one that is_causal replaces, and since 2.6 fewer keys than a vector register holds.
    """
    case = call.case
    return tuple(
        block
        for block in call.flash_blocks()
        if (_vectors(call, block)[0] == 0 or not since(call.release, "2.6"))
        and (_has_no_mask(case, block) or (not case.has_layers and drops_the_mask(case, call.release, block)))
    )


def _has_no_mask(case, block):
    return not any(getattr(case, name) for name in case.mask_names(block))


def scales_nan_by_zero(call: Call) -> bool:
    """True if the fused kernel gets a query that is not finite, and a scale of 0."""
    case = call.case
    return case.nan_query and case.scale == 0 and bool(call.flash_blocks())


def _vectors(call, block):
    """(vector registers that the keys fill, keys that are left)"""
    return divmod(call.case.number_of_keys(block) + call.case.appended_keys, lanes_of(call))


def lanes_of(call: Call, dtype: str | None = None) -> int:
    """How many numbers of this dtype, by default that of the kernel's sums, a vector register holds."""
    return (64 if call.vectors == "AVX512" else 32) // PRECISIONS[dtype or summed_in(call.case)].size


def forget_nan(computation: Computation, call: Call) -> Computation:
    """The computation that loses the NaN of a query."""
    for block in forgets_nan(call):
        computation = with_kernel(computation, partial(ForgettingNaN, lanes=lanes_of(call)), (block,))
    return computation


def is_broadcast_over_keys(call: Call) -> bool:
    """True if the fused kernel gets a mask of size 1 over several keys."""
    case = call.case
    return case.broadcast == "S" and case.S > 1 and bool(call.flash_blocks())


def is_short_of_dimensions(call: Call) -> bool:
    """True if the choice of the kernel reads a dimension that the mask lacks.

    The query has four dimensions, the mask fewer than two.
    """
    case = call.case
    mode = BY_ID[case.mode]
    if not case.broadcast.endswith("-D") or mode.within == MATH or gives_other_heads(case):
        return False
    if not call.blocks("sdpa"):
        return False
    if call.release.device_type == "cuda":
        return _is_looked_at_by_cuda(call)
    if is_served_by_no_kernel(case, call.release):
        return False
    if drops(case):
        return False  # the fused kernel has no dropout
    if case.kv_heads not in (None, case.heads) and not since(call.release, "2.9"):
        return False  # the fused kernel takes no groups of heads
    is_seen = needs_mask_gradient(case, "sdpa") and not (mode.is_forward or mode.maps("masks"))
    return len(case.batch) == 2 and not is_seen


def _is_looked_at_by_cuda(call):
    """True if a kernel of CUDA reads a dimension that the mask lacks; cuDNN's is asked first."""
    case, is_low = call.case, computed_in(call.case) in LOW
    if len(case.batch) != 2 or case.mode == "sdpa_flash":
        return False
    if is_low and case.mode != "sdpa_efficient" and not needs_mask_gradient(case, "sdpa"):
        return True
    unit = 8 if is_low else 4
    is_fit = case.Dv % unit == case.D % unit == 0
    return case.broadcast == "0-D" and is_fit and case.mode != "sdpa_cudnn" and 0 not in (case.L, case.S)


IN_ITS_DTYPE = Remedy("Give the mask as mask.to(query.dtype).", with_masks(lambda mask: replace(mask, dtype=None)))


def _causal(case):
    return replace(case, is_causal=False, attn_mask=Mask("bool", "causal"))


def _masked(case):
    return replace(case, is_causal=False, attn_mask=Mask("bool", "causal" if case.is_causal else "none"))


ENTRIES = (
    Deviation(
        id="flash-gradient-finfo-min",
        title="Gradients are too large by the number of keys if all keys are masked with -1e9 or finfo.min",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="a query whose visible keys all have a large mask, on the CPU's fused kernel: 2e5 or more in size, in"
        " float64 1e14 or more",
        instead="the backward pass recovers the weights from the row's log-sum-exp, which is rounded. In float32 the"
        " gradients that pass through the row are off by up to 1 % at 2e5 and 65 % at 1e7; from 3e8 on they are"
        " multiplied by the number of keys that share the maximum; between 1e7 and 3e8 they are too large or too small"
        " by up to that factor",
        applies=lambda call: bool(rounding_flash_blocks(call)),
        change=round_the_normaliser,
        pinned=ScaledDotProduct(autograd="inputs", S=2, attn_mask=Mask("float", "all", "min")),
        remedies=(MATH_BACKEND, BY_SMALLER_NUMBER),
    ),
    Deviation(
        id="flash-float32-mask",
        title="A float32 mask with a float64 query skips the second half of each vector of keys",
        affects=">=2.4",
        upstream="not found",
        clause=2,
        trigger="a float32 mask with float64 inputs, and at least as many keys as a vector of float32 holds (16 with"
        " AVX512, else 8), on the CPU's fused kernel",
        instead="in each whole vector of keys, the second half is neither masked nor scaled: hidden keys are seen. The"
        " backward pass scales these keys, but does not mask them",
        applies=lambda call: bool(half_masked_blocks(call)),
        change=mask_half_of_a_vector,
        pinned=ScaledDotProduct(S=16, attn_mask=Mask("float", "last_column", dtype="float32")),
        remedies=(IN_ITS_DTYPE, MATH_BACKEND),
    ),
    Deviation(
        id="flash-causal-negative-scale",
        title="is_causal=True with a scale of 0 or less gives NaN",
        affects=">=2.3",
        upstream="not found",
        clause=6,
        trigger="scaled_dot_product_attention with is_causal=True and scale <= 0, on the CPU's fused kernel",
        instead="the mask is scaled too, -inf becomes inf, and every row that hides a key is NaN. In bfloat16 and"
        " float16 since 2.9 the row is 0 if the keys fill whole vectors of 16 (AVX2: 8); with scale=0 it is NaN or 0",
        applies=scales_the_causal_mask,
        change=mask_before_scaling,
        pinned=ScaledDotProduct(L=2, S=2, is_causal=True, scale=-1.0),
        remedies=(
            Remedy("Give a causal attn_mask in place of is_causal=True.", _causal, cost="memory for the mask"),
            MATH_BACKEND,
        ),
    ),
    Deviation(
        id="flash-first-keys-hidden",
        title="A query that sees none of the first 512 keys gets NaN",
        affects=">=2.3,<2.4.1",
        upstream="pytorch/pytorch#127055",
        clause=1,
        trigger="a row of the mask hides the first 512 keys, but not all keys, on the CPU's fused kernel",
        instead="the row is NaN",
        applies=lambda call: bool(hides_the_first_keys(call)),
        change=lambda computation, call: with_kernel(computation, LostInTheFirstBlock, hides_the_first_keys(call)),
        pinned=MultiHead(seed=232, S=513, attention="cross", key_padding_mask=Mask("bool", "left"), need_weights=False),
        remedies=(upgrade("2.4.1"), MATH_BACKEND),
    ),
    Deviation(
        id="flash-mask-one-key",
        title="A mask of size 1 over keys is read past its end",
        affects=">=2.3,<2.5",
        upstream="pytorch/pytorch#128816",
        clause=1,
        trigger="attn_mask (..., L, 1), which broadcasts over keys, in scaled_dot_product_attention on the CPU's fused"
        " kernel",
        instead="the kernel reads the memory behind the mask: the output is undefined",
        applies=is_broadcast_over_keys,
        change=lambda computation, call: undefined(computation, left_out.MEMORY),
        pinned=ScaledDotProduct(L=3, S=5, D=4, Dv=4, attn_mask=Mask("float", "all", "finite"), broadcast="S"),
        remedies=(
            EXPANDED,
            MATH_BACKEND,
            upgrade("2.5"),
        ),
    ),
    Deviation(
        id="sdpa-mask-of-few-dimensions",
        title="scaled_dot_product_attention raises for a mask of one dimension or none",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="attn_mask of shape (S,) or (), which broadcasts to the scores, with a query of four dimensions; on"
        " CUDA in bfloat16 and float16, and for shape () also if head_dim is a multiple of 4",
        instead="IndexError: the choice of the kernel asks for the mask's second-last dimension",
        applies=is_short_of_dimensions,
        change=lambda computation, call: raising(
            computation, "IndexError", "Dimension (out of range|specified as -[12])"
        ),
        pinned=ScaledDotProduct(dtype="bfloat16", S=2, attn_mask=Mask("bool", "one"), broadcast="1-D"),
        devices=ON_BOTH,
        stage="attention",
        remedies=(
            Remedy(
                "Give the mask two dimensions: mask[None].",
                changed(broadcast="L", mask_batch=()),
                only=(Condition("the mask is (S,)", lambda case: case.broadcast == "1-D"), SEES_A_KEY_BEFORE_2_5),
            ),
            replace(MATH_BACKEND, only=(*MATH_BACKEND.only, SEES_A_KEY_BEFORE_2_5)),
        ),
    ),
    Deviation(
        id="flash-nan-query-zero",
        title="A query that is NaN gives 0",
        affects=">=2.5",
        upstream="pytorch/pytorch#141128",
        clause=1,
        trigger="a NaN or inf in the query, with no mask or a causal one, on the CPU's fused kernel; since 2.6 only"
        " with fewer keys than a vector register holds (8 in float64, 16 in other dtypes with AVX512, else half of"
        " that)",
        instead="the context of the query is 0, as if the query were fully masked: the NaN is lost silently",
        applies=lambda call: bool(forgets_nan(call)),
        change=forget_nan,
        pinned=ScaledDotProduct(nan_query=True),
        remedies=(
            MATH_BACKEND,
            Remedy("Give a mask: one that hides nothing, or the causal one.", _masked, cost="memory for the mask"),
        ),
    ),
    Deviation(
        id="flash-scale-zero-forgets-nan",
        title="A query that is NaN is lost if scale is 0",
        affects=">=2.1,<2.3",
        upstream="not found",
        clause=1,
        trigger="a NaN or inf in the query and scale=0, with no mask or a causal one, on the CPU's fused kernel",
        instead="the output is the plain mean of the values that the query sees: the kernel does not compute a product"
        " that it would scale by 0",
        applies=scales_nan_by_zero,
        change=lambda computation, call: with_kernel(computation, IgnoringTheQuery, ("sdpa",)),
        pinned=ScaledDotProduct(nan_query=True, scale=0.0),
        remedies=(
            MATH_BACKEND,
            Remedy("Give a mask: one that hides nothing, or the causal one.", _masked, cost="memory for the mask"),
        ),
    ),
)
