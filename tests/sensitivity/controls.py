"""Controls: patches that change no result. A test that fails on a control detects the patching, not a fault."""

from tests.sensitivity.injection import (
    Fault,
    canonical,
    edit_attention,
    edit_helper,
    edit_module,
    native_attention,
    native_layer,
    sdpa,
)


def _same(patching, *args):
    """The patch that replaces a piece of source with itself."""
    *where, piece = args
    return patching(*where, piece, piece)


_PATCHES = {
    "control-attention": _same(edit_attention, "is_batched = _mha_shape_check("),
    "control-helper": _same(edit_helper, "_detect_is_causal_mask", ".all()"),
    "control-module": _same(edit_module, "MultiheadAttention", "for x in tensor_args\n"),
    "control-layer": _same(edit_module, "TransformerEncoderLayer", "any(x.requires_grad for x in tensor_args)"),
    "control-canonical": canonical(lambda mask, call: mask),
    "control-sdpa": sdpa(),
    "control-native-attention": native_attention(),
    "control-native-layer": native_layer(),
}
CONTROLS = {id: Fault(id, "nothing goes wrong", patch, None) for id, patch in _PATCHES.items()}
