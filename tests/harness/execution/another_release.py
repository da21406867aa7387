"""A release of torch that is not installed, on a CPU: its version tells what it offers, where release.py asks torch.

tests/selftest/test_ask_in_this_release.py compares both on the installed release. The vector extension is that of the
CPU at hand.
"""

from dataclasses import dataclass

from packaging.version import Version

from ..cases.dtypes import FULL
from ..modes.modes import BY_ID
from ..modes.vectors import is_lesser
from ..releases import since
from .release import Release


def _from(version):
    return property(lambda release: since(release, version))


@dataclass(frozen=True)
class AnotherRelease(Release):
    """A Release whose properties follow from its version."""

    device: str = "cpu"

    has_scaled_dot_product_attention = _from("2.0")
    has_scale = _from("2.1")
    has_enable_gqa = _from("2.5")
    has_causal_hints = _from("2.0")
    has_transformer_hints = _from("2.1")
    has_decoder_hints = _from("2.1")
    has_layer_bias = _from("2.1")
    has_fast_path_switch = _from("2.3")
    has_dtype_of_square_mask = _from("2.1")
    has_default_device = _from("2.0")
    has_causal_bias = _from("2.3")
    has_flex_attention = _from("2.5")
    has_lengths_of_block_masks = _from("2.6")
    has_aux_request = _from("2.9")
    dtypes = FULL

    @property
    def low_dtypes(self) -> tuple[str, ...]:
        """The low-precision dtypes in which calls were measured."""
        return ("bfloat16",) * since(self, "2.0") + ("float16",) * since(self, "2.3")

    def has_mode(self, mode: str) -> bool:
        """True if calls in this mode (an id of modes.py) were measured in the release."""
        asked = BY_ID[mode]
        is_here = asked.only_on in (None, "cpu") and (not asked.vectors or is_lesser(asked.vectors))
        return is_here and self.version >= Version(asked.since)
