"""The known deviations from clause 9: wrong masks that a release accepts, or refuses without naming the mask.

The entries predict the outcome of every row of table.CALLS and sequences.SEQUENCES in each release. A row that no entry
predicts must conform.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from reference import masks as meaning

from ..cases.case import is_padding
from ..deviations.effects import MaskingHalfOfAVector
from ..execution.release import Release
from ..execution.setting import ON_BOTH, ON_CPU, ON_CUDA
from ..expectation.changes import with_kernel, with_masks
from ..expectation.specification import Computation
from ..modes.vectors import extension
from ..releases import since
from .remedies import (
    AS_BOOL,
    COMPARED_SHAPE,
    IN_ITS_DTYPE,
    IN_TRAINING,
    MOVED_TO_THE_DEVICE,
    RIGHT,
    WITHOUT_HINT,
    WrongMaskRemedy,
    broadcasts,
    right,
    with_fault,
)
from .results import NOTHING_COMPARED, Comparison, Unwritten, argument, compare
from .sequences import WrongSequence
from .table import ACCEPTS, HEADS, UNHELPFUL, N, Outcome, WrongCall, not_applicable


@dataclass(frozen=True)
class WrongMaskDeviation:
    """An entry of the ledger of wrong masks."""

    id: str
    title: str
    affects: str  # the releases, as a version specifier
    upstream: str  # "pytorch/pytorch#N", or "not found"
    instead: str  # the predicted kind of outcome: ACCEPTS or UNHELPFUL
    effect: str  # the result or the error, in words
    applies: Callable[[WrongCall, Release], bool]  # in an affected release
    message: str = ""  # a regular expression of the error, if UNHELPFUL
    change: Callable[[Computation, WrongCall], Computation] | None = None  # makes the predicted computation, if ACCEPTS
    devices: tuple[str, ...] = ON_CPU  # types of the devices that show the deviation
    remedies: tuple[WrongMaskRemedy, ...] = ()  # the cheapest first

    def __post_init__(self):
        if (self.instead == ACCEPTS) != (self.change is not None):
            raise ValueError(f"{self.id}: an entry must have a change if instead is ACCEPTS, and only then")

    def concerns(self, release: Release) -> bool:
        """True if this release and device are affected."""
        return release.is_among(self.affects, self.devices)

    def predicts(self, call: WrongCall, release: Release) -> bool:
        """True if the entry predicts the outcome of the call on the release."""
        return self.concerns(release) and self.applies(call, release) and not not_applicable(call, release)

    def compared(self, call: WrongCall, outcome: Outcome) -> Comparison | None:
        """The comparison of the outcome with the prediction; None if its kind or its message differs."""
        if outcome.kind != self.instead or re.search(self.message, outcome.error) is None:
            return None
        return compare(call, outcome, self.change) if self.instead == ACCEPTS else NOTHING_COMPARED

    def shows(self, call: WrongCall, outcome: Outcome) -> bool:
        """True if the outcome is as predicted: its kind, and its message or result."""
        compared = self.compared(call, outcome)
        return compared is not None and not compared.mismatches


# ---- the calls that a deviation affects ----------------------------------------------------------------------------


_SDPA = "scaled_dot_product_attention"
_HELD_RIGHT = ("flat", "reshaped", "four_dimensions", "slices_reshaped")  # as many elements as the right mask


def _is_self_attention(call):
    """True if the mask belongs to a self-attention."""
    return call.callee.variant == "self" or call.argument == "mask" or call.argument.startswith(("src_", "tgt_"))


def _is_native(call, release):
    """True if a native path serves the attention of the mask. A float mask closes some of these paths."""
    takes_it = since(release, "2.0") or is_padding(call.argument)
    return call.mode == "inference" and call.callee.is_batched and _is_self_attention(call) and takes_it


def _is_explicit(call, release):
    """True if torch calls softmax and both products one by one, unless a native path serves."""
    wants_weights = call.module == "MultiheadAttention" or "need_weights=True" in call.callee.options
    return call.module != _SDPA and (wants_weights or not since(release, "2.0"))


def _is_compared(call, release):
    """True if a stack compares the mask with a causal mask."""
    names = ("mask", "src_mask", "tgt_mask") if since(release, "2.1") else ("mask", "src_mask")
    is_stack = call.module in ("TransformerEncoder", "TransformerDecoder", "Transformer")
    return is_stack and call.argument in names and since(release, "2.0")


def _is_native_layer(call, release):
    """True if the native encoder layer gets the attention mask."""
    return _is_native(call, release) and call.argument in ("mask", "src_mask")


def _is_nesting(call):
    """True if an encoder packs its input into a nested tensor by the mask."""
    is_in_encoder = call.argument == "src_key_padding_mask" and call.module != "TransformerEncoderLayer"
    return is_in_encoder and call.mode == "inference" and call.callee.is_batched


def _is_native_padding(call, release):
    """True if a native path gets the mask as a 2-D padding mask."""
    is_native = _is_native(call, release) and is_padding(call.argument) and not _is_nesting(call)
    return is_native and len(call.shape) == 2


def _is_taken_for_a_hint(call):
    """True if scaled_dot_product_attention turns a CausalBias of any size into is_causal=True."""
    is_square = call.fault.bias and call.shape[0] == call.shape[1]
    return call.module == _SDPA and bool(is_square or call.fault.bias == "causal_upper_left") and not call.fault.hint


def _is_viewed(call, release):
    """True if a native path views the mask as (1, 1, length, length), or a 3-D mask as (N, any, length, length)."""
    return _is_native(call, release) and not is_padding(call.argument) and call.shape is not None


def _is_viewed_as_padding(call, release):
    """True if a native path views the padding mask as (N, 1, 1, length): only beside an attention mask."""
    is_padded = is_padding(call.argument) and not _is_nesting(call)
    return _is_native(call, release) and is_padded and call.fault.beside and call.shape != call.right_shape


def _has_its_elements(call):
    """True if the mask has as many elements as the right one."""
    return prod(call.shape) == prod(call.right_shape)


def _cannot_be_viewed(call, release):
    """True if that view of an attention mask raises: the number of elements is wrong."""
    if not _is_viewed(call, release):
        return False
    square = prod(call.right_shape)
    return prod(call.shape) % (N * square) != 0 if len(call.shape) == 3 else prod(call.shape) != square


def _drops_the_mask(call, release):
    """True if is_causal replaces the mask before torch checks it."""
    is_hinted = call.fault.hint and call.shape is not None and call.module != _SDPA
    return is_hinted and not _is_native(call, release) and not _is_explicit(call, release)


def _is_fused(call, release):
    """True if the CPU's fused kernel would serve the call: with a mask since 2.3, with enable_gqa since 2.9."""
    first = {"4d": "2.3", "grouped": "2.9"}.get(call.callee.variant)
    return first is not None and since(release, first) and release.device_type != "cuda"


