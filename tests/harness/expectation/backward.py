"""NaN in gradients, and second derivatives: the derivative in a second formulation, in reverse mode.

A Traced array records the operations that made it, and `gradients` runs their backward formulas. Finite gradients agree
with reference/derivative.py. A backward pass multiplies, and 0 * NaN is NaN even for results that the loss leaves out:
only this formulation tells where gradients are NaN. The gradients at displaced arguments (reference/derivative.py) are
complex, and their imaginary parts are second derivatives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from reference.attention import MultiHeadAttention, linear
from reference.derivative import derivative, displaced
from reference.flex import BlockMask, ScoreMod, attend_by_scores
from reference.masks import causal, hidden, over_heads, over_queries
from reference.transformer import gelu, gelu_tanh, relu, silu

from ..cases.case import Case, FlexAttention
from ..cases.dtypes import LOW
from ..contents.arrays import mask_arrays
from ..modes.modes import BY_ID, computed_in
from ..modes.written import fills
from ..path_names import AS_WRITTEN, SDPA_FLASH
from .arithmetic import computed_keys
from .changes import with_kernel, with_layers
from .specification import Computation

_EVERY_ATTENTION = ("self", "src", "tgt", "memory")


class Traced(NDArrayOperatorsMixin):
    """A NumPy array that records the operations that made it.

    value: the array. parents: pairs of a Traced operand and a function: gradient of this array -> gradient of the
    operand.
    """

    def __init__(self, value, parents=()):
        self.value, self.parents = np.asarray(value), parents

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    real = property(lambda self: self.value.real)  # read by comparisons only
    T = property(lambda self: np.transpose(self))

    def __array_ufunc__(self, ufunc, method, *given, **options):
        values = [plain(x) for x in given]
        value = getattr(ufunc, method)(*values, **options)
        if ufunc not in _PULLS:  # a comparison has no derivative
            return value
        pulls = zip(given, _PULLS[ufunc](value, *values), strict=True)
        return Traced(value, [(x, _fitting(pull, x.shape)) for x, pull in pulls if isinstance(x, Traced)])

    def __array_function__(self, function, types, given, options):
        if function in _MOVES:
            return _moved(function, given, options)
        return function(*map(plain, given), **{name: plain(value) for name, value in options.items()})

    def __getitem__(self, where):
        return _moved(lambda array: array[where], (self,), {})

    def reshape(self, *shape: int) -> "Traced":
        """As numpy.ndarray.reshape."""
        return _moved(lambda array: array.reshape(*shape), (self,), {})

    def transpose(self, *axes: int) -> "Traced":
        """As numpy.ndarray.transpose."""
        return _moved(lambda array: array.transpose(*axes), (self,), {})

    def swapaxes(self, *axes: int) -> "Traced":
        """As numpy.ndarray.swapaxes."""
        return _moved(lambda array: array.swapaxes(*axes), (self,), {})

    def sum(self, axis: int, keepdims: bool = False) -> "Traced":
        """As numpy.ndarray.sum over one axis."""

        def pull(gradient):
            return np.broadcast_to(gradient if keepdims else np.expand_dims(gradient, axis), self.shape)

        return Traced(self.value.sum(axis=axis, keepdims=keepdims), [(self, pull)])

    def mean(self, axis: int, keepdims: bool = False) -> "Traced":
        """As numpy.ndarray.mean over one axis, but 0 if that axis is empty."""
        return self.sum(axis, keepdims) / max(self.shape[axis], 1)


def plain(x: Any) -> Any:
    """The NumPy array of a Traced array; lists and tuples element by element; other values unchanged."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x))
    return x.value if isinstance(x, Traced) else x


def _turned(array):
    return np.swapaxes(array, -1, -2)


# Of (result, *operands): for each operand a function, gradient of the result -> gradient of the operand.
_PULLS = {
    np.add: lambda z, a, b: (lambda g: g, lambda g: g),
    np.subtract: lambda z, a, b: (lambda g: g, lambda g: -g),
    np.multiply: lambda z, a, b: (lambda g: g * b, lambda g: g * a),
    np.divide: lambda z, a, b: (lambda g: g / b, lambda g: -g * z / b),
    np.sqrt: lambda z, a: (lambda g: g / (2 * z),),
    np.tanh: lambda z, a: (lambda g: g * (1 - z * z),),
    np.matmul: lambda z, a, b: (lambda g: g @ _turned(b), lambda g: _turned(a) @ g),
}


