"""Faults in the side effects of a call, and in calls whose tensors are one, or whose layers differ in mode."""

import functools
from dataclasses import replace

import torch
from torch.nn import functional as F

from tests.sensitivity.injection import Fault, Patch, edit_attention, edit_module, masked, sdpa
from tests.sensitivity.literals import (
    CROSS,
    DECODER_LAYER,
    ENCODER,
    ENCODER_LAYER,
    HIDING,
    PADDING,
    SDPA,
    TRANSFORMER,
    inferring,
)

_CHECK = "is_batched = _mha_shape_check("


def _with_autograd(function):
    """The function, recorded by autograd also under no_grad."""

    @functools.wraps(function)
    def recorded(*args, **kwargs):
        with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
            return function(*args, **kwargs)

    return recorded


def _leaving(statement, id, title, shows):
    """The fault that F.multi_head_attention_forward executes the statement first."""
    return Fault(id, title, edit_attention(_CHECK, f"{statement}\n    {_CHECK}"), shows)


FAULTS = (
    _leaving(
        "torch.rand(1)",
        "random-number-drawn",
        "F.multi_head_attention_forward draws a random number without dropout",
        CROSS,
    ),
    _leaving(
        "torch.backends.mha.set_fastpath_enabled(query.dim() == 3)",
        "fast-path-left-off",
        "a call without a batch switches the fast path off for good",
        replace(CROSS, batched=False, N=1),
    ),
    _leaving(
        "torch.set_grad_enabled(torch.is_grad_enabled() and query.requires_grad)",
        "autograd-left-off",
        "F.multi_head_attention_forward switches autograd off for good if the query requires no gradient",
        replace(CROSS, attn_mask=HIDING, autograd="frozen"),
    ),
    _leaving(
        "torch.manual_seed(1) if training and dropout_p > 0 else None",
        "dropout-of-the-same-elements",
        "each attention seeds its dropout alike",
        replace(ENCODER, training=True, dropout=0.5, fast_path=False),
    ),
    Fault(
        "flash-left-off",
        "SDPA with a mask and dropout switches its fused kernel off for good",
        sdpa(
            before=lambda call: torch.backends.cuda.enable_flash_sdp(False),
            when=lambda call: masked(call) and bool(call.dropout_p),
        ),
        replace(SDPA, attn_mask=HIDING, dropout=0.5),
    ),
    Fault(
        "recorded-under-no-grad",
        "F.multi_head_attention_forward is recorded by autograd under no_grad, too",
        Patch(F, "multi_head_attention_forward", _with_autograd),
        inferring(CROSS),
    ),
    Fault(
        "parameter-written-through-data",
        "nn.MultiheadAttention with padding scales a parameter through its data",
        edit_module(
            "MultiheadAttention",
            'why_not_fast_path = ""\n',
            'why_not_fast_path = ""\n    key_padding_mask is None or self.out_proj.weight.data.mul_(1.01)\n',
        ),
        replace(CROSS, key_padding_mask=PADDING),
    ),
    Fault(
        "layer-left-in-training",
        "TransformerEncoderLayer leaves its attention in train mode",
        edit_module("TransformerEncoderLayer", "x = src\n", "x = src\n    self.self_attn.training = True\n"),
        ENCODER_LAYER,
    ),
    Fault(
        "memory-mask-lost-if-the-targets",
        "the decoder layer ignores memory_mask if it is the same tensor as tgt_mask",
        edit_module(
            "TransformerDecoderLayer",
            "x = tgt\n",
            "x = tgt\n    memory_mask = None if memory_mask is tgt_mask else memory_mask\n",
        ),
        replace(DECODER_LAYER, S=3, tgt_mask=HIDING, memory_mask=HIDING, mode="shared_masks"),
    ),
    Fault(
        "memory-padding-lost-if-the-sources",
        "nn.Transformer ignores the padding of the memory if it is the same tensor as that of the source",
        edit_module(
            "Transformer",
            "memory = self.encoder(",
            "if memory_key_padding_mask is src_key_padding_mask:\n"
            "        memory_key_padding_mask = None\n"
            "    memory = self.encoder(",
        ),
        replace(TRANSFORMER, src_key_padding_mask=PADDING, memory_key_padding_mask=PADDING, mode="shared_masks"),
    ),
    Fault(
        "mask-lost-if-layers-differ-in-mode",
        "TransformerEncoder ignores its mask if the last layer is in another mode than the first",
        edit_module(
            "TransformerEncoder",
            "output = src\n",
            "output = src\n    mask = None if self.layers[-1].training != self.layers[0].training else mask\n",
        ),
        replace(ENCODER, src_mask=HIDING, mode="layers_apart"),
    ),
)
