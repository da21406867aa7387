"""Nested tensors that the caller gives: operators that refuse them, or fail on them."""

from dataclasses import replace

import numpy as np

from ..cases.case import UNRECORDED, MultiHead, ScaledDotProduct, Transformer, masks_of
from ..cases.masks import Mask
from ..contents.arrays import directions, the_parameter
from ..contents.packing import BESIDE, JAGGED
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, warning
from ..expectation.specification import Computation
from ..path_names import NATIVE_LAYER, NATIVE_MHA
from ..releases import since
from .call import Call
from .effects import _NO_ELEMENTS
from .entry import Deviation
from .native import misses_the_layers_biases
from .paths import asks_for_alignment, is_left_aligned, nested_lengths, path_of_each_block
from .remedies import (
    EXACT_ACTIVATION,
    FIRST_KEY,
    GLOBAL,
    HAS_BIASES,
    NO_FAST_PATH,
    SLOWER,
    Condition,
    Remedy,
    changed,
)


def meets_no_native_path(call: Call) -> bool:
    """True if a module gets a nested tensor, and a block is off its fast path or there are masks."""
    case = call.case
    if call.lengths is None or not case.has_parameters or misses_the_layers_biases(call):
        return False
    if is_asked_for_padding(call):
        return False
    is_native = {NATIVE_MHA, NATIVE_LAYER}.issuperset(path_of_each_block(case, call.release).values())
    return not is_native or bool(masks_of(case)) or case.mode in JAGGED


def is_asked_for_padding(call: Call) -> bool:
    """True if nn.TransformerEncoder gets a nested tensor and padding, and checks if the padding comes last."""
    case = call.case
    return case.mode == BESIDE and asks_for_alignment(case, call.release)


def norms_a_nested_tensor(call: Call) -> bool:
    """True if LayerNorm itself gets a nested tensor, in 2.0 one in a backward pass."""
    case = call.case
    if call.lengths is None or not case.has_layers:
        return False
    if not case.norm and NATIVE_MHA not in path_of_each_block(case, call.release).values():
        return False
    return not since(call.release, "2.0") or (
        bool(directions(case)) and (case.norm or not case.norm_first or "norm" in the_parameter(case))
    )


def has_only_empty_sequences(call: Call) -> bool:
    """True if nn.MultiheadAttention gets a nested tensor of empty sequences on its fast path."""
    return call.lengths is not None and not any(call.lengths) and bool(call.blocks(NATIVE_MHA))


def is_nested_sdpa(call: Call, *modes: str) -> bool:
    """True if scaled_dot_product_attention gets nested tensors, in one of these modes."""
    return call.case.mode in modes and not call.case.has_parameters


def has_no_backend(call: Call) -> bool:
    """True if scaled_dot_product_attention gets jagged tensors for which no backend is left.

    These have no dimension of heads, have holes, or come with is_causal=True.
    """
    case = call.case
    if not is_nested_sdpa(call, *JAGGED):
        return False
    is_fit = call.release.device_type == "cuda" and case.dtype == "float32" and case.D % 4 == case.Dv % 4 == 0
    return len(case.batch) == 1 or case.mode == "jagged_narrow" or (case.is_causal and not is_fit)


def has_holes(call: Call) -> bool:
    """True if scaled_dot_product_attention gets jagged tensors with numbers between the samples."""
    return is_nested_sdpa(call, "jagged_narrow")


def closes_holes_in_a_backward_pass(call: Call) -> bool:
    """True if holes of jagged tensors have been closed by contiguous(), and autograd differentiates that."""
    return is_nested_sdpa(call, "jagged_contiguous") and not has_no_backend(call) and bool(directions(call.case))


def number_of_queries(call: Call) -> int:
    """The queries of all samples together, for each head."""
    assert call.lengths is not None  # the mode packs
    return sum(call.lengths) if call.case.L == call.case.S else call.case.L * len(call.lengths)


