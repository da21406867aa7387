"""Parts of modules that are adapted, wrapped, hooked or overridden, where torch reads their parameters only.

The modes of modes/parts.py make these parameters larger than those with which the parts compute.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from reference.attention import MultiHeadAttention
from reference.transformer import EncoderLayer

from ..cases.case import Case, MultiHead, Transformer
from ..contents.arrays import mask_arrays
from ..expectation.changes import raising, with_attention, with_layers
from ..expectation.specification import Computation
from ..path_names import NATIVE_LAYER
from .call import Call
from .entry import Deviation
from .paths import asks_for_alignment, path_of_each_block, reads_parts
from .remedies import (
    EVERY_QUERY_SEES_A_KEY,
    OWN_DTYPE,
    Condition,
    Remedy,
    changed,
    fast_path_off,
    off_the_fast_path,
    on_native_paths,
    sequences_first,
    upgrade,
)


def layers_read(call: Call, mode: str) -> tuple[str, ...]:
    """The encoder blocks on their fast path, which reads parameters and calls no part; none in another mode."""
    if call.case.mode != mode:
        return ()
    paths = path_of_each_block(call.case, call.release)
    return tuple(block for block, path in paths.items() if path == NATIVE_LAYER)


def misses_weights(call: Call, kind: type[Case] = Case) -> bool:
    """True if torch reads the weight of a part that is wrapped, in a call of this kind."""
    case = call.case
    if case.mode != "wrapped" or not isinstance(case, kind):
        return False
    return isinstance(case, MultiHead) or (reads_parts(case, call.release) and not _raises_before(call))


def _raises_before(call):
    """True if a stack looks at the last of no positions before it reads a weight: see nested-no-positions."""
    return call.case.S == 0 and asks_for_alignment(call.case, call.release)


# {mode: the powers of two by which parts of a layer are too large: out_proj, linear1, linear2, norms}
_FACTORS = {"adapted": (1, 2, 2, 2), "hooked": (2, 2, 2, 2), "overridden": (4, 1, 2, 1)}


def with_parameters_of_layers(computation: Computation, call: Call) -> Computation:
    """The computation with the parameters that the fast path of encoder layers reads."""
    mode = call.case.mode
    projection, first, second, norms = _FACTORS[mode]
    blocks = layers_read(call, mode)

    def change(layer: object, part: str) -> object:
        if not (isinstance(layer, EncoderLayer) and {"src", f"src{part}"} & set(blocks)):
            return layer
        feeding = _times(first, layer.feed_forward, "weight1", "bias1")
        return replace(
            layer,
            self_attn=_times(projection, layer.self_attn, "out_weight", "out_bias"),
            feed_forward=_times(second, feeding, "weight2", "bias2"),
            norm1=_times(norms, layer.norm1, "weight", "bias"),
            norm2=_times(norms, layer.norm2, "weight", "bias"),
        )

    return replace(computation, function=with_layers(computation.function, change))


def with_parameters_of_projections(computation: Computation, call: Call) -> Computation:
    """The computation with the parameters of out_proj that nn.MultiheadAttention reads."""
    learned = call.case.mode == "adapted_projection"  # its parameters are doubled; a hooked one doubles parameters

    def change(attention: MultiHeadAttention) -> MultiHeadAttention:
        return _times(2, attention, "out_weight", "out_bias", learned=learned)

    return with_attention(computation, change, call.case.blocks)


def _times(factor: int, node: Any, *names: str, learned: bool = False) -> Any:
    """The part with `factor` times these parameters. learned: their derivative is not multiplied."""
    arrays = {name: getattr(node, name) for name in names}
    return replace(node, **{name: _multiple(factor, array, learned) for name, array in arrays.items()})


def _multiple(factor, array, learned):
    if array is None or not (learned and np.iscomplexobj(array)):
        return array if array is None else factor * array
    return factor * array.real + 1j * array.imag  # the imaginary part is the direction of the derivative


def _in_mode(mode):
    return lambda call: call.case.mode == mode


def _reads_layers(mode):
    return lambda call: layers_read(call, mode)


def _without_a_weight(computation, call):
    return raising(computation, "AttributeError", "'Sequential' object has no attribute 'weight'")


_PARAMETRIZATION = Remedy(
    "Leave out_proj in its place and change its weight by torch.nn.utils.parametrize.register_parametrization.",
    changed(mode="parametrized"),
)
_NO_EMPTY_MASK = Condition("no mask is empty", lambda case: all(mask.size for mask in mask_arrays(case).values()))
_LAYER = Transformer(num_heads=2, head_dim=2)
ENTRIES = (
    Deviation(
        id="adapter-on-out-projection",
        title="nn.MultiheadAttention ignores an adapter in the place of out_proj",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="an adapter, such as LoRA's, in the place of out_proj: a module that has a weight and a bias, and whose"
        " forward adds to their product",
        instead="out_proj is never called; only its weight and bias are read, so that the rest of the adapter has no"
        " effect and gets no gradient",
        applies=_in_mode("adapted_projection"),
        change=with_parameters_of_projections,
        pinned=MultiHead(mode="adapted_projection"),
        remedies=(
            _PARAMETRIZATION,
            Remedy("Merge the update into the weight and bias of out_proj.", changed(mode="eager")),
        ),
    ),
    Deviation(
        id="hook-on-out-projection",
        title="nn.MultiheadAttention calls no hook of out_proj",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="a forward hook on out_proj that changes its result",
        instead="out_proj is never called, nor are its hooks; only its weight and its bias are read",
        applies=_in_mode("hooked_projection"),
        change=with_parameters_of_projections,
        pinned=MultiHead(mode="hooked_projection"),
        remedies=(
            Remedy(
                "Register the hook on the attention, whose result is that of out_proj.",
                changed(mode="hooked_attention"),
            ),
        ),
    ),
    Deviation(
        id="adapter-in-native-layer",
        title="nn.TransformerEncoderLayer ignores adapters in the place of its parts in eval mode",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="an adapter, such as LoRA's, in the place of linear1, linear2, norm1 or norm2, on the fast path of"
        " nn.TransformerEncoderLayer",
        instead="no part is called; only their weights and biases are read, so that the rest of the adapters has no"
        " effect",
        applies=_reads_layers("adapted"),
        change=with_parameters_of_layers,
        pinned=replace(_LAYER, mode="adapted"),
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="hook-in-native-layer",
        title="nn.TransformerEncoderLayer calls no hook of its parts in eval mode",
        affects="<2.5",
        upstream="pytorch/pytorch#128413",
        clause=3,
        trigger="a forward hook on self_attn, linear1, linear2, norm1 or norm2 that changes the result, on the fast"
        " path of nn.TransformerEncoderLayer",
        instead="no part is called, nor are their hooks; only their weights and biases are read",
        applies=_reads_layers("hooked"),
        change=with_parameters_of_layers,
        pinned=replace(_LAYER, mode="hooked"),
        remedies=(*off_the_fast_path(), upgrade("2.5")),
    ),
    Deviation(
        id="override-in-native-layer",
        title="nn.TransformerEncoderLayer ignores overridden methods in eval mode",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="a subclass of nn.TransformerEncoderLayer that overrides _sa_block or _ff_block, or a self_attn that"
        " overrides the forward of nn.MultiheadAttention, on the fast path of nn.TransformerEncoderLayer",
        instead="the methods are not called; the layer computes with the weights and biases of its parts",
        applies=_reads_layers("overridden"),
        change=with_parameters_of_layers,
        pinned=replace(_LAYER, mode="overridden"),
        remedies=off_the_fast_path(),
    ),
    Deviation(
        id="out-projection-without-weight",
        title="nn.MultiheadAttention raises if the module in the place of out_proj has no weight",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="a module without an attribute weight, such as nn.Sequential, in the place of out_proj",
        instead="AttributeError: out_proj is never called; its weight and bias are read",
        applies=lambda call: misses_weights(call, MultiHead),
        change=_without_a_weight,
        pinned=MultiHead(mode="wrapped"),
        stage="call",
        remedies=(on_native_paths(replace(_PARAMETRIZATION, only=(EVERY_QUERY_SEES_A_KEY, OWN_DTYPE))),),
    ),
    Deviation(
        id="linear-without-weight",
        title="nn.TransformerEncoderLayer raises in eval mode if the module in the place of linear1 has no weight",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="a module without an attribute weight, such as nn.Sequential, in the place of linear1 or linear2, in"
        " eval mode with batch_first=True, an even number of heads and ReLU or GELU, for a batch, with or without"
        " autograd",
        instead="AttributeError: the layer reads the weights of its parts to choose its path. So it does of norm1 and"
        " norm2: nn.RMSNorm has no bias, nn.Identity no eps (the claim rms-norm-in-a-layer)",
        applies=lambda call: misses_weights(call, Transformer),
        change=_without_a_weight,
        pinned=replace(_LAYER, mode="wrapped"),
        stage="call",
        remedies=(sequences_first((_NO_EMPTY_MASK,)), fast_path_off((_NO_EMPTY_MASK,))),
    ),
)
