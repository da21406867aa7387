"""Modules, inputs and masks with random contents. Hypothesis draws the structure and a seed for all numbers.

The epsilons of layer norms are larger than torch's 1e-5: a norm then magnifies rounding errors by a small factor only,
and a wrong use of epsilon changes the result visibly.
"""

import dataclasses

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from reference.attention import MultiHeadAttention
from reference.transformer import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    LayerNorm,
    Transformer,
    gelu,
    gelu_tanh,
    relu,
    silu,
)

MASKS = ["bool", "finite", "infinite", "lowest"]

some = settings(deadline=None, max_examples=60)
few = settings(deadline=None, max_examples=25)

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
booleans = st.booleans()
activations = st.sampled_from([relu, gelu, gelu_tanh, silu])
sizes = st.integers(1, 4)
small = st.integers(1, 3)


def mask(rng, kind, *shape):
    """A mask of this kind. About half of all masks hide whole rows: there are few keys, and often most are hidden."""
    chosen = rng.random(shape) < rng.choice([0.2, 0.6, 1.0])
    if kind == "bool":
        return chosen
    if kind == "lowest":
        return np.where(chosen, np.finfo(float).min, 0.0)
    values = 2 * rng.standard_normal(shape)
    return np.where(chosen, -np.inf, values) if kind == "infinite" else values


def attention(rng, num_heads, head_dim, kdim=None, vdim=None, biased=True, extra_key=False, add_zero_attn=False):
    E = num_heads * head_dim

    def optional(wanted):
        return rng.standard_normal(E) if wanted else None

    return MultiHeadAttention(
        num_heads,
        *(rng.standard_normal((E, columns or E)) for columns in (E, kdim, vdim, E)),
        *(optional(biased) for _ in range(4)),
        bias_k=optional(extra_key),
        bias_v=optional(extra_key),
        add_zero_attn=add_zero_attn,
    )


def layer_norm(rng, E, biased=True):
    return LayerNorm(rng.standard_normal(E), rng.standard_normal(E) if biased else None, rng.uniform(0.05, 1))


def feed_forward(rng, E, activation, biased=True, hidden=3):
    bias1, bias2 = (rng.standard_normal(n) if biased else None for n in (hidden, E))
    return FeedForward(rng.standard_normal((hidden, E)), bias1, rng.standard_normal((E, hidden)), bias2, activation)


def encoder_layer(rng, num_heads, head_dim, activation, norm_first=False, biased=True):
    E = num_heads * head_dim
    return EncoderLayer(
        attention(rng, num_heads, head_dim, biased=biased),
        feed_forward(rng, E, activation, biased),
        *(layer_norm(rng, E, biased) for _ in range(2)),
        norm_first,
    )


def decoder_layer(rng, num_heads, head_dim, activation, norm_first=False, biased=True):
    E = num_heads * head_dim
    return DecoderLayer(
        *(attention(rng, num_heads, head_dim, biased=biased) for _ in range(2)),
        feed_forward(rng, E, activation, biased),
        *(layer_norm(rng, E, biased) for _ in range(3)),
        norm_first,
    )


@st.composite
def dot_product_calls(draw, kinds=(None, "causal", *MASKS)):
    """Generates arguments of scaled_dot_product_attention on (N, H, L, D), with a mask of any broadcastable shape."""
    rng, kind, gqa = draw(generators), draw(st.sampled_from(kinds)), draw(booleans)
    N, heads, group, L, S, D, Dv = (draw(small) for _ in range(7))
    H = heads * group if gqa else heads
    full = [(L, S), (1, S), (L, 1), (H, L, S), (N, 1, L, S), (1, H, L, S), (N, H, L, S), (N, 1, 1, S)]
    arguments = {
        "query": rng.standard_normal((N, H, L, D)),
        "key": rng.standard_normal((N, heads, S, D)),
        "value": rng.standard_normal((N, heads, S, Dv)),
        "scale": draw(st.sampled_from([None, 0.3, 1.0, -2.0])),
        "enable_gqa": gqa,
    }
    if kind in (None, "causal"):
        return arguments | {"is_causal": kind == "causal"}
    return arguments | {"attn_mask": mask(rng, kind, *draw(st.sampled_from(full)))}


@st.composite
def masks_over(draw, rng, N, H, L, S, kinds=(None, *MASKS)):
    """Generates an attn_mask, shared or per head, and a key_padding_mask; either may be None."""
    shape = draw(st.sampled_from([(L, S), (N * H, L, S)]))
    shapes = {"attn_mask": shape, "key_padding_mask": (N, S)}
    drawn = {name: draw(st.sampled_from(kinds)) for name in shapes}
    return {name: None if kind is None else mask(rng, kind, *shapes[name]) for name, kind in drawn.items()}


