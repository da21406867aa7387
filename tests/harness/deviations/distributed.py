"""Modules that a wrapper of torch.distributed shares between two processes."""

from dataclasses import replace

import numpy as np

from ..cases.case import MultiHead, Transformer, source_of
from ..cases.masks import Mask
from ..contents.arrays import is_trained, parameters
from ..expectation.changes import raising, with_parameters
from ..expectation.specification import Computation
from ..modes.distributed import FSDP, FULLY_SHARD, TENSOR_PARALLEL
from ..path_names import NATIVE_LAYER
from ..releases import since
from .call import Call
from .entry import Deviation
from .nested_tensors import is_nested
from .paths import nested_lengths
from .remedies import EVERY_QUERY_SEES_A_KEY, NOT_NESTED, OWN_DTYPE, Remedy, changed, off_the_fast_path, upgrade


def has_nothing_to_average(call: Call) -> bool:
    """True if DistributedDataParallel wraps a module of which no parameter requires a gradient."""
    case = call.case
    return case.mode == "distributed" and not _is_trained(case)


def _is_trained(case):
    return any(is_trained(case, name) for name in parameters(case))


def sums_gradients(call: Call) -> bool:
    """True if fully_shard asks gloo for an average of gradients in one operation, as in float32 and bfloat16 alone."""
    return call.case.mode == FULLY_SHARD and call.case.dtype in ("float32", "bfloat16") and _is_trained(call.case)


def gathers_in_inference_mode(call: Call) -> bool:
    """True if FullyShardedDataParallel gathers the parameters in inference mode, before it calls the module."""
    return call.case.mode == FSDP and call.case.autograd == "inference_mode"


def multiplies_in_inference_mode(call: Call) -> bool:
    """True if a sharded linear layer has no bias in inference mode, where one matrix product is not taken apart."""
    case = call.case
    return case.mode == TENSOR_PARALLEL and case.autograd == "inference_mode" and case.has_layers and not case.bias


def raises_before_the_call(call: Call) -> bool:
    """True if a wrapper raises in this release before it calls the module, which then refuses nothing."""
    return gathers_in_inference_mode(call) and not since(call.release, "2.6")


def _summed(computation: Computation, call: Call) -> Computation:
    return replace(computation, function=with_parameters(computation.function, _twice_the_derivative))


def _twice_the_derivative(array):
    return array.real + 2j * array.imag if np.iscomplexobj(array) else array


def _reads_sharded_layers(call):
    """True if the fast path of an encoder layer reads parameters that are sharded, since it sees no hooks."""
    return call.case.mode == TENSOR_PARALLEL and bool(call.blocks(NATIVE_LAYER) or is_nested(call))


def _packs_for_sharded_layers(call):
    """True if an encoder packs; attention raises before the sharded layers are called if nothing is left."""
    return call.case.mode == TENSOR_PARALLEL and is_nested(call) and bool(nested_lengths(call.case)[0].any())


def blocks_of_raising_layers(call: Call, refusing: str) -> set[str]:
    """The blocks whose layers raise under tensor parallelism, but not the one that refuses a mask before."""
    if _reads_sharded_layers(call) and not since(call.release, "2.5"):
        return set(call.blocks(NATIVE_LAYER))
    raises = _packs_for_sharded_layers(call) and since(call.release, "2.5")
    raises |= multiplies_in_inference_mode(call) and not since(call.release, "2.6")
    return {block for block in call.case.blocks if source_of(block) == "src" and block != refusing and raises}


_NO_GRAD = Remedy(
    "Call the module under torch.no_grad().",
    changed(autograd="no_grad"),
    only=(EVERY_QUERY_SEES_A_KEY, OWN_DTYPE),
)

