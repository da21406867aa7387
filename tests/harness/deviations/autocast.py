"""What torch.autocast on a CPU makes of a call: who raises, what a float mask becomes, in which dtype it comes back."""

from dataclasses import replace

from ..cases.case import MultiHead, ScaledDotProduct, Transformer, merged_dtype
from ..cases.dtypes import PRECISIONS
from ..cases.masks import Mask
from ..contents.arrays import mask_arrays
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising
from ..modes.modes import computed_in
from .effects import beyond, overflowed
from .empty_inputs import views_nothing
from .entry import Deviation
from .facts import drops_the_mask, is_cast, is_empty, mask_names
from .native import blocks_without_a_bias, misses_the_layers_biases
from .nested_tensors import is_nested, looks_at_no_position, norms_a_packed_batch, packs_nothing, unpacks_too_late
from .paths import path_of_each_block
from .remedies import (
    BY_SMALLER_NUMBER,
    FIRST_KEY,
    NO_INPUT_GRADIENT,
    SEES_A_KEY_UNCAST,
    off_the_fast_path,
    recorded,
    sequences_first,
    upgrade,
    without,
)


def overflowing_masks(call):
    """{name: where it does}: the float masks that hold a number too large for the low precision."""
    if not is_cast(call.case):
        return {}
    limit = PRECISIONS[computed_in(call.case)].max
    masks = {name: array for name, array in mask_arrays(call.case).items() if array.dtype != bool}
    return beyond(masks, limit)


def overflow(computation, call):
    """The masks as they are added: infinite where they overflow."""
    return overflowed(computation, overflowing_masks(call))


def raises_when_packed(call):
    """True if nn.TransformerEncoder packs something into a nested tensor, which its native path then cannot compute."""
    return is_cast(call.case) and is_nested(call) and not packs_nothing(call) and not misses_the_layers_biases(call)


def raises_on_the_native_layer(call):
    """True if the native path of nn.TransformerEncoderLayer has something to compute."""
    return is_cast(call.case) and not is_nested(call) and bool(_busy_native_layers(call))


def _busy_native_layers(call):
    return [block for block in call.blocks("native_layer") if not is_empty(call.case, block)]


def raises_in_native_attention(call):
    """True if the native path of nn.MultiheadAttention is what raises first."""
    return _first_to_raise(call) == "native_mha"


def raises_in_attention(call):
    """True if scaled_dot_product_attention, in a module, is what raises first: its query is cast, not all the rest."""
    return _first_to_raise(call) == "sdpa"


def raise_of_arguments(computation, call):
    """What scaled_dot_product_attention raises: it looks at its keys before it looks at its mask."""
    what = (
        "query, key, and value to have the same dtype" if _has_keys_of_its_own(call.case) else "attn_mask dtype to be"
    )
    return raising(computation, "RuntimeError", f"Expected {what}")


def _has_keys_of_its_own(case):
    """True if keys are given that are no product, or joined by one."""
    return getattr(case, "static", False) or getattr(case, "add_bias_kv", False)


def _first_to_raise(call):
    """The path of the first attention that raises before 2.2, if any does."""
    case = call.case
    if not is_cast(case) or isinstance(case, ScaledDotProduct):
        return None
    if misses_the_layers_biases(call):  # which raises before
        return None
    if packs_nothing(call) and norms_a_packed_batch(call) and case.N * case.S > 0:
        return "native_mha"
    if raises_when_packed(call) or looks_at_no_position(call) or unpacks_too_late(call):  # which raise before, too
        return None
    paths, viewing = path_of_each_block(case, call.release), views_nothing(call)
    raising = {*_busy_native(call), *_unlike(call), *viewing}
    first = next(filter(raising.__contains__, paths), None)
    return None if first is None or first in viewing else paths[first]  # such a view raises an error of its own


def attends_to_nothing_natively(call):
    """True if the native path of nn.MultiheadAttention has nothing to compute, and what it returns is no product."""
    native = [block for block in call.blocks("native_mha") if block not in blocks_without_a_bias(call)]
    is_alone = is_cast(call.case) and isinstance(call.case, MultiHead)
    return is_alone and any(is_empty(call.case, block) for block in native)


def _busy_native(call):
    native = call.blocks("native_layer") + call.blocks("native_mha")
    without = blocks_without_a_bias(call)  # which raise another error
    return [block for block in native if not is_empty(call.case, block) and block not in without]


