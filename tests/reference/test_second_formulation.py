"""The reference and the second formulation agree on every generated case. They share no code."""

import ast
import dataclasses
import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.attention import scaled_dot_product_attention

from . import generated, second_formulation
from .comparing import close
from .generated import few, some

THROUGH_MANY_NORMS = 1e-11  # a norm may multiply an error by 1 / sqrt(least epsilon), about 4


def plain(tree):
    """The tree with arrays as nested lists, dataclasses as namespaces and functions as their names."""
    if dataclasses.is_dataclass(tree):
        names = [field.name for field in dataclasses.fields(tree)]
        return SimpleNamespace(**{name: plain(getattr(tree, name)) for name in names})
    if isinstance(tree, dict):
        return {name: plain(child) for name, child in tree.items()}
    if isinstance(tree, np.ndarray):
        return tree.tolist()
    if isinstance(tree, tuple):
        return [plain(child) for child in tree]
    return tree.__name__ if callable(tree) else tree


def test_the_second_formulation_knows_nothing_of_the_first():
    tree = ast.parse(inspect.getsource(second_formulation))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import math"]


@pytest.mark.parametrize("kind", [None, "causal", *generated.MASKS])
@few
@given(data=st.data())
def test_both_agree_on_scaled_dot_product_attention(kind, data):
    arguments = data.draw(generated.dot_product_calls(kinds=[kind]))
    expected = second_formulation.scaled_dot_product_attention(**plain(arguments))
    close(scaled_dot_product_attention(**arguments), expected)


@pytest.mark.parametrize("add_zero_attn", [False, True])
@pytest.mark.parametrize("further", [{}, {"static": st.just(True)}, {"extra_key": st.just(True)}])
@few
@given(data=st.data())
def test_both_agree_on_multi_head_attention_and_its_weights(further, add_zero_attn, data):
    options = {"static": st.just(False), "extra_key": st.just(False), "add_zero_attn": st.just(add_zero_attn)}
    module, arguments = data.draw(generated.multi_head_calls(**options | further))
    output, weights = module(**arguments)
    expected, expected_weights = second_formulation.multi_head_attention(plain(module), **plain(arguments))
    close(output, expected)
    close(weights, expected_weights)


@some
@given(generated.encoder_layer_calls())
def test_both_agree_on_an_encoder_layer(call):
    module, arguments = call
    close(module(**arguments), second_formulation.encoder_layer(plain(module), **plain(arguments)))


@some
@given(generated.decoder_layer_calls())
def test_both_agree_on_a_decoder_layer(call):
    module, arguments = call
    close(module(**arguments), second_formulation.decoder_layer(plain(module), **plain(arguments)))


@few
@given(generated.encoder_layer_calls(depth=2))
def test_both_agree_on_a_stack_of_encoder_layers(call):
    module, arguments = call
    close(module(**arguments), second_formulation.encoder(plain(module), **plain(arguments)), THROUGH_MANY_NORMS)


@few
@given(generated.decoder_layer_calls(depth=2))
def test_both_agree_on_a_stack_of_decoder_layers(call):
    module, arguments = call
    close(module(**arguments), second_formulation.decoder(plain(module), **plain(arguments)), THROUGH_MANY_NORMS)


@few
@given(generated.transformer_calls())
def test_both_agree_on_a_transformer(call):
    module, arguments = call
    close(module(**arguments), second_formulation.transformer(plain(module), **plain(arguments)), THROUGH_MANY_NORMS)