def _has_no_rows(call, release):
    """True if the CPU's fused kernel gets a 1-D mask."""
    return call.fault.name == "flat" and _is_fused(call, release)


def _is_refused_as_attn_mask(call, release):
    """True if scaled_dot_product_attention gets a float padding mask as attn_mask, and refuses its dtype."""
    refused = ("higher",) if since(release, "2.4") else ("higher", "lower")
    if call.fault.precision not in refused or not is_padding(call.argument) or _is_explicit(call, release):
        return False
    is_closed = call.argument.startswith("tgt_") and since(
        release, "2.1"
    )  # a float mask closes the native path of a decoder
    return is_closed or not _is_native(call, release)


def _is_on_another_device(call, release):
    """True if the mask is on the CPU, and no native path checks its device. A CausalBias always is on the CPU."""
    if call.fault.name == "causal_bias":
        return _is_explicit(call, release)
    return call.fault.elsewhere and not _is_native(call, release)


def _is_elsewhere_unnoticed(call, release):
    """True if every operator accepts the mask on the meta device, and leaves the result uninitialised."""
    return call.fault.elsewhere and not _is_elsewhere_noticed(call, release)


def _is_elsewhere_noticed(call, release):
    """True if an operator raises because the mask is on the meta device."""
    if not call.fault.elsewhere:
        return False
    if _is_nesting(call) or _is_compared(call, release):
        return True
    if _is_native(call, release):  # since then, a kernel for the meta device makes an empty result
        return not since(release, "2.13" if call.module == "TransformerEncoderLayer" else "2.10")
    if not since(release, "2.0"):
        return call.module.startswith("Transformer")  # the residual is on another device than the result
    if _is_explicit(call, release) or not since(release, "2.1"):
        return False
    return not since(release, {"3d": "2.14", "grouped": "2.9"}.get(call.callee.variant, "2.3"))


def _is_half_read(call, release):
    """True if the CPU's fused kernel gets a float32 mask beside float64 inputs, for a whole vector of keys."""
    if call.fault.precision != "lower" or not call.fault.length:
        return False
    if call.module == _SDPA:
        return _is_fused(call, release) or (call.callee.variant == "3d" and since(release, "2.14"))
    is_closed = call.argument.startswith("tgt_")  # a float mask closes the native path of a decoder
    return not _is_explicit(call, release) and (is_closed or not _is_native(call, release))