def _unlike(call):
    """The blocks that give scaled_dot_product_attention arguments of two dtypes."""
    case, fused = call.case, call.blocks("sdpa")
    if _has_keys_of_its_own(case):
        return fused
    alike = (None, computed_in(case))
    masked = [block for block in fused if merged_dtype(case, *mask_names(case, block)) not in alike]
    return [block for block in masked if not drops_the_mask(case, call.release, block)]


def raise_of_dtypes(computation, call):
    """What is multiplied is of two dtypes."""
    return raising(computation, "RuntimeError", "expected scalar type|must have the same dtype")


def returns_what_is_native(call):
    """True if the native path of nn.TransformerEncoderLayer has served a layer of what the call returns."""
    case = call.case
    return is_cast(case) and not getattr(case, "has_decoder", False) and bool(_busy_native_layers(call))


ENTRIES = (
    Deviation(
        id="autocast-mask-overflow",
        title="Under autocast a mask of finfo.min becomes -inf",
        affects=">=2.0",
        upstream="not found",
        clause=2,
        trigger="torch.autocast in bfloat16 on CPU, and a float32 mask that holds a number beyond what bfloat16 has,"
        " such as torch.finfo(torch.float32).min",
        instead="the cast makes it infinite: a row that is masked by it all along sees no key, and is NaN or 0 as the"
        " path has it, where it was a plain mean",
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
        title="Attention raises under autocast on CPU where it is given a mask, or bias_k or static_k",
        affects=">=2.0,<2.2",
        upstream="pytorch/pytorch#99012",
        clause=3,
        trigger="torch.autocast on CPU, and a mask, add_bias_kv or static_k and static_v, where a module gives them to"
        " scaled_dot_product_attention: not where weights are returned, nor where a causal hint takes the mask's place",
        instead="RuntimeError: autocast does not know scaled_dot_product_attention, of whose arguments it has cast only"
        " what is a product",
        applies=raises_in_attention,
        change=raise_of_arguments,
        pinned=MultiHead(dtype="float32", mode="autocast", need_weights=False, key_padding_mask=Mask("bool", "none")),
        stage="attention",
        remedies=(without("torch.autocast", cost="speed and memory"), upgrade("2.2")),
    ),
    Deviation(
        id="autocast-native-attention-raises",
        title="nn.MultiheadAttention raises in eval under autocast on CPU",
        affects=">=2.0,<2.2",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, where the native path of nn.MultiheadAttention serves the call",
        instead="RuntimeError: the native path multiplies what autocast has cast by what it has not",
        applies=raises_in_native_attention,
        change=raise_of_dtypes,
        pinned=MultiHead(dtype="float32", mode="autocast", num_heads=2, attention="self"),
        stage="attention",
        remedies=(sequences_first(), recorded(), upgrade("2.2")),
    ),
    Deviation(
        id="autocast-native-attention-empty",
        title="nn.MultiheadAttention returns another dtype in eval under autocast on CPU for an empty batch",
        affects=">=2.0,<2.2",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, and no sample or no position, where the native path of nn.MultiheadAttention"
        " serves the call",
        instead="the output, which has no element, is of the dtype of the input",
        applies=attends_to_nothing_natively,
        change=lambda computation, call: replace(computation, dtype=call.case.dtype),
        pinned=MultiHead(dtype="float32", mode="autocast", N=0, num_heads=2, attention="self", need_weights=False),
        remedies=(without("torch.autocast", cost="speed and memory"), upgrade("2.2")),
    ),
    Deviation(
        id="autocast-native-layer-raises",
        title="nn.TransformerEncoderLayer raises in eval under autocast on CPU",
        affects=">=2.0,<2.6",
        upstream="pytorch/pytorch#132613",
        clause=3,
        trigger="torch.autocast on CPU, where the encoder layer's native path serves the call",
        instead="RuntimeError: the native path multiplies what autocast has cast by what it has not",
        applies=raises_on_the_native_layer,
        change=raise_of_dtypes,
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
        stage="layer",
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="autocast-native-layer-dtype",
        title="nn.TransformerEncoderLayer returns another dtype in eval under autocast on CPU",
        affects=">=2.6",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, where the encoder layer's native path serves a layer, of a stack any",
        instead="the output is bfloat16 in eval, float32 in training and wherever autograd looks on",
        applies=returns_what_is_native,
        change=lambda computation, call: replace(computation, dtype=computed_in(call.case)),
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="autocast-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval under autocast on CPU",
        affects=">=2.0",
        upstream="pytorch/pytorch#107663",
        clause=3,
        trigger="torch.autocast on CPU and src_key_padding_mask, where the batch is packed into a nested tensor",
        instead="RuntimeError: a scalar type is not what was expected",
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
        remedies=off_the_fast_path(),
    ),
)
