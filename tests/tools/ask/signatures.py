"""The arguments of the six modules and three functions, in order, with their names in every release."""

from collections.abc import Sequence
from typing import Any

from tests.harness.command_line import BadInput

_KIND = "device dtype"
_LAYER = f"d_model nhead dim_feedforward dropout activation layer_norm_eps batch_first norm_first bias {_KIND}"
_LAYER_CALL = (
    "tgt memory tgt_mask memory_mask tgt_key_padding_mask memory_key_padding_mask tgt_is_causal memory_is_causal"
)

CONSTRUCTORS = {
    "MultiheadAttention": f"embed_dim num_heads dropout bias add_bias_kv add_zero_attn kdim vdim batch_first {_KIND}",
    "TransformerEncoderLayer": _LAYER,
    "TransformerEncoder": "encoder_layer num_layers norm enable_nested_tensor mask_check",
    "TransformerDecoderLayer": _LAYER,
    "TransformerDecoder": "decoder_layer num_layers norm",
    "Transformer": "d_model nhead num_encoder_layers num_decoder_layers dim_feedforward dropout activation"
    f" custom_encoder custom_decoder layer_norm_eps batch_first norm_first bias {_KIND}",
}
FUNCTIONS = {
    "scaled_dot_product_attention": "query key value attn_mask dropout_p is_causal scale enable_gqa",
    "multi_head_attention_forward": "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k"
    " bias_v add_zero_attn dropout_p out_proj_weight out_proj_bias training key_padding_mask need_weights attn_mask"
    " use_separate_proj_weight q_proj_weight k_proj_weight v_proj_weight static_k static_v average_attn_weights"
    " is_causal",
    "flex_attention": "query key value score_mod block_mask scale enable_gqa return_lse kernel_options return_aux",
}
CALLS = {
    **FUNCTIONS,
    "MultiheadAttention": "query key value key_padding_mask need_weights attn_mask average_attn_weights is_causal",
    "TransformerEncoderLayer": "src src_mask src_key_padding_mask is_causal",
    "TransformerEncoder": "src mask src_key_padding_mask is_causal",
    "TransformerDecoderLayer": _LAYER_CALL,
    "TransformerDecoder": _LAYER_CALL,
    "Transformer": "src tgt src_mask tgt_mask memory_mask src_key_padding_mask tgt_key_padding_mask"
    " memory_key_padding_mask src_is_causal tgt_is_causal memory_is_causal",
}

# The number of arguments of a call that have no default.
REQUIRED = {
    "scaled_dot_product_attention": 3,
    "multi_head_attention_forward": 13,
    "flex_attention": 3,
    "MultiheadAttention": 3,
    "TransformerEncoderLayer": 1,
    "TransformerEncoder": 1,
    "TransformerDecoderLayer": 2,
    "TransformerDecoder": 2,
    "Transformer": 2,
}


def bound(kind: str, given: Sequence[Any], named: dict[str, Any], is_call: bool = False) -> dict[str, Any]:
    """{argument: value} of a constructor, or of a call.

    Raises BadInput for an argument that does not exist, and for one that a call lacks.
    """
    names = (CALLS if is_call else CONSTRUCTORS)[kind].split()
    if len(given) > len(names):
        raise BadInput(f"{kind}: {len(given)} arguments; it takes {', '.join(names)}")
    for name in named:
        if name not in names:
            raise BadInput(f"{kind} takes no {name}; it takes {', '.join(names)}")
    found = dict(zip(names, given, strict=False)) | named
    if missing := [name for name in names[: REQUIRED[kind]] if name not in found] if is_call else []:
        raise BadInput(f"{kind}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing in the call")
    return found
