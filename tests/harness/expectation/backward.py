"""Where a backward pass makes NaN of a gradient: it multiplies, and 0 * NaN is NaN, whatever the loss leaves out.

A second formulation of the derivative, in reverse: what is computed of a Traced array remembers how, and `gradients`
goes back through it by the usual products of matrices. Values are those of reference/derivative.py; here NaN counts.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from reference.derivative import derivative, displaced
from reference.masks import causal, over_queries
from reference.transformer import relu

from ..cases.case import ScaledDotProduct
from ..cases.dtypes import LOW
from ..contents.arrays import mask_arrays
from ..modes.modes import BY_ID, computed_in
from .arithmetic import computed_keys
from .changes import with_kernel, with_layers

_EVERY_ATTENTION = ("self", "src", "tgt", "memory")


class Traced(NDArrayOperatorsMixin):
    """An array that knows what it was computed from. parents: (Traced, function of its gradient that adds to theirs)"""

    def __init__(self, value, parents=()):
        self.value, self.parents = np.asarray(value), parents

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    dtype = property(lambda self: self.value.dtype)
    real = property(lambda self: self.value)  # of which only comparisons are made
    T = property(lambda self: np.transpose(self))

    def __array_ufunc__(self, ufunc, method, *given, **options):
        values = [plain(x) for x in given]
        value = getattr(ufunc, method)(*values, **options)
        if ufunc not in _PULLS:  # a comparison, of which there is no derivative
            return value
        pulls = zip(given, _PULLS[ufunc](value, *values), strict=True)
        return Traced(value, [(x, _fitting(pull, x.shape)) for x, pull in pulls if isinstance(x, Traced)])

    def __array_function__(self, function, types, given, options):
        if function in _MOVES:
            return _moved(function, given, options)
        return function(*map(plain, given), **{name: plain(value) for name, value in options.items()})

    def __getitem__(self, where):
        return _moved(lambda array: array[where], (self,), {})

    def reshape(self, *shape):
        return _moved(lambda array: array.reshape(*shape), (self,), {})

    def transpose(self, *axes):
        return _moved(lambda array: array.transpose(*axes), (self,), {})

    def swapaxes(self, *axes):
        return _moved(lambda array: array.swapaxes(*axes), (self,), {})

    def sum(self, axis, keepdims=False):
        def pull(gradient):
            return np.broadcast_to(gradient if keepdims else np.expand_dims(gradient, axis), self.shape)

        return Traced(self.value.sum(axis=axis, keepdims=keepdims), [(self, pull)])

    def mean(self, axis, keepdims=False):
        return self.sum(axis, keepdims) / max(self.shape[axis], 1)


def plain(x):
    """The array without what it remembers; the same of each in a list."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(plain, x))
    return x.value if isinstance(x, Traced) else x


def _turned(array):
    return np.swapaxes(array, -1, -2)


_PULLS = {  # of (result, arguments): for each argument, from the gradient of the result to its own
    np.add: lambda z, a, b: (lambda g: g, lambda g: g),
    np.subtract: lambda z, a, b: (lambda g: g, lambda g: -g),
    np.multiply: lambda z, a, b: (lambda g: g * b, lambda g: g * a),
    np.divide: lambda z, a, b: (lambda g: g / b, lambda g: -g * z / b),
    np.sqrt: lambda z, a: (lambda g: g / (2 * z),),
    np.matmul: lambda z, a, b: (lambda g: g @ _turned(b), lambda g: _turned(a) @ g),
}


def _fitting(pull, shape):
    """What was broadcast to the gradient's shape is summed over."""

    def fitting(gradient):
        gradient = pull(gradient)
        gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
        repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis])
        return gradient.sum(axis=repeated, keepdims=True)

    return fitting


_MOVES = {np.broadcast_to, np.concatenate, np.expand_dims, np.repeat, np.reshape, np.split, np.swapaxes, np.transpose}


_MOVES |= {np.where}


def _moved(function, given, options):
    """What only moves elements also moves their numbers, which say where each gradient goes."""
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
    def pulling(start, shape):
        def pull(gradient):
            size = int(np.prod(shape))
            is_its = (source >= start) & (source < start + size)
            return np.bincount(source[is_its] - start, gradient[is_its], minlength=size).reshape(shape)

        return pull

    return Traced(value, [(x, pulling(start, x.shape)) for x, start in zip(arrays, starts, strict=False)])


def gradients(results, cotangents, leaves):
    """{name: array} for the leaves {name: Traced}: of the sum of results times cotangents, both {name: array}."""
    results = {name: result for name, result in results.items() if isinstance(result, Traced)}
    found = {id(result): cotangents[name] for name, result in results.items()}
    for node in reversed(_in_order(results.values())):
        gradient = found.get(id(node))
        for parent, pull in node.parents if gradient is not None else ():
            found[id(parent)] = found.get(id(parent), 0) + pull(gradient)
    return {name: found.get(id(leaf), np.zeros(leaf.shape)) for name, leaf in leaves.items()}


