"""Measuring another implementation of a module or function of torch by the same clauses: --subject.

The option is NAME=package.module:factory, or package.module:factory for nn.MultiheadAttention.
"""

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..cases.case import LEARNED, Case, Kind, MultiHead, Transformer
from ..contents.arrays import parameters
from .call import arguments, constructor
from .release import takes
from .setting import REPLACEABLE, Setting


@dataclass(frozen=True)
class _Interface:
    """The optional arguments of a module or function: {name: {field of a case: its value if it is not passed}}."""

    made_with: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arguments of the constructor
    called_with: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # arguments of the call
    probes: tuple[Case, ...] = ()  # calls that together use every parameter that the module can have
    required: Mapping[str, Any] = field(default_factory=dict)  # arguments of the constructor that are always passed


def _same_name(**defaults):
    return {name: {name: default} for name, default in defaults.items()}


_PROBE = MultiHead(dtype="float32", N=2, L=3, S=3, num_heads=2, head_dim=2, batch_first=False)
_LAYER = Transformer(dtype="float32", N=2, S=3, num_heads=2, head_dim=2, dim_feedforward=3, batch_first=False)
_INTERFACES = {
    "MultiheadAttention": _Interface(
        _same_name(
            dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None, batch_first=False
        ),
        _same_name(key_padding_mask=None, need_weights=True, average_attn_weights=True, is_causal=False)
        | {"attn_mask": {"attn_mask": None, "is_causal": False}},
        (_PROBE, replace(_PROBE, kdim=5, vdim=6), replace(_PROBE, add_bias_kv=True)),
        {"embed_dim": 4, "num_heads": 2},
    ),
    "TransformerEncoderLayer": _Interface(
        _same_name(dropout=0.0, activation="relu", layer_norm_eps=1e-5, batch_first=False, norm_first=False, bias=True),
        {
            "src_mask": {"src_mask": None, "src_is_causal": None},
            "src_key_padding_mask": {"src_key_padding_mask": None},
            "is_causal": {"src_is_causal": None},
        },
        (_LAYER, replace(_LAYER, norm_first=True)),
        {"d_model": 4, "nhead": 2, "dim_feedforward": 3},
    ),
    "scaled_dot_product_attention": _Interface(
        called_with={
            "attn_mask": {"attn_mask": None, "mask_batch": (), "broadcast": ""},
            "is_causal": {"is_causal": False},
            "scale": {"scale": None},
            "enable_gqa": {"kv_heads": None},
            "dropout_p": {"dropout": 0.0},
        },
    ),
}
assert tuple(_INTERFACES) == REPLACEABLE

DECLINED = "NotImplementedError"  # an implementation raises it for calls that it does not support


class Unusable(Exception):
    """The subject cannot be measured. The message gives the reason in one line."""


@dataclass(frozen=True)
class Adopted:
    """An implementation that is measured in the place of a module or function of torch.

    The factory takes the arguments of the module of torch, and its module is called like that one; or it is a function
    that is called like the function. A call that raises NotImplementedError counts as not applicable. If `is_alike`,
    the suite replaces the parameters of the module and judges their gradients; otherwise it passes a state_dict of the
    module of torch to load_state_dict.
    """

    name: str  # as given to --subject
    factory: Callable[..., Any]  # makes the module, or is the function
    takes: frozenset[str]  # the optional arguments in its signatures; the suite passes no others
    is_alike: bool  # its parameters have the names of those of torch's module
    replaces: str = REPLACEABLE[0]  # the name of the module or function of torch
    ledger: Any = field(default=None, compare=False)  # the module of its own ledger; None if torch's is lent to it

    @property
    def _interface(self):
        return _INTERFACES[self.replaces]

    def adapt(self, case: Kind) -> Kind:
        """The nearest case that the implementation can run: arguments that it lacks get their defaults."""
        interface = self._interface
        changes: dict[str, Any] = {}
        for name, its_changes in (*interface.made_with.items(), *interface.called_with.items()):
            changes |= {} if name in self.takes else its_changes
        if self.replaces != "MultiheadAttention":  # which alone shows by its weights what it has dropped
            changes["dropout"] = 0.0
        if not self.is_alike and case.autograd in ("grad", "one_parameter", "last_layer", "parameters", LEARNED):
            changes["autograd"] = "inputs"
        return replace(case, **changes)

    def module(
        self, arguments: dict[str, Any], weights: dict[str, nn.Parameter], training: bool, trained: bool
    ) -> nn.Module:
        """The module with these constructor arguments and parameters.

        weights: {name in torch's module: parameter}. training: train or eval mode. trained: if not `is_alike`, all
        parameters require a gradient, or none does.
        """
        weight = next(iter(weights.values()))
        given = {name: value for name, value in arguments.items() if name in (*self._interface.required, *self.takes)}
        module = _made(self.factory, tuple(sorted(given.items())), weight.dtype, weight.device)
        if self.is_alike:
            for name, parameter in weights.items():
                path, _, leaf = name.rpartition(".")
                module.get_submodule(path)._parameters[leaf] = parameter
        else:
            module.load_state_dict({name: parameter.detach().clone() for name, parameter in weights.items()})
            module.requires_grad_(trained)
        return module.train(training)


