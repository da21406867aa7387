"""torch.autocast on a CPU: errors, float masks that overflow, and dtypes of results."""

from dataclasses import replace

import numpy as np

from ..cases.case import UNRECORDED, MultiHead, Transformer, masks_of, merged_dtype, source_of
from ..cases.dtypes import PRECISIONS
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising
from ..expectation.specification import Computation
from ..modes.modes import computed_in
from ..path_names import BY_SDPA, NATIVE_LAYER, NATIVE_MHA
from .call import Call
from .effects import beyond, overflowed
from .empty_inputs import views_nothing
from .entry import Deviation
from .facts import drops_the_mask, is_cast, is_empty
from .native import blocks_without_a_bias, misses_the_layers_biases
from .nested_tensors import (
    casts_for_packed_padding,
    is_nested,
    looks_at_no_position,
    memory_is_too_short,
    packs_nothing,
    unpacks_too_late,
)
from .paths import path_of_each_block
from .remedies import (
    BY_SMALLER_NUMBER,
    EVERY_QUERY_SEES_A_KEY,
    FIRST_KEY,
    NO_LARGE_ROW,
    OWN_DTYPE,
    SEES_A_KEY_BEFORE_2_5,
    Condition,
    off_the_fast_path,
    recorded,
    sequences_first,
    until,
    upgrade,
    without,
)


def overflowing_masks(call: Call) -> dict[str, np.ndarray]:
    """{name: bool array} of float masks, True at numbers too large for the low precision."""
    if not is_cast(call.case):
        return {}
    limit = PRECISIONS[computed_in(call.case)].max
    masks = {name: array for name, array in mask_arrays(call.case).items() if array.dtype != bool}
    return beyond(masks, limit)


def overflow(computation: Computation, call: Call) -> Computation:
    """The computation with masks that are infinite where they overflow."""
    return overflowed(computation, overflowing_masks(call))


def raises_when_packed(call: Call) -> bool:
    """True if nn.TransformerEncoder packs at least one position into a nested tensor under autocast.

    Its fast path cannot compute the packed batch then.
    """
    return is_cast(call.case) and is_nested(call) and not packs_nothing(call) and not misses_the_layers_biases(call)


def raises_on_the_native_layer(call: Call) -> bool:
    """True if the fast path of nn.TransformerEncoderLayer has something to compute under autocast."""
    return is_cast(call.case) and not is_nested(call) and bool(_busy_native_layers(call))


def _busy_native_layers(call):
    return [block for block in call.blocks(NATIVE_LAYER) if not is_empty(call.case, block)]


def raises_in_native_attention(call: Call) -> bool:
    """True if the first error comes from the fast path of nn.MultiheadAttention."""
    return _first_to_raise(call) == NATIVE_MHA


def raises_in_attention(call: Call) -> bool:
    """True if the first error comes from scaled_dot_product_attention in a module.

    Autocast has cast its query, but not all of its other arguments.
    """
    return _first_to_raise(call) == BY_SDPA


def raise_of_arguments(computation: Computation, call: Call) -> Computation:
    """scaled_dot_product_attention raises. It checks the dtypes of its keys before that of its mask."""
    what = (
        "query, key, and value to have the same dtype" if _has_keys_of_its_own(call.case) else "attn_mask dtype to be"
    )
    return raising(computation, "RuntimeError", f"Expected {what}")


def _has_keys_of_its_own(case):
    """True if some keys are given as they are, and so are not cast: static_k, or bias_k behind projected keys."""
    return case.static or case.add_bias_kv


def _first_to_raise(call):
    """The path of the first attention that raises before 2.2; None if none does."""
    case = call.case
    if not (is_cast(case) and case.has_parameters):
        return None
    if misses_the_layers_biases(call):  # raises earlier
        return None
    if casts_for_packed_padding(call):
        return NATIVE_MHA
    if raises_when_packed(call) or looks_at_no_position(call) or unpacks_too_late(call):  # these raise earlier, too
        return None
    paths, others = path_of_each_block(case, call.release), {*views_nothing(call)}  # these raise another error
    if memory_is_too_short(call):
        others |= {block for block in paths if source_of(block) == "memory"}
    raising = {*_busy_native(call), *_unlike(call), *others}
    first = next(filter(raising.__contains__, sorted(paths, key=_turn)), None)
    return None if first is None or first in others else paths[first]


