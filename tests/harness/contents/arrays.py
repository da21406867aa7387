"""The numbers of a case as NumPy arrays in batch-first layout: inputs, parameters, masks and directions.

The functions are cached: the arrays that they return are shared, so never write to them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from reference import masks as meaning

from ..cases.case import LEARNED, Case, DotProduct, FlexAttention, MultiHead, is_padding, masks_of, merged_dtype
from ..cases.dtypes import PRECISIONS, held, rounded
from ..cases.masks import Merged
from ..modes.modes import computed_in
from ..modes.shared_masks import FIRST_AS_LAST, ONE_TENSOR, SHARED_MASKS
from ..modes.written import fills_with_a_number
from .blocks import block_mask
from .given import GivenContents

# Factors of garbage, by dtype: contents of order 1 are multiplied by them in positions hidden from every query.
GARBAGE = {"float64": 2.0**20, "float32": 2.0**20, "bfloat16": 2.0**20, "float16": 2.0**5}

_cached = lru_cache(maxsize=8)


@_cached
def mask_arrays(case: Case) -> dict[str, np.ndarray]:
    """{argument name: array} of the masks. Bool masks have the polarity of the called function."""
    if isinstance(case.seed, GivenContents):
        return {name: case.seed.masks[name] for name in masks_of(case)}
    arrays = {}
    for name, mask in masks_of(case).items():
        if isinstance(mask, Merged):
            assert isinstance(case, MultiHead)
            parts = replace(case, attn_mask=mask.attn_mask, key_padding_mask=mask.key_padding_mask, only=None)
            bias = merged_bias(parts, "attn_mask", "key_padding_mask")
            assert bias is not None
            bias = np.broadcast_to(bias, (case.N, case.num_heads, case.L, case.S))
            array = bias.reshape(case.N * case.num_heads, *bias.shape[2:])
        else:
            dtype = mask.dtype or case.dtype
            array = mask.array(case.mask_shape(name), dtype, _mask_seed(case, name), is_padding(name))
            if mask.is_float:  # in a NumPy dtype that holds the dtypes of the mask and of the inputs
                array = array.astype(np.result_type(held(dtype), held(case.dtype)))
            array = array.reshape({"1-D": (-1,), "0-D": ()}.get(case.broadcast, array.shape))
        inverted = not (case.true_hides or mask.is_float)
        arrays[name] = _sample(case, name, ~array if inverted else array)
    return arrays


def _sample(case, name, array):
    """The part of the array that belongs to the sample `case.only`; the whole array if `only` is None."""
    if case.only is None or (array.ndim == 2 and not is_padding(name)):
        return array
    per_sample = case.num_heads if (name.endswith("mask") and array.ndim == 3) or name.startswith("static") else 1
    return array[case.only * per_sample : (case.only + 1) * per_sample]


def _mask_seed(case, name):
    """The seed of one mask, which does not depend on other masks of the case.

    The first mask of FlexAttention is that of scaled_dot_product_attention with the same recipe. In the mode that
    shares masks, all of one kind have one seed.
    """
    if case.mode == SHARED_MASKS.id:
        name = "key_padding_mask" if is_padding(name) else "mask"
    is_alone = name == "kept_mask" or (name == "added_mask" and case.kept_mask is None)
    return [case.seed, 4, *("attn_mask" if is_alone else name).encode()]


@_cached
def merged_bias(case: Case, attn_mask: str, key_padding_mask: str) -> np.ndarray | None:
    """The sum of the attention and padding masks of these names, broadcastable to (N, H, L, S); None without masks."""
    arrays = mask_arrays(case)
    bias = padding = None
    if attn_mask in arrays:
        bias = meaning.over_heads(meaning.as_bias(arrays[attn_mask], held(case.dtype)), case.num_heads)
    if key_padding_mask in arrays:
        padding = meaning.over_queries(meaning.as_bias(arrays[key_padding_mask], held(case.dtype)))
    return meaning.merge(bias, padding, rounded=rounding_of_sum(case, attn_mask, key_padding_mask))


def rounding_of_sum(case: Case, attn_mask: str, key_padding_mask: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """A function that rounds the sum of two masks to their dtype, for reference.masks.merge; None if none is needed."""
    dtype = merged_dtype(case, attn_mask, key_padding_mask)
    return None if dtype in (None, "float64", case.dtype) else partial(rounded, dtype=dtype)


@_cached
def largest_score(case: Case) -> float:
    """The largest absolute value, over all queries, of a query's maximal mask value, which shifts all of its scores.

    Values beside which scores are lost to rounding do not count.
    """
    limit = 0.1 / PRECISIONS[computed_in(case)].eps
    tops = [0.0]
    for bias in (*biases(case), *_alone(case)):
        top = np.abs(bias.max(axis=-1, initial=-np.inf).astype("float64"))
        tops.append(np.max(top, where=top < limit, initial=0.0))
    return float(max(tops))


def _alone(case):
    """The masks of attentions that get two float masks, of which releases before 2.0 may read one alone."""
    pairs = (attention.masks for attention in case.attentions)
    both = [names for names in pairs if all(getattr(case, name) and getattr(case, name).is_float for name in names)]
    return [mask_arrays(case)[name] for names in both for name in names]


def biases(case: Case) -> list[np.ndarray]:
    """The merged bias of each attention with masks; of a function without parameters, the bias of each mask."""
    if isinstance(case, DotProduct):
        arrays = mask_arrays(case)
        if isinstance(case, FlexAttention) and "kept_mask" in arrays:
            arrays = arrays | {"kept_mask": block_mask(case, arrays["kept_mask"]).visible(case.L, case.S)}
        return [meaning.as_bias(mask, held(case.dtype), true_hides=False) for mask in arrays.values()]
    biases = [merged_bias(case, *attention.masks) for attention in case.attentions]
    return [bias for bias in biases if bias is not None]


@_cached
def ignored(case: Case) -> dict[str, np.ndarray]:
    """{input name: bool array (N, length)}: the positions that are hidden from every query of every attention.

    Inputs without hidden positions are left out. For scaled_dot_product_attention the shape is (*batch, S).
    """
    if isinstance(case, DotProduct):
        return _ignored_by_scaled_dot_product(case)
    result: dict[str, Any] = {}  # False where an attention sees every position
    for attention in case.attentions:
        bias, source = merged_bias(case, *attention.masks), attention.keys
        if bias is not None:
            hidden = meaning.hidden(bias).all(axis=(1, 2))
            hidden = np.broadcast_to(hidden, (case.samples, hidden.shape[-1]))
        result[source] = False if bias is None else result.get(source, True) & hidden
    return {source: hidden for source, hidden in result.items() if np.any(hidden)}


@_cached
def hidden(case: Case) -> list[np.ndarray]:
    """[bool (N, H or 1, L, S)]: where a key is hidden from a query, of each attention; of SDPA (*batch, L, S).

    Masks are in the dtype that scores are computed in, in which a low number may be -inf. Appended keys are left out.
    """
    if isinstance(case, DotProduct):
        return [_hidden_by(case, [_as_added(case, bias) for bias in biases(case)])]
    result = []
    for block, attention in zip(case.sources, case.attentions, strict=True):
        bias = merged_bias(case, *attention.masks)
        where = np.zeros((1, 1, 1, 1), bool) if bias is None else meaning.hidden(_as_added(case, bias))
        lengths = case.number_of_queries(block), case.number_of_keys(block)
        result.append(np.broadcast_to(where, (case.samples, where.shape[1], *lengths)))
    return result


def _as_added(case, bias):
    """The bias in the dtype that scores are computed in."""
    dtype = computed_in(case)
    return bias if dtype == case.dtype else rounded(bias, dtype)


def _hidden_by(case, biases):
    """bool (*batch, L, S): where the biases or `is_causal` of a call of scaled_dot_product_attention hide a key."""
    where = meaning.causal(case.L, case.S) if case.is_causal else np.zeros((case.L, case.S), bool)
    for bias in biases:
        where = where | meaning.hidden(bias)
    return np.broadcast_to(where, (*case.batch, case.L, case.S))


def _ignored_by_scaled_dot_product(case):
    hidden = _hidden_by(case, biases(case))
    if fills_with_a_number(case):  # a fully masked query attends to all keys
        hidden = hidden & ~hidden.all(axis=-1, keepdims=True)
    hidden = hidden.all(axis=-2)
    if case.kv_heads is not None:
        group = case.batch[-1] // case.kv_heads
        hidden = hidden.reshape(*case.batch[:-1], case.kv_heads, group, case.S).all(axis=-2)
    return {"key": hidden} if hidden.any() else {}


@_cached
def inputs(case: Case) -> dict[str, np.ndarray]:
    """{name: array} of the input sequences of the case; self-attention has a query only.

    Shapes: (N, length, features); for scaled_dot_product_attention (*batch, length, features); static_k and static_v
    (N * num_heads, S, head_dim). Contents are normal, of order 1. Positions hidden from every query are huge with
    `garbage`, and NaN or inf with `nonfinite`.
    """
    if isinstance(case.seed, GivenContents):
        return dict(case.seed.inputs)
    rng = np.random.default_rng([case.seed, 0])
    arrays = {name: _short(rng.normal(0, 1, shape), case) for name, shape in case.input_shapes.items()}
    if case.layout == "expanded":
        arrays |= {name: _alike(arrays[name], axis) for name, axis in _alike_along(case).items()}
    arrays = {name: _sample(case, name, array) for name, array in arrays.items()}
    if case.mode == ONE_TENSOR.id and len(set(case.input_shapes.values())) == 1:
        arrays |= dict.fromkeys(("key", "value"), arrays["query"])
    if case.mode == FIRST_AS_LAST.id:
        arrays |= _as_last(arrays)
    if case.attention == "copies":
        arrays |= {name: arrays["query"].copy() for name in ("key", "value")}
    if case.nan_query and len(rows := np.argwhere(_sees_something(case, arrays["query"].shape[:-1]))):
        arrays["query"][tuple(np.random.default_rng([case.seed, 5]).choice(rows))] = np.nan
    if case.garbage:
        for source, positions in ignored(case).items():
            for name in {source, "value"} & set(arrays):
                arrays[name][positions] *= GARBAGE[computed_in(case)]
    if case.nonfinite:
        for name, positions in nonfinite_positions(case).items():
            if name in arrays:
                arrays[name][positions] = np.copysign(float(case.nonfinite), arrays[name][positions])
    if case.attention == "copies":
        arrays["query"] = arrays["key"]
    return arrays


def _alike_along(case):
    """{input name: axis} of the inputs whose parts are equal along the axis, so that a tensor can be expanded.

    Keys and values of equal heads, as where heads are repeated for groups of queries, or queries of equal samples.
    """
    if isinstance(case, DotProduct) and len(case.batch) > 1 and case.seed % 2:
        return {"key": len(case.batch) - 1, "value": len(case.batch) - 1}
    return {case.query_input: 0}


def _alike(array, axis):
    """The array with its first part along the axis in place of all parts."""
    return np.repeat(array.take([0], axis), array.shape[axis], axis) if array.size else array


def _as_last(arrays):
    """{name: array} of the last sequence, which has the contents of the first if their shapes are equal."""
    first, *_, last = [name for name in ("query", "key", "value", "src", "tgt", "memory") if name in arrays] * 2
    return {last: arrays[first]} if arrays[first].shape == arrays[last].shape else {}


def nonfinite_positions(case: Case) -> dict[str, np.ndarray]:
    """{input name: bool array (N, length)}: the positions of NaN or inf; shapes as in `ignored`.

    For scaled_dot_product_attention the seed chooses key, value or both.
    """
    positions = {source: hidden for source, hidden in ignored(case).items() if case.nonfinite}
    if "key" in positions:
        spoiled = (("key", "value"), ("key",), ("value",))[0 if case.has_parameters else case.seed % 3]
        widths = {} if case.has_parameters else {"key": case.D, "value": case.Dv}
        positions |= dict.fromkeys((name for name in spoiled if widths.get(name, 1)), positions.pop("key"))
    if case.attention == "query_is_key" and "query" in positions:
        positions |= {"value": positions["query"]}
    return positions


def _sees_something(case, shape):
    """True for each query that may attend to some key, or if S is 0: a bool array of `shape`, (N, L) or (*batch, L)."""
    if case.S == 0:
        return np.ones(shape, bool)
    if isinstance(case, DotProduct):
        return ~_hidden_by(case, biases(case)).all(axis=-1)
    bias = merged_bias(case, "attn_mask", "key_padding_mask")
    if bias is None:
        return np.ones(shape, bool)
    return ~np.broadcast_to(meaning.hidden(bias), (case.N, case.num_heads, case.L, case.S)).all(axis=-1).any(axis=1)


@_cached
def parameters(case: Case) -> dict[str, np.ndarray]:
    """{name in the state_dict of the module: array}. Matrices have norms about 1, norm weights are about 1.

    The other parameters are normal with standard deviation 0.5.
    """
    if isinstance(case.seed, GivenContents):
        return dict(case.seed.parameters)
    shapes = _parameter_shapes(case)
    numbers = np.random.default_rng([case.seed, 1]).normal(0, 1, sum(map(prod, shapes.values())))
    for name, array in _in_shapes(numbers, shapes).items():
        if "norm" in name and name.endswith("weight"):
            array /= 4
            array += 1
        else:
            array /= np.sqrt(array.shape[1]) if array.ndim == 2 else 2
    return _in_shapes(_short(numbers, case), shapes)


def _in_shapes(numbers, shapes):
    """{name: array}: consecutive parts of the numbers, as views. One operation on all numbers is faster than many."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        arrays[name] = numbers[start : start + prod(shape)].reshape(shape)
        start += prod(shape)
    return arrays