@lru_cache(maxsize=64)
def _made(factory, arguments, dtype, device):
    with torch.random.fork_rng(devices=[]):  # the random state is the same if the module comes from the cache
        return factory(**dict(arguments)).to(device=device, dtype=dtype)


def load(name: str, device: str = "cpu") -> Adopted:
    """Import an implementation and check on the device that its parameters take effect.

    name: as given to --subject. If the module of the factory has a LEDGER, it names the module of the implementation's
    own ledger: ENTRIES, WRONG_MASKS and BACKWARD_PASS. Raises Unusable.
    """
    setting = Setting(subject=name)
    module, _, path = setting.factory.partition(":")
    if not module or not path or setting.replaced not in REPLACEABLE:
        raise Unusable(
            f"{name}: not of the form package.module:factory or NAME=package.module:factory, where NAME is"
            f" {', '.join(REPLACEABLE[:-1])} or {REPLACEABLE[-1]}"
        )
    try:
        factory: Any = importlib.import_module(module)
        for part in path.split("."):
            factory = getattr(factory, part)
        adopted = _adopted(name, factory, setting.replaced)
        if ledger := getattr(importlib.import_module(module), "LEDGER", ""):
            adopted = replace(adopted, ledger=importlib.import_module(ledger))
    except Exception as error:  # foreign code can raise anything
        raise Unusable(" ".join(f"{name}: {type(error).__name__}: {error}".split())) from None
    for case in _INTERFACES[adopted.replaces].probes:
        if adopted.adapt(case) == case:
            _check_parameters(adopted, case, device)
    return adopted


def _adopted(name, factory, replaced):
    interface, callee, is_alike = _INTERFACES[replaced], factory, True
    if interface.required:
        module, original = factory(**interface.required), getattr(nn, replaced)(**interface.required)
        is_alike = set(dict(original.named_parameters())) <= set(dict(module.named_parameters()))
        callee = module.forward
    elif inspect.isclass(factory):
        raise TypeError(f"{replaced} is a function, not a class")
    maker = factory.__init__ if inspect.isclass(factory) else factory
    asked = [(maker, argument) for argument in interface.made_with]
    asked += [(callee, argument) for argument in interface.called_with]
    taken = frozenset(argument for function, argument in asked if _takes(function, argument))
    return Adopted(name, factory, taken, is_alike, replaced)


def _takes(function, argument):
    try:
        return takes(function, argument)
    except ValueError:  # a built-in function has no signature
        return True


class _NotLoaded(Exception):
    """load_state_dict refuses the parameters of torch's module."""


def _check_parameters(adopted, case, device):
    """Raise Unusable if some parameters of torch's module, given to the adopted one, do not change its output.

    Two failures are left to the tests: a module that raises, and an `is_alike` module that ignores a parameter without
    having others instead.
    """
    try:
        unused, others = _unused(adopted, case, device)
    except _NotLoaded as error:
        reason = f"its load_state_dict does not take the parameters of nn.{adopted.replaces}: {error}"
        raise Unusable(" ".join(f"{adopted.name}: {reason}".split())) from None
    except Exception:  # the tests report it
        return
    made_with = _INTERFACES[adopted.replaces].made_with.keys() - {"dropout", "activation"}
    if unused and (others or not adopted.is_alike):
        options = "".join(f"{name}={value}, " for name, value in constructor(case).items() if name in made_with)
        instead = f": it computes with others ({', '.join(others)})" if others else ""
        raise Unusable(
            f"{adopted.name}: {options}its parameters have no effect: {', '.join(unused)}{instead}. Give a factory"
            " whose module has no parameters of these names, and a load_state_dict that takes them"
        )


def _unused(adopted, case, device):
    """(names of parameters of torch's module that do not affect the output, names of other parameters)."""
    tensors = arguments(case, device).values()
    weights = {
        name: torch.tensor(array, dtype=torch.float32, device=device) for name, array in parameters(case).items()
    }

    def output(**changed):
        module = _given(adopted, case, weights | changed)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = module(*tensors)
        return result[0] if isinstance(result, tuple) else result

    expected = output()
    unused = [name for name in weights if torch.allclose(output(**{name: 2 * weights[name] + 1}), expected, 1e-3, 1e-3)]
    return unused, [name for name, _ in _given(adopted, case, weights).named_parameters() if name not in weights]


def _given(adopted, case, weights):
    """The module of the case with these parameters."""
    weights = {name: nn.Parameter(weight) for name, weight in weights.items()}
    try:
        return adopted.module(constructor(case), weights, training=False, trained=False)
    except Exception as error:
        if adopted.is_alike or case is not _INTERFACES[adopted.replaces].probes[0]:
            raise
        raise _NotLoaded(f"{type(error).__name__}: {error}") from None