def pads_heads_first(call: Call, *modes: str) -> bool:
    """True if to_padded_tensor gets a jagged result in which heads stand before queries."""
    return is_nested_sdpa(call, *modes) and not has_no_backend(call)


def unpads_in_a_backward_pass(call: Call) -> bool:
    """True if the backward pass of to_padded_tensor takes the number of heads for that of all queries."""
    if not pads_heads_first(call, "jagged_to_padded", "jagged_values_to_padded"):
        return False
    return bool(directions(call.case)) and number_of_queries(call) != call.case.batch[-1]


def loses_queries(call: Call) -> bool:
    """True if to_padded_tensor pads to the number of heads, and a sample has more queries."""
    return pads_heads_first(call, "jagged_values_to_padded") and call.case.batch[-1] < call.case.L


def without_further_queries(computation: Computation, call: Call) -> Computation:
    """The computation with results of 0 for queries behind as many as there are heads."""
    kept = np.arange(call.case.L)[:, None] < call.case.batch[-1]
    return replace(computation, finish=lambda name, array: np.where(kept, array, 0))


def raise_without_backend(computation: Computation, call: Call) -> Computation:
    """The call raises; on CUDA it also warns, with the reasons of each kernel."""
    reasons = "Flash attention requires|requires last dimension|requires query, key and|Expected query, key and value"
    return raising(
        warning(computation, reasons),
        "RuntimeError|AcceleratorError",
        "No viable backend|CUDA|split_with_sizes expects|expected to contain only concrete integers",
    )


def has_only_empty_keys(call: Call) -> bool:
    """True if scaled_dot_product_attention gets nested tensors in which no sample has a key."""
    if not is_nested_sdpa(call, "nested_strided", *JAGGED) or has_no_backend(call):
        return False
    assert call.lengths is not None  # the mode packs
    return not any(call.lengths)


def has_fewer_scores_than_queries(call: Call) -> bool:
    """True if scaled_dot_product_attention gets nested tensors with fewer scores than queries in total.

    Each sample has L queries if L and S differ.
    """
    if not is_nested_sdpa(call, "nested_strided", *JAGGED) or has_no_backend(call):
        return False
    assert call.lengths is not None  # the mode packs
    return call.case.L != call.case.S and 0 < sum(call.lengths) < len(call.lengths)


PADDING_ALONE = Condition(
    "padding comes last, autograd records nothing, and there is no other mask and no final norm",
    lambda case: (
        len(masks_of(case)) == 1
        and is_left_aligned(nested_lengths(case)[1])
        and not case.norm
        and case.autograd in UNRECORDED
    ),
)

HAS_QUERIES = Condition("there is a query", lambda case: case.L > 0 and 0 not in case.batch)

HAS_FEATURES = Condition("queries and keys have features", lambda case: case.D > 0)

POSITIVE_SCALE = Condition("the scale is positive", lambda case: case.scale is None or case.scale > 0)

PADDED = Remedy(
    "Give a padded batch, and the padding as attn_mask.", changed(mode="eager"), ">=2.5", cost="speed and memory"
)

_PADDED_BATCH = Remedy("Give a padded batch.", changed(mode="eager"), only=(POSITIVE_SCALE, HAS_FEATURES), cost=SLOWER)
_BACK_BEFORE_PADDING = Remedy(
    "Transpose the result before it is padded: torch.nested.to_padded_tensor(result.transpose(1, 2), 0.0)."
    "transpose(1, 2).",
    changed(mode="jagged_from_values"),
)

