"""Quantized modules: the reference computes as torch does, a lost mask is noticed, NaN is predicted."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from reference.attention import linear
from tests.harness.cases.case import MultiHead, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations import ledger, quantized
from tests.harness.deviations.call import Call
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.expectation.changes import with_linear
from tests.harness.expectation.eight_bits import EightBits, rounded_weight
from tests.harness.expectation.specification import specification
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.modes import mode
from tests.harness.modes.modes import BY_ID
from tests.tools.ask.text import read

pytestmark = pytest.mark.skipif(not BY_ID["quantized"].is_in(), reason="this release or CPU has no such layers")
LAYER = Transformer(
    dtype="float32", mode="quantized", N=2, S=4, T=4, num_heads=2, head_dim=4, dim_feedforward=8, training=True
)
DECODER_LAYER = replace(LAYER, module="TransformerDecoderLayer", training=False)
MASKS = {"src_mask": Mask(pattern="causal"), "src_key_padding_mask": Mask(pattern="one")}
SIZES = list(product((1, 3, 20), (1, 7, 16)))  # inputs, features


def judged(case, observation=None):
    """The verdict on a case, by the ledger of the installed release."""
    observation = observation or observe(case)
    call = Call(case, installed(), observation.served)
    entries = [entry for entry in ledger.ENTRIES if entry.concerns(call.release)]
    return judge(case, observation, ledger.applying(call, entries))


def layers_and_inputs(sizes):
    """(a quantized layer, its weight, its bias, inputs of many magnitudes), from a fixed seed."""
    inputs, features = sizes
    torch.manual_seed(0)
    layer = nn.Linear(features, 5)
    made, _ = BY_ID["quantized"].prepare(nn.Sequential(layer), ())
    for size in (1e-6, 1e-3, 1, 100):
        x = size * torch.randn(inputs, features)
        yield made, layer.weight.detach().numpy(), layer.bias.detach().numpy(), x


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # of 2.15
def test_a_layer_computes_as_torch_does(sizes):
    for made, weight, bias, x in layers_and_inputs(sizes):
        its = made[0].weight()
        assert np.array_equal(rounded_weight(weight), its.dequantize().numpy())
        expected = EightBits()(x.double().numpy(), weight.astype("float64"), bias)
        np.testing.assert_allclose(made(x).detach(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def spoiled(x, row):
    """The inputs with NaN in this row."""
    return x.index_fill(0, torch.tensor([row]), np.nan)


@pytest.mark.parametrize("sizes", SIZES)
def test_a_layer_forgets_as_torch_does(sizes):
    for made, weight, bias, x in layers_and_inputs(sizes):
        for row in range(1, len(x)):
            given = spoiled(x, row)
            expected = quantized.ForgettingNaN()(given.double().numpy(), weight.astype("float64"), bias)
            np.testing.assert_allclose(made(given).detach(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_a_layer_raises_if_its_first_input_is_nan():
    for made, weight, bias, x in layers_and_inputs((3, 7)):
        with pytest.raises(RuntimeError):
            made(spoiled(x, 0))
        with pytest.raises(quantized.FirstIsNaN):
            quantized.ForgettingNaN()(spoiled(x, 0).numpy(), weight, bias)


@pytest.mark.parametrize("case", [LAYER, DECODER_LAYER])
def test_a_module_that_is_not_quantized_fails(case):
    assert judged(case).status == CONFORMS
    exact = with_linear(specification(case), lambda _: linear)()
    observation = observe(case)
    assert judge(case, replace(observation, outputs=exact)).status == FAILS


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MASKS)
def test_a_lost_mask_is_noticed(name, seed):
    stack = replace(LAYER, module="TransformerEncoder", num_layers=2, seed=seed)
    case = replace(stack, **{name: MASKS[name]})
    assert judged(case).status != FAILS
    assert judged(case, observe(stack)).status == FAILS


def test_an_attention_computes_as_before():
    case = MultiHead(dtype="float32", L=3, S=3, num_heads=2, head_dim=2, attn_mask=Mask(pattern="causal"))
    one, other = observe(case), observe(replace(case, mode="quantized"))
    assert np.array_equal(one.outputs["output"], other.outputs["output"])


def test_a_module_stays_in_its_mode():
    assert observe(LAYER).error is None
    assert observe(replace(LAYER, training=False)).error[0] == "AttributeError"


@pytest.mark.parametrize("entry", quantized.ENTRIES, ids=lambda entry: entry.id)
def test_the_pinned_cases_raise_as_predicted(entry):
    assert judged(entry.pinned).status == DEVIATES
    assert judge(entry.pinned, observe(entry.pinned), ()).status == FAILS


@pytest.mark.parametrize("batch_first", [True, False])
def test_nan_in_one_sample_changes_the_numbers_of_another(batch_first):
    """The second sample is padding alone; its rows are NaN in eval mode, or, with sequences first, if it holds NaN."""
    case = replace(DECODER_LAYER, batch_first=batch_first, tgt_key_padding_mask=Mask(pattern="sample"))
    case = case if batch_first else replace(case, nonfinite="nan", tgt_key_padding_mask=Mask(pattern="trailing"))
    verdict = judged(case)
    assert verdict.status == DEVIATES
    assert "quantized-nan" in verdict.deviations
    assert judge(case, observe(case), ()).status == FAILS


@pytest.mark.parametrize("sizes", [{"N": 0}, {"S": 0}, {"S": 0, "mask_check": False}])
@pytest.mark.parametrize("autograd", ["no_grad", "grad"])
def test_an_empty_stack_raises_what_comes_first(sizes, autograd):
    case = replace(LAYER, module="TransformerEncoder", training=False, autograd=autograd)
    assert judged(replace(case, src_key_padding_mask=Mask(), **sizes)).status == DEVIATES


def test_other_engines_are_not_asked(monkeypatch):
    monkeypatch.setattr(mode, "can_quantize", lambda: False)
    assert not BY_ID["quantized"].is_in()


def test_ask_reads_that_a_module_is_quantized():
    text = "layer = nn.TransformerEncoderLayer(4, 2)\nquantize_dynamic(layer, {nn.Linear})(x)"
    assert read(text).mode == "quantized"
