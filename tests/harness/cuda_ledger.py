"""The deviations of CUDA's kernels, measured with 2.11 on an H100: part of the ledger (ledger.py)."""

from dataclasses import replace

from . import cuda
from .behaviours import (
    raising,
    warning,
)
from .cases import MultiHead, ScaledDotProduct, Transformer
from .deviation import Deviation
from .masks import Mask
from .setting import ON_CUDA

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
        applies=lambda call: bool(cuda.learns_masks_alone(call)) and not cuda.has_one_head(call.case),
        change=lambda computation, call: raising(computation, "RuntimeError", "LSE is not correctly aligned"),
        pinned=ScaledDotProduct(
            dtype="float32", autograd="mask", batch=(1, 2), D=4, Dv=4, attn_mask=Mask("float", "none", "finite")
        ),
        devices=ON_CUDA,
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
        applies=lambda call: bool(cuda.learns_masks_alone(call)) and cuda.has_one_head(call.case),
        change=lambda computation, call: raising(computation, "AcceleratorError", "illegal memory access"),
        pinned=ScaledDotProduct(
            dtype="float32", autograd="mask", L=2, S=5, D=4, Dv=4, attn_mask=Mask("float", "causal")
        ),
        devices=ON_CUDA,
        ends=True,
    ),
    Deviation(
        id="native-layer-gelu",
        title="nn.TransformerEncoderLayer computes another GELU in eval on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="activation='gelu', or any nn.GELU, on the native path of the encoder layer, on CUDA",
        instead="the approximation by tanh takes the place of the exact one, in float64 too: off by up to 5e-4",
        applies=lambda call: bool(cuda.blocks_with_gelu(call)),
        change=cuda.take_tanh,
        pinned=Transformer(num_heads=2, head_dim=2, activation="gelu"),
        devices=ON_CUDA,
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
        applies=lambda call: bool(cuda.overflowing_blocks(call)),
        change=cuda.overflow,
        pinned=ScaledDotProduct(dtype="float32", D=4, Dv=4, attn_mask=Mask("float", "all", "min")),
        devices=ON_CUDA,
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
        applies=cuda.hides_by_a_number,
        change=cuda.hide_by_a_number,
        pinned=ScaledDotProduct(dtype="float16", L=2, S=2, D=8, Dv=8, attn_mask=Mask("bool", "all")),
        devices=ON_CUDA,
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
        applies=cuda.scales_what_is_hidden,
        change=cuda.become_nan,
        pinned=ScaledDotProduct(dtype="float16", D=8, Dv=8, scale=-1.0),
        devices=ON_CUDA,
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
        applies=cuda.hides_whole_rows,
        change=cuda.see_something,
        pinned=ScaledDotProduct(
            dtype="float32", mode="causal_lower_right", L=2, D=4, Dv=4, attn_mask=Mask("bool", "lower_right")
        ),
        devices=ON_CUDA,
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
        applies=lambda call: cuda.is_one_for_all_keys(call, cuda.EFFICIENT),
        change=lambda computation, call: raising(computation, "RuntimeError", "last dimension must be contiguous"),
        pinned=ScaledDotProduct(
            dtype="float32", S=2, D=4, Dv=4, attn_mask=Mask("bool", "none"), mask_batch=(1, 1), broadcast="S"
        ),
        devices=ON_CUDA,
    ),
    Deviation(
        id="cudnn-mask-one-key",
        title="A mask of size 1 over keys is read past its end on cuDNN's kernel",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="attn_mask (..., L, 1) broadcasts over keys, in bfloat16 or float16 where cuDNN serves",
        instead="a misaligned address, after which the process cannot use the device, or wrong numbers",
        applies=lambda call: cuda.is_one_for_all_keys(call, cuda.CUDNN),
        change=lambda computation, call: raising(computation, "AcceleratorError", "misaligned address"),
        pinned=ScaledDotProduct(
            dtype="float16", L=5, S=8, D=64, Dv=64, attn_mask=Mask("bool", "last_column"), broadcast="S"
        ),
        devices=ON_CUDA,
        ends=True,
    ),
    Deviation(
        id="efficient-vmap-mask",
        title="Under torch.func.vmap over the sequences alone a mask raises on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#161310",
        clause=3,
        trigger="torch.func.vmap that maps query, key and value, but not the mask, on the efficient kernel",
        instead="RuntimeError: the mask's batch dimension is not that of the query",
        applies=cuda.maps_sequences_beside_a_mask,
        change=lambda computation, call: raising(computation, "RuntimeError", "attn_bias: wrong shape"),
        pinned=MultiHead(
            dtype="float32",
            mode="vmap_of_sequences",
            head_dim=4,
            attn_mask=Mask("float", "none"),
            need_weights=False,
        ),
        devices=ON_CUDA,
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
        applies=cuda.copies_a_mask_in_vmap,
        change=lambda computation, call: raising(computation, "RuntimeError", "attn_bias is not correctly aligned"),
        pinned=MultiHead(
            dtype="float32", mode="vmap", N=2, S=3, head_dim=4, attn_mask=Mask("float", "none"), need_weights=False
        ),
        devices=ON_CUDA,
    ),
    Deviation(
        id="nested-slow-conversion-warning",
        title="Nested tensors of float64 and bfloat16 warn of their conversion on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=10,
        trigger="float64 or bfloat16, in eval, where the batch is packed into a nested tensor, or given as one",
        instead="a UserWarning about the speed of a kernel that the caller has not chosen",
        applies=cuda.unpacks_slowly,
        change=lambda computation, call: warning(computation, "nested_from_padded CUDA kernels only support fp32/fp16"),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "none")
        ),
        devices=ON_CUDA,
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
        applies=cuda.views_no_sample,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape"
        ),
        pinned=MultiHead(N=0, num_heads=2, head_dim=8, attention="self", need_weights=False),
        devices=ON_CUDA,
    ),
    Deviation(
        id="cudnn-no-sample",
        title="scaled_dot_product_attention returns None for an empty batch on cuDNN's kernel",
        affects=">=2.11",
        upstream="pytorch/pytorch#133780",
        clause=1,
        trigger="a batch of no samples in bfloat16 or float16 where cuDNN serves",
        instead="None in place of the output; modules raise AttributeError over it",
        applies=cuda.attends_for_no_sample,
        change=cuda.return_nothing,
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
    ),
    Deviation(
        id="nested-no-sample-segfault",
        title="nn.TransformerEncoder ends the process for an empty batch with padding on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="N = 0 and a src_key_padding_mask, in eval in float32 or float16, where the batch is packed",
        instead="a segmentation fault in the conversion to a nested tensor",
        applies=cuda.packs_no_sample_fast,
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
    ),
    Deviation(
        id="autocast-weights-dtype",
        title="Under autocast on CUDA the weights are float32, and the output is not",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CUDA and need_weights=True",
        instead="weights of float32 beside an output of the low precision: softmax is among what autocast keeps",
        applies=cuda.casts_weights_back,
        change=lambda computation, call: replace(computation, weights_dtype="float32"),
        pinned=MultiHead(dtype="float32", mode="autocast"),
        devices=ON_CUDA,
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
        applies=cuda.copies_nothing,
        change=lambda computation, call: raising(computation, "RuntimeError", "cutlassF: no kernel found to launch"),
        pinned=ScaledDotProduct(dtype="float32", layout="sliced", D=16, Dv=16),
        devices=ON_CUDA,
    ),
)
