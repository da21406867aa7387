"""Runs nn.Transformer.generate_square_subsequent_mask: the text of the call is what runs."""

import torch

from ..cases.square_mask import statements


def made(case):
    """The mask. What torch raises is raised; the defaults are then as they were."""
    names, former = {"torch": torch}, torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        exec("\n".join(statements(case)), names)
    finally:
        torch.set_default_dtype(former)
        if case.default_device and not case.in_context:
            torch.set_default_device(None)
    return names["mask"]
