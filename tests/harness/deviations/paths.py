"""Which path each release documents and takes for a case: what the case says, not what was seen.

An attention block of a module is named by its source of keys: "self" (a multi-head attention on its own), "src"
(the encoder's), "tgt" (the decoder's) or "memory". Where the last layer of a stack goes another way than the others,
the names are "src.early", "src.last" and so on. A path is "native_layer", "native_mha", "sdpa" or "explicit".
"""

from dataclasses import replace

import numpy as np

from ..cases.case import UNRECORDED, MultiHead, ScaledDotProduct, Transformer, is_padding, masks_of, mixes_types
from ..contents.arrays import mask_arrays, the_parameter
from ..contents.packing import packs, without_padding
from ..modes.modes import BY_ID, is_closed_by_export
from ..releases import since


def attention_blocks(case):
    """The attention blocks that the case computes."""
    if isinstance(case, MultiHead):
        return ("self",)
    names = (("src",) if case.has_encoder else ()) + (("tgt", "memory") if case.has_decoder else ())
    is_split = case.autograd in ("one_parameter", "last_layer") and case.num_layers > 1
    parts = (".early", ".last") if is_split else ("",)
    return tuple(f"{name}{part}" for name in names for part in parts)


def every_block(case):
    """The same, and "sdpa" for scaled_dot_product_attention on its own."""
    return attention_blocks(case) if isinstance(case, (MultiHead, Transformer)) else ("sdpa",)


def source_of(block):
    """Where the keys of a block come from: its name without the part of the stack."""
    return block.partition(".")[0]


def path_of_each_block(case, release):
    """{block: path}"""
    return {block: _path(case, release, block) for block in attention_blocks(case)}


def _path(case, release, block):
    if source_of(block) == "src" and takes_native_layer(case, release, block):
        return "native_layer"
    if _takes_native_mha(case, release, block):
        return "native_mha"
    wants_weights = isinstance(case, MultiHead) and case.need_weights
    return "sdpa" if since(release, "2.0") and not wants_weights else "explicit"


def _infers(case, release):
    """What the native paths ask for before they ask for autograd."""
    switched_on = case.fast_path or not release.has_fast_path_switch
    return switched_on and not case.training and case.batched and case.batch_first


def fast_path_is_open(case, release, block, part="layer"):
    """True if neither the mode nor autograd keeps a part of the block, "layer" or "attention", from its native path."""
    mode = BY_ID[case.mode]
    is_unseen = mode.is_forward or not is_given_what_moves(case, block, part)  # of a tangent autograd is not told
    is_cast = mode.lowers and release.device_type == "cuda"  # autocast on a CPU they don't see
    is_closed = is_cast or is_overridden(case) or is_closed_by_export(case, release.version)
    return _infers(case, release) and is_unseen and not is_closed


def is_overridden(case):
    """True if torch's functions are overridden, which a default device does to them all."""
    return case.mode == "default_device"


def is_given_what_moves(case, block, part):
    """True if autograd sees a parameter of this part of the block, or something that it is given."""
    return not _is_unrecorded(case, block, part)


def _is_unrecorded(case, block, part):
    if case.autograd != "one_parameter" or isinstance(case, MultiHead):
        return case.autograd in UNRECORDED or block.endswith(".early")
    stack, layers, name = the_parameter(case).rpartition("layers.")
    is_of_layer = layers or case.module.endswith("Layer")
    is_of_stack = stack in ("", {"src": "encoder.", "tgt": "decoder."}.get(source_of(block)))
    if block.endswith(".early") or not (is_of_layer and is_of_stack):
        return True
    name = name.partition(".")[2] if layers else name
    comes_before = ("self_attn.", "norm1.") if case.norm_first else ("self_attn.",)
    return part == "attention" and not name.startswith(comes_before)


