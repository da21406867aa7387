"""Modules and functions that are stored as ONNX files, which onnxruntime runs."""

import numpy as np

from reference.attention import attend

from ..cases.case import MultiHead, ScaledDotProduct
from ..cases.masks import Mask
from ..expectation.arithmetic import multiplying
from ..expectation.changes import raising, with_kernel
from ..expectation.specification import Computation
from ..expectation.written import attending_to_all
from ..modes.onnx import IDS, SCRIPT
from ..path_names import BY_SDPA, NATIVE_LAYER, NATIVE_MHA
from .call import Call
from .entry import Deviation
from .facts import has_empty_row
from .nested_tensors import is_nested
from .remedies import EVERY_QUERY_SEES_A_KEY, FIRST_KEY, Condition, Remedy, changed, fast_path_off


def _sees_nothing(call):
    """True if scaled_dot_product_attention is exported with a float mask, and a query is fully masked."""
    is_float = call.case.has_parameters or (call.case.attn_mask is not None and call.case.attn_mask.is_float)
    return is_float and _has_empty_row(call)


def _has_empty_row(call):
    return call.case.mode in IDS and any(has_empty_row(call.case, block) for block in call.blocks(BY_SDPA))


def _sees_nothing_by_bool(call):
    """True if scaled_dot_product_attention is exported by the newer exporter with a bool mask that hides a row."""
    return call.case.mode in IDS and call.case.mode != SCRIPT and not _sees_nothing(call) and _has_empty_row(call)


def _runs_native_operators(call):
    return call.case.mode == SCRIPT and bool(is_nested(call) or call.blocks(NATIVE_LAYER) or call.blocks(NATIVE_MHA))


def _groups(call):
    case = call.case
    return case.mode == SCRIPT and not case.has_parameters and case.kv_heads is not None


def _has_other_dimensions(call):
    case = call.case
    return case.mode in IDS and case.mode != SCRIPT and not case.has_parameters and len(case.batch) != 2


def _has_negative_scale(call):
    case = call.case
    return case.mode in IDS and not case.has_parameters and case.scale is not None and case.scale < 0


def _rooted(computation: Computation, call: Call) -> Computation:
    """The computation whose scores are NaN, as the root of its scale is; beside a bool mask NaN is replaced by 0."""
    is_bool = call.case.attn_mask is not None and not call.case.attn_mask.is_float
    filling = 0.0 if is_bool else np.nan

    def kernel(query, key, value, bias, scale):
        context, weights = attend(query, key, value, bias, scale)
        return np.full_like(context, filling), np.full_like(weights, filling)

    return with_kernel(computation, lambda _: kernel, call.blocks(BY_SDPA))


def _raising(error, message):
    """A change: the export raises, if nothing raises before."""

    def change(computation: Computation, call: Call) -> Computation:
        return computation if computation.error else raising(computation, error, message)

    return change


_ATTENTION = Condition("the module is an nn.MultiheadAttention", lambda case: case.module == "MultiheadAttention")
_FOUR = Condition("query has four dimensions", lambda case: len(case.batch) == 2)
_POSITIVE = Condition("the scale is not negative", lambda case: case.scale is None or case.scale >= 0)
_UNGROUPED = Condition("enable_gqa is not given", lambda case: case.kv_heads is None)
_NEWER = Remedy("Export with dynamo=True.", changed(mode="onnx"), only=(_ATTENTION, EVERY_QUERY_SEES_A_KEY))
_NEWER_WITH_GROUPS = Remedy(
    "Export with dynamo=True.", changed(mode="onnx"), only=(_FOUR, _POSITIVE, EVERY_QUERY_SEES_A_KEY)
)
_OLDER = Remedy("Export with dynamo=False.", changed(mode=SCRIPT), only=(_UNGROUPED, _POSITIVE, EVERY_QUERY_SEES_A_KEY))

