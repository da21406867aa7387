"""Observes a call of torch from outside: the path of each attention, and the elements that dropout keeps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

from ..cases.case import Case, drops
from ..modes.modes import BY_ID
from ..path_names import (
    EXPLICIT,
    KERNELS,
    NATIVE_ENCODER_LAYER,
    NATIVE_MHA,
    NESTED,
    SDPA_FLASH,
    SDPA_MATH,
    SDPA_NONE,
)
from . import dangers

# (owner, attribute, path): a call of this function of torch means that the attention takes this path.
ENTRY_POINTS = (
    (torch, "_native_multi_head_attention", NATIVE_MHA),
    (torch, "_transformer_encoder_layer_fwd", NATIVE_ENCODER_LAYER),
    (torch, "_nested_tensor_from_mask", NESTED),
    (F, "softmax", EXPLICIT),
)

PATHS = (*(path for *_, path in ENTRY_POINTS), *KERNELS, SDPA_NONE)


@dataclass
class Seen:
    """Observations of one call, in the order of execution."""

    served: list = field(default_factory=list)  # the path of each attention (PATHS)
    kept: list = field(default_factory=list)  # a bool array for each dropout: True in elements that are not 0


@contextmanager
def watching(seen: Seen, case: Case, dares: bool) -> Iterator[None]:
    """Record observations in `seen` while the context is active, if the mode of the case can be watched.

    Calls known to crash raise Withheld (dangers.py), unless `dares`.
    """
    mode = BY_ID[case.mode]
    if not (mode.is_watched or mode.calls_before):
        yield
        return
    if not mode.is_watched:  # calls known to crash are withheld, the earlier ones included; their paths are of no use
        seen = Seen()
    makers = [(owner, name, _noting_path(path)) for owner, name, path in ENTRY_POINTS if hasattr(owner, name)]
    if hasattr(F, "scaled_dot_product_attention"):
        makers.append((F, "scaled_dot_product_attention", _noting_backend))
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in makers]
    for owner, name, make in makers:
        setattr(owner, name, make(getattr(owner, name), seen, case, dares))
    if drops(case):
        originals.append((F, "dropout", F.dropout))
        F.dropout = _noting_dropout(F.dropout, seen)
    try:
        yield
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def _noting_path(path):
    def make(function, seen, _, dares):
        def noting(*args, **kwargs):
            seen.served.append(path)
            if not dares:
                dangers.withhold(path, *args, **kwargs)
            return function(*args, **kwargs)

        return noting

    return make


def _noting_backend(function, seen, case, dares):
    def noting(*args, **kwargs):
        seen.served.append(sdpa_backend(BY_ID[case.mode].lowers, *args, **kwargs))
        if not dares:
            dangers.withhold(seen.served[-1], *args, **kwargs)
        if drops(case) and args[0].device.type == "cpu":
            seen.kept.append(_kept_weights(function, *args, **kwargs))
        return function(*args, **kwargs)

    return noting


def sdpa_backend(lowers: str | None, *args: Any, **kwargs: Any) -> str:
    """The backend that torch reports as its choice. lowers: the dtype to which autocast casts the arguments, if any."""
    if lowers:
        args, kwargs = tree_map(lambda given: _lowered(given, getattr(torch, lowers)), (args, kwargs))
    try:
        with warnings.catch_warnings():  # the call itself repeats the warnings
            warnings.simplefilter("ignore")
            choice = torch._fused_sdp_choice(*args, **kwargs)
    except IndexError:  # the call itself repeats the error
        choice = 0
    except RuntimeError as error:
        if "No available kernel" in str(error):
            return SDPA_NONE
        choice = 0
    kernel = KERNELS[int(choice)]
    return SDPA_MATH if kernel == SDPA_FLASH and _learns_mask(*args, **kwargs) else kernel


def _learns_mask(query, key, value, attn_mask=None, *_, **__):
    """True on CPU for a mask that gets a gradient, which its fused kernel cannot give.

    From 2.14 on torch reports that kernel for queries of three dimensions all the same.
    """
    is_learned = attn_mask is not None and attn_mask.requires_grad and torch.is_grad_enabled()
    return is_learned and query.device.type == "cpu"


def _lowered(given, dtype):
    return given.to(dtype) if torch.is_tensor(given) and given.dtype is torch.float32 else given


def _noting_dropout(function, seen):
    def noting(*args, **kwargs):
        result = function(*args, **kwargs)
        seen.kept.append(_is_nonzero(result))
        return result

    return noting


def _kept_weights(function, query, key, value, *args, **kwargs):
    """True for weights that the call will keep: the call with the identity matrix as value returns its weights.

    The state of the random generator is restored, so that the call drops the same weights. Tensors are
    detached instead of using no_grad, under which autocast would cache casts without a gradient.
    """
    state, S = torch.get_rng_state(), value.shape[-2]
    own = torch.eye(S, device=value.device).to(value.dtype).expand(*value.shape[:-1], S)
    given, others = tree_map(_detached, ((query, key, own, *args), kwargs))
    with warnings.catch_warnings():  # the call itself repeats the warnings
        warnings.simplefilter("ignore")
        weights = function(*given, **others)
    torch.set_rng_state(state)
    return _is_nonzero(weights)


def _detached(given):
    return given.detach() if torch.is_tensor(given) else given


def _is_nonzero(tensor):
    return (tensor != 0).detach().cpu().numpy()
