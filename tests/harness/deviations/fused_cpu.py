"""The CPU's fused kernel of scaled_dot_product_attention, which torch calls flash, and the choice of it."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from reference import masks as meaning
from reference.attention import added

from ..cases.case import MultiHead, ScaledDotProduct, drops
from ..cases.dtypes import LOW, PRECISIONS
from ..cases.masks import Mask
from ..execution.setting import ON_BOTH
from ..expectation.arithmetic import computed_keys, highest, last_block
from ..expectation.changes import raising, undefined, with_kernel
from ..judgement import left_out
from ..modes.modes import BY_ID, MATH, computed_in
from ..releases import since
from .effects import MaskingHalfOfAVector, hides_first_block
from .entry import Deviation
from .facts import (
    absorbs_everything,
    bias_of,
    drops_the_mask,
    mask_dtype,
    mask_names,
    needs_mask_gradient,
    number_of_appended_keys,
    number_of_keys,
)
from .remedies import (
    BY_SMALLER_NUMBER,
    EXPANDED,
    IN_ITS_DTYPE,
    MATH_BACKEND,
    SEES_A_KEY_BEFORE_2_5,
    Condition,
    Remedy,
    _causal,
    _masked,
    changed,
    upgrade,
)


@dataclass(frozen=True)
class RoundingTheNormaliser:
    """A backward pass that recovers softmax as exp(score - lse) from lse, a row's log-sum-exp, rounded to `dtype`.

    Beside a score like finfo.min the logarithm is rounded away, and each weight counts as exp(0).
    """

    kernel: object
    dtype: str

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
    """The CPU's fused kernel under is_causal=True: hidden scores are -inf before they are scaled.

    By a negative scale -inf becomes inf, and the row NaN. Keys are computed in blocks of 512, up to the block that
    holds the last key that any query of a block of queries may see; further ones are never looked at. Where keys fill
    whole vectors of `lanes`, of float32, the largest score is inf and no NaN, so that on the way back weights are 0;
    never, if None. forgets: whether such a row of NaN is then taken for one that sees no key.
    """

    kernel: object
    lanes: int | None = None
    forgets: bool = False

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
    """A softmax over blocks of 512 keys that is NaN for good where a row sees nothing in the first."""

    kernel: object

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        is_lost = hides_first_block(bias)[..., None]
        return np.where(is_lost, context * np.nan, context), np.where(is_lost, np.nan, weights)


@dataclass(frozen=True)
class ForgettingNaN:
    """A softmax that takes a row of NaN for one that sees no key; beside inf where whole vectors of `lanes` hold it."""

    kernel: object
    lanes: int

    def __call__(self, query, key, value, bias, scale):
        context, weights = self.kernel(query, key, value, bias, scale)
        lost = np.isnan(query).any(axis=-1)
        if scale < 0 and bias is not None:  # what a causal mask hides is inf then
            is_beside_inf = meaning.hidden(bias).any(axis=-1)
            lost &= ~is_beside_inf | (last_block(query.shape[-2], key.shape[-2]) % self.lanes == 0)
        return np.where(lost[..., None], 0.0, context), weights


@dataclass(frozen=True)
class IgnoringTheQuery:
    """Scores of 0, whatever the query holds."""

    kernel: object

    def __call__(self, query, key, value, bias, scale):
        return self.kernel(np.zeros_like(query), key, value, bias, scale)


def rounding_flash_blocks(call):
    """The blocks on the fused kernel that are differentiated, where a row's log-sum-exp is too large for its digits."""
    # a float mask that requires a gradient is not for the fused kernel
    if call.case.autograd not in ("inputs", "one_input", "one_parameter", "last_layer"):
        return ()
    least = 0.02 / PRECISIONS[summed_in(call.case)].eps  # beside which 0.01 is lost
    return tuple(block for block in call.flash_blocks() if absorbs_everything(call.case, block, least))


def round_the_normaliser(computation, call):
    """Weights are recovered from what is left of the log-sum-exp."""
    dtype = summed_in(call.case)
    return with_kernel(computation, lambda kernel: RoundingTheNormaliser(kernel, dtype), rounding_flash_blocks(call))


def half_masked_blocks(call):
    """The blocks on the fused kernel that have a float32 mask beside float64, and a vector of float32 full of keys."""
    if computed_in(call.case) != "float64":
        return ()
    return tuple(
        block
        for block in call.flash_blocks()
        if mask_dtype(call.case, block) == "float32"
        and not needs_mask_gradient(call.case, block)
        and not drops_the_mask(call.case, call.release, block)
        and number_of_keys(call.case, block) + number_of_appended_keys(call.case) >= lanes_of(call, "float32")
    )


