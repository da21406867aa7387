"""All forms of a mask, and all arrangements of a computation, give equal results."""

import copy
import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference.attention import MultiHeadAttention, scaled_dot_product_attention

from . import changes, generated
from .comparing import close, same
from .generated import few, generators, some


@some
@given(generated.multi_head_calls(kinds=["bool", None]))
def test_a_bool_mask_and_its_float_twin_agree(call):
    module, arguments = call
    twins = {name: changes.float_twin(arguments[name]) for name in changes.MASKS}
    same(module(**arguments | twins)[0], module(**arguments)[0])


@some
@given(generated.dot_product_calls(kinds=["bool"]))
def test_a_bool_mask_and_its_float_twin_agree_in_dot_product_attention(arguments):
    twin = {"attn_mask": np.where(arguments["attn_mask"], 0.0, -np.inf)}
    same(scaled_dot_product_attention(**arguments | twin), scaled_dot_product_attention(**arguments))


@some
@given(generators, generated.small, generated.sizes)
def test_dot_product_attention_keeps_what_the_modules_do_not_hide(rng, L, S):
    query, key, value = (rng.standard_normal((1, length, 1)) for length in (L, S, S))
    hide = generated.mask(rng, "bool", L, S)
    module = MultiHeadAttention(1, *[np.eye(1)] * 4)
    close(module(query, key, value, hide)[0], scaled_dot_product_attention(query, key, value, ~hide))


@some
@given(generated.multi_head_calls(kinds=generated.MASKS))
def test_a_mask_of_two_dimensions_and_its_expansion_per_head_agree(call):
    module, arguments = call
    slices, L, S = len(arguments["query"]) * module.num_heads, *arguments["attn_mask"].shape[-2:]
    shared = arguments["attn_mask"].reshape(-1, L, S)[0]
    expanded = np.tile(shared, (slices, 1, 1))
    same(module(**arguments | {"attn_mask": expanded})[0], module(**arguments | {"attn_mask": shared})[0])


@some
@given(generated.multi_head_calls(kinds=generated.MASKS))
def test_padding_is_a_mask_that_all_heads_and_queries_of_a_sample_share(call):
    module, arguments = call
    L = arguments["query"].shape[1]
    padding = arguments["key_padding_mask"]
    per_head = np.stack([np.tile(row, (L, 1)) for row in padding for _ in range(module.num_heads)])
    as_padding = arguments | {"attn_mask": None}
    as_mask = arguments | {"attn_mask": per_head, "key_padding_mask": None}
    same(module(**as_mask)[0], module(**as_padding)[0])


@some
@given(generated.multi_head_calls(kinds=generated.MASKS))
def test_two_masks_and_their_sum_agree(call):
    module, arguments = call
    (N, L), S, H = arguments["query"].shape[:2], arguments["key"].shape[1], module.num_heads
    attn_mask, padding = (changes.float_twin(arguments[name]) for name in changes.MASKS)
    with np.errstate(over="ignore"):
        total = changes.bias_of_each_head(attn_mask, (N, H, L, S)) + padding[:, None, None, :]
    one = {"attn_mask": total.reshape(N * H, L, S), "key_padding_mask": None}
    same(module(**arguments | one)[0], module(**arguments)[0])


@some
@given(generated.multi_head_calls(), st.data())
def test_hiding_in_slice_n_times_heads_plus_h_is_seen_by_batch_n_and_head_h_alone(call, data):
    module, arguments = call
    N, L, S, H = *arguments["query"].shape[:2], arguments["key"].shape[1], module.num_heads
    n, h = data.draw(st.integers(0, N - 1)), data.draw(st.integers(0, H - 1))
    mask = np.zeros((N * H, L, S), bool)
    mask[n * H + h] = True
    (_, open_), (_, hidden) = (module(**arguments | {"attn_mask": m}) for m in (None, mask))
    same(hidden[n, h, :, :S], np.zeros((L, S)))
    others = (np.arange(N)[:, None] != n) | (np.arange(H) != h)
    same(hidden[others], open_[others])


