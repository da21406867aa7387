"""Faults of torch.nn.attention.flex_attention."""

from dataclasses import replace
from importlib import import_module

from tests.harness.cases.case import FlexAttention
from tests.harness.cases.masks import Mask
from tests.sensitivity.injection import Fault, Patch, edit

calling = import_module("torch.nn.attention.flex_attention")
computing = import_module("torch._higher_order_ops.flex_attention")  # its package has an operator of this name

_FLEX = FlexAttention(batch=(2, 2), L=3, S=4, D=4, Dv=4)
_MASKED = replace(_FLEX, kept_mask=Mask("bool", "random"), mask_batch=(2, 2))


def _of_the_last(*mask_mods):
    return mask_mods[-1]


FAULTS = (
    *(
        Fault(
            f"flex-{joined}-of-the-last-mask",
            f"{joined}_masks returns the last function that it is given",
            Patch(calling, f"{joined}_masks", lambda original: _of_the_last),
            replace(_FLEX, kept_mask=Mask("bool", "random"), mask_batch=(2, 2), joined=joined),
        )
        for joined in ("and", "or")
    ),
    Fault(
        "flex-scale-ignored",
        "flex_attention ignores the scale",
        edit(computing, "_math_attention_inner", "(scores * scale)", "scores"),
        replace(_FLEX, scale=2.0),
    ),
    Fault(
        "flex-mask-of-the-first-sample",
        "flex_attention asks mask_mod for the first sample alone",
        edit(computing, "_math_attention_inner", "mask_mod(b, h, m, n,", "mask_mod(b * 0, h, m, n,"),
        _MASKED,
    ),
    Fault(
        "flex-score-mod-before-scale",
        "flex_attention scales the score behind score_mod",
        edit(
            computing,
            "_math_attention_inner",
            "score_mod(scores, b, h, m, n, *score_mod_other_buffers)",
            "score_mod(scores / scale, b, h, m, n, *score_mod_other_buffers) * scale",
        ),
        replace(_FLEX, softcap=2.0),
    ),
    Fault(
        "flex-heads-in-turn",
        "with enable_gqa, flex_attention gives the heads of keys in turn, not in runs",
        edit(computing, "math_attention", "torch.repeat_interleave(key, G, dim=1)", "key.repeat(1, G, 1, 1)"),
        replace(_FLEX, batch=(1, 4), kv_heads=2),
    ),
    Fault(
        "flex-empty-log-sum-exp-zero",
        "the log-sum-exp of a fully masked query is 0 in flex_attention",
        edit(
            computing,
            "math_attention",
            'torch.where(masked_rows, -float("inf"), logsumexp)',
            "logsumexp.nan_to_num(neginf=0.0)",
        ),
        replace(_FLEX, kept_mask=Mask("bool", "row"), lse="return_lse"),
    ),
    Fault(
        "flex-log-sum-exp-in-base-2",
        "flex_attention returns the logarithm to base 2",
        edit(calling, "flex_attention", "ln2 = math.log(2.0)", "ln2 = 1.0"),
        replace(_FLEX, lse="return_lse"),
    ),
    Fault(
        "flex-adjusted-to-whole-blocks",
        "a BlockMask that is adjusted has the lengths of whole blocks",
        edit(calling.BlockMask, "_adjust", "seq_lengths=(new_q_len, new_kv_len)", "seq_lengths=None"),
        replace(_FLEX, kept_mask=Mask("bool", "causal"), block_size=(2, 3), blocks_by="adjustment"),
    ),
    Fault(
        "flex-slice-hides-nothing",
        "a slice of a BlockMask that is given no mask_mod hides nothing",
        edit(calling.BlockMask, "__getitem__", "mask_mod=_sliced_mask_mod_error", "mask_mod=None"),
        replace(_FLEX, kept_mask=Mask("bool", "causal"), mask_batch=_FLEX.batch, blocks_by="slice_without_mask_mod"),
    ),
    Fault(
        "flex-slice-counts-whole-blocks",
        "a BlockMask that is sliced by blocks of queries counts its last block as a whole one",
        edit(calling.BlockMask, "_query_length_for_sliced_blocks", "if not isinstance(q_index, slice):", "if True:"),
        replace(_FLEX, kept_mask=Mask("bool", "causal"), block_size=(2, 3), blocks_by="slice_of_queries"),
    ),
)
