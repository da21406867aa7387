"""Laws of the softmax over visible keys."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reference import masks
from reference.attention import attend, scaled_dot_product_attention

from . import changes, generated
from .comparing import close, same
from .generated import generators, some

NO = st.just(False)


@some
@given(generated.multi_head_calls(), generators)
def test_permuting_the_keys_changes_nothing(call, rng):
    module, arguments = call
    order = rng.permutation(arguments["key"].shape[1])
    (output, weights), (permuted, permuted_weights) = module(**arguments), module(**changes.with_keys(arguments, order))
    close(permuted, output)
    close(permuted_weights[..., : len(order)], weights[..., order])


@some
@given(generated.multi_head_calls(), generators)
def test_permuting_the_queries_permutes_the_output(call, rng):
    module, arguments = call
    order = rng.permutation(arguments["query"].shape[1])
    moved = {"query": arguments["query"][:, order]}
    if changes.given(arguments, "attn_mask"):
        moved["attn_mask"] = arguments["attn_mask"].take(order, axis=-2)
    close(module(**arguments | moved)[0], module(**arguments)[0][:, order])


@pytest.mark.parametrize("name", changes.MASKS)
@some
@given(call=generated.multi_head_calls(), data=st.data())
def test_hiding_a_key_is_the_same_as_leaving_it_out(name, call, data):
    module, arguments = call
    S = arguments["key"].shape[1]
    assume(S > 1)  # test_emptiness.py tests attention without keys
    j = data.draw(st.integers(0, S - 1))
    output, weights = module(**changes.hiding(arguments, name, j))
    shorter, shorter_weights = module(**changes.with_keys(arguments, [k for k in range(S) if k != j]))
    close(output, shorter)
    close(weights, np.insert(shorter_weights, j, 0, axis=-1))


@some
@given(generated.multi_head_calls(extra_key=NO, add_zero_attn=NO, kinds=["finite", "infinite"]), generators)
def test_a_constant_added_to_a_row_of_a_mask_changes_nothing(call, rng):
    module, arguments = call
    mask = arguments["attn_mask"]
    raised = mask + 10 * rng.standard_normal((*mask.shape[:-1], 1))
    close(module(**arguments | {"attn_mask": raised})[1], module(**arguments)[1])


@st.composite
def scores(draw):
    """Generates arguments of `attend` with at least two visible keys in every row, and the number of a visible key."""
    rng, S, L = draw(generators), draw(st.integers(2, 5)), draw(generated.small)
    bias = generated.mask(rng, draw(st.sampled_from(["finite", "infinite"])), L, S)
    visible = rng.choice(S, 2, replace=False)
    bias[:, visible] = rng.uniform(-5, 5, (L, 2))
    return (*(rng.uniform(-1, 1, (n, 2)) for n in (L, S, S)), np.minimum(bias, 5), draw(st.floats(-1, 1))), visible[0]


@some
@given(scores())
def test_raising_the_bias_of_a_key_raises_its_weight_and_lowers_all_others(drawn):
    (*arrays, bias, scale), j = drawn
    raised = bias + np.eye(bias.shape[1])[j]
    rise = attend(*arrays, raised, scale)[1] - attend(*arrays, bias, scale)[1]
    others, others_bias = np.delete(rise, j, axis=1), np.delete(bias, j, axis=1)
    assert np.all(rise[:, j] > 0)
    assert np.all(others[others_bias > -np.inf] < 0)


@some
@given(scores())
def test_raising_the_bias_of_a_key_by_ln_2_doubles_its_odds_against_all_others(drawn):
    (*arrays, bias, scale), j = drawn
    _, before = attend(*arrays, bias, scale)
    _, after = attend(*arrays, bias + np.log(2) * np.eye(bias.shape[1])[j], scale)
    close(np.delete(after[:, [j]] * before, j, axis=1), np.delete(2 * before[:, [j]] * after, j, axis=1))


@some
@given(generated.multi_head_calls())
def test_the_weights_of_visible_keys_sum_to_one_and_of_hidden_keys_are_zero(call):
    module, arguments = call
    _, weights = module(**arguments)
    visible = changes.seen(arguments, weights.shape)
    assert np.all(weights >= 0)
    same(weights[~visible], np.zeros(np.count_nonzero(~visible)))
    close(weights.sum(axis=-1), visible.any(axis=-1).astype(float))


@some
@given(generated.multi_head_calls())
def test_a_query_that_no_head_shows_a_key_outputs_the_bias_of_the_projection(call):
    module, arguments = call
    output, weights = module(**arguments)
    blind = ~changes.seen(arguments, weights.shape).any(axis=(1, 3))
    expected = 0.0 if module.out_bias is None else module.out_bias
    same(output[blind], np.broadcast_to(expected, output.shape)[blind])


@some
@given(generated.dot_product_calls())
def test_no_context_is_greater_than_the_greatest_value(arguments):
    context = scaled_dot_product_attention(**arguments)
    assert np.max(np.abs(context)) <= np.max(np.abs(arguments["value"])) * (1 + 1e-12)


@some
@given(generated.dot_product_calls(), generators)
def test_the_context_is_linear_in_the_values(arguments, rng):
    value, more = arguments["value"], rng.standard_normal(arguments["value"].shape)
    values = value, more, value - more
    first, second, both = (scaled_dot_product_attention(**arguments | {"value": v}) for v in values)
    close(both, first - second)


@some
@given(generated.dot_product_calls())
def test_a_scale_is_a_factor_of_the_query(arguments):
    scale = arguments["scale"] or arguments["query"].shape[-1] ** -0.5
    scaled = arguments | {"query": scale * arguments["query"], "scale": 1.0}
    close(scaled_dot_product_attention(**scaled), scaled_dot_product_attention(**arguments))


@some
@given(generators, generated.sizes, generated.sizes)
def test_causal_queries_do_not_notice_that_the_sequence_goes_on(rng, L, S):
    query, key, value = (rng.standard_normal((length, 2)) for length in (L, S, S))
    context = scaled_dot_product_attention(query, key, value, is_causal=True)
    for i in range(L):
        shown = scaled_dot_product_attention(query[i : i + 1], key[: i + 1], value[: i + 1])
        close(context[i : i + 1], shown)


@some
@given(st.lists(st.integers(-9, 9) | st.just(-np.inf), min_size=3, max_size=3))
def test_merging_masks_is_associative_and_commutative(entries):
    a, b, c = (np.array([[float(entry)]]) for entry in entries)
    same(masks.merge(masks.merge(a, b), c), masks.merge(a, masks.merge(b, c)))
    same(masks.merge(a, b, c), masks.merge(c, a, b))


def test_a_mask_that_is_not_given_adds_nothing():
    mask = np.array([[0.0, -np.inf, 3.0]])
    same(masks.merge(None, mask, None), mask)
    assert masks.merge(None, None) is None
