"""An error of torch is the outcome of a call: its type and its text, and nothing else of it."""

import weakref

import torch

from tests.harness.cases.case import ScaledDotProduct
from tests.harness.execution.runner import observe


def test_an_error_behind_a_system_error_is_the_outcome(monkeypatch):
    def refusing(*given, **options):
        try:
            raise RuntimeError("refused")
        except RuntimeError as error:
            raise SystemError("UserWarning returned a result with an exception set") from error

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    assert observe(ScaledDotProduct()).error == ("RuntimeError", "refused")


class Entered:
    """Something that a call holds while it runs, such as the hooks of a checkpoint."""


def test_an_error_does_not_keep_what_its_call_held(monkeypatch):
    held = []

    def refusing(*given, **options):
        entered = Entered()
        held.append(weakref.ref(entered))
        raise RuntimeError("refused")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    assert observe(ScaledDotProduct()).error == ("RuntimeError", "refused")
    assert held[0]() is None
