"""The call of a case as one types it: statements that make its arguments and its module, and the call itself."""

from dataclasses import dataclass
from math import prod

import numpy as np

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, masks_of
from tests.harness.contents.arrays import directions, inputs, mask_arrays, parameters, the_parameter
from tests.harness.contents.results import as_given
from tests.harness.execution.call import constructor, options
from tests.harness.execution.setting import CPU, Setting
from tests.harness.modes.modes import BY_ID, EAGER

from .python_text import LOWEST, Bracketed, listed, number, quoted
from .standalone import SCALED_DOT_PRODUCT, needs, needs_argument, needs_release


@dataclass(frozen=True)
class TypedCall:
    """Methods return statements, see python_text.py."""

    case: Case
    setting: Setting = CPU

    @property
    def device(self):
        return self.setting.device

    @property
    def is_module(self):
        return not (isinstance(self.case, ScaledDotProduct) or self.is_functional)

    @property
    def is_functional(self):
        return self.case.functional

    @property
    def called(self):
        """The name of the module or function."""
        if self.case.module == "MultiheadAttention":
            return self.setting.attention
        return f"torch.nn{'' if self.is_module else '.functional'}.{self.case.module}"

    def needs(self):
        """What not every release has."""
        if self.called == SCALED_DOT_PRODUCT:
            yield needs("torch.nn.functional", self.case.module)
        if not self.case.fast_path:
            yield needs("torch.backends", "mha")
        if self.mode.needs:
            owner, _, name = f"torch.{self.mode.needs}".rpartition(".")
            yield needs(owner, name)
        if self.mode.since != EAGER.since:
            yield needs_release(self.mode.since)
        if self.is_module and not isinstance(self.case, MultiHead) and not self.case.bias:
            yield needs_argument(self.layer, "bias")
        newer = {"scale", "enable_gqa"}
        if self.called != SCALED_DOT_PRODUCT:
            newer = {"is_causal", "src_is_causal", "tgt_is_causal", "memory_is_causal"}
        for name in () if self.setting.subject else options(self.case):
            if name in newer:
                yield needs_argument(f"{self.called}.forward" if self.is_module else self.called, name)

    # ---- arguments

    def kind(self, array=None, where="device", dtype=None):
        """The keyword arguments that make a tensor or module of the right kind; of the case's dtype by default."""
        dtype = dtype or self.case.dtype
        is_float32 = dtype == "float32" or (array is not None and array.dtype == bool)
        moved = self.device != "cpu" and where == "device"
        return (*[f"dtype=torch.{dtype}"] * (not is_float32), *[f"device={quoted(self.device)}"] * moved)

    def literal(self, head, array, where="device", dtype=None):
        """An expression for a contiguous tensor."""
        kind = self.kind(array, where, dtype)
        if array.size == 0:
            return Bracketed(
                f"{head}torch.zeros(", (str(array.shape), *["dtype=torch.bool"] * (array.dtype == bool), *kind)
            )
        if array.size > 6 and (array == array.flat[0]).all():
            return Bracketed(f"{head}torch.full(", (str(array.shape), number(array.flat[0]), *kind))
        return Bracketed(f"{head}torch.tensor(", (listed(array), *kind))

    def tensor(self, name, array, layout, dtype=None):
        """Statements that make a tensor with this layout of its memory, as call.lay_out does."""
        layout = layout if array.ndim else "contiguous"
        behind = self.behind(name) if layout == "contiguous" else 0
        if layout == "expanded" and array.size:
            fixed = [axis for axis in range(array.ndim) if (array == array.take([0], axis)).all()]
            once = array[tuple(slice(0, 1) if axis in fixed else slice(None) for axis in range(array.ndim))]
            lines = (self.literal(f"{name} = ", once, "cpu", dtype), f"{name} = {name}.expand({_sizes(array)})")
        elif layout == "transposed":
            axes = ", ".join(map(str, reversed(range(array.ndim))))
            turned = f"{name} = {name}.permute({axes}).contiguous().permute({axes})"
            lines = (self.literal(f"{name} = ", array, "cpu", dtype), turned)
        elif layout in ("sliced", "stepped"):
            *rows, columns = array.shape
            step = 2 if layout == "stepped" else 1
            shape = (*(size + 2 for size in rows), step * columns + 2)
            window = ", ".join(["1:-1"] * len(rows) + ["1:-1" + ":2" * (step - 1)])
            lines = self.copied(name, array, shape, f"[{window}]", dtype)
        elif behind:
            lines = self.copied(name, array, (array.size + behind,), f"[:{array.size}].view({_sizes(array)})", dtype)
        else:
            return (self.literal(f"{name} = ", array, dtype=dtype),)
        return lines if self.device == "cpu" else (*lines, f"{name} = {name}.to({quoted(self.device)})")

    def copied(self, name, array, shape, window, dtype):
        """A part of a larger tensor whose other elements must not matter."""
        poison = "True" if array.dtype == bool else "nan"
        around = ", ".join((str(shape), poison, *self.kind(array, "cpu", dtype)))
        return (f"{name} = torch.full({around}){window}", self.literal(f"{name}[:] = ", array, "cpu", dtype))

    def behind(self, name):
        """How much memory behind a tensor is filled: some releases read a mask of size 1 over keys past its end."""
        is_one = isinstance(self.case, ScaledDotProduct) and name == "attn_mask" and self.case.broadcast == "S"
        return prod((*self.case.batch, self.case.L, self.case.S)) if is_one and self.case.S > 1 else 0

    def inputs(self):
        for name, array in inputs(self.case).items():
            is_copy = self.case.attention == "copies" and name in ("key", "value")
            if is_copy and self.case.layout == "contiguous":
                yield f"{name} = query.clone()"
            else:
                yield from self.tensor(name, as_given(self.case, name, array), self.case.layout)

    def masks(self):
        for name, array in mask_arrays(self.case).items():
            mask = masks_of(self.case)[name]
            yield from self.tensor(name, as_given(self.case, name, array), mask.layout, mask.dtype)

    # ---- what is called

    def switches(self):
        numbers = {float(x) for array in mask_arrays(self.case).values() for x in np.unique(array)}
        return (
            *["torch.backends.mha.set_fastpath_enabled(False)"] * (not self.case.fast_path),
            *(f"{dtype}_min = torch.finfo(torch.{dtype}).min" for x, dtype in LOWEST.items() if x in numbers),
        )

    @property
    def layer(self):
        """The name of what has the parameters."""
        return f"{self.called}Layer" if self.is_stack else self.called

    @property
    def is_stack(self):
        return self.case.module in ("TransformerEncoder", "TransformerDecoder")

    def parameters(self, with_values=True):
        """Statements that make the module, or what the function takes in its place."""
        arrays = parameters(self.case)
        if not self.is_module:
            made = [f"module = {self.called}", *self.mode.made.splitlines()] if self.mode.made else []
            return (*(self.literal(f"{variable(name)} = ", array) for name, array in arrays.items()), *made)
        given = {name: value for name, value in constructor(self.case).items() if value != "relu"}
        arguments = tuple(f"{name}={quoted(value)}" for name, value in given.items())
        kind = self.kind()
        if self.setting.subject:  # which may not take them
            lines = [Bracketed(f"module = {self.layer}(", arguments), f"module.to({', '.join(kind)})"][: 1 + bool(kind)]
        else:
            lines = [Bracketed(f"{'layer' if self.is_stack else 'module'} = {self.layer}(", (*arguments, *kind))]
        if self.is_stack:
            lines += [Bracketed(f"module = {self.called}(", ("layer", str(self.case.num_layers), *self.stack()))]
        if with_values:
            values = ", ".join(("values", *self.kind(where="cpu")))
            loaded = f"{{name: torch.tensor({values}) for name, values in state.items()}}"
            state = tuple(listed(array, f'"{name}": ') for name, array in arrays.items())
            lines += [Bracketed("state = {", state, "}"), f"module.load_state_dict({loaded})"]
        return (*lines, *["module.eval()"] * (not self.case.training), *self.freezing(), *self.mode.made.splitlines())

    @property
    def mode(self):
        return BY_ID[self.case.mode]

    def stack(self):
        """The further arguments of a stack of layers."""
        case = self.case
        if case.norm:
            more = [f"eps={case.layer_norm_eps}"] * (case.layer_norm_eps != 1e-5) + ["bias=False"] * (not case.bias)
            yield f"norm=torch.nn.LayerNorm({', '.join((str(case.E), *more, *self.kind()))})"
        if case.has_encoder:
            yield from (f"{name}=False" for name in ("enable_nested_tensor", "mask_check") if not getattr(case, name))

    def freezing(self):
        """Statements that leave autograd the parameters that it shall see: all, none, or those of the last layers."""
        if self.case.autograd in ("frozen", "inputs", "one_input", "mask"):
            return ["module.requires_grad_(False)"]
        if self.case.autograd == "one_parameter":
            return [
                "module.requires_grad_(False)",
                f'module.get_parameter("{the_parameter(self.case)}").requires_grad_()',
            ]
        if self.case.autograd != "last_layer" or self.case.num_layers == 1:
            return []
        stacks = dict.fromkeys(name.partition("layers.")[0] for name in parameters(self.case) if "layers." in name)
        return [f"module.{stack}layers[:-1].requires_grad_(False)" for stack in stacks]

    def call(self, results=""):
        """The call, assigned to `results` if these are named."""
        given = list(inputs(self.case))
        if isinstance(self.case, MultiHead):
            key = "key" if "key" in given else "query"
            sequences = ["query", key, "value" if "value" in given else key]
        else:
            sequences = [name for name in ("query", "key", "value", "src", "tgt", "memory") if name in given]
        rename = {"src_mask": "mask"} if self.case.module == "TransformerEncoder" else {}
        static = [name for name in given if name.startswith("static")]
        arguments = (
            *sequences,
            *(self.functional_arguments() if self.is_functional else ()),
            *(f"{rename.get(name, name)}={name}" for name in (*static, *masks_of(self.case))),
            *(f"{name}={value}" for name, value in options(self.case).items() if (name, value) != ("training", True)),
        )
        function = "module" if self.is_module or self.mode.made else self.called
        if self.mode.called != "module":
            function = self.mode.called if self.mode.called.isidentifier() else f"({self.mode.called})"
        return Bracketed(f"{results} = {function}(" if results else f"{function}(", arguments)

    def functional_arguments(self):
        case, names = self.case, [variable(name) for name in parameters(self.case)]
        separate = [name for name in names if name[1:] == "_proj_weight"]
        weights = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj_weight", "out_proj_bias")
        given = {"embed_dim_to_check": case.E, "num_heads": case.num_heads}
        given |= {name: name if name in names else None for name in weights}
        given |= {"add_zero_attn": case.add_zero_attn, "dropout_p": case.dropout}
        given |= {"use_separate_proj_weight": True} if separate else {}
        given |= {name: name for name in separate}
        return tuple(f"{name}={value}" for name, value in given.items())

    # ---- what requires a gradient

    @property
    def of_module(self):
        """The names of the parameters that a module holds."""
        return set(parameters(self.case)) if self.is_module else set()

    def requirements(self):
        """Statements by which arguments come to require a gradient; a module's parameters do so from the start."""
        names = () if self.mode.is_forward else directions(self.case)
        return tuple(f"{variable(name)}.requires_grad_()" for name in names if name not in self.of_module)

    def leaves(self, names):
        """The items of a dict of these arguments and parameters, by name."""
        all_of_module = bool(self.of_module) and self.of_module <= set(names) and self.mode.where("x") == "x"
        for name in names:
            if name not in self.of_module:
                yield f'"{name}": {variable(name)}'
            elif not all_of_module:
                yield Bracketed(f'"{name}": module.get_parameter(', (f'"{self.mode.where(name)}"',))
        yield from ["**dict(module.named_parameters())"] * all_of_module


def variable(name):
    """What a parameter is called where there is no module."""
    return name.replace(".", "_")


def _sizes(array):
    return ", ".join(map(str, array.shape))
