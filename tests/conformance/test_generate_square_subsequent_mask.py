"""nn.Transformer.generate_square_subsequent_mask."""

import numpy as np
import pytest
import torch

from reference import masks
from tests.harness import session
from tests.harness.strategies import EDGES


@pytest.mark.clause(6)
@pytest.mark.parametrize("size", (0, 1, 2, 3, *EDGES))
def test_hides_the_future_and_nothing_else(size):
    mask = torch.nn.Transformer.generate_square_subsequent_mask(size, device=session.current.device)
    assert mask.dtype == torch.get_default_dtype()
    assert mask.device.type == session.current.release.device_type
    assert np.array_equal(mask.cpu().numpy(), masks.as_bias(masks.causal(size, size), "float32"))
