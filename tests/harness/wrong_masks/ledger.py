"""The known deviations from clause 9: wrong masks that a release accepts, or refuses without naming the mask.

The entries predict the outcome of every row of table.CALLS and sequences.SEQUENCES in each release. A row that no entry
predicts must conform.
"""

from dataclasses import replace

from ..execution.setting import ON_BOTH, ON_CUDA
from ..judgement.outcomes import ACCEPTS, UNHELPFUL
from . import proposed
from .conditions import (
    HELD_RIGHT,
    cannot_be_viewed,
    counts_values,
    drops_the_mask,
    has_its_elements,
    has_no_rows,
    is_compared,
    is_elsewhere_noticed,
    is_elsewhere_unnoticed,
    is_explicit,
    is_fused,
    is_half_read,
    is_native,
    is_native_layer,
    is_native_padding,
    is_on_another_device,
    is_refused_as_attn_mask,
    is_taken_for_a_hint,
    is_viewed,
    is_viewed_as_padding,
)
from .effects import (
    as_many_keys_as_values,
    as_specified,
    by_elements,
    by_half_vectors,
    causal,
    causal_as_well,
    causal_instead,
    never_computed,
    never_computed_beside_meta,
    on_meta,
    per_sample,
)
from .entry import WrongMaskDeviation, altered
from .remedies import (
    AS_BOOL,
    COMPARED_SHAPE,
    IN_ITS_DTYPE,
    IN_TRAINING,
    MOVED_TO_THE_DEVICE,
    WITHOUT_HINT,
    WrongMaskRemedy,
    broadcasts,
    right,
    with_fault,
)
from .table import HEADS, RIGHT, SDPA, N

_ENTRIES = (
    WrongMaskDeviation(
        id="native-mask-by-elements",
        title="The native paths take an attention mask of any shape with the right number of elements",
        affects=">=2.0.1",
        upstream="not found",
        instead=ACCEPTS,
        effect="the mask is read as mask.view(L, L), or as mask.view(N * num_heads, L, L) if it is 3-D",
        applies=lambda call, release: is_viewed(call, release) and call.fault.kind in HELD_RIGHT,
        change=by_elements,
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
        applies=lambda call, release: is_viewed(call, release) and call.fault.name == "slice_per_sample_beside_padding",
        change=per_sample,
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
        applies=lambda call, release: is_viewed_as_padding(call, release) and has_its_elements(call),
        change=by_elements,
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
        applies=lambda call, release: is_viewed_as_padding(call, release) and not has_its_elements(call),
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
        applies=cannot_be_viewed,
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
        applies=lambda call, release: call.fault.name.startswith("hint_without_mask") and is_native(call, release),
        change=as_specified,
        devices=ON_BOTH,
        remedies=(WrongMaskRemedy("Give the causal mask itself.", right, cost="memory for the mask"),),
    ),
    WrongMaskDeviation(
        id="hint-hides-mask",
        title="Off the fast paths, is_causal=True replaces a wrong mask that is never checked",
        affects=">=2.0",
        upstream="pytorch/pytorch#131254",
        instead=ACCEPTS,
        effect="a causal mask, aligned at the first query and the first key, replaces the given mask, unless a fast"
        " path serves the call or weights are computed",
        applies=drops_the_mask,
        change=causal_instead,
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
        applies=lambda call, release: bool(call.fault.precision) and is_explicit(call, release),
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
        applies=is_refused_as_attn_mask,
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
            is_native_padding(call, release) and call.shape != call.right_shape and not call.fault.beside
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
            call.fault.dtype in ("int64", "uint8") and call.argument == "tgt_mask" and is_compared(call, release)
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
            call.module == SDPA
            and call.shape not in (None, call.right_shape)
            and not has_no_rows(call, release)
            and not is_taken_for_a_hint(call)
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
        applies=lambda call, release: is_taken_for_a_hint(call) and call.shape != call.right_shape,
        change=causal,
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
            call.fault.name == "causal_bias" and (is_explicit(call, release) or is_native_layer(call, release))
        ),
        change=never_computed,
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
        applies=has_no_rows,
        remedies=(WrongMaskRemedy("Give a 2-D mask: mask[None], if the mask has one element for each key.", right),),
    ),
    WrongMaskDeviation(
        id="sdpa-mask-with-hint",
        title="scaled_dot_product_attention takes attn_mask together with is_causal=True",
        affects=">=2.3,<2.14",
        upstream="pytorch/pytorch#187801",
        instead=ACCEPTS,
        effect="both apply: a query attends to the keys that both masks allow; where the math backend serves, as for"
        " inputs of three dimensions, the call raises",
        applies=lambda call, release: call.fault.name == "mask_with_hint" and is_fused(call, release),
        change=causal_as_well,
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
            call.fault.precision == "lower" and call.module == SDPA and not is_half_read(call, release)
        ),
        change=as_specified,
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
        applies=is_half_read,
        change=by_half_vectors,
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
        applies=counts_values,
        change=as_many_keys_as_values,
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
        applies=is_elsewhere_unnoticed,
        change=never_computed_beside_meta,
        remedies=MOVED_TO_THE_DEVICE,
    ),
    WrongMaskDeviation(
        id="meta-mask-meta-result",
        title="With a mask on the meta device the result is on the meta device",
        affects="<2.0",
        upstream="not found",
        instead=ACCEPTS,
        effect="the result has no content",
        applies=is_elsewhere_unnoticed,
        change=on_meta,
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
        applies=is_elsewhere_noticed,
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
        applies=is_on_another_device,
        devices=ON_CUDA,
        remedies=tuple(replace(remedy, tested=False) for remedy in MOVED_TO_THE_DEVICE),
    ),
)

# The first entry that applies predicts an outcome.
ENTRIES = (*proposed.ENTRIES, *(altered(entry, proposed.REACHES) for entry in _ENTRIES))
