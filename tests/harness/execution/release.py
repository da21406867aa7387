"""The installed release of torch and its features, found by inspection of torch."""

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

import torch
from packaging.version import Version

from ..cases.case import Case, FlexAttention, Kind, ScaledDotProduct
from ..cases.dtypes import FULL, LOW
from ..cases.masks import NAN, VALUES
from ..modes.modes import BY_ID
from ..releases import contains, is_measured, since
from . import flex
from .setting import Setting

if TYPE_CHECKING:
    from .implementation import Adopted

HINTS = ("src_is_causal", "tgt_is_causal", "memory_is_causal")


def takes(function: Callable, argument: str, otherwise: bool = True) -> bool:
    """True if the signature of the function has this argument. If it has **kwargs, returns `otherwise`."""
    parameters = _parameters_of(function)
    is_hidden = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return otherwise if is_hidden else argument in parameters


@cache
def _parameters_of(function):
    return inspect.signature(function).parameters


def _has_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # there is no torch.nn.attention
        return False


@dataclass(frozen=True)
class Release:
    """A version of torch on a device."""

    version: Version
    device: str  # a device string of torch
    adopted: "Adopted | None" = None  # is measured in place of a module or function of torch, if any

    @property
    def setting(self) -> Setting:
        """The device and the adopted implementation, for reports."""
        return Setting(self.device, subject=self.adopted.name if self.adopted else None)

    def is_among(self, affected: str, devices: tuple[str, ...]) -> bool:
        """True if `affected`, a version specifier, contains the version, and `devices` the type of the device.

        If the ranges have not been measured on this release and device, `devices` is ignored.
        """
        is_there = self.device_type in devices or not self.is_measured
        return is_there and contains(affected, self.version)

    @property
    def is_measured(self) -> bool:
        """True if the ranges of the ledgers have been measured on this release and device."""
        return is_measured(self.device_type, self.version)

    @cached_property
    def device_type(self) -> str:
        """The type of the device, such as "cuda"."""
        return torch.device(self.device).type

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of FULL that the device supports; some devices lack float64. All if the device is not present."""
        return tuple(dtype for dtype in FULL if self._can(torch.ones, dtype)) or FULL

    @cached_property
    def low_dtypes(self) -> tuple[str, ...]:
        """The dtypes of LOW in which the device computes modules. CPUs compute float16 since 2.3.

        Empty for 1.13: it accumulates in low precision, with larger errors than the emulation predicts.
        """
        if not since(self, "2.0"):
            return ()

        def normed(*size, **kind):
            return torch.nn.functional.layer_norm(torch.ones(*size, **kind), size)

        return tuple(dtype for dtype in LOW if self._can(normed, dtype))

    @property
    def mask_dtypes(self) -> tuple[str, ...]:
        """The dtypes, other than that of the inputs, in which float masks are tested. Measured on CPU only."""
        return (*FULL, *LOW) if self.device_type == "cpu" and self.adopted is None else ()

    @property
    def mask_values(self) -> tuple[str, ...]:
        """The values of float masks; NaN on CPU only, and since 2.0: before, padding may be filled over it."""
        takes_nan = bool(self.mask_dtypes) and since(self, "2.0")
        return tuple(values for values in VALUES if values != NAN or takes_nan)

    def _can(self, function, dtype):
        try:
            function(1, dtype=getattr(torch, dtype), device=self.device)
        except Exception:  # a backend can raise anything
            return False
        return True

    def held(self, case: Kind) -> Kind:
        """The case, in its dtype if the device supports it, else in one that the device supports."""
        has_it = case.dtype in (*self.dtypes, *self.low_dtypes)
        return case if has_it else replace(case, dtype=self.dtypes[0])

    @cached_property
    def has_scaled_dot_product_attention(self) -> bool:
        """True if torch.nn.functional has scaled_dot_product_attention."""
        return hasattr(torch.nn.functional, "scaled_dot_product_attention")

    @cached_property
    def has_enable_gqa(self) -> bool:
        """True if scaled_dot_product_attention takes enable_gqa."""
        return self._operator_takes("enable_gqa")

    @cached_property
    def has_scale(self) -> bool:
        """True if scaled_dot_product_attention takes scale."""
        return self._operator_takes("scale")

    def _operator_takes(self, argument):
        """True if the operator of scaled_dot_product_attention takes the argument. The function has no signature."""
        if not self.has_scaled_dot_product_attention:
            return False
        schema = torch.ops.aten.scaled_dot_product_attention.default._schema
        return argument in [its.name for its in schema.arguments]

    @cached_property
    def has_causal_hints(self) -> bool:
        """True if nn.MultiheadAttention takes is_causal."""
        if self.adopted:
            return "is_causal" in self.adopted.takes
        return takes(torch.nn.MultiheadAttention.forward, "is_causal", since(self, "2.0"))

    @cached_property
    def has_transformer_hints(self) -> bool:
        """True if nn.Transformer takes src_is_causal, tgt_is_causal and memory_is_causal."""
        return takes(torch.nn.Transformer.forward, "src_is_causal", since(self, "2.1"))

    @cached_property
    def has_decoder_hints(self) -> bool:
        """True if nn.TransformerDecoder takes tgt_is_causal and memory_is_causal."""
        return takes(torch.nn.TransformerDecoder.forward, "tgt_is_causal", since(self, "2.1"))

    @cached_property
    def has_layer_bias(self) -> bool:
        """True if the transformer layers take bias=False."""
        return takes(torch.nn.TransformerEncoderLayer.__init__, "bias", since(self, "2.1"))

    @cached_property
    def has_fast_path_switch(self) -> bool:
        """True if torch.backends.mha has set_fastpath_enabled."""
        return hasattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled")

    @property
    def shows_dropout(self) -> bool:
        """True if the dropped weights are observable: not inside the kernels of a GPU or an adopted implementation."""
        return self.device_type == "cpu" and self.adopted is None

    def adapt(self, case: Kind) -> Kind:
        """The case; the nearest case that the adopted implementation can run, if there is one."""
        return self.adopted.adapt(case) if self.adopted else case

    def offers(self, case: Case) -> bool:
        """True if the release can run the case: it has the mode and the function, which takes the arguments."""
        if not self.has_mode(case.mode) or (BY_ID[case.mode].quantizes and case.dtype != "float32"):
            return False
        if not case.attends:
            return self._offers_square_mask(case)
        if isinstance(case, FlexAttention):
            return self._offers_flex(case)
        if isinstance(case, ScaledDotProduct):
            grouped, scaled = case.kv_heads is not None, case.scale is not None
            return self.has_scaled_dot_product_attention and self.has_enable_gqa >= grouped and self.has_scale >= scaled
        if not case.fast_path and not self.has_fast_path_switch:
            return False
        hints = any(getattr(case, name) != getattr(type(case), name) for name in case.hints)
        has_bias = case.bias or not case.has_layers or self.has_layer_bias
        return (self.has_causal_hints or not hints) and has_bias

    def has_mode(self, mode: str) -> bool:
        """True if the release has this mode (an id of modes.py) on the device."""
        return BY_ID[mode].is_in(self.device_type)

    @property
    def has_causal_bias(self) -> bool:
        """True if there is torch.nn.attention.bias."""
        return _has_module("torch.nn.attention.bias")

    @property
    def has_default_device(self) -> bool:
        """True if torch.set_default_device exists."""
        return hasattr(torch, "set_default_device")

    @cached_property
    def has_flex_attention(self) -> bool:
        """True if there is torch.nn.attention.flex_attention."""
        return _has_module("torch.nn.attention.flex_attention")

    @cached_property
    def has_aux_request(self) -> bool:
        """True if flex_attention takes return_aux."""
        return self.has_flex_attention and takes(flex.module().flex_attention, "return_aux")

    @cached_property
    def has_lengths_of_block_masks(self) -> bool:
        """True if a BlockMask knows its lengths: it takes them, and can be adjusted to others."""
        return self.has_flex_attention and hasattr(flex.module().BlockMask, "_adjust")

    def _offers_flex(self, case):
        needs_lengths = case.is_adjusted or flex.gives_lengths(case)
        has_arguments = self.has_aux_request or case.lse != "return_aux"
        return self.has_flex_attention and has_arguments and (self.has_lengths_of_block_masks or not needs_lengths)

    def _offers_square_mask(self, case):
        has_default_device = case.default_device is None or self.has_default_device
        has_dtype = case.given_dtype is None or self.has_dtype_of_square_mask
        return (case.mode, case.autograd) == ("eager", "no_grad") and has_default_device and has_dtype

    @cached_property
    def has_dtype_of_square_mask(self) -> bool:
        """True if nn.Transformer.generate_square_subsequent_mask takes a dtype."""
        return takes(torch.nn.Transformer.generate_square_subsequent_mask, "dtype", since(self, "2.1"))


def installed(device: str = "cpu", model: str | None = None, adopted: "Adopted | None" = None) -> Release:
    """The release of torch in this environment.

    model: the version as which it is judged, if not its own. adopted: an implementation to measure in place of
    a module or function of torch.
    """
    return Release(Version(model or torch.__version__), device, adopted)
