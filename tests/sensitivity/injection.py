"""How a fault gets into the installed torch: its own source with one change, or a wrapper around an operator."""

import functools
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import dedent
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import transformer

from tests.harness.cases.case import Case
from tests.harness.modes.modes import NOT_ASKED


@dataclass(frozen=True)
class Patch:
    """owner.name is replaced by make(owner.name).

    when: of a namespace of a call's arguments, whether it can make a difference there; None where that is not known.
    """

    owner: object
    name: str
    make: Callable
    when: Callable | None = None


@dataclass(frozen=True)
class Fault:
    """One fault. title: what goes wrong, in words. shows: a call, on which it can be seen, as a case or a function.

    lets_pass: whether all that goes wrong is that an error is not raised.
    """

    id: str
    title: str
    patch: Patch
    shows: Case | Callable
    lets_pass: bool = False


_TRANSLATED = ("scripted", "exported_strict")


@contextmanager
def injected(fault):
    """While this lasts, torch has the fault."""
    patch = fault.patch
    original = vars(patch.owner)[patch.name]
    with without_translations():
        setattr(patch.owner, patch.name, patch.make(original))
        try:
            yield
        finally:
            setattr(patch.owner, patch.name, original)


@contextmanager
def without_translations():
    """While this lasts, nothing is scripted or exported strictly.

    What stands in the place of a function of torch's, right or wrong, cannot be: see controls.py.
    """
    NOT_ASKED.update(_TRANSLATED)
    try:
        yield
    finally:
        NOT_ASKED.difference_update(_TRANSLATED)


# ---- the source with one change ------------------------------------------------------------------------------------


def edit(owner, name, old, new, when=None):
    """The function with `old`, which its source has exactly once, replaced by `new`. when: see Patch."""

    def make(original):
        source = dedent(inspect.getsource(original))
        if source.count(old) != 1:
            raise ValueError(f"{name} has {source.count(old)} times: {old}")
        scope = {}
        names = getattr(original, "__func__", original).__globals__  # of a static method, those of its function
        exec(compile(source.replace(old, new), f"<{name} with a fault>", "exec"), names, scope)
        return scope[name]

    return Patch(owner, name, make, when)


def edit_attention(old, new, when=None):
    return edit(F, "multi_head_attention_forward", old, new, when)


def edit_module(module, old, new, method="forward"):
    return edit(getattr(nn, module), method, old, new)


def edit_helper(name, old, new):
    """A function of torch/nn/modules/transformer.py."""
    return edit(transformer, name, old, new)


# ---- a wrapper around one function ---------------------------------------------------------------------------------

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_PROJECTIONS = ("qkv_weight", "qkv_bias", "proj_weight", "proj_bias")
_NORMS = ("norm_weight_1", "norm_bias_1", "norm_weight_2", "norm_bias_2")
_FEED_FORWARD = ("ffn_weight_1", "ffn_bias_1", "ffn_weight_2", "ffn_bias_2")
_POSITIONAL = {
    "scaled_dot_product_attention": _SDPA,
    "_native_multi_head_attention": (
        *("query", "key", "value", "embed_dim", "num_head", *_PROJECTIONS),
        *("mask", "need_weights", "average_attn_weights", "mask_type"),
    ),
    "_transformer_encoder_layer_fwd": (
        *("src", "embed_dim", "num_heads", *_PROJECTIONS, "use_gelu", "norm_first", "eps", *_NORMS, *_FEED_FORWARD),
        *("mask", "mask_type"),
    ),
    "_nested_tensor_from_mask": ("t", "mask", "mask_check"),
    "_canonical_mask": (),
    "softmax": ("input",),
}


def wrap(owner, name, before=None, after=None, when=lambda call: True):
    """The function with its arguments changed by before(call), its result by after(result, call), where when(call).

    call: a namespace of the arguments, in which those that are not given are None.
    """

    def make(original):
        @standing_in(original)
        def faulty(*args, **kwargs):
            call = arguments_of(original, name, args, kwargs)
            if not when(call):
                return original(*args, **kwargs)
            if before:
                before(call)
            result = original(**vars(call))
            return after(result, call) if after else result

        return faulty

    return Patch(owner, name, make, when)


def standing_in(original):
    """A decorator of what takes the place of this function of torch's.

    A CausalBias is a mask that comes before scaled_dot_product_attention itself; elsewhere it is one like any other.
    """

    def decorate(function):
        @functools.wraps(function)
        def asking(*args, **kwargs):
            masks = [value for value in (*args, *kwargs.values()) if type(value).__name__ == "CausalBias"]
            if masks:
                return type(masks[0]).__torch_function__(F.scaled_dot_product_attention, (), args, kwargs)
            return function(*args, **kwargs)

        return asking if original.__name__ == "scaled_dot_product_attention" else function

    return decorate


class _Arguments(SimpleNamespace):
    def __getattr__(self, name):
        return None


def arguments_of(function, name, args, kwargs):
    """A namespace of the arguments of a call of the function of that name, in which those not given are None."""
    names = _POSITIONAL[name] if name in _POSITIONAL else inspect.signature(function).parameters
    return _Arguments(**dict(zip(names, args, strict=False)) | kwargs)


def sdpa(**how):
    return wrap(F, "scaled_dot_product_attention", **how)


def native_attention(**how):
    return wrap(torch, "_native_multi_head_attention", **how)


def native_layer(**how):
    return wrap(torch, "_transformer_encoder_layer_fwd", **how)


def canonical(change, when=lambda call: True):
    """What F._canonical_mask returns, changed by change(mask, call) where when(call)."""
    return wrap(F, "_canonical_mask", after=lambda mask, call: None if mask is None else change(mask, call), when=when)


# ---- how arguments are changed -------------------------------------------------------------------------------------


def masked(call):
    """True if scaled_dot_product_attention is given a mask."""
    return call.attn_mask is not None


def has_mask(call):
    """True if a native operator is given a mask."""
    return call.mask is not None


def bool_mask(call):
    return masked(call) and call.attn_mask.dtype == torch.bool


def float_mask(call):
    return masked(call) and call.attn_mask.is_floating_point()


def put(name, change):
    """before: the argument of that name becomes change(argument)."""

    def before(call):
        setattr(call, name, change(getattr(call, name)))

    return before


def drop_mask(call):
    """before: no mask."""
    call.attn_mask = None


def visible(mask):
    """A mask of the same kind that hides nothing."""
    return torch.ones_like(mask) if mask.dtype == torch.bool else torch.zeros_like(mask)


def at(index, change=visible):
    """The mask with one part of it changed."""

    def changed(mask):
        mask = mask.clone()
        mask[index] = change(mask[index])
        return mask

    return changed
