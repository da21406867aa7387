"""The path that each release takes for a case, predicted from the case alone.

An attention block of a module is named after the source of its keys: "self" (multi-head attention on its own), "src"
(encoder), "tgt" (self-attention of the decoder) or "memory" (its cross-attention). If the last layer of a stack takes
another path than the others, the blocks are "src.early", "src.last" and so on. The paths are NATIVE_LAYER, NATIVE_MHA,
BY_SDPA and EXPLICIT (path_names.py).
"""

from dataclasses import replace

import numpy as np

from ..cases.case import (
    UNRECORDED,
    Case,
    Transformer,
    is_padding,
    masks_of,
    mixes_types,
    source_of,
)
from ..contents.arrays import mask_arrays, the_parameter
from ..contents.packing import packs, without_padding
from ..execution.release import Release
from ..modes.distributed import FSDP, FULLY_SHARD, TENSOR_PARALLEL
from ..modes.modes import BY_ID, is_closed_by_export
from ..path_names import (
    BY_SDPA,
    EXPLICIT,
    NATIVE_ENCODER_LAYER,
    NATIVE_LAYER,
    NATIVE_MHA,
    NESTED,
    SDPA_FLASH,
    SDPA_MATH,
)
from ..releases import since


def path_of_each_block(case: Case, release: Release) -> dict[str, str]:
    """{block: path} of the attention blocks."""
    return {block: _path(case, release, block) for block in case.blocks}


def _path(case, release, block):
    if not case.has_fast_path:
        return BY_SDPA
    if source_of(block) == "src" and takes_native_layer(case, release, block):
        return NATIVE_LAYER
    if _takes_native_mha(case, release, block):
        return NATIVE_MHA
    return BY_SDPA if since(release, "2.0") and not case.need_weights else EXPLICIT


def _infers(case, release):
    """True if the checks that come before autograd's leave fast paths open: switch, eval mode, batch."""
    switched_on = case.fast_path or not release.has_fast_path_switch
    return switched_on and not case.training and case.batched and case.batch_first


def fast_path_is_open(case: Case, release: Release, block: str, part: str = "layer") -> bool:
    """True if neither the mode nor autograd keeps this part of a block off its fast path.

    part: "layer" or "attention".
    """
    mode = BY_ID[case.mode]
    is_unseen = mode.is_forward or not is_given_what_moves(case, block, part)  # autograd does not see tangents
    is_cast = mode.lowers and release.device_type == "cuda"  # fast paths do not see autocast on a CPU
    is_closed = is_cast or is_overridden(case) or is_closed_by_export(case, release.version)
    return _infers(case, release) and is_unseen and not is_closed


def is_overridden(case: Case) -> bool:
    """True if torch's functions are overridden, as all are under a default device, or for tensors of a subclass."""
    return case.mode in ("default_device", "subclassed")


def is_given_what_moves(case: Case, block: str, part: str) -> bool:
    """True if autograd records a parameter of this part of the block, or one of its inputs."""
    return not _is_unrecorded(case, block, part)


def _is_unrecorded(case, block, part):
    is_hidden = hides_inputs(case, block)
    if is_hidden and case.autograd in ("inputs", "one_input"):
        return True
    if case.autograd != "one_parameter" or not case.has_layers:
        return case.autograd in UNRECORDED or block.endswith(".early")
    stack, layers, name = the_parameter(case).rpartition("layers.")
    is_of_layer = layers or case.module.endswith("Layer")
    is_of_stack = stack in ("", {"src": "encoder.", "tgt": "decoder."}.get(source_of(block)))
    if block.endswith(".early") or not (is_of_layer and is_of_stack):
        return True
    name = name.partition(".")[2] if layers else name
    comes_before = ("self_attn.", "norm1.") if case.norm_first and not is_hidden else ("self_attn.",)
    return part == "attention" and not name.startswith(comes_before)


def hides_inputs(case: Case, block: str) -> bool:
    """True if vmap hides from a fast path that inputs of the block require a gradient.

    It hides this of mapped tensors and of all that is computed from them: the input of later layers, if masks alone
    are mapped.
    """
    mode = BY_ID[case.mode]
    return mode.maps("sequences") or (block.endswith(".last") and follows_a_mapped_mask(case, block))


def follows_a_mapped_mask(case: Case, block: str) -> bool:
    """True if later layers of this block get inputs that are computed from a mask that vmap maps."""
    earlier = case.mask_names(block) if source_of(block) == "src" else masks_of(case)
    is_masked = any(getattr(case, name) is not None for name in earlier)
    return BY_ID[case.mode].maps("masks") and case.num_layers > 1 and is_masked


