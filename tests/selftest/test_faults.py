"""The suite notices faults that are injected into torch's handling of masks."""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings

from tests.harness import session
from tests.harness.checking import check_contents
from tests.harness.failure import Nonconformance
from tests.harness.strategies import cases_of

RELEASE = session.start().release


@contextmanager
def replaced(owner, name, make):
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def sdpa(change):
    """A fault in what F.scaled_dot_product_attention is given: change(query, key, value, attn_mask) -> the same."""

    def make(original):
        def faulty(query, key, value, attn_mask=None, *args, **kwargs):
            return original(*change(query, key, value, attn_mask), *args, **kwargs)

        return faulty

    return F, "scaled_dot_product_attention", make


def canonical(change):
    """A fault in F._canonical_mask: change(mask) -> mask, of what it returns."""

    def make(original):
        def faulty(*args, **kwargs):
            mask = original(*args, **kwargs)
            return None if mask is None else change(mask)

        return faulty

    return F, "_canonical_mask", make


def native(change):
    """A fault in the mask of the native encoder layer."""

    def make(original):
        def faulty(*args):
            *others, mask, mask_type = args
            return original(*others, None if mask is None else change(mask), mask_type)

        return faulty

    return torch, "_transformer_encoder_layer_fwd", make


def loses_last_row(mask):
    mask = mask.clone()
    mask[..., -1, :] = 0
    return mask


def only_long(mask):
    return mask.roll(1, -1) if mask.shape[-1] > 32 else mask


FAULTS = {
    "sdpa mask inverted": (
        "scaled_dot_product_attention",
        sdpa(lambda q, k, v, m: (q, k, v, ~m if m is not None and m.dtype == torch.bool else m)),
    ),
    "sdpa float mask doubled": (
        "scaled_dot_product_attention",
        sdpa(lambda q, k, v, m: (q, k, v, 2 * m if m is not None and m.is_floating_point() else m)),
    ),
    "sdpa leaks at finite -1e4": (
        "scaled_dot_product_attention",
        sdpa(lambda q, k, v, m: (q, k, v, m.clamp(min=-9.0) if m is not None and m.is_floating_point() else m)),
    ),
    "finite values of masks lost": (
        "multi_head_attention_forward",
        canonical(lambda m: torch.where(m == -torch.inf, m, torch.zeros_like(m))),
    ),
    "last query unmasked": ("multi_head_attention_forward", canonical(loses_last_row)),
    "mask rolled past 32 keys": ("MultiheadAttention", canonical(only_long)),
    "mask detached": ("MultiheadAttention", canonical(lambda m: m.detach())),
    "native layer ignores its mask": ("TransformerEncoderLayer", native(torch.zeros_like)),
    "native layer keeps one key": ("TransformerEncoder", native(lambda m: m * (torch.arange(m.shape[-1]) > 0))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_noticed(fault):
    module, (owner, name, make) = FAULTS[fault]

    @settings(max_examples=600, deadline=None, database=None, phases=[Phase.generate])
    @given(case=cases_of(RELEASE, module, inference=name.startswith("_transformer")))
    def conforms(case):
        check_contents(case)

    with replaced(owner, name, make), pytest.raises(Nonconformance):
        conforms()
