"""The mode that passes all arguments by position, each tensor as the result of another operation.

The orders are those that torch documents for each module and function; they are the same in all releases.
"""

from pprint import pformat

from .mode import FUNCTIONAL, MODULES, SDPA, Mode

_PADDINGS = {"tgt_key_padding_mask": None, "memory_key_padding_mask": None}
_OF_DECODER = {"tgt_mask": None, "memory_mask": None, **_PADDINGS}
_PROJECTIONS = dict.fromkeys(("q_proj_weight", "k_proj_weight", "v_proj_weight", "static_k", "static_v"))
_OF_FUNCTION = (
    *("embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn"),
    *("dropout_p", "out_proj_weight", "out_proj_bias"),
)

# {module or function: {argument after the sequences: its default}}
_ORDERS = {
    "MultiheadAttention": {
        "key_padding_mask": None,
        "need_weights": True,
        "attn_mask": None,
        "average_attn_weights": True,
        "is_causal": False,
    },
    "TransformerEncoderLayer": {"src_mask": None, "src_key_padding_mask": None, "is_causal": False},
    "TransformerEncoder": {"mask": None, "src_key_padding_mask": None, "is_causal": None},
    "TransformerDecoderLayer": {**_OF_DECODER, "tgt_is_causal": False, "memory_is_causal": False},
    "TransformerDecoder": {**_OF_DECODER, "tgt_is_causal": None, "memory_is_causal": False},
    "Transformer": {
        "src_mask": None,
        "tgt_mask": None,
        "memory_mask": None,
        "src_key_padding_mask": None,
        **_PADDINGS,
        "src_is_causal": None,
        "tgt_is_causal": None,
        "memory_is_causal": False,
    },
    SDPA: {"attn_mask": None, "dropout_p": 0.0, "is_causal": False},
    FUNCTIONAL: {
        **dict.fromkeys(_OF_FUNCTION),
        "training": True,
        "key_padding_mask": None,
        "need_weights": True,
        "attn_mask": None,
        "use_separate_proj_weight": False,
        **_PROJECTIONS,
        "average_attn_weights": True,
        "is_causal": False,
    },
}

_CODE = f"""\
orders = {pformat(_ORDERS, sort_dicts=False, width=110)}
order = orders[getattr(module, "__name__", type(module).__name__).lstrip("_")]

def by_position(*given, **options):
    tensors = [value for value in (*given, *options.values()) if isinstance(value, torch.Tensor)]
    views = {{id(tensor): tensor[...] for tensor in tensors}}  # identity marks self-attention
    sequences = [views[id(tensor)] for tensor in given]
    others = {{name: views.get(id(value), value) for name, value in options.items()}}
    number = 1 + max((place for place, name in enumerate(order) if name in others), default=-1)
    ordered = [others.pop(name, default) for name, default in list(order.items())[:number]]
    return module(*sequences, *ordered, **others)
"""

BY_POSITION = Mode(
    "by_position", _CODE, "by_position", calls=(*[MODULES] * 6, FUNCTIONAL, *[SDPA] * 3), everywhere=False, drops=True
)
