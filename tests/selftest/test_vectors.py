"""Calls are made with kernels of another vector extension, in a process that may crash."""

import os

import pytest
import torch

from tests.harness.cases.case import ScaledDotProduct
from tests.harness.deviations.call import Call
from tests.harness.execution.release import installed
from tests.harness.judgement.verdict import CONFORMS
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.modes import processes, vectors
from tests.harness.modes.modes import MODES

HERE = [mode for mode in MODES if mode.vectors and mode.is_in()]


@pytest.mark.parametrize("mode", HERE, ids=lambda mode: mode.id)
def test_the_process_has_the_kernels_that_are_named(mode):
    before = dict(os.environ)
    assert vectors.run_with(mode.vectors, vectors.extension) == mode.vectors != vectors.extension()
    assert vectors.run_with(mode.vectors, torch.get_num_threads) == 1
    assert os.environ == before


def test_only_what_is_less_than_what_is_used_is_another():
    used = vectors.extension()
    assert not vectors.is_lesser(used)
    assert not vectors.is_lesser("AVX1024")
    assert vectors.is_lesser("DEFAULT") == (used in ("AVX2", "AVX512"))


def test_a_call_knows_by_which_kernels_it_is_served():
    assert Call(ScaledDotProduct(), installed()).vectors == vectors.extension()
    assert Call(ScaledDotProduct(mode="vectors_default"), installed()).vectors == "DEFAULT"


@pytest.mark.skipif(not HERE, reason="the CPU has no lesser kernels")
def test_a_process_that_dies_is_an_outcome():
    mode, case = HERE[0], ScaledDotProduct(S=2, Dv=2, mode=HERE[0].id)
    if not installed().offers(case):
        pytest.skip("this release has no such function")
    with pytest.raises(processes.Died):
        vectors.run_with(mode.vectors, os.abort)
    assert judged(case)[1].status == CONFORMS


def entries_that_predict():
    """The ids of the entries that predict outcomes in this process, since their pinned cases show them."""
    return {entry.id for entry in session.start().entries if entry.every_cpu}


@pytest.mark.parametrize("mode", HERE, ids=lambda mode: mode.id)
def test_a_pinned_case_shows_its_entry_by_lesser_kernels_too(mode):
    """Else a run on another CPU is judged without the entry, though other calls show it there."""
    assert entries_that_predict() <= vectors.run_with(mode.vectors, entries_that_predict)
