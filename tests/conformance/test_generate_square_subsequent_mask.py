"""nn.Transformer.generate_square_subsequent_mask."""

import numpy as np
import pytest
import torch

from reference import masks
from tests.harness import session
from tests.harness.dispatch import since
from tests.harness.release import takes
from tests.harness.strategies import EDGES

generate = torch.nn.Transformer.generate_square_subsequent_mask
SIZES = (0, 1, 2, 3, *EDGES)


def check(mask, size, dtype):
    assert mask.dtype == dtype
    assert mask.device.type == session.current.release.device_type
    assert np.array_equal(mask.double().cpu().numpy(), masks.as_bias(masks.causal(size, size), "float64"))


@pytest.mark.clause(6)
def test_hides_the_future_and_nothing_else():
    for size in SIZES:
        check(generate(size, device=session.current.device), size, torch.get_default_dtype())


@pytest.mark.clause(6)
@pytest.mark.parametrize("dtype", ("float64", "float32"))
def test_is_of_the_default_dtype_and_of_no_other_call(dtype):
    release = session.current.release
    if dtype not in release.dtypes:
        pytest.skip("there is none on this device")
    forgets = since(release, "2.1") and not since(release, "2.6")  # it is float32 there, whatever the default is
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        for size in SIZES:
            generate(size, device=release.device).fill_(1)
            check(generate(size, device=release.device), size, torch.float32 if forgets else getattr(torch, dtype))
    finally:
        torch.set_default_dtype(before)


@pytest.mark.clause(6)
@pytest.mark.skipif(not takes(generate, "dtype"), reason="this release takes no dtype")
@pytest.mark.parametrize("dtype", ("float64", "float32", "float16", "bfloat16"))
def test_is_of_the_dtype_that_is_asked_for(dtype):
    dtype = getattr(torch, dtype)
    for size in SIZES:
        check(generate(size, device=session.current.device, dtype=dtype), size, dtype)
