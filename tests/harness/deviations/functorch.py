"""Derivatives by torch.func: operators that take no tangent, or no transform."""

from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial

import numpy as np

from ..cases.case import MultiHead, Transformer
from ..cases.masks import Mask
from ..contents.arrays import directions
from ..execution.call import arguments
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, with_kernel, without_gradient
from ..expectation.specification import specification
from ..modes.modes import BY_ID
from ..modes.vmap import VMAP_OF_PARAMETERS
from ..path_names import NATIVE_LAYER, NATIVE_MHA, SDPA_CUDNN, SDPA_EFFICIENT, SDPA_FLASH
from ..releases import since
from .call import Call
from .causal_hints import dropped_masks
from .empty_inputs import views_nothing
from .entry import Deviation
from .facts import is_empty, is_served_by_no_kernel
from .native import blocks_without_a_bias, differentiates, misses_the_layers_biases
from .nested_tensors import is_nested, looks_at_no_position
from .paths import is_given_what_moves
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    FIRST_KEY_AND_SEQUENCES_FIRST,
    NOT_NESTED,
    OWN_DTYPE,
    Condition,
    Remedy,
    fast_path_off,
    off_the_fast_path,
    sequences_first,
    with_masks,
)


def moves_an_expanded_tensor(call: Call) -> bool:
    """True if an argument with a tangent shares memory among its elements, and is not on CUDA."""
    case = call.case
    if not BY_ID[case.mode].is_forward or not directions(case) or call.release.device_type == "cuda":
        return False
    return any(_shares_memory(tensor) for name, tensor in arguments(case).items() if name in directions(case))


def _shares_memory(tensor):
    is_shared = any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return is_shared and tensor.numel() > 0


def meets_what_takes_no_tangent(call: Call) -> bool:
    """True if an operator without a forward-mode derivative gets a tangent, and nothing raises earlier.

    Fused kernels, fast paths and the conversion to a nested tensor lack this derivative. The ledger has the earlier
    errors.
    """
    return block_without_tangent(call) is not None


def block_without_tangent(call: Call, ending: Container[str] = ()) -> str | None:
    """The first block in which an operator without a forward-mode derivative gets a tangent; None if there is none.

    ending: blocks that raise. Blocks after them are never computed.
    """
    case = call.case
    if not BY_ID[case.mode].is_forward or moves_an_expanded_tensor(call) or looks_at_no_position(call):
        return None
    if is_nested(call):
        return case.blocks[0] if "src" in directions(case) else None
    raising, taking_none = {*views_nothing(call), *blocks_without_a_bias(call)}, _taking_none(call)
    computed = _computed(call)
    for place, (block, has_tangent) in enumerate(computed):
        if block in raising or block in ending:
            return None
        is_early = case.autograd in ("last_layer", "one_parameter") and block in dict(computed[place + 1 :])
        if block in taking_none and (has_tangent or (not is_early and _has_tangent_within(call, block))):
            return block
    return None


def meets_no_second_derivative(call: Call) -> bool:
    """True if gradients that pass through a fused kernel, which has no second derivative, are differentiated.

    The ledger has the errors of the forward pass and of the first backward pass.
    """
    if not BY_ID[call.case.mode].is_second_order or not directions(call.case) or views_nothing(call):
        return False
    if misses_the_layers_biases(call):
        return False
    if differentiates(call, NATIVE_LAYER) or (not since(call.release, "2.1") and differentiates(call, NATIVE_MHA)):
        return False
    fused = fused_blocks(call)
    return bool(fused) and any(block in fused and depends for block, depends in _computed(call))


def fused_blocks(call: Call) -> tuple[str, ...]:
    """The blocks that are served by a fused kernel."""
    fused = call.sdpa_blocks(SDPA_FLASH, SDPA_EFFICIENT, SDPA_CUDNN)
    if since(call.release, "2.12"):  # empty inputs need no kernel
        return tuple(block for block in fused if not _is_empty(call, block))
    return fused


def _taking_none(call):
    """The blocks that are served by a kernel without a forward-mode derivative."""
    return {*fused_blocks(call), *call.blocks(NATIVE_LAYER), *call.blocks(NATIVE_MHA)}


def _is_empty(call, block):
    case = call.case
    if not case.has_parameters:
        return is_served_by_no_kernel(case, call.release)
    return is_empty(case, block) and not case.appended_keys