def _parameter_shapes(case):
    if not case.has_parameters:
        return {}
    if isinstance(case, MultiHead):
        return _attention_shapes(case)
    encoder, decoder = _encoder_layer_shapes(case), _decoder_layer_shapes(case)
    norm = _norm_shapes(case, "norm") if case.norm else {}
    if case.module == "TransformerEncoderLayer":
        return encoder
    if case.module == "TransformerDecoderLayer":
        return decoder
    if case.module == "TransformerEncoder":
        return _stacked(case, encoder) | norm
    if case.module == "TransformerDecoder":
        return _stacked(case, decoder) | norm
    norm = _norm_shapes(case, "norm")
    stacks = {"encoder": _stacked(case, encoder) | norm, "decoder": _stacked(case, decoder) | norm}
    return {f"{stack}.{name}": shape for stack, shapes in stacks.items() for name, shape in shapes.items()}


def _stacked(case, layer):
    return {f"layers.{i}.{name}": shape for i in range(case.num_layers) for name, shape in layer.items()}


def _encoder_layer_shapes(case):
    return (
        {f"self_attn.{name}": shape for name, shape in _attention_shapes(case).items()}
        | _feed_forward_shapes(case)
        | _norm_shapes(case, "norm1", "norm2")
    )


def _decoder_layer_shapes(case):
    return (
        _encoder_layer_shapes(case)
        | {f"multihead_attn.{name}": shape for name, shape in _attention_shapes(case).items()}
        | _norm_shapes(case, "norm3")
    )


