"""The modules' fast paths, nested tensors and autocast on CUDA, as measured with 2.11 on an H100."""

from dataclasses import replace
from functools import partial

from reference.transformer import gelu_tanh

from ..cases.case import MultiHead, Transformer
from ..cases.masks import Mask
from ..execution.setting import ON_CUDA
from ..expectation.changes import raising, warning, with_activation
from ..expectation.specification import Computation
from ..path_names import NATIVE_MHA
from .call import Call
from .entry import Deviation
from .facts import is_cast
from .given_nested import meets_no_native_path
from .native import native_layers
from .nested_tensors import is_nested, packs_no_sample_fast
from .remedies import (
    NO_EMPTY_MASK,
    NOT_NESTED,
    off_the_fast_path,
    untested,
    without,
)


def blocks_with_gelu(call: Call) -> tuple[str, ...]:
    """The encoder blocks that compute a GELU on their fast path."""
    return native_layers(call, "gelu", "gelu_tanh")


def take_tanh(computation: Computation, call: Call) -> Computation:
    """The computation with the tanh approximation of GELU.

    It is fused with the matrix product, with a rounded constant; for a product of one column it is torch's own.
    """
    activation = partial(gelu_tanh, root=0.79788456) if call.case.dim_feedforward > 1 else gelu_tanh
    return with_activation(computation, activation, blocks_with_gelu(call))


def unpacks_slowly(call: Call) -> bool:
    """True if a fast path gets a nested tensor of a dtype for which CUDA has no fast conversion."""
    case = call.case
    if case.dtype in ("float32", "float16"):
        return False
    is_given = call.lengths is not None and any(call.lengths) and case.has_parameters
    return is_nested(call) or (is_given and not meets_no_native_path(call))


def views_no_sample(call: Call) -> bool:
    """True if the fast path of an attention without weights looks for a fused kernel for no samples."""
    case = call.case
    if not call.blocks(NATIVE_MHA) or case.need_weights:
        return False
    return case.N == 0 and case.head_dim % 8 == 0


def casts_weights_back(call: Call) -> bool:
    """True if weights are returned under autocast."""
    case = call.case
    return is_cast(case) and case.need_weights


ENTRIES = (
    Deviation(
        id="native-layer-gelu",
        title="nn.TransformerEncoderLayer computes another GELU in eval mode on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="activation='gelu', or any nn.GELU, on the fast path of nn.TransformerEncoderLayer, on CUDA",
        instead="the layer computes the tanh approximation, in float64 too, not the exact GELU: off by up to 5e-4",
        applies=lambda call: bool(blocks_with_gelu(call)),
        change=take_tanh,
        pinned=Transformer(num_heads=2, head_dim=2, activation="gelu"),
        devices=ON_CUDA,
        remedies=untested(off_the_fast_path()),
    ),
    Deviation(
        id="nested-slow-conversion-warning",
        title="On CUDA nested tensors of float64 and bfloat16 warn of a slow conversion",
        affects=">=2.11",
        upstream="not found",
        clause=10,
        trigger="float64 or bfloat16 in eval mode, and a batch that is packed into a nested tensor or given as one",
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
        title="nn.MultiheadAttention raises for an empty batch in eval mode on CUDA",
        affects=">=2.11",
        upstream="pytorch/pytorch#192651",
        clause=1,
        trigger="N = 0, need_weights=False (as in decoder layers), and a head_dim that is a multiple of 8, on the fast"
        " path of self-attention",
        instead="RuntimeError: the size of a tensor without elements cannot be inferred",
        applies=views_no_sample,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape"
        ),
        pinned=MultiHead(N=0, num_heads=2, head_dim=8, attention="self", need_weights=False),
        devices=ON_CUDA,
        stage="attention",
        remedies=untested(off_the_fast_path()),
    ),
    Deviation(
        id="nested-no-sample-segfault",
        title="nn.TransformerEncoder crashes for an empty batch with padding on CUDA",
        affects=">=2.11",
        upstream="not found",
        clause=1,
        trigger="N = 0 and a src_key_padding_mask, in eval mode, in float32 or float16, if the batch is packed into a"
        " nested tensor",
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
        stage="stack",
        remedies=untested((NO_EMPTY_MASK,)),
    ),
    Deviation(
        id="autocast-weights-dtype",
        title="Under autocast on CUDA the weights are float32, but the output is not",
        affects=">=2.11",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CUDA and need_weights=True",
        instead="weights of float32 with an output of the low precision: autocast computes softmax in float32",
        applies=casts_weights_back,
        change=lambda computation, call: replace(computation, weights_dtype="float32"),
        pinned=MultiHead(dtype="float32", mode="autocast"),
        devices=ON_CUDA,
        remedies=untested((without("torch.autocast", cost="speed and memory"),)),
    ),
)
