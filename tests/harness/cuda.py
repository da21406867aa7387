"""What CUDA's kernels make of a call, as measured with 2.11 on an H100. A call is a situations.Call."""

from dataclasses import replace
from functools import partial

from reference.transformer import gelu_tanh

from . import left_out
from .arrays import directions, inputs
from .behaviours import (
    hiding_by_a_number,
    multiplying_by_log2e,
    nowhere_a_number,
    raising,
    undefined,
    with_activation,
    with_kernel,
)
from .cases import MultiHead, ScaledDotProduct
from .dispatch import every_block
from .given_nested import meets_no_native_path
from .modes import BY_ID, computed_in
from .situations import absorbs_everything, drops_the_mask, is_cast, keys, mask_names, needs_mask_gradient
from .subject import lay_out
from .triggers import is_biased_past_its_keys, is_nested, native_layers, packs_no_sample

EFFICIENT, CUDNN, FLASH = "sdpa_efficient", "sdpa_cudnn", "sdpa_flash"


def overflowing_blocks(call):
    """The blocks where all that some query sees is masked by a number that overflows if it is multiplied by log2(e)."""
    if computed_in(call.case) == "float16":
        return ()
    blocks = call.sdpa_blocks(EFFICIENT, CUDNN)
    return tuple(block for block in blocks if absorbs_everything(call.case, block, 2.35e38))


def overflow(computation, call):
    """What overflows hides."""
    return with_kernel(computation, lambda _: multiplying_by_log2e, overflowing_blocks(call))


def is_one_for_all_keys(call, kernel):
    """Whether this kernel is given a mask of size 1 over several keys."""
    case = call.case
    return (
        isinstance(case, ScaledDotProduct) and case.broadcast == "S" and case.S > 1 and bool(call.sdpa_blocks(kernel))
    )


def copies_nothing(call):
    """Whether the efficient kernel is given a tensor that counts as contiguous, with a stride that it cannot take."""
    case = call.case
    if not isinstance(case, ScaledDotProduct) or not call.sdpa_blocks(EFFICIENT):
        return False
    aligned = 4 if computed_in(case) == "float32" else 8
    tensors = [lay_out(array, case.layout, case.dtype) for array in inputs(case).values()]
    return any(
        tensor.is_contiguous() and any(stride % aligned for stride in tensor.stride()[:-1]) for tensor in tensors
    )


def learns_masks_alone(call):
    """The blocks on the efficient kernel whose float mask is differentiated, and nothing else that they are given."""
    case = call.case
    if case.autograd != "mask" or BY_ID[case.mode].is_forward:
        return ()
    learned = [block for block in every_block(case) if needs_mask_gradient(case, block) and not _drops(call, block)]
    if is_nested(call):  # its masks are read as bool ones
        learned = [block for block in learned if block != "src"]
    if len(learned) > 1:  # a decoder's memory and its queries depend on the masks before
        learned = [block for block in learned if block != "memory"]
    return tuple(block for block in learned if call.kernel_of_first(block) == EFFICIENT)


def _drops(call, block):
    return not isinstance(call.case, ScaledDotProduct) and drops_the_mask(call.case, call.release, block)


def has_one_head(case):
    """Whether attention is computed for one head of one sample."""
    samples, heads = case.batch if isinstance(case, ScaledDotProduct) else (case.N, case.num_heads)
    return samples * heads == 1


def hides_by_a_number(call):
    """Whether cuDNN is given a bool mask, which torch makes a float one for it."""
    case = call.case
    has_bool = isinstance(case, ScaledDotProduct) and case.attn_mask is not None and not case.attn_mask.is_float
    has_bool &= case.mode != "causal_lower_right"  # which is no mask, but a way to be causal
    return has_bool and bool(call.sdpa_blocks(CUDNN)) and not is_one_for_all_keys(call, CUDNN)


def hide_by_a_number(computation, call):
    """Where garbage comes to be seen, derivatives are of its size, and cancel."""
    computation = with_kernel(computation, lambda _: hiding_by_a_number, ("sdpa",))
    reason = left_out.GARBAGE if call.case.garbage else computation.undefined_gradient
    return replace(computation, undefined_gradient=reason)


def scales_what_is_hidden(call):
    """Whether a kernel hides what lies behind the last key before it scales, by 0 or less, or cuDNN goes back so."""
    case = call.case
    if not isinstance(case, ScaledDotProduct) or case.scale is None or case.scale > 0:
        return False
    if case.attn_mask is not None and case.mode != "causal_lower_right":
        return bool(call.sdpa_blocks(CUDNN)) and bool(directions(case))
    return bool(call.sdpa_blocks(FLASH, CUDNN))