@some
@given(generated.multi_head_calls())
def test_a_batch_is_its_samples_one_by_one(call):
    module, arguments = call
    output, weights = module(**arguments)
    H = module.num_heads
    for n in range(len(output)):
        sample = {name: _of_sample(array, name, n, H) for name, array in arguments.items()}
        one, one_weights = module(**sample)
        close(one, output[n : n + 1])
        close(one_weights, weights[n : n + 1])


def _of_sample(array, name, n, H):
    per_head = array is not None and array.ndim == 3 and name in ("attn_mask", "static_k", "static_v")
    shared = array is None or (name == "attn_mask" and not per_head)
    return array if shared else array[n * H : (n + 1) * H] if per_head else array[n : n + 1]


@some
@given(generated.multi_head_calls())
def test_the_output_is_the_sum_of_what_each_head_says_alone(call):
    module, arguments = call
    heads = [_head(module, h)(**_of_head(arguments, h, module.num_heads))[0] for h in range(module.num_heads)]
    close(sum(heads) + (0.0 if module.out_bias is None else module.out_bias), module(**arguments)[0])


def _head(module, h):
    """The module with head h alone: its rows of the input projections, and its columns of the output projection."""
    D = len(module.q_weight) // module.num_heads
    own = slice(h * D, (h + 1) * D)
    into = ["q_weight", "k_weight", "v_weight", "q_bias", "k_bias", "v_bias", "bias_k", "bias_v"]
    parts = {name: getattr(module, name)[own] for name in into if getattr(module, name) is not None}
    return dataclasses.replace(module, num_heads=1, out_weight=module.out_weight[:, own], out_bias=None, **parts)


def _of_head(arguments, h, H):
    per_head = [name for name in ("attn_mask", "static_k", "static_v") if changes.given(arguments, name)]
    return arguments | {name: arguments[name][h::H] for name in per_head if arguments[name].ndim == 3}


@some
@given(generated.dot_product_calls(kinds=[None]))
def test_causal_is_the_lower_triangle_as_a_mask(arguments):
    L, S = arguments["query"].shape[-2], arguments["key"].shape[-2]
    triangle = arguments | {"is_causal": False, "attn_mask": np.tril(np.ones((L, S), bool))}
    same(scaled_dot_product_attention(**triangle), scaled_dot_product_attention(**arguments | {"is_causal": True}))


@some
@given(generated.dot_product_calls())
def test_every_sample_and_head_may_be_computed_by_itself(arguments):
    query, key, value = (arguments[name] for name in ("query", "key", "value"))
    context, (N, H) = scaled_dot_product_attention(**arguments), query.shape[:2]
    mask = arguments.get("attn_mask")
    each = None if mask is None else np.broadcast_to(mask, (N, H, *np.broadcast_shapes(mask.shape[-2:], (1, 1))))
    for n, h in np.ndindex(N, H):
        group = h * key.shape[1] // H
        alone = {"query": query[n, h], "key": key[n, group], "value": value[n, group], "enable_gqa": False}
        alone["attn_mask"] = None if mask is None else each[n, h]
        close(context[n, h], scaled_dot_product_attention(**arguments | alone))


@few
@given(generated.multi_head_calls() | generated.encoder_layer_calls() | generated.decoder_layer_calls(depth=2))
def test_a_computation_leaves_its_arguments_alone(call):
    module, arguments = call
    before = copy.deepcopy(call)
    module(**arguments)
    for (path, array), (_, old) in zip(generated.arrays(call), generated.arrays(before), strict=True):
        np.testing.assert_array_equal(array, old, err_msg=str(path))


@few
@given(generated.multi_head_calls() | generated.encoder_layer_calls() | generated.decoder_layer_calls(depth=2))
def test_single_precision_stays_single_precision(call):
    with np.errstate(over="ignore"):  # finfo.min of float64 becomes -inf in float32
        module, arguments = generated.cast(call, np.float32)
    result = module(**arguments)
    assert {array.dtype for array in (result if isinstance(result, tuple) else (result,))} == {np.dtype(np.float32)}
