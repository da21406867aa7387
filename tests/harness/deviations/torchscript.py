"""Scripted and traced modules: torch.jit.script and torch.jit.trace."""

from ..cases.case import MultiHead, Transformer
from ..cases.masks import Mask
from ..contents.arrays import the_parameter
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising
from ..modes.modes import BY_ID
from .call import Call
from .entry import Deviation
from .native import gives_no_weights_natively
from .nested_tensors import norms_a_packed_batch, unpacks_in_time
from .remedies import EVERY_QUERY_SEES_A_KEY, NOT_NESTED, SLOWER, Remedy, changed, recorded, sequences_first, without


def adds_packed_batches(call: Call) -> bool:
    """True if TorchScript differentiates a sum of packed batches, for which it asks for their sizes.

    The backward pass does not reach the sum if only the last norm is trained.
    """
    case = call.case
    is_last = case.autograd == "one_parameter" and ".norm2." in the_parameter(case)
    is_optimized = BY_ID[case.mode].family in ("scripted", "traced") and not is_last
    return is_optimized and norms_a_packed_batch(call) and not unpacks_in_time(call)


TRACED = Remedy("Trace the module: torch.jit.trace.", changed(mode="traced"), only=(EVERY_QUERY_SEES_A_KEY,))

ENTRIES = (
    Deviation(
        id="torchscript-nested-sum",
        title="nn.TransformerEncoder, scripted or traced, raises in eval mode from its second call on if a later layer"
        " is partly trained, but not its attention",
        affects=">=2.0",
        upstream="not found",
        clause=3,
        trigger="torch.jit, and src_key_padding_mask in eval mode with autograd, if the first layer is frozen, and in"
        " a later layer a parameter is trained that comes after the attention and before the last norm",
        instead="RuntimeError: NestedTensorImpl doesn't support sizes. After its first call TorchScript optimises the"
        " code, which then asks for the sizes of a packed batch in the backward pass of a sum",
        applies=adds_packed_batches,
        change=lambda computation, call: raising(computation, "RuntimeError", "NestedTensorImpl doesn't support sizes"),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="one_parameter",
            seed=4,
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "one"),
            mode="traced",
        ),
        stage="layer",
        remedies=(NOT_NESTED, sequences_first(), recorded()),
    ),
    Deviation(
        id="scripted-without-bias",
        title="A module with bias=False cannot be scripted",
        affects=">=2.1",
        upstream="pytorch/pytorch#149391",
        clause=3,
        trigger="torch.jit.script, and bias=False (1.13 and 2.0 do it too, but are not tested in scripts)",
        instead="RuntimeError: the compiler says that None has no dtype, and in the next attempt that it already knows"
        " the class",
        applies=lambda call: call.case.mode == "scripted" and not call.case.bias,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "'NoneType' object has no attribute or method 'dtype'|Can't redefine method"
        ),
        pinned=MultiHead(bias=False, mode="scripted"),
        devices=ON_BOTH,
        stage="call",
        remedies=(
            TRACED,
            Remedy(
                "Export the module: torch.export.export.",
                changed(mode="exported"),
                ">=2.3",
                (EVERY_QUERY_SEES_A_KEY,),
            ),
            without("torch.jit.script", only=(EVERY_QUERY_SEES_A_KEY,), cost=SLOWER),
        ),
    ),
    Deviation(
        id="scripted-native-no-weights",
        title="nn.MultiheadAttention raises in eval mode if it is scripted and no weights are asked for",
        affects=">=2.1",
        upstream="not found",
        clause=3,
        trigger="torch.jit.script and need_weights=False, on the fast path of nn.MultiheadAttention (1.13 and 2.0 do it"
        " too, but are not tested in scripts)",
        instead="RuntimeError: strides() called on an undefined Tensor",
        applies=lambda call: gives_no_weights_natively(call, "scripted"),
        change=lambda computation, call: raising(
            computation, "RuntimeError", r"strides\(\) called on an undefined Tensor"
        ),
        pinned=MultiHead(num_heads=2, attention="self", need_weights=False, mode="scripted"),
        devices=ON_BOTH,
        stage="attention",
        remedies=(
            Remedy(
                "Call with need_weights=True.", changed(need_weights=True), only=(EVERY_QUERY_SEES_A_KEY,), cost=SLOWER
            ),
            TRACED,
            sequences_first(),
            recorded(),
        ),
    ),
)
