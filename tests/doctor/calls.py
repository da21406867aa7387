"""A call that a program made: its arguments, its surroundings and its outcome, while its tensors are alive."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from .places import Place

SDPA, FUNCTIONAL = "scaled_dot_product_attention", "multi_head_attention_forward"
MULTI_HEAD = "MultiheadAttention"
LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")
STACKS = ("TransformerEncoder", "TransformerDecoder", "Transformer")
MODULES = (MULTI_HEAD, *LAYERS, *STACKS)  # watched classes of torch.nn
FUNCTIONS = (FUNCTIONAL, SDPA)  # watched functions of torch.nn.functional
FLEX = "flex_attention"  # of torch.nn.attention.flex_attention, from 2.5

# scaled_dot_product_attention is a built-in function, which has no signature.
_SDPA_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_SDPA_DEFAULTS: dict[str, Any] = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None}
_SDPA_DEFAULTS |= {"enable_gqa": False}


@dataclass(frozen=True)
class Surroundings:
    """The state of torch when a call begins."""

    records: bool  # autograd records
    infers: bool  # torch.inference_mode is active
    autocast: str | None  # the dtype of torch.autocast, if it is active on the device of the call
    has_fast_path: bool  # torch.backends.mha.set_fastpath_enabled is True
    is_overridden: bool  # a mode overrides torch's functions, as under a default device


@dataclass
class Made:
    """A call that a program made."""

    function: str  # one of MODULES or FUNCTIONS, or FLEX
    module: nn.Module | None  # the module that is called; None for a function
    owner: nn.Module | None  # the module itself, or the module whose code calls the function
    arguments: dict[str, Any]  # {name: value}, defaults included
    place: Place
    around: Surroundings
    is_own: bool  # the program makes the call itself; False if another watched call makes it
    versions: dict[str, int] = field(default_factory=dict)  # {name: how often the tensor was written to}
    holds: bool = False  # inner calls are judged only if this call differs
    result: Any = None
    error: Exception | None = None
    served: list[str] = field(default_factory=list)  # the path of each attention (watching.PATHS)
    inner: list["Made"] = field(default_factory=list)  # calls that this call made, if it holds them
    evaluated: dict[str, torch.Tensor] = field(default_factory=dict)  # of FLEX: {argument: its mask (B, H, L, S)}
    compiled: dict[str, Any] | None = None  # of FLEX: the options of torch.compile; None if it is not compiled

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """{argument name: tensor}"""
        return {name: value for name, value in self.arguments.items() if isinstance(value, torch.Tensor)}

    @property
    def masks(self) -> dict[str, torch.Tensor]:
        """{argument name: tensor} of the masks; the mask of nn.TransformerEncoder is called src_mask."""
        masks = {name: tensor for name, tensor in self.tensors.items() if name.endswith("mask")}
        masks |= self.evaluated
        return {{"mask": "src_mask"}.get(name, name): tensor for name, tensor in masks.items()}

    @property
    def device(self) -> torch.device:
        """The device of the first tensor."""
        return next((tensor.device for tensor in self.tensors.values()), torch.device("cpu"))


def bound(function: str, original: Callable, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """{argument name: value} of a call, with defaults and without `self`. Raises TypeError for wrong arguments."""
    if function == SDPA:
        given = dict(zip(_SDPA_ARGUMENTS, args, strict=False))
        return {**_SDPA_DEFAULTS, **given, **kwargs}
    arguments = _signature(original).bind(*args, **kwargs)
    arguments.apply_defaults()
    return {name: value for name, value in arguments.arguments.items() if name != "self"}


@lru_cache(maxsize=16)
def _signature(original):
    return inspect.signature(original)


def surroundings(device: torch.device) -> Surroundings:
    """The state of torch now, for a call on this device."""
    backends = getattr(torch.backends, "mha", None)
    is_enabled = getattr(backends, "get_fastpath_enabled", lambda: True)
    return Surroundings(
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        _autocast(device.type),
        is_enabled(),
        getattr(torch._C, "_len_torch_function_stack", lambda: 0)() > 0,
    )


def _autocast(device_type):
    """The dtype of torch.autocast on this type of device; None if it is not active."""
    if hasattr(torch, "get_autocast_dtype"):
        try:
            is_active = torch.is_autocast_enabled(device_type)
        except RuntimeError:  # a device without autocast
            return None
        return _name(torch.get_autocast_dtype(device_type)) if is_active else None
    if device_type == "cuda":
        return _name(torch.get_autocast_gpu_dtype()) if torch.is_autocast_enabled() else None
    if device_type == "cpu":
        return _name(torch.get_autocast_cpu_dtype()) if torch.is_autocast_cpu_enabled() else None
    return None


def _name(dtype):
    return str(dtype).removeprefix("torch.")
