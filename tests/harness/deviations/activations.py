"""Activations of transformer layers that torch takes for others."""

from reference.transformer import gelu, relu

from ..cases.case import Transformer
from ..execution.setting import ON_BOTH
from ..expectation.changes import raising, with_activation
from ..expectation.specification import Computation
from ..modes.modes import BY_ID
from .call import Call
from .entry import Deviation
from .native import native_layers
from .remedies import Condition, Remedy, changed, off_the_fast_path


def loses_its_activation(call: Call) -> bool:
    """True if a decoder layer whose activation is a module has been copied, as every stack copies its layer."""
    case = call.case
    has_module = case.has_decoder and case.activation == "gelu_tanh"
    return has_module and (case.module != "TransformerDecoderLayer" or BY_ID[case.mode].copies_module)


def take_relu(computation: Computation, call: Call) -> Computation:
    """The copied layer computes ReLU; torch.jit.script raises, since F.relu is no module."""
    if call.case.mode == "scripted":
        return raising(computation, "AssertionError", "Expected Module but got")
    return with_activation(computation, relu, ("tgt",))


AS_FUNCTION = Remedy(
    "Give the activation as a function: functools.partial(torch.nn.functional.gelu, approximate='tanh').",
    changed(activation="gelu_tanh_function"),
    only=(Condition("the activation is nn.GELU", lambda case: case.activation == "gelu_tanh"),),
)

ENTRIES = (
    Deviation(
        id="native-layer-gelu-tanh",
        title="nn.TransformerEncoderLayer computes the exact GELU for nn.GELU(approximate='tanh') in eval mode",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="nn.GELU(approximate='tanh') as the activation, on the fast path of nn.TransformerEncoderLayer, on CPU",
        instead="the layer computes the exact GELU, x times the normal distribution function: each hidden feature is"
        " off by up to 5e-4",
        applies=lambda call: bool(native_layers(call, "gelu_tanh")),
        change=lambda computation, call: with_activation(computation, gelu, native_layers(call, "gelu_tanh")),
        pinned=Transformer(num_heads=2, head_dim=2, activation="gelu_tanh"),
        remedies=(AS_FUNCTION, *off_the_fast_path()),
    ),
    Deviation(
        id="decoder-activation-module",
        title="nn.TransformerDecoder and nn.Transformer compute ReLU if their activation is a module",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="nn.GELU(), or any other module, as the activation of a decoder layer that is copied: by a stack,"
        " which copies its layer, by nn.Transformer, by copy.deepcopy, or by torch.save and torch.load",
        instead="the copy's activation is F.relu; torch.jit.script raises",
        applies=loses_its_activation,
        change=take_relu,
        pinned=Transformer(module="TransformerDecoder", num_heads=2, head_dim=2, activation="gelu_tanh"),
        devices=ON_BOTH,
        stage="call",
        remedies=(AS_FUNCTION,),
    ),
)
