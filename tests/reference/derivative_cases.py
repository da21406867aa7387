"""One fixed call of every kind, as (function, arguments). Float masks hide some keys, and all from the first query."""

import numpy as np

from reference.attention import scaled_dot_product_attention
from reference.transformer import Decoder, Encoder, Transformer, gelu, relu

from . import generated


def rng_of(*names):
    """A random generator whose seed is made of the names; functions count with their names."""
    letters = "".join(getattr(name, "__name__", str(name)) for name in names)
    return np.random.default_rng([ord(letter) for letter in letters])


def float_mask(rng, *shape):
    mask = np.where(rng.random(shape) < 0.3, -np.inf, rng.standard_normal(shape))
    mask[..., 0, :] = -np.inf
    return mask


def padding(rng, N, S):
    """A float padding mask (N, S): -inf at the last key of every sample, random numbers elsewhere."""
    return np.where(np.arange(S) == S - 1, -np.inf, rng.standard_normal((N, S)))


def dot_product(name, heads=2, **options):
    rng = rng_of(name)
    shapes = {"query": (2, 2, 3, 2), "key": (2, heads, 4, 2), "value": (2, heads, 4, 3)}
    arguments = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    masks = {"float": float_mask(rng, 2, 1, 3, 4), "bool": rng.random((2, 3, 4)) < 0.6}
    return scaled_dot_product_attention, arguments | {"attn_mask": masks.get(name)} | options


def attention(name, static=False, **options):
    rng = rng_of(name, static, options)
    masks = {"shared": float_mask(rng, 3, 4), "per head": float_mask(rng, 4, 3, 4), "bool": rng.random((3, 4)) < 0.4}
    arguments = {
        "query": rng.standard_normal((2, 3, 4)),
        "key": rng.standard_normal((2, 4, 3)),
        "value": rng.standard_normal((2, 4, 1)),
        "attn_mask": masks[name],
        "key_padding_mask": padding(rng, 2, 4),
    }
    if static:
        arguments |= {name: rng.standard_normal((4, 4, 2)) for name in ("static_k", "static_v")}
    return generated.attention(rng, 2, 2, kdim=3, vdim=1, **options), arguments


def encoder_arguments(rng, S):
    return {
        "src": rng.standard_normal((2, S, 4)),
        "src_mask": float_mask(rng, 4, S, S),
        "src_key_padding_mask": padding(rng, 2, S),
    }


def decoder_arguments(rng, T, S):
    return {
        "tgt": rng.standard_normal((2, T, 4)),
        "tgt_mask": float_mask(rng, T, T),
        "memory_mask": float_mask(rng, 4, T, S),
        "tgt_key_padding_mask": padding(rng, 2, T),
        "memory_key_padding_mask": padding(rng, 2, S),
    }


def encoder_layer(*options):
    rng = rng_of("encoder", *options)
    return generated.encoder_layer(rng, 2, 2, *options), encoder_arguments(rng, 3)


def decoder_layer(*options):
    rng = rng_of("decoder", *options)
    arguments = decoder_arguments(rng, 3, 5) | {"memory": rng.standard_normal((2, 5, 4))}
    return generated.decoder_layer(rng, 2, 2, *options), arguments


def transformer():
    rng = rng_of("transformer")
    encoder = Encoder((generated.encoder_layer(rng, 2, 2, gelu),), generated.layer_norm(rng, 4))
    decoder = Decoder((generated.decoder_layer(rng, 2, 2, relu),), generated.layer_norm(rng, 4))
    return Transformer(encoder, decoder), encoder_arguments(rng, 5) | decoder_arguments(rng, 3, 5)


CASES = {
    "dot product": dot_product("float"),
    "dot product, bool mask": dot_product("bool", heads=1, enable_gqa=True, scale=-0.7),
    "dot product, causal": dot_product("causal", is_causal=True),
    "attention, shared mask": attention("shared"),
    "attention, mask per head": attention("per head", biased=False),
    "attention, appended keys": attention("per head", extra_key=True, add_zero_attn=True),
    "attention, static keys": attention("bool", static=True),
    "encoder layer": encoder_layer(gelu),
    "encoder layer, norms first": encoder_layer(relu, True),
    "decoder layer": decoder_layer(relu),
    "decoder layer, norms first": decoder_layer(gelu, True),
    "transformer": transformer(),
}
