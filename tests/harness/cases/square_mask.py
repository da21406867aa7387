"""A call of nn.Transformer.generate_square_subsequent_mask as Python text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .case import SquareSubsequentMask

DEVICES = ("cpu", "meta", "cuda", "mps", "xpu")


def statements(case: "SquareSubsequentMask") -> Iterator[str]:
    """The lines of code that set the default dtype and device of the case, and assign the result to `mask`."""
    owner = "torch.nn.Transformer"
    if case.of_instance:
        yield f"module = {owner}(2, 2, 1, 1, dim_feedforward=2, batch_first=True)"
        owner = "module"
    if case.dtype != "float32":
        yield f"torch.set_default_dtype(torch.{case.dtype})"
    if case.default_device and not case.in_context:
        yield f'torch.set_default_device("{case.default_device}")'
    call = f"mask = {owner}.generate_square_subsequent_mask({', '.join(_arguments(case))})"
    calls = [call, "mask.fill_(1)  # must not change later masks", call] if case.after_writing else [call]
    if case.default_device and case.in_context:
        yield f'with torch.device("{case.default_device}"):'
        calls = [f"    {line}" for line in calls]
    yield from calls


def _arguments(case):
    yield str(case.sz)
    if case.given_device:
        yield f'device="{case.given_device}"'
    if case.given_dtype:
        yield f"dtype=torch.{case.given_dtype}"