def looks_for_missing_biases(case, release):
    """True if nn.TransformerEncoderLayer(bias=False) asks its biases which device they are on."""
    if not isinstance(case, Transformer) or not case.has_encoder or (packs(case) and masks_of(without_padding(case))):
        return False  # beside a nested tensor, a mask is what it finds first
    may_be_native = case.num_heads % 2 == 0 and has_native_activation(case) and not is_overridden(case)
    return not case.bias and may_be_native and _infers(case, release)


def takes_native_layer(case, release, block="src"):
    """True if nn.TransformerEncoderLayer takes its native path in this block."""
    if is_traced_within(case, release) and since(release, "2.4"):
        return False
    return _may_be_native(case, release, block) and case.bias and not has_hooks(case, release)


def has_hooks(case, release):
    """True if an encoder layer finds hooks on its parts, which keep it from its native path."""
    return case.mode in ("pruned", "pruned_refreshed") and since(release, "2.5")


def _may_be_native(case, release, block):
    return (
        isinstance(case, Transformer)
        and case.has_encoder
        and fast_path_is_open(case, release, block)
        and case.num_heads % 2 == 0
        and has_native_activation(case)
        and (since(release, "2.0") or case.src_mask is None)
    )


def has_native_activation(case):
    """True if the native path of nn.TransformerEncoderLayer has the activation, or takes it for one that it has."""
    return case.activation in ("relu", "gelu", "gelu_tanh")


def _takes_native_mha(case, release, block):
    """True if nn.MultiheadAttention takes its native path in this block."""
    return prepares_masks(case, release, block) and (case.bias or not since(release, "2.1"))


def prepares_masks(case, release, block):
    """True if nn.MultiheadAttention merges its masks for its native path, which it then takes if it has biases."""
    stream = source_of(block)
    if (
        getattr(case, "functional", False)
        or stream == "memory"
        or not fast_path_is_open(case, release, block, "attention")
    ):
        return False
    if is_compiled_whole(case, release) or is_traced_within(case, release):  # it is taken for an export
        return False
    if isinstance(case, MultiHead):
        masks = masks_of(case)
        if case.attention != "self" or case.add_bias_kv or case.add_zero_attn or case.separate_projections:
            return False
    else:
        masks = {name: mask for name, mask in masks_of(case).items() if name.startswith(stream)}
    if not since(release, "2.0"):
        no_attn_mask = all(is_padding(name) for name in masks)
        return no_attn_mask and case.num_heads % 2 == 0 and case.dropout == 0
    if not since(release, "2.1"):
        return True
    # the encoder layer has made its masks float before it calls its attention
    any_float = any(mask.is_float for mask in masks.values()) or (stream == "src" and masks)
    return case.num_heads % 2 == 0 and not any_float


def is_compiled_whole(case, release):
    """True if the modules see that they are compiled, and leave some of their native paths since 2.10.

    Where the graph breaks, the whole call is run as if it were not compiled: a stack breaks it to ask whether a mask is
    causal, and a layer to warn of masks of two types, which a strict export passes over.
    """
    is_compiled = BY_ID[case.mode].family == "compiled"
    if not (is_compiled or case.mode == "exported_strict") or not since(release, "2.10"):
        return False
    if not isinstance(case, Transformer):
        return True
    if is_compiled and mixes_types(case):
        return False
    takes_sizes = not case.mode.endswith("_dynamic") or since(release, "2.13")  # that are left open
    if not takes_sizes and _has_native_layer(case, release):
        return False
    return not any(asks_whether_causal(case, release, block) for block in attention_blocks(case))


def is_traced_within(case, release):
    """True if TorchDynamo leaves the module whole, as before 2.5 it does with torch's, and AOTAutograd traces it.

    A layer sees in 2.4 alone that it is traced; its attention always does.
    """
    if case.mode != "compiled" or since(release, "2.5") or isinstance(case, ScaledDotProduct):
        return False
    return isinstance(case, MultiHead) or not any(
        asks_whether_causal(case, release, block) for block in attention_blocks(case)
    )


def _has_native_layer(case, release):
    sources = [block for block in attention_blocks(case) if source_of(block) == "src"]
    return any(takes_native_layer(case, release, block) for block in sources)