def _fitting(pull, shape):
    """`pull`, then summed over the axes that broadcasting added to an operand of this shape, or repeated."""

    def fitting(gradient):
        gradient = pull(gradient)
        gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
        repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis])
        return gradient.sum(axis=repeated, keepdims=True)

    return fitting


_MOVES = {np.broadcast_to, np.concatenate, np.expand_dims, np.repeat, np.reshape, np.split, np.swapaxes, np.transpose}
_MOVES |= {np.where}


def _moved(function, given, options):
    """The result of a function that only moves elements.

    The function is applied to the numbers of the elements, too: they tell which element each gradient belongs to.
    """
    arrays = [x for array in given for x in (array if isinstance(array, (list, tuple)) else [array])]
    arrays = [x for x in arrays if isinstance(x, Traced)]
    starts = np.cumsum([0, *(x.size for x in arrays)])
    numbers = {id(x): start + np.arange(x.size).reshape(x.shape) for x, start in zip(arrays, starts, strict=False)}

    def numbered(x):
        if isinstance(x, Traced):
            return numbers[id(x)]
        return np.full(np.shape(x), -1)

    first, *others = given
    if isinstance(first, (list, tuple)):
        sources = function([numbered(x) for x in first], *others, **options)
    elif function is np.where:
        sources = function(first, *map(numbered, others))
    else:
        sources = function(numbered(first), *others, **options)
    results = function(*map(plain, given), **options)
    if isinstance(results, list):
        return [_from(*pair, arrays, starts) for pair in zip(results, sources, strict=True)]
    return _from(results, sources, arrays, starts)


def _from(value, source, arrays, starts):
    """A Traced value. source: for each element the number of the element that it came from, -1 for a constant."""

    def pulling(start, shape):
        def pull(gradient):
            size = int(np.prod(shape))
            is_its = (source >= start) & (source < start + size)
            added = partial(np.bincount, source[is_its] - start, minlength=size)
            if np.iscomplexobj(gradient):
                return (added(gradient.real[is_its]) + 1j * added(gradient.imag[is_its])).reshape(shape)
            return added(gradient[is_its]).reshape(shape)

        return pull

    return Traced(value, [(x, pulling(start, x.shape)) for x, start in zip(arrays, starts, strict=False)])


def gradients(
    results: Mapping[str, Any], cotangents: Mapping[str, np.ndarray], leaves: Mapping[str, Traced]
) -> dict[str, np.ndarray]:
    """{name: gradient} of the leaves {name: Traced}, for the loss sum(results * cotangents), both {name: array}."""
    results = {name: result for name, result in results.items() if isinstance(result, Traced)}
    found = {id(result): cotangents[name] for name, result in results.items()}
    for node in reversed(_in_order(results.values())):
        gradient = found.get(id(node))
        for parent, pull in node.parents if gradient is not None else ():
            found[id(parent)] = found.get(id(parent), 0) + pull(gradient)
    return {name: found.get(id(leaf), np.zeros(leaf.shape)) for name, leaf in leaves.items()}


def _in_order(results):
    """All arrays that the results depend on, each behind its parents."""
    order, seen, stack = [], set(), [(result, False) for result in results]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack += [(node, True), *((parent, False) for parent, _ in node.parents)]
    return order


# ---- the parts of a module -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BackwardPass:
    """Facts about a call on a release that decide which of its gradients are NaN."""

    # True if torch fills a bool padding mask into a float mask instead of adding both: the float mask then gets no
    # gradient at padded keys, not even NaN
    fills: bool = False
    # sources of the blocks for which scaled_dot_product_attention gets is_causal=True in the place of a mask
    causal: tuple[str, ...] = ()
    # True if scaled_dot_product_attention calls no kernel, since a size is 0: all of its gradients are 0
    calls_nothing: bool = False
    # True if each bool mask replaces the scores of hidden keys by -inf: they get no gradient, not even NaN
    replaces: bool = False


