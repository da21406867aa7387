"""Faults that show only where parts of a module are adapted, hooked, overridden or quantized."""

from dataclasses import replace

from tests.sensitivity.injection import Fault, edit_module
from tests.sensitivity.literals import DECODER_LAYER, ENCODER_LAYER, FINITE, PADDING, inferring

FAULTS = (
    Fault(
        "linear-read",
        "TransformerEncoderLayer reads the weight of linear2 and does not call it",
        edit_module(
            "TransformerEncoderLayer",
            "self.linear2(self.dropout(self.activation(self.linear1(x))))",
            "F.linear(self.dropout(self.activation(self.linear1(x))), self.linear2.weight, self.linear2.bias)",
            method="_ff_block",
        ),
        replace(ENCODER_LAYER, src_mask=FINITE, mode="adapted"),
    ),
    Fault(
        "forward-hooks-unseen",
        "TransformerEncoderLayer takes its native path although its parts have forward hooks; pre-hooks are seen",
        edit_module("TransformerEncoderLayer", 'len(getattr(m, "_forward_hooks", {}))\n        + ', ""),
        inferring(replace(ENCODER_LAYER, mode="hooked", src_mask=FINITE)),
    ),
    Fault(
        "overridden-block-passed-over",
        "TransformerDecoderLayer calls its own _ff_block, not that of a subclass",
        edit_module(
            "TransformerDecoderLayer",
            "self.norm3(x + self._ff_block(x))",
            "self.norm3(x + TransformerDecoderLayer._ff_block(self, x))",
        ),
        replace(DECODER_LAYER, tgt_key_padding_mask=PADDING, mode="overridden"),
    ),
    Fault(
        "target-padding-lost-when-quantized",
        "TransformerDecoderLayer ignores the padding of the target if its linear layers are quantized",
        edit_module(
            "TransformerDecoderLayer",
            "x = tgt\n",
            "x = tgt\n    tgt_key_padding_mask = None if callable(self.linear1.weight) else tgt_key_padding_mask\n",
        ),
        inferring(replace(DECODER_LAYER, tgt_key_padding_mask=PADDING, mode="quantized", dtype="float32")),
    ),
)
