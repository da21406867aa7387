"""Modules whose output is known by hand, and reference modules with the parameters of torch modules."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import nn

from reference import transformer
from reference.attention import MultiHeadAttention

PAD = 0

# Two warnings that torch's own code may cause in a right call.
internal_warnings = (
    pytest.mark.filterwarnings("ignore:Converting mask without torch.bool dtype:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
)

needs_sdpa = pytest.mark.skipif(
    not hasattr(F, "scaled_dot_product_attention"), reason="torch 1.13 has no F.scaled_dot_product_attention"
)


def since(version: str) -> bool:
    """True if the installed torch has this version or a later one."""
    return Version(torch.__version__).release >= Version(version).release


def tokens(*numbers: float, width: int = 2) -> torch.Tensor:
    """One sample (1, S, width) in float64; each token is one of the numbers, repeated along the features."""
    return torch.tensor(numbers, dtype=torch.float64)[None, :, None].repeat(1, 1, width)


def averaging(num_heads: int = 2) -> nn.MultiheadAttention:
    """An nn.MultiheadAttention, batch first, that returns the mean of the tokens that a query sees.

    embed_dim is num_heads: each head has one feature.
    """
    attention = nn.MultiheadAttention(num_heads, num_heads, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.zero_()  # all scores are 0, and all visible keys get the same weight
        attention.in_proj_weight[-num_heads:] = torch.eye(num_heads)
        attention.out_proj.weight.copy_(torch.eye(num_heads))
    return attention


def filled(module: nn.Module) -> nn.Module:
    """The module itself, in double precision, with random parameters; biases and norms are random, too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_(std=0.5)
        for norm in filter(lambda part: isinstance(part, nn.LayerNorm), module.modules()):
            norm.weight.add_(1)
    return module


def arbitrary(*shape: int) -> torch.Tensor:
    """A float64 tensor of normally distributed numbers; equal shapes give equal numbers."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def with_another(sequence: torch.Tensor, position: int | slice) -> torch.Tensor:
    """A copy of the sequence (N, S, E) with the sign of the token at this position changed."""
    other = sequence.clone()
    other[:, position] *= -1
    return other


def array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as a NumPy array, without its gradient."""
    return tensor.detach().numpy()


def near(actual: torch.Tensor | np.ndarray, expected: float | list | np.ndarray, error: float = 1e-9) -> None:
    """Assert that all elements agree within `error`, relative and absolute. NaN equals NaN; `expected` is broadcast."""
    actual = array(actual) if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), rtol=error, atol=error)


def moved(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """The largest change of a feature at each position, (N, L), between two outputs (N, L, E)."""
    return np.abs(array(after - before)).max(axis=-1)


def reference_of(module: nn.Module) -> Callable:
    """The module of reference/ with the parameters of a torch module. The reference is always batch first."""
    return _REFERENCES[type(module)](module)


def _attention(module):
    q, k, v = np.split(array(module.in_proj_weight), 3)
    q_bias, k_bias, v_bias = np.split(array(module.in_proj_bias), 3)
    out = module.out_proj
    return MultiHeadAttention(
        module.num_heads, q, k, v, array(out.weight), q_bias, k_bias, v_bias, out_bias=array(out.bias)
    )


def _norm(module):
    return transformer.LayerNorm(array(module.weight), array(module.bias), module.eps)


def _feed_forward(layer):
    linears = (layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias)
    return transformer.FeedForward(*map(array, linears), transformer.relu)


def _encoder_layer(layer):
    return transformer.EncoderLayer(
        _attention(layer.self_attn), _feed_forward(layer), _norm(layer.norm1), _norm(layer.norm2)
    )


def _decoder_layer(layer):
    attentions = _attention(layer.self_attn), _attention(layer.multihead_attn)
    norms = _norm(layer.norm1), _norm(layer.norm2), _norm(layer.norm3)
    return transformer.DecoderLayer(*attentions, _feed_forward(layer), *norms)


def _stack(kind):
    return lambda stack: kind(tuple(map(reference_of, stack.layers)), _norm(stack.norm) if stack.norm else None)


_REFERENCES = {
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerDecoderLayer: _decoder_layer,
    nn.TransformerEncoder: _stack(transformer.Encoder),
    nn.TransformerDecoder: _stack(transformer.Decoder),
    nn.Transformer: lambda model: transformer.Transformer(reference_of(model.encoder), reference_of(model.decoder)),
}