def _has_tangent_within(call, block):
    """True if the block's fast path gets a parameter with a tangent together with query, key and value."""
    parts = {NATIVE_LAYER: "layer", NATIVE_MHA: "attention"}
    return any(block in call.blocks(path) and is_given_what_moves(call.case, block, parts[path]) for path in parts)


def _computed(call):
    """`computed` where fast paths, which record no gradient, lose a tangent; in forward mode they raise."""
    return computed(call, {*call.blocks(NATIVE_LAYER), *call.blocks(NATIVE_MHA), *["src"] * is_nested(call)})


def computed(call: Call, losing: Container[str] = ()) -> list[tuple[str, bool]]:
    """(block, True if its query, a key, a value or a mask has a tangent) of each attention, in order.

    In the reference a tangent is the imaginary part of an array. losing: the results of these blocks have none.
    """
    case, attentions = call.case, []
    computation = without_gradient(specification(case, displace=tuple(directions(case))), dropped_masks(call))

    def noting(block: str, kernel: Callable) -> Callable:
        def noting_kernel(*given: np.ndarray) -> tuple[np.ndarray, ...]:
            attentions.append((block, any(map(np.iscomplexobj, given))))
            results = kernel(*given)
            return tuple(result.real for result in results) if block in losing else results

        return noting_kernel

    for block in case.blocks:
        computation = with_kernel(computation, partial(noting, block), (block,))
    computation()
    return attentions


def packs_under_a_transform(call: Call) -> bool:
    """True if the encoder packs at least one position under a transform of torch.func that differentiates."""
    case = call.case
    is_transformed = BY_ID[case.mode].family in ("func_vjp", "func_jvp") and bool(directions(case))
    return is_transformed and is_nested(call) and case.N * case.S > 0


WEIGHTS = Condition(
    "weights are asked for, since the fused kernel has no forward-mode derivative",
    lambda case: case.need_weights,
)

ENTRIES = (
    Deviation(
        id="func-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval mode under torch.func.vjp and jvp",
        affects=">=2.0",
        upstream="not found",
        clause=3,
        trigger="torch.func.vjp, grad or jvp with respect to a mask or to parameters of later layers, and a"
        " src_key_padding_mask with which the batch is packed into a nested tensor",
        instead="RuntimeError: an internal error, NestedTensorImpl doesn't support strides",
        applies=packs_under_a_transform,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "Internal error: NestedTensorImpl doesn't support (strides|sizes)"
        ),
        pinned=Transformer(
            mode="func_vjp",
            autograd="mask",
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("float", "sample"),
        ),
        devices=ON_BOTH,
        stage="stack",
        remedies=(*off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
    ),
    Deviation(
        id="ensemble-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval mode if torch.func.vmap maps its parameters",
        affects=">=2.3",
        upstream="not found",
        clause=3,
        trigger="torch.func.vmap over the parameters of several encoders (stack_module_state and functional_call), and"
        " a src_key_padding_mask with which the batch is packed into a nested tensor (2.2 and earlier are not tested)",
        instead="NotImplementedError: vmap repeats the nested tensor for each encoder, and cannot stack it",
        applies=lambda call: call.case.mode == VMAP_OF_PARAMETERS and is_nested(call),
        change=lambda computation, call: raising(
            computation, "NotImplementedError", "Could not run 'aten::stack' .* 'NestedTensorCPU' backend"
        ),
        pinned=Transformer(
            mode=VMAP_OF_PARAMETERS,
            autograd="no_grad",
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
        stage="stack",
        remedies=(NOT_NESTED, sequences_first(), fast_path_off(), FIRST_KEY_AND_SEQUENCES_FIRST),
    ),
    Deviation(
        id="func-jvp-expanded",
        title="torch.func.jvp raises if a mask that has a tangent is expanded",
        affects=">=2.0",
        upstream="not found",
        clause=3,
        trigger="forward-mode differentiation with respect to a float mask that was made by expand, so that several of"
        " its elements share memory",
        instead="RuntimeError: the tangent gets the memory layout of the mask, but its elements differ",
        applies=moves_an_expanded_tensor,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "more than one element of the written-to tensor refers to a single memory"
        ),
        pinned=MultiHead(mode="func_jvp", autograd="mask", S=2, attn_mask=Mask("float", "none", layout="expanded")),
        stage="call",
        remedies=(
            Remedy(
                "Give mask.contiguous().",
                with_masks(lambda mask: replace(mask, layout="contiguous")),
                only=(WEIGHTS, EVERY_QUERY_SEES_A_KEY, OWN_DTYPE),
            ),
        ),
    ),
)