def looks_for_missing_biases(case: Case, release: Release) -> bool:
    """True if nn.TransformerEncoderLayer(bias=False) reads the device of its biases, which are None."""
    if not case.has_encoder or (packs(case) and masks_of(without_padding(case))):
        return False  # a mask with a nested tensor raises first
    may_be_native = case.num_heads % 2 == 0 and has_native_activation(case) and not is_overridden(case)
    return not case.bias and may_be_native and _has_one_eps(case) and _infers(case, release)


def reads_parts(case: Case, release: Release) -> bool:
    """True if nn.TransformerEncoderLayer reads the parameters of its parts, to see if autograd records any."""
    if not case.has_encoder or is_overridden(case):
        return False
    may_be_native = case.num_heads % 2 == 0 and has_native_activation(case) and (case.bias or not since(release, "2.3"))
    return (
        may_be_native
        and _has_one_eps(case)
        and _infers(case, release)
        and (since(release, "2.0") or case.src_mask is None)
    )


def takes_native_layer(case: Case, release: Release, block: str = "src") -> bool:
    """True if nn.TransformerEncoderLayer takes its fast path in this block."""
    if is_traced_within(case, release) and since(release, "2.4"):
        return False
    is_plain = _has_one_eps(case) and not has_hooks(case, release)
    return _may_be_native(case, release, block) and case.bias and is_plain


def _has_one_eps(case):
    """True if norm1 and norm2 of each encoder layer have the same eps, as the fast path needs."""
    return BY_ID[case.mode].norm2_eps in (None, case.layer_norm_eps)


_HOOKED = ("pruned_refreshed", FULLY_SHARD, TENSOR_PARALLEL)  # besides the modes that hook or prune


def has_hooks(case: Case, release: Release) -> bool:
    """True if an encoder layer finds hooks on its submodules, which keep it off its fast path since 2.5."""
    hooks = BY_ID[case.mode].family in ("hooked", "pruned") or case.mode in _HOOKED
    return hooks and since(release, "2.5")


def _may_be_native(case, release, block):
    return (
        case.has_encoder
        and fast_path_is_open(case, release, block)
        and case.num_heads % 2 == 0
        and has_native_activation(case)
        and (since(release, "2.0") or case.src_mask is None)
    )


def has_native_activation(case: Case) -> bool:
    """True if nn.TransformerEncoderLayer's fast path has the activation, or takes it for one that it has."""
    return case.activation in ("relu", "gelu", "gelu_tanh")


def _takes_native_mha(case, release, block):
    """True if nn.MultiheadAttention takes its fast path in this block."""
    return prepares_masks(case, release, block) and (case.bias or not since(release, "2.1"))


def prepares_masks(case: Case, release: Release, block: str) -> bool:
    """True if nn.MultiheadAttention merges its masks for its fast path, which it then takes if it has biases."""
    stream = source_of(block)
    if case.functional or stream == "memory" or not fast_path_is_open(case, release, block, "attention"):
        return False
    if is_compiled_whole(case, release) or is_traced_within(case, release):  # torch takes it for an export
        return False
    if case.attention not in ("", "self") or case.appended_keys or case.separate_projections:
        return False
    masks = {name: mask for name, mask in masks_of(case).items() if name in case.mask_names(block)}
    if not since(release, "2.0"):
        no_attn_mask = all(is_padding(name) for name in masks)
        return no_attn_mask and case.num_heads % 2 == 0 and case.dropout == 0
    if not since(release, "2.1"):
        return True
    # the encoder layer converts its masks to float before it calls its attention
    any_float = any(mask.is_float for mask in masks.values()) or (stream == "src" and masks)
    return case.num_heads % 2 == 0 and not any_float


def is_compiled_whole(case: Case, release: Release) -> bool:
    """True if the modules see that they are compiled, and leave some of their fast paths, as since 2.10.

    After a graph break the whole call runs as if it were not compiled. A stack breaks the graph when it checks if a
    mask is causal, and a layer when it warns of masks of two types; a strict export passes over the warning.
    """
    is_compiled = BY_ID[case.mode].family == "compiled"
    if not (is_compiled or case.mode == "exported_strict") or not since(release, "2.10"):
        return False
    if not case.has_layers:
        return True
    if is_compiled and mixes_types(case):
        return False
    takes_sizes = not case.mode.endswith("_dynamic") or since(release, "2.13")  # sizes that are left open
    if not takes_sizes and _has_native_layer(case, release):
        return False
    return not any(asks_whether_causal(case, release, block) for block in case.blocks)


def is_traced_within(case: Case, release: Release) -> bool:
    """True if TorchDynamo does not look into the module, and AOTAutograd traces it: torch's own modules before 2.5.

    A layer sees only in 2.4 that it is traced; its attention always sees it.
    """
    if case.mode != "compiled" or since(release, "2.5") or not case.has_parameters:
        return False
    return not any(asks_whether_causal(case, release, block) for block in case.blocks)


