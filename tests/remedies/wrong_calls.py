"""Calls with a wrong mask and what a remedy makes of them, run as the text that a reader sees."""

import warnings
from dataclasses import replace

import torch

from tests.harness.wrong_masks import ACCEPTS, Fault, observe, source


def outcome(remedy, call, setting):
    """None if the remedy helps, else what comes out, in words."""
    if remedy.check:
        return _outcome_of_check(remedy, call, setting)
    changed = remedy.applied(call)
    found = observe(changed, setting)
    if found.kind != remedy.becomes:
        return f"{found.kind}: {found.error}"
    if found.kind == ACCEPTS and not changed.fault.bias and not _is_as_without_mask(changed, setting):
        return "a right mask that hides nothing changes the result"
    return None


def _is_as_without_mask(call, setting):
    """True if the mask, which hides nothing, gives what no mask gives."""
    none = replace(call, fault=replace(call.fault, shape=lambda *right: None))
    got, expected = (_results(its, setting) for its in (call, none))
    return all(torch.allclose(*pair, rtol=1e-4, atol=1e-4) for pair in zip(got, expected, strict=True))


def _results(call, setting):
    """The tensors that the call returns, of the same random numbers each time."""
    names = {"torch": torch}
    lines = source(call, setting).splitlines()
    lines[-1] = lines[-1].replace("module(", "result = module(").replace("torch.nn.f", "result = torch.nn.f")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("\n".join(["torch.manual_seed(0)", *lines]), names)
    result = names["result"] if isinstance(names["result"], tuple) else (names["result"],)
    return [tensor for tensor in result if tensor is not None]


def _outcome_of_check(remedy, call, setting):
    is_right = replace(call, fault=Fault("right", inputs=call.fault.inputs, samples=call.fault.samples))
    for its, expected in ((call, False), (is_right, True)):
        if (said := _says(remedy.check(its), its, setting)) is not expected:
            return f"{remedy.check(its)} is {said} of {its.fault.name}"
    return None


def _says(expression, call, setting):
    """What the check says of the arguments of the call."""
    names = {"torch": torch}
    lines = [line for line in source(call, setting).splitlines() if " = torch." in line or line.startswith("import")]
    exec("\n".join(line for line in lines if not line.startswith("module")), names)
    try:
        return eval(expression, names)
    except RuntimeError:  # as expand() raises where a mask does not fit
        return False