ENTRIES = (
    Deviation(
        id="onnx-empty-row-nan",
        title="A fully masked query gives NaN in a model that is stored as an ONNX file",
        affects=">=2.9",
        upstream="not found",
        clause=4,
        trigger="torch.onnx.export, and a float mask that hides every key of a query, or any such mask of a module,"
        " which makes it a float mask",
        instead="the softmax of the file gives NaN for the query; since 2.5 torch gives 0",
        applies=_sees_nothing,
        change=lambda computation, call: with_kernel(computation, lambda _: multiplying, call.blocks(BY_SDPA)),
        pinned=ScaledDotProduct(mode="onnx", dtype="float32", batch=(1, 1), attn_mask=Mask("float", "all")),
        remedies=(FIRST_KEY,),
    ),
    Deviation(
        id="onnx-empty-row-mean",
        title="A fully masked query gives the mean of all values in a model that is stored as an ONNX file",
        affects=">=2.9",
        upstream="microsoft/onnxscript#2561",
        clause=4,
        trigger="torch.onnx.export(dynamo=True) of scaled_dot_product_attention with a bool mask that hides every key"
        " of a query",
        instead="the query's output is the mean of all values, silently; torch gives 0",
        applies=_sees_nothing_by_bool,
        change=lambda computation, call: with_kernel(computation, lambda _: attending_to_all, call.blocks(BY_SDPA)),
        pinned=ScaledDotProduct(mode="onnx", dtype="float32", batch=(1, 1), S=2, attn_mask=Mask("bool", "all")),
        remedies=(FIRST_KEY,),
    ),
    Deviation(
        id="onnx-negative-scale",
        title="A negative scale gives NaN in a model that is stored as an ONNX file",
        affects=">=2.9",
        upstream="not found",
        clause=3,
        trigger="torch.onnx.export of scaled_dot_product_attention with a negative scale",
        instead="the file multiplies query and key with the square root of the scale, which is NaN",
        applies=_has_negative_scale,
        change=_rooted,
        pinned=ScaledDotProduct(mode="onnx", dtype="float32", batch=(1, 1), scale=-1.0),
        no_remedy="none that keeps the scale: negate the query by hand, and give the scale without its sign",
    ),
    Deviation(
        id="onnx-native-raises",
        title="The TorchScript exporter to ONNX refuses the operators of the fast paths",
        affects=">=2.9",
        upstream="pytorch/pytorch#94434",
        clause=3,
        trigger="torch.onnx.export(dynamo=False) of a module in eval mode that takes a fast path",
        instead="UnsupportedOperatorError",
        applies=_runs_native_operators,
        change=_raising(
            "UnsupportedOperatorError",
            "_native_multi_head_attention|_transformer_encoder_layer_fwd|_nested_tensor_from_mask",
        ),
        pinned=MultiHead(mode=SCRIPT, dtype="float32", num_heads=2, attention="self"),
        remedies=(_NEWER, fast_path_off((EVERY_QUERY_SEES_A_KEY,))),
    ),
    Deviation(
        id="onnx-groups-raise",
        title="The TorchScript exporter to ONNX refuses grouped query attention",
        affects=">=2.9",
        upstream="pytorch/pytorch#162258",
        clause=3,
        trigger="torch.onnx.export(dynamo=False) of scaled_dot_product_attention with enable_gqa=True",
        instead="AssertionError",
        applies=_groups,
        change=_raising("AssertionError", "not implemented if enable_gqa is True"),
        pinned=ScaledDotProduct(mode=SCRIPT, dtype="float32", batch=(1, 2), kv_heads=1),
        remedies=(_NEWER_WITH_GROUPS,),
    ),
    Deviation(
        id="onnx-dimensions-raise",
        title="The exporter to ONNX refuses scaled_dot_product_attention of other than four dimensions",
        affects=">=2.9",
        upstream="not found",
        clause=3,
        trigger="torch.onnx.export(dynamo=True) of scaled_dot_product_attention with other than four dimensions",
        instead="ConversionError",
        applies=_has_other_dimensions,
        change=_raising("ConversionError", "only 4D query, key, and value are supported"),
        pinned=ScaledDotProduct(mode="onnx", dtype="float32", batch=(1,)),
        remedies=(_OLDER,),
    ),
)
