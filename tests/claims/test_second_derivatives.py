"""Claims about differentiating attention twice, as gradient penalties, MAML and Hessians do."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .claim import Claim
from .comparing import arbitrary, filled, near, needs_sdpa, since


def gradient_penalty(module: nn.MultiheadAttention, x: torch.Tensor) -> torch.Tensor:
    """The squared norm of the gradient of the output's sum. Weights are asked for, so that no fused kernel serves."""
    output, _ = module(x, x, x, need_weights=True)
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    return gradient.square().sum()


TWICE = Claim(
    id="second-derivatives",
    says="Attention can be differentiated twice.",
    verdict="true of the formula, false of the fused kernels",
    because="""
    Fused kernels have no second derivative: a gradient taken with `create_graph=True` cannot be differentiated again,
    and torch raises "derivative for aten::_scaled_dot_product_flash_attention_for_cpu_backward is not implemented". On
    CPU this is so since 2.1 without an `attn_mask` or padding, and since 2.3 with them, for
    `F.scaled_dot_product_attention` of four dimensions (since 2.14 also of three), for `nn.MultiheadAttention` with
    `need_weights=False`, and for all layers. With dropout, or a float mask that requires a gradient, no fused kernel
    serves, and the second derivative is there. With `need_weights=True`, or within `sdpa_kernel(SDPBackend.MATH)`
    (from 2.3 on), it is right: for one query q and keys 1 and -1 with values 1 and 0, the context is
    1 / (1 + exp(-2 q)), and its second derivative at q = 0.5 is -0.3634.
    """,
    recipe=(gradient_penalty,),
    proof=(
        "test_a_gradient_penalty_by_the_formula",
        "test_fused_kernels_refuse",
        "test_calls_that_no_fused_kernel_takes",
        "test_padding_is_fused_since_2_3",
        "test_the_math_backend_by_hand",
    ),
)
NOT_IMPLEMENTED = r"derivative for aten::_scaled_dot_product_flash_attention(_for_cpu)?_backward is not implemented"


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_gradient_penalty_by_the_formula(training):
    module = filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(training)
    x, h = arbitrary(1, 3, 4).requires_grad_(), 1e-6
    direction = arbitrary(1, 3, 4).detach().flip(1)
    (gradient,) = torch.autograd.grad(gradient_penalty(module, x), x)
    ahead, behind = (
        gradient_penalty(module, (x + step * direction).detach().requires_grad_()).item() for step in (h, -h)
    )
    near((gradient * direction).sum(), (ahead - behind) / (2 * h), error=1e-4 * abs(ahead) + 1e-6)


def _twice(attend):
    query = torch.tensor([[[[0.5]]]], dtype=torch.float64, requires_grad=True)
    key, value = (torch.tensor(pair, dtype=torch.float64).reshape(1, 1, 2, 1) for pair in ([1, -1], [1, 0]))
    (first,) = torch.autograd.grad(attend(query, key, value), query, create_graph=True)
    return torch.autograd.grad(first, query)[0]


@needs_sdpa
@pytest.mark.skipif(not since("2.1"), reason="before 2.1 there is no fused kernel for CPU")
def test_fused_kernels_refuse():
    with pytest.raises(RuntimeError, match=NOT_IMPLEMENTED):
        _twice(lambda *given: F.scaled_dot_product_attention(*given))
    module, x = filled(nn.MultiheadAttention(4, 2, batch_first=True)), arbitrary(1, 3, 4).requires_grad_()
    output, _ = module(x, x, x, need_weights=False)
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=NOT_IMPLEMENTED):
        gradient.square().sum().backward()


def _is_refused(*shape, **given):
    query = arbitrary(*shape).requires_grad_()
    key, value = arbitrary(*shape), arbitrary(*shape)
    output = F.scaled_dot_product_attention(query, key, value, **given)
    (first,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    try:
        first.square().sum().backward()
    except RuntimeError as error:
        return re.search(NOT_IMPLEMENTED, str(error)) is not None
    return False


@needs_sdpa
def test_calls_that_no_fused_kernel_takes():
    keep = torch.ones(3, 3, dtype=torch.bool).tril()
    assert _is_refused(1, 2, 3, 4) == _is_refused(1, 2, 3, 4, is_causal=True) == since("2.1")
    assert _is_refused(1, 2, 3, 4, attn_mask=keep) == since("2.3")
    assert _is_refused(2, 3, 4) == since("2.14")
    assert not _is_refused(1, 2, 3, 4, dropout_p=0.5)
    assert not _is_refused(1, 2, 3, 4, attn_mask=torch.zeros(3, 3).double().requires_grad_())


@needs_sdpa
@pytest.mark.parametrize("is_padded", [False, True], ids=["alone", "padded"])
def test_padding_is_fused_since_2_3(is_padded):
    layer = filled(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True))
    src, padding = arbitrary(2, 3, 4).requires_grad_(), torch.tensor([[False, False, True], [False] * 3])
    output = layer(src, src_key_padding_mask=padding if is_padded else None)
    (gradient,) = torch.autograd.grad(output.square().sum(), src, create_graph=True)
    if since("2.3" if is_padded else "2.1"):
        with pytest.raises(RuntimeError, match=NOT_IMPLEMENTED):
            gradient.square().sum().backward()
    else:
        gradient.square().sum().backward()


@pytest.mark.skipif(not since("2.3"), reason="before 2.3 there is no torch.nn.attention")
def test_the_math_backend_by_hand():
    def attend(*given):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.scaled_dot_product_attention(*given)

    logistic = 1 / (1 + math.exp(-1))
    expected = 4 * logistic * (1 - logistic) * (1 - 2 * logistic)
    assert round(expected, 4) == -0.3634
    near(_twice(attend), [[[[expected]]]], error=1e-12)
