"""Where the deviations of the ledger apply, and the changes that depend on it. A call is a situations.Call."""

from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from reference import masks as meaning
from reference.transformer import relu

from . import dispatch, left_out
from .arrays import directions, mask_arrays, nonfinite_positions, the_parameter
from .behaviours import (
    Arithmetic,
    ForgettingNaN,
    MaskingBeforeScaling,
    MaskingHalfOfAVector,
    RoundingTheNormaliser,
    SummingTheQuery,
    hides_first_block,
    multiplying,
    overflowing,
    packed,
    raising,
    truncated,
    undefined,
    with_activation,
    with_arithmetic,
    with_kernel,
    with_masks,
)
from .cases import MultiHead, ScaledDotProduct, Transformer, attentions, masks_of
from .dispatch import since, source
from .dropping import drops
from .modes import BY_ID, MATH, computed_in
from .precision import LOW, PRECISIONS, rounded
from .situations import (
    absorbs_everything,
    drops_the_mask,
    gives_float,
    has_empty_row,
    has_nonzero_finite,
    is_cast,
    is_empty,
    is_exactly_causal,
    keys,
    mask_dtype,
    mask_names,
    merged,
    needs_mask_gradient,
    queries,
    samples,
)


def sees_nothing_on(*paths):
    """Whether a block on one of these paths has a query that sees no key."""

    def applies(call):
        return any(has_empty_row(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def computes_plainly_on(*paths):
    """NaN where a query sees no key, and wherever that spreads to."""

    def change(computation, call):
        blocks = sum((call.blocks(path) for path in paths), ())
        return with_kernel(computation, lambda _: multiplying, blocks)

    return change


def hides_nonfinite_on(*paths):
    """Whether a block on one of these paths has a key that no query may see, and that is not finite."""

    def applies(call):
        return any(_holds_nonfinite(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def _holds_nonfinite(case, block):
    if isinstance(case, ScaledDotProduct):
        return bool(nonfinite_positions(case))
    sources = {attn_mask: key_input for attn_mask, _, key_input in attentions(case)}
    return sources[mask_names(case, block)[0]] in nonfinite_positions(case)


def add_to_nonfinite(computation, call):
    """Where weights are computed explicitly, -inf is added to the scores of hidden keys."""
    return with_arithmetic(computation, Arithmetic(), call.blocks("explicit"))


def fill_nonfinite(computation, call):
    """On the native paths scores of hidden keys are -inf, whatever they were."""
    return with_arithmetic(computation, Arithmetic(fills=True), call.blocks("native_mha") + call.blocks("native_layer"))


def multiply_nonfinite(computation, call):
    """scaled_dot_product_attention adds -inf, but its fused kernel fills in what is_causal=True hides."""
    is_safe = since(call.release, "2.5")
    filling = tuple(block for block in call.flash_blocks() if _is_hidden_by_causality(call, block))
    adding = tuple(block for block in call.blocks("sdpa") if block not in filling)
    computation = with_arithmetic(computation, Arithmetic(is_safe=is_safe), adding)
    return with_arithmetic(computation, Arithmetic(fills=True, is_safe=is_safe, skips=True), filling)


def _is_hidden_by_causality(call, block):
    case = call.case
    return case.is_causal if isinstance(case, ScaledDotProduct) else drops_the_mask(case, call.release, block)


def reads_float_as_bool(call):
    """Whether the native encoder layer is given a float mask that a bool one could not express."""
    return any(has_nonzero_finite(call.case, block) for block in call.blocks("native_layer"))


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
        and keys(call.case, block) + appended(call.case) >= _lanes(call, "float32")
    )


def mask_half_of_a_vector(computation, call):
    """Half of the keys of each vector are not masked."""
    lanes = _lanes(call, "float32")
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), half_masked_blocks(call))


def overflowing_masks(call, blocks):
    """{name: where it does}: the float masks of these blocks that hold a number too large for the inputs' dtype."""
    case, limit = call.case, PRECISIONS[call.case.dtype].max
    names = {name for block in blocks for name in mask_names(case, block) if not is_cast(case)}
    names -= _padding_without_numbers(call)
    masks = {name: mask_arrays(case)[name] for name in names & masks_of(case).keys() if masks_of(case)[name].dtype}
    return beyond(masks, limit)


def beyond(masks, limit):
    """{name: where it does}: the masks that hold a finite number larger than the limit."""
    places = {name: np.isfinite(array) & (np.abs(array) > limit) for name, array in masks.items()}
    return {name: where for name, where in places.items() if where.any()}


def overflowed(computation, places):
    """The computation with masks that are infinite there. A conversion has a derivative there, too."""
    given = computation.arguments
    return with_masks(
        computation,
        {
            name: given[name] + np.where(where, np.copysign(np.inf, given[name].real), 0)
            for name, where in places.items()
        },
    )


def _padding_without_numbers(call):
    """The names of the padding masks that 1.13 reads as bool or byte by byte, beside another mask."""
    if since(call.release, "2.0"):
        return set()
    return {mask_names(call.case, block)[1] for form in ("bool", "float") for block in mixed_blocks(call, form)}


def overflow_in_masks(computation, call, blocks):
    """The masks of these blocks as they are added: infinite where they overflow. A row that sees no key is NaN."""
    return with_kernel(overflowed(computation, overflowing_masks(call, blocks)), lambda _: multiplying, blocks)


def summed_in(case):
    """The dtype in which the fused kernel keeps its sums."""
    dtype = computed_in(case)
    return "float32" if dtype in LOW else dtype


def overflowing_blocks(call):
    """The blocks that add scores to a mask in float16 where all that some query sees is masked by finfo.min."""
    if computed_in(call.case) != "float16":
        return ()
    exact = call.flash_blocks() if not since(call.release, "2.5") else call.blocks("sdpa")
    blocks = call.blocks("explicit") + tuple(block for block in call.blocks("sdpa") if block not in exact)
    return tuple(block for block in blocks if absorbs_everything(call.case, block, 1e4))


def overflow(computation, call):
    """What is less than finfo.min is -inf."""
    return with_kernel(computation, lambda _: overflowing, overflowing_blocks(call))


def scales_the_causal_mask(call):
    """Whether the fused kernel is given a causal mask and a scale that turns it around, or makes it NaN."""
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


def sums_in_bfloat16(call):
    """Whether there may be a sum of more terms than a number in bfloat16 can count one by one."""
    longest = max(getattr(call.case, name, 1) for name in ("L", "S", "T"))
    return computed_in(call.case) == "bfloat16" and longest > 256


def reads_past_a_row(call):
    """Whether a tile of bfloat16 may take in what lies in memory behind a row, and that may be NaN."""
    case = call.case
    samples = prod(case.batch) if isinstance(case, ScaledDotProduct) else case.N
    longest = max(getattr(case, name, 1) for name in ("L", "S", "T"))
    if computed_in(case) != "bfloat16" or samples * longest <= 16:
        return False
    if case.garbage or case.nan_query or case.nonfinite or (case.layout == "sliced" and not is_cast(case)):
        return True
    return any(has_empty_row(case, block) for block in dispatch.every_block(case)) or _reads_a_row_as_empty(call)


def _reads_a_row_as_empty(call):
    """Whether the native encoder layer, for which all that is not 0 hides, finds a row of a mask without a 0."""
    biases = [merged(call.case, block) for block in call.blocks("native_layer")]
    return any(bias is not None and (bias != 0).all(axis=-1).any() for bias in biases)


def spread_nan(computation, call):
    """Any number may be NaN; where the fused kernel forgets a query that has become so, any other number."""
    is_forgotten = not isinstance(call.case, ScaledDotProduct) and bool(_forgetful_blocks(call))
    computation = replace(computation, may_be_nan=True)
    return undefined(computation, left_out.FORGOTTEN) if is_forgotten else computation


def takes_a_mask_for_the_other(call):
    """Whether an export looks for a size of attn_mask among those of key_padding_mask, which has no such dimension."""
    case = call.case
    if case.mode != "exported_dynamic" or not isinstance(case, MultiHead):
        return False
    if not (case.attn_mask and case.key_padding_mask) or (case.batched and not case.attn_mask.per_head):
        return False
    further = (case.S,) if case.batched or not case.attn_mask.per_head else (case.L, case.S)
    return max(further) > 1


def garbles_gradients(call):
    """Whether the fused kernel goes back through heads of one feature in bfloat16, over more than one block."""
    case = call.case
    if computed_in(case) != "bfloat16" or not directions(case):
        return False
    if isinstance(case, ScaledDotProduct):
        heads, width, of_queries = case.batch[-1], case.D, {"sdpa": case.L}
    else:
        heads, width = case.num_heads, case.head_dim
        of_queries = {block: queries(case, block) for block in call.flash_blocks()}
    return (
        heads > 1
        and width == 1
        and any(
            keys(case, block) > (64 if of_queries[block] >= 192 else 128) - appended(case)
            for block in call.flash_blocks()
        )
    )


def appended(case):
    """How many keys are appended."""
    return getattr(case, "add_bias_kv", False) + getattr(case, "add_zero_attn", False)


def hides_the_first_keys(call):
    """The blocks on the fused kernel where a query sees none of the first 512 keys, which are computed together."""
    return tuple(block for block in call.flash_blocks() if _hides_the_first_keys(call.case, block))


def _hides_the_first_keys(case, block):
    bias = merged(case, block)
    keys = 0 if bias is None else bias.shape[-1]
    return keys >= 512 and keys + appended(case) > 512 and bool(hides_first_block(bias).any())


def computes_again(call):
    """Whether a module is called through a checkpoint, and autograd goes back through it."""
    case = call.case
    if case.mode != "checkpoint" or _needs_nothing_saved(case):
        return False
    if case.autograd != "mask":
        return bool(directions(case))
    lost = {*dropped_masks(call), *(["src_key_padding_mask"] if is_nested(call) else [])}
    return bool(directions(case).keys() - lost)


def _needs_nothing_saved(case):
    """Whether the only parameter that is trained is the last thing added to the result."""
    if case.autograd != "one_parameter":
        return False
    if isinstance(case, MultiHead):
        return the_parameter(case) == "out_proj.bias"
    adds_last = case.norm_first and not case.norm and case.module != "Transformer"
    last = "linear2.bias" if case.module.endswith("Layer") else f"layers.{case.num_layers - 1}.linear2.bias"
    return adds_last and the_parameter(case) == last


def forgets_nan(call):
    """The blocks on the fused kernel whose NaN is lost."""
    return _forgetful_blocks(call) if call.case.nan_query else ()


def _forgetful_blocks(call):
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


def gives_no_weights_natively(call, mode):
    """Whether the native path of nn.MultiheadAttention, in this mode, is not asked for weights, or has none to give."""
    case = call.case
    if case.mode != mode or not isinstance(case, MultiHead):
        return False
    blocks = call.blocks("native_mha")
    return bool(blocks) and (not case.need_weights or is_empty(case, *blocks))


def computes_no_scores(call):
    """Whether the fused kernel is given a query that is not finite, and is to scale its scores by 0."""
    case = call.case
    return case.nan_query and getattr(case, "scale", None) == 0 and bool(call.flash_blocks())


def _vectors(call, block):
    """(how many vector registers the keys fill, how many keys are left)"""
    return divmod(keys(call.case, block) + appended(call.case), _lanes(call))


def _lanes(call, dtype=None):
    """How many numbers a vector register holds: those in which products are computed, or of this dtype."""
    return (64 if call.vectors == "AVX512" else 32) // PRECISIONS[dtype or computed_in(call.case)].size


def forget_nan(computation, call):
    """The NaN of a query is lost."""
    for block in forgets_nan(call):
        computation = with_kernel(computation, partial(ForgettingNaN, lanes=_lanes(call)), (block,))
    return computation


def is_biased_past_its_keys(call):
    """Whether a causal bias that is aligned at the last key is made for more queries than keys."""
    case = call.case
    return case.mode == "causal_lower_right" and case.L > case.S


def is_broadcast_over_keys(call):
    """Whether the fused kernel is given a mask of size 1 over several keys."""
    case = call.case
    return isinstance(case, ScaledDotProduct) and case.broadcast == "S" and case.S > 1 and bool(call.flash_blocks())


def differentiates(call, path):
    """Whether only float masks require a gradient, and one of a block on this path does."""
    return call.case.autograd == "mask" and any(needs_mask_gradient(call.case, block) for block in call.blocks(path))


def converts_masks(call):
    """Whether a native path is given a mask that is not bool, or that the module has made so, and has a use for it."""
    blocks = call.blocks("native_mha") + call.blocks("native_layer")
    blocks = [block for block in blocks if not is_empty(call.case, block)]
    if since(call.release, "2.0"):
        return any(merged(call.case, block) is not None for block in blocks)
    return any(gives_float(call.case, block) for block in blocks)


def blocks_without_a_bias(call):
    """The blocks whose native path is given no bias, which it takes from 2.1 on only if there is one."""
    return () if getattr(call.case, "bias", True) else call.blocks("native_mha")


def native_layers(call, *activations):
    """The blocks of encoder layers on their native path, if they have one of these activations."""
    if getattr(call.case, "activation", None) not in activations:
        return ()
    paths = dispatch.paths(call.case, call.release)  # the nested path's, too
    return tuple(block for block, path in paths.items() if path == "native_layer")


def loses_its_activation(call):
    """Whether a decoder layer that has been copied, as every stack copies its layer, had a module for activation."""
    case = call.case
    has_module = isinstance(case, Transformer) and case.has_decoder and case.activation == "gelu_tanh"
    return has_module and (case.module != "TransformerDecoderLayer" or BY_ID[case.mode].copies_module)


def take_relu(computation, call):
    """The copy's activation, which TorchScript finds to be no module."""
    if call.case.mode == "scripted":
        return raising(computation, "AssertionError", "Expected Module but got")
    return with_activation(computation, relu, ("tgt",))


def misses_a_bias(computation, call):
    """What nn.MultiheadAttention(bias=False) raises on its native path."""
    if since(call.release, "1.13.1"):
        return raising(computation, "TypeError", "'qkv_bias'.* must be Tensor, not NoneType")
    return raising(computation, "AttributeError", "'NoneType' object has no attribute 'is_cuda'")


def mixed_blocks(call, form):
    """The explicit blocks that are given an attention mask of this form and a float padding mask."""
    served = [block for block in call.blocks("explicit") if not (source(block) == "memory" and truncates(call))]
    served = [block for block in served if not is_empty(call.case, block)]
    masks = {block: [getattr(call.case, name) for name in mask_names(call.case, block)] for block in served}
    return [
        block
        for block, (attn_mask, padding) in masks.items()
        if attn_mask and padding and attn_mask.form == form and padding.is_float
    ]


def reads_padding_as_bool(computation, call):
    """What is not 0 hides."""
    blocks = mixed_blocks(call, "bool")
    names = [mask_names(call.case, block)[1] for block in blocks]
    masks = {name: mask_arrays(call.case)[name] != 0 for name in names}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def reads_padding_bytes(computation, call):
    """The lowest byte of each number is taken for a bool; if it cannot be one, the call raises."""
    blocks = mixed_blocks(call, "float")
    names = [mask_names(call.case, block)[1] for block in blocks]
    lowest = {name: _lowest_bytes_of(call.case, name) for name in names}
    if any((array > 1).any() for array in lowest.values()):
        return raising(computation, "RuntimeError", "Mask tensor can take 0 and 1 values only")
    masks = {name: array == 1 for name, array in lowest.items()}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def _lowest_bytes_of(case, name):
    dtype = masks_of(case)[name].dtype_beside(case.dtype)
    return lowest_bytes(rounded(mask_arrays(case)[name], dtype), dtype)


def lowest_bytes(array, dtype):
    """The byte at the address of each number of a dtype of torch, on a little-endian machine."""
    first = array.itemsize - PRECISIONS[dtype].size
    return np.ascontiguousarray(array).view(np.uint8)[..., first :: array.itemsize]


def dropped_masks(call):
    """The names of the float masks that get no gradient since is_causal takes their place."""
    if isinstance(call.case, ScaledDotProduct):
        return ()
    blocks = [block for block in call.blocks("sdpa") if needs_mask_gradient(call.case, block)]
    dropped = [block for block in blocks if drops_the_mask(call.case, call.release, block)]
    return tuple(mask_names(call.case, block)[0] for block in dropped)


def masks_taken_for_causal(call):
    """{name: the causal mask in its place} of those that is_causal replaces, since a trace was made with others."""
    if BY_ID[call.case.mode].family != "traced" or not isinstance(call.case, Transformer):
        return {}
    dropped = [block for block in call.blocks("sdpa") if drops_the_mask(call.case, call.release, block)]
    masks = {name: mask_arrays(call.case)[name] for name in (mask_names(call.case, block)[0] for block in dropped)}
    return {
        name: meaning.causal(*mask.shape)
        for name, mask in masks.items()
        if mask.ndim == 2 and not is_exactly_causal(mask)
    }


def take_for_causal(computation, call):
    """is_causal takes the place of the masks."""
    return with_masks(computation, masks_taken_for_causal(call))


def views_nothing(call):
    """The blocks where a mask for each sample is viewed by heads where there is no sample or no key."""
    case = call.case
    if isinstance(case, ScaledDotProduct):
        return ()
    native, viewing = call.blocks("native_mha") + call.blocks("native_layer"), call.blocks("sdpa")
    native += tuple(block for block in call.blocks("explicit") if dispatch.prepares_masks(case, call.release, block))
    viewing += left_by_later_layers(call, native)
    viewing = [block for block in viewing if not drops_the_mask(case, call.release, block)]
    return (
        *(block for block in native if _views_nothing(case, block, False)),
        *(block for block in viewing if samples(case) * case.num_heads != 1 and _views_nothing(case, block, True)),
    )


def left_by_later_layers(call, native):
    """The native blocks, of these, that later layers compute otherwise: what the first one returns has a gradient.

    A learned mask makes it so. There scaled_dot_product_attention serves, before 2.0 the explicit path.
    """
    is_seen = call.case.autograd == "mask" and not BY_ID[call.case.mode].is_forward
    if getattr(call.case, "num_layers", 1) == 1 or not is_seen or memory_is_too_short(call):
        return ()
    return tuple(block for block in native if _sees_a_gradient(call, block))


def _sees_a_gradient(call, block):
    """Whether what the first layer makes of a learned mask closes the native path of this block in later layers."""
    learned = [name for name, mask in masks_of(call.case).items() if mask.is_float]
    if is_nested(call):  # which reads the mask as a bool one
        learned = [name for name in learned if not name.startswith("src")]
    if since(call.release, "2.12") and block not in call.blocks("native_layer"):  # nothing comes back without autograd
        learned = [name for name in learned if _has_effect(call.case, name)]
    return any(name.startswith("src") or block == "tgt" for name in learned)


def _has_effect(case, name):
    """Whether there is a score to which the mask is added."""
    return mask_arrays(case)[name].size > 0 and (name.startswith("src") or case.T > 0)


def _views_nothing(case, block, views_padding):
    attn_mask, padding = (masks_of(case).get(name) for name in mask_names(case, block))
    appends = getattr(case, "add_bias_kv", False) or getattr(case, "add_zero_attn", False)
    has_nothing = case.N == 0 or (keys(case, block) == 0 and not appends)
    return has_nothing and bool((attn_mask and attn_mask.per_head) or (padding and views_padding))


def keyless_blocks(call):
    """The blocks of scaled_dot_product_attention that have no key to see."""
    appends = getattr(call.case, "add_bias_kv", False) or getattr(call.case, "add_zero_attn", False)
    return () if appends else tuple(block for block in call.blocks("sdpa") if keys(call.case, block) == 0)


def spreads_what_is_not_finite(computation, call):
    """Of queries that add up to no finite number nothing but NaN comes back."""
    limit = PRECISIONS[call.case.dtype].max
    return with_kernel(computation, lambda kernel: SummingTheQuery(kernel, limit), keyless_blocks(call))


def loses_empty_weights(call):
    """Whether nn.MultiheadAttention is asked for weights of nothing on its native path."""
    case = call.case
    return (
        isinstance(case, MultiHead) and case.need_weights and case.N * case.L == 0 and bool(call.blocks("native_mha"))
    )


def has_no_heads(call):
    """Whether the fused kernel is given something to compute, but no heads."""
    case = call.case
    return (
        isinstance(case, ScaledDotProduct)
        and case.batch[-1:] == (0,)
        and case.L * case.S > 0
        and bool(call.flash_blocks())
    )


def is_short_of_dimensions(call):
    """Whether scaled_dot_product_attention is given four dimensions, and a mask of less than two."""
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
    """Whether a kernel of CUDA that might serve looks for a dimension that the mask lacks: cuDNN's is asked first."""
    case, is_low = call.case, computed_in(call.case) in LOW
    if len(case.batch) != 2 or case.mode == "sdpa_flash":
        return False
    if is_low and case.mode != "sdpa_efficient" and not needs_mask_gradient(case, "sdpa"):
        return True
    unit = 8 if is_low else 4
    is_fit = case.Dv % unit == case.D % unit == 0
    return case.broadcast == "0-D" and is_fit and case.mode != "sdpa_cudnn" and 0 not in (case.L, case.S)


def unpacks_too_late(call):
    """Whether a packed batch arrives at a layer that takes no native path."""
    rest, alone = _packed_blocks(call)
    if alone and packs_nothing(call):  # where the attention alone is native, it unpacks a batch of padding at once
        return False
    return len(alone) < len(rest)


def _packed_blocks(call):
    """The blocks given a packed batch off the native path of their layer, and those of them with a native attention."""
    case, release = call.case, call.release
    paths = dispatch.paths(case, release).items() if is_nested(call) else ()
    rest = [block for block, path in paths if dispatch.source(block) == "src" and path != "native_layer"]
    if case.dropout and not since(release, "2.0"):  # then it keeps the attention from its native path, in eval as well
        return rest, []
    return rest, [block for block in rest if dispatch.fast_path_is_open(case, release, block, "attention")]


def norms_a_packed_batch(call):
    """Whether a packed batch arrives at a layer whose attention alone takes its native path."""
    rest, alone = _packed_blocks(call)
    return bool(alone) and rest == alone


def saves_a_packed_batch(call):
    """Whether that happens within a checkpoint, which asks all that autograd saves for its shape."""
    return call.case.mode == "checkpoint" and norms_a_packed_batch(call) and not _unpacks_in_time(call)


def _unpacks_in_time(call):
    """Whether the attention that alone is native unpacks the batch first, as it does where all is padding."""
    return packs_nothing(call) and (since(call.release, "2.2") or call.case.N * call.case.S == 0)


def adds_packed_batches(call):
    """Whether TorchScript is to go back through a sum of packed batches, for which it asks for their sizes.

    Nothing that comes before the last norm is to be gone back through where only that is trained.
    """
    case = call.case
    is_last = case.autograd == "one_parameter" and ".norm2." in the_parameter(case)
    is_optimized = BY_ID[case.mode].family in ("scripted", "traced") and not is_last
    return is_optimized and norms_a_packed_batch(call) and not _unpacks_in_time(call)


def packs_under_a_transform(call):
    """Whether the encoder packs something where torch.func differentiates."""
    case = call.case
    is_transformed = BY_ID[case.mode].family in ("func_vjp", "func_jvp") and bool(directions(case))
    return is_transformed and is_nested(call) and case.N * case.S > 0


def packs_no_sample(call):
    """Whether the encoder packs a batch of no samples."""
    return is_nested(call) and call.case.N == 0


def looks_at_no_position(call):
    """Whether the encoder asks where the padding is, or packs, where there are no positions."""
    case = call.case
    if not isinstance(case, Transformer) or case.S:
        return False
    return dispatch.asks_for_alignment(case, call.release) or is_nested(call)


def gives_mask_and_hint(call):
    """Whether a multi-head attention off the native path is given a mask and a hint about it."""
    case = call.case
    return isinstance(case, MultiHead) and case.is_causal and not call.blocks("native_mha")


def hides_appended_keys(call):
    """Whether a causal hint takes the place of a mask, and there are keys that no mask hides."""
    appends = getattr(call.case, "add_bias_kv", False) or getattr(call.case, "add_zero_attn", False)
    return appends and any(drops_the_mask(call.case, call.release, block) for block in call.blocks("sdpa"))


def misses_the_layers_biases(call):
    """Whether an encoder layer without biases asks them for their device before anything else, in 2.1 and 2.2."""
    asks = since(call.release, "2.1") and not since(call.release, "2.3")
    return asks and dispatch.looks_for_missing_biases(call.case, call.release)


def is_nested(call):
    """Whether the encoder packs the batch into a nested tensor."""
    return dispatch.nested(call.case, call.release)


def is_unaligned(call):
    """Whether it packs although padding comes before content, which mask_check would have prevented."""
    return is_nested(call) and not dispatch.is_left_aligned(dispatch.nested_lengths(call.case)[1])


def packs_what_is_hidden(call):
    """Whether it packs, and leaves out just what the mask hides."""
    return is_nested(call) and not is_unaligned(call) and not has_nonzero_finite(call.case, "src")


def truncates(call):
    """Whether the longest sample is shorter than the batch."""
    if not is_nested(call):
        return False
    return dispatch.nested_lengths(call.case)[0].max(initial=0) < call.case.S


def memory_is_too_short(call):
    """Whether the first layer of the decoder raises over what the encoder has cut off."""
    return (
        not since(call.release, "2.1")
        and truncates(call)
        and bool(call.case.memory_mask or call.case.memory_key_padding_mask)
    )


def truncate(computation, call):
    """With a memory that is too short for them, masks of the right shape are wrong."""
    computation = truncated(packed(computation, call.case))
    if BY_ID[call.case.mode].family == "traced" and memory_is_too_short(call):  # what it is traced with passes
        return raising(computation, "RuntimeError", "The following operation failed in the TorchScript interpreter")
    if call.case.memory_mask is not None:
        return raising(computation, "RuntimeError", r"The shape of the [23]D attn_mask is .*, but should be")
    if call.case.memory_key_padding_mask is not None:
        return raising(computation, "AssertionError", "expecting key_padding_mask shape of")
    return computation


def packs_nothing(call):
    """Whether it packs a batch of padding only."""
    return is_nested(call) and not dispatch.nested_lengths(call.case)[0].any()
