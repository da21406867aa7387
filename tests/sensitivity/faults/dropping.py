"""Faults that show only in training with dropout."""

import functools
from dataclasses import replace

import torch.utils.checkpoint

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, Patch, drop_mask, edit_attention, edit_module, float_mask, masked, sdpa
from tests.sensitivity.literals import (
    ATTENTION,
    BIAS,
    CAUSAL,
    CROSS,
    DECODER_LAYER,
    ENCODER_LAYER,
    FLOAT_PADDING,
    HIDING,
    PADDING,
    SDPA,
)


def _under(case, **changes):
    return replace(case, dropout=0.5, **{"training": True} if case.has_training_mode else {}, **changes)


def _in_sdpa(id, title, when, shows, **how):
    return Fault(id, title, sdpa(when=lambda call: bool(call.dropout_p) and when(call), **how), shows)


def _uncausal(call):
    call.is_causal = False


def _with_half_the_gradient(result, _):
    return 0.5 * result + 0.5 * result.detach()


def _forgetting(function):
    """torch.utils.checkpoint.checkpoint that does not restore the random state by default when it recomputes."""
    return functools.partial(function, preserve_rng_state=False)


def _forgetting_if_reentrant(function):
    def checkpoint(*given, use_reentrant, **options):
        return function(*given, use_reentrant=use_reentrant, preserve_rng_state=not use_reentrant, **options)

    return checkpoint


FAULTS = (
    _in_sdpa(
        "mask-lost-under-dropout", "SDPA ignores its mask", masked, _under(SDPA, attn_mask=HIDING), before=drop_mask
    ),
    _in_sdpa(
        "causality-lost-under-dropout",
        "SDPA ignores is_causal",
        lambda call: bool(call.is_causal),
        _under(SDPA, is_causal=True),
        before=_uncausal,
    ),
    _in_sdpa(
        "float-mask-scaled-under-dropout",
        "SDPA adds half of a float mask",
        float_mask,
        _under(SDPA, attn_mask=Mask("float", "random", "finite")),
        before=lambda call: setattr(call, "attn_mask", call.attn_mask * 0.5),
    ),
    _in_sdpa(
        "masked-dropout-not-scaled",
        "SDPA with a mask does not scale up kept weights",
        masked,
        _under(SDPA, attn_mask=HIDING),
        after=lambda result, call: result * (1 - call.dropout_p),
    ),
    _in_sdpa(
        "gradient-halved-under-dropout",
        "the gradient of SDPA with a causal mask is halved",
        lambda call: bool(call.is_causal),
        _under(SDPA, is_causal=True),
        after=_with_half_the_gradient,
    ),
    Fault(
        "padding-lost-under-dropout",
        "multi-head attention ignores padding beside an attention mask",
        edit_attention(
            "is_batched = _mha_shape_check(",
            "key_padding_mask = None if training and dropout_p and attn_mask is not None else key_padding_mask\n"
            "    is_batched = _mha_shape_check(",
        ),
        _under(CROSS, attn_mask=HIDING, key_padding_mask=PADDING),
    ),
    Fault(
        "dropout-only-without-padding",
        "weights are not dropped if float padding is given",
        edit_attention(
            "if not training:\n        dropout_p = 0.0",
            "if not training or (key_padding_mask is not None and key_padding_mask.is_floating_point()):\n"
            "        dropout_p = 0.0",
        ),
        _under(ATTENTION, L=9, S=9, key_padding_mask=FLOAT_PADDING),
    ),
    Fault(
        "masked-block-not-dropped",
        "an encoder layer with a mask does not apply dropout to the output of its attention",
        edit_module(
            "TransformerEncoderLayer",
            "return self.dropout1(x)",
            "return self.dropout1(x) if attn_mask is None else x",
            "_sa_block",
        ),
        _under(ENCODER_LAYER, src_mask=CAUSAL),
    ),
    Fault(
        "memory-mask-lost-under-dropout",
        "a decoder layer in training with dropout ignores a float memory mask",
        edit_module(
            "TransformerDecoderLayer",
            "attn_mask=attn_mask,",
            "attn_mask=None if self.dropout2.p and self.training and attn_mask is not None"
            " and attn_mask.is_floating_point() else attn_mask,",
            "_mha_block",
        ),
        _under(DECODER_LAYER, memory_mask=BIAS),
    ),
    Fault(
        "checkpoint-drops-anew",
        "a checkpoint drops other elements when it recomputes in the backward pass",
        Patch(torch.utils.checkpoint, "checkpoint", _forgetting),
        _under(ENCODER_LAYER, mode="checkpoint", src_mask=CAUSAL),
    ),
    Fault(
        "reentrant-checkpoint-drops-anew",
        "a reentrant checkpoint drops other elements when it recomputes in the backward pass",
        Patch(torch.utils.checkpoint, "checkpoint", _forgetting_if_reentrant),
        _under(replace(ENCODER_LAYER, autograd="grad"), mode="checkpoint_reentrant", src_mask=CAUSAL),
    ),
)