def _turn(block):
    """The key by which blocks are sorted in the order of the calls."""
    return source_of(block) != "src", block.endswith(".last")


def attends_to_nothing_natively(call: Call) -> bool:
    """True if nn.MultiheadAttention's fast path has nothing to compute, so that autocast casts nothing."""
    native = [block for block in call.blocks(NATIVE_MHA) if block not in blocks_without_a_bias(call)]
    is_alone = is_cast(call.case) and not call.case.has_layers
    return is_alone and any(is_empty(call.case, block) for block in native)


def _busy_native(call):
    native = call.blocks(NATIVE_LAYER) + call.blocks(NATIVE_MHA)
    without = blocks_without_a_bias(call)  # these raise another error
    return [block for block in native if not is_empty(call.case, block) and block not in without]


def _unlike(call):
    """The blocks that give scaled_dot_product_attention arguments of two dtypes."""
    case, fused = call.case, call.blocks(BY_SDPA)
    if _has_keys_of_its_own(case):
        return fused
    alike = (None, computed_in(case))
    masked = [block for block in fused if merged_dtype(case, *case.mask_names(block)) not in alike]
    return [block for block in masked if not drops_the_mask(case, call.release, block)]


def raise_of_dtypes(computation: Computation, call: Call) -> Computation:
    """A product raises, since its operands have two dtypes."""
    return raising(computation, "RuntimeError", "expected scalar type|must have the same dtype")


def returns_what_is_native(call: Call) -> bool:
    """True if the call returns the output of an encoder with a layer on its fast path."""
    case = call.case
    return is_cast(case) and not case.has_decoder and bool(_busy_native_layers(call))


SEES_A_KEY_UNCAST = Condition(
    "no query is fully masked without the cast",
    lambda case: EVERY_QUERY_SEES_A_KEY.holds(replace(case, mode="eager")),
)

# before 2.2 the other paths raise for each mask (autocast-mask-raises)
NO_MASK_BEFORE_2_2 = until("2.2", Condition("there is no mask", lambda case: not masks_of(case)))

NO_INPUT_GRADIENT = Condition("no input requires a gradient", lambda case: case.autograd in UNRECORDED)

