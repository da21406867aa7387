"""Measuring another implementation of nn.MultiheadAttention by the same clauses: --subject package.module:factory."""

import importlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..cases.case import Kind, MultiHead
from ..contents.arrays import parameters
from .call import arguments, constructor
from .release import takes

# Arguments of the constructor and of the call, with their defaults.
_MADE_WITH: dict[str, Any] = {
    "dropout": 0.0,
    "bias": True,
    "add_bias_kv": False,
    "add_zero_attn": False,
    "kdim": None,
    "vdim": None,
}
_MADE_WITH |= {"batch_first": False}
_CALLED_WITH: dict[str, Any] = {"attn_mask": None, "key_padding_mask": None, "is_causal": False}
_CALLED_WITH |= {"need_weights": True, "average_attn_weights": True}

# Together these cases give nn.MultiheadAttention every parameter that it can have.
_PROBE = MultiHead(dtype="float32", N=2, L=3, S=3, num_heads=2, head_dim=2, batch_first=False)
_PROBES = (_PROBE, replace(_PROBE, kdim=5, vdim=6), replace(_PROBE, add_bias_kv=True))

DECLINED = "NotImplementedError"  # an implementation raises it for calls that it does not support


class Unusable(Exception):
    """The subject cannot be measured. The message gives the reason in one line."""


@dataclass(frozen=True)
class Adopted:
    """An implementation that is measured in place of nn.MultiheadAttention.

    The factory takes the arguments of nn.MultiheadAttention, and its module is called like nn.MultiheadAttention. A
    call that raises NotImplementedError counts as not applicable. If `is_alike`, the suite replaces the parameters of
    the module and judges their gradients; otherwise it passes a state_dict of nn.MultiheadAttention to load_state_dict.
    """

    name: str  # "package.module:factory"
    factory: Callable[..., nn.Module]  # makes the module
    takes: frozenset[str]  # the optional arguments in its signatures; the suite passes no others
    is_alike: bool  # its parameters have the names of those of nn.MultiheadAttention

    def adapt(self, case: Kind) -> Kind:
        """The nearest case that the implementation can run: arguments that it lacks get their defaults."""
        changes = {name: default for name, default in (_MADE_WITH | _CALLED_WITH).items() if name not in self.takes}
        if "attn_mask" in changes:
            changes["is_causal"] = False
        if not self.is_alike and case.autograd in ("grad", "one_parameter"):
            changes["autograd"] = "inputs"
        return replace(case, **changes)

    def module(
        self, arguments: dict[str, Any], weights: dict[str, nn.Parameter], training: bool, trained: bool
    ) -> nn.Module:
        """The module with these constructor arguments and parameters.

        weights: {name in nn.MultiheadAttention: parameter}. training: train or eval mode. trained: if not `is_alike`,
        all parameters require a gradient, or none does.
        """
        weight = next(iter(weights.values()))
        module = _made(self.factory, tuple(sorted(arguments.items())), weight.dtype, weight.device)
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
    """Import the implementation "package.module:factory" and check on the device that its parameters take effect.

    Raises Unusable.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise Unusable(f"{name}: not of the form package.module:factory")
    try:
        factory: Any = importlib.import_module(module)
        for part in path.split("."):
            factory = getattr(factory, part)
        made = factory(embed_dim=4, num_heads=2)
        forward, parameters = made.forward, dict(made.named_parameters())
    except Exception as error:  # foreign code can raise anything
        raise Unusable(" ".join(f"{name}: {type(error).__name__}: {error}".split())) from None
    function = factory.__init__ if inspect.isclass(factory) else factory
    asked = [(function, name) for name in _MADE_WITH] + [(forward, name) for name in _CALLED_WITH]
    taken = frozenset(name for callee, name in asked if takes(callee, name))
    is_alike = set(dict(nn.MultiheadAttention(4, 2).named_parameters())) <= set(parameters)
    adopted = Adopted(name, factory, taken, is_alike)
    for case in _PROBES:
        if adopted.adapt(case) == case:
            _check_parameters(adopted, case, device)
    return adopted


class _NotLoaded(Exception):
    """load_state_dict refuses the parameters of nn.MultiheadAttention."""


def _check_parameters(adopted, case, device):
    """Raise Unusable if some parameters of nn.MultiheadAttention, given to the module, do not change its output.

    Two failures are left to the tests: a module that raises, and an `is_alike` module that ignores a parameter without
    having others instead.
    """
    try:
        unused, others = _unused(adopted, case, device)
    except _NotLoaded as error:
        reason = f"its load_state_dict does not take the parameters of nn.MultiheadAttention: {error}"
        raise Unusable(" ".join(f"{adopted.name}: {reason}".split())) from None
    except Exception:  # the tests report it
        return
    if unused and (others or not adopted.is_alike):
        options = "".join(f"{name}={value}, " for name, value in constructor(case).items() if name in _MADE_WITH)
        instead = f": it computes with others ({', '.join(others)})" if others else ""
        raise Unusable(
            f"{adopted.name}: {options}its parameters have no effect: {', '.join(unused)}{instead}. Give a factory"
            " whose module has no parameters of these names, and a load_state_dict that takes them"
        )


def _unused(adopted, case, device):
    """(names of parameters of nn.MultiheadAttention that do not affect the output, names of other parameters)."""
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
        if adopted.is_alike or case is not _PROBE:
            raise
        raise _NotLoaded(f"{type(error).__name__}: {error}") from None
