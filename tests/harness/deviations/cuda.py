"""What CUDA's kernels make of a call, as measured with 2.11 on an H100. A call is a call.Call."""

from dataclasses import replace
from functools import partial

import numpy as np

from reference import masks as meaning
from reference.transformer import gelu_tanh

from ..cases.case import MultiHead, ScaledDotProduct, Transformer
from ..cases.masks import Mask
from ..contents.arrays import directions, inputs
from ..execution.call import lay_out
from ..execution.setting import ON_CUDA
from ..expectation.arithmetic import multiplying, multiplying_safely
from ..expectation.changes import raising, undefined, warning, with_activation, with_kernel
from ..judgement import left_out
from ..modes.modes import BY_ID, computed_in
from .causal_hints import is_biased_past_its_keys
from .entry import Deviation
from .facts import absorbs_everything, drops_the_mask, is_cast, mask_names, needs_mask_gradient, number_of_keys
from .given_nested import meets_no_native_path
from .native import native_layers
from .nested_tensors import is_nested, packs_no_sample_fast
from .paths import every_block
from .remedies import (
    _SLOWER,
    BY_SMALLER_NUMBER,
    EXPANDED,
    FLOAT32,
    MATH_BACKEND,
    NO_EMPTY_MASK,
    NOT_NESTED,
    Remedy,
    changed,
    off_the_fast_path,
    untested,
    with_masks,
    without,
)


def hiding_by_a_number(query, key, value, bias, scale):
    """Hidden keys are those with the least number of float16 in place of -inf, added to scores in float32."""
    scores = scale * (query.real @ np.swapaxes(key, -1, -2).real)
    added = np.where(meaning.hidden(bias), -65504.0, bias.real)
    sums = (np.asarray(scores, "float32") + np.asarray(added, "float32")).astype("float64")
    rounded = sums - np.asarray(scores, "float64")
    return multiplying(query, key, value, rounded - rounded.max(axis=-1, keepdims=True, initial=-np.inf), scale)


def multiplying_by_log2e(query, key, value, bias, scale):
    """Powers of 2 take the place of those of e: what overflows where it is multiplied by log2(e) hides."""
    overflows = bias.real < -np.finfo("float32").max / np.log2(np.e)
    return multiplying_safely(query, key, value, np.where(overflows, -np.inf, bias), scale)


def nowhere_a_number(query, key, value, bias, scale):
    """Everything is NaN."""
    context, weights = multiplying(query, key, value, bias, scale)
    return context * np.nan, weights


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
    """True if this kernel is given a mask of size 1 over several keys."""
    case = call.case
    return (
        isinstance(case, ScaledDotProduct) and case.broadcast == "S" and case.S > 1 and bool(call.sdpa_blocks(kernel))
    )


def copies_nothing(call):
    """True if the efficient kernel is given a tensor that counts as contiguous, with a stride that it cannot take."""
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
    """True if attention is computed for one head of one sample."""
    samples, heads = case.batch if isinstance(case, ScaledDotProduct) else (case.N, case.num_heads)
    return samples * heads == 1


def hides_by_a_number(call):
    """True if cuDNN is given a bool mask, which torch makes a float one for it."""
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
    """True if a kernel hides what lies behind the last key before it scales, by 0 or less, or cuDNN goes back so."""
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
    """True if the efficient kernel is given a causal bias, aligned at the last key, for more queries than keys."""
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
    """True if vmap gives the efficient kernel more samples than its mask has."""
    case = call.case
    if case.mode != "vmap_of_sequences":
        return False
    return any(any(_masks(case, block)) and not _drops(call, block) for block in call.sdpa_blocks(EFFICIENT))


def copies_a_mask_in_vmap(call):
    """True if a mask for all samples, which vmap copies for each, is given to the efficient kernel with odd strides."""
    case = call.case
    if case.mode != "vmap":
        return False
    return any(_is_copied(case, block) and not _drops(call, block) for block in call.sdpa_blocks(EFFICIENT))


