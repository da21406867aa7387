"""Compiled, exported and fake calls: graphs and fake tensors that differ from the real call."""

from dataclasses import replace
from math import prod

from ..cases.case import MultiHead, ScaledDotProduct, Transformer
from ..cases.masks import Mask
from ..contents.arrays import directions
from ..execution.call import arguments
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising
from ..modes.modes import BY_ID, computed_in
from ..modes.reading import COMPILED_READING
from ..path_names import NATIVE_LAYER
from ..releases import since
from .call import Call
from .entry import Deviation
from .native import gives_no_weights_natively
from .paths import (
    asks_for_alignment,
    is_compiled_whole,
    path_of_each_block,
    takes_nested_path,
    takes_nested_path_on_fake_tensors,
)
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    FLOAT32,
    HAS_BIASES,
    NATIVE,
    NO_LARGE_ROW,
    NOT_NESTED,
    Remedy,
    changed,
    fast_path_off,
    off_the_fast_path,
    sequences_first,
    upgrade,
)


def reads_a_mask_for_another_size(call: Call) -> bool:
    """True if a function that inductor builds for any size reads a mask of several keys at their positions."""
    case = call.case
    if case.mode != COMPILED_READING or case.attn_mask is None:
        return False
    has_rows = case.broadcast not in ("1-D", "0-D")
    return has_rows and case.mask_shape("attn_mask")[-1] > 1


def reads_a_mask_for_stepped_keys(call: Call) -> bool:
    """True if such a function gets a key of one feature that steps over others in memory, for several queries."""
    case = call.case
    if not reads_a_mask_for_another_size(call) or case.layout != "stepped":
        return False
    return case.D == 1 and case.L * prod(case.batch) > 1


def packs_fake_tensors(call: Call) -> bool:
    """True if a compiled encoder packs fake tensors, on which padding always seems to come last.

    With dynamic=True the graph breaks first, and the encoder packs real tensors.
    """
    mode = BY_ID[call.case.mode]
    is_fake = mode.family == "compiled" and not mode.id.endswith("_dynamic")
    return is_fake and takes_nested_path_on_fake_tensors(call.case, call.release)


def asks_in_a_graph(call: Call) -> bool:
    """True if the first graph break is the check of an encoder that padding comes last, with fullgraph=True."""
    case, release = call.case, call.release
    if case.mode != "compiled_fullgraph" or not (since(release, "2.5") and not since(release, "2.10")):
        return False
    if not asks_for_alignment(case, release):
        return False
    mask, padding = case.src_mask, case.src_key_padding_mask
    return mask is None or padding is None or mask.form == padding.form  # else a warning breaks the graph first


def asks_of_a_view(call: Call) -> bool:
    """True if an exported encoder checks if padding comes last, and its src has gaps in memory."""
    case = call.case
    if case.mode != "exported" or case.layout not in ("sliced", "stepped"):
        return False
    return asks_for_alignment(case, call.release)


def has_other_strides_than_fake(call: Call) -> bool:
    """True if inductor builds an encoder layer on its fast path, and src is dense but not contiguous.

    On fake tensors the layer's result has the strides of src; in the real call it is contiguous. A packed batch is
    contiguous in both.
    """
    case = call.case
    if not BY_ID[case.mode].builds or not case.has_encoder:
        return False
    if takes_nested_path(case, call.release):
        return False
    is_first = path_of_each_block(case, call.release)[case.blocks[0]] == NATIVE_LAYER
    is_dense = case.layout in ("transposed", "swapped") and not arguments(case)["src"].is_contiguous()
    return is_first and is_dense and is_compiled_whole(case, call.release)


def copies_double_sums(call: Call) -> bool:
    """True if inductor copies the log-sum-exps of the fused kernel in float64 for its backward pass.

    On fake tensors they are float32. They are copied where the kernel's memory order, queries before heads, is not that
    of their dimensions.
    """
    case = call.case
    if not BY_ID[case.mode].builds or computed_in(case) != "float64" or not directions(case):
        return False
    return case.heads > 1 and any(case.number_of_queries(block) > 1 for block in call.flash_blocks())


def confuses_dynamic_shapes(call: Call) -> bool:
    """True if an export looks up a dimension of attn_mask in key_padding_mask, which lacks the dimension."""
    case = call.case
    if case.mode != "exported_dynamic" or case.has_layers:
        return False
    if not (case.attn_mask and case.key_padding_mask) or (case.batched and not case.attn_mask.per_head):
        return False
    further = (case.S,) if case.batched or not case.attn_mask.per_head else (case.L, case.S)
    return max(further) > 1


