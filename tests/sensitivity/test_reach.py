"""The recorder notes the calls of each test, and `Only` runs the named tests alone."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.sensitivity.faults import FAULTS
from tests.sensitivity.reach import Only, Recorder, sign
from tests.sensitivity.test_faults_are_real import outcome


def run(recorder: Recorder, name: str, calls: Callable[[], object]) -> None:
    """Make the calls inside the recorder's hook, as the test of this id."""
    hook = recorder.pytest_runtest_call(SimpleNamespace(nodeid=name))
    next(hook)
    calls()
    assert next(hook, None) is None


def watched(calls: dict[str, Callable[[], object]]) -> dict[str, set[str]]:
    """{name of a call: signs that the recorder notes for it}."""
    recorder = Recorder()
    with recorder.watching(FAULTS.values()):
        for name, call in calls.items():
            run(recorder, name, call)
    return {name: set(signs) for name, signs in recorder.tests.items()}


def test_what_each_test_calls_is_noted_and_torch_is_left_as_it_was():
    patches = [fault.patch for fault in FAULTS.values()]
    before = {(patch.owner, patch.name): vars(patch.owner)[patch.name] for patch in patches}
    module, x = nn.MultiheadAttention(4, 2, batch_first=True), torch.ones(1, 2, 4)
    seen = watched(
        {"attention": lambda: module(x, x, x), "nothing": lambda: None, "softmax": lambda: F.softmax(x, dim=-1)}
    )
    assert "MultiheadAttention.forward" in seen["attention"]
    assert "torch.nn.functional.multi_head_attention_forward" in seen["attention"]
    assert seen["nothing"] == set()
    assert not {"MultiheadAttention.forward"} & seen["softmax"]
    assert all(vars(owner)[name] is original for (owner, name), original in before.items())


def test_a_fault_with_a_condition_is_noted_where_that_is_met():
    fault, x = FAULTS["sdpa-lost-in-bfloat16"], torch.ones(1, 2, 2)
    mask = torch.ones(2, 2, dtype=torch.bool)
    seen = watched(
        {
            "float32": lambda: F.scaled_dot_product_attention(x, x, x, mask),
            "bfloat16": lambda: F.scaled_dot_product_attention(*[x.bfloat16()] * 3, attn_mask=mask),
            "no mask": lambda: F.scaled_dot_product_attention(*[x.bfloat16()] * 3),
        }
    )
    assert [name for name, signs in seen.items() if sign(fault) in signs] == ["bfloat16"]


def test_a_fault_that_lets_an_error_pass_is_noted_where_there_is_one():
    fault, module, x = FAULTS["flat-mask-taken"], nn.MultiheadAttention(4, 2, batch_first=True), torch.ones(1, 2, 4)

    def wrong():
        with pytest.raises(AssertionError):
            module(x, x, x, attn_mask=torch.ones(4))

    seen = watched({"right": lambda: module(x, x, x, attn_mask=torch.ones(2, 2)), "wrong": wrong})
    assert [name for name, signs in seen.items() if sign(fault) in signs] == ["wrong"]


def test_every_fault_can_be_noted_on_the_call_that_shows_it():
    shown = {id: fault for id, fault in FAULTS.items() if fault.lets_pass or fault.patch.when}
    seen = watched({id: partial(outcome, fault.shows) for id, fault in shown.items()})
    assert [id for id, fault in shown.items() if sign(fault) not in seen[id]] == []


def test_only_the_tests_that_are_named_are_run():
    items = [SimpleNamespace(nodeid=name) for name in "abc"]
    left_out = []
    config = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items)))
    Only({"a", "c"}).pytest_collection_modifyitems(config, items)
    assert [item.nodeid for item in items] == ["a", "c"]
    assert [item.nodeid for item in left_out] == ["b"]
