"""nn.Transformer.generate_square_subsequent_mask."""

import inspect

import numpy as np
import pytest
import torch

from reference import masks
from tests.harness import session
from tests.harness.strategies import EDGES

generate = torch.nn.Transformer.generate_square_subsequent_mask
SIZES = pytest.mark.parametrize("size", (0, 1, 2, 3, *EDGES))


def hides_the_future_and_nothing_else(mask, size):
    return np.array_equal(mask.double().cpu().numpy(), masks.as_bias(masks.causal(size, size), "float64"))


@pytest.mark.clause(6)
@SIZES
def test_hides_the_future_and_nothing_else(size):
    mask = generate(size, device=session.current.device)
    assert mask.dtype == torch.get_default_dtype()
    assert mask.device.type == session.current.release.device_type
    assert hides_the_future_and_nothing_else(mask, size)


@pytest.mark.clause(6)
@pytest.mark.skipif("dtype" not in inspect.signature(generate).parameters, reason="this release takes no dtype")
@pytest.mark.parametrize("dtype", ("float64", "float32", "float16", "bfloat16"))
@SIZES
def test_is_of_the_dtype_that_is_asked_for(size, dtype):
    mask = generate(size, device=session.current.device, dtype=getattr(torch, dtype))
    assert mask.dtype == getattr(torch, dtype)
    assert hides_the_future_and_nothing_else(mask, size)