def _is_copied(case, block):
    samples = case.batch[0] if isinstance(case, ScaledDotProduct) else case.N
    attn_mask, *padding = _masks(case, block)
    is_shared = attn_mask is not None and not attn_mask.per_head and not any(padding) and not _is_of_each(case)
    return is_shared and samples > 1 and number_of_keys(case, block) % 4 > 0


def _masks(case, block):
    return [getattr(case, name) for name in mask_names(case, block)]


def _is_of_each(case):
    """True if the mask of scaled_dot_product_attention has a slice for each sample."""
    return isinstance(case, ScaledDotProduct) and len(case.mask_batch) == 2 and case.mask_batch[0] == case.batch[0] > 1


def blocks_with_gelu(call):
    """The blocks of encoder layers whose native path computes a GELU."""
    return native_layers(call, "gelu", "gelu_tanh")


def take_tanh(computation, call):
    """The GELU that comes with a product of matrices, or where that has one column only, torch's own."""
    activation = partial(gelu_tanh, root=0.79788456) if call.case.dim_feedforward > 1 else gelu_tanh
    return with_activation(computation, activation, blocks_with_gelu(call))


def unpacks_slowly(call):
    """True if a native path is given a nested tensor of a dtype for which CUDA has no fast conversion."""
    case = call.case
    if case.dtype in ("float32", "float16"):
        return False
    is_given = bool(call.lengths) and any(call.lengths) and not isinstance(case, ScaledDotProduct)
    return is_nested(call) or (is_given and not meets_no_native_path(call))


def views_no_sample(call):
    """True if the native path of an attention without weights looks for a fused kernel, for no samples."""
    case = call.case
    if isinstance(case, ScaledDotProduct) or case.N > 0 or getattr(case, "need_weights", False):
        return False
    return case.head_dim % 8 == 0 and bool(call.blocks("native_mha"))


def attends_for_no_sample(call):
    """True if cuDNN's kernel is given a batch of no samples."""
    case = call.case
    is_empty = 0 in case.batch if isinstance(case, ScaledDotProduct) else case.N == 0
    return is_empty and bool(call.sdpa_blocks(CUDNN))


def return_nothing(computation, call):
    """The function returns None, of which a module asks for what None has not."""
    if isinstance(call.case, ScaledDotProduct):
        return replace(computation, lost=("output",))
    return raising(computation, "AttributeError", "'NoneType' object has no attribute")


def casts_weights_back(call):
    """True if weights are computed under autocast."""
    case = call.case
    return is_cast(case) and isinstance(case, MultiHead) and case.need_weights


