"""Every kind of wrong result of nn.Transformer.generate_square_subsequent_mask is detected."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, find, given, settings
from packaging.version import Version

from tests.harness.cases.case import SquareSubsequentMask
from tests.harness.cases.spelling import shortest_repr
from tests.harness.deviations import ledger, refusals
from tests.harness.deviations.call import Call
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.report import failure_of, report
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.modes.parsing import parse
from tests.harness.strategies.square_mask import square_mask_cases
from tests.tools.case_script import call_lines, script

from .running import mismatches, run_script

RELEASE = installed()
CASES = square_mask_cases(RELEASE)
FEW = settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate])
CASE = SquareSubsequentMask(dtype="float32", sz=2)
RIGHT = observe(CASE)


def test_the_right_mask_conforms():
    assert judge(CASE, RIGHT).status == CONFORMS


@pytest.mark.parametrize(
    "changes",
    [
        {"outputs": {"output": np.zeros((2, 2))}},
        {"outputs": {"output": np.full((2, 2), -np.inf)}},
        {"outputs": {"output": np.array([[0, -1e9], [0, 0]])}},
        {"outputs": {"output": np.array([[0, np.nan], [0, 0]])}},
        {"outputs": {"output": np.zeros((1, 1))}},
        {"outputs": {}},
        {"dtypes": {"output": "float64"}},
        {"devices": {"output": "meta"}},
        {"devices": {}},
        {"error": ("TypeError", "no")},
        {"warnings": ("deprecated",)},
    ],
)
def test_a_wrong_mask_fails(changes):
    wrong = replace(RIGHT, **changes)
    verdict = judge(CASE, wrong)
    assert verdict.status == FAILS
    assert "generate_square_subsequent_mask(2)" in report(failure_of(CASE, wrong, verdict))


def test_a_mask_that_was_written_to_before_fails(monkeypatch):
    cached = functools.cache(torch.nn.Transformer.generate_square_subsequent_mask)
    monkeypatch.setattr(torch.nn.Transformer, "generate_square_subsequent_mask", staticmethod(cached))
    assert judge(CASE, observe(CASE)).status == CONFORMS
    again = replace(CASE, after_writing=True)
    assert judge(again, observe(again)).status == FAILS


@FEW
@given(case=CASES)
def test_defaults_are_as_before_and_the_case_can_be_pasted_back(case):
    observe(case)
    assert torch.get_default_dtype() == torch.float32
    assert torch.empty(0).device.type == "cpu"
    assert parse(shortest_repr(case)) == parse(repr(case)) == case


def test_defaults_are_as_before_where_the_call_raises(monkeypatch):
    def raising(*_, **__):
        raise TypeError("no")

    monkeypatch.setattr(torch.nn.Transformer, "generate_square_subsequent_mask", staticmethod(raising))
    case = SquareSubsequentMask(dtype="float16")
    assert observe(case).error == ("TypeError", "no")
    assert judge(case, observe(case)).status == FAILS
    assert torch.get_default_dtype() == torch.float32


@FEW
@given(case=CASES)
def test_a_script_says_what_the_specification_says(case):
    code, output, _ = run_script(script(case))
    assert code == bool(mismatches(case)), output
    assert set(call_lines(case)) <= set(script(case).splitlines())


@FEW
@given(case=CASES)
def test_only_its_own_entries_are_asked(case):
    call = Call(case, RELEASE)
    ids = {applied.id for applied in ledger.applying(call, ledger.ENTRIES)}
    assert ids <= {"square-mask-default-dtype", "square-mask-default-device"}
    assert refusals.refusal(call) is None
    assert RELEASE.offers(case)


@pytest.mark.parametrize(
    "reached",
    [
        lambda case: case.sz == 0,
        lambda case: case.sz > 64,
        lambda case: case.dtype == "float64" and case.given_dtype is None and case.given_device is None,
        lambda case: case.dtype == "bfloat16" and case.after_writing,
        lambda case: case.of_instance and case.given_device == "meta",
        lambda case: case.given_dtype == "float16" or not RELEASE.has_dtype_of_square_mask,
        lambda case: case.in_context or not hasattr(torch, "set_default_device"),
        lambda case: (case.default_device and not case.in_context) or not hasattr(torch, "set_default_device"),
    ],
)
def test_generated_calls_reach(reached):
    assert find(CASES, reached, settings=settings(max_examples=1000, database=None))


@pytest.mark.skipif(not RELEASE.has_default_device, reason="no default device")
def test_a_default_device_is_drawn_by_the_model_of_a_release_without_one():
    drawn = square_mask_cases(replace(RELEASE, version=Version("1.13.1")))
    assert find(drawn, lambda case: case.default_device == "meta", settings=FEW)
