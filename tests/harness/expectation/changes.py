"""Changes to a computation of the reference: another kernel, other masks, an error, a warning, a missing result."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from reference.attention import MultiHeadAttention, attend, scaled_dot_product_attention
from reference.transformer import DecoderLayer, Encoder, EncoderLayer

from .arithmetic import Arithmetic, Coarse, multiplying, multiplying_safely
from .specification import Computation


def with_arithmetic(computation: Computation, arithmetic: Arithmetic, blocks: Collection[str]) -> Computation:
    """The computation with this Arithmetic in the place of the plain kernels of these blocks."""

    def kernel(former):
        if former in (attend, multiplying, multiplying_safely):
            return arithmetic
        inner = getattr(former, "kernel", None)
        return former if inner is None else replace(former, kernel=kernel(inner))

    return with_kernel(computation, kernel, blocks) if blocks else computation


def coarse(computation: Computation, size: float, shift: float) -> Computation:
    """The computation whose plain kernels round each score to a step; see arithmetic.Coarse."""
    plain, blocks = (attend, multiplying, multiplying_safely), ("self", "src", "tgt", "memory")
    return with_kernel(computation, lambda former: Coarse(former, size, shift) if former in plain else former, blocks)


# ---- changes to a computation --------------------------------------------------------------------------------------


def with_kernel(
    computation: Computation, kernel: Callable[[Callable], Callable], blocks: Collection[str]
) -> Computation:
    """The computation with kernel(former kernel) in the attention blocks of these names (see paths.py).

    scaled_dot_product_attention has one kernel, which is replaced for any names.
    """
    if computation.function is scaled_dot_product_attention:
        former = computation.arguments.get("kernel", attend)
        return replace(computation, arguments={**computation.arguments, "kernel": kernel(former)})
    return with_attention(computation, lambda attention: replace(attention, kernel=kernel(attention.kernel)), blocks)


def with_attention(
    computation: Computation, change: Callable[[MultiHeadAttention], MultiHeadAttention], blocks: Collection[str]
) -> Computation:
    """The computation of a module with change(attention) in the attention blocks of these names.

    "src.last" is the block of the last layer of a stack, "src.early" those of the others, "src.later" those of all
    layers but the first.
    """
    return replace(computation, function=_with_attention(computation.function, change, blocks))


def _with_attention(node, change, blocks, block="self", parts=()):
    if isinstance(node, MultiHeadAttention):
        return change(node) if {block, *(block + part for part in parts)} & set(blocks) else node
    if isinstance(node, tuple):
        pairs = zip(node, _parts_of_a_stack(len(node)), strict=True)
        return tuple(_with_attention(layer, change, blocks, parts=its) for layer, its in pairs)
    children = {
        "encoder": "src",
        "decoder": "tgt",
        "layers": "src" if isinstance(node, Encoder) else "tgt",
        "multihead_attn": "memory",
        "self_attn": "src" if type(node).__name__ == "EncoderLayer" else "tgt",
    }
    changed = {
        name: _with_attention(getattr(node, name), change, blocks, child, parts)
        for name, child in children.items()
        if hasattr(node, name)
    }
    return replace(node, **changed)


def _parts_of_a_stack(number):
    """Generates the names of the parts to which each layer of a stack belongs."""
    for i in range(number):
        yield (".last" if i == number - 1 else ".early", *[".later"] * (i > 0))


def multiplied(computation: Computation) -> Computation:
    """The computation with torch's arithmetic in the place of the reference's kernels: 0 * NaN is NaN."""

    def kernel(former):
        if former is attend:
            return multiplying_safely
        return replace(former, kernel=multiplying_safely) if getattr(former, "kernel", None) is attend else former

    return with_kernel(computation, kernel, ("self", "src", "tgt", "memory"))


def with_activation(
    computation: Computation, activation: Callable[[np.ndarray], np.ndarray], blocks: Collection[str]
) -> Computation:
    """The computation with another activation in the layers of these blocks: "src" or "tgt", or "src.early" etc."""

    def change(layer, part):
        name = "src" if isinstance(layer, EncoderLayer) else "tgt"
        if not {name, name + part} & set(blocks):
            return layer
        return replace(layer, feed_forward=replace(layer.feed_forward, activation=activation))

    return replace(computation, function=with_layers(computation.function, change))


def with_linear(
    computation: Computation, linear: Callable[[Callable], Callable], blocks: Collection[str] = ("src", "tgt")
) -> Computation:
    """The computation with linear(former linear) in the feed-forwards of these blocks: "src" or "tgt"."""

    def change(layer, _):
        if ("src" if isinstance(layer, EncoderLayer) else "tgt") not in blocks:
            return layer
        return replace(layer, feed_forward=replace(layer.feed_forward, linear=linear(layer.feed_forward.linear)))

    return replace(computation, function=with_layers(computation.function, change))


def with_layers(node: Any, change: Callable[[Any, str], Any], part: str = "") -> Any:
    """The stack or layer `node` with change(layer, part) in the place of each layer.

    part: ".last" for the last layer of a stack, ".early" for the others, "" for a layer that is called by itself.
    """
    if isinstance(node, (EncoderLayer, DecoderLayer)):
        return change(node, part)
    if isinstance(node, tuple):
        *early, last = node
        return (*(with_layers(layer, change, ".early") for layer in early), with_layers(last, change, ".last"))
    names = [name for name in ("encoder", "decoder", "layers") if hasattr(node, name)]
    return replace(node, **{name: with_layers(getattr(node, name), change) for name in names})


def with_parameters(node: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The module, or a tuple of modules, with change(parameter) in the place of each parameter."""
    if isinstance(node, np.ndarray):
        return change(node)
    if isinstance(node, tuple):
        return tuple(with_parameters(part, change) for part in node)
    if not is_dataclass(node) or isinstance(node, type):
        return node
    parts = {part.name: getattr(node, part.name) for part in fields(node)}
    return replace(node, **{name: with_parameters(part, change) for name, part in parts.items()})


def with_masks(computation: Computation, masks: Mapping[str, np.ndarray | None]) -> Computation:
    """The computation with these masks, {argument name: array}, in the place of its own."""
    return replace(computation, arguments={**computation.arguments, **masks})


def raising(computation: Computation, error: str, message: str) -> Computation:
    """The computation of a call that raises; regular expressions of the error's type name and message."""
    return replace(computation, error=(error, message))


def warning(computation: Computation, pattern: str) -> Computation:
    """The computation with one more warning; pattern: a regular expression of its message."""
    return replace(computation, warnings=(*computation.warnings, pattern))


def undefined(computation: Computation, reason: str, where: np.ndarray | bool = True) -> Computation:
    """The computation with undefined values and gradients; shapes and dtypes are still compared.

    reason: one of left_out.py. where: True at undefined elements, broadcastable to each result.
    """
    return replace(computation, undefined={**computation.undefined, reason: where})


def without_weights(computation: Computation) -> Computation:
    """The computation of a call that returns no weights despite need_weights=True."""
    return replace(computation, lost=("weights",))


def without_gradient(computation: Computation, names: Collection[str]) -> Computation:
    """The computation with zero gradients for these arguments."""
    return replace(
        computation,
        arguments={name: np.real(value) if name in names else value for name, value in computation.arguments.items()},
    )