def mask_half_of_a_vector(computation, call):
    """Half of the keys of each vector are not masked."""
    lanes = lanes_of(call, "float32")
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), half_masked_blocks(call))


def summed_in(case):
    """The dtype in which the fused kernel keeps its sums."""
    dtype = computed_in(case)
    return "float32" if dtype in LOW else dtype


def scales_the_causal_mask(call):
    """True if the fused kernel is given a causal mask and a scale that turns it around, or makes it NaN."""
    case = call.case
    if not (isinstance(case, ScaledDotProduct) and case.is_causal and case.scale is not None):
        return False
    return case.scale <= 0 and case.S > 1 and bool(call.flash_blocks())


def mask_before_scaling(computation, call):
    """Since 2.9 a low precision forgets NaN where keys fill whole vectors of float32, in which scores are.

    A scale of 0 makes NaN of single scores. Where these lie in a vector decides which are forgotten, then and in 2.5.
    """
    lanes = None if computed_in(call.case) == "float64" else {"AVX512": 16, "AVX2": 8}.get(call.vectors)
    is_low = computed_in(call.case) in LOW and since(call.release, "2.9")
    is_2_5 = since(call.release, "2.5") and not since(call.release, "2.6")
    if (is_low or is_2_5) and not call.case.scale:
        hides = meaning.causal(call.case.L, call.case.S).any(axis=1)
        computation = undefined(computation, left_out.FORGOTTEN, hides[:, None])
    return with_kernel(computation, partial(MaskingBeforeScaling, lanes=lanes, forgets=is_low), ("sdpa",))


def hides_the_first_keys(call):
    """The blocks on the fused kernel where a query sees none of the first 512 keys, which are computed together."""
    return tuple(block for block in call.flash_blocks() if _hides_the_first_keys(call.case, block))


def _hides_the_first_keys(case, block):
    bias = bias_of(case, block)
    number_of_keys = 0 if bias is None else bias.shape[-1]
    return (
        number_of_keys >= 512
        and number_of_keys + number_of_appended_keys(case) > 512
        and bool(hides_first_block(bias).any())
    )


def forgets_nan(call):
    """The blocks on the fused kernel whose NaN is lost."""
    return forgetful_blocks(call) if call.case.nan_query else ()


def forgetful_blocks(call):
    """Those that take NaN for a row without a key: without a mask, and since 2.6 with fewer keys than a vector."""
    case = call.case
    return tuple(
        block
        for block in call.flash_blocks()
        if (_vectors(call, block)[0] == 0 or not since(call.release, "2.6"))
        and (_has_no_mask(case, block) or (isinstance(case, MultiHead) and drops_the_mask(case, call.release, block)))
    )


def _has_no_mask(case, block):
    return not any(getattr(case, name) for name in mask_names(case, block))


def scales_nan_by_zero(call):
    """True if the fused kernel is given a query that is not finite, and is to scale its scores by 0."""
    case = call.case
    return case.nan_query and getattr(case, "scale", None) == 0 and bool(call.flash_blocks())


def _vectors(call, block):
    """(how many vector registers the keys fill, how many keys are left)"""
    return divmod(number_of_keys(call.case, block) + number_of_appended_keys(call.case), lanes_of(call))


def lanes_of(call, dtype=None):
    """How many numbers a vector register holds: those in which products are computed, or of this dtype."""
    return (64 if call.vectors == "AVX512" else 32) // PRECISIONS[dtype or computed_in(call.case)].size


def forget_nan(computation, call):
    """The NaN of a query is lost."""
    for block in forgets_nan(call):
        computation = with_kernel(computation, partial(ForgettingNaN, lanes=lanes_of(call)), (block,))
    return computation


def is_broadcast_over_keys(call):
    """True if the fused kernel is given a mask of size 1 over several keys."""
    case = call.case
    return isinstance(case, ScaledDotProduct) and case.broadcast == "S" and case.S > 1 and bool(call.flash_blocks())


def is_short_of_dimensions(call):
    """True if scaled_dot_product_attention is given four dimensions, and a mask of less than two."""
    case = call.case
    mode = BY_ID[case.mode]
    if not isinstance(case, ScaledDotProduct) or not case.broadcast.endswith("-D") or mode.within == MATH:
        return False
    if call.release.device_type == "cuda":
        return _is_looked_at_by_cuda(call)
    if since(call.release, "2.12") and 0 in (*case.batch, case.L, case.S):
        return False  # nothing is to be done
    if drops(case):
        return False  # which the fused kernel does not do
    if case.kv_heads not in (None, case.batch[-1]) and not since(call.release, "2.9"):
        return False  # groups of heads are not for the fused kernel
    return len(case.batch) == 2 and (mode.is_forward or not needs_mask_gradient(case, "sdpa"))


