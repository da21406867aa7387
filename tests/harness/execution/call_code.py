"""The constructor and the arguments of a call as code: which names, in which order, and how each value is spelled.

Scripts (tests/tools/typed_call.py), failures (judgement/report.py) and the doctor's reports are made of these parts.
"""

from collections.abc import Mapping
from typing import Any

from ..cases.case import Case, FlexAttention, masks_of
from ..cases.spelling import quoted
from ..contents.arrays import inputs
from .call import constructor, options
from .flex import functions
from .setting import CPU, Setting

_SEQUENCES = ("query", "key", "value", "src", "tgt", "memory")


def called(case: Case, setting: Setting = CPU) -> str:
    """The full name of the module or function."""
    return case.module if case.is_flex else setting.called(case.module)  # flex_attention is imported by its name


def is_stack(case: Case) -> bool:
    """True if the module is a stack of layers, which gets its layer as an argument."""
    return case.module in ("TransformerEncoder", "TransformerDecoder")


def with_parameters(case: Case, setting: Setting = CPU) -> str:
    """The full name of the module that takes `constructor_arguments`: of the layer, if the module is a stack."""
    return f"{called(case, setting)}Layer" if is_stack(case) else called(case, setting)


def spelled(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments as "name=value"."""
    return tuple(f"{name}={quoted(value)}" for name, value in arguments.items())


def constructor_arguments(case: Case) -> tuple[str, ...]:
    """The arguments of the module, or of the layer of a stack, without those that are the default."""
    return spelled({name: value for name, value in constructor(case).items() if value != "relu"})


def stack_arguments(case: Case, layer: str, *kind: str) -> tuple[str, ...]:
    """The arguments of a stack. layer: the expression of the layer. kind: arguments for dtype and device of a norm."""
    arguments = [layer, str(case.num_layers)]
    if case.norm:
        more = [f"eps={case.layer_norm_eps}"] * (case.layer_norm_eps != 1e-5) + ["bias=False"] * (not case.bias)
        arguments.append(f"norm=torch.nn.LayerNorm({', '.join((str(case.E), *more, *kind))})")
    if case.has_encoder:
        switches = ("enable_nested_tensor", "mask_check")
        arguments += [f"{name}=False" for name in switches if not getattr(case, name)]
    return tuple(arguments)


def sequences(case: Case) -> tuple[str, ...]:
    """The names of the inputs that are given by position; one input may be query, key and value."""
    given = inputs(case)
    if not case.attention:
        return tuple(name for name in _SEQUENCES if name in given)
    key = "key" if "key" in given else "query"
    return "query", key, "value" if "value" in given else key


def keyword(case: Case, name: str) -> str:
    """The name of an argument of this case in the signature of the module or function."""
    return "mask" if name == "src_mask" and case.module == "TransformerEncoder" else name


def given_by_name(case: Case) -> dict[str, str]:
    """{name in the signature: variable} of the tensors, and of functions that read masks, that are given by name."""
    if isinstance(case, FlexAttention):
        return {name: name for name in functions(case)}
    static = [name for name in inputs(case) if name.startswith("static")]
    return {keyword(case, name): name for name in (*static, *masks_of(case))}


def other_arguments(case: Case) -> tuple[str, ...]:
    """The arguments of the call that are no tensors, without those that are the default."""
    return spelled({name: value for name, value in options(case).items() if (name, value) != ("training", True)})
