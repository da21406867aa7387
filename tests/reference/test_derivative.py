"""Derivatives by the complex step agree with differences and closed forms; those of hidden positions are 0."""

from math import log

import numpy as np
import pytest

from reference.attention import linear, scaled_dot_product_attention
from reference.derivative import derivative, displaced
from reference.transformer import LayerNorm, gelu, gelu_tanh, relu, silu

from . import generated
from .comparing import close, near, same
from .derivative_cases import CASES, rng_of

STEP = 2.0**-11  # of differences: STEP**4 and 1e-16 / STEP, the two errors, are below 1e-12

ARRAYS = [(name, path) for name, case in CASES.items() for path, _ in generated.arrays(case)]
every_case = pytest.mark.parametrize("name", CASES)
every_array = pytest.mark.parametrize(
    "name, path", ARRAYS, ids=[f"{name}: {'.'.join(map(str, path[1:]))}" for name, path in ARRAYS]
)


def evaluate(case):
    """All results of the call, joined in one vector."""
    function, arguments = case
    results = function(**arguments)
    return np.concatenate([np.ravel(result) for result in (results if isinstance(results, tuple) else (results,))])


def moved(case, path, move):
    """The case with the array at `path` replaced by move(array, direction); the direction depends on the path alone."""
    array = generated.at(case, path)
    direction = rng_of(*path).standard_normal(array.shape).astype(array.dtype)
    return generated.changed(case, path, move(array, direction))


def slope(case, path):
    return derivative(evaluate(moved(case, path, displaced)))


def difference(case, path, step):
    ahead, behind = (evaluate(moved(case, path, lambda x, d, s=s: x + s * d)) for s in (step, -step))
    return (ahead - behind) / (2 * step)


@every_array
def test_the_derivative_is_the_limit_of_differences(name, path):
    wide, narrow = difference(CASES[name], path, STEP), difference(CASES[name], path, STEP / 2)
    close(slope(CASES[name], path), narrow + (narrow - wide) / 3, error=1e-8)  # Richardson extrapolation, fourth order


@every_array
def test_the_derivative_in_single_precision_is_that_in_double(name, path):
    case = generated.cast(CASES[name], np.float32)
    single, double = slope(case, path), slope(generated.cast(case, float), path)
    assert single.dtype == np.float32
    close(single, double, error=1e-4)


@every_case
def test_a_displacement_does_not_change_the_result_itself(name):
    for path, _ in generated.arrays(CASES[name]):
        close(evaluate(moved(CASES[name], path, displaced)).real, evaluate(CASES[name]))


@every_case
def test_the_derivative_of_all_arrays_at_once_is_the_sum_of_those_of_each(name):
    case = CASES[name]
    for path, _ in generated.arrays(CASES[name]):
        case = moved(case, path, displaced)
    close(derivative(evaluate(case)), sum(slope(CASES[name], path) for path, _ in generated.arrays(CASES[name])))


def displace_part(arguments, name, where):
    """The arguments with an infinitesimal step at the index `where` of the array `name`."""
    array = arguments[name]
    direction = np.zeros(array.shape)
    direction[where] = rng_of(name).standard_normal(direction[where].shape)
    return arguments | {name: displaced(array, direction)}


def assert_no_slope(result):
    same(derivative(result), np.zeros(result.shape))


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith("attention")])
@pytest.mark.parametrize("name", ["key", "value", "static_k", "static_v", "key_padding_mask"])
def test_a_hidden_key_has_no_derivative_at_all(case, name):
    module, arguments = CASES[case]
    if name in arguments:
        output, weights = module(**displace_part(arguments, name, np.s_[:, -1]))
        assert_no_slope(output)
        assert_no_slope(weights)


@pytest.mark.parametrize("case", [name for name in CASES if "layer" in name])
@pytest.mark.parametrize("name", ["src", "tgt", "memory"])
def test_a_padded_token_has_no_derivative_except_at_its_own_place(case, name):
    module, arguments = CASES[case]
    if name in arguments:
        output = module(**displace_part(arguments, name, np.s_[:, -1]))
        assert_no_slope(output if name == "memory" else output[:, :-1])


MASKS = [(name, path) for name, path in ARRAYS if "mask" in path[-1]]


@pytest.mark.parametrize("name, path", MASKS, ids=[f"{name}: {path[-1]}" for name, path in MASKS])
def test_an_entry_of_a_mask_that_hides_has_no_derivative(name, path):
    function, arguments = CASES[name]
    mask = arguments[path[-1]]
    assert np.isneginf(mask).any()
    assert_no_slope(evaluate((function, displace_part(arguments, path[-1], np.isneginf(mask)))))


