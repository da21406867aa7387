"""Runs a call of nn.Transformer.generate_square_subsequent_mask by executing its text."""

import torch

from ..cases.case import SquareSubsequentMask
from ..cases.square_mask import statements


def made(case: SquareSubsequentMask) -> torch.Tensor:
    """The mask. Errors of torch propagate; the default dtype and device are restored."""
    names, former = {"torch": torch}, torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        exec("\n".join(statements(case)), names)
    finally:
        torch.set_default_dtype(former)
        if case.default_device and not case.in_context:
            torch.set_default_device(None)
    return names["mask"]
