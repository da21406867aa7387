"""Parts of modules that a text replaces, hooks or overrides, and the modes in which such modules compute."""

import ast
from typing import Any

from tests.harness.command_line import BadInput

from .signatures import CONSTRUCTORS
from .values import Instance, Made, Unknown, both

_PROJECTION, _LINEAR, _NORMS = "out_proj", ("linear1", "linear2"), ("norm1", "norm2", "norm3")
_ATTENTIONS = ("self_attn", "multihead_attn")
_PLAIN = ("Linear", "LayerNorm", "MultiheadAttention")  # of torch.nn: no other kind of part
_HOOKS = ("register_forward_hook", "register_forward_pre_hook")
_BLOCKS = ("_sa_block", "_ff_block", "_mha_block")


def mode_of_replaced(made: Made, part: str, value: Any, given: ast.ClassDef | None) -> str:
    """The mode of a module whose part is replaced by this value. given: the class of the value, if the text has it.

    Raises BadInput for a replacement that is not modelled.
    """
    if part not in (_PROJECTION, *_LINEAR, *_NORMS, *_ATTENTIONS) or isinstance(value, Made) or _is_plain(value):
        return "eager"
    if part in _ATTENTIONS:
        if given is None or not any(ast.unparse(base).endswith("MultiheadAttention") for base in given.bases):
            raise BadInput(f"another module in the place of {part} is not modelled")
        return "overridden"
    if not isinstance(value, list) and (given is None or _has_weight(value, given)):
        return "adapted_projection" if part == _PROJECTION else "adapted"
    if part in _NORMS or (part == _PROJECTION and made.kind != "MultiheadAttention"):
        raise BadInput(f"a module without a weight in the place of {part} is not modelled: torch reads the weight")
    return "wrapped"


def mode_of_hooked(part: str, method: str) -> str:
    """The mode of a module on whose part this method of nn.Module is called."""
    if method not in _HOOKS:
        return "eager"
    return "hooked_projection" if part == _PROJECTION else "hooked"


def subclass(node: ast.ClassDef) -> tuple[str, str] | None:
    """(class of torch, mode) of a subclass that only overrides the blocks of a layer; None for other classes."""
    methods = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    if {"__init__", "forward"} & set(methods) or not bases or bases[0] not in CONSTRUCTORS:
        return None
    return bases[0], "overridden" if set(methods) & set(_BLOCKS) else "eager"


def changed(made: Made, mode: str) -> None:
    """Note that a module computes in this mode."""
    made.mode = both(made.mode, mode)


def _is_plain(value):
    name = value.text.partition("(")[0] if isinstance(value, Unknown) else ""
    return name.removeprefix("torch.") in [f"nn.{plain}" for plain in _PLAIN]


def _has_weight(value, given):
    """True if objects of the class have an attribute weight."""
    names = [part.name for part in given.body if isinstance(part, ast.FunctionDef)]
    inherits = any(ast.unparse(base).endswith(_PLAIN) for base in given.bases)
    return inherits or "weight" in names or (isinstance(value, Instance) and "weight" in value.attributes)
