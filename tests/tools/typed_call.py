"""The call of a case as Python text: statements that make the arguments and the module, and the call itself."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from tests.harness.cases.case import Case, FlexAttention, masks_of
from tests.harness.cases.spelling import quoted
from tests.harness.contents.arrays import directions, inputs, mask_arrays, parameters, the_parameter
from tests.harness.contents.results import as_given
from tests.harness.execution import flex
from tests.harness.execution.call import options
from tests.harness.execution.call_code import (
    called,
    constructor_arguments,
    given_by_name,
    is_stack,
    other_arguments,
    sequences,
    stack_arguments,
    with_parameters,
)
from tests.harness.execution.setting import CPU, Setting
from tests.harness.modes.mode import Mode
from tests.harness.modes.modes import BY_ID, EAGER

from .python_text import LOWEST, Bracketed, Statement, listed, number
from .standalone import SCALED_DOT_PRODUCT, needs, needs_argument, needs_package, needs_release


@dataclass(frozen=True)
class TypedCall:
    """The call of a case. Most methods return or generate statements (python_text.py)."""

    case: Case
    setting: Setting = CPU

    @property
    def device(self) -> str:
        """The device of the call."""
        return self.setting.device

    @property
    def called(self) -> str:
        """The full name of the module or function."""
        return called(self.case, self.setting)

    def needs(self) -> Iterator[Statement]:
        """Generates statements that end the script if the release lacks the function or an argument."""
        if self.called == SCALED_DOT_PRODUCT:
            yield needs("torch.nn.functional", self.case.module)
        if isinstance(self.case, FlexAttention):
            has_lengths = self.case.is_adjusted or flex.gives_lengths(self.case)
            yield needs_release("2.9" if self.case.lse == "return_aux" else "2.6" if has_lengths else "2.5")
        if not self.case.fast_path:
            yield needs("torch.backends", "mha")
        if self.mode.needs:
            owner, _, name = f"torch.{self.mode.needs}".rpartition(".")
            yield needs(owner, name)
        if self.mode.since != EAGER.since:
            yield needs_release(self.mode.since)
        yield from map(needs_package, self.mode.packages)
        if self.case.has_layers and not (self.case.bias or self.setting.subject):
            yield needs_argument(with_parameters(self.case, self.setting), "bias")
        newer = {"scale", "enable_gqa"}
        if self.called != SCALED_DOT_PRODUCT:
            newer = {"is_causal", "src_is_causal", "tgt_is_causal", "memory_is_causal"}
        for name in () if self.setting.subject else options(self.case):
            if name in newer:
                yield needs_argument(f"{self.called}.forward" if self.case.is_module else self.called, name)

    # ---- arguments

    def kind(self, array: np.ndarray | None = None, where: str = "device", dtype: str | None = None) -> tuple[str, ...]:
        """The keyword arguments `dtype` and `device` of a tensor or module, without those that are the default.

        array: the content of a tensor. where: "device" or "cpu". dtype: that of the case by default.
        """
        dtype = dtype or self.case.dtype
        is_float32 = dtype == "float32" or (array is not None and array.dtype == bool)
        moved = self.device != "cpu" and where == "device"
        return (*[f"dtype=torch.{dtype}"] * (not is_float32), *[f"device={quoted(self.device)}"] * moved)

    def literal(self, head: str, array: np.ndarray, where: str = "device", dtype: str | None = None) -> Statement:
        """An expression of a contiguous tensor, behind the text `head`. where, dtype: see `kind`."""
        kind = self.kind(array, where, dtype)
        if array.size == 0:
            return Bracketed(
                f"{head}torch.zeros(", (str(array.shape), *["dtype=torch.bool"] * (array.dtype == bool), *kind)
            )
        if array.size > 6 and (array == array.flat[0]).all():
            return Bracketed(f"{head}torch.full(", (str(array.shape), number(array.flat[0]), *kind))
        return Bracketed(f"{head}torch.tensor(", (listed(array), *kind))

    def tensor(self, name: str, array: np.ndarray, layout: str, dtype: str | None = None) -> tuple[Statement, ...]:
        """Statements that make a tensor with this memory layout, as execution/call.py does."""
        layout = layout if array.ndim > 2 * (layout == "swapped") else "contiguous"
        behind = self.behind(name) if layout == "contiguous" else 0
        lines: tuple[Statement, ...]
        if layout == "expanded" and not array.size:
            zero = self.literal(f"{name} = ", np.zeros((), array.dtype), "cpu", dtype)
            lines = (zero, f"{name} = {name}.expand({_sizes(array)})")
        elif layout == "expanded":
            fixed = [axis for axis in range(array.ndim) if (array == array.take([0], axis)).all()]
            once = array[tuple(slice(0, 1) if axis in fixed else slice(None) for axis in range(array.ndim))]
            lines = (self.literal(f"{name} = ", once, "cpu", dtype), f"{name} = {name}.expand({_sizes(array)})")
        elif layout == "transposed":
            axes = ", ".join(map(str, reversed(range(array.ndim))))
            if array.size:
                turned = f"{name} = {name}.permute({axes}).contiguous().permute({axes})"
                lines = (self.literal(f"{name} = ", array, "cpu", dtype), turned)
            else:  # an empty tensor is contiguous in any order
                lines = (self.literal(f"{name} = ", array.T, "cpu", dtype), f"{name} = {name}.permute({axes})")
        elif layout == "swapped":
            turned = f"{name} = {name}.transpose(-3, -2)"
            if array.size:
                turned += ".contiguous().transpose(-3, -2)"
            literal = self.literal(f"{name} = ", array if array.size else array.swapaxes(-3, -2), "cpu", dtype)
            lines = (literal, turned)
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

    def copied(
        self, name: str, array: np.ndarray, shape: tuple[int, ...], window: str, dtype: str | None
    ) -> tuple[Statement, ...]:
        """Statements that make a view of a larger tensor. The other elements of that tensor must not matter.

        shape: of the larger tensor. window: the text of the indices of the view.
        """
        poison = "True" if array.dtype == bool else "nan"
        around = ", ".join((str(shape), poison, *self.kind(array, "cpu", dtype)))
        return (f"{name} = torch.full({around}){window}", self.literal(f"{name}[:] = ", array, "cpu", dtype))

    def behind(self, name: str) -> int:
        """The number of elements to fill behind a tensor: some releases read a mask of one key past its end."""
        is_one = name == "attn_mask" and self.case.broadcast == "S"
        return prod((*self.case.batch, self.case.L, self.case.S)) if is_one and self.case.S > 1 else 0

    def inputs(self) -> Iterator[Statement]:
        """Generates statements that make the inputs."""
        for name, array in inputs(self.case).items():
            is_copy = self.case.attention == "copies" and name in ("key", "value")
            if is_copy and self.case.layout == "contiguous":
                yield f"{name} = query.clone()"
            else:
                yield from self.tensor(name, as_given(self.case, name, array), self.case.layout)

    def masks(self) -> Iterator[Statement]:
        """Generates statements that make the masks."""
        for name, array in mask_arrays(self.case).items():
            mask = masks_of(self.case)[name]
            yield from self.tensor(name, as_given(self.case, name, array), mask.layout, mask.dtype)

    def definitions(self) -> Iterator[Statement]:
        """Generates statements that define the functions of flex_attention, which read the masks."""
        if isinstance(self.case, FlexAttention):
            yield from flex.definitions(self.case)

    # ---- module or function

    def switches(self) -> tuple[Statement, ...]:
        """Statements that set global options and define the lowest numbers of dtypes."""
        numbers = {float(x) for array in mask_arrays(self.case).values() for x in np.unique(array)}
        return (
            *["torch.backends.mha.set_fastpath_enabled(False)"] * (not self.case.fast_path),
            *(f"{dtype}_min = torch.finfo(torch.{dtype}).min" for x, dtype in LOWEST.items() if x in numbers),
        )

    def parameters(self, with_values: bool = True) -> tuple[Statement, ...]:
        """Statements that make the module and load its parameters, or make the parameters of the function."""
        arrays = parameters(self.case)
        if not self.case.is_module:
            made = [f"module = {self.called}", *self.mode.made.splitlines()] if self.mode.made else []
            made = [flex.imported(self.case), *made] if isinstance(self.case, FlexAttention) else made
            return (*(self.literal(f"{variable(name)} = ", array) for name, array in arrays.items()), *made)
        arguments, layer = constructor_arguments(self.case), with_parameters(self.case, self.setting)
        kind = self.kind()
        lines: list[Statement]
        if self.setting.subject:  # a subject may not accept dtype and device
            moved: list[Statement] = [f"module.to({', '.join(kind)})"] if kind else []
            lines = [Bracketed(f"module = {layer}(", arguments), *moved]
        else:
            lines = [Bracketed(f"{'layer' if is_stack(self.case) else 'module'} = {layer}(", (*arguments, *kind))]
        if is_stack(self.case):
            lines += [Bracketed(f"module = {self.called}(", stack_arguments(self.case, "layer", *kind))]
        if with_values:
            values = ", ".join(("values", *self.kind(where="cpu")))
            loaded = f"{{name: torch.tensor({values}) for name, values in state.items()}}"
            state = tuple(listed(array, f'"{name}": ') for name, array in arrays.items())
            lines += [Bracketed("state = {", state, "}"), f"module.load_state_dict({loaded})"]
        return (*lines, *["module.eval()"] * (not self.case.training), *self.freezing(), *self.mode.made.splitlines())

    @property
    def mode(self) -> Mode:
        """The mode of the case."""
        return BY_ID[self.case.mode]

    def freezing(self) -> list[Statement]:
        """Statements that switch off requires_grad of parameters, as `Case.autograd` asks."""
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

    def call(self, results: str = "") -> Bracketed:
        """The call. results: the names to assign it to, if any."""
        arguments = (
            *sequences(self.case),
            *(self.functional_arguments() if self.case.functional else ()),
            *(f"{name}={tensor}" for name, tensor in given_by_name(self.case).items()),
            *other_arguments(self.case),
        )
        function = "module" if self.case.is_module or self.mode.made else self.called
        if self.mode.called != "module":
            function = self.mode.called if self.mode.called.isidentifier() else f"({self.mode.called})"
        return Bracketed(f"{results} = {function}(" if results else f"{function}(", arguments)

    def functional_arguments(self) -> tuple[str, ...]:
        """The options and parameters of F.multi_head_attention_forward, as keyword arguments."""
        case, names = self.case, [variable(name) for name in parameters(self.case)]
        separate = [name for name in names if name[1:] == "_proj_weight"]
        weights = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj_weight", "out_proj_bias")
        given = {"embed_dim_to_check": case.E, "num_heads": case.num_heads}
        given |= {name: name if name in names else None for name in weights}
        given |= {"add_zero_attn": case.add_zero_attn, "dropout_p": case.dropout}
        given |= {"use_separate_proj_weight": True} if separate else {}
        given |= {name: name for name in separate}
        return tuple(f"{name}={value}" for name, value in given.items())

    # ---- gradients

    @property
    def of_module(self) -> set[str]:
        """The names of the parameters of the module; empty for a function."""
        return set(parameters(self.case)) if self.case.is_module else set()

    def requirements(self) -> tuple[Statement, ...]:
        """Statements that make arguments require a gradient. Parameters of a module require one from the start."""
        names = () if self.mode.is_forward else directions(self.case)
        return tuple(f"{variable(name)}.requires_grad_()" for name in names if name not in self.of_module)

    def leaves(self, names: Collection[str]) -> Iterator[Statement]:
        """Generates the items of a dict {name: tensor} of these arguments and parameters."""
        all_of_module = bool(self.of_module) and self.of_module <= set(names) and self.mode.keeps_names
        for name in names:
            if name not in self.of_module:
                yield f'"{name}": {variable(name)}'
            elif not all_of_module:
                yield Bracketed(f'"{name}": module.get_parameter(', (f'"{self.mode.where(name)}"',))
        yield from ["**dict(module.named_parameters())"] * all_of_module


def variable(name: str) -> str:
    """The variable for a parameter of a function."""
    return name.replace(".", "_")


def _sizes(array):
    return ", ".join(map(str, array.shape))