def _attention_shapes(case):
    E = case.E
    shapes = {"in_proj_weight": (3 * E, E)}
    if case.separate_projections:
        shapes = {
            "q_proj_weight": (E, E),
            "k_proj_weight": (E, case.kdim or E),
            "v_proj_weight": (E, case.vdim or E),
        }
    shapes["out_proj.weight"] = (E, E)
    if case.bias:
        shapes |= {"in_proj_bias": (3 * E,), "out_proj.bias": (E,)}
    if case.add_bias_kv:
        shapes |= {"bias_k": (1, 1, E), "bias_v": (1, 1, E)}
    return shapes


def _feed_forward_shapes(case):
    E, F = case.E, case.dim_feedforward
    weights = {"linear1.weight": (F, E), "linear2.weight": (E, F)}
    return weights | {"linear1.bias": (F,), "linear2.bias": (E,)} if case.bias else weights


def _norm_shapes(case, *names):
    kinds = ("weight", "bias") if case.bias else ("weight",)
    return {f"{name}.{kind}": (case.E,) for name in names for kind in kinds}


def _is_late(case, name):
    """True if the parameter belongs to the last layer of a stack, or to no stacked layer."""
    return "layers." not in name or f"layers.{case.num_layers - 1}." in name


@_cached
def the_parameter(case: Case) -> str:
    """The name of the parameter that requires a gradient with autograd="one_parameter"."""
    if isinstance(case.seed, GivenContents):
        return case.seed.trained
    names = [name for name in parameters(case) if _is_late(case, name)]
    return names[case.seed % len(names)]