@st.composite
def multi_head_calls(draw, static=booleans, extra_key=booleans, add_zero_attn=booleans, kinds=(None, *MASKS)):
    """Generates a MultiHeadAttention and its arguments, with any combination of options that torch admits."""
    rng, static, biased = draw(generators), draw(static), draw(booleans)
    N, H, L, D, kdim, vdim = (draw(small) for _ in range(6))
    S = draw(sizes)
    extra = not static and draw(extra_key)  # torch admits no bias_k with static_k
    module = attention(rng, H, D, kdim, vdim, biased, extra, draw(add_zero_attn))
    arguments = {
        "query": rng.standard_normal((N, L, H * D)),
        "key": rng.standard_normal((N, S, kdim)),
        "value": rng.standard_normal((N, S, vdim)),
        **draw(masks_over(rng, N, H, L, S, kinds)),
    }
    if static:
        arguments |= {name: rng.standard_normal((N * H, S, D)) for name in ("static_k", "static_v")}
    return module, arguments


@st.composite
def encoder_layer_calls(draw, depth=None):
    """Generates an EncoderLayer, or an Encoder of `depth` layers with or without a final norm, and its arguments."""
    rng, N, H, D, S = draw(generators), draw(small), draw(small), draw(small), draw(sizes)
    module = draw(encoders(rng, H, D, depth))
    given = draw(masks_over(rng, N, H, S, S))
    arguments = {"src_mask": given["attn_mask"], "src_key_padding_mask": given["key_padding_mask"]}
    return module, {"src": rng.standard_normal((N, S, H * D)), **arguments}


@st.composite
def encoders(draw, rng, H, D, depth=None):
    options = draw(activations), draw(booleans), draw(booleans)
    if depth is None:
        return encoder_layer(rng, H, D, *options)
    layers = tuple(encoder_layer(rng, H, D, *options) for _ in range(depth))
    return Encoder(layers, draw(st.sampled_from([None, layer_norm(rng, H * D)])))


@st.composite
def decoder_layer_calls(draw, depth=None):
    """Generates a DecoderLayer, or a Decoder of `depth` layers with or without a final norm, and its arguments."""
    rng, N, H, D, T, S = draw(generators), draw(small), draw(small), draw(small), draw(sizes), draw(sizes)
    module = draw(decoders(rng, H, D, depth))
    inputs = {"tgt": rng.standard_normal((N, T, H * D)), "memory": rng.standard_normal((N, S, H * D))}
    return module, inputs | draw(decoder_masks(rng, N, H, T, S))


@st.composite
def decoders(draw, rng, H, D, depth=None):
    options = draw(activations), draw(booleans), draw(booleans)
    if depth is None:
        return decoder_layer(rng, H, D, *options)
    layers = tuple(decoder_layer(rng, H, D, *options) for _ in range(depth))
    return Decoder(layers, draw(st.sampled_from([None, layer_norm(rng, H * D)])))


@st.composite
def decoder_masks(draw, rng, N, H, T, S):
    tgt, memory = draw(masks_over(rng, N, H, T, T)), draw(masks_over(rng, N, H, T, S))
    return {
        "tgt_mask": tgt["attn_mask"],
        "memory_mask": memory["attn_mask"],
        "tgt_key_padding_mask": tgt["key_padding_mask"],
        "memory_key_padding_mask": memory["key_padding_mask"],
    }


@st.composite
def transformer_calls(draw):
    rng, N, H, D, T, S = draw(generators), draw(small), draw(small), draw(small), draw(sizes), draw(sizes)
    module = Transformer(draw(encoders(rng, H, D, draw(small))), draw(decoders(rng, H, D, draw(small))))
    src = draw(masks_over(rng, N, H, S, S))
    return module, {
        "src": rng.standard_normal((N, S, H * D)),
        "tgt": rng.standard_normal((N, T, H * D)),
        "src_mask": src["attn_mask"],
        "src_key_padding_mask": src["key_padding_mask"],
        **draw(decoder_masks(rng, N, H, T, S)),
    }


def arrays(tree, path=()):
    """Yields (path, array) for every float array in nested dataclasses, dicts and tuples."""
    if isinstance(tree, np.ndarray) and tree.dtype != bool:
        yield path, tree
    for name, child in _children(tree):
        yield from arrays(child, (*path, name))


def at(tree, path):
    return at(dict(_children(tree))[path[0]], path[1:]) if path else tree


def changed(tree, path, array):
    """A copy of the tree with this array at the path."""
    if not path:
        return array
    name, *rest = path
    child = changed(at(tree, (name,)), rest, array)
    if dataclasses.is_dataclass(tree):
        return dataclasses.replace(tree, **{name: child})
    if isinstance(tree, dict):
        return tree | {name: child}
    return tuple(child if i == name else other for i, other in enumerate(tree))


def cast(tree, dtype):
    """A copy of the tree with all float arrays in this dtype."""
    for path, array in list(arrays(tree)):
        tree = changed(tree, path, array.astype(dtype))
    return tree


def _children(tree):
    if dataclasses.is_dataclass(tree):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, tuple) else []
