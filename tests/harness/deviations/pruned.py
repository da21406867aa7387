"""Parameters that hooks recompute, of modules that compute with the former ones, which the mode makes twice as large.

Hooks are those of torch.nn.utils.prune, weight_norm and spectral_norm; the last one only of matrices.
"""

from dataclasses import fields, is_dataclass, replace

import numpy as np

from reference.attention import MultiHeadAttention
from reference.transformer import EncoderLayer

from ..cases.case import MultiHead, Transformer
from ..execution.setting import ON_BOTH
from ..expectation.backward import Traced
from ..expectation.changes import with_attention, with_layers
from ..expectation.specification import Computation
from ..path_names import NATIVE_LAYER
from .call import Call
from .entry import Deviation
from .paths import path_of_each_block
from .remedies import Remedy, changed

PRUNED, NORMED, SPECTRAL = "pruned", "weight_normed_by_hooks", "spectral_normed_by_hooks"


def outdated_layers(call: Call, mode: str = PRUNED) -> tuple[str, ...]:
    """The encoder blocks on their fast path, which calls no hooks of submodules: all parameters are outdated."""
    return _blocks(call, mode, native=True)


def outdated_projections(call: Call, mode: str = PRUNED) -> tuple[str, ...]:
    """The blocks off the encoder layer's fast path, which never call out_proj: its parameters are outdated."""
    return _blocks(call, mode, native=False)


def _blocks(call, mode, native):
    if call.case.mode != mode:
        return ()
    paths = path_of_each_block(call.case, call.release)
    return tuple(block for block, path in paths.items() if (path == NATIVE_LAYER) == native)


def with_outdated_layers(computation: Computation, call: Call) -> Computation:
    """The computation with outdated parameters in the blocks of `outdated_layers`."""
    blocks, least = outdated_layers(call, call.case.mode), _least_rank(call)

    def change(layer: object, part: str) -> object:
        is_meant = isinstance(layer, EncoderLayer) and {"src", f"src{part}"} & set(blocks)
        return _outdated(layer, least) if is_meant else layer

    return replace(computation, function=with_layers(computation.function, change))


def with_outdated_projections(computation: Computation, call: Call) -> Computation:
    """The computation with outdated parameters of out_proj in the blocks of `outdated_projections`."""

    least = _least_rank(call)

    def change(attention: MultiHeadAttention) -> MultiHeadAttention:
        weight, bias = _outdated(attention.out_weight, least), _outdated(attention.out_bias, least)
        return replace(attention, out_weight=weight, out_bias=bias)

    return with_attention(computation, change, outdated_projections(call, call.case.mode))


def _least_rank(call):
    """The least number of dimensions of a parameter that hooks recompute."""
    return 2 if call.case.mode == SPECTRAL else 0


def _outdated(node, least):
    """A part of a module with its values at pruning time, and its derivatives by the current parameters.

    least: arrays of fewer dimensions are unchanged.
    """
    if isinstance(node, np.ndarray):
        if node.ndim < least:
            return node
        return 2 * node.real + 1j * node.imag if np.iscomplexobj(node) else 2 * node
    if isinstance(node, Traced):
        return Traced(_outdated(node.value, least), [(node, lambda gradient: gradient)])
    if is_dataclass(node):
        return replace(node, **{field.name: _outdated(getattr(node, field.name), least) for field in fields(node)})
    return node


_BY_PARAMETRIZATION = Remedy(
    "Use torch.nn.utils.parametrizations.spectral_norm, which computes the weight whenever it is read.",
    changed(mode="spectral_normed"),
)

