"""The release of torch that is installed, and what it offers. Asks torch; assumes nothing."""

import inspect
from dataclasses import dataclass
from functools import cached_property

import torch
from packaging.version import Version

from .cases import MultiHead, ScaledDotProduct

OLDEST = Version("1.13")
HINTS = ("src_is_causal", "tgt_is_causal", "memory_is_causal")


@dataclass(frozen=True)
class Release:
    """A torch version on a device."""

    version: Version
    device: str

    @cached_property
    def device_type(self):
        return torch.device(self.device).type

    @cached_property
    def has_scaled_dot_product_attention(self):
        return hasattr(torch.nn.functional, "scaled_dot_product_attention")

    @cached_property
    def has_enable_gqa(self):
        return self.has_scaled_dot_product_attention and "enable_gqa" in (
            torch.nn.functional.scaled_dot_product_attention.__doc__ or ""
        )

    @cached_property
    def has_scale(self):
        return self.has_scaled_dot_product_attention and "scale=" in (
            torch.nn.functional.scaled_dot_product_attention.__doc__ or ""
        )

    @cached_property
    def has_causal_hints(self):
        """Whether nn.MultiheadAttention takes is_causal."""
        return "is_causal" in inspect.signature(torch.nn.MultiheadAttention.forward).parameters

    @cached_property
    def has_transformer_hints(self):
        """Whether nn.Transformer takes src_is_causal and its like."""
        return "src_is_causal" in inspect.signature(torch.nn.Transformer.forward).parameters

    @cached_property
    def has_decoder_hints(self):
        return "tgt_is_causal" in inspect.signature(torch.nn.TransformerDecoder.forward).parameters

    @cached_property
    def has_layer_bias(self):
        """Whether the transformer layers take bias=False."""
        return "bias" in inspect.signature(torch.nn.TransformerEncoderLayer.__init__).parameters

    @cached_property
    def has_fast_path_switch(self):
        return hasattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled")

    def offers(self, case):
        """Whether the case can be called at all: its function exists and takes its arguments."""
        if isinstance(case, ScaledDotProduct):
            grouped, scaled = case.kv_heads is not None, case.scale is not None
            return self.has_scaled_dot_product_attention and self.has_enable_gqa >= grouped and self.has_scale >= scaled
        if not getattr(case, "fast_path", True) and not self.has_fast_path_switch:
            return False
        if isinstance(case, MultiHead):
            return self.has_causal_hints >= case.is_causal
        hints = any(getattr(case, name) is not None for name in HINTS)
        return (self.has_causal_hints or not hints) and (self.has_layer_bias or case.bias)


def installed(device="cpu"):
    """The release that `import torch` gives."""
    return Release(Version(torch.__version__), device)
