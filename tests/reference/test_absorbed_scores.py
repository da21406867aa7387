"""A score is rounded when a large mask is added, in the dtype of the mask (clause 1)."""

import numpy as np
import pytest

from reference.attention import added
from reference.masks import merge


def sum_of(score, bias, dtype):
    return added(np.array([score]), np.array([bias], dtype)).item()


@pytest.mark.parametrize(
    "score, bias, dtype, expected",
    [
        (3.2, -1e9, "float32", -1e9),  # at 1e9, neighbouring float32 numbers differ by 64
        (3.2, -1e9, "float64", -999999996.8),
        (40.0, -1e9, "float32", -999999936.0),
        (3.2, -1e30, "float32", float(np.float32(-1e30))),
        (3.2, -1e30, "float64", -1e30),
        (3.2, 1e9, "float32", 1e9),
        (3.2, -1e4, "float32", 3.2 - 1e4),  # not rounded: the tolerance covers this size
        (3.2, -100.0, "float32", -96.8),
    ],
)
def test_a_score_is_lost_beside_what_absorbs_it(score, bias, dtype, expected):
    assert sum_of(score, bias, dtype) == expected


@pytest.mark.parametrize("bias", [-1e9, -1e30, 0.0, 100.0])
def test_a_derivative_passes_through_the_rounding(bias):
    assert sum_of(3.2 + 5e-20j, bias, "float32").imag == 5e-20


def test_what_hides_adds_nothing():
    assert sum_of(3.2, -np.inf, "float32") == 3.2


def in_float32(array):
    return array.astype("float32")


def test_the_sum_of_two_masks_is_rounded_to_their_dtype():
    masks = np.array([1e8, -1e9, -np.inf]), np.array([1.0, 3.0, 3.0])
    assert merge(*masks).tolist() == [100000001.0, -999999997.0, -np.inf]
    assert merge(*masks, rounded=in_float32).tolist() == [1e8, -1e9, -np.inf]
    assert merge(masks[1], None, rounded=in_float32).tolist() == [1.0, 3.0, 3.0]
    assert merge(np.array([1e8]), np.array([1 + 5e-20j]), rounded=in_float32).tolist() == [1e8 + 5e-20j]
