"""Put a fault into the installed torch: edit the source of one function, or wrap an operator."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import dedent
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import transformer

from tests.harness.cases.case import Case
from tests.harness.modes import pairs
from tests.harness.modes.mode import NOT_ASKED


@dataclass(frozen=True)
class Patch:
    """Replaces the function `owner.name` with `make(owner.name)`."""

    owner: object  # module or class that holds the function
    name: str  # name of the function in its owner
    make: Callable[[Callable], Callable]  # from the original function to the faulty one
    # True if the patch can change a call with these arguments (a namespace, see arguments_of); None if unknown.
    when: Callable[[SimpleNamespace], bool] | None = None


@dataclass(frozen=True)
class Fault:
    """One fault."""

    id: str  # stable name
    title: str  # description for docs/sensitivity.md
    patch: Patch  # the change of torch
    shows: Case | Callable[[], torch.Tensor] | None  # a call whose outcome the fault changes; None for a control
    lets_pass: bool = False  # True if the only effect is that an error is not raised


_TRANSLATED = ("scripted", "exported_strict", "compiled_fullgraph")


@contextmanager
def injected(fault: Fault) -> Iterator[None]:
    """Context manager: torch has the fault inside the block."""
    patch = fault.patch
    original = vars(patch.owner)[patch.name]
    with without_translations():
        setattr(patch.owner, patch.name, patch.make(original))
        pairs.end()  # processes that are forked from now on have the fault
        try:
            yield
        finally:
            setattr(patch.owner, patch.name, original)
            pairs.end()


@contextmanager
def without_translations() -> Iterator[None]:
    """Context manager: no case is scripted, exported strictly or compiled as one graph inside the block.

    These cannot translate a function that replaces one of torch's, right or wrong (see controls.py).
    """
    NOT_ASKED.update(_TRANSLATED)
    try:
        yield
    finally:
        NOT_ASKED.difference_update(_TRANSLATED)


# ---- edited source -------------------------------------------------------------------------------------------------


def edit(owner: object, name: str, old: str, new: str, when: Callable[[SimpleNamespace], bool] | None = None) -> Patch:
    """The patch that replaces `old` with `new` in the source of the function `owner.name`.

    Applying the patch raises ValueError unless the source contains `old` exactly once. when: see Patch.
    """

    def make(original):
        source = dedent(inspect.getsource(original))
        if source.count(old) != 1:
            raise ValueError(f"{name} has {source.count(old)} times: {old}")
        scope = {}
        names = getattr(original, "__func__", original).__globals__  # a static method has none of its own
        exec(compile(source.replace(old, new), f"<{name} with a fault>", "exec"), names, scope)
        return scope[name]

    return Patch(owner, name, make, when)


def edit_attention(old: str, new: str, when: Callable[[SimpleNamespace], bool] | None = None) -> Patch:
    """The edit of F.multi_head_attention_forward."""
    return edit(F, "multi_head_attention_forward", old, new, when)


def edit_module(module: str, old: str, new: str, method: str = "forward") -> Patch:
    """The edit of a method of a class in torch.nn."""
    return edit(getattr(nn, module), method, old, new)


def edit_helper(name: str, old: str, new: str) -> Patch:
    """The edit of a function in torch/nn/modules/transformer.py."""
    return edit(transformer, name, old, new)


# ---- wrapped functions ---------------------------------------------------------------------------------------------

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


def wrap(
    owner: object,
    name: str,
    before: Callable[[SimpleNamespace], None] | None = None,
    after: Callable[[object, SimpleNamespace], object] | None = None,
    when: Callable[[SimpleNamespace], bool] = lambda call: True,
) -> Patch:
    """The patch that changes arguments and result of the function `owner.name`, in calls for which when(call) holds.

    before(call) changes the arguments in place; after(result, call) returns the changed result.
    call: a namespace of the arguments; an argument that is not given is None.
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


def standing_in(original: Callable) -> Callable[[Callable], Callable]:
    """Decorator for the function that replaces `original`.

    A CausalBias overrides scaled_dot_product_attention through __torch_function__. The decorated replacement passes
    calls with a CausalBias on to this override. The replacement of any other function is returned unchanged.
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


def arguments_of(function: Callable, name: str, args: tuple, kwargs: dict[str, object]) -> SimpleNamespace:
    """The arguments of function(*args, **kwargs) by name; an argument that is not given reads as None.

    name: the function's name, for operators without a Python signature.
    """
    names = _POSITIONAL[name] if name in _POSITIONAL else inspect.signature(function).parameters
    return _Arguments(**dict(zip(names, args, strict=False)) | kwargs)


def sdpa(**how: Callable) -> Patch:
    """The wrapper of F.scaled_dot_product_attention; how: before, after, when (see wrap)."""
    return wrap(F, "scaled_dot_product_attention", **how)


def native_attention(**how: Callable) -> Patch:
    """The wrapper of torch._native_multi_head_attention; how: before, after, when (see wrap)."""
    return wrap(torch, "_native_multi_head_attention", **how)


def native_layer(**how: Callable) -> Patch:
    """The wrapper of torch._transformer_encoder_layer_fwd; how: before, after, when (see wrap)."""
    return wrap(torch, "_transformer_encoder_layer_fwd", **how)


def canonical(
    change: Callable[[torch.Tensor, SimpleNamespace], torch.Tensor],
    when: Callable[[SimpleNamespace], bool] = lambda call: True,
) -> Patch:
    """The wrapper of F._canonical_mask that replaces a returned mask with change(mask, call) if when(call) holds."""
    return wrap(F, "_canonical_mask", after=lambda mask, call: None if mask is None else change(mask, call), when=when)


# ---- conditions (when) and changes of arguments (before) -----------------------------------------------------------


def masked(call: SimpleNamespace) -> bool:
    """True if the call of scaled_dot_product_attention has a mask."""
    return call.attn_mask is not None


def has_mask(call: SimpleNamespace) -> bool:
    """True if the call of a native operator has a mask."""
    return call.mask is not None


def bool_mask(call: SimpleNamespace) -> bool:
    """True if the call of scaled_dot_product_attention has a bool mask."""
    return masked(call) and call.attn_mask.dtype == torch.bool


def float_mask(call: SimpleNamespace) -> bool:
    """True if the call of scaled_dot_product_attention has a float mask."""
    return masked(call) and call.attn_mask.is_floating_point()


def put(name: str, change: Callable[[object], object]) -> Callable[[SimpleNamespace], None]:
    """A `before` that replaces the argument `name` with change(argument)."""

    def before(call):
        setattr(call, name, change(getattr(call, name)))

    return before


def drop_mask(call: SimpleNamespace) -> None:
    """A `before` that removes the mask of scaled_dot_product_attention."""
    call.attn_mask = None


def visible(mask: torch.Tensor) -> torch.Tensor:
    """A mask of SDPA, of the shape and dtype of `mask`, that hides nothing: True, or 0 in a float mask."""
    return torch.ones_like(mask) if mask.dtype == torch.bool else torch.zeros_like(mask)


def at(
    index: object, change: Callable[[torch.Tensor], torch.Tensor] = visible
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function that copies a mask and replaces mask[index] with change(mask[index])."""

    def changed(mask):
        mask = mask.clone()
        mask[index] = change(mask[index])
        return mask

    return changed