def _counts_values(call, release):
    """True if the CPU's fused kernel takes the number of keys from the value; a mask is checked against both."""
    if not isinstance(call, WrongSequence) or call.module != _SDPA or call.fault.beside:
        return False
    first = {"4d": "2.1", "grouped": "2.9", "3d": "2.14"}[call.callee.variant]
    return call.fault.more[1] != 0 and since(release, first)


# ---- the computed results ------------------------------------------------------------------------------------------


def _with_mask(computation, call, array):
    """The computation with this mask in the place of the wrong one."""
    return with_masks(computation, {argument(call, call.argument): array})


def _given(computation, call):
    """The wrong mask as an array."""
    return computation.arguments[argument(call, call.argument)]


def _by_elements(computation, call):
    """The computation with the mask reshaped to the right shape."""
    mask = _given(computation, call)
    is_sliced = mask.ndim == 3 and not is_padding(call.argument)
    shape = (N * HEADS, *call.right_shape) if is_sliced else call.right_shape
    return _with_mask(computation, call, mask.reshape(shape))


def _per_sample(computation, call):
    """The computation with each slice of the mask for all heads of a sample."""
    return _with_mask(computation, call, np.repeat(_given(computation, call), HEADS, axis=0))


def _causal_instead(computation, call):
    """The computation with a causal mask in the place of the given one."""
    return _with_mask(computation, call, meaning.causal(*call.right_shape))


def _causal_as_well(computation, call):
    """The computation with both the given mask and a causal mask."""
    return _with_mask(computation, call, _given(computation, call) & ~meaning.causal(*call.right_shape))


def _is_causal(computation, call):
    """The computation with is_causal=True."""
    return replace(computation, arguments={**computation.arguments, "is_causal": True})


def _as_specified(computation, call):
    """The computation unchanged: with the mask in the precision of the inputs, or without a mask if none is given."""
    return computation


def _by_half_vectors(computation, call):
    """The computation by a kernel that scales and masks half of each vector of keys."""
    lanes = 16 if extension() == "AVX512" else 8
    blocks = ("self", "src", "tgt", "memory")  # blocks without a mask are unchanged
    return with_kernel(computation, lambda kernel: MaskingHalfOfAVector(kernel, lanes), blocks)


def _as_many_keys_as_values(computation, call):
    """The computation with as many keys as values.

    Behind the keys of a head come the keys of the next head, and behind the last head foreign memory.
    """
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
    """The computation with uninitialised results."""
    return replace(computation, undefined=Unwritten(True, {"output": "cpu", "weights": "cpu"}))


def _never_computed_beside_meta(computation, call):
    """The computation with an uninitialised output, and weights on the meta device unless a native path serves."""
    is_native = call.mode == "inference" and call.callee.variant == "self"
    return replace(computation, undefined=Unwritten(True, {"output": "cpu", "weights": "cpu" if is_native else "meta"}))


