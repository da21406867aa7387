"""The known deviations from clause 9: which wrong masks a release accepts, or refuses without naming the mask.

Like those of ledger.py they predict: what a release does with every row of table.CALLS and of
sequences.SEQUENCES is stated here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from reference import masks as meaning

from ..cases.case import is_padding
from ..deviations.effects import MaskingHalfOfAVector
from ..execution.setting import ON_BOTH, ON_CPU, ON_CUDA
from ..expectation.changes import with_kernel, with_masks
from ..modes.vectors import extension
from ..releases import since
from .remedies import (
    _AS_BOOL,
    _DEVICE,
    _PRECISION,
    _SHAPE,
    _TRAINING,
    _WITHOUT_HINT,
    RIGHT,
    WrongMaskRemedy,
    broadcasts,
    right,
    with_fault,
)
from .results import NOTHING_COMPARED, Unwritten, argument, compare
from .sequences import WrongSequence
from .table import ACCEPTS, HEADS, UNHELPFUL, N, not_applicable


@dataclass(frozen=True)
class WrongMaskDeviation:
    """One entry.

    affects: the releases, as a version specifier. instead: ACCEPTS or UNHELPFUL. effect: in words, what is computed
    or said. message: pattern of the exception. applies: (WrongCall, Release) -> bool, for a release that is affected.
    change: (computation, WrongCall) -> computation, of an entry that accepts: what is computed, in numbers.
    upstream: "pytorch/pytorch#N", or "not found".
    """

    id: str
    title: str
    affects: str
    upstream: str
    instead: str
    effect: str
    applies: Callable
    message: str = ""
    change: Callable | None = None
    devices: tuple[str, ...] = ON_CPU

    def __post_init__(self):
        if (self.instead == ACCEPTS) != (self.change is not None):
            raise ValueError(f"{self.id}: an entry says what is computed if it accepts a mask, and only then")

    def concerns(self, release):
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)

    def predicts(self, call, release):
        return self.concerns(release) and self.applies(call, release) and not not_applicable(call, release)

    def compared(self, call, outcome):
        """The Comparison of the outcome with what the entry says; None if it is of another kind."""
        if outcome.kind != self.instead or re.search(self.message, outcome.error) is None:
            return None
        return compare(call, outcome, self.change) if self.instead == ACCEPTS else NOTHING_COMPARED

    def shows(self, call, outcome):
        """True if the outcome is of the kind that the entry says, and the result, if there is one, as predicted."""
        compared = self.compared(call, outcome)
        return compared is not None and not compared.mismatches


# ---- where a deviation applies -------------------------------------------------------------------------------------


_SDPA = "scaled_dot_product_attention"


_HELD_RIGHT = ("flat", "reshaped", "four_dimensions", "slices_reshaped")  # as many elements as the right mask


def _is_self_attention(call):
    return call.callee.variant == "self" or call.argument == "mask" or call.argument.startswith(("src_", "tgt_"))


def _is_native(call, release):
    """True if a native path serves the attention that the mask is for; a float mask keeps some of them closed."""
    takes_it = since(release, "2.0") or is_padding(call.argument)
    return call.mode == "inference" and call.callee.is_batched and _is_self_attention(call) and takes_it


def _is_explicit(call, release):
    """True if softmax and its products are called one by one, where no native path serves."""
    wants_weights = call.module == "MultiheadAttention" or "need_weights=True" in call.callee.options
    return call.module != _SDPA and (wants_weights or not since(release, "2.0"))


def _is_compared(call, release):
    """True if a stack compares the mask with a causal one."""
    names = ("mask", "src_mask", "tgt_mask") if since(release, "2.1") else ("mask", "src_mask")
    is_stack = call.module in ("TransformerEncoder", "TransformerDecoder", "Transformer")
    return is_stack and call.argument in names and since(release, "2.0")


def _is_native_layer(call, release):
    """True if that is the native encoder layer."""
    return _is_native(call, release) and call.argument in ("mask", "src_mask")


def _is_nesting(call):
    """True if the mask says which positions an encoder leaves out of a nested tensor."""
    is_in_encoder = call.argument == "src_key_padding_mask" and call.module != "TransformerEncoderLayer"
    return is_in_encoder and call.mode == "inference" and call.callee.is_batched


def _is_native_padding(call, release):
    """True if a native path gets it as a padding mask of two dimensions."""
    is_native = _is_native(call, release) and is_padding(call.argument) and not _is_nesting(call)
    return is_native and len(call.shape) == 2


def _is_taken_for_a_hint(call):
    """True if a bias becomes is_causal=True, whatever its size is."""
    is_square = call.fault.bias and call.shape[0] == call.shape[1]
    return call.module == _SDPA and bool(is_square or call.fault.bias == "causal_upper_left") and not call.fault.hint


def _is_viewed(call, release):
    """True if a native path views the mask as (1, 1, length, length), or a 3-D one as (N, any, length, length)."""
    return _is_native(call, release) and not is_padding(call.argument) and call.shape is not None


def _is_viewed_as_padding(call, release):
    """True if a native path views the padding mask as (N, 1, 1, length), which it does beside an attention mask."""
    is_padded = is_padding(call.argument) and not _is_nesting(call)
    return _is_native(call, release) and is_padded and call.fault.beside and call.shape != call.right_shape


def _cannot_be_viewed(call, release):
    if not _is_viewed(call, release):
        return False
    square = prod(call.right_shape)
    return prod(call.shape) % (N * square) != 0 if len(call.shape) == 3 else prod(call.shape) != square


def _drops_the_mask(call, release):
    """True if is_causal takes the place of the mask before anything has looked at it."""
    is_hinted = call.fault.hint and call.shape is not None and call.module != _SDPA
    return is_hinted and not _is_native(call, release) and not _is_explicit(call, release)


def _is_fused(call, release):
    """True if the CPU's fused kernel would serve the call: it takes masks from 2.3 on, and groups of heads from 2.9."""
    first = {"4d": "2.3", "grouped": "2.9"}.get(call.callee.variant)
    return first is not None and since(release, first) and release.device_type != "cuda"


