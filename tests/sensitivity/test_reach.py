"""What a test calls is noted, and only what is asked for is run."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from tests.sensitivity.faults import FAULTS
from tests.sensitivity.reach import Only, Recorder, target


def run(recorder, name, calls):
    hook = recorder.pytest_runtest_call(SimpleNamespace(nodeid=name))
    next(hook)
    calls()
    assert next(hook, None) is None


def test_what_each_test_calls_is_noted_and_torch_is_left_as_it_was():
    patches = [fault.patch for fault in FAULTS.values()]
    before = {(patch.owner, patch.name): vars(patch.owner)[patch.name] for patch in patches}
    module, x = nn.MultiheadAttention(4, 2, batch_first=True), torch.ones(1, 2, 4)
    recorder = Recorder()
    with recorder.watching(patches):
        run(recorder, "attention", lambda: module(x, x, x))
        run(recorder, "nothing", lambda: None)
        run(recorder, "softmax", lambda: F.softmax(x, dim=-1))
    assert "MultiheadAttention.forward" in recorder.tests["attention"]
    assert "torch.nn.functional.multi_head_attention_forward" in recorder.tests["attention"]
    assert recorder.tests["nothing"] == []
    assert not {"MultiheadAttention.forward"} & set(recorder.tests["softmax"])
    assert all(vars(owner)[name] is original for (owner, name), original in before.items())


def test_every_fault_has_a_target():
    assert {target(fault.patch).rpartition(".")[2] for fault in FAULTS.values()} >= {"forward", "_canonical_mask"}


def test_only_the_tests_that_are_named_are_run():
    items = [SimpleNamespace(nodeid=name) for name in "abc"]
    left_out = []
    config = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items)))
    Only({"a", "c"}).pytest_collection_modifyitems(config, items)
    assert [item.nodeid for item in items] == ["a", "c"]
    assert [item.nodeid for item in left_out] == ["b"]