ENTRIES = (
    Deviation(
        id="fully-shard-gradients-summed",
        title="fully_shard adds the gradients of the processes on CPUs, and does not average them",
        affects=">=2.7,<2.9",
        upstream="pytorch/pytorch#162338",
        clause=3,
        trigger="a float32 module, sharded by torch.distributed.fsdp.fully_shard over processes with gloo, is trained",
        instead="the gradients of its parameters are too large by a factor of the number of processes; those of inputs"
        " and masks are right",
        applies=sums_gradients,
        change=_summed,
        pinned=MultiHead(
            dtype="float32",
            autograd="grad",
            mode=FULLY_SHARD,
            N=2,
            L=2,
            S=2,
            training=True,
            key_padding_mask=Mask("bool", "right"),
        ),
        remedies=(
            Remedy(
                "Wrap the module by DistributedDataParallel.",
                changed(mode="distributed"),
                cost="memory: each process holds all parameters",
            ),
            upgrade("2.9"),
        ),
    ),
    Deviation(
        id="fsdp-inference-mode-raises",
        title="A module in FullyShardedDataParallel raises in inference mode on CPUs",
        affects=">=2.2,<2.6",
        upstream="pytorch/pytorch#126032",
        clause=3,
        trigger="a module sharded by FullyShardedDataParallel over processes with gloo is called under"
        " torch.inference_mode",
        instead="RuntimeError: gloo gathers the parameters in a thread of its own, which is not in inference mode",
        applies=gathers_in_inference_mode,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "Inplace update to inference tensor outside InferenceMode is not allowed"
        ),
        pinned=MultiHead(autograd="inference_mode", mode=FSDP, N=2, training=True),
        stage="call",
        remedies=(
            _NO_GRAD,
            upgrade("2.6"),
        ),
    ),
    Deviation(
        id="tensor-parallel-no-bias-raises",
        title="Layers without biases raise in inference mode if tensor parallelism splits their feed-forward network",
        affects=">=2.2,<2.6",
        upstream="pytorch/pytorch#142190",
        clause=3,
        trigger="linear1 and linear2 of a layer without biases are sharded by parallelize_module, and the layer is"
        " called under torch.inference_mode",
        instead="NotImplementedError: aten.matmul has no sharding strategy",
        applies=multiplies_in_inference_mode,
        change=lambda computation, call: raising(
            computation,
            "NotImplementedError",
            "Operator aten.matmul.default does not have a sharding strategy registered",
        ),
        pinned=Transformer(
            module="TransformerEncoderLayer",
            autograd="inference_mode",
            mode=TENSOR_PARALLEL,
            dim_feedforward=2,
            training=True,
            bias=False,
        ),
        stage="call",
        remedies=(
            _NO_GRAD,
            upgrade("2.6"),
        ),
    ),
    Deviation(
        id="tensor-parallel-native-raises",
        title="nn.TransformerEncoderLayer raises in eval mode under tensor parallelism",
        affects=">=2.2,<2.5",
        upstream="not found",
        clause=3,
        trigger="linear1 and linear2 of the layer are sharded by parallelize_module, on the fast path of"
        " nn.TransformerEncoderLayer",
        instead="RuntimeError: its operator takes no DTensor beside a tensor",
        applies=_reads_sharded_layers,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "_transformer_encoder_layer_fwd.* got mixed torch.Tensor and DTensor"
        ),
        pinned=Transformer(module="TransformerEncoderLayer", mode=TENSOR_PARALLEL, num_heads=2, dim_feedforward=2),
        stage="call",
        remedies=(*off_the_fast_path(), upgrade("2.5")),
    ),
    Deviation(
        id="tensor-parallel-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval mode under tensor parallelism",
        affects=">=2.5",
        upstream="not found",
        clause=3,
        trigger="linear1 and linear2 of the layers are sharded by parallelize_module, in eval mode, and the batch is"
        " packed into a nested tensor",
        instead="RuntimeError: the layers leave their fast path, since parallelize_module hooks their parts, and the"
        " hooks take no nested tensor",
        applies=_packs_for_sharded_layers,
        change=lambda computation, call: raising(computation, "RuntimeError", "NestedTensorImpl doesn't support sizes"),
        pinned=Transformer(
            module="TransformerEncoder",
            mode=TENSOR_PARALLEL,
            S=2,
            num_heads=2,
            dim_feedforward=2,
            src_key_padding_mask=Mask("bool", "right"),
        ),
        stage="call",
        remedies=(NOT_NESTED, *off_the_fast_path()),
    ),
)
