"""Changes to a computation of the reference: another kernel, other masks, an error, a warning, a lost result."""

from dataclasses import replace

import numpy as np

from reference.attention import MultiHeadAttention, attend, scaled_dot_product_attention
from reference.transformer import DecoderLayer, Encoder, EncoderLayer

from .arithmetic import multiplying, multiplying_safely


def with_arithmetic(computation, arithmetic, blocks):
    """The computation with this Arithmetic wherever kernels of these blocks multiply plainly."""

    def kernel(former):
        if former in (attend, multiplying, multiplying_safely):
            return arithmetic
        inner = getattr(former, "kernel", None)
        return former if inner is None else replace(former, kernel=kernel(inner))

    return with_kernel(computation, kernel, blocks) if blocks else computation


# ---- changes to a computation --------------------------------------------------------------------------------------


def with_kernel(computation, kernel, blocks):
    """The computation with kernel(former kernel) in the attention blocks of these names (see paths.py)."""
    if computation.function is scaled_dot_product_attention:
        former = computation.arguments.get("kernel", attend)
        return replace(computation, arguments={**computation.arguments, "kernel": kernel(former)})
    return with_attention(computation, lambda attention: replace(attention, kernel=kernel(attention.kernel)), blocks)


def with_attention(computation, change, blocks):
    """The computation of a module with change(attention) in these blocks."""
    return replace(computation, function=_with_attention(computation.function, change, blocks))


def _with_attention(node, change, blocks, block="self", part=""):
    if isinstance(node, MultiHeadAttention):
        return change(node) if {block, block + part} & set(blocks) else node
    if isinstance(node, tuple):
        *early, last = node
        early = [_with_attention(layer, change, blocks, part=".early") for layer in early]
        return (*early, _with_attention(last, change, blocks, part=".last"))
    children = {
        "encoder": "src",
        "decoder": "tgt",
        "layers": "src" if isinstance(node, Encoder) else "tgt",
        "multihead_attn": "memory",
        "self_attn": "src" if type(node).__name__ == "EncoderLayer" else "tgt",
    }
    changed = {
        name: _with_attention(getattr(node, name), change, blocks, child, part)
        for name, child in children.items()
        if hasattr(node, name)
    }
    return replace(node, **changed)


def multiplied(computation):
    """The computation as torch's arithmetic does it, wherever nothing else is said: 0 * NaN is NaN."""

    def kernel(former):
        if former is attend:
            return multiplying_safely
        return replace(former, kernel=multiplying_safely) if getattr(former, "kernel", None) is attend else former

    return with_kernel(computation, kernel, ("self", "src", "tgt", "memory"))


def with_activation(computation, activation, blocks):
    """The computation with another activation in the layers of these blocks: "src", "tgt" or a part of them."""

    def change(layer, part):
        name = "src" if isinstance(layer, EncoderLayer) else "tgt"
        if not {name, name + part} & set(blocks):
            return layer
        return replace(layer, feed_forward=replace(layer.feed_forward, activation=activation))

    return replace(computation, function=with_layers(computation.function, change))


def with_layers(node, change, part=""):
    """The stack or layer with change(layer, ".early", ".last" or "") in the place of each layer."""
    if isinstance(node, (EncoderLayer, DecoderLayer)):
        return change(node, part)
    if isinstance(node, tuple):
        *early, last = node
        return (*(with_layers(layer, change, ".early") for layer in early), with_layers(last, change, ".last"))
    names = [name for name in ("encoder", "decoder", "layers") if hasattr(node, name)]
    return replace(node, **{name: with_layers(getattr(node, name), change) for name in names})


def with_masks(computation, masks):
    """The call as if it had been given these masks instead."""
    return replace(computation, arguments={**computation.arguments, **masks})


def raising(computation, error, message):
    """The call raises instead."""
    return replace(computation, error=(error, message))


def warning(computation, pattern):
    """The call also warns."""
    return replace(computation, warnings=(*computation.warnings, pattern))


def undefined(computation, reason, where=True):
    """Shapes and dtypes hold, numbers don't, nor gradients. reason: of left_out.py. where: see Computation."""
    return replace(computation, undefined={**computation.undefined, reason: where})


def without_weights(computation):
    """The call returns no weights, though it was asked for them."""
    return replace(computation, lost=("weights",))


def without_gradient(computation, names):
    """What these arguments are differentiated for is lost."""
    return replace(
        computation,
        arguments={name: np.real(value) if name in names else value for name, value in computation.arguments.items()},
    )
