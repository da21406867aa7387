"""Another implementation of nn.MultiheadAttention, held to the same clauses: --subject package.module:factory."""

import importlib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn

from ..cases.case import MultiHead
from ..contents.arrays import parameters
from .call import arguments, constructor
from .release import takes

# Arguments of the module and of its call, with their defaults.
_MADE_WITH = {"dropout": 0.0, "bias": True, "add_bias_kv": False, "add_zero_attn": False, "kdim": None, "vdim": None}
_MADE_WITH |= {"batch_first": False}
_CALLED_WITH = {"attn_mask": None, "key_padding_mask": None, "is_causal": False}
_CALLED_WITH |= {"need_weights": True, "average_attn_weights": True}

# Between them, the constructor arguments below give nn.MultiheadAttention every parameter that it can have.
_PROBE = MultiHead(dtype="float32", N=2, L=3, S=3, num_heads=2, head_dim=2, batch_first=False)
_PROBES = (_PROBE, replace(_PROBE, kdim=5, vdim=6), replace(_PROBE, add_bias_kv=True))

DECLINED = "NotImplementedError"  # what it raises is not asked of it


class Unusable(Exception):
    """Why something cannot be the subject, in one line."""


@dataclass(frozen=True)
class Adopted:
    """What `factory` makes, in the place of nn.MultiheadAttention; its name is "package.module:factory".

    The factory takes that module's arguments; what it makes is called as that module is. An argument that its
    signatures lack is not asked of it (`takes`), and a call that raises NotImplementedError is not applicable. It is
    given its parameters under the names of nn.MultiheadAttention: where its own have these names (`is_alike`) they are
    replaced, and their gradients judged; otherwise its load_state_dict gets them.
    """

    name: str
    factory: Callable[..., nn.Module]
    takes: frozenset[str]
    is_alike: bool

    def adapt(self, case):
        """The case nearest to this one that can be asked of it."""
        changes = {name: default for name, default in (_MADE_WITH | _CALLED_WITH).items() if name not in self.takes}
        if "attn_mask" in changes:
            changes["is_causal"] = False
        if not self.is_alike and case.autograd in ("grad", "one_parameter"):
            changes["autograd"] = "inputs"
        return replace(case, **changes)

    def module(self, arguments, weights, training, trained):
        """The module that these arguments make, with these parameters (all or none `trained`)."""
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
    with torch.random.fork_rng(devices=[]):  # a case is the same whether its module is made for it or is there already
        return factory(**dict(arguments)).to(device=device, dtype=dtype)


def load(name, device="cpu"):
    """The Adopted of that name, "package.module:factory", of which the device is asked. Raises Unusable."""
    module, _, path = name.partition(":")
    if not module or not path:
        raise Unusable(f"{name}: not of the form package.module:factory")
    try:
        factory = importlib.import_module(module)
        for part in path.split("."):
            factory = getattr(factory, part)
        made = factory(embed_dim=4, num_heads=2)
        forward, parameters = made.forward, dict(made.named_parameters())
    except Exception as error:  # what is not ours can fail in any way
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
    """The error of a load_state_dict that does not take the parameters of nn.MultiheadAttention."""


def _check_parameters(adopted, case, device):
    """Raise Unusable if parameters of nn.MultiheadAttention that the module is given do not reach its output.

    A module that raises has no output to look at, and one that has no other parameters computes wrongly: both are
    judged by the tests.
    """
    try:
        unused, others = _unused(adopted, case, device)
    except _NotLoaded as error:
        reason = f"its load_state_dict does not take the parameters of nn.MultiheadAttention: {error}"
        raise Unusable(" ".join(f"{adopted.name}: {reason}".split())) from None
    except Exception:  # it raises in the tests as well
        return
    if unused and (others or not adopted.is_alike):
        options = "".join(f"{name}={value}, " for name, value in constructor(case).items() if name in _MADE_WITH)
        instead = f": it computes with others ({', '.join(others)})" if others else ""
        raise Unusable(
            f"{adopted.name}: {options}its parameters have no effect: {', '.join(unused)}{instead}. Give a factory"
            " whose module has no parameters of these names, and a load_state_dict that takes them"
        )


def _unused(adopted, case, device):
    """(names of parameters of nn.MultiheadAttention without effect on the output, the module's other parameters)."""
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
