"""Writes a script and its data that repeat one call, and exit 1 where the result differs from the reference's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.harness.contents.results import present
from tests.harness.execution.call_code import (
    called,
    constructor_arguments,
    is_stack,
    other_arguments,
    stack_arguments,
    with_parameters,
)
from tests.harness.judgement.prediction import bounds, is_zero, predict

from . import repeat_flex
from .calls import FLEX, FUNCTIONAL, SDPA, Made
from .compare import Outcome
from .describe import described

_SCRIPT = """\
\"\"\"Repeats a call that differs from the reference, for reasons that nobody knows. Exits 1 where it differs.\"\"\"
import functools
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

data = torch.load(Path(__file__).with_suffix(".pt"), weights_only=True)
given = {name: value.to(%(device)r).requires_grad_(name in data["moving"]) for name, value in data["given"].items()}
weights = {name: value.to(%(device)r) for name, value in data["weights"].items()}
%(made)s
with %(context)s:
    result = %(call)s
results = result if isinstance(result, tuple) else (result,)
"""

COMPARISON = """\
found = 0
for (name, (right, allowed)), got in zip(data["expected"].items(), (each for each in results if each is not None)):
    got = got.detach().double().cpu()
    equal = (got == right) | (got.isnan() & right.isnan())
    difference = torch.where(equal, 0.0, (got - right).abs().nan_to_num(torch.inf))
    wrong = difference > allowed
    print(f"torch {torch.__version__}: {name} is off by {difference.max():.3g}, and {allowed.max():.3g} is allowed")
    print(f"    (nothing where it must be exact): {wrong.sum()} of {wrong.numel()} elements are wrong")
    found |= int(bool(wrong.any()))
sys.exit(found)
"""


class Scripts:
    """Writes scripts into a folder, up to a number."""

    def __init__(self, folder: str, most: int = 5) -> None:
        self._folder, self._left, self._written = Path(folder), most, 0

    def __call__(self, made: Made, outcome: Outcome) -> str:
        """Write the script of a call; return its path. Empty if the call raised, or if enough are written."""
        if outcome.case is None or made.error is not None or self._written >= self._left:
            return ""
        self._written += 1
        text, data = _flex_script(made, outcome.case) if made.function == FLEX else _script(made)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{made.function}-{self._written}.py"
        path.write_text(text + COMPARISON, encoding="utf-8")
        torch.save(data, path.with_suffix(".pt"))
        return str(path)


def _script(made):
    """(text, data) of the script of a call, up to the comparison."""
    case, _ = described(made)
    return _SCRIPT % _texts(made, case), _data(made, case)


def _flex_script(made, case):
    """(text, data) of the script of a call of flex_attention. case: with the samples that were compared."""
    case = repeat_flex.with_tables(made, case)
    return repeat_flex.text(made, case, _context(made, case)), {
        **repeat_flex.data(made, case),
        "expected": _expected(case),
    }


def _data(made, case):
    contents = case.seed
    return {
        "given": {_spelled(made, name): tensor.detach().clone().cpu() for name, tensor in _given(made).items()},
        "moving": [_spelled(made, name) for name, tensor in _given(made).items() if tensor.requires_grad],
        "weights": {name: torch.tensor(array) for name, array in contents.parameters.items()},
        "expected": _expected(case),
    }


def _expected(case):
    """{result name: (the reference's result, the allowed error of each element)}"""
    expected = {}
    for name, array in present(case, predict(case)()).items():
        allowed = np.where(is_zero(case, name), 0.0, float(list(bounds(case, name))[-1]))
        expected[name] = torch.tensor(array.real).double(), torch.tensor(np.broadcast_to(allowed, array.shape))
    return expected


def _given(made):
    """{name: tensor} of the inputs and masks."""
    names = ("query", "key", "value", "src", "tgt", "memory", "static_k", "static_v")
    inputs = {name: tensor for name, tensor in made.tensors.items() if name in names}
    return inputs | made.masks


def _spelled(made, name):
    return "mask" if name == "src_mask" and made.function == "TransformerEncoder" else name


def _texts(made, case):
    more = "".join(f", {argument}" for argument in other_arguments(case))
    return {
        "device": str(made.device),
        "context": _context(made, case),
        "made": _made(case),
        "call": _call(made, case, more),
    }


def _context(made, case):
    """The context in which the call is made."""
    if made.around.autocast:
        return f"torch.autocast({made.device.type!r}, dtype=torch.{made.around.autocast})"
    contexts = {"no_grad": "torch.no_grad()", "inference_mode": "torch.inference_mode()"}
    return contexts.get(case.autograd, "nullcontext()")


def _call(made, case, more):
    if made.function == SDPA:
        return f"torch.nn.functional.{SDPA}(**given{more})"
    if made.function == FUNCTIONAL:
        return f"torch.nn.functional.{FUNCTIONAL}(**given, **functional{more})"
    return f"module(**given{more})"


def _made(case):
    """The statements that make the module with its parameters."""
    if not case.has_parameters:
        return ""
    if case.functional:
        return _FUNCTIONAL % {"E": case.E, "heads": case.num_heads, "zero": case.add_zero_attn, "p": case.dropout}
    module = f"{with_parameters(case)}({', '.join(constructor_arguments(replace(case, dropout=0.0)))})"
    if is_stack(case):
        module = f"{called(case)}({', '.join(stack_arguments(case, module))})"
    trained = case.autograd not in ("frozen", "mask")
    return (
        f"module = {module}.to({_dtype(case)}).train({case.training})\n"
        f"module.load_state_dict(weights)\nmodule.to(next(iter(weights.values())).device).requires_grad_({trained})"
    )


def _dtype(case):
    return f"torch.{case.dtype}"


_FUNCTIONAL = """\
separate = {name: value for name, value in weights.items() if name[1:] == "_proj_weight"}
functional = dict(embed_dim_to_check=%(E)s, num_heads=%(heads)s, add_zero_attn=%(zero)s, dropout_p=%(p)s, **separate)
functional |= dict(out_proj_weight=weights["out_proj.weight"], out_proj_bias=weights.get("out_proj.bias"))
functional |= dict(use_separate_proj_weight=bool(separate))
functional |= {name: weights.get(name) for name in ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v")}"""
