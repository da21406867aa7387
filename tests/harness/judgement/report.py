"""How a failure reads: the call as one could type it, its masks as grids, what was expected and got, how to rerun."""

from textwrap import indent

import numpy as np

from ..cases.case import MultiHead, ScaledDotProduct, is_padding, masks_of
from ..cases.square_mask import statements
from ..contents.arrays import inputs, mask_arrays, the_input, the_parameter
from ..contents.results import as_given
from ..execution.call import constructor, options
from ..execution.setting import CPU
from ..modes.modes import BY_ID
from ..modes.spelling import shortest_repr

_WIDEST = 40


# What differs, in the order in which it is looked for, and the clauses that speak of it.
_CLAUSES = {
    "ignores it": "5",
    "nobody may look": "5",
    "gradient": "1 and 5",
    "tangent": "1 and 5",
    "dropout": "7",
    "device": "6",
    "weights": "1 to 4 and 7",
    "shape": "8",
    "warning": "10",
    "after the call": "10",
}


class Nonconformance(AssertionError):
    """torch does something else than the model of its release."""


def explain(case, observation, verdict, setting=CPU, first=None):
    """The report on a failing case, as text. first: the case that what is called was made for, if not for this one."""
    lines = [f"{setting.subject or case.module} does not do what it should:", ""]
    for mismatch in verdict.mismatches:
        lines += [f"    {_mismatch(mismatch)}", f"        (clause {_clause(mismatch)} of reference/README.md)"]
    if verdict.deviations:
        lines += ["", "    expected are the deviations that the ledger knows here: " + ", ".join(verdict.deviations)]
    lines += ["", "Call (arguments in the shapes that torch takes):", "", *_indented(call_text(case, setting))]
    for name, array in mask_arrays(case).items():
        lines += ["", f"{name} ({_legend(case, name, array)}):", "", *_indented(grid(array))]
    lines += ["", "Served by: " + (", ".join(dict.fromkeys(observation.served)) or "nothing that is watched")]
    again = " ".join([f'python -m tests.tools.again "{shortest_repr(case)}"', *setting.options])
    if first:
        lines += ["", "What is called was made for another case (that after --after), and has served it before."]
        again += f' --after "{shortest_repr(first)}"'
    lines += ["", "Again:", "", f"    {again}", ""]
    return "\n".join(lines)


def _mismatch(mismatch):
    if mismatch.where is None and mismatch.bound is None:
        return f"{mismatch.what}: expected {_nothing(mismatch.expected)}, got {_nothing(mismatch.got)}"
    place = f"{mismatch.what}[{', '.join(map(str, mismatch.where))}]" if mismatch.where is not None else mismatch.what
    line = f"{place}: expected {mismatch.expected!r}, got {mismatch.got!r}"
    if mismatch.error is not None and np.isfinite(mismatch.error):
        line += f", off by {mismatch.error:.3g} where {mismatch.bound:.3g} is allowed"
    return line


def _clause(mismatch):
    """The clauses that speak of what differs."""
    for words, clause in _CLAUSES.items():
        if words in mismatch.what:
            return clause
    return "1 to 4"


def _nothing(value):
    return "nothing" if value is None else str(value)


def _indented(text):
    return [f"    {line}" for line in text.splitlines()]


def call_text(case, setting=CPU):
    """The call as one could type it, with shapes for tensors."""
    if not case.attends:
        return "\n".join(statements(case))
    shapes = {
        name: f"<{_dtype(case, name)} {tuple(as_given(case, name, array).shape)}>"
        for name, array in (inputs(case) | mask_arrays(case)).items()
    }
    others = ", ".join(f"{name}={value!r}" for name, value in options(case).items())
    made, name = _callee(case, setting)
    if begins := BY_ID[case.mode].begins:
        made = f"{begins}  # before torch is imported\n{made}"
    if isinstance(case, ScaledDotProduct):
        arguments = [*(f"{name}={shape}" for name, shape in shapes.items()), *([others] if others else [])]
        return made + _in_context(case, f"{name}(\n    {', '.join(arguments)}\n)", setting)
    if isinstance(case, MultiHead):
        sequences = {
            "self": "x, x, x",
            "copies": "x, x.clone(), x.clone()",
            "cross": "query, key, key",
            "distinct": "query, key, value",
        }[case.attention]
        sequences += f"  # query {shapes['query']}"
    else:
        sequences = ", ".join(f"{name}={shapes[name]}" for name in ("src", "tgt", "memory") if name in shapes)
    masks = ", ".join(f"{name}={shapes[name]}" for name in masks_of(case))
    body = "\n".join(f"    {part}," for part in (sequences, masks, others) if part)
    return made + _in_context(case, f"{name}(\n{body}\n)", setting)


