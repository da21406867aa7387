"""The release of torch that is installed, and what it offers. Asks torch; assumes nothing."""

import inspect
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from packaging.version import Version

from ..cases.case import MultiHead, ScaledDotProduct
from ..cases.dtypes import FULL, LOW
from ..modes.modes import BY_ID
from ..releases import contains, is_measured, since
from .setting import Setting

HINTS = ("src_is_causal", "tgt_is_causal", "memory_is_causal")


def takes(function, argument, otherwise=True):
    """True if a Python function takes the argument; `otherwise` if it is wrapped in one that takes anything."""
    parameters = inspect.signature(function).parameters
    is_hidden = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return otherwise if is_hidden else argument in parameters


@dataclass(frozen=True)
class Release:
    """A torch version on a device.

    adopted: what stands in the place of nn.MultiheadAttention and is measured alone (implementation.Adopted), if anything.
    """

    version: Version
    device: str
    adopted: object = None

    @property
    def setting(self):
        return Setting(self.device, subject=self.adopted.name if self.adopted else None)

    def is_among(self, affected, devices):
        """True if a version specifier has this version, and the devices this one; one that is not measured counts."""
        is_there = self.device_type in devices or not self.is_measured
        return is_there and contains(affected, self.version)

    @property
    def is_measured(self):
        """True if the ranges of the ledgers have been measured on this release and device."""
        return is_measured(self.device_type, self.version)

    @cached_property
    def device_type(self):
        return torch.device(self.device).type

    @cached_property
    def dtypes(self):
        """Those of which there can be tensors on the device, some of which have no float64; all if it is not here."""
        return tuple(dtype for dtype in FULL if self._can(torch.ones, dtype)) or FULL

    @cached_property
    def low_dtypes(self):
        """Those of low precision in which a module can be computed there; in float16 CPUs can since 2.3.

        1.13 is not asked: it sums in the low precision itself, and errs more than any simple account of it says.
        """
        if not since(self, "2.0"):
            return ()

        def normed(*size, **kind):
            return torch.nn.functional.layer_norm(torch.ones(*size, **kind), size)

        return tuple(dtype for dtype in LOW if self._can(normed, dtype))

    @property
    def mask_dtypes(self):
        """The dtypes that a float mask is given apart from that of the inputs; measured on CPU alone."""
        return (*FULL, *LOW) if self.device_type == "cpu" and self.adopted is None else ()

    def _can(self, function, dtype):
        try:
            function(1, dtype=getattr(torch, dtype), device=self.device)
        except Exception:  # a backend can refuse in any way
            return False
        return True

    def held(self, case):
        """The case, in a dtype that the device has."""
        has_it = case.dtype in (*self.dtypes, *self.low_dtypes)
        return case if has_it else replace(case, dtype=self.dtypes[0])

    @cached_property
    def has_scaled_dot_product_attention(self):
        return hasattr(torch.nn.functional, "scaled_dot_product_attention")

    @cached_property
    def has_enable_gqa(self):
        return self._operator_takes("enable_gqa")

    @cached_property
    def has_scale(self):
        return self._operator_takes("scale")

    def _operator_takes(self, argument):
        """True if the operator below F.scaled_dot_product_attention, which has no signature, takes the argument."""
        if not self.has_scaled_dot_product_attention:
            return False
        schema = torch.ops.aten.scaled_dot_product_attention.default._schema
        return argument in [its.name for its in schema.arguments]

    @cached_property
    def has_causal_hints(self):
        """True if nn.MultiheadAttention takes is_causal."""
        if self.adopted:
            return "is_causal" in self.adopted.takes
        return takes(torch.nn.MultiheadAttention.forward, "is_causal", since(self, "2.0"))

    @cached_property
    def has_transformer_hints(self):
        """True if nn.Transformer takes src_is_causal and its like."""
        return takes(torch.nn.Transformer.forward, "src_is_causal", since(self, "2.1"))

    @cached_property
    def has_decoder_hints(self):
        return takes(torch.nn.TransformerDecoder.forward, "tgt_is_causal", since(self, "2.1"))

    @cached_property
    def has_layer_bias(self):
        """True if the transformer layers take bias=False."""
        return takes(torch.nn.TransformerEncoderLayer.__init__, "bias", since(self, "2.1"))

    @cached_property
    def has_fast_path_switch(self):
        return hasattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled")

    @property
    def shows_dropout(self):
        """True if it can be seen what is dropped: the own kernels of a GPU, and what is adopted, drop as they like."""
        return self.device_type == "cpu" and self.adopted is None

    def adapt(self, case):
        """The nearest case of nn.MultiheadAttention that can be asked of what is measured."""
        return self.adopted.adapt(case) if self.adopted else case

    def offers(self, case):
        """True if the case can be called at all: its function exists and takes its arguments."""
        if not BY_ID[case.mode].is_in(self.device_type):
            return False
        if not case.attends:
            return self._offers_square_mask(case)
        if isinstance(case, ScaledDotProduct):
            grouped, scaled = case.kv_heads is not None, case.scale is not None
            return self.has_scaled_dot_product_attention and self.has_enable_gqa >= grouped and self.has_scale >= scaled
        if not getattr(case, "fast_path", True) and not self.has_fast_path_switch:
            return False
        if isinstance(case, MultiHead):
            return self.has_causal_hints >= case.is_causal
        hints = any(getattr(case, name) is not None for name in HINTS)
        return (self.has_causal_hints or not hints) and (self.has_layer_bias or case.bias)

    def _offers_square_mask(self, case):
        has_default_device = case.default_device is None or hasattr(torch, "set_default_device")
        has_dtype = case.given_dtype is None or self.has_dtype_of_square_mask
        return (case.mode, case.autograd) == ("eager", "no_grad") and has_default_device and has_dtype

    @cached_property
    def has_dtype_of_square_mask(self):
        """True if nn.Transformer.generate_square_subsequent_mask takes a dtype."""
        return takes(torch.nn.Transformer.generate_square_subsequent_mask, "dtype", since(self, "2.1"))


def installed(device="cpu", model=None, adopted=None):
    """The release that `import torch` gives; model: the version that it is judged as, if another."""
    return Release(Version(model or torch.__version__), device, adopted)
