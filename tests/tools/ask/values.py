"""The values of expressions in a text that is read and not run (text.py)."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from tests.harness.command_line import BadInput

_LARGEST = 10_000_000  # elements of a tensor


@dataclass(frozen=True)
class Unknown:
    """A value that the text does not tell."""

    text: str


@dataclass(frozen=True)
class Named:
    """A mask of a kind (masks.py) whose size the text does not tell."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@dataclass
class Made:
    """A module as its constructor was written. trained: "all", "none", "last_layer" or the name of one parameter."""

    kind: str
    arguments: dict
    training: bool = True
    trained: str = "all"
    mode: str = "eager"
    dtype: torch.dtype | None = None


@dataclass
class Instance:
    """An object of a class of the text. attributes: those of the class, and those that __init__ has set."""

    of: str
    attributes: dict[str, Any] = field(default_factory=dict)
    mode: str = "eager"


@dataclass(frozen=True)
class Blocks:
    """A BlockMask of the text. by: how it is made, as FlexAttention.blocks_by has it. mask_mod: its value; or None."""

    by: str
    mask_mod: Any = None
    block_size: tuple[int, int] = (128, 128)


@dataclass(frozen=True)
class Function:
    """A function or lambda of the text that may be a mask_mod or a score_mod."""

    text: str

    @property
    def reads(self) -> bool:
        """True if it reads elements of a tensor, and does not compare positions alone."""
        return any(isinstance(node, ast.Subscript) for node in ast.walk(ast.parse(self.text)))


def computed(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """function(*given, **named), or BadInput in one line; nothing large is made."""
    numbers = [prod(size for size in group if type(size) is int) for group in _groups(given, named)]
    if any(abs(number) > _LARGEST for number in numbers):
        raise BadInput(f"a tensor of more than {_LARGEST:,} elements: ask with smaller sizes")
    try:
        result = function(*given, **named)
    except Exception as error:  # what was typed can be wrong in any way
        name = getattr(function, "__name__", str(function))
        raise BadInput(f"{name}: {' '.join(str(error).split())[:200]}") from None
    if torch.is_tensor(result) and result.numel() > _LARGEST:
        raise BadInput(f"a tensor of more than {_LARGEST:,} elements: ask with smaller sizes")
    return result


def _groups(given, named):
    """The sequences of numbers that may be sizes."""
    yield [part for part in given if type(part) is int]
    yield from (part for part in (*given, *named.values()) if isinstance(part, (tuple, list)))


def filled(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """The tensor after tensor[index] = value."""
    tensor[index] = value
    return tensor


def square(size: int) -> torch.Tensor:
    """The mask (size, size) of generate_square_subsequent_mask."""
    return torch.full((size, size), float("-inf")).triu(1)


def on_cpu(named: dict[str, Any]) -> dict[str, Any]:
    """The arguments without a device, which has no say in what a mask holds."""
    return {name: value for name, value in named.items() if name != "device"}


def is_unknown(value: Any) -> bool:
    """True if the value, or a part of it, is not known or no plain value."""
    if isinstance(value, (tuple, list)):
        return any(map(is_unknown, value))
    if isinstance(value, dict):
        return is_unknown(tuple(value.values()))
    if isinstance(value, slice):
        return is_unknown((value.start, value.stop, value.step))
    return isinstance(value, (Unknown, Named, Made, Instance, Blocks, Function))


def text_of(node: ast.AST) -> Unknown:
    """The value of an expression that is not read."""
    return Unknown(ast.unparse(node))


def parts(value: Any, count: int) -> list[Any] | None:
    """The parts of a value that is assigned to so many names."""
    is_sequence = isinstance(value, (tuple, list)) or (torch.is_tensor(value) and value.ndim)
    return list(value) if is_sequence and len(value) == count else None


def both(one: str, other: str) -> str:
    """The mode that two ways together are, of which one may be none."""
    if "eager" in (one, other) or one == other:
        return other if one == "eager" else one
    if {one, other} == {"func_jvp", "sdpa_math"}:
        return "func_jvp_math"
    raise BadInput(f"two ways at once, {one} and {other}: each is modelled alone; leave one out")