def asks_whether_causal(case, release, block):
    """True if a stack looks whether the mask of the block is causal, for want of a hint."""
    if not isinstance(case, Transformer):
        return False
    mask, hint = (getattr(case, f"{source_of(block)}_{name}") for name in ("mask", "is_causal"))
    if mask is None or hint is not None or not detects_causality(case, release, block):
        return False
    return not (mask.per_head and since(release, "2.1"))  # before, a mask of each head is compared, too


def detects_causality(case, release, block):
    """True if a stack finds out by itself that the mask of the block is causal."""
    if case.module.endswith("Layer"):
        return False
    return source_of(block) == "src" or (source_of(block) == "tgt" and release.has_decoder_hints)


def takes_nested_path(case, release):
    """True if nn.TransformerEncoder packs the padded batch into a nested tensor."""
    return (
        isinstance(case, Transformer)
        and case.has_encoder
        and _may_be_native(case, release, attention_blocks(case)[0])
        and (case.bias or (not since(release, "2.3") and case.autograd in ("no_grad", "inference_mode")))
        and case.module != "TransformerEncoderLayer"
        and case.enable_nested_tensor
        and not case.norm_first
        and case.src_mask is None
        and case.src_key_padding_mask is not None
        and (not case.mask_check or _is_seen_to_be_aligned(case, release))
    )


def takes_nested_path_on_fake_tensors(case, release):
    """The same where the call is made on fake tensors, on which padding always seems to come last."""
    return isinstance(case, Transformer) and takes_nested_path(replace(case, mask_check=False), release)


def _is_seen_to_be_aligned(case, release):
    if BY_ID[case.mode].family == "traced":  # that with which it is traced
        return case.mode != "traced_hiding" or min(case.N, case.S) < 2
    return not is_compiled_whole(case, release) and is_left_aligned(nested_lengths(case)[1])


def asks_for_alignment(case, release):
    """True if nn.TransformerEncoder looks where the padding is, which it does before it looks at autograd."""
    return (
        case.module in ("TransformerEncoder", "Transformer")
        and _infers(case, release)
        and not is_compiled_whole(case, release)
        and case.enable_nested_tensor
        and case.mask_check
        and not case.norm_first
        and (case.num_heads % 2 == 0 or not since(release, "2.1"))
        and (case.bias or not since(release, "2.3"))
        and has_native_activation(case)
        and case.src_key_padding_mask is not None
    )


def nested_lengths(case):
    """(lengths (N,), kept (N, S)) as the nested path reads src_key_padding_mask: it keeps what is 0 or False."""
    kept = np.logical_not(mask_arrays(case)["src_key_padding_mask"])
    return kept.sum(axis=1), kept


def is_left_aligned(kept):
    """True if no kept position follows one that isn't."""
    return not (kept[:, 1:] & ~kept[:, :-1]).any()


def reachable_paths(release):
    """{module: paths that serve some of its calls in this release on this device}"""
    if release.adopted:  # which paths it takes is its own affair
        return {}
    sdpa = {"sdpa_math"} if since(release, "2.0") else {"explicit"}
    if since(release, "2.1") and release.device_type == "cpu":
        sdpa |= {"sdpa_flash"}
    if release.device_type != "cpu":
        sdpa = set()  # which backends there are depends on the machine
    native = {"native_mha"}
    encoder = {"native_encoder_layer"}
    path_of_each_block = {
        "MultiheadAttention": {"explicit"} | native | sdpa,
        "multi_head_attention_forward": {"explicit"} | sdpa,
        "TransformerEncoderLayer": encoder | sdpa,
        "TransformerEncoder": encoder | {"nested"} | sdpa,
        "TransformerDecoderLayer": native | sdpa,
        "TransformerDecoder": native | sdpa,
        "Transformer": encoder | native | {"nested"} | sdpa,
    }
    return path_of_each_block | ({"scaled_dot_product_attention": sdpa} if since(release, "2.0") else {})