def _dtype(case, name):
    mask = masks_of(case).get(name)
    return mask.dtype_beside(case.dtype) if mask else case.dtype


def _callee(case, setting):
    """(statements that make what is called, its name)"""
    mode, function = BY_ID[case.mode], f"torch.nn.functional.{case.module}"
    if not isinstance(case, ScaledDotProduct) and not getattr(case, "functional", False):
        factory = setting.attention if setting.subject else f"torch.nn.{case.module}"
        return f"module = {_made(case, factory)}\n{_mode(mode)}", "module"
    return (f"module = {function}\n{_mode(mode)}", "module") if mode.made else ("", function)


def _mode(mode):
    """The statements of the mode."""
    lines = [*mode.made.splitlines(), *([f"module = {mode.called}"] if mode.called != "module" else [])]
    return "".join(f"{line}\n" for line in lines)


def _in_context(case, call, setting):
    """The call in the context that the case asks for, or with what is differentiated."""
    if within := BY_ID[case.mode].around(setting.device):
        call = f"with {within}:\n" + indent(call, "    ")
    if case.autograd in ("no_grad", "inference_mode"):
        return f"with torch.{case.autograd}():\n" + indent(call, "    ")
    gradient = {"grad": "all", "inputs": "inputs", "mask": "float masks", "last_layer": "the last layer"}
    if case.autograd == "one_parameter":
        gradient["one_parameter"] = the_parameter(case)
    if case.autograd == "one_input":
        gradient["one_input"] = the_input(case)
    what = "tangent" if BY_ID[case.mode].is_forward else "requires_grad"
    return f"{call}\n# {what}: {gradient.get(case.autograd, 'nothing')}"


def _made(case, factory):
    arguments = ", ".join(f"{name}={value!r}" for name, value in constructor(case).items())
    mode = "train()" if case.training else "eval()"
    if case.module not in ("TransformerEncoder", "TransformerDecoder"):
        return f"{factory}({arguments}).{mode}"
    stack = f"{case.num_layers}, {'LayerNorm' if case.norm else None}"
    if case.has_encoder:
        stack += f", enable_nested_tensor={case.enable_nested_tensor}, mask_check={case.mask_check}"
    return f"{factory}(\n    torch.nn.{case.module}Layer({arguments}), {stack}\n).{mode}"


def _legend(case, name, array):
    row = "sample" if is_padding(name) else "query"
    if array.dtype != bool:
        return f"{_dtype(case, name)} {array.shape}, added to the score: a row per {row}, '-' is -inf"
    meaning = "True, keeps" if isinstance(case, ScaledDotProduct) else "True, hides"
    return f"bool {array.shape}: '#' is {meaning}; a row per {row}"


def grid(array):
    """A mask as rows of characters; of a stack of masks each slice once, and only the first few of many."""
    array = np.atleast_2d(array)
    if array.ndim == 2:
        return "\n".join(" ".join(_cell(x) for x in row[:_WIDEST]) for row in array[:_WIDEST])
    if not array.size:
        return ""
    slices = array.reshape(-1, *array.shape[-2:])
    shown = [f"slice {number}\n{grid(part)}" for number, part in enumerate(slices[:4])]
    return "\n".join(shown + ([f"and {len(slices) - 4} more"] if len(slices) > 4 else []))


def _cell(x):
    if isinstance(x, np.bool_):
        return "#" if x else "."
    if np.isneginf(x):
        return "    -"
    return f"{x:5.2g}" if x else "    0"