def _has_no_rows(call, release):
    """True if the CPU's fused kernel is given a 1-D mask."""
    return call.fault.name == "flat" and _is_fused(call, release)


def _is_refused_as_attn_mask(call, release):
    """True if scaled_dot_product_attention gets a float padding mask, as its attn_mask, of a type that it refuses."""
    refused = ("higher",) if since(release, "2.4") else ("higher", "lower")
    if call.fault.precision not in refused or not is_padding(call.argument) or _is_explicit(call, release):
        return False
    is_closed = call.argument.startswith("tgt_") and since(release, "2.1")  # a float mask keeps a decoder off it
    return is_closed or not _is_native(call, release)


def _is_on_another_device(call, release):
    """True if the mask is on the CPU, as that of a CausalBias always is, and no native path asks for its device."""
    if call.fault.name == "causal_bias":
        return _is_explicit(call, release)
    return call.fault.elsewhere and not _is_native(call, release)


def _is_elsewhere_unnoticed(call, release):
    """True if all that a mask on the meta device meets takes it, and fills the result with nothing."""
    return call.fault.elsewhere and not _is_elsewhere_noticed(call, release)


def _is_elsewhere_noticed(call, release):
    """True if something that a mask on the meta device meets raises."""
    if not call.fault.elsewhere:
        return False
    if _is_nesting(call) or _is_compared(call, release):
        return True
    if _is_native(call, release):  # from then on a kernel for the meta device makes an empty result
        return not since(release, "2.13" if call.module == "TransformerEncoderLayer" else "2.10")
    if not since(release, "2.0"):
        return call.module.startswith("Transformer")  # adds the result to what is on another device
    if _is_explicit(call, release) or not since(release, "2.1"):
        return False
    return not since(release, {"3d": "2.14", "grouped": "2.9"}.get(call.callee.variant, "2.3"))


