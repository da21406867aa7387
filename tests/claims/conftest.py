"""Each test of a claim runs in train mode and in eval mode."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=[True, False], ids=["train", "eval"])
def training(request: pytest.FixtureRequest) -> Iterator[bool]:
    """True with autograd enabled; False with autograd disabled, so that the fast path can open in eval mode."""
    with torch.set_grad_enabled(request.param):
        yield request.param
