"""Side effects of a call are seen: writes, detached arguments, results in the memory of an argument."""

import pytest
import torch
from torch import nn

from tests.harness.cases.case import MultiHead, ScaledDotProduct
from tests.harness.cases.masks import LAYOUTS, Mask
from tests.harness.execution import runner
from tests.harness.execution.call import lay_out
from tests.harness.execution.runner import observe
from tests.harness.execution.side_effects import remember

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


def test_a_write_around_an_argument_is_seen():
    assert changed_by(lambda tensor: tensor._base.data[0, 0].zero_(), "sliced") == ("attn_mask",)


def test_a_write_to_a_parameter_is_seen():
    weight = nn.Parameter(torch.ones(2))
    memory = remember({}, {"in_proj_weight": weight})
    with torch.no_grad():
        weight.mul_(2)
    assert memory.changed() == ("in_proj_weight",)


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
