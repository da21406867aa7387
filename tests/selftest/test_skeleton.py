"""Modules that are made cheaply are those that torch makes."""

import copy

import pytest
from torch import nn

from tests.harness.cases.case import Transformer
from tests.harness.contents.arrays import parameters
from tests.harness.execution.skeleton import _copied, module_of


def _described(module):
    """{name: attributes} of the modules in a module; tensors by their shape and dtype."""
    return {
        name: {key: _plain(value) for key, value in vars(part).items() if key != "_modules"}
        for name, part in module.named_modules()
    }


def _plain(value):
    if isinstance(value, dict):
        return type(value), {key: _plain(its) for key, its in value.items()}
    return (value.shape, value.dtype, value.device) if isinstance(value, nn.Parameter) else value


def _held(module):
    """The ids of the modules, dictionaries and parameters in a module."""
    dictionaries = [it for part in module.modules() for it in vars(part).values() if isinstance(it, dict)]
    return {id(it) for it in (*module.modules(), *module.parameters(), *dictionaries)}


@pytest.mark.parametrize("name", ["Encoder", "Decoder"])
def test_a_copy_is_that_of_deepcopy_and_shares_nothing(name):
    layer = getattr(nn, f"Transformer{name}Layer")(4, 2, batch_first=True, device="meta")
    stack = getattr(nn, f"Transformer{name}")(layer, 2)
    stack.extra = [stack.layers[0], {"first": stack.layers[0]}]
    quick, slow = _copied(stack, {}), copy.deepcopy(stack)
    listed, mapped = vars(quick).pop("extra")
    assert listed is quick.layers[0] is mapped["first"]
    del slow.extra
    assert _described(quick) == _described(slow)
    assert _held(stack).isdisjoint(_held(quick))


def test_a_copy_of_a_decoder_layer_loses_an_activation_that_is_a_module():
    """As torch's copies do: see decoder-activation-module."""
    layer = nn.TransformerDecoderLayer(4, 2, activation=nn.GELU(), device="meta")
    assert _copied(layer, {}).activation is copy.deepcopy(layer).activation


def test_copies_are_quick_only_while_a_module_is_made():
    case = Transformer(module="TransformerDecoder", num_layers=2)
    weights = {name: nn.Parameter(nn.Linear(1, 1).weight) for name in parameters(case)}
    assert set(dict(module_of(case, weights).named_parameters())) == set(weights)
    assert not hasattr(nn.Module, "__deepcopy__")


def test_constructors_draw_contents_again_after_a_module_is_made():
    case = Transformer(module="Transformer", num_heads=2, head_dim=5, dim_feedforward=6)
    module_of(case, {})
    layer = nn.TransformerEncoderLayer(10, 2)
    assert layer.linear1.weight.std() > 0
    assert layer.self_attn.in_proj_weight.std() > 0
    assert (layer.norm1.weight == 1).all()
    assert (layer.self_attn.in_proj_bias == 0).all()