_SMALL = (NO_LARGE_ROW,)  # else flash-gradient-finfo-min remains

ENTRIES = (
    Deviation(
        id="exported-padding-of-a-view",
        title="nn.TransformerEncoder with padding cannot be exported in eval mode if src has gaps in memory",
        affects="==2.5.*",
        upstream="not found",
        clause=3,
        trigger="torch.export of an encoder that checks if padding comes last, with a src that is part of a larger"
        " tensor and not dense",
        instead="UnsupportedOperatorException of aten._nested_tensor_from_mask_left_aligned, which has no kernel for"
        " fake tensors, but runs on them if src is dense",
        applies=asks_of_a_view,
        change=lambda computation, call: raising(
            computation, "UnsupportedOperatorException", "_nested_tensor_from_mask_left_aligned"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            mode="exported",
            layout="sliced",
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask(),
        ),
        stage="call",
        remedies=(
            Remedy("Give src.contiguous().", changed(layout="contiguous")),
            NOT_NESTED,
            upgrade("2.6"),
        ),
    ),
    Deviation(
        id="exported-masks-out-of-order",
        title="nn.MultiheadAttention with both masks cannot be exported with dynamic shapes",
        affects=">=2.5,<2.8",
        upstream="pytorch/pytorch#149528",
        clause=3,
        trigger="torch.export with dynamic_shapes, and key_padding_mask given after attn_mask, which has further"
        " dimensions of a size other than 1",
        instead="KeyError: keyword arguments are taken in the order of the call, their shapes in the order of the"
        " signature",
        applies=confuses_dynamic_shapes,
        change=lambda computation, call: raising(computation, "KeyError", r"^\d$"),
        pinned=MultiHead(mode="exported_dynamic", L=2, S=2, attn_mask=Mask(), key_padding_mask=Mask(), batched=False),
        stage="call",
        remedies=(
            Remedy(
                "Give key_padding_mask before attn_mask, as the signature has them.",
                changed(mode="exported_in_order"),
                only=(EVERY_QUERY_SEES_A_KEY,),
            ),
            Remedy("Export without dynamic_shapes.", changed(mode="exported"), only=(EVERY_QUERY_SEES_A_KEY,)),
            upgrade("2.8"),
        ),
    ),
    Deviation(
        id="fake-native-weights",
        title="On fake tensors nn.MultiheadAttention returns weights that were not asked for",
        affects=">=2.10",
        upstream="not found",
        clause=3,
        trigger="fake tensors in eval mode, with need_weights=False or an empty batch, on the fast path of"
        " nn.MultiheadAttention",
        instead="weights of shape (0,) come with the output; a real call returns None in their place",
        applies=lambda call: gives_no_weights_natively(call, "fake"),
        change=lambda computation, call: raising(computation, "AssertionError", r"torch\.Size\(\[0\]\).* is not "),
        pinned=MultiHead(num_heads=2, attention="self", need_weights=False, mode="fake"),
        devices=ON_BOTH,
        stage="attention",
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="compiled-nested-raises",
        title="nn.TransformerEncoder cannot be compiled if it might pack a padded batch",
        affects=">=2.1,<2.5",
        upstream="pytorch/pytorch#126025",
        clause=3,
        trigger="torch.compile, except with dynamic=True, and a src_key_padding_mask with which the batch might be"
        " packed into a nested tensor, whichever positions are padding",
        instead="TorchRuntimeError: fake tensors cannot be packed",
        applies=packs_fake_tensors,
        change=lambda computation, call: raising(
            computation,
            "TorchRuntimeError",
            "NestedTensorImpl doesn't support|strided nested tensors are not supported|meta converter nyi"
            "|cannot access free variable 'sizes'",
        ),
        pinned=Transformer(
            mode="compiled",
            module="TransformerEncoder",
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask(),
        ),
        stage="call",
        remedies=(NOT_NESTED, *off_the_fast_path(only=(HAS_BIASES,)), upgrade("2.5")),
    ),
    Deviation(
        id="compiled-whole-padding-raises",
        title="nn.TransformerEncoder with padding cannot be compiled with fullgraph=True",
        affects=">=2.5,<2.10",
        upstream="pytorch/pytorch#163640",
        clause=3,
        trigger="torch.compile(fullgraph=True) and a src_key_padding_mask, in eval mode, in an encoder that might pack"
        " padding (enable_nested_tensor=True and mask_check=True), with or without a src_mask of the same type",
        instead="Unsupported: the encoder checks if padding comes last, which breaks the graph",
        applies=asks_in_a_graph,
        change=lambda computation, call: raising(
            computation, "Unsupported", "torch.* op returned non-Tensor[^$]*_nested_tensor_from_mask_left_aligned"
        ),
        pinned=Transformer(
            mode="compiled_fullgraph",
            module="TransformerEncoder",
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask(),
        ),
        stage="call",
        remedies=(NOT_NESTED, sequences_first(), fast_path_off(), upgrade("2.10")),
    ),
    Deviation(
        id="built-native-layer-transposed",
        title="nn.TransformerEncoder built by inductor raises in eval mode for a transposed src",
        affects=">=2.13",
        upstream="pytorch/pytorch#193966",
        clause=3,
        trigger="torch.compile with its backend inductor and no graph break, and a src that is transposed in memory,"
        " on the fast path of nn.TransformerEncoderLayer",
        instead="AssertionError: strides are not as expected. On fake tensors the layer keeps the strides of src, in"
        " the real call it does not",
        applies=has_other_strides_than_fake,
        change=lambda computation, call: raising(computation, "AssertionError", "expected size .* stride"),
        pinned=Transformer(mode="compiled_inductor", layout="transposed", N=2, S=3, num_heads=2, head_dim=2),
        stage="call",
        remedies=(Remedy("Give src.contiguous().", changed(layout="contiguous"), only=NATIVE),),
    ),
    Deviation(
        id="built-float64-gradient",
        title="The backward pass of attention in float64 raises if inductor has compiled it",
        affects=">=2.6,<2.13",
        upstream="pytorch/pytorch#185539",
        clause=3,
        trigger="torch.compile with its backend inductor, float64, and gradients through the CPU's fused kernel, with"
        " several heads and several queries (2.4 and 2.5 do it too, but are not tested)",
        instead="RuntimeError: on fake tensors the kernel's log-sum-exps are float32, in the real call float64, and the"
        " compiled code copies them as float32",
        applies=copies_double_sums,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "expected scalar type Double but found Float"
        ),
        pinned=ScaledDotProduct(mode="compiled_inductor", autograd="inputs", batch=(1, 2), L=2, S=2, is_causal=True),
        stage="backward",
        remedies=(
            Remedy('Use torch.compile(..., backend="aot_eager").', changed(mode="compiled"), only=_SMALL, cost="speed"),
            replace(FLOAT32, only=_SMALL),
            upgrade("2.13"),
        ),
    ),
    Deviation(
        id="built-mask-by-positions",
        title="A mask that is read at positions in a function for inductor cannot be built for a second size",
        affects=">=2.6,<2.13",
        upstream="pytorch/pytorch#178244",
        clause=3,
        trigger="a function compiled by torch.compile with its backend inductor that makes its mask from positions,"
        " such as padding[sample, key], and compares positions; from the second length on, as the number of keys is"
        " a variable then (2.5 and earlier are not tested)",
        instead="InductorError, or BackendCompilerFailed: the C++ compiler refuses the code that inductor writes",
        applies=reads_a_mask_for_another_size,
        change=lambda computation, call: raising(
            computation, "InductorError|BackendCompilerFailed", "CppCompileError: C\\+\\+ compile error"
        ),
        pinned=ScaledDotProduct(mode=COMPILED_READING, L=2, S=2, attn_mask=Mask("bool", "none")),
        stage="call",
        remedies=(
            Remedy('Use torch.compile(..., backend="aot_eager").', changed(mode="compiled"), only=_SMALL, cost="speed"),
            upgrade("2.13"),
        ),
    ),
    Deviation(
        id="built-mask-of-stepped-key",
        title="A mask read at positions in a function for inductor cannot be built for a key with steps in memory",
        affects=">=2.13",
        upstream="not found",
        clause=3,
        trigger="a function compiled by torch.compile with its backend inductor that makes its mask from positions,"
        " such as padding[sample, key], and compares positions; from the second length on, if the key has one feature"
        " and steps over others in memory, and there are several queries (before, as built-mask-by-positions); on the"
        " math backend other masks raise, too, such as transposed ones, which is not modelled",
        instead="InductorError: the C++ compiler refuses the code that inductor writes",
        applies=reads_a_mask_for_stepped_keys,
        change=lambda computation, call: raising(
            computation, "InductorError", "CppCompileError: C\\+\\+ compile error"
        ),
        pinned=ScaledDotProduct(mode=COMPILED_READING, layout="stepped", L=2, S=2, attn_mask=Mask("bool", "none")),
        stage="call",
        remedies=(
            Remedy("Give key.contiguous().", changed(layout="contiguous")),
            Remedy('Use torch.compile(..., backend="aot_eager").', changed(mode="compiled"), only=_SMALL, cost="speed"),
        ),
    ),
)
