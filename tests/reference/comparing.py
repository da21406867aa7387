"""Assertions of equality, each with the reason for its error bound."""

import numpy as np


def near(actual, expected, error=1e-13):
    """Assert agreement with numbers worked out by hand: some hundred roundings of 1e-16, and 0 exactly."""
    np.testing.assert_allclose(actual, expected, rtol=error, atol=0)


def close(actual, expected, error=1e-12):
    """Assert agreement within `error` of the largest number: tens of terms, each rounded by 1e-16, and a few norms."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.all(np.abs(actual - expected) <= error * (1 + np.max(np.abs(expected), initial=0)))


def same(actual, expected):
    """Assert equality to the last bit."""
    np.testing.assert_array_equal(actual, expected, strict=True)
