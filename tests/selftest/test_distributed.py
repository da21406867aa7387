"""Calls that two processes share: each makes its part, a wrong wrapper is noticed, a process may crash or hang."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from tests.harness.cases.case import MultiHead, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.refusals import refusal
from tests.harness.execution import runner
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement.summary import header
from tests.harness.modes import pairs
from tests.harness.modes.modes import BY_ID, MODES
from tests.harness.modes.processes import Died
from tests.harness.strategies.by_mode import adapted
from tests.harness.strategies.shared import is_alike
from tests.selftest.test_onnx import ENVIRONMENT
from tests.sensitivity.faults import CLASSES
from tests.sensitivity.injection import injected

HERE = [mode for mode in MODES if mode.is_shared and mode.is_in()]
pytestmark = pytest.mark.skipif(not HERE, reason="no group of two processes")
ATTENTION = MultiHead(
    N=2, L=3, S=3, num_heads=2, head_dim=2, attention="self", autograd="grad", key_padding_mask=Mask("bool", "right")
)
LAYER = Transformer(
    N=2,
    S=4,
    T=3,
    num_heads=2,
    head_dim=2,
    dim_feedforward=4,
    autograd="grad",
    training=True,
    src_key_padding_mask=Mask("float", "scattered", "finite"),
    src_mask=Mask("float", "random", "finite", per_head=True),
)
STACK = replace(LAYER, module="TransformerEncoder", num_layers=2, batch_first=False)


def judged(case, observation):
    """The verdict on a case, by the ledger of the installed release."""
    call = Call(case, installed(), observation.served)
    entries = [entry for entry in ledger.ENTRIES if entry.concerns(call.release)]
    return judge(case, observation, ledger.applying(call, entries))


def is_second():
    """True in the second of the two processes."""
    return torch.distributed.get_rank() == 1


def ending_the_second():
    if is_second():
        os.kill(os.getpid(), signal.SIGKILL)


def sleeping_in_the_second():
    if is_second():
        time.sleep(60)


@pytest.fixture
def new_pair():
    """Before and after the test, the next call starts two new processes."""
    pairs.end()
    yield
    pairs.end()


@pytest.mark.parametrize("mode", HERE, ids=lambda mode: mode.id)
@pytest.mark.parametrize("case", [ATTENTION, LAYER, STACK], ids=lambda case: case.module)
def test_a_shared_call_has_the_results_and_gradients_of_one_process(mode, case):
    case = adapted(case, mode)
    observation = observe(case)
    alone = observe(replace(case, mode="eager"))
    assert judged(case, observation).status in (CONFORMS, DEVIATES)
    assert observation.gradients.keys() == alone.gradients.keys()
    assert all(gradient is not None for gradient in observation.gradients.values())
    for name, gradient in observation.gradients.items():
        wrong = replace(observation, gradients={**observation.gradients, name: 2 * gradient})
        assert judged(case, wrong).status == FAILS


@pytest.mark.parametrize("fault", CLASSES["distributed"], ids=lambda fault: fault.id)
def test_a_wrong_wrapper_is_noticed(fault):
    assert judged(fault.shows, observe(fault.shows)).status != FAILS
    with injected(fault):
        assert judged(fault.shows, observe(fault.shows)).status == FAILS


def test_each_process_gets_its_sample_and_its_masks(new_pair, monkeypatch):
    forward = torch.nn.TransformerEncoderLayer.forward

    def telling(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        assert (src.shape[0], src_mask.shape[0], src_key_padding_mask.shape[0]) == (1, 2, 1)
        raise ValueError(str(src_key_padding_mask.tolist()))

    monkeypatch.setattr(torch.nn.TransformerEncoderLayer, "forward", telling)
    seen = observe(replace(LAYER, mode="distributed")).error
    monkeypatch.setattr(torch.nn.TransformerEncoderLayer, "forward", forward)
    masks = runner.arguments(replace(LAYER, mode="distributed"))["src_key_padding_mask"]
    assert seen == ("ValueError", str(masks[:1].tolist()))


def test_processes_that_differ_are_an_error(new_pair, monkeypatch):
    made = BY_ID["distributed"].made
    monkeypatch.setitem(
        BY_ID,
        "distributed",
        replace(BY_ID["distributed"], made=made.replace("torch.cat(of_both", "rank + torch.cat(of_both")),
    )
    error = observe(replace(ATTENTION, mode="distributed")).error
    assert error[0] == "Apart"
    assert "output" in error[1]


def test_an_error_in_one_process_is_that_of_the_call(new_pair, monkeypatch):
    def raising(*_, **__):
        if is_second():
            raise ValueError("in the second")

    monkeypatch.setattr(torch.nn.TransformerEncoderLayer, "forward", raising)
    assert observe(replace(LAYER, mode="distributed")).error == ("ValueError", "in the second")


def test_a_process_that_crashes_is_an_outcome(new_pair):
    with pytest.raises(Died, match="has ended"):
        pairs.run_in_both(ending_the_second)
    assert pairs.run_in_both(is_second) == (False, True)


def test_a_process_that_hangs_is_an_outcome(new_pair, monkeypatch):
    assert pairs.run_in_both(is_second) == (False, True)
    monkeypatch.setattr(pairs, "PATIENCE", 0.5)
    with pytest.raises(pairs.Hung, match=r"1 of the processes .* 0\.5 s"):
        pairs.run_in_both(sleeping_in_the_second)
    monkeypatch.undo()
    assert pairs.run_in_both(is_second) == (False, True)


def test_crashes_and_hangs_of_a_call_are_its_errors(new_pair, monkeypatch):
    monkeypatch.setattr(torch.nn.MultiheadAttention, "forward", lambda *_, **__: ending_the_second())
    case = replace(ATTENTION, mode="distributed")
    observation = observe(case)
    assert observation.error[0] == "Died"
    assert judged(case, observation).status == FAILS
    pairs.end()
    monkeypatch.setattr(torch.nn.MultiheadAttention, "forward", lambda *_, **__: sleeping_in_the_second())
    monkeypatch.setattr(pairs, "PATIENCE", 2.0)
    assert observe(case).error[0] == "Hung"


def test_the_processes_end_with_the_one_that_started_them():
    child = os.fork()
    if not child:
        pids = pairs.run_in_both(os.getpid)
        os.write(WRITE, " ".join(map(str, pids)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    ids = [int(text) for text in os.read(READ, 100).split()]
    for _ in range(100):
        if not any(map(_is_alive, ids)):
            return
        time.sleep(0.05)
    raise AssertionError(f"still running: {ids}")


READ, WRITE = os.pipe()


def _is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_module_without_trained_parameters_is_refused():
    case = replace(ATTENTION, mode="distributed", autograd="frozen")
    refused = refusal(Call(case, installed()))
    assert refused.id == "distributed-without-gradient"
    assert not list(refused.mismatches(observe(case)))
    assert refusal(Call(replace(case, autograd="one_parameter"), installed())) is None


def test_parts_that_deviate_in_other_ways_are_not_drawn():
    case = replace(STACK, mode="distributed", training=False, autograd="no_grad", src_mask=None, batch_first=True)
    of_one = replace(case, src_key_padding_mask=Mask("bool", "sample"))
    assert is_alike(replace(case, src_key_padding_mask=None), installed())
    assert not is_alike(of_one, installed())
    assert is_alike(replace(of_one, mode="eager"), installed())


def test_a_run_says_why_it_asks_no_shared_calls(monkeypatch):
    said = "this system cannot fork: the distributed modes are not asked"
    assert said in "\n".join(header({**ENVIRONMENT, "torch": "2.9.0", "not_shared": "this system cannot fork"}))
    assert "distributed" not in "\n".join(header({**ENVIRONMENT, "torch": "2.9.0"}))
    monkeypatch.setattr(pairs, "obstacle", lambda: "this system cannot fork")
    assert not any(mode.is_in() for mode in HERE)


def test_a_machine_without_a_group_has_an_obstacle(monkeypatch, new_pair):
    def failing(*_, **__):
        raise RuntimeError("no interface")

    monkeypatch.setattr(torch.distributed, "init_process_group", failing)
    assert "two processes cannot train in a group" in pairs.obstacle.__wrapped__()
    monkeypatch.delattr(os, "fork")
    assert pairs.obstacle.__wrapped__() == "this system cannot fork"


EXPORTS_AND_TRAINS = """\
import torch

from tests.harness.modes import pairs

torch.export.export(torch.nn.ReLU(), (torch.ones(1),))
torch.ones((), requires_grad=True).backward()
print(pairs.obstacle() or "trains")
"""


@pytest.mark.skipif(not hasattr(torch, "export"), reason="before torch.export")
def test_two_processes_train_after_this_one_has_exported_a_program():
    run = subprocess.run([sys.executable, "-c", EXPORTS_AND_TRAINS], capture_output=True, text=True, check=True)
    assert run.stdout == "trains\n"