ENTRIES = (
    Deviation(
        id="efficient-mask-alone",
        title="A float mask cannot be learned alone on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#148476",
        clause=5,
        trigger="a float mask requires a gradient, and no query, key or value does, on the efficient kernel, of"
        " several heads or samples",
        instead="backward raises: the sums that it needs were not kept",
        applies=lambda call: bool(learns_masks_alone(call)) and not has_one_head(call.case),
        change=lambda computation, call: raising(computation, "RuntimeError", "LSE is not correctly aligned"),
        pinned=ScaledDotProduct(
            dtype="float32", autograd="mask", batch=(1, 2), D=4, Dv=4, attn_mask=Mask("float", "none", "finite")
        ),
        devices=ON_CUDA,
        stage="backward",
        remedies=untested((Remedy("Let the query require a gradient, too.", changed(autograd="grad")),)),
    ),
    Deviation(
        id="efficient-mask-alone-one-head",
        title="To learn a float mask of one head alone is an illegal memory access on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#148476",
        clause=5,
        trigger="a float mask requires a gradient, and no query, key or value does, on the efficient kernel, of one"
        " head of one sample",
        instead="backward reads sums that were not kept, after which the process cannot use the device",
        applies=lambda call: bool(learns_masks_alone(call)) and has_one_head(call.case),
        change=lambda computation, call: raising(computation, "AcceleratorError", "illegal memory access"),
        pinned=ScaledDotProduct(
            dtype="float32", autograd="mask", L=2, S=5, D=4, Dv=4, attn_mask=Mask("float", "causal")
        ),
        devices=ON_CUDA,
        ends=True,
        stage="backward",
        remedies=untested((Remedy("Let the query require a gradient, too.", changed(autograd="grad")),)),
    ),
    Deviation(
        id="native-layer-gelu",
        title="nn.TransformerEncoderLayer computes another GELU in eval on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="activation='gelu', or any nn.GELU, on the native path of the encoder layer, on CUDA",
        instead="the approximation by tanh takes the place of the exact one, in float64 too: off by up to 5e-4",
        applies=lambda call: bool(blocks_with_gelu(call)),
        change=take_tanh,
        pinned=Transformer(num_heads=2, head_dim=2, activation="gelu"),
        devices=ON_CUDA,
        remedies=untested(off_the_fast_path()),
    ),
    Deviation(
        id="fused-finfo-min",
        title="A query all of whose keys are masked by finfo.min gets 0 on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#110213",
        clause=2,
        trigger="a row whose visible keys all have a mask of about torch.finfo(torch.float32).min, on the efficient"
        " kernel or cuDNN's, in float32 or bfloat16",
        instead="the kernel multiplies it by log2(e), which overflows: the row sees no key, and is 0",
        applies=lambda call: bool(overflowing_blocks(call)),
        change=overflow,
        pinned=ScaledDotProduct(dtype="float32", D=4, Dv=4, attn_mask=Mask("float", "all", "min")),
        devices=ON_CUDA,
        remedies=untested((BY_SMALLER_NUMBER,)),
    ),
    Deviation(
        id="cudnn-bool-mask",
        title="A query that sees no key sees all of them on cuDNN's kernel",
        affects=">=2.11",
        upstream="not found",
        clause=4,
        trigger="scaled_dot_product_attention with a bool attn_mask in bfloat16 or float16 where cuDNN serves (on an"
        " H100 by default)",
        instead="the mask is added as 0 and -65504: a row that hides every key attends as if it hid none, and a key"
        " with a score that is larger still is seen",
        applies=hides_by_a_number,
        change=hide_by_a_number,
        pinned=ScaledDotProduct(dtype="float16", L=2, S=2, D=8, Dv=8, attn_mask=Mask("bool", "all")),
        devices=ON_CUDA,
        remedies=untested(
            (
                Remedy(
                    "Give the mask as float, with -inf.",
                    with_masks(lambda mask: replace(mask, form="float", values="inf")),
                    cost="memory for the mask",
                ),
            )
        ),
    ),
    Deviation(
        id="fused-scale-not-positive",
        title="A scale of 0 or less gives NaN on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="scaled_dot_product_attention with scale <= 0 and no attn_mask, on the flash or cuDNN's kernel; with"
        " one, where cuDNN's goes back",
        instead="everything is NaN where the keys don't fill blocks of 128 (flash with wide heads: 64), as what lies"
        " behind the last is -inf before it is scaled; where they do, some is. With a mask gradients are NaN",
        applies=scales_what_is_hidden,
        change=become_nan,
        pinned=ScaledDotProduct(dtype="float16", D=8, Dv=8, scale=-1.0),
        devices=ON_CUDA,
        remedies=untested((MATH_BACKEND,)),
    ),
    Deviation(
        id="efficient-lower-right",
        title="With a causal bias that is aligned at the last key, queries before the first key are not 0 on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#193632",
        clause=4,
        trigger="torch.nn.attention.bias.causal_lower_right of more queries than keys, on the efficient kernel",
        instead="queries that see no key, in a block of 64 with one that does, attend as if they saw some, and"
        " gradients are NaN or huge",
        applies=hides_whole_rows,
        change=see_something,
        pinned=ScaledDotProduct(
            dtype="float32", mode="causal_lower_right", L=2, D=4, Dv=4, attn_mask=Mask("bool", "lower_right")
        ),
        devices=ON_CUDA,
        remedies=untested(
            (Remedy("Give the mask itself as attn_mask.", changed(mode="eager"), cost="memory for the mask"),)
        ),
    ),
    Deviation(
        id="efficient-mask-one-key",
        title="A mask of size 1 over keys raises on the efficient kernel",
        affects=">=2.11",
        upstream="pytorch/pytorch#139424",
        clause=1,
        trigger="attn_mask (..., L, 1) broadcasts over keys, in scaled_dot_product_attention on CUDA's efficient"
        " kernel",
        instead="RuntimeError: the last dimension of the bias must be contiguous",
        applies=lambda call: is_one_for_all_keys(call, EFFICIENT),
        change=lambda computation, call: raising(computation, "RuntimeError", "last dimension must be contiguous"),
        pinned=ScaledDotProduct(
            dtype="float32", S=2, D=4, Dv=4, attn_mask=Mask("bool", "none"), mask_batch=(1, 1), broadcast="S"
        ),
        devices=ON_CUDA,
        remedies=untested((EXPANDED,)),
    ),
    Deviation(
        id="cudnn-mask-one-key",
        title="A mask of size 1 over keys is read past its end on cuDNN's kernel",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="attn_mask (..., L, 1) broadcasts over keys, in bfloat16 or float16 where cuDNN serves",
        instead="a misaligned address, after which the process cannot use the device, or wrong numbers",
        applies=lambda call: is_one_for_all_keys(call, CUDNN),
        change=lambda computation, call: raising(computation, "AcceleratorError", "misaligned address"),
        pinned=ScaledDotProduct(
            dtype="float16", L=5, S=8, D=64, Dv=64, attn_mask=Mask("bool", "last_column"), broadcast="S"
        ),
        devices=ON_CUDA,
        ends=True,
        remedies=untested((EXPANDED,)),
    ),
    Deviation(
        id="efficient-vmap-mask",
        title="Under torch.func.vmap over the sequences alone a mask raises on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#161310",
        clause=3,
        trigger="torch.func.vmap that maps query, key and value, but not the mask, on the efficient kernel",
        instead="RuntimeError: the mask's batch dimension is not that of the query",
        applies=maps_sequences_beside_a_mask,
        change=lambda computation, call: raising(computation, "RuntimeError", "attn_bias: wrong shape"),
        pinned=MultiHead(
            dtype="float32",
            mode="vmap_of_sequences",
            head_dim=4,
            attn_mask=Mask("float", "none"),
            need_weights=False,
        ),
        devices=ON_CUDA,
        remedies=untested((without("torch.func.vmap", cost=_SLOWER),)),
    ),
    Deviation(
        id="efficient-vmap-mask-stride",
        title="Under torch.func.vmap a mask for all samples raises on CUDA where keys are no multiple of 4",
        affects=">=2.11",
        upstream="pytorch/pytorch#161310",
        clause=3,
        trigger="torch.func.vmap over the sequences and an attention mask (L, S), without padding, of several samples,"
        " S no multiple of 4, on the efficient kernel",
        instead="RuntimeError: the mask, copied for each sample, is not aligned",
        applies=copies_a_mask_in_vmap,
        change=lambda computation, call: raising(computation, "RuntimeError", "attn_bias is not correctly aligned"),
        pinned=MultiHead(
            dtype="float32", mode="vmap", N=2, S=3, head_dim=4, attn_mask=Mask("float", "none"), need_weights=False
        ),
        devices=ON_CUDA,
        remedies=untested((without("torch.func.vmap", cost=_SLOWER),)),
    ),
    Deviation(
        id="nested-slow-conversion-warning",
        title="Nested tensors of float64 and bfloat16 warn of their conversion on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=10,
        trigger="float64 or bfloat16, in eval, where the batch is packed into a nested tensor, or given as one",
        instead="a UserWarning about the speed of a kernel that the caller has not chosen",
        applies=unpacks_slowly,
        change=lambda computation, call: warning(computation, "nested_from_padded CUDA kernels only support fp32/fp16"),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "none")
        ),
        devices=ON_CUDA,
        remedies=untested((NOT_NESTED, *off_the_fast_path())),
    ),
    Deviation(
        id="native-mha-no-sample",
        title="nn.MultiheadAttention raises for an empty batch in eval on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#192651",
        clause=1,
        trigger="N = 0, need_weights=False, as in decoder layers, and a head_dim that is a multiple of 8, on the native"
        " path of self-attention",
        instead="RuntimeError: the size of a tensor without elements cannot be inferred",
        applies=views_no_sample,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape"
        ),
        pinned=MultiHead(N=0, num_heads=2, head_dim=8, attention="self", need_weights=False),
        devices=ON_CUDA,
        remedies=untested(off_the_fast_path()),
    ),
    Deviation(
        id="cudnn-no-sample",
        title="scaled_dot_product_attention returns None for an empty batch on cuDNN's kernel",
        affects=">=2.11",
        upstream="pytorch/pytorch#133780",
        clause=1,
        trigger="a batch of no samples in bfloat16 or float16 where cuDNN serves",
        instead="None in place of the output; modules raise AttributeError over it",
        applies=attends_for_no_sample,
        change=return_nothing,
        pinned=Transformer(
            dtype="bfloat16",
            autograd="grad",
            module="TransformerDecoderLayer",
            N=0,
            S=2,
            T=2,
            head_dim=8,
            activation="gelu",
        ),
        devices=ON_CUDA,
        remedies=untested((FLOAT32,)),
    ),
    Deviation(
        id="nested-no-sample-segfault",
        title="nn.TransformerEncoder ends the process for an empty batch with padding on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="N = 0 and a src_key_padding_mask, in eval in float32 or float16, where the batch is packed",
        instead="a segmentation fault in the conversion to a nested tensor",
        applies=packs_no_sample_fast,
        change=lambda computation, call: raising(computation, "Died", "the process that makes the call has ended"),
        pinned=Transformer(
            dtype="float32",
            module="TransformerEncoder",
            N=0,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask(),
        ),
        devices=ON_CUDA,
        ends=True,
        remedies=untested((NO_EMPTY_MASK,)),
    ),
    Deviation(
        id="autocast-weights-dtype",
        title="Under autocast on CUDA the weights are float32, and the output is not",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CUDA and need_weights=True",
        instead="weights of float32 beside an output of the low precision: softmax is among what autocast keeps",
        applies=casts_weights_back,
        change=lambda computation, call: replace(computation, weights_dtype="float32"),
        pinned=MultiHead(dtype="float32", mode="autocast"),
        devices=ON_CUDA,
        remedies=untested((without("torch.autocast", cost="speed and memory"),)),
    ),
    Deviation(
        id="efficient-odd-strides",
        title="One query of one head in a slice of a wider tensor raises on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="a query, key or value whose dimensions but the last are all 1, with a stride there that is no"
        " multiple of 4 (in a low precision 8), on the efficient kernel",
        instead="RuntimeError: cutlassF: no kernel found to launch",
        applies=copies_nothing,
        change=lambda computation, call: raising(computation, "RuntimeError", "cutlassF: no kernel found to launch"),
        pinned=ScaledDotProduct(dtype="float32", layout="sliced", D=16, Dv=16),
        devices=ON_CUDA,
        remedies=untested((Remedy("Give clones of query, key and value.", changed(layout="contiguous")),)),
    ),
)
