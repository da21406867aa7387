"""What can be seen of a call from outside: which path serves each attention, and what dropout keeps."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map

from ..cases.case import drops
from ..modes.modes import BY_ID
from . import dangers

# (owner, attribute, path): calling it means that this path serves the call.
_ENTRY_POINTS = (
    (torch, "_native_multi_head_attention", "native_mha"),
    (torch, "_transformer_encoder_layer_fwd", "native_encoder_layer"),
    (torch, "_nested_tensor_from_mask", "nested"),
    (F, "softmax", "explicit"),
)
_SDPA_BACKENDS = ("sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "sdpa_overrideable")

PATHS = (*(path for *_, path in _ENTRY_POINTS), *_SDPA_BACKENDS, "sdpa_none")


@dataclass
class Seen:
    """served: the paths of the attentions, in order. kept: for each dropout a bool array of what it has not made 0."""

    served: list = field(default_factory=list)
    kept: list = field(default_factory=list)


@contextmanager
def watching(seen, case, dares):
    """Note all of this where it can be seen, and withhold dangers, unless it `dares` them."""
    if not BY_ID[case.mode].is_watched:
        yield
        return
    makers = [(owner, name, _noting_path(path)) for owner, name, path in _ENTRY_POINTS if hasattr(owner, name)]
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
        seen.served.append(_sdpa_backend(BY_ID[case.mode].lowers, *args, **kwargs))
        if not dares:
            dangers.withhold(seen.served[-1], *args, **kwargs)
        if drops(case) and args[0].device.type == "cpu":
            seen.kept.append(_kept_weights(function, *args, **kwargs))
        return function(*args, **kwargs)

    return noting


def _sdpa_backend(lowers, *args, **kwargs):
    """The backend that torch itself says it chooses, for what autocast makes of the arguments."""
    if lowers:
        args, kwargs = tree_map(lambda given: _lowered(given, getattr(torch, lowers)), (args, kwargs))
    try:
        with warnings.catch_warnings():  # the call itself will give those that are due
            warnings.simplefilter("ignore")
            choice = torch._fused_sdp_choice(*args, **kwargs)
    except IndexError:  # that, too
        choice = 0
    except RuntimeError as error:
        if "No available kernel" in str(error):
            return "sdpa_none"
        choice = 0
    return _SDPA_BACKENDS[int(choice)]


def _lowered(given, dtype):
    return given.to(dtype) if torch.is_tensor(given) and given.dtype is torch.float32 else given


def _noting_dropout(function, seen):
    def noting(*args, **kwargs):
        result = function(*args, **kwargs)
        seen.kept.append(_is_nonzero(result))
        return result

    return noting


def _kept_weights(function, query, key, value, *args, **kwargs):
    """Which weights the call will keep: what it returns for values of which each has a column of its own.

    The generator is left as it was, so that the call drops the same. Autocast would keep what is cast without autograd.
    """
    state, S = torch.get_rng_state(), value.shape[-2]
    own = torch.eye(S, device=value.device).to(value.dtype).expand(*value.shape[:-1], S)
    given, others = tree_map(_detached, ((query, key, own, *args), kwargs))
    with warnings.catch_warnings():  # the call itself will give those that are due
        warnings.simplefilter("ignore")
        weights = function(*given, **others)
    torch.set_rng_state(state)
    return _is_nonzero(weights)


def _detached(given):
    return given.detach() if torch.is_tensor(given) else given


def _is_nonzero(tensor):
    return (tensor != 0).detach().cpu().numpy()
