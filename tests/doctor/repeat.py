"""Writes a script and its data that repeat one call, and exit 1 where the result differs from the reference's."""

from dataclasses import replace
from pathlib import Path

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
from tests.harness.judgement.prediction import bounds, predict

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

data = torch.load(Path(__file__).with_suffix(".pt"))
given = {name: value.to(%(device)r).requires_grad_(name in data["moving"]) for name, value in data["given"].items()}
weights = {name: value.to(%(device)r) for name, value in data["weights"].items()}
%(made)s
with %(context)s:
    result = %(call)s
results = result if isinstance(result, tuple) else (result,)
found = 0
for (name, (right, allowed)), got in zip(data["expected"].items(), (each for each in results if each is not None)):
    got = got.detach().double().cpu()
    difference = torch.where(got.isnan() & right.isnan(), 0.0, (got - right).abs().nan_to_num(torch.inf))
    print(f"torch {torch.__version__}: {name} is off by {difference.max():.3g}, and {allowed:.3g} is allowed")
    found |= int(bool((difference > allowed).any()))
sys.exit(found)
"""


class Scripts:
    """Writes scripts into a folder, up to a number."""

    def __init__(self, folder: str, most: int = 5) -> None:
        self._folder, self._left, self._written = Path(folder), most, 0

    def __call__(self, made: Made, outcome: Outcome) -> str:
        """Write the script of a call; return its path.

        Empty if the call raised, if it is of flex_attention, or if enough are written.
        """
        if made.function == FLEX:  # its functions cannot be written down
            return ""
        if outcome.case is None or made.error is not None or self._written >= self._left:
            return ""
        self._written += 1
        case, _ = described(made)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{made.function}-{self._written}.py"
        path.write_text(_SCRIPT % _texts(made, case), encoding="utf-8")
        torch.save(_data(made, case), path.with_suffix(".pt"))
        return str(path)


def _data(made, case):
    expected = present(case, predict(case)())
    contents = case.seed
    return {
        "given": {_spelled(made, name): tensor.detach().clone().cpu() for name, tensor in _given(made).items()},
        "moving": [_spelled(made, name) for name, tensor in _given(made).items() if tensor.requires_grad],
        "weights": {name: torch.tensor(array) for name, array in contents.parameters.items()},
        "expected": {
            name: (torch.tensor(array.real).double(), float(list(bounds(case, name))[-1]))
            for name, array in expected.items()
        },
    }


def _given(made):
    """{name: tensor} of the inputs and masks."""
    names = ("query", "key", "value", "src", "tgt", "memory", "static_k", "static_v")
    inputs = {name: tensor for name, tensor in made.tensors.items() if name in names}
    return inputs | made.masks


def _spelled(made, name):
    return "mask" if name == "src_mask" and made.function == "TransformerEncoder" else name


def _texts(made, case):
    context = {"no_grad": "torch.no_grad()", "inference_mode": "torch.inference_mode()"}.get(case.autograd)
    if made.around.autocast:
        context = f"torch.autocast({made.device.type!r}, dtype=torch.{made.around.autocast})"
    more = "".join(f", {argument}" for argument in other_arguments(case))
    return {
        "device": str(made.device),
        "context": context or "nullcontext()",
        "made": _made(case),
        "call": _call(made, case, more),
    }


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
