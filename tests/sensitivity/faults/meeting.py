"""Faults in code that runs only where three options or more meet."""

from dataclasses import replace

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, drop_mask, edit_attention, edit_module, masked, put, sdpa
from tests.sensitivity.literals import (
    CROSS,
    DECODER,
    DECODER_LAYER,
    ENCODER_LAYER,
    HIDING,
    PADDING,
    PER_HEAD,
    SDPA,
    weighing,
)

_CHECK = "is_batched = _mha_shape_check("
_OTHER_WIDTHS = {"attention": "distinct", "kdim": 5, "vdim": 6}


def _in_attention(id, title, condition, shows, argument="attn_mask"):
    statement = f"{argument} = None if {condition} else {argument}\n    "
    return Fault(id, title, edit_attention(_CHECK, statement + _CHECK), shows)


def _in_layer(id, title, module, condition, argument, shows):
    first = "x = tgt\n" if "Decoder" in module else "x = src\n"
    return Fault(
        id,
        title,
        edit_module(module, first, f"{first}    {argument} = None if {condition} else {argument}\n"),
        shows,
    )


FAULTS = (
    _in_attention(
        "per-head-mask-lost-under-dropout",
        "a 3-D attn_mask is ignored under dropout if the weights of each head are requested",
        "dropout_p > 0 and training and need_weights and not average_attn_weights"
        " and attn_mask is not None and attn_mask.dim() == 3",
        replace(weighing(CROSS, average=False), attn_mask=PER_HEAD, training=True, dropout=0.5),
    ),
    _in_attention(
        "mask-lost-with-static-and-zero-keys",
        "attn_mask is ignored if static keys are given beside add_zero_attn",
        "static_k is not None and add_zero_attn",
        replace(CROSS, attn_mask=HIDING, functional=True, static=True, add_zero_attn=True),
    ),
    _in_attention(
        "mask-lost-with-other-widths-and-no-bias",
        "attn_mask is ignored if kdim differs from embed_dim, without biases and without a batch",
        "use_separate_proj_weight and in_proj_bias is None and query.dim() == 2",
        replace(CROSS, **_OTHER_WIDTHS, attn_mask=HIDING, bias=False, batched=False, N=1),
    ),
    _in_attention(
        "mask-lost-with-other-widths-and-zero-key",
        "attn_mask is ignored if kdim differs from embed_dim, beside add_zero_attn, if weights of each head are requested",
        "use_separate_proj_weight and add_zero_attn and need_weights and not average_attn_weights",
        replace(weighing(CROSS, average=False), **_OTHER_WIDTHS, attn_mask=HIDING, add_zero_attn=True),
    ),
    _in_attention(
        "padding-lost-with-both-appended-keys-in-training",
        "padding is ignored beside add_bias_kv and add_zero_attn in training",
        "bias_k is not None and add_zero_attn and training",
        replace(CROSS, key_padding_mask=PADDING, add_bias_kv=True, add_zero_attn=True, training=True),
        "key_padding_mask",
    ),
    Fault(
        "mask-lost-for-one-query",
        "a module with batches ignores attn_mask for a single query of several keys",
        edit_attention(
            _CHECK,
            f"attn_mask = None if query.dim() == 3 and query.shape[0] == 1 < key.shape[0] else attn_mask\n    {_CHECK}",
        ),
        replace(CROSS, attn_mask=HIDING, L=1),
    ),
    Fault(
        "sdpa-groups-share-the-first-head",
        "with grouped keys, SDPA uses a mask's first head for all heads",
        sdpa(
            before=put("attn_mask", lambda mask: mask[..., :1, :, :].expand_as(mask)),
            when=lambda call: masked(call) and call.enable_gqa and call.attn_mask.dim() > 2,
        ),
        replace(SDPA, batch=(2, 4), kv_heads=2, attn_mask=HIDING, mask_batch=(2, 4)),
    ),
    Fault(
        "sdpa-mask-per-head-lost-under-dropout",
        "SDPA ignores a mask for each head under dropout",
        sdpa(
            before=drop_mask,
            when=lambda call: (
                masked(call) and bool(call.dropout_p) and call.attn_mask.dim() == 4 and call.attn_mask.size(1) > 1
            ),
        ),
        replace(SDPA, attn_mask=HIDING, mask_batch=(2, 2), dropout=0.5),
    ),
    _in_layer(
        "target-mask-lost-with-norm-first-and-no-bias",
        "the decoder layer ignores tgt_mask with norm_first, without biases and with the sequence first",
        "TransformerDecoderLayer",
        "self.norm_first and self.linear1.bias is None and not self.self_attn.batch_first",
        "tgt_mask",
        replace(DECODER_LAYER, tgt_mask=HIDING, norm_first=True, bias=False, batch_first=False),
    ),
    _in_layer(
        "encoder-padding-lost-with-norm-first-and-no-bias",
        "the encoder layer ignores padding with norm_first, without biases and in training",
        "TransformerEncoderLayer",
        "self.norm_first and self.linear1.bias is None and self.training",
        "src_key_padding_mask",
        replace(ENCODER_LAYER, src_key_padding_mask=PADDING, norm_first=True, bias=False, training=True),
    ),
    Fault(
        "memory-mask-lost-in-deep-stacks",
        "the last layer of a TransformerDecoder of more than three layers ignores memory_mask",
        edit_module(
            "TransformerDecoder",
            "for mod in self.layers:\n",
            "for mod in self.layers:\n"
            "        memory_mask = None if mod is self.layers[-1] and len(self.layers) > 3 else memory_mask\n",
        ),
        replace(DECODER, num_layers=5, memory_mask=Mask("bool", "column")),
    ),
)
