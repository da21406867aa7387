"""The kernels of scaled_dot_product_attention on CUDA, as measured with 2.11 on an H100."""

from dataclasses import replace

import numpy as np

from reference import masks as meaning

from ..cases.case import Case, MultiHead, ScaledDotProduct, Transformer
from ..cases.masks import Mask
from ..contents.arrays import directions, inputs
from ..execution.call import lay_out
from ..execution.setting import ON_CUDA
from ..expectation.arithmetic import multiplying, multiplying_safely
from ..expectation.changes import raising, undefined, with_kernel
from ..expectation.specification import Computation
from ..judgement import left_out
from ..modes.modes import BY_ID, computed_in
from ..path_names import SDPA_CUDNN, SDPA_EFFICIENT, SDPA_FLASH
from .call import Call
from .causal_hints import is_biased_past_its_keys
from .entry import Deviation
from .facts import absorbs_everything, drops_the_mask, needs_mask_gradient
from .nested_tensors import is_nested
from .remedies import (
    BY_SMALLER_NUMBER,
    EXPANDED,
    FLOAT32,
    MATH_BACKEND,
    SLOWER,
    Remedy,
    changed,
    untested,
    with_masks,
    without,
)


def hiding_by_a_number(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A kernel that adds the least float16 number, not -inf, to scores of hidden keys, in float32."""
    scores = scale * (query.real @ np.swapaxes(key, -1, -2).real)
    added = np.where(meaning.hidden(bias), -65504.0, bias.real)
    sums = (np.asarray(scores, "float32") + np.asarray(added, "float32")).astype("float64")
    rounded = sums - np.asarray(scores, "float64")
    return multiplying(query, key, value, rounded - rounded.max(axis=-1, keepdims=True, initial=-np.inf), scale)


def multiplying_by_log2e(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A kernel that computes powers of 2, not of e, and multiplies masks by log2(e).

    A mask that overflows in this product hides its key.
    """
    overflows = bias.real < -np.finfo("float32").max / np.log2(np.e)
    return multiplying_safely(query, key, value, np.where(overflows, -np.inf, bias), scale)


def nowhere_a_number(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """A kernel whose output is NaN."""
    context, weights = multiplying(query, key, value, bias, scale)
    return context * np.nan, weights


def overflowing_blocks(call: Call) -> tuple[str, ...]:
    """The blocks with a query whose visible keys all have a mask that overflows if multiplied by log2(e)."""
    if computed_in(call.case) == "float16":
        return ()
    blocks = call.sdpa_blocks(SDPA_EFFICIENT, SDPA_CUDNN)
    return tuple(block for block in blocks if absorbs_everything(call.case, block, 2.35e38))


def overflow(computation: Computation, call: Call) -> Computation:
    """The computation in which a mask that overflows hides its key."""
    return with_kernel(computation, lambda _: multiplying_by_log2e, overflowing_blocks(call))


def is_one_for_all_keys(call: Call, kernel: str) -> bool:
    """True if this kernel gets a mask of size 1 over several keys."""
    case = call.case
    return case.broadcast == "S" and case.S > 1 and bool(call.sdpa_blocks(kernel))


def copies_nothing(call: Call) -> bool:
    """True if the efficient kernel gets a tensor that counts as contiguous, with a stride that it cannot take."""
    case = call.case
    if case.has_parameters or not call.sdpa_blocks(SDPA_EFFICIENT):
        return False
    aligned = 4 if computed_in(case) == "float32" else 8
    tensors = [lay_out(array, case.layout, case.dtype) for array in inputs(case).values()]
    return any(
        tensor.is_contiguous() and any(stride % aligned for stride in tensor.stride()[:-1]) for tensor in tensors
    )


def learns_masks_alone(call: Call) -> tuple[str, ...]:
    """The blocks on the efficient kernel that get a float mask that requires a gradient, and nothing else that does."""
    case = call.case
    if case.autograd != "mask" or BY_ID[case.mode].is_forward:
        return ()
    learned = [block for block in case.blocks if needs_mask_gradient(case, block) and not _drops(call, block)]
    if is_nested(call):  # a packed batch reads its masks as bool
        learned = [block for block in learned if block != "src"]
    if len(learned) > 1:  # the queries of "memory" depend on the earlier masks
        learned = [block for block in learned if block != "memory"]
    return tuple(block for block in learned if call.kernel_of_first(block) == SDPA_EFFICIENT)


def _drops(call, block):
    return drops_the_mask(call.case, call.release, block)


def has_one_head(case: Case) -> bool:
    """True if attention is computed for one head of one sample."""
    return case.batch_size * case.heads == 1


def hides_by_a_number(call: Call) -> bool:
    """True if cuDNN's kernel gets a bool mask, which torch converts to float for it."""
    case = call.case
    has_bool = not case.has_parameters and case.attn_mask is not None and not case.attn_mask.is_float
    has_bool &= case.mode != "causal_lower_right"  # a causal bias, no mask
    return has_bool and bool(call.sdpa_blocks(SDPA_CUDNN)) and not is_one_for_all_keys(call, SDPA_CUDNN)


def hide_by_a_number(computation: Computation, call: Call) -> Computation:
    """The computation in which hidden keys get a large negative score.

    Garbage may then be seen. Derivatives become as large as the garbage, and cancel, so that gradients are not
    compared.
    """
    computation = with_kernel(computation, lambda _: hiding_by_a_number, ("sdpa",))
    reason = left_out.GARBAGE if call.case.garbage else computation.undefined_gradient
    return replace(computation, undefined_gradient=reason)


def scales_what_is_hidden(call: Call) -> bool:
    """True if a kernel masks scores with -inf before it multiplies them by a scale of 0 or less.

    Flash and cuDNN's kernel do so behind the last key if there is no mask, the backward pass of cuDNN's if there is
    one.
    """
    case = call.case
    if case.scale is None or case.scale > 0:
        return False
    if case.attn_mask is not None and case.mode != "causal_lower_right":
        return bool(call.sdpa_blocks(SDPA_CUDNN)) and bool(directions(case))
    return bool(call.sdpa_blocks(SDPA_FLASH, SDPA_CUDNN))


def become_nan(computation: Computation, call: Call) -> Computation:
    """The computation with NaN gradients if there is a mask, else with NaN everywhere.

    Without a mask, the output is undefined, not NaN, if the keys fill whole blocks.
    """
    case = call.case
    if case.attn_mask is not None and case.mode != "causal_lower_right":
        return replace(computation, undefined_gradient=left_out.FORGOTTEN)
    block = 128 if call.sdpa_blocks(SDPA_CUDNN) or case.D <= 64 else 64
    if case.S % block == 0 or (call.sdpa_blocks(SDPA_CUDNN) and case.L == 1):
        return undefined(computation, left_out.MEMORY)
    return with_kernel(computation, lambda _: nowhere_a_number, ("sdpa",))


def hides_whole_rows(call: Call) -> bool:
    """True if the efficient kernel gets causal_lower_right for more queries than keys, and a result is wrong.

    The output is wrong if some, but not all, queries of a block of 64 are fully masked; gradients always are.
    """
    case = call.case
    if not is_biased_past_its_keys(call) or not call.sdpa_blocks(SDPA_EFFICIENT):
        return False
    return (case.L - case.S) % 64 > 0 or bool(directions(case))


def see_something(computation: Computation, call: Call) -> Computation:
    """The computation with an undefined output, or with undefined gradients alone if no block is partly masked."""
    is_shared = (call.case.L - call.case.S) % 64 > 0
    if is_shared:
        return undefined(computation, left_out.MEMORY)
    return replace(computation, undefined_gradient=left_out.MEMORY)


def maps_sequences_beside_a_mask(call: Call) -> bool:
    """True if vmap gives the efficient kernel more samples than its mask has."""
    case = call.case
    if case.mode != "vmap_of_sequences":
        return False
    return any(any(_masks(case, block)) and not _drops(call, block) for block in call.sdpa_blocks(SDPA_EFFICIENT))


def copies_a_mask_in_vmap(call: Call) -> bool:
    """True if the efficient kernel gets a mask that vmap copies for each sample, with strides that are not aligned."""
    case = call.case
    if case.mode != "vmap":
        return False
    return any(_is_copied(case, block) and not _drops(call, block) for block in call.sdpa_blocks(SDPA_EFFICIENT))


def _is_copied(case, block):
    attn_mask, *padding = _masks(case, block)
    is_shared = attn_mask is not None and not attn_mask.per_head and not any(padding) and not _is_of_each(case)
    return is_shared and case.batch_size > 1 and case.number_of_keys(block) % 4 > 0


def _masks(case, block):
    return [getattr(case, name) for name in case.mask_names(block)]


def _is_of_each(case):
    """True if the mask of scaled_dot_product_attention has a slice for each sample."""
    return len(case.mask_batch) == 2 and case.mask_batch[0] == case.batch[0] > 1


def attends_for_no_sample(call: Call) -> bool:
    """True if cuDNN's kernel gets a batch of no samples."""
    case = call.case
    return (case.batch_size == 0 or 0 in case.batch) and bool(call.sdpa_blocks(SDPA_CUDNN))


def return_nothing(computation: Computation, call: Call) -> Computation:
    """scaled_dot_product_attention returns None. A module raises, since None lacks the attributes of a tensor."""
    if not call.case.has_parameters:
        return replace(computation, lost=("output",))
    return raising(computation, "AttributeError", "'NoneType' object has no attribute")


ENTRIES = (
    Deviation(
        id="efficient-mask-alone",
        title="On CUDA backward raises if only a float mask requires a gradient",
        affects=">=2.11",
        upstream="pytorch/pytorch#148476",
        clause=5,
        trigger="a float mask requires a gradient, and no query, key or value does, on the efficient kernel, with"
        " several heads or samples",
        instead="backward raises: the log-sum-exp of the rows, which it needs, was not kept",
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
        title="On CUDA backward is an illegal memory access if only a float mask of one head requires a gradient",
        affects=">=2.11",
        upstream="pytorch/pytorch#148476",
        clause=5,
        trigger="a float mask requires a gradient, and no query, key or value does, on the efficient kernel, with one"
        " head of one sample",
        instead="backward reads the log-sum-exp of the rows, which was not kept; after this the process cannot use the"
        " device",
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
        id="fused-finfo-min",
        title="On CUDA a query whose keys are all masked by finfo.min gets 0",
        affects=">=2.11",
        upstream="pytorch/pytorch#110213",
        clause=2,
        trigger="a query whose visible keys all have a mask of about torch.finfo(torch.float32).min, on the efficient"
        " kernel or cuDNN's, in float32 or bfloat16",
        instead="the kernel multiplies the mask by log2(e), which overflows: the query counts as fully masked, and its"
        " output is 0",
        applies=lambda call: bool(overflowing_blocks(call)),
        change=overflow,
        pinned=ScaledDotProduct(dtype="float32", D=4, Dv=4, attn_mask=Mask("float", "all", "min")),
        devices=ON_CUDA,
        remedies=untested((BY_SMALLER_NUMBER,)),
    ),
    Deviation(
        id="cudnn-bool-mask",
        title="A fully masked query sees all keys on cuDNN's kernel",
        affects=">=2.11",
        upstream="not found",
        clause=4,
        trigger="scaled_dot_product_attention with a bool attn_mask in bfloat16 or float16, on cuDNN's kernel (the"
        " default on an H100)",
        instead="the mask is added as 0 and -65504: a fully masked query attends as if no key were hidden, and a"
        " hidden key with an even larger score is seen",
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
        trigger="scaled_dot_product_attention with scale <= 0: without an attn_mask on the flash kernel or cuDNN's,"
        " with one in the backward pass of cuDNN's kernel",
        instead="positions behind the last key are masked with -inf before scores are scaled. The whole output is NaN"
        " if the keys do not fill blocks of 128 (flash with wide heads: 64), and part of it if they do. With a mask"
        " gradients are NaN",
        applies=scales_what_is_hidden,
        change=become_nan,
        pinned=ScaledDotProduct(dtype="float16", D=8, Dv=8, scale=-1.0),
        devices=ON_CUDA,
        remedies=untested((MATH_BACKEND,)),
    ),
    Deviation(
        id="efficient-lower-right",
        title="With causal_lower_right fully masked queries are not 0 on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#193632",
        clause=4,
        trigger="torch.nn.attention.bias.causal_lower_right, a causal bias aligned at the last key, with more queries"
        " than keys, on the efficient kernel",
        instead="fully masked queries in a block of 64 with one that sees a key attend as if they saw some keys;"
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
        title="A mask of size 1 over keys raises on CUDA's efficient kernel",
        affects=">=2.11",
        upstream="pytorch/pytorch#139424",
        clause=1,
        trigger="attn_mask (..., L, 1), which broadcasts over keys, in scaled_dot_product_attention on CUDA's"
        " efficient kernel",
        instead="RuntimeError: the last dimension of the bias must be contiguous",
        applies=lambda call: is_one_for_all_keys(call, SDPA_EFFICIENT),
        change=lambda computation, call: raising(computation, "RuntimeError", "last dimension must be contiguous"),
        pinned=ScaledDotProduct(
            dtype="float32", S=2, D=4, Dv=4, attn_mask=Mask("bool", "none"), mask_batch=(1, 1), broadcast="S"
        ),
        devices=ON_CUDA,
        stage="attention",
        remedies=untested((EXPANDED,)),
    ),
    Deviation(
        id="cudnn-mask-one-key",
        title="cuDNN's kernel reads past the end of a mask of size 1 over keys",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="attn_mask (..., L, 1), which broadcasts over keys, in bfloat16 or float16 on cuDNN's kernel",
        instead="an error about a misaligned address, after which the process cannot use the device, or wrong numbers",
        applies=lambda call: is_one_for_all_keys(call, SDPA_CUDNN),
        change=lambda computation, call: raising(computation, "AcceleratorError", "misaligned address"),
        pinned=ScaledDotProduct(
            dtype="float16", L=5, S=8, D=64, Dv=64, attn_mask=Mask("bool", "last_column"), broadcast="S"
        ),
        devices=ON_CUDA,
        ends=True,
        stage="attention",
        remedies=untested((EXPANDED,)),
    ),
    Deviation(
        id="efficient-vmap-mask",
        title="On CUDA a mask raises under torch.func.vmap over query, key and value alone",
        affects=">=2.11",
        upstream="pytorch/pytorch#161310",
        clause=3,
        trigger="torch.func.vmap that maps query, key and value, but not the mask, on the efficient kernel",
        instead="RuntimeError: the batch dimension of the mask is not that of the query",
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
        stage="attention",
        remedies=untested((without("torch.func.vmap", cost=SLOWER),)),
    ),
    Deviation(
        id="efficient-vmap-mask-stride",
        title="On CUDA a mask for all samples raises under torch.func.vmap if the number of keys is no multiple of 4",
        affects=">=2.11",
        upstream="pytorch/pytorch#161310",
        clause=3,
        trigger="torch.func.vmap over several samples with an attention mask (L, S) and no padding, S no multiple of"
        " 4, on the efficient kernel",
        instead="RuntimeError: the mask, which vmap copies for each sample, is not aligned",
        applies=copies_a_mask_in_vmap,
        change=lambda computation, call: raising(computation, "RuntimeError", "attn_bias is not correctly aligned"),
        pinned=MultiHead(
            dtype="float32", mode="vmap", N=2, S=3, head_dim=4, attn_mask=Mask("float", "none"), need_weights=False
        ),
        devices=ON_CUDA,
        stage="attention",
        remedies=untested((without("torch.func.vmap", cost=SLOWER),)),
    ),
    Deviation(
        id="cudnn-no-sample",
        title="scaled_dot_product_attention returns None for an empty batch on cuDNN's kernel",
        affects=">=2.11",
        upstream="pytorch/pytorch#133780",
        clause=1,
        trigger="a batch of no samples in bfloat16 or float16 on cuDNN's kernel",
        instead="None in place of the output; a module then raises AttributeError",
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
        stage="attention",
        remedies=untested((FLOAT32,)),
    ),
    Deviation(
        id="efficient-odd-strides",
        title="On CUDA one query of one head raises if it is a slice of a wider tensor",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="a query, key or value whose dimensions except the last are all 1, with a stride in them that is no"
        " multiple of 4 (in a low precision 8), on the efficient kernel",
        instead="RuntimeError: cutlassF: no kernel found to launch",
        applies=copies_nothing,
        change=lambda computation, call: raising(computation, "RuntimeError", "cutlassF: no kernel found to launch"),
        pinned=ScaledDotProduct(dtype="float32", layout="sliced", D=16, Dv=16),
        devices=ON_CUDA,
        stage="attention",
        remedies=untested((Remedy("Give clones of query, key and value.", changed(layout="contiguous")),)),
    ),
)