def the_input(case: Case) -> str:
    """The name of the input that requires a gradient with autograd="one_input"."""
    names = list(inputs(case))
    return names[case.seed % len(names)]


def is_trained(case: Case, name: str) -> bool:
    """True if the parameter of this name requires a gradient."""
    if case.autograd == "last_layer":
        return _is_late(case, name)
    if case.autograd == "one_parameter":
        return name == the_parameter(case)
    return case.autograd in ("grad", "no_grad", "inference_mode", "parameters", LEARNED)


@_cached
def directions(case: Case) -> dict[str, np.ndarray]:
    """{name: array} for each tensor that requires a gradient: the direction of the directional derivative."""
    if isinstance(case.seed, GivenContents):
        return {}
    moving = dict(inputs(case)) if case.autograd in ("grad", "inputs") else {}
    if case.autograd == "one_input":
        moving = {the_input(case): inputs(case)[the_input(case)]}
    if case.autograd in ("grad", "mask", LEARNED):
        moving |= {name: array for name, array in mask_arrays(case).items() if array.dtype != bool}
    if case.autograd in ("grad", "parameters", "last_layer", "one_parameter", LEARNED):
        moving |= {name: array for name, array in parameters(case).items() if is_trained(case, name)}
    shapes = {name: array.shape for name, array in moving.items()}
    numbers = np.random.default_rng([case.seed, 2]).normal(0, 1, sum(map(prod, shapes.values())))
    return {name: _of_mask(case, name, array) for name, array in _in_shapes(_short(numbers, case), shapes).items()}


