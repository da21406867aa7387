"""The contents of hidden positions do not change a bit of the result."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.attention import scaled_dot_product_attention

from . import changes, generated
from .comparing import same
from .generated import few, generators

ENORMOUS = 1e200  # far larger than visible numbers, but a projection does not overflow

CONTENTS = [(name, content) for name in ("key", "value") for content in (ENORMOUS, -ENORMOUS, np.inf, np.nan)]


@pytest.mark.parametrize("name, content", CONTENTS)
@pytest.mark.parametrize("mask", changes.MASKS)
@few
@given(call=generated.multi_head_calls(), data=st.data())
def test_the_content_of_a_hidden_key_changes_neither_output_nor_weights(name, content, mask, call, data):
    module, arguments = call
    j = data.draw(st.integers(0, arguments["key"].shape[1] - 1))
    arguments = changes.hiding(arguments, mask, j)
    other = {name: arguments[name].copy()}
    other[name][:, j] = content
    with np.errstate(invalid="ignore"):
        for before, after in zip(module(**arguments), module(**arguments | other), strict=True):
            same(after, before)


@pytest.mark.parametrize("name, content", CONTENTS)
@few
@given(rng=generators, L=generated.small, S=generated.sizes, kind=st.sampled_from(["bool", "infinite"]))
def test_the_content_of_a_key_matters_only_to_the_queries_that_see_it(name, content, rng, L, S, kind):
    arrays = {name: rng.standard_normal((length, 2)) for name, length in (("query", L), ("key", S), ("value", S))}
    mask, j = generated.mask(rng, kind, L, S), rng.integers(S)
    other = arrays | {name: arrays[name].copy()}
    other[name][j] = content
    with np.errstate(invalid="ignore", over="ignore"):
        before, after = (scaled_dot_product_attention(**a, attn_mask=mask) for a in (arrays, other))
    blind = ~mask[:, j] if kind == "bool" else mask[:, j] == -np.inf
    same(after[blind], before[blind])


@pytest.mark.parametrize("mask", ["src_mask", "src_key_padding_mask"])
@few
@given(call=generated.encoder_layer_calls() | generated.encoder_layer_calls(depth=2), rng=generators)
def test_a_hidden_token_changes_no_other_token_in_the_encoder(mask, call, rng):
    module, arguments = call
    src, other, j = arguments["src"], arguments["src"].copy(), rng.integers(arguments["src"].shape[1])
    other[:, j] = 1000 * rng.standard_normal(other[:, j].shape)
    arguments |= {mask: changes.hiding_too(arguments[mask], j, (src.shape[mask == "src_mask"], src.shape[1]))}
    before, after = module(**arguments), module(**arguments | {"src": other})
    same(np.delete(after, j, axis=1), np.delete(before, j, axis=1))


@pytest.mark.parametrize("mask", ["tgt_mask", "tgt_key_padding_mask"])
@few
@given(call=generated.decoder_layer_calls() | generated.decoder_layer_calls(depth=2), rng=generators)
def test_a_hidden_token_changes_no_other_token_in_the_decoder(mask, call, rng):
    module, arguments = call
    tgt, other, j = arguments["tgt"], arguments["tgt"].copy(), rng.integers(arguments["tgt"].shape[1])
    other[:, j] = 1000 * rng.standard_normal(other[:, j].shape)
    arguments |= {mask: changes.hiding_too(arguments[mask], j, (tgt.shape[mask == "tgt_mask"], tgt.shape[1]))}
    before, after = module(**arguments), module(**arguments | {"tgt": other})
    same(np.delete(after, j, axis=1), np.delete(before, j, axis=1))


@pytest.mark.parametrize("mask", ["memory_mask", "memory_key_padding_mask"])
@few
@given(call=generated.decoder_layer_calls() | generated.decoder_layer_calls(depth=2), rng=generators)
def test_a_hidden_token_of_the_memory_changes_nothing(mask, call, rng):
    module, arguments = call
    memory, other, j = arguments["memory"], arguments["memory"].copy(), rng.integers(arguments["memory"].shape[1])
    other[:, j] = ENORMOUS
    rows = arguments["tgt"].shape[1] if mask == "memory_mask" else len(memory)
    arguments |= {mask: changes.hiding_too(arguments[mask], j, (rows, memory.shape[1]))}
    same(module(**arguments | {"memory": other}), module(**arguments))
