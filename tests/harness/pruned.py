"""Where parameters are as when they were pruned: twice as large, see the mode. A call is a situations.Call."""

from dataclasses import fields, is_dataclass, replace

import numpy as np

from reference.transformer import EncoderLayer

from . import dispatch
from .behaviours import with_attention, with_layers


def outdated_layers(call):
    """The blocks of native encoder layers, which call no hook of their parts, so that every parameter is as it was."""
    return _blocks(call, native=True)


def outdated_projections(call):
    """The other blocks: of any attention out_proj is not called, and only its parameters stay as they were."""
    return _blocks(call, native=False)


def _blocks(call, native):
    if call.case.mode != "pruned":
        return ()
    paths = dispatch.paths(call.case, call.release)
    return tuple(block for block, path in paths.items() if (path == "native_layer") == native)


def with_outdated_layers(computation, call):
    """The computation with these layers as they were."""
    blocks = outdated_layers(call)

    def change(layer, part):
        is_meant = isinstance(layer, EncoderLayer) and {"src", f"src{part}"} & set(blocks)
        return _outdated(layer) if is_meant else layer

    return replace(computation, function=with_layers(computation.function, change))


def with_outdated_projections(computation, call):
    """The computation with these projections as they were."""

    def change(attention):
        weight, bias = _outdated(attention.out_weight), _outdated(attention.out_bias)
        return replace(attention, out_weight=weight, out_bias=bias)

    return with_attention(computation, change, outdated_projections(call))


def _outdated(node):
    """A part of a module as it was, with derivatives by its parameters as they are now."""
    if isinstance(node, np.ndarray):
        return 2 * node.real + 1j * node.imag if np.iscomplexobj(node) else 2 * node
    if is_dataclass(node):
        return replace(node, **{field.name: _outdated(getattr(node, field.name)) for field in fields(node)})
    return node
