"""Where parameters are as when they were pruned: twice as large, see the mode. A call is a call.Call."""

from dataclasses import fields, is_dataclass, replace

import numpy as np

from reference.transformer import EncoderLayer

from ..cases.case import MultiHead, Transformer
from ..execution.setting import ON_BOTH
from ..expectation.changes import with_attention, with_layers
from .entry import Deviation
from .paths import path_of_each_block
from .remedies import Remedy, changed


def outdated_layers(call):
    """The blocks of native encoder layers, which call no hook of their parts, so that every parameter is as it was."""
    return _blocks(call, native=True)


def outdated_projections(call):
    """The other blocks: of any attention out_proj is not called, and only its parameters stay as they were."""
    return _blocks(call, native=False)


def _blocks(call, native):
    if call.case.mode != "pruned":
        return ()
    paths = path_of_each_block(call.case, call.release)
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


ENTRIES = (
    Deviation(
        id="pruned-out-projection",
        title="nn.MultiheadAttention computes with out_proj as it was when it was pruned",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="torch.nn.utils.prune on out_proj, whose parameters are trained or loaded afterwards; not in a native"
        " encoder layer",
        instead="out_proj is never called, only its weight and bias are taken, so that the hook that computes them anew"
        " does not run; a second way back raises (pytorch/pytorch#69353)",
        applies=outdated_projections,
        change=with_outdated_projections,
        pinned=MultiHead(mode="pruned"),
        devices=ON_BOTH,
        remedies=(
            Remedy("Make the pruning permanent by torch.nn.utils.prune.remove.", changed(mode="pruned_for_good")),
            Remedy(
                "Call module.out_proj on anything before each call of the module.", changed(mode="pruned_refreshed")
            ),
        ),
    ),
    Deviation(
        id="pruned-native-layer",
        title="nn.TransformerEncoderLayer computes in eval with parameters as they were when they were pruned",
        affects="<2.5",
        upstream="pytorch/pytorch#128413",
        clause=3,
        trigger="torch.nn.utils.prune on parts of an encoder layer that takes its native path",
        instead="no hook of a part is called, so that parameters are those of the last call in training, or of pruning",
        applies=outdated_layers,
        change=with_outdated_layers,
        pinned=Transformer(num_heads=2, head_dim=2, mode="pruned"),
        remedies=(
            Remedy("Make the pruning permanent by torch.nn.utils.prune.remove.", changed(mode="pruned_for_good")),
        ),
    ),
)