def _is_looked_at_by_cuda(call):
    """True if a kernel of CUDA that might serve looks for a dimension that the mask lacks: cuDNN's is asked first."""
    case, is_low = call.case, computed_in(call.case) in LOW
    if len(case.batch) != 2 or case.mode == "sdpa_flash":
        return False
    if is_low and case.mode != "sdpa_efficient" and not needs_mask_gradient(case, "sdpa"):
        return True
    unit = 8 if is_low else 4
    is_fit = case.Dv % unit == case.D % unit == 0
    return case.broadcast == "0-D" and is_fit and case.mode != "sdpa_cudnn" and 0 not in (case.L, case.S)


ENTRIES = (
    Deviation(
        id="flash-gradient-finfo-min",
        title="Gradients are too large by the number of keys where all are masked with -1e9 or finfo.min",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="a row whose visible keys all have a mask of large size, on the CPU's fused kernel: from 2e5 on, in"
        " float64 from 1e14 on",
        instead="the backward pass recovers the weights from the row's log-sum-exp, which is rounded: in float32 the"
        " gradients that pass through the row are off by up to 1 % at 2e5, by a third at 1e7, and multiplied by the"
        " number of keys that share the maximum from 1e8 on",
        applies=lambda call: bool(rounding_flash_blocks(call)),
        change=round_the_normaliser,
        pinned=ScaledDotProduct(autograd="inputs", S=2, attn_mask=Mask("float", "all", "min")),
        remedies=(MATH_BACKEND, BY_SMALLER_NUMBER),
    ),
    Deviation(
        id="flash-float32-mask",
        title="Of a float32 mask beside a float64 query every second half of a vector is not applied",
        affects=">=2.4",
        upstream="not found",
        clause=2,
        trigger="a float32 mask beside float64 inputs, and at least as many keys as a vector of float32 holds (16 with"
        " AVX512, else 8), on the CPU's fused kernel",
        instead="of the keys of each whole vector the second half is neither masked nor scaled: hidden keys are seen."
        " The backward pass scales them, but does not mask them",
        applies=lambda call: bool(half_masked_blocks(call)),
        change=mask_half_of_a_vector,
        pinned=ScaledDotProduct(S=16, attn_mask=Mask("float", "random", dtype="float32")),
        remedies=(IN_ITS_DTYPE, MATH_BACKEND),
    ),
    Deviation(
        id="flash-causal-negative-scale",
        title="is_causal=True with a scale of 0 or less gives NaN",
        affects=">=2.3",
        upstream="not found",
        clause=6,
        trigger="scaled_dot_product_attention with is_causal=True and scale <= 0, on the CPU's fused kernel",
        instead="the mask is scaled too, -inf becomes inf, and every row that hides a key is NaN; in bfloat16 and"
        " float16 since 2.9 it is 0 where keys fill whole vectors of 16 (AVX2: 8), with scale=0 NaN or 0",
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
        trigger="a row of the mask hides the first 512 keys but not all, on the CPU's fused kernel",
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
        trigger="attn_mask (..., L, 1) broadcasts over keys, in scaled_dot_product_attention on the CPU's fused kernel",
        instead="the kernel reads the memory behind the mask: the numbers are undefined",
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
        title="scaled_dot_product_attention raises for a mask of one dimension",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="attn_mask of shape (S,) or (), which broadcasts to the scores, beside a query of four dimensions; on"
        " CUDA in bfloat16 and float16, of shape () also where head_dim is a multiple of 4",
        instead="IndexError: the choice of the kernel asks for the mask's second last dimension",
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
        trigger="a NaN or inf in the query, no mask or a causal one, on the CPU's fused kernel; since 2.6 only with"
        " fewer keys than a vector register holds (8 of float64, 16 of float32 with AVX512, else half of that)",
        instead="the context of that query is 0, as if it saw no key: the NaN is lost without a trace",
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
        title="A query that is NaN is lost where scale is 0",
        affects=">=2.1,<2.3",
        upstream="not found",
        clause=1,
        trigger="a NaN or inf in the query and scale=0, no mask or a causal one, on the CPU's fused kernel",
        instead="the plain mean of the values that the query sees: a product that is scaled by 0 is not computed",
        applies=scales_nan_by_zero,
        change=lambda computation, call: with_kernel(computation, IgnoringTheQuery, ("sdpa",)),
        pinned=ScaledDotProduct(nan_query=True, scale=0.0),
        remedies=(
            MATH_BACKEND,
            Remedy("Give a mask: one that hides nothing, or the causal one.", _masked, cost="memory for the mask"),
        ),
    ),
)
