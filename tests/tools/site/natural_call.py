"""A case as code that people write: random inputs, masks by expressions, names such as `encoder` and `padding`."""

import re
from dataclasses import dataclass

import numpy as np
from packaging.version import Version

from tests.harness.cases.case import Case, masks_of
from tests.harness.cases.spelling import quoted
from tests.harness.contents.arrays import directions, inputs, mask_arrays, the_parameter
from tests.harness.contents.results import as_given
from tests.harness.execution.call import constructor
from tests.harness.execution.call_code import given_by_name, is_stack, other_arguments, sequences, stack_arguments
from tests.harness.execution.setting import CPU, Setting

from ..typed_call import TypedCall
from .natural_mask import mask_lines

_VARIABLES = {
    "MultiheadAttention": "attention",
    "TransformerEncoderLayer": "layer",
    "TransformerDecoderLayer": "layer",
    "TransformerEncoder": "encoder",
    "TransformerDecoder": "decoder",
    "Transformer": "model",
}
_SHORT = {"key_padding_mask": "padding", "src_key_padding_mask": "padding", "attn_mask": "mask", "src_mask": "mask"}
_FROZEN = ("frozen", "inputs", "one_input", "mask", "one_parameter")
_CONTEXTS = {
    "autocast": 'torch.autocast("{device}", torch.bfloat16)',
    "sdpa_math": "torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)",
}
_MATH_BEFORE_2_3 = "torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)"


@dataclass(frozen=True)
class _Way:
    """A mode as code. {f} is the module or function, {args} all arguments, {sequences} a tuple, {options} a dict."""

    call: str = "{f}({args})"
    before: str = ""  # a statement before the call
    imports: str = ""


_WAYS = {
    "eager": _Way(),
    "autocast": _Way(),
    "sdpa_math": _Way(),
    "checkpoint": _Way(
        "checkpoint({f}, {args}, use_reentrant=False)", imports="from torch.utils.checkpoint import checkpoint"
    ),
    "compiled": _Way("compiled({args})", 'compiled = torch.compile({f}, backend="eager")'),
    "compiled_inductor": _Way("compiled({args})", "compiled = torch.compile({f})"),
    "scripted": _Way("scripted({args})", "scripted = torch.jit.script({f})"),
    "exported": _Way(
        "program({args})", "program = torch.export.export({f}, {sequences}, {options}strict=False).module()"
    ),
}


class Unnatural(Exception):
    """The case has no natural code: its mode, contents or masks can only be written at length."""