def _of_mask(case, name, direction):
    """The direction; that of a mask with a dtype of its own is rounded to this dtype."""
    mask = masks_of(case).get(name)
    return rounded(direction, mask.dtype).astype(direction.dtype) if mask and mask.dtype else direction


def coarsest(case: Case) -> str:
    """The dtype with the fewest digits among those of the gradients."""
    moving = (mask.dtype for name, mask in masks_of(case).items() if mask.dtype and name in directions(case))
    return max((computed_in(case), *moving), key=lambda dtype: PRECISIONS[dtype].eps)


def merged_in(case: Case) -> str:
    """The dtype with the fewest digits in which both masks of an attention are added; else that of the computation."""
    both = (its.masks for its in case.attentions if all(getattr(case, name) for name in its.masks))
    dtypes = (merged_dtype(case, *names) or case.dtype for names in both)
    return max((computed_in(case), *dtypes), key=lambda dtype: PRECISIONS[dtype].eps)


def _short(array, case):
    """The numbers rounded to 3 decimals, so that a report can show them exactly; 0 becomes 0.001.

    An expected 0 is compared exactly, so contents avoid 0.
    """
    short = np.round(array, 3)
    return rounded(np.where(short == 0, 0.001, short), case.dtype)


def forget() -> None:
    """Empty the caches, which otherwise keep the arrays of the last cases."""
    for function in (mask_arrays, merged_bias, largest_score, ignored, hidden, inputs, parameters, directions):
        function.cache_clear()
    the_parameter.cache_clear()