def _on_meta(computation, call):
    """The computation with all results on the meta device."""
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
        remedies=(COMPARED_SHAPE, IN_TRAINING),
    ),
    WrongMaskDeviation(
        id="native-mask-per-sample",
        title="The native paths take an attention mask per sample, but only beside a padding mask",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="slice n of a mask (N, L, L) applies to all heads of sample n; without a padding mask the call raises",
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
            COMPARED_SHAPE,
        ),
    ),
    WrongMaskDeviation(
        id="native-padding-by-elements",
        title="The native paths take a padding mask of any shape with the right number of elements, beside an attention"
        " mask",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is read as mask.view(N, L): a transposed mask hides the wrong keys",
        applies=lambda call, release: _is_viewed_as_padding(call, release) and _has_its_elements(call),
        change=_by_elements,
        remedies=(COMPARED_SHAPE, IN_TRAINING),
    ),
    WrongMaskDeviation(
        id="native-padding-size-unnamed",
        title="The native paths refuse a wrong padding mask beside an attention mask without naming it",
        affects=">=2.0.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from a view of the mask as (N, 1, 1, L)",
        message=r"shape '\[\d+, 1, 1, \d+\]' is invalid for input of size \d+",
        applies=lambda call, release: _is_viewed_as_padding(call, release) and not _has_its_elements(call),
        remedies=(COMPARED_SHAPE, IN_TRAINING),
    ),
    WrongMaskDeviation(
        id="native-mask-size-unnamed",
        title="The native paths refuse an attention mask with a wrong number of elements without naming it",
        affects=">=2.0.1",
        upstream="pytorch/pytorch#115472",
        instead=UNHELPFUL,
        effect="the error comes from a view of the mask as (1, 1, L, L), or of a 3-D mask as (N, any, L, L)",
        message=r"shape '\[\d+, -?\d+, \d+, \d+\]' is invalid for input of size \d+",
        applies=_cannot_be_viewed,
        devices=ON_BOTH,
        remedies=(COMPARED_SHAPE, IN_TRAINING),
    ),
    WrongMaskDeviation(
        id="native-hint-without-mask",
        title="is_causal=True without a mask is ignored in eval",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="every query attends to every key: torch neither applies the documented causal mask nor raises",
        applies=lambda call, release: call.fault.name.startswith("hint_without_mask") and _is_native(call, release),
        change=_as_specified,
        devices=ON_BOTH,
        remedies=(WrongMaskRemedy("Give the causal mask itself.", right, cost="memory for the mask"),),
    ),
    WrongMaskDeviation(
        id="hint-hides-mask",
        title="With is_causal=True a wrong mask is never checked",
        affects=">=2.0",
        upstream="pytorch/pytorch#131254",
        instead=ACCEPTS,
        effect="a causal mask, aligned at the first query and the first key, replaces the given mask",
        applies=_drops_the_mask,
        change=_causal_instead,
        devices=ON_BOTH,
        remedies=(COMPARED_SHAPE, WITHOUT_HINT),
    ),
    WrongMaskDeviation(
        id="explicit-mask-precision-unnamed",
        title="A float mask of another precision is refused without naming it if weights are computed",
        affects=">=2.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from torch.baddbmm, which the user did not call",
        message="Input dtypes must be the same, got: input",
        applies=lambda call, release: bool(call.fault.precision) and _is_explicit(call, release),
        devices=ON_BOTH,
        remedies=IN_ITS_DTYPE,
    ),
    WrongMaskDeviation(
        id="padding-precision-as-attn-mask",
        title="A float padding mask of another precision is refused as an attn_mask",
        affects=">=2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from scaled_dot_product_attention, and names an attn_mask that the user did not give",
        message="Expected attn_mask dtype to be bool or .*to match query dtype",
        applies=_is_refused_as_attn_mask,
        devices=ON_BOTH,
        remedies=IN_ITS_DTYPE,
    ),
    WrongMaskDeviation(
        id="native-padding-size-as-attn-mask",
        title="The native paths refuse a padding mask of a wrong size as an attn_mask",
        affects="<2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error names an attn_mask that the user did not give",
        message=r"Expected attn_mask->sizes\(\)\[\d\] == (batch_size|seq_len) to be true",
        applies=lambda call, release: (
            _is_native_padding(call, release) and call.shape != call.right_shape and not call.fault.beside
        ),
        remedies=(COMPARED_SHAPE,),
    ),
    WrongMaskDeviation(
        id="decoder-integer-mask-unnamed",
        title="nn.TransformerDecoder refuses an integer tgt_mask without naming it",
        affects=">=2.1",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from the causal mask of the same dtype that the decoder makes for a comparison",
        message=r"value cannot be converted to type u?int\d+_t without overflow",
        applies=lambda call, release: (
            call.fault.dtype in ("int64", "uint8") and call.argument == "tgt_mask" and _is_compared(call, release)
        ),
        devices=ON_BOTH,
        remedies=(AS_BOOL,),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-shape-unnamed",
        title="scaled_dot_product_attention refuses a mask that does not broadcast, without naming it",
        affects=">=2.0",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from an addition or an expansion that the user did not write",
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
                "Check that the mask broadcasts to (*query.shape[:-1], key.shape[-2]) before the call.",
                check=broadcasts,
            ),
        ),
    ),
    WrongMaskDeviation(
        id="causal-bias-size-ignored",
        title="scaled_dot_product_attention takes an upper left or square CausalBias of any size",
        affects=">=2.3",
        upstream="not found",
        instead=ACCEPTS,
        effect="the bias becomes is_causal=True: a square causal_lower_right, made for the prompt and used again with "
        "a key cache, shows the next query only the first key",
        applies=lambda call, release: _is_taken_for_a_hint(call) and call.shape != call.right_shape,
        change=_is_causal,
        devices=ON_BOTH,
        remedies=(
            WrongMaskRemedy(
                "Make the bias for each call: causal_lower_right(query.size(-2), key.size(-2)).",
                with_fault(shape=RIGHT.shape),
            ),
            COMPARED_SHAPE,
        ),
    ),
    WrongMaskDeviation(
        id="causal-bias-as-memory",
        title="nn.MultiheadAttention and the native encoder layer read the uninitialised memory of a CausalBias",
        affects=">=2.8",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is uninitialised memory, with one slice for upper left and two for lower right; if N * "
        "num_heads is that number, it is added to the scores",
        applies=lambda call, release: (
            call.fault.name == "causal_bias" and (_is_explicit(call, release) or _is_native_layer(call, release))
        ),
        change=_never_computed,
        remedies=(WrongMaskRemedy("Give the mask itself: torch.ones(L, L, dtype=torch.bool).triu(1).", right),),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-1d-unnamed",
        title="scaled_dot_product_attention refuses a 1-D mask without naming it",
        affects=">=2.3",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the CPU's fused kernel reads the second last size: an IndexError for a 1-D mask of any length",
        message="Dimension out of range",
        applies=_has_no_rows,
        remedies=(WrongMaskRemedy("Give a 2-D mask: mask[None], if the mask has one element for each key.", right),),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-with-hint",
        title="scaled_dot_product_attention takes attn_mask together with is_causal=True",
        affects=">=2.3,<2.14",
        upstream="pytorch/pytorch#187801",
        instead=ACCEPTS,
        effect="both apply: a query attends to the keys that both masks allow",
        applies=lambda call, release: call.fault.name == "mask_with_hint" and _is_fused(call, release),
        change=_causal_as_well,
        remedies=(
            WrongMaskRemedy("Put the causal mask into attn_mask, and leave out is_causal.", with_fault(hint=False)),
        ),
    ),
    WrongMaskDeviation(
        id="sdpa-float32-mask",
        title="scaled_dot_product_attention takes a float32 mask beside a query of any dtype",
        affects=">=2.4",
        upstream="pytorch/pytorch#191612",
        instead=ACCEPTS,
        effect="the mask is converted, except in the CPU's fused kernel beside a float64 query (fused-float32-mask);"
        " torch documents only float masks of the query's dtype",
        applies=lambda call, release: (
            call.fault.precision == "lower" and call.module == _SDPA and not _is_half_read(call, release)
        ),
        change=_as_specified,
        devices=ON_BOTH,
        remedies=IN_ITS_DTYPE,
    ),
    WrongMaskDeviation(
        id="fused-float32-mask",
        title="The CPU's fused kernel leaves half of the keys unmasked by a float32 mask beside float64 inputs",
        affects=">=2.4",
        upstream="not found",
        instead=ACCEPTS,
        effect="in each whole vector of 16 keys (AVX2: 8) the upper half gets scores without scale and mask: queries"
        " attend to hidden keys",
        applies=_is_half_read,
        change=_by_half_vectors,
        remedies=IN_ITS_DTYPE,
    ),
    WrongMaskDeviation(
        id="sdpa-value-length",
        title="scaled_dot_product_attention takes key and value of different lengths if there is no mask",
        affects=">=2.1",
        upstream="pytorch/pytorch#193728",
        instead=ACCEPTS,
        effect="a query attends to as many keys as there are values: behind a shorter key, these are the keys of the"
        " next head or foreign memory",
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
        title="With a mask on the meta device the result is uninitialised memory",
        affects=">=2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="the result is on the CPU, and undefined: the kernel that should compute it never runs",
        applies=_is_elsewhere_unnoticed,
        change=_never_computed_beside_meta,
        remedies=MOVED_TO_THE_DEVICE,
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
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="meta-mask-unnamed",
        title="A mask on the meta device is refused without naming it",
        affects=">=1.13",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from the first operator that compares devices or has no kernel for the meta device",
        message="Expected all tensors to be on the same device|with arguments from the 'Meta' backend"
        "|attempted to run this operator with Meta tensors|cannot be called on meta tensors"
        "|Tensor on device meta is not on the expected device",
        applies=_is_elsewhere_noticed,
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="cpu-mask-unnamed",
        title="A mask on the CPU beside inputs on CUDA is refused without naming it",
        affects=">=2.11",
        upstream="not found",
        instead=UNHELPFUL,
        effect="the error comes from an addition or a product that the user did not write; a CausalBias, whose memory"
        " is on the CPU, raises it too",
        message="Expected all tensors to be on the same device",
        applies=_is_on_another_device,
        devices=ON_CUDA,
        remedies=tuple(replace(remedy, tested=False) for remedy in MOVED_TO_THE_DEVICE),
    ),
)
