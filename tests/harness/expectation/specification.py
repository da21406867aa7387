"""From a case to what the reference says about it: a computation that can be altered, run, rounded, differentiated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reference import masks as meaning
from reference.attention import MultiHeadAttention, scaled_dot_product_attention
from reference.derivative import displaced
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

from ..cases.case import MultiHead, ScaledDotProduct
from ..cases.dtypes import FULL, LOW, PRECISIONS, emulated
from ..contents.arrays import directions, inputs, mask_arrays, parameters, rounding_of_sum
from ..modes.modes import computed_in


@dataclass(frozen=True)
class Computation:
    """A call of the reference, `function(**arguments)`: an array or (output, weights per head), batch-first.

    error: regular expressions of (type name, message) of what is raised instead.
    warnings: a regular expression for each warning that a user sees. undefined: {reason: where, broadcastable to each
    result} of numbers that are anyone's guess, and with them all gradients; undefined_gradient: the reason why these
    alone are. may_be_nan: any number, or derivative, may have become NaN.
    ignores_garbage: garbage does not reach the result, so that all rows are well-conditioned.
    lost: the results that the call does not return. dtype: of the results, in torch; weights_dtype: of the weights, if
    another.
    """

    function: Callable
    arguments: Mapping[str, object]
    dtype: str
    error: tuple[str, str] | None = None
    warnings: tuple[str, ...] = ()
    undefined: Mapping[str, object] = field(default_factory=dict)
    undefined_gradient: str | None = None
    may_be_nan: bool = False
    ignores_garbage: bool = False
    lost: tuple[str, ...] = ()
    weights_dtype: str | None = None

    @property
    def device(self):
        """The type of the device that the result is made on; None where it is that of the inputs."""
        return self.arguments.get("device")

    def __call__(self):
        """{"output": array} and, from a multi-head attention, {"weights": array}."""
        with np.errstate(all="ignore"):
            result = self.function(**self.arguments)
        return dict(zip(("output", "weights"), result, strict=True)) if type(result) is tuple else {"output": result}


def specification(case, dtype="float64", displace=(), move=None):
    """The computation that the clauses ask for, in the arithmetic of `dtype`; masks are merged in the case's.

    displace: names of the arrays that are moved in the case's direction (reference/derivative.py). move: what is made
    of these instead, from (name, array, direction).
    """
    if not case.attends:
        return _square_mask(case)
    move = move or _displaced

    def convert(name, array, is_mask=False):
        if not (is_mask and dtype == "float64"):
            array = _cast(array, dtype)
        return move(name, array, direction[name]) if name in direction else array

    direction = {name: array for name, array in directions(case).items() if name in displace} if displace else {}
    arrays = {name: convert(name, array) for name, array in inputs(case).items()}
    masks = {name: convert(name, array, is_mask=True) for name, array in mask_arrays(case).items()}
    weights = {name: convert(name, array) for name, array in parameters(case).items()}
    if isinstance(case, ScaledDotProduct):
        options = {"is_causal": case.is_causal, "scale": case.scale, "enable_gqa": case.kv_heads is not None}
        return Computation(scaled_dot_product_attention, arrays | masks | options, computed_in(case))
    if isinstance(case, MultiHead):
        key = arrays.get("key", arrays["query"])
        arrays |= {"key": key, "value": arrays.get("value", key)}
        return Computation(_multi_head(case, weights), arrays | masks, computed_in(case))
    return Computation(_transformer(case, weights), arrays | masks, case.dtype)  # it ends in a sum or a norm


def _square_mask(case):
    """The causal mask in the default dtype on the default device, where no other is given (clause 6)."""
    device = case.given_device or case.default_device or "cpu"
    return Computation(_causal_bias, {"sz": case.sz, "device": device}, case.given_dtype or case.dtype)


def _causal_bias(sz, device):
    """(sz, sz); zeros on the meta device, whose tensors hold no numbers."""
    return np.zeros((sz, sz)) if device == "meta" else meaning.as_bias(meaning.causal(sz, sz), "float64")


def reference_module(case, weights):
    """The module of a case with these parameters, {name as in the module's state_dict: array}."""
    return (_multi_head if isinstance(case, MultiHead) else _transformer)(case, weights)


def _displaced(name, array, direction):
    return displaced(array, direction.astype(array.dtype))


def _cast(array, dtype):
    """Finite numbers stay finite: finfo.min of one dtype becomes that of the other."""
    if array.dtype == bool:
        return array
    if dtype in FULL and np.can_cast(array.dtype, dtype):
        return array.astype(dtype, copy=False)
    limit = PRECISIONS[dtype]
    with np.errstate(over="ignore"):
        array = np.where(np.isfinite(array), np.clip(array.astype("float64"), limit.min, limit.max), array)
    return emulated(array, dtype) if dtype in LOW else array.astype(dtype)


def _under(prefix, weights):
    """The parameters of one submodule, by their names in it."""
    prefix += "."
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def _multi_head(case, weights, attn_mask="attn_mask", key_padding_mask="key_padding_mask"):
    if "in_proj_weight" in weights:
        projections = np.split(weights["in_proj_weight"], 3)
    else:
        projections = [weights[f"{letter}_proj_weight"] for letter in "qkv"]
    biases = np.split(weights["in_proj_bias"], 3) if "in_proj_bias" in weights else (None,) * 3
    return MultiHeadAttention(
        case.num_heads,
        *projections,
        weights["out_proj.weight"],
        *biases,
        weights.get("out_proj.bias"),
        bias_k=weights["bias_k"][0, 0] if "bias_k" in weights else None,
        bias_v=weights["bias_v"][0, 0] if "bias_v" in weights else None,
        add_zero_attn=getattr(case, "add_zero_attn", False),
        rounded=rounding_of_sum(case, attn_mask, key_padding_mask),
    )


def _transformer(case, weights):
    build = {
        "TransformerEncoderLayer": _encoder_layer,
        "TransformerDecoderLayer": _decoder_layer,
        "TransformerEncoder": _encoder,
        "TransformerDecoder": _decoder,
    }
    if case.module in build:
        return build[case.module](case, weights)
    return Transformer(_encoder(case, _under("encoder", weights)), _decoder(case, _under("decoder", weights)))


def _encoder(case, weights):
    layers = tuple(_encoder_layer(case, _under(f"layers.{i}", weights)) for i in range(case.num_layers))
    return Encoder(layers, _norm(case, weights, "norm"))


def _decoder(case, weights):
    layers = tuple(_decoder_layer(case, _under(f"layers.{i}", weights)) for i in range(case.num_layers))
    return Decoder(layers, _norm(case, weights, "norm"))


def _encoder_layer(case, weights):
    return EncoderLayer(
        _multi_head(case, _under("self_attn", weights), "src_mask", "src_key_padding_mask"),
        _feed_forward(case, weights),
        *(_norm(case, weights, f"norm{i}") for i in (1, 2)),
        case.norm_first,
    )


def _decoder_layer(case, weights):
    return DecoderLayer(
        _multi_head(case, _under("self_attn", weights), "tgt_mask", "tgt_key_padding_mask"),
        _multi_head(case, _under("multihead_attn", weights), "memory_mask", "memory_key_padding_mask"),
        _feed_forward(case, weights),
        *(_norm(case, weights, f"norm{i}") for i in (1, 2, 3)),
        case.norm_first,
    )


_ACTIVATIONS = {activation.__name__: activation for activation in (relu, gelu, gelu_tanh, silu)}
_ACTIVATIONS["gelu_tanh_function"] = gelu_tanh  # the same, given as a function


def _feed_forward(case, weights):
    linear = [weights.get(f"linear{i}.{kind}") for i in (1, 2) for kind in ("weight", "bias")]
    return FeedForward(*linear, _ACTIVATIONS[case.activation])


def _norm(case, weights, name):
    if f"{name}.weight" not in weights:
        return None
    return LayerNorm(weights[f"{name}.weight"], weights.get(f"{name}.bias"), case.layer_norm_eps)