ENTRIES = (
    Deviation(
        id="pruned-out-projection",
        title="nn.MultiheadAttention computes with out_proj as it was at pruning time",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="torch.nn.utils.prune on out_proj, whose parameters are trained or loaded afterwards; not on the fast"
        " path of nn.TransformerEncoderLayer",
        instead="out_proj is never called; only its weight and bias are read, so that the hook that recomputes them"
        " does not run. A second backward pass raises (pytorch/pytorch#69353)",
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
        title="nn.TransformerEncoderLayer computes in eval mode with its parameters at pruning time",
        affects="<2.5",
        upstream="pytorch/pytorch#128413",
        clause=3,
        trigger="torch.nn.utils.prune on submodules of nn.TransformerEncoderLayer, on its fast path",
        instead="no hook of a submodule is called, so that the parameters are those of the last call in training mode,"
        " or of pruning time",
        applies=outdated_layers,
        change=with_outdated_layers,
        pinned=Transformer(num_heads=2, head_dim=2, mode="pruned"),
        remedies=(
            Remedy("Make the pruning permanent by torch.nn.utils.prune.remove.", changed(mode="pruned_for_good")),
        ),
    ),
    Deviation(
        id="weight-norm-out-projection",
        title="nn.MultiheadAttention computes with an outdated out_proj under torch.nn.utils.weight_norm",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="torch.nn.utils.weight_norm on out_proj, whose weight_g or weight_v is trained or loaded afterwards;"
        " not on the fast path of nn.TransformerEncoderLayer",
        instead="out_proj is never called; only its weight is read, so that the hook that recomputes it does not run. A"
        " second backward pass raises",
        applies=lambda call: outdated_projections(call, NORMED),
        change=with_outdated_projections,
        pinned=MultiHead(mode=NORMED),
        remedies=(
            Remedy(
                "Use torch.nn.utils.parametrizations.weight_norm, which computes the weight whenever it is read.",
                changed(mode="weight_normed"),
                ">=2.1",
            ),
            Remedy(
                "Call module.out_proj on anything before each call of the module.",
                changed(mode="weight_normed_refreshed"),
            ),
        ),
    ),
    Deviation(
        id="weight-norm-native-layer",
        title="nn.TransformerEncoderLayer computes in eval mode with outdated weights under torch.nn.utils.weight_norm",
        affects="<2.5",
        upstream="pytorch/pytorch#128413",
        clause=3,
        trigger="torch.nn.utils.weight_norm on submodules of nn.TransformerEncoderLayer, on its fast path",
        instead="no hook of a submodule is called, so that the parameters are those of the last call in training mode,"
        " or of the time when the norm was applied",
        applies=lambda call: outdated_layers(call, NORMED),
        change=with_outdated_layers,
        pinned=Transformer(num_heads=2, head_dim=2, mode=NORMED),
        remedies=(
            Remedy(
                "Use torch.nn.utils.parametrizations.weight_norm, which computes the weight whenever it is read.",
                changed(mode="weight_normed"),
                ">=2.1",
            ),
        ),
    ),
    Deviation(
        id="spectral-norm-out-projection",
        title="nn.MultiheadAttention computes with an outdated out_proj under torch.nn.utils.spectral_norm",
        affects=">=1.13",
        upstream="pytorch/pytorch#78109",
        clause=3,
        trigger="torch.nn.utils.spectral_norm on out_proj; not on the fast path of nn.TransformerEncoderLayer",
        instead="out_proj is never called; only its weight is read, so that the hook that divides it by its norm does"
        " not run: it is the weight before spectral_norm, without a norm",
        applies=lambda call: outdated_projections(call, SPECTRAL),
        change=with_outdated_projections,
        pinned=MultiHead(mode=SPECTRAL),
        remedies=(_BY_PARAMETRIZATION,),
    ),
    Deviation(
        id="spectral-norm-native-layer",
        title="nn.TransformerEncoderLayer computes in eval mode with outdated weights under"
        " torch.nn.utils.spectral_norm",
        affects="<2.5",
        upstream="pytorch/pytorch#128413",
        clause=3,
        trigger="torch.nn.utils.spectral_norm on submodules of nn.TransformerEncoderLayer, on its fast path",
        instead="no hook of a submodule is called, so that the weights are those of the last call in training mode, or"
        " have no norm",
        applies=lambda call: outdated_layers(call, SPECTRAL),
        change=with_outdated_layers,
        pinned=Transformer(num_heads=2, head_dim=2, mode=SPECTRAL),
        remedies=(_BY_PARAMETRIZATION,),
    ),
)