@dataclass(frozen=True)
class NaturalCall:
    """The statements of a case. `lines` raises Unnatural if there are none that people would write."""

    case: Case
    setting: Setting = CPU
    version: Version | None = None  # of the release that is called; the newest by default

    @property
    def lines(self) -> list[str]:
        """The statements, without those that look at the results."""
        way = self._way
        statements = [
            *["torch.backends.mha.set_fastpath_enabled(False)"] * (not self.case.fast_path),
            *self._module(),
            *self._inputs(),
            *self._masks(),
            *[self._filled(way.before)] * bool(way.before),
        ]
        call = f"{self._results} = {self._filled(way.call)}"
        called = [f"with {', '.join(self._contexts)}:", f"    {call}"] if self._contexts else [call]
        return [*[way.imports] * bool(way.imports), *statements, *called]

    @property
    def _way(self):
        if self.case.mode not in _WAYS or self.case.functional or self.case.nonfinite or self.case.garbage:
            raise Unnatural(self.case)
        return _WAYS[self.case.mode]

    @property
    def _contexts(self):
        unrecorded = self.case.is_module and self.case.autograd in ("no_grad", "inference_mode")
        around = _CONTEXTS.get(self.case.mode, "").format(device=self.setting.device)
        if self.case.mode == "sdpa_math" and self.version and self.version < Version("2.3"):
            around = _MATH_BEFORE_2_3
        return [*[f"torch.{self.case.autograd}()"] * unrecorded, *[around] * bool(around)]

    @property
    def _results(self):
        if not self.case.returns_pair:
            return "output"
        return "output, weights" if self.case.need_weights else "output, _"

    # ---- the module

    @property
    def _function(self):
        return _VARIABLES[self.case.module] if self.case.is_module else f"F.{self.case.module}"

    def _kind(self, dtype=None):
        dtype = dtype or self.case.dtype
        moved = (f"device={quoted(self.setting.device)}",) * (self.setting.device != "cpu")
        return ((f"dtype=torch.{dtype}",) * (dtype != "float32")) + moved

    def _module(self):
        if not self.case.is_module:
            return []
        case = self.case
        layer = f"nn.{case.module}{'Layer' * is_stack(case)}({', '.join(self._constructor())})"
        ends = ".eval()" * (not case.training) + ".requires_grad_(False)" * (case.autograd in _FROZEN)
        if not is_stack(case):
            return [f"{self._function} = {layer}{ends}", *self._trained()]
        stack = f"{self._function} = nn.{case.module}({', '.join(stack_arguments(case, 'layer'))}){ends}"
        return [f"layer = {layer}", stack, *self._trained()]

    def _constructor(self):
        """The arguments of the module, or of the layer of a stack."""
        given = {
            name: value for name, value in constructor(self.case).items() if (name, value) != ("activation", "relu")
        }
        names = [
            "embed_dim",
            "num_heads",
            "d_model",
            "nhead",
            *["dim_feedforward"] * (self.case.module != "Transformer"),
        ]
        positional = [str(given.pop(name)) for name in names if name in given]
        return (*positional, *(f"{name}={quoted(value)}" for name, value in given.items()), *self._kind())

    def _trained(self):
        """Statements that choose the parameters that are trained."""
        case, its = self.case, self._function
        if case.autograd == "one_parameter":
            path, _, leaf = re.sub(r"layers\.(\d+)", r"layers[\1]", the_parameter(case)).rpartition(".")
            return [f"{its}.{path}.{leaf}.requires_grad_()  # this alone is trained"]
        return [f"{its}.layers[:-1].requires_grad_(False)"] * (case.autograd == "last_layer" and case.num_layers > 1)

    # ---- arguments

    def _sequences(self):
        """{input: variable}"""
        names = list(inputs(self.case))
        return {"query": "x"} if self.case.attention == "self" else {name: name for name in names}

    def _inputs(self):
        case, made = self.case, {}
        for name, variable in self._sequences().items():
            shape = as_given(case, name, inputs(case)[name]).shape
            made[variable] = _random(shape, self._kind(), case.layout) + self._learned(name)
        yield from _joined(made)
        if case.nan_query:
            where = ", ".join(map(str, np.argwhere(np.isnan(inputs(case)["query"]).any(-1))[0]))
            yield f'{self._sequences()["query"]}[{where}] = float("nan")'

    def _learned(self, name):
        """The call that makes an argument require a gradient; empty if it needs none, as the parameters require one."""
        if self.case.is_module and self.case.autograd == "grad":
            return ""
        return ".requires_grad_()" * (name in directions(self.case) and name not in TypedCall(self.case).of_module)

    def _masks(self):
        typed = TypedCall(self.case, self.setting)
        for name, array in mask_arrays(self.case).items():
            mask, variable = masks_of(self.case)[name], _SHORT.get(name, name)
            kind = self._kind(mask.dtype_beside(self.case.dtype))
            lines = mask_lines(variable, as_given(self.case, name, array), kind, mask.layout)
            if lines is None or (typed.behind(name) and self.setting.device == "cpu"):
                raise Unnatural(name)
            learned = self._learned(name)
            is_made = lines[-1].startswith(f"{variable} =")
            yield from [*lines[:-1], lines[-1] + learned] if is_made or not learned else [*lines, variable + learned]

    def _filled(self, text):
        case, its = self.case, self._sequences()
        names = [its[name] for name in sequences(case)]
        masks = [f"{name}={_SHORT.get(mask, mask)}" for name, mask in given_by_name(case).items()]
        others = other_arguments(case)
        return text.format(
            f=self._function,
            args=", ".join((*names, *masks, *others)),
            sequences=f"({', '.join(names)}{',' * (len(names) == 1)})",
            options=f"dict({', '.join((*masks, *others))}), " if masks or others else "",
        )


def _random(shape, kind, layout):
    """An expression of normal numbers in this layout."""
    *front, last = shape
    sizes, view = {
        "contiguous": (shape, ""),
        "sliced": ((*front, last + 2), "[..., 1:-1]"),
        "transposed": ((*front[1::-1], *front[2:], last), ".transpose(0, 1)"),
    }.get(layout, (None, ""))
    if sizes is None:
        raise Unnatural(layout)
    return f"torch.randn({', '.join((*map(str, sizes), *kind))}){view}"


def _joined(made):
    """Generates statements that make the variables. made: {variable: expression}; equal ones are made together."""
    for expression in dict.fromkeys(made.values()):
        names = [name for name, its in made.items() if its == expression]
        several = f"({expression} for _ in range({len(names)}))"
        yield f"{', '.join(names)} = {expression if len(names) == 1 else several}"
