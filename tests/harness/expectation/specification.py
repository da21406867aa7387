"""From a case to a computation of the reference, which can be changed, run, rounded and differentiated."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from reference import masks as meaning
from reference.attention import MultiHeadAttention, linear, scaled_dot_product_attention
from reference.derivative import displaced
from reference.flex import flex_attention
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

from ..cases.case import Case, FlexAttention, MultiHead, ScaledDotProduct, masks_of
from ..cases.dtypes import FULL, LOW, PRECISIONS, emulated
from ..contents.arrays import directions, inputs, mask_arrays, parameters, rounding_of_sum
from ..contents.blocks import block_mask, score_mod
from ..modes.modes import BY_ID, computed_in
from ..modes.written import is_written
from .eight_bits import EightBits
from .written import kernel_of


@dataclass(frozen=True)
class Computation:
    """A call of the reference, `function(**arguments)`, and all else that torch's call is expected to do."""

    function: Callable  # returns an array, or a tuple of arrays with `names`, batch-first
    arguments: Mapping[str, Any]
    dtype: str  # of the results in torch
    error: tuple[str, str] | None = None  # the call raises: regular expressions of the type name and the message
    warnings: tuple[str, ...] = ()  # a regular expression for each warning that a user sees
    # {reason (left_out.py): True at elements with an undefined value, broadcastable to each result}. If any reason is
    # given, all gradients are undefined, too.
    undefined: Mapping[str, Any] = field(default_factory=dict)
    undefined_gradient: str | None = None  # the reason, if only the gradients are undefined
    devices: Mapping[str, str] = field(default_factory=dict)  # {result: type of its device}, if not that of the inputs
    may_be_nan: bool = False  # any element of a result or derivative may be NaN instead
    ignores_garbage: bool = False  # garbage reaches no result, so all rows are well-conditioned
    lost: tuple[str, ...] = ()  # names of results that the call does not return
    weights_dtype: str | None = None  # of the results after the first in torch, if not `dtype`
    names: tuple[str, ...] = ("output", "weights")  # of the results, if there are several
    finish: Callable[[str, Any], Any] | None = None  # (name of a result, array) -> the array in its place

    @property
    def device(self) -> str | None:
        """The type of the device of the results; None if it is the device of the inputs."""
        return self.arguments.get("device")

    def __call__(self) -> dict[str, np.ndarray]:
        """{name: array} of the results, batch-first: "output", "weights" per head of multi-head attention, ..."""
        with np.errstate(all="ignore"):
            result = self.function(**self.arguments)
        named = dict(zip(self.names, result, strict=True)) if type(result) is tuple else {"output": result}
        return {name: self.finish(name, array) for name, array in named.items()} if self.finish else named


