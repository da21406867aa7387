"""Each fault changes the outcome of at least one call."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.harness.cases.case import Case
from tests.harness.execution.runner import observe
from tests.sensitivity.controls import CONTROLS
from tests.sensitivity.faults import CLASSES, FAULTS
from tests.sensitivity.injection import injected
from tests.sensitivity.literals import ATTENTION, CAUSAL, DECODER, ENCODER, PADDING, SDPA, inferring


def outcome(shows: Case | Callable[[], torch.Tensor]) -> tuple | list:
    """Results, gradients, error and warnings of the call, as plain data for `differ`."""
    torch.manual_seed(0)
    torch.set_warn_always(True)
    if isinstance(shows, Case):
        seen = observe(shows)
        return (
            seen.outputs,
            seen.served,
            seen.gradients,
            seen.second_gradients,
            seen.tangents,
            seen.error,
            seen.warnings,
            seen.mutated,
            seen.lent,
            seen.settings,
            seen.attached,
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return shows().numpy(), [str(warning.message) for warning in caught]
        except Exception as error:  # any error of torch's is an outcome
            return type(error).__name__, str(error)


def differ(one: object, other: object) -> bool:
    """True if two outcomes differ in type, structure or any element. NaN equals NaN."""
    if type(one) is not type(other):
        return True
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(differ(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list):
        return len(one) != len(other) or any(map(differ, one, other))
    if isinstance(one, np.ndarray):
        return one.shape != other.shape or one.dtype != other.dtype or not np.array_equal(one, other, equal_nan=True)
    return one != other


def test_there_are_no_two_of_a_name():
    assert len(FAULTS) == sum(map(len, CLASSES.values()))


@pytest.mark.parametrize("id", FAULTS)
def test_a_call_shows_the_fault(id):
    fault = FAULTS[id]
    outcome(fault.shows)  # the first call in a mode may import modules that warn
    healthy = outcome(fault.shows)
    with injected(fault):
        assert differ(healthy, outcome(fault.shows))
    assert not differ(healthy, outcome(fault.shows)), "the fault is still there"


@pytest.mark.parametrize("id", CONTROLS)
@pytest.mark.parametrize(
    "case",
    [
        replace(SDPA, attn_mask=CAUSAL),
        replace(ATTENTION, attn_mask=CAUSAL),
        inferring(replace(ATTENTION, key_padding_mask=PADDING)),
        inferring(replace(ENCODER, src_mask=CAUSAL)),
        replace(DECODER, tgt_mask=CAUSAL),
    ],
    ids=lambda case: case.module,
)
def test_a_control_changes_nothing(id, case):
    healthy = outcome(case)
    with injected(CONTROLS[id]):
        assert not differ(healthy, outcome(case))