@pytest.mark.parametrize("path", ["query", "key", "value", "attn_mask"])
def test_the_context_of_a_query_that_sees_nothing_has_no_derivative(path):
    function, arguments = CASES["dot product"]
    assert_no_slope(function(**displace_part(arguments, path, ...))[:, :, 0])


def test_only_the_last_bias_moves_the_output_of_a_query_that_sees_nothing():
    case = CASES["attention, shared mask"]
    for path, array in generated.arrays(case):
        function, arguments = moved(case, path, displaced)
        expected = rng_of(*path).standard_normal(array.shape) if path[-1] == "out_bias" else np.zeros(4)
        close(derivative(function(**arguments)[0])[:, 0], np.tile(expected, (2, 1)), error=1e-15)


def test_a_bool_array_cannot_move():
    mask = np.array([True, False])
    assert displaced(mask, np.ones(2)) is mask


def test_a_result_of_nothing_that_was_displaced_has_no_derivative():
    assert_no_slope(np.array([1.0, -2.0]))


def along(function, x, direction):
    return derivative(function(displaced(np.array(x, float), np.array(direction, float))))


@pytest.mark.parametrize(
    "function, x, slope",
    [
        (lambda x: x * x * x, 2, 12),
        (relu, 3, 1),
        (relu, -3, 0),
        (relu, 0, 0),
        (gelu, 0, 0.5),
        (gelu, 1, 1.0833154705876863),  # Phi(1) + phi(1)
        (gelu, -1, -0.08331547058768627),
        (gelu, 40, 1),
        (gelu, -40, 0),
        (gelu_tanh, 0, 0.5),
        (gelu_tanh, 1, 1.0829640838457826),
        (gelu_tanh, -1, -0.08296408384578256),
        (gelu_tanh, 40, 1),
        (silu, 0, 0.5),
        (silu, 1, 0.9276705118714867),
        (silu, -1, 0.07232948812851327),
    ],
)
def test_slopes_known_in_closed_form(function, x, slope):
    np.testing.assert_allclose(along(function, [x], [5]), [5 * slope], rtol=1e-14, atol=1e-300)


def test_the_slope_of_a_layer_norm():
    norm = LayerNorm(np.array([1.0, 10]), np.array([7.0, 7]), 3.0)  # input (1, 3): c / sqrt(c^2 + 3) with c = 1
    near(along(norm, [1, 3], [0, 1]), [-3 / 16, 30 / 16])


ATTENDING = {"query": [[1]], "key": [[0], [log(3)]], "value": [[4], [8]], "attn_mask": [[0, 0]]}


@pytest.mark.parametrize(
    "name, direction, slope",
    [
        ("attn_mask", [[1, 0]], -3 / 4),  # weight * (value - context) = 1/4 * (4 - 7)
        ("attn_mask", [[0, 1]], 3 / 4),
        ("attn_mask", [[1, 1]], 0),
        ("key", [[1], [0]], -3 / 4),
        ("key", [[0], [2]], 3 / 2),
        ("value", [[1], [0]], 1 / 4),
        ("value", [[0], [1]], 3 / 4),
        ("query", [[1]], 3 / 4 * log(3)),
    ],
)
def test_the_slopes_of_attention_to_two_keys(name, direction, slope):
    arrays = {name: np.array(array, float) for name, array in ATTENDING.items()}
    moving = arrays | {name: displaced(arrays[name], np.array(direction, float))}
    np.testing.assert_allclose(derivative(scaled_dot_product_attention(**moving)), [[slope]], rtol=1e-14, atol=1e-15)


def test_a_displacement_of_infinite_arrays_does_not_change_their_product():
    """BLAS multiplies complex sums by 1 + 0i: inf - inf * 0 is NaN."""
    weight, x = np.array([[-1.0, 2.0], [0.5, -0.25]]), np.array([[-np.inf, np.inf], [1.0, 3.0]])
    plain = linear(x, weight)
    assert plain.tolist() == [[np.inf, -np.inf], [5.0, -0.25]]
    moved = linear(displaced(x, np.ones_like(x)), displaced(weight, np.ones_like(weight)))
    assert np.array_equal(moved.real, plain)
    assert derivative(moved)[1].tolist() == [1 + 4.0, 0.25 + 4.0]