def _is_half_read(call, release):
    """True if the CPU's fused kernel gets a float32 mask beside float64 scores, for a vector of keys or more."""
    if call.fault.precision != "lower" or not call.fault.length:
        return False
    if call.module == _SDPA:
        return _is_fused(call, release) or (call.callee.variant == "3d" and since(release, "2.14"))
    is_closed = call.argument.startswith("tgt_")  # a float mask keeps a decoder off the native path
    return not _is_explicit(call, release) and (is_closed or not _is_native(call, release))


def _counts_values(call, release):
    """True if the CPU's fused kernel takes as many keys as there are values; a mask would be compared with both."""
    if not isinstance(call, WrongSequence) or call.module != _SDPA or call.fault.beside:
        return False
    first = {"4d": "2.1", "grouped": "2.9", "3d": "2.14"}[call.callee.variant]
    return call.fault.more[1] != 0 and since(release, first)


# ---- what is computed ----------------------------------------------------------------------------------------------


def _with_mask(computation, call, array):
    """The computation under this mask instead of the wrong one."""
    return with_masks(computation, {argument(call, call.argument): array})


def _given(computation, call):
    """The wrong mask as an array."""
    return computation.arguments[argument(call, call.argument)]


def _by_elements(computation, call):
    mask = _given(computation, call)
    is_sliced = mask.ndim == 3 and not is_padding(call.argument)
    shape = (N * HEADS, *call.right_shape) if is_sliced else call.right_shape
    return _with_mask(computation, call, mask.reshape(shape))


def _per_sample(computation, call):
    return _with_mask(computation, call, np.repeat(_given(computation, call), HEADS, axis=0))


def _causal_instead(computation, call):
    return _with_mask(computation, call, meaning.causal(*call.right_shape))


def _causal_as_well(computation, call):
    return _with_mask(computation, call, _given(computation, call) & ~meaning.causal(*call.right_shape))


def _is_causal(computation, call):
    return replace(computation, arguments={**computation.arguments, "is_causal": True})


def _as_specified(computation, call):
    """By the mask in the precision of the inputs; by no mask, where none is given."""
    return computation


def _by_half_vectors(computation, call):
    lanes = 16 if extension() == "AVX512" else 8
    blocks = ("self", "src", "tgt", "memory")  # of which those without a mask compute as ever
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), blocks)


def _as_many_keys_as_values(computation, call):
    """Keys from where each head's begin: behind these come those of the next head, at last memory of something else."""
    arguments = {**computation.arguments, "is_causal": call.fault.hint}
    key, S = arguments["key"], arguments["value"].shape[-2]
    key = arguments.pop("stored", key)
    *batch, length, features = key.shape
    heads = prod(batch)
    places = np.arange(heads)[:, None] * length + np.arange(S)
    is_foreign = (places >= heads * length).any(axis=1) & (not call.fault.hint)  # a causal mask hides these keys
    keys = key.reshape(-1, features)[np.minimum(places, heads * length - 1)]
    arguments["key"] = keys.reshape(*batch, S, features)
    unwritten = Unwritten(is_foreign.reshape(*batch, 1, 1), {"output": "cpu"})
    return replace(computation, arguments=arguments, undefined=unwritten)


def _never_computed(computation, call):
    """Nobody has written the memory of the result."""
    return replace(computation, undefined=Unwritten(True, {"output": "cpu", "weights": "cpu"}))


def _never_computed_beside_meta(computation, call):
    """Nobody has computed the output; weights that are computed one by one are on the meta device, as the mask is."""
    is_native = call.mode == "inference" and call.callee.variant == "self"
    return replace(computation, undefined=Unwritten(True, {"output": "cpu", "weights": "cpu" if is_native else "meta"}))


def _on_meta(computation, call):
    """All results are on the meta device."""
    return replace(computation, undefined=Unwritten(True, {"output": "meta", "weights": "meta"}))


