"""An error of torch is the outcome of a call: its type and its text, and nothing else of it."""

import weakref
from dataclasses import replace

import pytest
import torch

from tests.harness.cases.case import ScaledDotProduct
from tests.harness.execution import runner
from tests.harness.execution.runner import observe
from tests.harness.modes.modes import BY_ID

CASE = ScaledDotProduct()


def test_an_error_behind_a_system_error_is_the_outcome(monkeypatch):
    def refusing(*given, **options):
        try:
            raise RuntimeError("refused")
        except RuntimeError as error:
            raise SystemError("UserWarning returned a result with an exception set") from error

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    assert observe(CASE).error == ("RuntimeError", "refused")


class Entered:
    """Something that a call holds while it runs, such as the hooks of a checkpoint."""


def test_an_error_does_not_keep_what_its_call_held(monkeypatch):
    held = []

    def refusing(*given, **options):
        entered = Entered()
        held.append(weakref.ref(entered))
        raise RuntimeError("refused")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    assert observe(CASE).error == ("RuntimeError", "refused")
    assert held[0]() is None


@pytest.mark.parametrize(("mode", "seen"), [("eager", ("torch.get_rng_state()",)), ("compiled", ())])
def test_random_numbers_that_torchdynamo_draws_for_an_error_are_no_side_effect(monkeypatch, mode, seen):
    def refusing(*given, **options):
        torch.rand(())
        raise RuntimeError("refused")

    if not BY_ID[mode].is_in():
        pytest.skip("this release does not compile")
    monkeypatch.setattr(runner, "_call_scaled_dot_product", refusing)
    assert observe(replace(CASE, mode=mode)).settings == seen