PLAIN = BackwardPass()


def traced(
    computation: Computation, case: Case, served: Sequence[str] = (), backward_pass: BackwardPass = PLAIN
) -> Computation:
    """The computation for Traced arrays: attention and activations have backward formulas of their own.

    served: the path of each attention, in order (Observation.served).
    """
    # scaled_dot_product_attention calls itself on unpacked nested tensors: the last call computes
    paths = iter(served if case.has_parameters else served[-1:])
    if isinstance(case, FlexAttention):
        return _traced_by_scores(computation)
    if backward_pass.calls_nothing:
        return with_kernel(computation, lambda kernel: lambda *given: kernel(*map(plain, given)), ("sdpa",))
    for block in case.sources:
        filled = _padding(case, block) if backward_pass.fills else None
        is_causal = block in backward_pass.causal
        replaced = _hidden_by_bool(case, block) if backward_pass.replaces else None
        attending = partial(_Attending, case=case, paths=paths, filled=filled, is_causal=is_causal, replaced=replaced)
        computation = with_kernel(computation, attending, (block,))
    if not case.has_parameters:
        return computation
    if case.static and case.attention == "self" and case.batched:  # without a batch, torch gives three views of it
        computation = replace(computation, function=_ProjectingInOne(**vars(computation.function)))

    def change(layer, _):
        activation = _activating(layer.feed_forward.activation, multiplies=BY_ID[case.mode].is_torchscript)
        return replace(layer, feed_forward=replace(layer.feed_forward, activation=activation))

    return replace(computation, function=with_layers(computation.function, change))


@dataclass(frozen=True)
class _ProjectingInOne(MultiHeadAttention):
    """Self-attention with static keys or values, whose query, key and value are projected by one product.

    The projections that the static ones replace get gradients of 0, which that product multiplies: 0 * NaN is NaN.
    """

    def __call__(self, query, key, value, *masks, **options):
        output, weights = super().__call__(query, key, value, *masks, **options)
        if not isinstance(output, Traced):
            return output, weights
        unused = [linear(key, self.k_weight, self.k_bias), linear(value, self.v_weight, self.v_bias)]
        nothing = [(x, lambda gradient, x=x: np.zeros(x.shape)) for x in unused if isinstance(x, Traced)]
        return Traced(plain(output), [(output, lambda gradient: gradient), *nothing]), weights


def _padding(case, block):
    """bool (N, 1, 1, S): the keys that the bool padding mask of the block hides; None if it has no bool mask."""
    name = "key_padding_mask" if block == "self" else f"{block}_key_padding_mask"
    mask = mask_arrays(case).get(name)
    return None if mask is None or mask.dtype != bool else over_queries(mask)


def _hidden_by_bool(case, block):
    """bool, broadcastable to (N, H, L, S): the keys that bool masks of the block hide; False without bool masks."""
    arrays, padding = mask_arrays(case), _padding(case, block)
    mask = arrays.get(case.mask_names(block)[0])
    is_hidden = np.zeros((1, 1, 1, 1), bool) if padding is None else padding
    return is_hidden if mask is None or mask.dtype != bool else is_hidden | over_heads(mask, case.num_heads)


def _activating(activation, multiplies):
    """The activation for Traced arrays. Its backward pass multiplies by the slope.

    The backward pass of relu selects instead, but in TorchScript it `multiplies`, too.
    """

    def activate(x):
        if (activation is relu and not multiplies) or not isinstance(x, Traced):
            return activation(x)
        slope = derivative(activation(displaced(x.value.real, np.ones(x.shape))))
        if np.iscomplexobj(x.value):
            slope = slope + 1j * x.value.imag * BENDS[activation](x.value.real)
        return Traced(activation(x.value), [(x, lambda gradient: gradient * slope)])

    return activate


