"""Side effects of a call are seen: writes, detached arguments, results in the memory of an argument."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.harness.cases.case import MultiHead, ScaledDotProduct
from tests.harness.cases.masks import LAYOUTS, Mask
from tests.harness.execution import runner
from tests.harness.execution.call import lay_out
from tests.harness.execution.runner import observe
from tests.harness.execution.side_effects import noting_settings, remember
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge

MASKED = ScaledDotProduct(L=2, S=2, attn_mask=Mask("float", "one"))


def changed_by(change, layout="contiguous"):
    argument = lay_out(torch.ones(2, 2).numpy(), layout, "float32")
    memory = remember({"attn_mask": argument}, {})
    change(argument)
    return memory.changed()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_changed_without_a_change(layout):
    assert changed_by(lambda tensor: tensor + 1, layout) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.mul_(2),
        lambda tensor: tensor.data.mul_(2),
        lambda tensor: tensor.mul_(1),  # of equal contents
        lambda tensor: tensor.requires_grad_(),
    ],
)
def test_each_change_of_an_argument_is_seen(change):
    assert changed_by(change) == ("attn_mask",)


def test_a_change_of_a_tensor_made_for_inference_is_seen():
    with torch.inference_mode():
        argument = torch.ones(2, 2)
        memory = remember({"attn_mask": argument}, {})
        assert memory.changed() == ()
        argument.mul_(2)
    assert memory.changed() == ("attn_mask",)


def test_a_write_around_an_argument_is_seen():
    assert changed_by(lambda tensor: tensor._base.data[0, 0].zero_(), "sliced") == ("attn_mask",)


@pytest.mark.parametrize("change", [lambda weight: weight.mul_(2), lambda weight: weight.data.mul_(2)])
def test_a_write_to_a_parameter_is_seen(change):
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    memory = remember({}, {"in_proj_weight": weight, "in_proj_bias": bias})
    with torch.no_grad():
        change(weight)
    assert memory.changed() == ("in_proj_weight",)


def _hook(module, given, result):
    """A hook that does nothing."""


@pytest.mark.parametrize(
    "change, name",
    [
        (lambda module: torch.set_grad_enabled(False), "torch.is_grad_enabled()"),
        (lambda module: torch.set_default_dtype(torch.float64), "torch.get_default_dtype()"),
        (lambda module: torch.rand(1), "torch.get_rng_state()"),
        (lambda module: module.eval(), "training"),
        (lambda module: module.self_attn.train(False), "self_attn.training"),
        (lambda module: module.linear1.eval(), "linear1.training"),
        (lambda module: setattr(module.self_attn, "batch_first", True), "self_attn.batch_first"),
        (lambda module: setattr(module, "kept", 1), "kept"),
        (lambda module: module.register_forward_hook(_hook), "_forward_hooks"),
        (
            lambda module: setattr(module.self_attn, "in_proj_bias", nn.Parameter(torch.ones(6))),
            "self_attn._parameters",
        ),
    ],
)
def test_each_change_of_a_setting_is_seen_and_settings_of_torch_are_restored(change, name):
    changed, module = [], nn.TransformerEncoderLayer(2, 1, 2)
    with noting_settings(changed, module, draws=False):
        change(module)
    assert name in changed
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("training", [False, True])
def test_a_call_of_torch_changes_no_setting(training):
    changed, module = [], nn.TransformerEncoderLayer(2, 1, 2, dropout=0.0).train(training)
    with noting_settings(changed, module, draws=False):
        module(torch.ones(1, 1, 2))
    assert not changed


def test_random_numbers_may_be_drawn_for_dropout():
    changed = []
    with noting_settings(changed, None, draws=True):
        torch.rand(1)
    assert not changed


@pytest.mark.parametrize("autograd, status", [("no_grad", FAILS), ("frozen", FAILS), ("grad", CONFORMS)])
def test_a_result_that_requires_a_gradient_fails_where_autograd_records_nothing(monkeypatch, autograd, status):
    right = runner.F.scaled_dot_product_attention

    def recorded(*given, **options):
        result = right(*given, **options)
        return result if result.requires_grad else result.clone().requires_grad_()

    monkeypatch.setattr(runner.F, "scaled_dot_product_attention", recorded)
    case = replace(MASKED, autograd=autograd)
    assert judge(case, observe(case)).status == status


def test_a_call_that_changes_a_setting_fails(monkeypatch):
    right = runner.F.scaled_dot_product_attention

    def faulty(*given, **options):
        torch.use_deterministic_algorithms(True)
        return right(*given, **options)

    assert judge(MASKED, observe(MASKED)).status == CONFORMS
    monkeypatch.setattr(runner.F, "scaled_dot_product_attention", faulty)
    assert judge(MASKED, observe(MASKED)).status == FAILS


def test_a_result_in_the_memory_of_an_argument_is_seen():
    value = torch.ones(2, 3)
    memory = remember({"value": value}, {})
    assert memory.lent({"output": value.t()}) == ("value",)
    assert memory.lent({"output": value.clone()}) == ()


def test_the_runner_tells_side_effects(monkeypatch):
    def faulty(query, key, value, attn_mask=None):
        attn_mask.mul_(1)
        return value

    monkeypatch.setattr(runner.F, "scaled_dot_product_attention", faulty)
    seen = observe(MASKED)
    assert (seen.mutated, seen.lent) == (("attn_mask",), ("value",))


@pytest.mark.parametrize("number", [1, 3])
def test_a_module_must_return_a_pair(monkeypatch, number):
    monkeypatch.setattr(nn.MultiheadAttention, "forward", lambda self, query, *given, **options: (query + 0,) * number)
    assert observe(MultiHead()).error[0] == "ValueError"


def test_a_function_must_return_a_tensor(monkeypatch):
    monkeypatch.setattr(runner.F, "scaled_dot_product_attention", lambda query, *given, **options: (query + 0, None))
    assert observe(MASKED).error[0] == "TypeError"
