"""Makes the module of a case: torch's constructors build it without content, and the case's parameters are put in."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import nn

from ..cases.case import Case
from .call import Typed, constructor


def module_of(case: Case, weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """The module of the case with these parameters, in train or eval mode."""
    stack = {}
    if case.module in ("TransformerEncoder", "TransformerDecoder"):
        stack = {"num_layers": case.num_layers}
    if case.module == "TransformerEncoder":
        stack |= {"enable_nested_tensor": case.enable_nested_tensor, "mask_check": case.mask_check}
    module = _skeleton(case.module, _hashable(constructor(case)), _hashable(stack), case.norm)
    for name, parameter in weights.items():
        path, _, leaf = name.rpartition(".")
        module.get_submodule(path)._parameters[leaf] = parameter
    return module.train(case.training)


def _hashable(arguments):
    return tuple(sorted(arguments.items()))


@lru_cache(maxsize=1024)
def _skeleton(module, arguments, stack, norm):
    """A module on the meta device; each case brings its own parameters."""
    arguments = {name: value.value if isinstance(value, Typed) else value for name, value in arguments}
    arguments |= {"device": "meta"}
    with _quick_copies(), _without_contents():
        if module not in ("TransformerEncoder", "TransformerDecoder"):
            return getattr(nn, module)(**arguments)
        layer = getattr(nn, f"{module}Layer")(**arguments)
        return getattr(nn, module)(layer, norm=copy.deepcopy(layer.norm1) if norm else None, **dict(stack))


@contextmanager
def _quick_copies() -> Iterator[None]:
    """Inside, copy.deepcopy takes a quarter of its time for a module: stacks copy each of their layers."""
    if hasattr(nn.Module, "__deepcopy__"):  # not in 1.13 to 2.15
        yield
        return
    nn.Module.__deepcopy__ = _copied
    try:
        yield
    finally:
        del nn.Module.__deepcopy__


def _copied(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """What copy.deepcopy makes of a module. Most of a module's dictionaries are empty, and cheap to copy as such."""
    made = memo[id(module)] = module.__new__(type(module))
    state = {}
    for name, value in vars(module).items():
        is_empty = isinstance(value, dict) and not value
        state[name] = value.copy() if is_empty else copy.deepcopy(value, memo)
    made.__setstate__(state)  # a decoder layer's own loses an activation that is a module
    return made


_INITIALISERS = (
    (nn.Linear, "reset_parameters"),
    (nn.LayerNorm, "reset_parameters"),
    (nn.MultiheadAttention, "_reset_parameters"),
    (nn.Transformer, "_reset_parameters"),
)


@contextmanager
def _without_contents() -> Iterator[None]:
    """Inside, torch's constructors draw no contents: on the meta device they take a third of the constructors' time."""
    former = {(owner, name): getattr(owner, name) for owner, name in _INITIALISERS}
    for owner, name in former:
        setattr(owner, name, lambda module: None)
    try:
        yield
    finally:
        for (owner, name), function in former.items():
            setattr(owner, name, function)