def specification(
    case: Case,
    dtype: str = "float64",
    displace: Collection[str] = (),
    move: Callable[[str, np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Computation:
    """The computation that the clauses specify, in the arithmetic of `dtype`; masks are merged in the case's dtype.

    Under autocast, torch adds both masks of an attention and casts the sum; so does the arithmetic of the low dtype.

    displace: names of arrays to differentiate for; each is displaced in the case's direction (reference/derivative.py).
    move: (name, array, direction) -> the displaced array, if not by `displaced`.
    """
    if not case.attends:
        return _square_mask(case)
    move = move or _displaced

    added_first = _masks_added_before_the_cast(case, dtype)

    def convert(name, array, is_mask=False):
        if not (is_mask and (dtype == "float64" or name in added_first)):
            array = _cast(array, dtype)
        return move(name, array, direction[name]) if name in direction else array

    direction = {name: array for name, array in directions(case).items() if name in displace} if displace else {}
    arrays = {name: convert(name, array) for name, array in inputs(case).items()}
    masks = {name: convert(name, array, is_mask=True) for name, array in mask_arrays(case).items()}
    weights = {name: convert(name, array) for name, array in parameters(case).items()}
    if isinstance(case, ScaledDotProduct):
        options: dict[str, Any] = {"is_causal": case.is_causal, "scale": case.scale}
        options |= {
            "enable_gqa": case.kv_heads is not None,
            **({"kernel": kernel_of(case)} if is_written(case) else {}),
        }
        return Computation(scaled_dot_product_attention, arrays | masks | options, computed_in(case))
    if isinstance(case, FlexAttention):
        return _flex(case, arrays, masks)
    if isinstance(case, MultiHead):
        key = arrays.get("key", arrays["query"])
        arrays |= {"key": key, "value": arrays.get("value", key)}
        module, result_dtype = _multi_head(case, weights), computed_in(case)
    else:
        module, result_dtype = _transformer(case, weights), case.dtype  # a transformer ends in a sum or a norm
    if added_first:
        module = _casting_sums(module, dtype)
    return Computation(module, arrays | masks, result_dtype)


def _flex(case, arrays, masks):
    """FlexAttention, whose log-sum-exp is in the dtype of its scores: float64, otherwise float32."""
    kept = masks.get("kept_mask")
    arguments = {"block_mask": None if kept is None else block_mask(case, kept)}
    arguments |= {"score_mod": score_mod(case, masks.get("added_mask")), "scale": case.scale}
    arguments |= {"enable_gqa": case.kv_heads is not None}
    function, of_scores = (
        flex_attention if case.lse else _flex_output,
        "float64" if case.dtype == "float64" else "float32",
    )
    return Computation(function, arrays | arguments, case.dtype, weights_dtype=of_scores, names=case.result_names)


def _flex_output(**arguments):
    """The output of FlexAttention without the log-sum-exp."""
    return flex_attention(**arguments)[0]


def _masks_added_before_the_cast(case, dtype):
    """The names of the masks that are given in pairs to an attention under autocast; none in the case's own dtype."""
    if dtype not in LOW or dtype == case.dtype:
        return frozenset()
    pairs = [set(attention.masks) for attention in case.attentions]
    return frozenset().union(*(pair for pair in pairs if pair <= masks_of(case).keys()))


def _casting_sums(node, dtype):
    """The module, or a tuple of modules, with attentions that cast the sum of both masks to a low dtype."""
    if isinstance(node, MultiHeadAttention):
        return replace(node, rounded=partial(_cast, dtype=dtype))
    if isinstance(node, tuple):
        return tuple(_casting_sums(part, dtype) for part in node)
    parts = {field.name: getattr(node, field.name) for field in fields(node)} if is_dataclass(node) else {}
    modules = {name: part for name, part in parts.items() if isinstance(part, tuple) or is_dataclass(part)}
    return replace(node, **{name: _casting_sums(part, dtype) for name, part in modules.items()}) if modules else node


def _square_mask(case):
    """The causal mask, by default in the default dtype and on the default device (clause 6)."""
    device = case.given_device or case.default_device or "cpu"
    return Computation(_causal_bias, {"sz": case.sz, "device": device}, case.given_dtype or case.dtype)


def _causal_bias(sz, device):
    """float64 (sz, sz): 0 and -inf. On the meta device, whose tensors hold no numbers, zeros."""
    return np.zeros((sz, sz)) if device == "meta" else meaning.as_bias(meaning.causal(sz, sz), "float64")


def reference_module(
    case: Case, weights: Mapping[str, np.ndarray]
) -> MultiHeadAttention | EncoderLayer | DecoderLayer | Encoder | Decoder | Transformer:
    """The reference's module for a case. weights: its parameters, {name in torch's state_dict: array}."""
    return (_multi_head if isinstance(case, MultiHead) else _transformer)(case, weights)


def _displaced(name, array, direction):
    return displaced(array, direction.astype(array.dtype))


def _cast(array, dtype):
    """The array in `dtype`. Finite numbers stay finite: finfo.min of a wider dtype becomes finfo.min of `dtype`."""
    if array.dtype == bool:
        return array
    if dtype in FULL and np.can_cast(array.dtype, dtype):
        return array.astype(dtype, copy=False)
    limit = PRECISIONS[dtype]
    with np.errstate(over="ignore"):
        array = np.where(np.isfinite(array), np.clip(array.astype("float64"), limit.min, limit.max), array)
    return emulated(array, dtype) if dtype in LOW else array.astype(dtype)


def _under(prefix, weights):
    """The parameters of the submodule `prefix`, by their names within it."""
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
        add_zero_attn=case.add_zero_attn,
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
_ACTIVATIONS["gelu_tanh_function"] = gelu_tanh  # the same activation, passed as a function


def _feed_forward(case, weights):
    parameters = [weights.get(f"linear{i}.{kind}") for i in (1, 2) for kind in ("weight", "bias")]
    quantizes = BY_ID[case.mode].quantizes
    return FeedForward(*parameters, _ACTIVATIONS[case.activation], EightBits() if quantizes else linear)


def _norm(case, weights, name):
    if f"{name}.weight" not in weights:
        return None
    eps = (BY_ID[case.mode].norm2_eps if name == "norm2" else None) or case.layer_norm_eps
    return LayerNorm(weights[f"{name}.weight"], weights.get(f"{name}.bias"), eps)