ENTRIES = (
    Deviation(
        id="nested-sdpa-no-keys",
        title="scaled_dot_product_attention raises for nested tensors of empty sequences",
        affects=">=2.2",
        upstream="not found",
        clause=4,
        trigger="nested tensors, strided or jagged, in which all sequences of keys are empty",
        instead="RuntimeError from the conversion to a padded tensor, since 2.12 an internal error if the tensor is"
        " strided",
        applies=has_only_empty_keys,
        change=lambda computation, call: raising(
            computation,
            "RuntimeError",
            "at least one constituent tensor should have non-zero numel|NestedTensorImpl doesn't support sizes",
        ),
        pinned=ScaledDotProduct(mode="nested_strided", attn_mask=Mask("bool", "all"), mask_batch=(1, 1), broadcast="L"),
        devices=ON_BOTH,
        stage="attention",
        remedies=(PADDED, replace(FIRST_KEY, only=(HAS_QUERIES, HAS_FEATURES))),
    ),
    Deviation(
        id="nested-sdpa-few-keys",
        title="scaled_dot_product_attention raises for nested tensors with fewer scores than queries",
        affects=">=2.5",
        upstream="not found",
        clause=4,
        trigger="nested tensors with so many empty sequences of keys that all samples together have fewer scores than"
        " queries, on the math backend",
        instead="RuntimeError: the tensor that marks hidden rows is laid over the memory of the scores, and needs more",
        applies=has_fewer_scores_than_queries,
        change=lambda computation, call: raising(computation, "RuntimeError", "setStorage: sizes .* are out of bounds"),
        pinned=ScaledDotProduct(
            mode="nested_jagged",
            batch=(2, 1),
            L=2,
            attn_mask=Mask("bool", "slice"),
            mask_batch=(2, 1),
            broadcast="L",
        ),
        devices=ON_BOTH,
        stage="attention",
        remedies=(PADDED, replace(FIRST_KEY, only=(HAS_QUERIES, HAS_FEATURES))),
    ),
    Deviation(
        id="nested-mha-no-keys",
        title="nn.MultiheadAttention raises for a nested tensor of empty sequences",
        affects=">=2.2",
        upstream="pytorch/pytorch#178677",
        clause=4,
        trigger="a nested tensor in which all sequences are empty, in eval mode, on the fast path",
        instead="RuntimeError from to_padded_tensor, on CUDA AcceleratorError: an invalid argument",
        applies=has_only_empty_sequences,
        change=lambda computation, call: raising(computation, *_NO_ELEMENTS),
        pinned=MultiHead(mode="nested_strided", num_heads=2, attention="self", key_padding_mask=Mask("bool", "all")),
        devices=ON_BOTH,
        stage="attention",
        remedies=(
            FIRST_KEY,
            Remedy(
                f"{NO_FAST_PATH}, then give a padded batch and need_weights=False.",
                changed(mode="eager", fast_path=False, need_weights=False),
                ">=2.5",
                cost=f"no weights are returned; {GLOBAL}",
            ),
        ),
    ),
    Deviation(
        id="nested-beside-padding",
        title="nn.TransformerEncoder raises NotImplementedError for a nested src given with src_key_padding_mask",
        affects=">=1.13",
        upstream="not found",
        clause=9,
        trigger="a nested src given with a src_key_padding_mask, in eval mode, in an encoder that might pack padding:"
        " norm_first=False, enable_nested_tensor=True and mask_check=True",
        instead="NotImplementedError from an undocumented function; the layer alone says that it takes no masks with"
        " nested tensors",
        applies=is_asked_for_padding,
        change=lambda computation, call: raising(
            computation, "NotImplementedError", "_nested_tensor_from_mask_left_aligned"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            mode="nested_beside_padding",
            N=2,
            S=2,
            num_heads=2,
            src_key_padding_mask=Mask("bool", "right"),
        ),
        stage="stack",
        remedies=(
            Remedy(
                "Give no padding mask.",
                changed(mode="nested_strided"),
                only=(PADDING_ALONE, EXACT_ACTIVATION, HAS_BIASES),
            ),
        ),
    ),
    Deviation(
        id="jagged-sdpa-no-backend",
        title="scaled_dot_product_attention raises for jagged tensors with is_causal=True, or without heads",
        affects=">=2.3",
        upstream="pytorch/pytorch#156660",
        clause=6,
        trigger="jagged nested tensors with is_causal=True (on CUDA only if no fused kernel takes them), or of three"
        " dimensions",
        instead="RuntimeError: there is no backend. A build for CUDA without a GPU says that its driver is too old"
        " (since 2.8 as AcceleratorError); tensors of one feature give an error about sizes that do not fit",
        applies=lambda call: has_no_backend(call) and not has_holes(call),
        change=raise_without_backend,
        pinned=ScaledDotProduct(mode="nested_jagged", L=2, S=2, is_causal=True),
        devices=ON_BOTH,
        stage="attention",
        remedies=(_PADDED_BATCH,),
    ),
    Deviation(
        id="jagged-holes-no-backend",
        title="scaled_dot_product_attention takes no jagged tensor made by torch.nested.narrow",
        affects=">=2.7",
        upstream="not found",
        clause=3,
        trigger="a jagged tensor with holes: a view of a padded batch by torch.nested.narrow, or by"
        " torch.nested.nested_tensor_from_jagged with offsets and lengths; not if all samples but the"
        " last are as long as the batch (2.6 does it too, but is not tested)",
        instead="RuntimeError: there is no backend. A build for CUDA without a GPU says that"
        " its driver is too old (since 2.8 as AcceleratorError)",
        applies=has_holes,
        change=lambda computation, call: raising(
            computation, "RuntimeError|AcceleratorError", "No viable backend|CUDA"
        ),
        pinned=ScaledDotProduct(mode="jagged_narrow", batch=(1, 1)),
        stage="attention",
        remedies=(_PADDED_BATCH,),
    ),
    Deviation(
        id="jagged-contiguous-gradient",
        title="The backward pass of contiguous() raises for a jagged tensor made by torch.nested.narrow",
        affects=">=2.7",
        upstream="pytorch/pytorch#145837",
        clause=3,
        trigger="gradients through contiguous(), which makes a jagged tensor with holes fit for"
        " scaled_dot_product_attention (2.5 and 2.6 do it too, but are not tested)",
        instead="RuntimeError: autograd compares the shapes of both tensors, whose symbolic lengths differ",
        applies=closes_holes_in_a_backward_pass,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "CloneBackward0 returned an invalid gradient"
        ),
        pinned=ScaledDotProduct(autograd="grad", mode="jagged_contiguous"),
        stage="backward",
        remedies=(_PADDED_BATCH,),
    ),
    Deviation(
        id="jagged-padded-gradient",
        title="The backward pass of to_padded_tensor raises for a jagged tensor with heads before positions",
        affects=">=2.7",
        upstream="not found",
        clause=3,
        trigger="gradients through torch.nested.to_padded_tensor of the result of scaled_dot_product_attention, whose"
        " jagged dimension is the second last, unless the queries of all samples are as many as the heads (2.6 does it"
        " too, but is not tested)",
        instead="RuntimeError: the number of heads is taken for that of all queries",
        applies=unpads_in_a_backward_pass,
        change=lambda computation, call: raising(computation, "RuntimeError", "final offset should match total_L"),
        pinned=ScaledDotProduct(autograd="grad", mode="jagged_to_padded", L=2),
        stage="backward",
        remedies=(_BACK_BEFORE_PADDING,),
    ),
    Deviation(
        id="jagged-padded-to-heads",
        title="to_padded_tensor drops positions of a jagged tensor with heads before positions, silently",
        affects=">=2.7",
        upstream="pytorch/pytorch#159380",
        clause=3,
        trigger="torch.nested.to_padded_tensor of the result of scaled_dot_product_attention, where the jagged tensors"
        " were made by torch.nested.nested_tensor_from_jagged without max_seqlen (2.6 does it too, but is not tested)",
        instead="the result is padded to as many positions as there are heads; positions behind them are lost",
        applies=loses_queries,
        change=without_further_queries,
        pinned=ScaledDotProduct(mode="jagged_values_to_padded", L=2),
        stage="call",
        remedies=(_BACK_BEFORE_PADDING,),
    ),
)