def _has_native_layer(case, release):
    sources = [block for block in case.blocks if source_of(block) == "src"]
    return any(takes_native_layer(case, release, block) for block in sources)


def asks_whether_causal(case: Case, release: Release, block: str) -> bool:
    """True if a stack checks if the mask of the block is causal, since no hint says so."""
    if not detects_causality(case, release, block):
        return False
    mask, hint = getattr(case, case.mask_names(block)[0]), getattr(case, case.hint(block))
    if mask is None or hint is not None:
        return False
    return not (mask.per_head and since(release, "2.1"))  # before 2.1 a mask per head is compared, too


def detects_causality(case: Case, release: Release, block: str) -> bool:
    """True if a stack detects by itself that the mask of the block is causal."""
    if case.module.endswith("Layer"):
        return False
    return source_of(block) == "src" or (source_of(block) == "tgt" and release.has_decoder_hints)


def takes_nested_path(case: Case, release: Release) -> bool:
    """True if nn.TransformerEncoder packs the padded batch into a nested tensor."""
    return (
        case.has_encoder
        and _may_be_native(case, release, case.blocks[0])
        and (case.bias or (not since(release, "2.3") and case.autograd in ("no_grad", "inference_mode")))
        and case.module != "TransformerEncoderLayer"
        and _may_pack(case, release)
        and case.src_mask is None
        and case.src_key_padding_mask is not None
        and (not case.mask_check or _is_seen_to_be_aligned(case, release))
    )


def _may_pack(case, release):
    """True if nothing in how nn.TransformerEncoder is made, or wrapped, keeps it from packing padding."""
    is_sharded_by_layers = case.mode == FSDP  # whose wrappers are no encoder layers
    is_plain = _has_one_eps(case) or since(release, "2.1")  # which looks at norms only when the stack is made
    return case.enable_nested_tensor and not case.norm_first and not is_sharded_by_layers and is_plain


def takes_nested_path_on_fake_tensors(case: Case, release: Release) -> bool:
    """True if nn.TransformerEncoder packs a batch of fake tensors, on which padding always seems to come last."""
    return isinstance(case, Transformer) and takes_nested_path(replace(case, mask_check=False), release)


def _is_seen_to_be_aligned(case, release):
    if BY_ID[case.mode].family == "traced":  # the example mask decides
        return case.mode != "traced_hiding" or min(case.N, case.S) < 2
    return not is_compiled_whole(case, release) and is_left_aligned(nested_lengths(case)[1])


def asks_for_alignment(case: Case, release: Release) -> bool:
    """True if nn.TransformerEncoder checks if padding comes last, which it does before it checks autograd."""
    return (
        case.module in ("TransformerEncoder", "Transformer")
        and _infers(case, release)
        and not is_compiled_whole(case, release)
        and _may_pack(case, release)
        and case.mask_check
        and (case.num_heads % 2 == 0 or not since(release, "2.1"))
        and (case.bias or not since(release, "2.3"))
        and has_native_activation(case)
        and case.src_key_padding_mask is not None
    )


def nested_lengths(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(lengths (N,), kept (N, S)) as the nested path reads src_key_padding_mask: 0 and False are kept."""
    kept = np.logical_not(mask_arrays(case)["src_key_padding_mask"])
    return kept.sum(axis=1), kept


def is_left_aligned(kept: np.ndarray) -> bool:
    """True if no kept position follows a padded one; kept: bool (N, S)."""
    return not (kept[:, 1:] & ~kept[:, :-1]).any()


def reachable_paths(release: Release) -> dict[str, set[str]]:
    """{module: paths that serve some of its calls in this release on this device}"""
    if release.adopted:  # its paths are unknown
        return {}
    sdpa = {SDPA_MATH} if since(release, "2.0") else {EXPLICIT}
    if since(release, "2.1") and release.device_type == "cpu":
        sdpa |= {SDPA_FLASH}
    if release.device_type != "cpu":
        sdpa = set()  # the backends depend on the machine
    native = {NATIVE_MHA}
    encoder = {NATIVE_ENCODER_LAYER}
    path_of_each_block = {
        "MultiheadAttention": {EXPLICIT} | native | sdpa,
        "multi_head_attention_forward": {EXPLICIT} | sdpa,
        "TransformerEncoderLayer": encoder | sdpa,
        "TransformerEncoder": encoder | {NESTED} | sdpa,
        "TransformerDecoderLayer": native | sdpa,
        "TransformerDecoder": native | sdpa,
        "Transformer": encoder | native | {NESTED} | sdpa,
    }
    return path_of_each_block | ({"scaled_dot_product_attention": sdpa} if since(release, "2.0") else {})
