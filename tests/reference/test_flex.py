"""FlexAttention against a second formulation, against scaled dot-product attention, and laws of its block masks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.attention import scaled_dot_product_attention
from reference.derivative import derivative, displaced
from reference.flex import BlockMask, ScoreMod, create_block_mask, flex_attention, of_blocks

from . import second_formulation
from .comparing import close, same
from .generated import booleans, few, generators, sizes, small, some


@st.composite
def calls(draw):
    """Generates the arguments of flex_attention: masks and biases of each broadcastable batch, some rows hidden."""
    rng, (L, S) = draw(generators), draw(st.tuples(sizes, sizes))
    B, kv_heads, group = draw(small), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    H = kv_heads * group
    batch = st.sampled_from([(1, 1), (1, H), (B, 1), (B, H)])
    arguments = {
        "query": rng.standard_normal((B, H, L, 3)),
        "key": rng.standard_normal((B, kv_heads, S, 3)),
        "value": rng.standard_normal((B, kv_heads, S, 2)),
        "enable_gqa": group > 1 or draw(booleans),
        "scale": draw(st.sampled_from([None, 0.5, -2.0])),
    }
    if draw(booleans):
        hidden = rng.random((*draw(batch), L, S)) < rng.choice([0.2, 0.6, 1.0])
        bias = np.where(hidden, -np.inf, rng.standard_normal(hidden.shape))
        arguments["score_mod"] = ScoreMod(bias, draw(st.sampled_from([None, 0.5, 3.0])))
    if draw(booleans):
        arguments["block_mask"] = draw(block_masks(rng, draw(batch), L, S))
    return arguments


@st.composite
def block_masks(draw, rng, batch, L, S):
    """Generates block masks: created, or of random blocks in random order with undefined entries behind them."""
    keep = rng.random((*batch, L, S)) < rng.choice([0.0, 0.4, 0.8])
    block_size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if draw(booleans):
        return create_block_mask(keep, block_size)
    shape = *batch, -(-L // block_size[0]), -(-S // block_size[1])
    order = np.argsort(rng.random(shape), axis=-1)
    numbers = rng.integers(0, shape[-1] + 1, shape[:-1])
    mask = BlockMask(numbers, order, block_size=block_size, mask_mod=keep if draw(booleans) else None)
    if draw(booleans):
        mask = replace(mask, full_kv_num_blocks=shape[-1] - numbers, full_kv_indices=order[..., ::-1])
    return mask


def looped(query, key, value, block_mask=None, score_mod=None, scale=None, enable_gqa=False):
    """flex_attention by loops over batch, head, query and key, and over the blocks of each row."""
    B, H, L, D = query.shape
    output, logarithm = np.zeros((B, H, L, value.shape[-1])), np.full((B, H, L), -math.inf)
    group = H // key.shape[1]
    for b, h, i in np.ndindex(B, H, L):
        scores = {}
        for j in range(key.shape[2]):
            if block_mask is not None and not sees(block_mask, b, h, i, j):
                continue
            score = second_formulation.dot(query[b, h, i], key[b, h // group, j]) * (scale or 1 / math.sqrt(D))
            if score_mod is not None:
                score = score if score_mod.cap is None else score_mod.cap * math.tanh(score / score_mod.cap)
                score += at(score_mod.bias, b, h)[i, j]
            if score > -math.inf:
                scores[j] = score
        for j, weight in second_formulation.softmax(scores).items():
            output[b, h, i] += weight * value[b, h // group, j]
        if scores:
            logarithm[b, h, i] = math.log(math.fsum(map(math.exp, scores.values())))
    return output, logarithm


def at(array, b, h):
    """The part of an array (B or 1, H or 1, ...) that belongs to a sample and a head."""
    return array[b if len(array) > 1 else 0][h if array.shape[1] > 1 else 0]


def sees(mask, b, h, i, j):
    """True if query i sees key j: j lies in a full block of the row, or in a partial one and mask_mod keeps it."""
    row, column = i // mask.block_size[0], j // mask.block_size[1]

    def lists(numbers, indices):
        return column in list(at(indices, b, h)[row])[: at(numbers, b, h)[row]]

    if mask.full_kv_num_blocks is not None and lists(mask.full_kv_num_blocks, mask.full_kv_indices):
        return True
    is_kept = mask.mask_mod is None or at(mask.mask_mod, b, h)[i, j]
    return lists(mask.kv_num_blocks, mask.kv_indices) and is_kept


@some
@given(calls())
def test_it_agrees_with_loops_over_batch_head_query_and_key(arguments):
    for result, expected in zip(flex_attention(**arguments), looped(**arguments), strict=True):
        finite = np.isfinite(expected)
        same(np.isfinite(result), finite)
        close(result[finite], expected[finite])


@some
@given(calls())
def test_without_a_cap_it_is_scaled_dot_product_attention_with_the_sum_of_both_masks(arguments):
    block_mask, score_mod = arguments.pop("block_mask", None), arguments.pop("score_mod", None)
    L, S = arguments["query"].shape[2], arguments["key"].shape[2]
    bias = np.zeros((1, 1, L, S)) if score_mod is None else score_mod.bias
    if block_mask is not None:
        bias = bias + np.where(block_mask.visible(L, S), 0, -np.inf)
    output, _ = flex_attention(**arguments, block_mask=block_mask, score_mod=score_mod and ScoreMod(score_mod.bias))
    close(output, scaled_dot_product_attention(**arguments, attn_mask=bias))


@pytest.mark.parametrize("block_size", [(1, 1), (2, 3), (3, 2), (128, 128)])
@some
@given(generators, sizes, sizes)
def test_a_created_block_mask_shows_what_mask_mod_keeps(block_size, rng, L, S):
    keep = rng.random((2, 3, L, S)) < rng.choice([0.1, 0.5, 0.9, 1.0])
    mask = create_block_mask(keep, block_size)
    same(mask.visible(L, S), keep)
    same(replace(mask, mask_mod=None).visible(L, S) >= keep, np.ones_like(keep))
    partial, full = mask.blocks
    assert not (partial & full).any()


@some
@given(st.data(), generators, sizes, sizes)
def test_lists_and_blocks_say_the_same(data, rng, L, S):
    mask = data.draw(block_masks(rng, (2, 1), L, S))
    again = replace(of_blocks(*mask.blocks, mask.block_size), mask_mod=mask.mask_mod)
    same(again.visible(L, S), mask.visible(L, S))


@some
@given(st.data(), generators, sizes, sizes)
def test_an_adjusted_mask_shows_the_first_queries_and_keys_of_the_larger_one(data, rng, L, S):
    mask = data.draw(block_masks(rng, (2, 2), L, S))
    fewer_L, fewer_S = data.draw(st.integers(1, L)), data.draw(st.integers(1, S))
    same(mask.adjusted(fewer_L, fewer_S).visible(fewer_L, fewer_S), mask.visible(L, S)[..., :fewer_L, :fewer_S])


@some
@given(calls(), generators)
def test_hidden_keys_and_values_change_no_bit(arguments, rng):
    L, S = arguments["query"].shape[2], arguments["key"].shape[2]
    gone = rng.random(S) < 0.5
    keep = np.broadcast_to(~gone, (1, 1, L, S))
    arguments |= {"block_mask": create_block_mask(keep, (2, 2))}
    spoiled = {name: np.where(gone[:, None], np.nan, arguments[name]) for name in ("key", "value")}
    for result, expected in zip(flex_attention(**arguments | spoiled), flex_attention(**arguments), strict=True):
        same(result, expected)


@few
@given(calls(), generators)
def test_derivatives_are_those_of_finite_differences(arguments, rng):
    step, direction = 1e-6, rng.standard_normal(arguments["query"].shape)
    moved = [arguments | {"query": arguments["query"] + sign * step * direction} for sign in (1, -1)]
    results = flex_attention(**arguments | {"query": displaced(arguments["query"], direction)})
    for result, after, before in zip(results, *(flex_attention(**its) for its in moved), strict=True):
        finite = np.isfinite(before)
        close(derivative(result)[finite], (after[finite] - before[finite]) / (2 * step), error=1e-7)
        same(derivative(result)[~finite], np.zeros(np.sum(~finite)))
