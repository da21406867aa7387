"""The comparison reports every difference that exceeds its bound."""

import numpy as np
import pytest

from tests.harness.judgement.comparison import bound, compare_arrays, compare_numbers, contraction, is_undetermined

NAN, INF = float("nan"), float("inf")


def disagree(expected, got, allowed=1e-9):
    return compare_arrays("output", np.array(expected), np.array(got), allowed)[0]


@pytest.mark.parametrize(
    "expected, got",
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-8]),
        ([1.0], [NAN]),
        ([NAN], [1.0]),
        ([INF], [-INF]),
        ([INF], [1e300]),
        ([NAN], [INF]),
        ([0.0], [1e-300]),
        ([[1.0]], [1.0]),
        ([1.0, 1.0], [1.0]),
    ],
)
def test_a_difference_of_class_value_or_shape_is_a_mismatch(expected, got):
    assert disagree(expected, got) is not None


@pytest.mark.parametrize("same", [[NAN, INF, -INF, 0.0, 1.5], [], [[1.0], [-0.0]]])
def test_the_same_is_none(same):
    assert disagree(same, same) is None


def test_the_first_wrong_element_is_named():
    assert disagree([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.5, 4.0]]).where == (1, 0)


def test_ignored_elements_are_compared_by_class_only():
    ignore = np.array([True, True])
    assert compare_arrays("output", np.array([1.0, 2.0]), np.array([7.0, 2.0]), 0.1, ignore)[0] is None
    assert compare_arrays("output", np.array([1.0, 2.0]), np.array([NAN, 2.0]), 0.1, ignore)[0] is not None


def test_between_measurements_zero_is_a_number_like_others():
    zero, tiny = np.array([0.0]), np.array([1e-44])
    assert compare_arrays("weights", zero, tiny, 1e-9, zero_is_exact=False)[0] is None
    assert compare_arrays("weights", zero, tiny, 1e-9)[0] is not None


def test_a_number_may_be_near_zero_without_being_zero():
    assert compare_numbers("gradient", 0.0, 1e-12, 1e-10)[0] is None
    assert compare_numbers("gradient", 0.0, 1e-9, 1e-10)[0] is not None
    assert compare_numbers("gradient", 1.0, NAN, 1e-10)[0] is not None


def test_the_bound_grows_with_magnitude_terms_and_condition():
    exact = np.array([1.0, -4.0])
    plain = bound(exact, exact, "float64", 9)
    assert bound(2 * exact, 2 * exact, "float64", 9) == 2 * plain
    assert bound(exact, exact, "float64", 36) == 2 * plain
    assert bound(exact, exact + 1e-3, "float64", 9) > plain
    assert plain < 1e-13 < bound(exact, exact, "float32", 9) < 1e-4


def test_each_row_may_have_a_bound_of_its_own():
    exact = np.array([[1.0, -4.0], [1e6, 2.0], [NAN, NAN]])
    rough = exact + np.array([[0, 0], [1e-3, 0], [0, 0]])
    bounds = bound(exact, rough, "float64", 9, by_row=True)
    assert bounds.shape == (3, 1)
    assert bounds[0] == bound(exact[0], rough[0], "float64", 9) < bounds[1]
    assert compare_arrays("output", exact, exact + bounds * 0.9, bounds)[0] is None
    wrong = exact + np.array([[0, 2 * bounds[0, 0]], [0, 0], [0, 0]])
    assert compare_arrays("output", exact, wrong, bounds)[0].where == (0, 1)


def test_a_row_is_undetermined_if_its_bound_is_as_large_as_its_numbers():
    exact, bounds = np.array([[1.0, -4.0], [1.0, 0.5], [NAN, 1.0]]), np.array([[1.9], [0.6], [0.4]])
    assert is_undetermined(exact, bounds, "float64").tolist() == [[False], [True], [False]]
    assert is_undetermined(exact, bounds / 2, "float16").tolist() == [[False], [True], [False]]


def test_a_contraction_leaves_out_gradients_that_are_none():
    directions = {"query": np.array([1.0, 2.0]), "key": np.array([5.0])}
    assert contraction({"query": np.array([3.0, 4.0]), "key": None}, directions)[0] == 11.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [[INF, -INF], [INF, INF], [NAN, 1.0], [1e200, 1e200]])
def test_a_contraction_takes_any_gradient(wrong):
    total, spread = contraction({"query": np.array(wrong)}, {"query": np.array([1.0, 1.0])})
    assert not spread < 1e100
    assert not np.isfinite(total) or total == 2e200


def test_what_lies_below_the_smallest_normal_number_may_round_to_0():
    tiny = np.array([1e-43])
    assert compare_arrays("x", tiny, np.array([0.0]), bound(tiny, tiny, "float32", 9))[0] is None
    assert compare_arrays("x", tiny, np.array([0.0]), bound(tiny, tiny, "float64", 9))[0] is not None
    assert bound(tiny, tiny, "float32", 9) < 1e-30


def test_a_ratio_is_a_plain_number_whatever_the_bound_is():
    for allowed in (1.0, np.float64(1.0), np.ones((2, 1))):
        _, ratio = compare_arrays("output", np.zeros((2, 2)), np.full((2, 2), 0.5), allowed, None, False)
        assert type(ratio) is float


def test_a_ratio_beyond_all_numbers_is_infinite():
    """Without a warning of NumPy, which would be an error of the suite."""
    mismatch, ratio = compare_arrays("output", np.ones(1), np.array([1e300]), np.float64(1e-300))
    assert mismatch.error == 1e300
    assert ratio == np.inf
