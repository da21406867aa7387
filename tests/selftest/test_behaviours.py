"""The models of torch's kernels agree with results worked out by hand, or with a second formulation."""

from math import exp, inf, log

import numpy as np
import pytest

from reference.attention import attend
from tests.harness.deviations.effects import MaskingHalfOfAVector
from tests.harness.deviations.fused_cpu import RoundingTheNormaliser

STEP = 1e-30  # of the complex step: the imaginary part carries the derivative
SIX_KEYS = (np.full((1, 1), 1.0), np.zeros((6, 1)), np.arange(6.0)[:, None])


def factor(number, dtype="float32"):
    """The factor by which a gradient is too large if the mask adds the number to the scores of six equal keys."""
    query, key, value = SIX_KEYS
    given = (query, key, value + 1j * STEP * value, np.full((1, 6), number, dtype), 1.0)
    return (RoundingTheNormaliser(attend, "float32")(*given)[0].imag / attend(*given)[0].imag).item()


@pytest.mark.parametrize(
    "number, times",
    [
        (0.0, 1.0),  # log(6) keeps 24 binary digits
        (-1e7, exp(log(6) - 2)),  # neighbouring numbers differ by 1: -1e7 + 1.79 is rounded to -1e7 + 2
        (-1e9, 6.0),  # neighbouring numbers differ by 64: log(6) is lost
        (float(np.finfo("float32").min), 6.0),
    ],
)
def test_a_normaliser_that_is_rounded_away_is_missing_from_the_gradient(number, times):
    assert factor(number) == pytest.approx(times, rel=1e-6)


def test_a_rounded_normaliser_changes_no_result():
    query, key, value = SIX_KEYS
    given = (query, key, value, np.full((1, 6), -1e9, "float32"), 1.0)
    assert RoundingTheNormaliser(attend, "float32")(*given)[0] == attend(*given)[0] == 2.5


def test_what_is_hidden_has_no_normaliser_to_lose():
    query, key, value = SIX_KEYS
    given = (query, key, value + 1j * STEP, np.full((1, 6), -inf), 1.0)
    with np.errstate(invalid="ignore"):
        assert RoundingTheNormaliser(attend, "float32")(*given)[0] == 0


def half_masked(lanes, S, scale=0.5):
    """(result of the kernel's model, scores that the kernel uses, value) for random contents and a random mask."""
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 2)), rng.normal(size=(S, 2)), rng.normal(size=(S, 4))
    bias = np.where(rng.random((3, S)) < 0.5, -inf, rng.normal(size=(3, S)))
    scores = np.empty((3, S))
    for i in range(3):
        for j in range(S):
            product = query[i] @ key[j]
            in_a_whole_vector = j // lanes < S // lanes
            is_left = in_a_whole_vector and j % lanes in range(lanes // 2, lanes)
            scores[i, j] = product if is_left else scale * product + bias[i, j]
    return MaskingHalfOfAVector(attend, lanes)(query, key, value, bias, scale), scores, value


@pytest.mark.parametrize("lanes, S", [(8, 8), (8, 11), (8, 16), (16, 16), (16, 31), (8, 7)])
def test_in_the_second_half_of_a_vector_a_product_is_neither_scaled_nor_masked(lanes, S):
    (context, weights), scores, value = half_masked(lanes, S)
    powers = np.exp(scores)
    total = powers.sum(axis=1, keepdims=True)
    expected = np.divide(powers, total, out=np.zeros_like(powers), where=total > 0)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    np.testing.assert_allclose(context, expected @ value, rtol=1e-12)


@pytest.mark.parametrize("position", range(8))
def test_its_backward_pass_scales_them_all_but_masks_half(position):
    """One query 2, keys 1 and a scale of 1/2: the product is 2, scaled 1. The value at `position` moves."""
    value = np.zeros((8, 1), complex)
    value[position] = 1j * STEP
    bias = np.full((1, 8), log(3))
    context, _ = MaskingHalfOfAVector(attend, 8)(np.full((1, 1), 2.0), np.ones((8, 1)), value, bias, 0.5)
    total = 4 * exp(1 + log(3)) + 4 * exp(2)
    recovered = exp(1 + log(3)) if position < 4 else exp(1)
    assert context.imag.item() / STEP == pytest.approx(recovered / total)
