"""Faults of causal masks: their contents, their alignment, and causal hints."""

from dataclasses import replace

import torch
from torch.nn.attention.bias import CausalBias

from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, drop_mask, edit, edit_attention, edit_helper, edit_module, sdpa
from tests.sensitivity.literals import (
    ATTENTION,
    CAUSAL,
    DECODER,
    ENCODER,
    ENCODER_LAYER,
    HIDING,
    SDPA,
    TRANSFORMER,
    weighing,
)

_WITHOUT_MASK = "if is_causal and key_padding_mask is None and not need_weights:"
_CAUSAL_FLOAT = Mask("float", "causal")


def _explicitly(diagonal):
    """A `before` that replaces is_causal with a bool mask, True up to the diagonal number diagonal(L, S)."""

    def before(call):
        L, S = call.query.shape[-2], call.key.shape[-2]
        call.attn_mask = torch.ones(L, S, dtype=torch.bool, device=call.query.device).tril(diagonal(L, S))
        call.is_causal = False

    return before


def _ignore_hint(call):
    call.is_causal = False


FAULTS = (
    Fault(
        "causal-mask-hides-itself",
        "generate_square_subsequent_mask hides the diagonal",
        edit_helper("_generate_square_subsequent_mask", "diagonal=1", "diagonal=0"),
        lambda: torch.nn.Transformer.generate_square_subsequent_mask(3),
    ),
    Fault(
        "causal-mask-shows-the-next",
        "generate_square_subsequent_mask shows the next position",
        edit_helper("_generate_square_subsequent_mask", "diagonal=1", "diagonal=2"),
        lambda: torch.nn.Transformer.generate_square_subsequent_mask(3),
    ),
    Fault(
        "causal-mask-wrong-past-64",
        "generate_square_subsequent_mask is wrong past 64",
        edit_helper("_generate_square_subsequent_mask", "diagonal=1", "diagonal=1 + (sz > 64)"),
        lambda: torch.nn.Transformer.generate_square_subsequent_mask(65),
    ),
    Fault(
        "causal-mask-dtype-lost",
        "generate_square_subsequent_mask ignores its dtype argument and returns float32",
        edit_helper("_generate_square_subsequent_mask", "dtype=dtype", "dtype=torch.float32"),
        lambda: torch.nn.Transformer.generate_square_subsequent_mask(2, dtype=torch.float64),
    ),
    Fault(
        "sdpa-causal-at-the-end",
        "SDPA aligns is_causal at the last query and key",
        sdpa(before=_explicitly(lambda L, S: S - L), when=lambda call: bool(call.is_causal)),
        replace(SDPA, is_causal=True),
    ),
    Fault(
        "sdpa-causal-shows-the-next",
        "SDPA's is_causal shows the next key",
        sdpa(before=_explicitly(lambda L, S: 1), when=lambda call: bool(call.is_causal)),
        replace(SDPA, is_causal=True),
    ),
    Fault(
        "sdpa-causal-ignored-with-fewer-keys",
        "SDPA ignores is_causal if there are fewer keys than queries",
        sdpa(before=_ignore_hint, when=lambda call: bool(call.is_causal) and call.key.shape[-2] < call.query.shape[-2]),
        replace(SDPA, L=4, S=3, is_causal=True),
    ),
    Fault(
        "sdpa-causal-wrong-past-128",
        "SDPA's is_causal shows the next key to the queries past 128",
        sdpa(before=_explicitly(lambda L, S: 1), when=lambda call: bool(call.is_causal) and call.query.shape[-2] > 128),
        replace(SDPA, L=129, S=200, is_causal=True),
    ),
    Fault(
        "sdpa-causal-ignored-with-scale",
        "SDPA ignores is_causal if a scale is given",
        sdpa(before=_ignore_hint, when=lambda call: bool(call.is_causal) and call.scale is not None),
        replace(SDPA, is_causal=True, scale=0.5),
    ),
    Fault(
        "causal-found-in-3d",
        "a stack takes every 3-D mask for a causal one",
        edit_helper("_detect_is_causal_mask", "make_causal = False", "make_causal = True"),
        replace(ENCODER, src_mask=Mask("bool", "random", per_head=True)),
    ),
    Fault(
        "causal-found-by-its-first-row",
        "a stack takes a mask for causal if its first row is",
        edit_helper("_detect_is_causal_mask", ".all()", "[:1].all()"),
        replace(ENCODER, src_mask=Mask("bool", "block"), seed=6),
    ),
    Fault(
        "causal-found-by-its-beginning",
        "a stack takes a mask for causal if its first 64 rows and columns are",
        edit_helper("_detect_is_causal_mask", ".all()", "[..., :64, :64].all()"),
        replace(ENCODER, S=129, src_mask=Mask("bool", "nearly_causal"), seed=1),
    ),
    Fault(
        "causal-found-by-its-infinities",
        "a stack takes a mask for causal if it hides the future, and ignores its other numbers",
        edit_helper(
            "_detect_is_causal_mask", "(mask == causal_comparison)", "(mask.isinf() == causal_comparison.isinf())"
        ),
        replace(ENCODER, src_mask=Mask("float", "causal", "bias")),
    ),
    Fault(
        "causal-found-by-one-element",
        "a stack takes a mask for causal if one element agrees with a causal mask",
        edit_helper("_detect_is_causal_mask", ".all()", ".any()"),
        replace(ENCODER, src_mask=Mask("bool", "band")),
    ),
    Fault(
        "hint-denied-is-hint",
        "a stack takes is_causal=False for True",
        edit_helper("_detect_is_causal_mask", "is_causal is True", "is_causal is not None"),
        replace(ENCODER, src_mask=HIDING, src_is_causal=False),
    ),
    Fault(
        "hint-of-the-source-for-the-target",
        "nn.Transformer gives the decoder the hint of the source",
        edit_module("Transformer", "tgt_is_causal=tgt_is_causal", "tgt_is_causal=src_is_causal"),
        replace(TRANSFORMER, src_mask=CAUSAL, src_is_causal=True, tgt_mask=HIDING),
    ),
    Fault(
        "hint-of-the-target-for-memory",
        "TransformerDecoder gives the memory the hint of the target",
        edit_module("TransformerDecoder", "memory_is_causal=memory_is_causal", "memory_is_causal=tgt_is_causal"),
        replace(DECODER, tgt_mask=CAUSAL, tgt_is_causal=True, memory_mask=HIDING),
    ),
    Fault(
        "hint-without-mask-drops-padding",
        "a causal hint drops padding beside a causal mask",
        edit_attention(
            _WITHOUT_MASK,
            "if is_causal and not need_weights:\n        key_padding_mask = None",
        ),
        replace(ATTENTION, attn_mask=CAUSAL, is_causal=True, key_padding_mask=Mask("bool", "left")),
    ),
    Fault(
        "hint-with-weights-drops-mask",
        "a causal hint drops the mask if weights are requested",
        edit_attention(
            _WITHOUT_MASK,
            "if is_causal and need_weights and key_padding_mask is None:\n"
            "        attn_mask, is_causal = None, False\n"
            "    elif is_causal and key_padding_mask is None:",
        ),
        weighing(replace(ATTENTION, attn_mask=CAUSAL, is_causal=True)),
    ),
    Fault(
        "hint-lost-with-mask",
        "an encoder layer called with is_causal ignores the mask and does not pass the hint on",
        edit_module(
            "TransformerEncoderLayer",
            "x = self.self_attn(",
            "attn_mask, is_causal = (None, False) if is_causal else (attn_mask, is_causal)\n    x = self.self_attn(",
            "_sa_block",
        ),
        replace(ENCODER_LAYER, src_mask=CAUSAL, src_is_causal=True),
    ),
    Fault(
        "sdpa-causal-mask-lost",
        "SDPA ignores a float mask that hides the future",
        sdpa(
            before=drop_mask,
            when=lambda call: (
                call.attn_mask is not None
                and call.attn_mask.is_floating_point()
                and call.attn_mask.shape[-2] > 1
                and bool(call.attn_mask.isneginf().any())
                and bool((call.attn_mask.isneginf() == torch.ones_like(call.attn_mask).triu(1).bool()).all())
            ),
        ),
        replace(SDPA, attn_mask=_CAUSAL_FLOAT),
    ),
    Fault(
        "lower-right-bias-at-the-start",
        "causal_lower_right is aligned at the first key if there are fewer queries than keys",
        edit(CausalBias, "_dispatch", "attn_mask.seq_len_q == attn_mask", "attn_mask.seq_len_q <= attn_mask"),
        replace(SDPA, mode="causal_lower_right", attn_mask=Mask("bool", "lower_right")),
    ),
    Fault(
        "lower-right-bias-hides-itself",
        "causal_lower_right hides the last key from the last of an odd number of queries",
        edit(CausalBias, "_lower_right", "diagonal=diagonal_offset", "diagonal=diagonal_offset - self.seq_len_q % 2"),
        replace(SDPA, mode="causal_lower_right", attn_mask=Mask("bool", "lower_right")),
    ),
    Fault(
        "upper-left-bias-forgets-its-scale",
        "causal_upper_left ignores the scale",
        edit(
            CausalBias,
            "_dispatch",
            "is_causal=True,\n            scale=scale,\n            enable_gqa",
            "is_causal=True,\n            scale=None,\n            enable_gqa",
        ),
        replace(SDPA, mode="causal_upper_left", is_causal=True, scale=2.0),
    ),
    Fault(
        "upper-left-bias-forgets-dropout",
        "causal_upper_left does not pass dropout_p on",
        edit(
            CausalBias,
            "_dispatch",
            "dropout_p=dropout_p,\n            is_causal=True,\n            scale",
            "is_causal=True,\n            scale",
        ),
        replace(SDPA, mode="causal_upper_left", is_causal=True, dropout=1.0),
    ),
)
