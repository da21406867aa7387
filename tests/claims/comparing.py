"""What is compared with what: modules whose results are known by hand, and the reference with a module's parameters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from packaging.version import Version
from torch import nn

from reference import transformer
from reference.attention import MultiHeadAttention

PAD = 0

# Two warnings that a right call may cause, by what the release does inside.
internal_warnings = (
    pytest.mark.filterwarnings("ignore:Converting mask without torch.bool dtype:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
)

needs_sdpa = pytest.mark.skipif(
    not hasattr(F, "scaled_dot_product_attention"), reason="torch 1.13 has no F.scaled_dot_product_attention"
)


def since(version):
    """True if the installed torch is of that version or a later one."""
    return Version(torch.__version__).release >= Version(version).release


def tokens(*numbers, width=2):
    """One sample (1, S, width) whose tokens are these numbers, repeated along the features."""
    return torch.tensor(numbers, dtype=torch.float64)[None, :, None].repeat(1, 1, width)


def averaging(num_heads=2):
    """An nn.MultiheadAttention, batch first, that returns the mean of the tokens that a query sees."""
    attention = nn.MultiheadAttention(num_heads, num_heads, batch_first=True).double()
    with torch.no_grad():
        attention.in_proj_weight.zero_()  # all scores are 0, so that all visible keys get the same weight
        attention.in_proj_weight[-num_heads:] = torch.eye(num_heads)
        attention.out_proj.weight.copy_(torch.eye(num_heads))
    return attention


def filled(module):
    """The module in double precision, with arbitrary parameters, biases and norms included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.normal_(std=0.5)
        for norm in filter(lambda part: isinstance(part, nn.LayerNorm), module.modules()):
            norm.weight.add_(1)
    return module


def arbitrary(*shape):
    """A tensor of normal numbers, the same for the same shape."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def with_another(sequence, position):
    """A copy of the sequence (N, S, E) with another token at this position."""
    other = sequence.clone()
    other[:, position] *= -1
    return other


def array(tensor):
    """The tensor in NumPy."""
    return tensor.detach().numpy()


def near(actual, expected, error=1e-9):
    """Equal but for rounding, NaN to NaN."""
    actual = array(actual) if isinstance(actual, torch.Tensor) else actual
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), rtol=error, atol=error)


def moved(before, after):
    """How far each position of the output (N, L, E) has moved: the largest change of a feature, (N, L)."""
    return np.abs(array(after - before)).max(axis=-1)


def reference_of(module):
    """The module of reference/ with the same parameters: batch first, whatever the layout of this one."""
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