def become_nan(computation, call):
    """Beside a mask gradients are NaN. Without, all is if keys don't fill a block, else what comes is undefined."""
    case = call.case
    if case.attn_mask is not None and case.mode != "causal_lower_right":
        return replace(computation, undefined_gradient=left_out.FORGOTTEN)
    block = 128 if call.sdpa_blocks(CUDNN) or case.D <= 64 else 64
    if case.S % block == 0 or (call.sdpa_blocks(CUDNN) and case.L == 1):
        return undefined(computation, left_out.MEMORY)
    return with_kernel(computation, lambda _: nowhere_a_number, ("sdpa",))


def hides_whole_rows(call):
    """Whether the efficient kernel is given a causal bias, aligned at the last key, for more queries than keys."""
    case = call.case
    if not is_biased_past_its_keys(call) or not call.sdpa_blocks(EFFICIENT):
        return False
    return (case.L - case.S) % 64 > 0 or bool(directions(case))


def see_something(computation, call):
    """Rows of a block in which others see a key get numbers, and there are no right gradients."""
    is_shared = (call.case.L - call.case.S) % 64 > 0
    if is_shared:
        return undefined(computation, left_out.MEMORY)
    return replace(computation, undefined_gradient=left_out.MEMORY)


def maps_sequences_beside_a_mask(call):
    """Whether vmap gives the efficient kernel more samples than its mask has."""
    case = call.case
    if case.mode != "vmap_of_sequences":
        return False
    return any(any(_masks(case, block)) and not _drops(call, block) for block in call.sdpa_blocks(EFFICIENT))


def copies_a_mask_in_vmap(call):
    """Whether a mask for all samples, which vmap copies for each, is given to the efficient kernel with odd strides."""
    case = call.case
    if case.mode != "vmap":
        return False
    return any(_is_copied(case, block) and not _drops(call, block) for block in call.sdpa_blocks(EFFICIENT))


def _is_copied(case, block):
    samples = case.batch[0] if isinstance(case, ScaledDotProduct) else case.N
    attn_mask, *padding = _masks(case, block)
    is_shared = attn_mask is not None and not attn_mask.per_head and not any(padding) and not _is_of_each(case)
    return is_shared and samples > 1 and keys(case, block) % 4 > 0


def _masks(case, block):
    return [getattr(case, name) for name in mask_names(case, block)]


def _is_of_each(case):
    """Whether the mask of scaled_dot_product_attention has a slice for each sample."""
    return isinstance(case, ScaledDotProduct) and len(case.mask_batch) == 2 and case.mask_batch[0] == case.batch[0] > 1


def blocks_with_gelu(call):
    """The blocks of encoder layers whose native path computes a GELU."""
    return native_layers(call, "gelu", "gelu_tanh")


def take_tanh(computation, call):
    """The GELU that comes with a product of matrices, or where that has one column only, torch's own."""
    activation = partial(gelu_tanh, root=0.79788456) if call.case.dim_feedforward > 1 else gelu_tanh
    return with_activation(computation, activation, blocks_with_gelu(call))


def unpacks_slowly(call):
    """Whether a native path is given a nested tensor of a dtype for which CUDA has no fast conversion."""
    case = call.case
    if case.dtype in ("float32", "float16"):
        return False
    is_given = bool(call.lengths) and any(call.lengths) and not isinstance(case, ScaledDotProduct)
    return is_nested(call) or (is_given and not meets_no_native_path(call))


def views_no_sample(call):
    """Whether the native path of an attention without weights looks for a fused kernel, for no samples."""
    case = call.case
    if isinstance(case, ScaledDotProduct) or case.N > 0 or getattr(case, "need_weights", False):
        return False
    return case.head_dim % 8 == 0 and bool(call.blocks("native_mha"))


def attends_for_no_sample(call):
    """Whether cuDNN's kernel is given a batch of no samples."""
    case = call.case
    is_empty = 0 in case.batch if isinstance(case, ScaledDotProduct) else case.N == 0
    return is_empty and bool(call.sdpa_blocks(CUDNN))


def return_nothing(computation, call):
    """The function returns None, of which a module asks for what None has not."""
    if isinstance(call.case, ScaledDotProduct):
        return replace(computation, lost=("output",))
    return raising(computation, "AttributeError", "'NoneType' object has no attribute")


def packs_no_sample_fast(call):
    """Whether it is to pack a batch of no samples, in a dtype for which CUDA has a fast conversion."""
    return packs_no_sample(call) and call.release.device_type == "cuda" and call.case.dtype in ("float32", "float16")


def casts_weights_back(call):
    """Whether weights are computed under autocast."""
    case = call.case
    return is_cast(case) and isinstance(case, MultiHead) and case.need_weights