ENTRIES = (
    Deviation(
        id="autocast-mask-overflow",
        title="Under autocast a mask of finfo.min becomes -inf",
        affects=">=2.0",
        upstream="not found",
        clause=2,
        trigger="torch.autocast in bfloat16 or float16, and a float32 mask with a number beyond the range of that"
        " dtype, such as torch.finfo(torch.float32).min, or -1e9 in float16 (1.13 does it too, but is not tested under"
        " autocast)",
        instead="the cast makes the number infinite: a row that holds only such numbers becomes fully masked, and"
        " gives NaN or 0, depending on the path, in place of a plain mean",
        applies=lambda call: bool(overflowing_masks(call)),
        change=overflow,
        pinned=MultiHead(dtype="float32", mode="autocast", attn_mask=Mask("float", "all", "min")),
        devices=ON_BOTH,
        remedies=(
            BY_SMALLER_NUMBER,
            without("torch.autocast", cost="speed and memory", only=(NO_INPUT_GRADIENT, SEES_A_KEY_UNCAST)),
            FIRST_KEY,
        ),
    ),
    Deviation(
        id="autocast-mask-raises",
        title="Attention raises under autocast on CPU if it is given a mask, bias_k or static_k",
        affects=">=2.0,<2.2",
        upstream="pytorch/pytorch#99012",
        clause=3,
        trigger="torch.autocast on CPU, and a mask, add_bias_kv, or static_k and static_v, which a module gives to"
        " scaled_dot_product_attention; not if weights are returned, nor if a causal hint replaces the mask",
        instead="RuntimeError: autocast does not know scaled_dot_product_attention, and has cast only those of its"
        " arguments that are products",
        applies=raises_in_attention,
        change=raise_of_arguments,
        pinned=MultiHead(dtype="float32", mode="autocast", need_weights=False, key_padding_mask=Mask("bool", "none")),
        stage="attention",
        remedies=(
            without("torch.autocast", cost="speed and memory", only=(SEES_A_KEY_BEFORE_2_5, OWN_DTYPE)),
            upgrade("2.2"),
        ),
    ),
    Deviation(
        id="autocast-native-attention-raises",
        title="nn.MultiheadAttention raises in eval mode under autocast on CPU",
        affects=">=2.0,<2.2",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, and a call on the fast path of nn.MultiheadAttention (1.13 does it too, but is"
        " not tested under autocast)",
        instead="RuntimeError: the fast path multiplies tensors that autocast has cast by tensors that it has not cast",
        applies=raises_in_native_attention,
        change=raise_of_dtypes,
        pinned=MultiHead(dtype="float32", mode="autocast", num_heads=2, attention="self"),
        stage="attention",
        remedies=(sequences_first(), recorded(), upgrade("2.2")),
    ),
    Deviation(
        id="autocast-native-attention-empty",
        title="nn.MultiheadAttention returns another dtype for an empty batch in eval mode under autocast on CPU",
        affects=">=2.0,<2.2",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, and no sample or no position, on the fast path of nn.MultiheadAttention",
        instead="the output, which has no elements, has the dtype of the input",
        applies=attends_to_nothing_natively,
        change=lambda computation, call: replace(computation, dtype=call.case.dtype),
        pinned=MultiHead(dtype="float32", mode="autocast", N=0, num_heads=2, attention="self", need_weights=False),
        remedies=(without("torch.autocast", cost="speed and memory"), upgrade("2.2")),
    ),
    Deviation(
        id="autocast-native-layer-raises",
        title="nn.TransformerEncoderLayer raises in eval mode under autocast on CPU",
        affects=">=2.0,<2.6",
        upstream="pytorch/pytorch#132613",
        clause=3,
        trigger="torch.autocast on CPU, and a call on the fast path of nn.TransformerEncoderLayer (1.13 does it too,"
        " but is not tested under autocast)",
        instead="RuntimeError: the fast path multiplies tensors that autocast has cast by tensors that it has not cast",
        applies=raises_on_the_native_layer,
        change=raise_of_dtypes,
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
        stage="layer",
        remedies=off_the_fast_path(only=(NO_MASK_BEFORE_2_2, NO_LARGE_ROW)),
    ),
    Deviation(
        id="autocast-native-layer-dtype",
        title="nn.TransformerEncoderLayer returns another dtype in eval mode under autocast on CPU",
        affects=">=2.6",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, and nn.TransformerEncoderLayer on its fast path, or a stack with any layer on"
        " it",
        instead="the output has the dtype of autocast, bfloat16 or float16, in eval mode, but is float32 in training"
        " mode and whenever autograd records the call",
        applies=returns_what_is_native,
        change=lambda computation, call: replace(computation, dtype=computed_in(call.case)),
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="autocast-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval mode under autocast on CPU",
        affects=">=2.0",
        upstream="pytorch/pytorch#107663",
        clause=3,
        trigger="torch.autocast on CPU and src_key_padding_mask, if the batch is packed into a nested tensor (1.13 does"
        " it too, but is not tested under autocast)",
        instead="RuntimeError about an unexpected scalar type",
        applies=raises_when_packed,
        change=raise_of_dtypes,
        pinned=Transformer(
            dtype="float32",
            mode="autocast",
            module="TransformerEncoder",
            N=2,
            S=3,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "none"),
        ),
        stage="layer",
        remedies=off_the_fast_path(">=2.2", only=(NO_LARGE_ROW,)),
    ),
)
