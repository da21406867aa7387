"""Each mode is what its name says, is judged like any other call, and can be typed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.harness.cases import MultiHead, Transformer
from tests.harness.checking import judged
from tests.harness.failure import call_text
from tests.harness.masks import Mask
from tests.harness.modes import BY_ID, EAGER, MODES
from tests.harness.verdict import CONFORMS, DEVIATES, FAILS
from tests.tools.case_script import GRADIENTS, RESULTS, script

from .running import run_script

LAYER = Transformer(S=3, num_heads=2, head_dim=2, autograd="grad", src_mask=Mask("float", "causal", "finite"))
OTHERS = [mode for mode in MODES if mode is not EAGER]


def prepared(id):
    """(what is called, its parameters, the module that it was made of)"""
    module = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
    called, parameters = BY_ID[id].prepare(module, dict(module.named_parameters()))
    return called, parameters, module


@pytest.mark.parametrize("mode", OTHERS, ids=lambda mode: mode.id)
def test_the_parameters_are_those_that_are_used(mode):
    called, parameters, module = prepared(mode.id)
    assert list(parameters) == [name for name, _ in module.named_parameters()]
    called(torch.ones(1, 2, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters.values())


@pytest.mark.parametrize("id", ["deepcopy", "saved", "state_dict", "parametrized", "pruned"])
def test_a_copy_shares_nothing(id):
    _, parameters, module = prepared(id)
    assert not {p.data_ptr() for p in parameters.values()} & {p.data_ptr() for p in module.parameters()}


def test_modes_do_what_they_say():
    assert prepared("pruned")[0].linear1._forward_pre_hooks
    assert prepared("parametrized")[0].self_attn.parametrizations.in_proj_weight[0]
    assert prepared("functional_call")[0].__globals__["hollow"].linear1.weight.is_meta
    assert prepared("checkpoint")[0].func is torch.utils.checkpoint.checkpoint


@pytest.mark.parametrize("mode", OTHERS, ids=lambda mode: mode.id)
def test_a_mode_is_judged_like_any_other_call(mode, monkeypatch):
    case = replace(LAYER, mode=mode.id)
    assert judged(case)[1].status in (CONFORMS, DEVIATES)
    monkeypatch.setattr(nn.TransformerEncoderLayer, "_ff_block", lambda self, x: self.linear2(self.linear1(x)))
    assert judged(replace(case, activation="gelu"))[1].status == FAILS


@pytest.mark.parametrize("mode", OTHERS, ids=lambda mode: mode.id)
@pytest.mark.parametrize(
    "case", [LAYER, MultiHead(S=2, autograd="grad", key_padding_mask=Mask())], ids=["layer", "mha"]
)
def test_a_mode_can_be_typed(case, mode):
    text = script(replace(case, mode=mode.id), about={RESULTS, GRADIENTS})
    code, output, _ = run_script(text)
    assert code == 0, output
    for line in (*mode.made.splitlines(), mode.called):
        assert line in text
        assert line in call_text(replace(case, mode=mode.id))
