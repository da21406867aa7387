"""Ways to come to a module, and to call it, that change nothing of what is computed. A mode is a part of a case.

A mode is Python text, and that text is what runs: what a report shows is what was done.
"""

import copy
import functools
import io
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from operator import attrgetter

import torch
import torch.utils.checkpoint
from packaging.version import Version
from torch.nn.utils import parametrize, prune

MODULES, ANY, SDPA = "modules", "any", "scaled_dot_product_attention"


@dataclass(frozen=True)
class Mode:
    """made: statements after which `module` is another one. called: an expression for what is called in its place.

    warns: a regular expression of what the call may warn of. parameter: where a parameter is then, from its former name
    `path.leaf`. within: an expression for the context of the call. calls: what it can be asked of, MODULES, ANY of
    them, functions included, or SDPA alone. differentiates: whether it is asked for gradients. needs, since: what torch
    must have, such as "func", and the first release that can be asked.
    """

    id: str
    made: str = ""
    called: str = "module"
    warns: str | None = None
    differentiates: bool = True
    parameter: str = "{path}{leaf}"
    within: str = ""
    calls: str = MODULES
    needs: str | None = None
    since: str = "1.13"

    def is_in(self):
        """Whether the installed torch has what it needs."""
        try:
            is_there = self.needs is None or bool(attrgetter(self.needs)(torch))
        except AttributeError:
            return False
        return is_there and Version(torch.__version__) >= Version(self.since)

    def where(self, name):
        """The new name of a parameter."""
        path, dot, leaf = name.rpartition(".")
        return self.parameter.format(path=path + dot, leaf=leaf)

    def context(self):
        """The context of the call."""
        return eval(self.within, dict(_NAMES)) if self.within else nullcontext()

    def prepare(self, module, parameters):
        """(what is called, {former name: parameter}) for a module, or a function, with these parameters."""
        names = {**_NAMES, "module": module}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(self.made, names)
            called = eval(self.called, names)
        return called, {name: names["module"].get_parameter(self.where(name)) for name in parameters}


_NAMES = {"torch": torch, "copy": copy, "functools": functools, "io": io}
_NAMES |= {"parametrize": parametrize, "prune": prune}

_MATH, _FLASH, _CHOOSES = (
    "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)",
    "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION)",
    "nn.attention",
)
if not hasattr(torch.nn, "attention"):  # before 2.3, by its predecessor
    _MATH, _FLASH, _CHOOSES = (
        "torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)",
        "torch.backends.cuda.sdp_kernel(enable_math=False, enable_mem_efficient=False)",
        "backends.cuda.sdp_kernel",
    )

_EACH = """\
module = copy.deepcopy(module)
for name, _ in list(module.named_parameters()):
    path, _, leaf = name.rpartition(".")
    {}
"""

_VMAP = """\
def twice(*given, **options):
    def pair(tensor):
        return tensor.expand(2, *tensor.shape)

    def once(sequences, tensors):
        results = module(*(sequences[id(tensor)] for tensor in given), **tensors, **others)
        return tuple(result for result in results if result is not None) if type(results) is tuple else results

    tensors = {name: value for name, value in options.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in options.items() if name not in tensors}
    sequences = {id(tensor): pair(tensor) for tensor in given}  # self-attention is told by identity
    results = torch.func.vmap(once)(sequences, {name: pair(tensor) for name, tensor in tensors.items()})
    return tuple(result[0] for result in results) if type(results) is tuple else results[0]
"""

EAGER = Mode("eager")
MODES = (
    EAGER,
    Mode("deepcopy", "module = copy.deepcopy(module)"),
    Mode(
        "saved",
        "file = io.BytesIO()\ntorch.save(module, file)\nfile.seek(0)\nmodule = torch.load(file, weights_only=False)",
    ),
    Mode(
        "state_dict",
        "state = module.state_dict()\n"
        "module = copy.deepcopy(module).to_empty(device=next(module.parameters()).device)\n"
        "module.load_state_dict(state)",
    ),
    Mode(
        "functional_call",
        "hollow = copy.deepcopy(module).to('meta')",
        "lambda *given, **options: torch.func.functional_call(hollow, dict(module.named_parameters()), given, options)",
        needs="func",
    ),
    Mode("checkpoint", called="functools.partial(torch.utils.checkpoint.checkpoint, module, use_reentrant=False)"),
    Mode(
        "parametrized",
        _EACH.format("parametrize.register_parametrization(module.get_submodule(path), leaf, torch.nn.Identity())"),
        parameter="{path}parametrizations.{leaf}.original",
    ),
    Mode(
        "pruned",
        _EACH.format("prune.identity(module.get_submodule(path), leaf)"),
        parameter="{path}{leaf}_orig",
    ),
    Mode(
        "vmap",
        _VMAP,
        "twice",
        calls=ANY,
        needs="func",
        since="2.3",  # before, it cannot call the fused kernel
        differentiates=False,
        warns="performance drop because we have not yet implemented the batching rule",
    ),
    Mode("sdpa_math", within=_MATH, calls=ANY, needs=_CHOOSES, since="2.0"),
    Mode("sdpa_flash", within=_FLASH, calls=SDPA, needs=_CHOOSES, since="2.0"),
)
BY_ID = {mode.id: mode for mode in MODES}