def _in_order(results):
    """All that the results come from, each after its parents."""
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


def traced(computation, case, served=(), fills=False):
    """The computation for Traced arrays: attention and activations know their own derivatives.

    served: the path of each attention, in order (Observation.served). fills: whether a bool padding mask is filled into
    a float mask, which gets no gradient there, not even NaN, and not added to it.
    """
    # a function that takes nested tensors apart calls itself, and the last call computes
    paths = iter(served[-1:] if isinstance(case, ScaledDotProduct) else served)
    for block in _EVERY_ATTENTION if not isinstance(case, ScaledDotProduct) else ("sdpa",):
        filled = _padding(case, block) if fills else None
        attending = partial(_attending, case=case, paths=paths, filled=filled)
        computation = with_kernel(computation, attending, (block,))
    if isinstance(case, ScaledDotProduct):
        return computation

    def change(layer, _):
        activation = _activating(layer.feed_forward.activation, multiplies=BY_ID[case.mode].is_torchscript)
        return replace(layer, feed_forward=replace(layer.feed_forward, activation=activation))

    return replace(computation, function=with_layers(computation.function, change))


def _padding(case, block):
    """bool (N, 1, 1, S): what a bool padding mask of the block hides; None without one."""
    name = "key_padding_mask" if block == "self" else f"{block}_key_padding_mask"
    mask = mask_arrays(case).get(name)
    return None if mask is None or mask.dtype != bool else over_queries(mask)


def _activating(activation, multiplies):
    """An activation of Traced arrays; relu chooses, and so does its derivative, which TorchScript `multiplies` with."""

    def activate(x):
        if (activation is relu and not multiplies) or not isinstance(x, Traced):
            return activation(x)
        slope = derivative(activation(displaced(x.value, np.ones(x.shape))))
        return Traced(activation(x.value), [(x, lambda gradient: gradient * slope)])

    return activate


def _attending(kernel, case, paths, filled):
    """A kernel for Traced arrays. What is 0 in its weights multiplies all the same, going back as there."""

    def attend(query, key, value, bias, scale):
        path = next(paths, None)
        given = (query, key, value, bias)
        q, k, v, mask = map(plain, given)
        context, weights = kernel(q, k, v, mask, scale)
        if not any(isinstance(x, Traced) for x in given):
            return context, weights
        w, of_value, is_computed = weights, weights, True
        if path == "sdpa_flash" and _is_causal_alone(case):
            w, of_value, is_computed = _in_blocks(w)

        # a product that is scaled by 0 is not computed
        is_without_products = path == "sdpa_flash" and scale == 0 and computed_in(case) not in LOW

        def through(of_weights):
            """(what is given, function of a gradient) of the softmax and what comes before it."""

            def scores(gradient):
                its = of_weights(gradient)
                if path == "sdpa_flash":  # it has the sum from the context, where more is NaN
                    slopes = w * (its - (gradient * context).sum(axis=-1, keepdims=True))
                    return np.where(is_computed, slopes, 0)
                return w * (its - (w * its).sum(axis=-1, keepdims=True))

            def products(gradient):
                return np.zeros_like(w) if is_without_products else scale * scores(gradient)

            yield query, lambda gradient: products(gradient) @ k
            yield key, lambda gradient: _turned(products(gradient)) @ q
            yield bias, lambda gradient: _unfilled(scores(gradient), filled)

        from_context = [*through(lambda gradient: gradient @ _turned(v))]
        from_context += [(value, lambda gradient: _turned(of_value) @ gradient)]
        from_weights = through(lambda gradient: gradient) if path != "sdpa_flash" else ()
        return _with_parents(context, from_context), _with_parents(weights, from_weights)

    return attend


def _is_causal_alone(case):
    """True if an attention is told by is_causal=True alone what it hides: beside padding a mask tells."""
    return getattr(case, "is_causal", False) and getattr(case, "key_padding_mask", None) is None


def _in_blocks(weights):
    """(weights in the gradient of scores, in that of values, which are computed) of the CPU's fused kernel if causal.

    It multiplies whole blocks of keys, and makes the weight of a hidden one 0 after all has become NaN.
    """
    L, S = weights.shape[-2:]
    is_computed = np.arange(S) < computed_keys(L, S)[:, None]
    computed = np.where(is_computed, weights, 0)
    return computed, np.where(causal(L, S), 0, computed), is_computed


def _unfilled(scores, filled):
    """The gradient of a mask: 0 where padding is filled in, keys that are appended apart."""
    if filled is None:
        return scores
    return np.where(np.pad(filled, [(0, 0)] * 3 + [(0, scores.shape[-1] - filled.shape[-1])]), 0, scores)


def _with_parents(value, pulls):
    return Traced(value, [(x, _fitting(pull, x.shape)) for x, pull in pulls if isinstance(x, Traced)])
