"""The observation of torch on a call with a wrong mask.

Each call is rendered as Python text, and this text runs: a report shows the code that was executed.
"""

import re
import warnings
from dataclasses import dataclass, field
from functools import cache
from math import prod

import torch

from ..cases.case import is_padding
from ..execution.setting import CPU, Setting
from ..judgement.outcomes import ACCEPTS, RAISES, UNHELPFUL
from .table import PARAMETERS, SDPA, WrongCall
from .tensor_text import DEFAULTS, joined, random, zeros


def source(call: WrongCall, setting: Setting = CPU) -> str:
    """The Python text of the call: imports, module, inputs, masks and the call itself."""
    imports = [f"import {name}" for name in setting.imports]
    return "\n".join([*imports, *_making(call, setting), *_calling(call, setting)])


def _making(call, setting):
    if not call.callee.made:
        return []
    made = call.callee.made.replace(f"torch.nn.{call.module}(", f"{setting.called(call.module)}(")
    where = {"dtype": f"torch.{call.fault.inputs}", "device": repr(setting.device)}
    moved = ", ".join(f"{name}={value}" for name, value in where.items() if value not in DEFAULTS)
    return [_seeding(0, "cpu"), f"module = {made}" + (f".to({moved})" if moved else "")]


def _seeding(seed, device):
    """A statement that seeds one generator; torch.manual_seed on a CPU records each call for absent GPUs."""
    return f"torch.{'default_generator.' if device == 'cpu' else ''}manual_seed({seed})"


def _calling(call, setting):
    device = setting.device
    shapes = {name: call.shape_of(name) for name in call.callee.inputs}
    shapes |= PARAMETERS if call.module == "multi_head_attention_forward" else {}
    lines = [line for name, shape in shapes.items() for line in call.making_of(name, shape, device)]
    given = {}
    if call.shape is not None:
        place = ("meta" if device == "cpu" else "cpu") if call.fault.elsewhere else device
        lines += _mask(call, place)
        given[call.argument] = "mask"
    if call.fault.beside:
        lines.append(f"other_mask = {_hiding(call, call.masks[call.other], device)}")
        given[call.other] = "other_mask"
    if call.fault.hint:
        given[call.hint] = "True"
    return [_seeding(1, device), *lines, *_invocation(call, given, setting)]


def _mask(call, place):
    """Statements that make the wrong mask."""
    if call.fault.bias:
        sizes = ", ".join(map(str, call.shape))
        return ["import torch.nn.attention.bias", f"mask = torch.nn.attention.bias.{call.fault.bias}({sizes})"]
    hiding, dtype = _hiding(call, call.shape, place), call.fault.dtype
    if dtype.startswith("float"):
        hiding = hiding.replace("!=", "==")
        numbers = random(call.shape, dtype, place) if call.hides_numbers else zeros(call.shape, dtype, place)
        return [f"mask = {numbers}.masked_fill({hiding}, -torch.inf)"]
    return [f"mask = {hiding}" if dtype == "bool" else f"mask = ({hiding}).to(torch.{dtype})"]


def _hiding(call, shape, device):
    """An expression for a mask that hides every fifth element.

    No row of two keys or more is fully masked, not even by two masks together.
    """
    hides = "!=" if call.module == SDPA else "=="  # scaled_dot_product_attention keeps where True
    return f"torch.arange({joined(prod(shape), device=repr(device))}).reshape({shape}) % 5 {hides} 2"


def _invocation(call, given, setting):
    options = [call.callee.options] if call.callee.options else []
    arguments = ", ".join([*call.callee.inputs, *options, *(f"{name}={value}" for name, value in given.items())])
    if not call.callee.made:
        return [f"result = {setting.called(call.module)}({arguments})"]
    if call.mode == "training":
        return ["module.train()", f"result = module({arguments})"]
    return ["module.eval()", "with torch.no_grad():", f"    result = module({arguments})"]


# ---- outcomes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The observed outcome of a call."""

    kind: str  # RAISES, UNHELPFUL or ACCEPTS
    error: str = ""  # "type: message" of the exception
    # {name: value} after the call: the inputs, the masks, `module` and `result`
    names: dict = field(default_factory=dict, compare=False, repr=False)


def observe(call: WrongCall, setting: Setting = CPU) -> Outcome:
    """Make the call with the installed torch, or with the implementation that the setting names as its subject."""
    imports = [f"import {name}" for name in setting.imports]
    names = {"torch": torch, "module": _made("\n".join([*imports, *_making(call, setting)]))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec("\n".join([*imports, *_calling(call, setting)]), names)
        except Exception as raised:  # any exception is an outcome
            error = f"{type(raised).__name__}: {raised}"
            return Outcome(RAISES if names_mask(str(raised), call.argument) else UNHELPFUL, error)
    return Outcome(ACCEPTS, names=names)


@cache
def _made(text):
    """The module that the text makes, shared by many calls: making it takes longer than calling it."""
    names = {"torch": torch}
    exec(text, names)
    return names.get("module")


def names_mask(message: str, argument: str) -> bool:
    """True if an error message names this mask."""
    return re.search(name_of_mask(argument), message, re.IGNORECASE) is not None


def name_of_mask(argument: str) -> str:
    """A regular expression for the names of a mask in a message: its argument or "mask", not part of an operator."""
    names = ("key_padd(ing|ed)_mask",) if is_padding(argument) else ("attn_mask", "CausalBias")
    return rf"(?<![\w:])({'|'.join(dict.fromkeys(['masks?', *names, argument]))})(?!\w)"