ENTRIES = (
    WrongMaskDeviation(
        id="native-mask-by-elements",
        title="The native paths take an attention mask of any shape with the right number of elements",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is read as mask.view(L, L), or as mask.view(N * num_heads, L, L) if it is 3-D",
        applies=lambda call, release: _is_viewed(call, release) and call.fault.kind in _HELD_RIGHT,
        change=_by_elements,
        devices=ON_BOTH,
        remedies=(_SHAPE, _TRAINING),
    ),
    WrongMaskDeviation(
        id="native-mask-per-sample",
        title="The native paths take an attention mask per sample, but only beside a padding mask",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="an attention mask (N, L, L) holds for all heads of its sample; without a padding mask it raises",
        applies=lambda call, release: (
            _is_viewed(call, release) and call.fault.name == "slice_per_sample_beside_padding"
        ),
        change=_per_sample,
        devices=ON_BOTH,
        remedies=(
            WrongMaskRemedy(
                "Give a slice for each head: mask.repeat_interleave(num_heads, 0).",
                with_fault(shape=lambda rows, keys: (N * HEADS, rows, keys)),
                cost="memory for the mask",
            ),
            _SHAPE,
        ),
    ),
    WrongMaskDeviation(
        id="native-padding-by-elements",
        title="The native paths take a padding mask of any shape with the right number of elements, beside an attention"
        " mask",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is read as mask.view(N, L): a transposed one hides other keys than it says",
        applies=lambda call, release: (
            _is_viewed_as_padding(call, release) and prod(call.shape) == prod(call.right_shape)
        ),
        change=_by_elements,
        remedies=(_SHAPE, _TRAINING),
    ),
    WrongMaskDeviation(
        id="native-padding-size-unnamed",
        title="The native paths refuse a wrong padding mask beside an attention mask without naming it",
        affects=">=2.0.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of a view of the mask as (N, 1, 1, L)",
        message=r"shape '\[\d+, 1, 1, \d+\]' is invalid for input of size \d+",
        applies=lambda call, release: (
            _is_viewed_as_padding(call, release) and prod(call.shape) != prod(call.right_shape)
        ),
        remedies=(_SHAPE, _TRAINING),
    ),
    WrongMaskDeviation(
        id="native-mask-size-unnamed",
        title="The native paths refuse a wrong attention mask by its number of elements, without naming it",
        affects=">=2.0.1",
        upstream="pytorch/pytorch#115472",
        instead=UNHELPFUL,
        effect="the error is that of a view of the mask as (1, 1, L, L), or of a 3-D one as (N, any, L, L)",
        message=r"shape '\[\d+, -?\d+, \d+, \d+\]' is invalid for input of size \d+",
        applies=_cannot_be_viewed,
        devices=ON_BOTH,
        remedies=(_SHAPE, _TRAINING),
    ),
    WrongMaskDeviation(
        id="native-hint-without-mask",
        title="is_causal=True without a mask is ignored in eval",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="every query sees every key: neither the causal mask that the documentation promises nor an error",
        applies=lambda call, release: call.fault.name.startswith("hint_without_mask") and _is_native(call, release),
        change=_as_specified,
        devices=ON_BOTH,
        remedies=(WrongMaskRemedy("Give the causal mask itself.", right, cost="memory for the mask"),),
    ),
    WrongMaskDeviation(
        id="hint-hides-mask",
        title="is_causal=True keeps a wrong mask from being looked at",
        affects=">=2.0",
        upstream="pytorch/pytorch#131254",
        instead=ACCEPTS,
        effect="a causal mask, aligned at the first query and the first key, is applied instead of the one given",
        applies=_drops_the_mask,
        change=_causal_instead,
        devices=ON_BOTH,
        remedies=(_SHAPE, _WITHOUT_HINT),
    ),
    WrongMaskDeviation(
        id="explicit-mask-precision-unnamed",
        title="A float mask of another precision is refused without naming it where weights are computed",
        affects=">=2.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of torch.baddbmm, of which the user knows nothing",
        message="Input dtypes must be the same, got: input",
        applies=lambda call, release: bool(call.fault.precision) and _is_explicit(call, release),
        devices=ON_BOTH,
        remedies=_PRECISION,
    ),
    WrongMaskDeviation(
        id="padding-precision-as-attn-mask",
        title="A float padding mask of another precision is refused as an attn_mask",
        affects=">=2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of scaled_dot_product_attention, and speaks of an attn_mask, which nobody gave",
        message="Expected attn_mask dtype to be bool or .*to match query dtype",
        applies=_is_refused_as_attn_mask,
        devices=ON_BOTH,
        remedies=_PRECISION,
    ),
    WrongMaskDeviation(
        id="native-padding-size-as-attn-mask",
        title="The native paths refuse a padding mask of a wrong size as an attn_mask",
        affects="<2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error speaks of an attn_mask, which nobody gave",
        message=r"Expected attn_mask->sizes\(\)\[\d\] == (batch_size|seq_len) to be true",
        applies=lambda call, release: (
            _is_native_padding(call, release) and call.shape != call.right_shape and not call.fault.beside
        ),
        remedies=(_SHAPE,),
    ),
    WrongMaskDeviation(
        id="decoder-integer-mask-unnamed",
        title="nn.TransformerDecoder refuses an integer tgt_mask without naming it",
        affects=">=2.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from making a causal mask of the same dtype to compare it with",
        message=r"value cannot be converted to type u?int\d+_t without overflow",
        applies=lambda call, release: (
            call.fault.dtype in ("int64", "uint8") and call.argument == "tgt_mask" and _is_compared(call, release)
        ),
        devices=ON_BOTH,
        remedies=(_AS_BOOL,),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-shape-unnamed",
        title="scaled_dot_product_attention refuses a mask that does not broadcast without naming it",
        affects=">=2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of an addition, or of an expansion, of which the user knows nothing",
        message=r"The size of tensor a \(\d+\) must match the size of tensor b|doesn't match the broadcast shape",
        applies=lambda call, release: (
            call.module == _SDPA
            and call.shape not in (None, call.right_shape)
            and not _has_no_rows(call, release)
            and not _is_taken_for_a_hint(call)
        ),
        devices=ON_BOTH,
        remedies=(
            WrongMaskRemedy(
                "See that the mask broadcasts to (*query.shape[:-1], key.shape[-2]) before the call.", check=broadcasts
            ),
        ),
    ),
    WrongMaskDeviation(
        id="causal-bias-size-ignored",
        title="scaled_dot_product_attention takes a CausalBias of any size that is upper left or square",
        affects=">=2.3",
        upstream="not found",
        instead=ACCEPTS,
        effect="it becomes is_causal=True: a square causal_lower_right, kept from the prompt while keys are cached, "
        "lets the next query see the first key alone",
        applies=lambda call, release: _is_taken_for_a_hint(call) and call.shape != call.right_shape,
        change=_is_causal,
        devices=ON_BOTH,
        remedies=(
            WrongMaskRemedy(
                "Make the bias for each call: causal_lower_right(query.size(-2), key.size(-2)).",
                with_fault(shape=RIGHT.shape),
            ),
            _SHAPE,
        ),
    ),
    WrongMaskDeviation(
        id="causal-bias-as-memory",
        title="nn.MultiheadAttention and the native encoder layer read a CausalBias as memory that nobody has written",
        affects=">=2.8",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is as many slices as the number of its variant (upper left 1, lower right 2), of whatever the "
        "memory holds; where N * num_heads is that number it is added to the scores",
        applies=lambda call, release: (
            call.fault.name == "causal_bias" and (_is_explicit(call, release) or _is_native_layer(call, release))
        ),
        change=_never_computed,
        remedies=(WrongMaskRemedy("Give the mask itself: torch.ones(L, L, dtype=torch.bool).triu(1).", right),),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-1d-unnamed",
        title="scaled_dot_product_attention fails to look at the second last size of a 1-D mask",
        affects=">=2.3",
        upstream="not found",
        instead=UNHELPFUL,
        effect="IndexError from the CPU's fused kernel, for any 1-D mask, of the right length or not",
        message="Dimension out of range",
        applies=_has_no_rows,
        remedies=(WrongMaskRemedy("Give a mask of two dimensions: mask[None], of one for each key.", right),),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-with-hint",
        title="scaled_dot_product_attention takes attn_mask together with is_causal=True",
        affects=">=2.3,<2.14",
        upstream="pytorch/pytorch#187801",
        instead=ACCEPTS,
        effect="both apply: a query sees what the mask and the causal mask let it see",
        applies=lambda call, release: call.fault.name == "mask_with_hint" and _is_fused(call, release),
        change=_causal_as_well,
        remedies=(
            WrongMaskRemedy("Put the causal mask into attn_mask, and leave out is_causal.", with_fault(hint=False)),
        ),
    ),
    WrongMaskDeviation(
        id="sdpa-float32-mask",
        title="scaled_dot_product_attention takes a float32 mask whatever the type of the query is",
        affects=">=2.4",
        upstream="pytorch/pytorch#191612",
        instead=ACCEPTS,
        effect="the mask is converted, but by the CPU's fused kernel beside a float64 query (fused-float32-mask);"
        " documented is a float mask of the query's own type",
        applies=lambda call, release: (
            call.fault.precision == "lower" and call.module == _SDPA and not _is_half_read(call, release)
        ),
        change=_as_specified,
        devices=ON_BOTH,
        remedies=_PRECISION,
    ),
    WrongMaskDeviation(
        id="fused-float32-mask",
        title="The CPU's fused kernel skips half of the keys where a float32 mask is given beside float64 inputs",
        affects=">=2.4",
        upstream="not found",
        instead=ACCEPTS,
        effect="of each whole vector of 16 keys (AVX2: 8) the upper half has scores without scale and mask: hidden keys"
        " are seen",
        applies=_is_half_read,
        change=_by_half_vectors,
        remedies=_PRECISION,
    ),
    WrongMaskDeviation(
        id="sdpa-value-length",
        title="scaled_dot_product_attention takes key and value of different lengths, where there is no mask",
        affects=">=2.1",
        upstream="pytorch/pytorch#193728",
        instead=ACCEPTS,
        effect="a query sees as many keys as there are values: behind the end of a shorter key those of the next head,"
        " or memory of something else",
        applies=_counts_values,
        change=_as_many_keys_as_values,
        remedies=(
            WrongMaskRemedy(
                "Compare the lengths of key and value before the call.",
                check=lambda call: "key.shape[-2] == value.shape[-2]",
            ),
        ),
    ),
    WrongMaskDeviation(
        id="meta-mask-undefined",
        title="With a mask on the meta device the result is memory that nobody has written",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="the result is on the CPU, and undefined: the kernel that should have computed it never ran",
        applies=_is_elsewhere_unnoticed,
        change=_never_computed_beside_meta,
        remedies=_DEVICE,
    ),
    WrongMaskDeviation(
        id="meta-mask-meta-result",
        title="With a mask on the meta device the result is on the meta device",
        affects="<2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="the result has no content",
        applies=_is_elsewhere_unnoticed,
        change=_on_meta,
        remedies=_DEVICE,
    ),
    WrongMaskDeviation(
        id="meta-mask-unnamed",
        title="A mask on the meta device is refused without naming it",
        affects=">=1.13",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of the first operator that has no kernel for the meta device, or compares devices",
        message="Expected all tensors to be on the same device|with arguments from the 'Meta' backend"
        "|attempted to run this operator with Meta tensors|cannot be called on meta tensors"
        "|Tensor on device meta is not on the expected device",
        applies=_is_elsewhere_noticed,
        remedies=_DEVICE,
    ),
    WrongMaskDeviation(
        id="cpu-mask-unnamed",
        title="A mask on the CPU beside inputs on CUDA is refused without naming it",
        affects=">=2.11",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error is that of an addition, or a product, of which the user knows nothing; a CausalBias, whose"
        " memory is on the CPU, meets it too",
        message="Expected all tensors to be on the same device",
        applies=_is_on_another_device,
        devices=ON_CUDA,
        remedies=tuple(replace(remedy, tested=False) for remedy in _DEVICE),
    ),
)
