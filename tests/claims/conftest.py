"""Every claim is about training and about inference."""

import pytest
import torch


@pytest.fixture(params=[True, False], ids=["train", "eval"])
def training(request):
    """Once True, with autograd; once False, without, as inference is written: there the native paths open."""
    with torch.set_grad_enabled(request.param):
        yield request.param