def _bend_of_gelu(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * (2 - x**2)


def _bend_of_gelu_tanh(x):
    root, cubic = np.sqrt(2 / np.pi), 0.044715
    tanh = np.tanh(root * (x + cubic * x**3))
    first, second = root * (1 + 3 * cubic * x**2), root * 6 * cubic * x  # derivatives of the argument of tanh
    return (1 - tanh**2) * (first + x * (second / 2 - tanh * first**2))


def _bend_of_silu(x):
    logistic = 0.5 * (1 + np.tanh(0.5 * x))
    return logistic * (1 - logistic) * (2 + x * (1 - 2 * logistic))


# {activation: function of a real array -> its second derivative}
BENDS = {relu: np.zeros_like, gelu: _bend_of_gelu, gelu_tanh: _bend_of_gelu_tanh, silu: _bend_of_silu}


@dataclass(frozen=True, eq=False)
class _Attending:
    """A kernel for Traced arrays, made of a kernel for plain ones.

    paths: of the attentions that are yet to come. filled, is_causal, replaced: the facts of a BackwardPass about this
    block.
    """

    kernel: Callable
    case: Case
    paths: Iterator[str]
    filled: np.ndarray | None
    is_causal: bool
    replaced: np.ndarray | None

    def __call__(self, query, key, value, bias, scale):
        path, given = next(self.paths, None), (query, key, value, bias)
        context, weights = self.kernel(*map(plain, given), scale)
        if not any(isinstance(x, Traced) for x in given):
            return context, weights
        return _Attention(self, path, given, scale, context, weights).traced()


@dataclass(frozen=True, eq=False)
class _Attention:
    """A computed attention, with its backward pass: this multiplies by every weight, also by a weight of 0."""

    its: _Attending
    path: str | None
    given: tuple  # query, key, value and bias: plain or Traced
    scale: float
    context: np.ndarray
    weights: np.ndarray

    def traced(self):
        """(context, weights) as Traced arrays."""
        _, of_value, _, parts = self.blocks
        value, turned = self.given[2], _turned(plain(self.given[2]))
        from_context = [*self.through(lambda gradient: gradient @ turned)]
        from_context += [(value, lambda gradient: _turned_times(of_value, gradient, parts))]
        from_weights = () if self.is_fused else self.through(lambda gradient: gradient)
        return _with_parents(self.context, from_context), _with_parents(self.weights, from_weights)

    def through(self, of_weights):
        """Generates (operand, gradient of a result -> gradient of the operand) for query, key and bias.

        of_weights: gradient of that result -> gradient of the weights.
        """
        query, key, _, bias = self.given
        yield query, lambda gradient: self.product(_times, self.scores(gradient, of_weights), plain(key))
        yield key, lambda gradient: self.product(_turned_times, self.scores(gradient, of_weights), plain(query))
        yield bias, lambda gradient: _unfilled(self.scores(gradient, of_weights), self.its.filled)

    def scores(self, gradient, of_weights):
        """The gradient of the scores (..., L, S) from the gradient of a result."""
        weights, _, is_computed, _ = self.blocks
        its = of_weights(gradient)
        if self.is_fused:  # this kernel computes the sum from the context, which holds more NaN
            slopes = weights * (its - (gradient * self.context).sum(axis=-1, keepdims=True))
            return np.where(is_computed, slopes, 0)
        slopes = weights * (its - (weights * its).sum(axis=-1, keepdims=True))
        if self.path == AS_WRITTEN and fills(self.its.case):  # the score of a hidden key is replaced: no gradient
            return np.where(hidden(plain(self.given[3])), 0, slopes)
        return _unfilled(slopes, self.its.replaced)

    def product(self, multiply, scores, others):
        """The product of a gradient of the scores with queries or keys."""
        *_, parts = self.blocks
        product = multiply(self.scale * scores, others, parts)
        # the fused kernel computes no product that is scaled by 0
        is_none = self.is_fused and self.scale == 0 and computed_in(self.its.case) not in LOW
        return np.zeros_like(product) if is_none else product

    @property
    def is_fused(self):
        return self.path == SDPA_FLASH

    @cached_property
    def blocks(self):
        """What is multiplied, as `_in_blocks` tells it."""
        is_in_blocks = self.is_fused and self.its.is_causal
        return _in_blocks(self.weights) if is_in_blocks else (self.weights, self.weights, True, _WHOLE)


_WHOLE = ((slice(None), slice(None)),)  # one part: all queries and all keys


def _in_blocks(weights):
    """The weights as the backward pass of the CPU's fused causal kernel has them.

    (weights in the gradient of the scores, weights in the gradient of the values, bool: True at computed keys, parts).
    The kernel multiplies whole blocks of keys. It sets the weight of a hidden key to 0 only after NaN has reached it.
    parts: pairs of indices (queries, keys that are computed for them).
    """
    L, S = weights.shape[-2:]
    numbers = computed_keys(L, S)
    is_computed = np.arange(S) < numbers[:, None]
    computed = np.where(is_computed, weights, 0)
    parts = tuple((numbers == number, slice(number)) for number in np.unique(numbers))
    return computed, np.where(causal(L, S), 0, computed), is_computed, parts


def _times(weights, keys, parts):
    """weights (..., L, S) @ keys (..., S, D) over these parts alone: a key that is not computed may be NaN."""
    products = np.zeros((*weights.shape[:-1], keys.shape[-1]), np.result_type(weights, keys))
    for rows, columns in parts:
        products[..., rows, :] = weights[..., rows, :][..., columns] @ keys[..., columns, :]
    return products


def _turned_times(weights, queries, parts):
    """Transposed weights (..., S, L) @ queries (..., L, D) over these parts alone."""
    shape = (*weights.shape[:-2], weights.shape[-1], queries.shape[-1])
    products = np.zeros(shape, np.result_type(weights, queries))
    for rows, columns in parts:
        products[..., columns, :] += _turned(weights[..., rows, :][..., columns]) @ queries[..., rows, :]
    return products


def _traced_by_scores(computation):
    """FlexAttention for Traced arrays. Its backward pass multiplies by every weight, also by a weight of 0.

    A position that mask_mod hides passes no gradient on to query and key, but to a mask that score_mod reads.
    """
    given = computation.arguments
    kernel, block_mask = given.get("kernel", attend_by_scores), given["block_mask"]

    def attending(scores, value, hidden):
        output, logarithm = kernel(plain(scores), plain(value), hidden)
        is_empty = np.isneginf(logarithm)[..., None]
        powers = np.exp(np.where(hidden, -np.inf, plain(scores)) - logarithm[..., None])
        weights, turned = np.where(is_empty, 0, powers), _turned(plain(value))

        def of_scores(gradient):
            return weights * (gradient @ turned - (gradient * output).sum(axis=-1, keepdims=True))

        pulls = [(value, lambda gradient: _turned(weights) @ gradient), (scores, of_scores)]
        of_logarithm = [(scores, lambda gradient: weights * gradient[..., None])]
        return _with_parents(output, pulls), _with_parents(logarithm, of_logarithm)

    score_mod = _Gating(given["score_mod"] or ScoreMod(), block_mask)
    return replace(computation, arguments={**given, "kernel": attending, "score_mod": score_mod})


@dataclass(frozen=True)
class _Gating:
    """A score_mod whose scores get no gradient where the BlockMask hides."""

    score_mod: ScoreMod
    block_mask: BlockMask | None

    def __call__(self, scores):
        if self.block_mask is not None and isinstance(scores, Traced):
            is_kept = self.block_mask.visible(*scores.shape[-2:])
            scores = _with_parents(plain(scores), [(scores, lambda gradient: np.where(is_kept, gradient, 0))])
        return self.score_mod(scores)

    @property
    def hidden(self):
        return self.score_mod.hidden


def _unfilled(scores, filled):
    """The gradient of a mask or of scores, with 0 at filled positions. Appended keys are never filled."""
    if filled is None or not filled.any():
        return scores
    return np.where(np.pad(filled, [(0, 0)] * 3 + [(0, scores.shape[-1] - filled.shape[-1])]), 0, scores)


def _with_parents(value, pulls):
    return Traced(value, [(x, _fitting(pull, x.shape)) for x, pull in pulls if isinstance(x, Traced)])
