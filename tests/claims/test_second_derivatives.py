"""Claims about differentiating attention twice, as gradient penalties, MAML and Hessians do."""

import math

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
    CPU this is so since 2.1, for `F.scaled_dot_product_attention`, for `nn.MultiheadAttention` with
    `need_weights=False`, and for all layers. With `need_weights=True`, or within
    `sdpa_kernel(SDPBackend.MATH)` (from 2.3 on), the second derivative is right: for one query q and keys 1 and -1 with
    values 1 and 0, the context is 1 / (1 + exp(-2 q)), and its second derivative at q = 0.5 is -0.3634.
    """,
    recipe=(gradient_penalty,),
    proof=("test_a_gradient_penalty_by_the_formula", "test_fused_kernels_refuse", "test_the_math_backend_by_hand"),
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


@pytest.mark.skipif(not since("2.3"), reason="before 2.3 there is no torch.nn.attention")
def test_the_math_backend_by_hand():
    def attend(*given):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.scaled_dot_product_attention(*given)

    logistic = 1 / (1 + math.exp(-1))
    expected = 4 * logistic * (1 - logistic) * (1 - 2 * logistic)
    assert round(expected, 4) == -0.3634
    near(_twice(attend), [[[[expected]]]], error=1e-12)
