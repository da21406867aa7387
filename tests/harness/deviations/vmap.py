"""Gradients through torch.func.vmap: within it, torch does not see that a mapped tensor requires one."""

from dataclasses import replace

from ..cases.case import MultiHead, ScaledDotProduct
from ..cases.masks import Mask
from ..contents.arrays import directions
from ..expectation.changes import raising
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from ..path_names import NATIVE_LAYER, NATIVE_MHA
from .call import Call
from .empty_inputs import views_nothing
from .entry import Deviation
from .facts import drops_the_mask, needs_mask_gradient
from .functorch import computed, fused_blocks
from .fused_cpu import is_short_of_dimensions
from .native import blocks_without_a_bias, differentiates
from .paths import follows_a_mapped_mask, path_of_each_block
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    MATH_BACKEND,
    OWN_DTYPE,
    SEES_A_KEY_BEFORE_2_5,
    SLOWER,
    Remedy,
    fast_path_off,
    in_releases,
    sequences_first,
    without,
)

_FAST_PATHS = {NATIVE_LAYER: "_transformer_encoder_layer_fwd", NATIVE_MHA: "_native_multi_head_attention"}


def block_with_a_hidden_gradient(call: Call) -> str | None:
    """The first block in which the fused kernel gets a learned mask that vmap maps; None if an error comes first."""
    case = call.case
    if not BY_ID[case.mode].maps("masks") or is_short_of_dimensions(call):
        return None
    raising_before = {*views_nothing(call), *blocks_without_a_bias(call)}
    fused = fused_blocks(call)
    for block in case.blocks:
        if block in raising_before:
            return None
        is_given = needs_mask_gradient(case, block) and not drops_the_mask(case, call.release, block)
        if block in fused and is_given:
            return block
    return None


def native_paths_of_gradients(call: Call) -> tuple[str, ...]:
    """The fast path of each attention, in order, whose input requires a gradient under vmap.

    Masks that encoder layers, or attentions before 2.1, learn on their fast path are another deviation.
    """
    is_mapped = BY_ID[call.case.mode].family == "vmap" and bool(directions(call.case))
    if not is_mapped or any(differentiates(call, path) for path in _FAST_PATHS):
        return ()
    native = {block: path for path in _FAST_PATHS for block in call.blocks(path)} | _native_in_later_layers(call)
    return tuple(native[block] for block, moves in computed(call) if moves and block in native) if native else ()


def _native_in_later_layers(call):
    """{block: path} where the first layer sees that its input requires a gradient, and later layers do not."""
    if call.case.autograd not in ("inputs", "one_input"):
        return {}
    paths = path_of_each_block(replace(call.case, autograd="frozen"), call.release)
    return {
        block: path for block, path in paths.items() if path in _FAST_PATHS and follows_a_mapped_mask(call.case, block)
    }


def raise_natively(computation: Computation, call: Call) -> Computation:
    """The computation whose backward pass raises at the last attention on a fast path."""
    operator = _FAST_PATHS[native_paths_of_gradients(call)[-1]]
    return raising(computation, "RuntimeError", f"derivative for aten::{operator} is not implemented")


_MAPPED_MATH = Remedy(
    MATH_BACKEND.text,
    lambda case: replace(case, mode=f"{case.mode}_math"),
    only=(SEES_A_KEY_BEFORE_2_5, OWN_DTYPE),
    cost=MATH_BACKEND.cost,
)
# without a mask, vmap cannot map other paths in 2.1 and 2.2
_SEEING = (EVERY_QUERY_SEES_A_KEY,)
_OFF_THE_FAST_PATH = (*in_releases("!=2.1.*,!=2.2.*", sequences_first(_SEEING)), fast_path_off(_SEEING))


def _unmapped(*only):
    return without("torch.func.vmap", only=(*only, OWN_DTYPE), cost=SLOWER)


ENTRIES = (
    Deviation(
        id="vmap-mask-gradient",
        title="A float mask cannot be learned through torch.func.vmap",
        affects=">=2.3",
        upstream="pytorch/pytorch#158610",
        clause=5,
        trigger="a float mask that requires a gradient, and that torch.func.vmap maps, in"
        " scaled_dot_product_attention or a module that calls it, if the CPU's fused kernel takes the call; with a"
        " query of three dimensions since 2.14",
        instead="RuntimeError: under vmap torch does not see that the mask requires a gradient, and chooses the fused"
        " kernel, which gives none",
        applies=lambda call: block_with_a_hidden_gradient(call) is not None,
        change=lambda computation, call: raising(
            computation,
            "RuntimeError",
            "_scaled_dot_product_flash_attention_for_cpu' is not differentiable with respect to argument 'attn_mask'",
        ),
        pinned=ScaledDotProduct(mode="vmap", autograd="mask", attn_mask=Mask("float")),
        stage="attention",
        remedies=(_MAPPED_MATH, _unmapped(SEES_A_KEY_BEFORE_2_5)),
    ),
    Deviation(
        id="vmap-native-gradient",
        title="Inputs get no gradient through torch.func.vmap while the parameters are frozen",
        affects=">=2.0",
        upstream="pytorch/pytorch#158610",
        clause=3,
        trigger="an input that requires a gradient, and that torch.func.vmap maps, on a fast path in eval mode, if no"
        " parameter does",
        instead="backward raises: under vmap the modules do not see that their input requires a gradient, and take the"
        " fast path, which has no derivative",
        applies=lambda call: bool(native_paths_of_gradients(call)),
        change=raise_natively,
        pinned=MultiHead(mode="vmap", autograd="inputs", num_heads=2, attention="self"),
        stage="backward",
        remedies=(*_OFF_THE_FAST_PATH, _unmapped(*_SEEING)),
    ),
)
