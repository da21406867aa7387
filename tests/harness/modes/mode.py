"""One mode: Python text that creates and calls a module or function, and the calls for which it is tested."""

import copy
import functools
import importlib.util
import inspect
import io
import re
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.checkpoint
from packaging.version import Version
from torch._subclasses import FakeTensorMode
from torch.nn.utils import parametrize, prune

from ..releases import MEASURED
from . import inductor, pairs
from .vectors import VARIABLE, is_lesser

if TYPE_CHECKING:
    from ..cases.case import Case

NOT_ASKED: set[str] = set()  # ids of modes that are left out; experiments that modify torch's source add them
MODULES, FUNCTIONAL, SDPA = "modules", "multi_head_attention_forward", "scaled_dot_product_attention"
FLEX = "flex_attention"


def can_quantize() -> bool:
    """True if the engine of quantized layers is one whose arithmetic is modelled (expectation/eight_bits.py)."""
    return torch.backends.quantized.engine in ("x86", "fbgemm")


@dataclass(frozen=True, repr=False)
class Mode:
    """A way to create and call a module or function, as Python text, and the calls for which it is tested."""

    id: str
    made: str = ""  # statements that find `module`, and replace it or define a callable
    called: str = "module"  # an expression: the callable that is called in place of the module
    within: str = ""  # an expression: the context manager of the call; DEVICE stands for the type of the device
    kernel: str | None = None  # the kernel of SDPA to which the context restricts the call (path_names.KERNELS)
    kin: str | None = None  # id of the mode of which this is a variant
    parameter: str = "{path}{leaf}"  # the new name of a parameter whose name was `path.leaf`
    renames: str = ""  # a regular expression of the names of the parameters that get new names
    calls: tuple[str, ...] = (MODULES,)  # the kinds of calls that are tested, repeated by weight
    warns: str | None = None  # a regular expression of warnings that the call may give
    differentiates: bool = True  # gradients are tested (is_differentiated)
    is_forward: bool = False  # derivatives are forward-mode: tensors have an attribute `tangent`
    is_second_order: bool = False  # gradients are differentiated again (create_graph=True)
    lowers: str | None = None  # the dtype of matrix products, if not that of the inputs (autocast)
    quantizes: bool = False  # linear layers compute in eight bits (expectation/eight_bits.py)
    norm2_eps: float | None = None  # of norm2 of each layer, if not that of its other norms
    vectors: str | None = None  # the vector extension of the CPU that kernels use, if not the best (vectors.py)
    compiles: bool = False  # the call is compiled first, which is slow; empty inputs are not tested
    builds: bool = False  # compilation needs a C++ compiler, and is so slow that few calls are tested
    only_on: str | None = None  # the only type of device on which the mode is tested
    is_for_small: bool = False  # only small calls are tested, and no empty ones
    is_watched: bool = True  # the paths of the call are observable (execution/watching.py)
    is_shared: bool = False  # two processes make the call together (pairs.py)
    is_sharded: bool = False  # each of the processes holds a part of the parameters
    calls_before: bool = False  # the call is made in other ways before, which may take paths that crash
    # tensors that are copied: "sequences" (query, key, value) or "all" (also masks), which become contiguous; or
    # "masks", whose copies are interleaved
    copies: str = ""
    everywhere: bool = True  # tested also on types of devices that have not been measured
    decomposes: bool = False  # fused kernels are decomposed
    serves: str = ""  # an artifact is reused for "masks" with other contents, or for other "sizes" as well
    drops: bool = False  # dropout is tested: it is observable, or equals that of the eager call
    converts_masks: bool = True  # masks whose dtype differs from that of the inputs are tested
    times: int = 1  # calls per example
    is_rare: bool = False  # few calls are tested, since another mode is much alike
    packages: tuple[str, ...] = ()  # the packages, other than torch, that the mode needs
    needs: str | None = None  # an attribute of torch that the mode needs, such as "func"
    since: str = "1.13"  # the first release in which the mode is tested

    def __repr__(self):
        return self.id

    @property
    def family(self) -> str:
        """The id of the mode of which this is a variant; its own id if it is no variant."""
        return self.kin or self.id

    def is_in(self, device_type: str = "cpu") -> bool:
        """True if the mode can be tested with the installed torch on this type of device."""
        if self.id in NOT_ASKED:
            return False
        if Version(torch.__version__) < Version(self.since) or not (self.everywhere or device_type in MEASURED):
            return False
        if self.only_on not in (None, device_type) or (self.builds and not inductor.can_build()):
            return False
        if self.quantizes and not can_quantize():
            return False
        if not self.has_packages:
            return False
        if self.vectors and not (device_type == "cpu" and is_lesser(self.vectors)):
            return False
        if self.is_shared and pairs.obstacle():
            return False
        try:
            return self.needs is None or bool(attrgetter(self.needs)(torch))
        except AttributeError:
            return False

    @property
    def has_packages(self) -> bool:
        """True if the packages are installed that the mode needs."""
        return all(map(importlib.util.find_spec, self.packages))

    def is_differentiated(self, case: "Case") -> bool:
        """True if gradients of the call are tested. A module that is built takes 15 s with its backward pass."""
        return self.differentiates and not (self.builds and case.has_parameters)

    def takes(self, dtype: str) -> bool:
        """True if the mode is tested with inputs of this dtype: autocast casts no float64, say."""
        return dtype == "float32" or not (self.lowers or self.quantizes or self.packages)

    @property
    def is_torchscript(self) -> bool:
        """True if TorchScript compiles or traces the module."""
        return self.family in ("scripted", "traced")

    def maps(self, tensors: str) -> bool:
        """True if vmap maps these tensors, "sequences" or "masks", and so hides that they require a gradient."""
        return self.copies in (tensors, "all")

    @property
    def copies_module(self) -> bool:
        """True if the mode calls a copy of the module."""
        return self.quantizes or "copy.deepcopy(module)" in self.made or "torch.save(module" in self.made

    @property
    def keeps_names(self) -> bool:
        """True if the module that the mode creates has the same parameters under the same names."""
        return self.parameter == Mode.parameter

    @property
    def begins(self) -> str:
        """The statements that must precede the import of torch; empty if there are none."""
        if self.is_shared:
            return pairs.BEGINS
        return f'os.environ["{VARIABLE}"] = "{self.vectors.lower()}"' if self.vectors else ""

    def where(self, name: str) -> str:
        """The new name of the parameter, in the module that the mode creates."""
        if not re.search(self.renames, name):
            return name
        path, dot, leaf = name.rpartition(".")
        return self.parameter.format(path=path + dot, leaf=leaf)

    def around(self, device: str = "cpu") -> str:
        """The expression of the context manager for a call on the device; empty if there is none."""
        return self.within.replace("DEVICE", f'"{device.partition(":")[0]}"')

    def context(self, device: str = "cpu") -> AbstractContextManager:
        """The context manager for a call on the device."""
        return eval(self.around(device), dict(_NAMES)) if self.within else nullcontext()

    def prepare(self, module: Callable, parameters: Iterable[str]) -> tuple[Callable, dict[str, Any]]:
        """Execute the mode for a module or function: (the callable, {former name: its parameter}).

        parameters: the names of the parameters of the module; empty for a function.
        """
        if self.id != "eager":
            settle()
        names = {**_NAMES, "module": module}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(self.made, names)
            called = eval(self.called, names)
        return called, {name: names["module"].get_parameter(self.where(name)) for name in parameters}


@cache
def settle() -> None:
    """Make TorchDynamo look up the functions of torch before watching.py replaces them. It does so once, by name."""
    inductor.settle()  # first: importing TorchDynamo fixes the cache directory
    if hasattr(torch, "compiler"):
        torch.compiler.allow_in_graph(_nothing)


def _nothing():
    """A placeholder for allow_in_graph; never called."""


_NAMES: dict[str, Any] = {its.__name__: its for its in (torch, copy, functools, inspect, io, warnings)}
_NAMES |= {"parametrize": parametrize, "prune": prune, "FakeTensorMode": FakeTensorMode}
