"""The known deviations: for each, which cases it affects in which releases, and what they do instead.

model of a release = reference + its deviations. A deviation predicts; it excuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from . import autocast, dispatch, forward, given_nested, triggers
from .behaviours import (
    HidingNonzero,
    IgnoringTheQuery,
    LosingTheNormaliser,
    LostInTheFirstBlock,
    causal_over_all_keys,
    packed,
    raising,
    undefined,
    warning,
    with_kernel,
    without_gradient,
    without_weights,
)
from .cases import Case, MultiHead, ScaledDotProduct, Transformer
from .masks import Mask
from .modes import computed_in
from .setting import MEASURED_ON
from .situations import has_nonzero_finite


@dataclass(frozen=True)
class Deviation:
    """One entry.

    affects: the releases, as a version specifier. trigger, instead: in words. applies: Call -> bool, for a release
    that is affected. change: (computation, call) -> computation. pinned: a least case that shows it. upstream:
    "pytorch/pytorch#N" or of another repository, or "not found". every_cpu: whether each CPU shows it.
    """

    id: str
    title: str
    affects: str
    upstream: str
    clause: int
    trigger: str
    instead: str
    advice: str
    applies: Callable
    change: Callable
    pinned: Case
    devices: tuple[str, ...] = MEASURED_ON
    every_cpu: bool = True

    def concerns(self, release):
        """Whether this release and device are affected."""
        return release.is_among(self.affects, self.devices)


@dataclass(frozen=True)
class Applied:
    """An entry that changes a case: change is computation -> computation."""

    id: str
    change: Callable


def applying(call, entries):
    """The deviations of this call (situations.Call), in the order in which they compose.

    entries: those that concern the release.
    """
    met = call.met
    return tuple(Applied(entry.id, partial(entry.change, call=met)) for entry in entries if entry.applies(met))


ENTRIES = (
    Deviation(
        id="empty-row-nan-explicit",
        title="A query that sees no key gives NaN where weights are computed explicitly",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, and the call returns weights (or the release is 1.13)",
        instead="the row's weights and output are NaN",
        advice="call with need_weights=False from 2.5 on, or let every query see at least one key",
        applies=triggers.sees_nothing_on("explicit"),
        change=triggers.computes_plainly_on("explicit"),
        pinned=MultiHead(attn_mask=Mask("bool", "all")),
    ),
    Deviation(
        id="empty-row-nan-native",
        title="A query that sees no key gives NaN on the native paths",
        affects=">=1.13",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the merged mask is all -inf, in eval without autograd, where the native path serves the call",
        instead="the row's output is NaN, and through it all that later layers compute from it",
        advice="let every query see at least one key, or from 2.3 torch.backends.mha.set_fastpath_enabled(False)",
        applies=triggers.sees_nothing_on("native_mha", "native_layer"),
        change=triggers.computes_plainly_on("native_mha", "native_layer"),
        pinned=MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("bool", "all"), need_weights=False),
    ),
    Deviation(
        id="empty-row-nan-sdpa",
        title="A query that sees no key gives NaN in scaled_dot_product_attention",
        affects=">=2.0,<2.5",
        upstream="pytorch/pytorch#41508",
        clause=4,
        trigger="a row of the mask hides every key",
        instead="the row's output is NaN",
        advice="let every query see at least one key, or use 2.5",
        applies=triggers.sees_nothing_on("sdpa"),
        change=triggers.computes_plainly_on("sdpa"),
        pinned=ScaledDotProduct(attn_mask=Mask("bool", "all")),
    ),
    Deviation(
        id="native-layer-float-mask",
        title="nn.TransformerEncoderLayer reads a float mask as a bool one in eval",
        affects=">=1.13",
        upstream="pytorch/pytorch#118628",
        clause=2,
        trigger="a float mask with a finite value other than 0, on the native path of the encoder layer",
        instead="every key whose mask is not 0 is hidden",
        advice="from 2.3 torch.backends.mha.set_fastpath_enabled(False); before it batch_first=False",
        applies=triggers.reads_float_as_bool,
        change=lambda computation, call: with_kernel(
            computation, lambda _: HidingNonzero(), call.blocks("native_layer")
        ),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("float", "one", "finite")),
    ),
    Deviation(
        id="native-mha-float-mask",
        title="nn.MultiheadAttention reads a float mask as a bool one in eval",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#107084",
        clause=2,
        trigger="a float mask with a finite value other than 0, on the native path of self-attention",
        instead="every key whose mask is not 0 is hidden",
        advice="use 2.1, or give a parameter or the input a gradient",
        applies=lambda call: any(has_nonzero_finite(call.case, block) for block in call.blocks("native_mha")),
        change=lambda computation, call: with_kernel(computation, lambda _: HidingNonzero(), call.blocks("native_mha")),
        pinned=MultiHead(L=2, S=2, num_heads=2, attention="self", key_padding_mask=Mask("float", "one", "finite")),
    ),
    Deviation(
        id="native-converts-mask-warning",
        title="The native paths warn of a conversion that they do themselves",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97532",
        clause=10,
        trigger="any mask on a native path, in 2.0 bool ones included",
        instead="a UserWarning that a mask is converted to bool, though the caller's was bool",
        advice="ignore it",
        applies=triggers.converts_masks,
        change=lambda computation, call: warning(computation, "Converting mask without torch.bool dtype to bool"),
        pinned=MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("float", "none")),
    ),
    Deviation(
        id="native-layer-mask-gradient",
        title="A float mask cannot be learned while the encoder layer's parameters are frozen",
        affects=">=1.13",
        upstream="not found",
        clause=5,
        trigger="a float mask that requires a gradient, in eval, where no parameter and no input does",
        instead="backward raises, since the native path has no derivative",
        advice="torch.backends.mha.set_fastpath_enabled(False), from 2.3; before it batch_first=False",
        applies=lambda call: triggers.differentiates(call, "native_layer"),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "derivative for aten::_transformer_encoder_layer_fwd is not implemented"
        ),
        pinned=Transformer(
            autograd="mask", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("float", "one", "inf")
        ),
    ),
    Deviation(
        id="native-mha-mask-gradient",
        title="A float mask cannot be learned while the attention's parameters are frozen",
        affects=">=1.13,<2.1",
        upstream="not found",
        clause=5,
        trigger="a float mask that requires a gradient, in eval self-attention, where no parameter and no input does",
        instead="backward raises, since the native path has no derivative",
        advice="use 2.1, or give a parameter or the input a gradient",
        applies=lambda call: triggers.differentiates(call, "native_mha"),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "derivative for aten::_native_multi_head_attention is not implemented"
        ),
        pinned=MultiHead(
            autograd="mask", L=2, S=2, num_heads=2, attention="self", key_padding_mask=Mask("float", "one", "inf")
        ),
    ),
    Deviation(
        id="native-mha-bias",
        title="nn.MultiheadAttention with bias=False raises in eval",
        affects=">=1.13,<2.1",
        upstream="pytorch/pytorch#97128",
        clause=1,
        trigger="bias=False on the native path of self-attention",
        instead="TypeError, in 1.13.0 AttributeError, since the native path needs a bias",
        advice="use 2.1, or give a parameter or the input a gradient",
        applies=lambda call: bool(triggers.blocks_without_a_bias(call)),
        change=triggers.misses_a_bias,
        pinned=MultiHead(num_heads=2, attention="self", bias=False),
    ),
    Deviation(
        id="bool-mask-float-padding",
        title="A float padding mask beside a bool mask is read as a bool one",
        affects="<2.0",
        upstream="pytorch/pytorch#92554",
        clause=2,
        trigger="attn_mask is bool, key_padding_mask float with values other than 0 and -inf, or differentiated",
        instead="every key whose padding mask is not 0 is hidden",
        advice="give both masks the same type, or use 2.0",
        applies=lambda call: bool(triggers.mixed_blocks(call, "bool")),
        change=triggers.reads_padding_as_bool,
        pinned=MultiHead(S=2, attn_mask=Mask("bool", "none"), key_padding_mask=Mask("float", "one", "finite")),
    ),
    Deviation(
        id="causal-mask-gradient",
        title="A causal float mask gets no gradient",
        affects=">=2.0.1",
        upstream="not found",
        clause=6,
        trigger="a float mask that requires a gradient is causal, and a hint says so or a stack detects it",
        instead="the mask is replaced by is_causal=True, so that its gradient is None",
        advice="add a padding mask of zeros, or start the learned mask from other values than exactly 0 and -inf",
        applies=lambda call: bool(triggers.dropped_masks(call)),
        change=lambda computation, call: without_gradient(computation, triggers.dropped_masks(call)),
        pinned=Transformer(
            module="TransformerEncoder", autograd="grad", S=2, head_dim=4, src_mask=Mask("float", "causal")
        ),
    ),
    Deviation(
        id="causal-hint-hides-appended-keys",
        title="is_causal=True hides the keys that add_bias_kv and add_zero_attn append",
        affects=">=2.0.1",
        upstream="not found",
        clause=7,
        trigger="nn.MultiheadAttention with is_causal=True, need_weights=False, no padding mask, and appended keys",
        instead="the causal mask is taken over all keys, so that the appended ones are hidden from early queries",
        advice="leave out the hint",
        applies=triggers.hides_appended_keys,
        change=lambda computation, call: with_kernel(computation, lambda _: causal_over_all_keys, ("self",)),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True, need_weights=False, add_zero_attn=True),
    ),
    Deviation(
        id="flash-gradient-finfo-min",
        title="Gradients are too large by the number of keys where all are masked with finfo.min",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="a row whose visible keys all have a mask of about finfo.min, on the CPU's fused kernel",
        instead="the gradients that pass through the row are multiplied by the number of keys that share the maximum",
        advice="mask with -inf (or bool), or give such rows another key to see",
        applies=lambda call: bool(triggers.absorbing_flash_blocks(call)),
        change=lambda computation, call: with_kernel(
            computation, LosingTheNormaliser, triggers.absorbing_flash_blocks(call)
        ),
        pinned=ScaledDotProduct(autograd="inputs", S=2, attn_mask=Mask("float", "all", "min")),
    ),
    Deviation(
        id="flash-causal-negative-scale",
        title="is_causal=True with a scale of 0 or less gives NaN",
        affects=">=2.3",
        upstream="not found",
        clause=6,
        trigger="scaled_dot_product_attention with is_causal=True and scale <= 0, on the CPU's fused kernel",
        instead="the mask is scaled too, -inf becomes inf, and every row that hides a key is NaN; in bfloat16 and"
        " float16 since 2.9 it is 0 where keys fill whole vectors of 16 (AVX2: 8), with scale=0 NaN or 0",
        advice="give the scale's sign to the query, or a causal attn_mask in place of is_causal",
        applies=triggers.scales_the_causal_mask,
        change=triggers.mask_before_scaling,
        pinned=ScaledDotProduct(L=2, S=2, is_causal=True, scale=-1.0),
    ),
    Deviation(
        id="flash-first-keys-hidden",
        title="A query that sees none of the first 512 keys gets NaN",
        affects=">=2.3,<2.4.1",
        upstream="pytorch/pytorch#127055",
        clause=1,
        trigger="a row of the mask hides the first 512 keys but not all, on the CPU's fused kernel",
        instead="the row is NaN",
        advice="pad on the right, or use 2.4.1",
        applies=lambda call: bool(triggers.hides_the_first_keys(call)),
        change=lambda computation, call: with_kernel(
            computation, LostInTheFirstBlock, triggers.hides_the_first_keys(call)
        ),
        pinned=MultiHead(seed=232, S=513, attention="cross", key_padding_mask=Mask("bool", "left"), need_weights=False),
    ),
    Deviation(
        id="flash-mask-one-key",
        title="A mask of size 1 over keys is read past its end",
        affects=">=2.3,<2.5",
        upstream="pytorch/pytorch#128816",
        clause=1,
        trigger="attn_mask (..., L, 1) broadcasts over keys, in scaled_dot_product_attention on the CPU's fused kernel",
        instead="the kernel reads the memory behind the mask: the numbers are undefined",
        advice="expand the mask to (..., L, S) and make it contiguous, or use 2.5",
        applies=triggers.is_broadcast_over_keys,
        change=lambda computation, call: undefined(computation),
        pinned=ScaledDotProduct(L=3, S=5, D=4, Dv=4, attn_mask=Mask("float", "all", "finite"), broadcast="S"),
    ),
    Deviation(
        id="nested-padding-zero",
        title="nn.TransformerEncoder writes zeros into padded positions",
        affects=">=1.13",
        upstream="pytorch/pytorch#132136",
        clause=8,
        trigger="src_key_padding_mask in eval, where the batch is packed into a nested tensor",
        instead="padded positions come out as 0 (as the final norm of 0)",
        advice="ignore the output at padded positions, or enable_nested_tensor=False",
        applies=triggers.packs_what_is_hidden,
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "sample")
        ),
    ),
    Deviation(
        id="nested-float-padding",
        title="nn.TransformerEncoder reads a float padding mask as a bool one in eval",
        affects=">=1.13",
        upstream="not found",
        clause=2,
        trigger="a float src_key_padding_mask with a finite value other than 0, on the nested path",
        instead="every position whose mask is not 0 is dropped, as a key and as a query, and the mask gets no gradient",
        advice="give src_key_padding_mask as bool, or enable_nested_tensor=False",
        applies=lambda call: (
            triggers.is_nested(call) and has_nonzero_finite(call.case, "src") and not triggers.is_unaligned(call)
        ),
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("float", "sample", "large"),
        ),
    ),
    Deviation(
        id="nested-unaligned",
        title="mask_check=False takes the first positions of a sample for the kept ones",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="mask_check=False and a src_key_padding_mask that keeps a position after a padded one",
        instead="as many positions as are kept are taken from the start of the sample, whichever they are",
        advice="leave mask_check on, or pad on the right",
        applies=triggers.is_unaligned,
        change=lambda computation, call: packed(computation, call.case),
        pinned=Transformer(
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "left"),
            mask_check=False,
        ),
    ),
    Deviation(
        id="nested-truncates",
        title="nn.TransformerEncoder drops trailing positions that are padding in every sample",
        affects="<2.1",
        upstream="pytorch/pytorch#97111",
        clause=8,
        trigger="src_key_padding_mask in eval on the nested path, where the last positions are padding in all samples",
        instead="the output is shorter than the input; in nn.Transformer memory masks of the right shape then raise",
        advice="cut off such positions yourself, or use 2.1",
        applies=triggers.truncates,
        change=triggers.truncate,
        pinned=Transformer(
            module="TransformerEncoder",
            S=3,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "trailing"),
            seed=1,
        ),
    ),
    Deviation(
        id="nested-prototype-warning",
        title="nn.TransformerEncoder warns that nested tensors are a prototype",
        affects=">=1.13",
        upstream="not found",
        clause=10,
        trigger="src_key_padding_mask in eval, where the batch is packed into a nested tensor",
        instead="a UserWarning about an internal that the caller has not chosen, once per process",
        advice="enable_nested_tensor=False",
        applies=triggers.is_nested,
        change=lambda computation, call: warning(computation, "nested tensors is in prototype stage"),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "none")
        ),
    ),
    Deviation(
        id="float-mask-float-padding",
        title="A float padding mask beside a float mask is ignored, or raises",
        affects="<2.0",
        upstream="pytorch/pytorch#92554",
        clause=1,
        trigger="attn_mask and key_padding_mask are both float",
        instead="the lowest byte of each padding value is read: 0 ignores it (so of -inf), 1 hides, else RuntimeError",
        advice="give the padding mask as bool, or use 2.0",
        applies=lambda call: bool(triggers.mixed_blocks(call, "float")),
        change=triggers.reads_padding_bytes,
        pinned=MultiHead(S=2, attn_mask=Mask("float", "none"), key_padding_mask=Mask("float", "one", "inf")),
    ),
    Deviation(
        id="empty-mask-view",
        title="A mask for no sample or no key raises",
        affects=">=2.0",
        upstream="not found",
        clause=1,
        trigger="N = 0 or S = 0, with a mask for each head, or with padding where no weights are asked for",
        instead="RuntimeError: the size of a mask without elements cannot be inferred",
        advice="skip empty batches",
        applies=lambda call: bool(triggers.views_nothing(call)),
        change=lambda computation, call: raising(
            computation, "RuntimeError", "cannot reshape tensor of 0 elements into shape"
        ),
        pinned=MultiHead(N=0, key_padding_mask=Mask("bool", "none"), need_weights=False),
    ),
    Deviation(
        id="native-mha-empty-weights",
        title="nn.MultiheadAttention returns no weights for an empty batch in eval",
        affects=">=1.13",
        upstream="pytorch/pytorch#192651",
        clause=7,
        trigger="N = 0 or L = 0 and need_weights=True, on the native path of self-attention",
        instead="None in place of the weights",
        advice="skip empty batches",
        applies=triggers.loses_empty_weights,
        change=lambda computation, call: without_weights(computation),
        pinned=MultiHead(N=0, num_heads=2, attention="self"),
    ),
    Deviation(
        id="nested-all-padding",
        title="nn.TransformerEncoder raises where all samples are padding",
        affects=">=2.2",
        upstream="pytorch/pytorch#178677",
        clause=4,
        trigger="src_key_padding_mask hides every position of every sample, in eval, on the nested path",
        instead="RuntimeError from to_padded_tensor",
        advice="skip such batches, or enable_nested_tensor=False",
        applies=triggers.packs_nothing,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "at least one constituent tensor should have non-zero numel"
        ),
        pinned=Transformer(
            module="TransformerEncoder", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "all")
        ),
    ),
    Deviation(
        id="nested-no-layer-norm",
        title="nn.TransformerEncoder raises in eval where a later layer is trained, but not its attention",
        affects="<2.1",
        upstream="pytorch/pytorch#94702",
        clause=3,
        trigger="src_key_padding_mask in eval with autograd, where the first layer is frozen and, of a later one, only"
        " the attention is; or a nested tensor, to a stack with a final norm, or as the input of such a layer",
        instead="NotImplementedError: LayerNorm cannot take the packed batch (1.13), or nothing comes back through it"
        " (2.0)",
        advice="enable_nested_tensor=False",
        applies=lambda call: triggers.norms_a_packed_batch(call) or given_nested.norms_a_nested_tensor(call),
        change=lambda computation, call: raising(
            computation, "NotImplementedError", "Could not run 'aten::native_layer_norm"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="one_parameter",
            seed=4,
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
    ),
    Deviation(
        id="nested-checkpoint",
        title="torch.utils.checkpoint around nn.TransformerEncoder raises in eval where of a later layer all is trained"
        " but its attention",
        affects=">=2.1",
        upstream="not found",
        clause=3,
        trigger="src_key_padding_mask in eval through a checkpoint that is not reentrant, where the first layer is"
        " frozen and, of a later one, only the attention is",
        instead="RuntimeError: the checkpoint asks the packed batch, which autograd saves, for its shape",
        advice="enable_nested_tensor=False",
        applies=triggers.saves_a_packed_batch,
        change=lambda computation, call: raising(computation, "RuntimeError", "NestedTensorImpl doesn't support sizes"),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="one_parameter",
            mode="checkpoint",
            seed=4,
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
    ),
    Deviation(
        id="nested-partly-frozen",
        title="nn.TransformerEncoder raises in eval where its first layer is frozen and a later one is not",
        affects=">=1.13",
        upstream="not found",
        clause=3,
        trigger="src_key_padding_mask in eval with autograd, the first layer frozen, a parameter of a later one not",
        instead="AssertionError: the first layer alone decides to pack the batch, and a later one cannot take it",
        advice="enable_nested_tensor=False",
        applies=triggers.unpacks_too_late,
        change=lambda computation, call: raising(
            computation, "AssertionError", "does not support NestedTensor outside of its fast path"
        ),
        pinned=Transformer(
            module="TransformerEncoder",
            autograd="last_layer",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            num_layers=2,
            src_key_padding_mask=Mask("bool", "sample"),
        ),
    ),
    Deviation(
        id="native-layer-bias",
        title="nn.TransformerEncoderLayer with bias=False raises in eval",
        affects=">=2.1,<2.3",
        upstream="pytorch/pytorch#116385",
        clause=1,
        trigger="bias=False and an even number of heads, in eval with batch_first=True, with or without autograd",
        instead="AttributeError, since the layer asks its missing biases for their device",
        advice="use 2.3, or batch_first=False",
        applies=lambda call: dispatch.looks_for_missing_biases(call.case, call.release),
        change=lambda computation, call: raising(
            computation, "AttributeError", "'NoneType' object has no attribute '(device|requires_grad)'"
        ),
        pinned=Transformer(S=2, num_heads=2, head_dim=2, bias=False),
    ),
    Deviation(
        id="nested-empty-batch",
        title="nn.TransformerEncoder raises for an empty batch with padding",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="N = 0 and a src_key_padding_mask, in eval, where the batch is packed into a nested tensor",
        instead="RuntimeError from the conversion to a nested tensor",
        advice="skip empty batches, or enable_nested_tensor=False",
        applies=triggers.packs_no_sample,
        change=lambda computation, call: raising(computation, "RuntimeError", "stack expects a non-empty TensorList"),
        pinned=Transformer(module="TransformerEncoder", N=0, S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask()),
    ),
    Deviation(
        id="nested-no-positions",
        title="nn.TransformerEncoder raises for sequences of length 0 with padding",
        affects=">=1.13",
        upstream="not found",
        clause=1,
        trigger="S = 0 and a src_key_padding_mask, in eval with batch_first=True, where nested tensors are enabled",
        instead="IndexError from the question whether padding is on the right",
        advice="skip empty batches, or enable_nested_tensor=False",
        applies=triggers.looks_at_no_position,
        change=lambda computation, call: raising(computation, "IndexError", "index -1 out of range"),
        pinned=Transformer(module="TransformerEncoder", S=0, num_heads=2, head_dim=2, src_key_padding_mask=Mask()),
    ),
    Deviation(
        id="sdpa-mask-of-few-dimensions",
        title="scaled_dot_product_attention raises for a mask of one dimension",
        affects=">=2.3",
        upstream="not found",
        clause=1,
        trigger="attn_mask of shape (S,) or (), which broadcasts to the scores, beside a query of four dimensions",
        instead="IndexError: the choice of the kernel asks for the mask's second last dimension",
        advice="give the mask as (1, S)",
        applies=triggers.is_short_of_dimensions,
        change=lambda computation, call: raising(computation, "IndexError", "Dimension (out of range|specified as -2)"),
        pinned=ScaledDotProduct(S=2, attn_mask=Mask("bool", "one"), broadcast="1-D"),
    ),
    Deviation(
        id="hint-excludes-mask",
        title="nn.MultiheadAttention refuses a mask beside is_causal=True",
        affects="==2.0.0",
        upstream="not found",
        clause=6,
        trigger="is_causal=True beside an attn_mask, which is_causal is a hint about, off the native path",
        instead="AssertionError: only one of the two is allowed",
        advice="leave out the hint, or use 2.0.1",
        applies=triggers.gives_mask_and_hint,
        change=lambda computation, call: raising(computation, "AssertionError", "Only allow causal mask or attn_mask"),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True),
    ),
    Deviation(
        id="sdpa-no-keys-nan-spreads",
        title="Without keys, one NaN in a query makes all outputs of the batch NaN",
        affects=">=2.12",
        upstream="not found",
        clause=4,
        trigger="scaled_dot_product_attention of no keys, where the sum of the query's numbers is not finite: one is "
        "NaN or infinite, or the sum overflows, as it soon does in float16",
        instead="the whole output is NaN, that of other queries, heads and samples too (before 2.12 it was 0): the "
        "shortcut for empty inputs adds 0 times the sum",
        advice="leave out the attention to an empty sequence, whose context is 0",
        applies=lambda call: bool(triggers.keyless_blocks(call)),
        change=triggers.spreads_what_is_not_finite,
        pinned=ScaledDotProduct(S=0, nan_query=True),
    ),
    Deviation(
        id="float16-mask-overflow",
        title="In float16 a query that sees only keys masked by finfo.min may give NaN",
        affects=">=2.3",
        upstream="not found",
        clause=4,
        trigger="float16, a query for which every visible key is masked by about finfo.min and has a score below -16,"
        " and the call returns weights (or, before 2.5, its mask requires a gradient)",
        instead="score and mask add up to -inf, so that the row sees no key, and is NaN",
        advice="mask with -1e4 in float16, or with bool, and let every query see at least one key",
        applies=lambda call: bool(triggers.overflowing_blocks(call)),
        change=triggers.overflow,
        pinned=MultiHead(
            dtype="float16",
            seed=5,
            L=2,
            S=2,
            attention="self",
            garbage=True,
            attn_mask=Mask("float", "all", "min"),
            key_padding_mask=Mask("float", "one"),
        ),
    ),
    Deviation(
        id="lower-right-bias-warning",
        title="causal_lower_right warns of NaN for queries that see no key, which since 2.5 are zero",
        affects=">=2.3",
        upstream="not found",
        clause=10,
        trigger="causal_lower_right(L, S) with more queries than keys",
        instead="UserWarning: Lower right causal bias will produce NaNs; before 2.5 it does, since then it does not",
        advice="ignore the warning from 2.5 on",
        applies=triggers.is_biased_past_its_keys,
        change=lambda computation, call: warning(computation, "Lower right causal bias will produce NaNs"),
        pinned=ScaledDotProduct(mode="causal_lower_right", L=2, attn_mask=Mask("bool", "lower_right")),
    ),
    Deviation(
        id="checkpoint-autocast-warning",
        title="torch.utils.checkpoint warns that it uses what is deprecated itself",
        affects=">=2.4,<2.5",
        upstream="pytorch/pytorch#130659",
        clause=10,
        trigger="a module is called through torch.utils.checkpoint, and a gradient is asked for",
        instead="a FutureWarning about torch.cpu.amp.autocast, which the caller has not used",
        advice="use 2.5",
        applies=triggers.computes_again,
        change=lambda computation, call: warning(
            computation, r"torch\.cpu\.amp\.autocast\(args\.\.\.\)` is deprecated"
        ),
        pinned=MultiHead(autograd="inputs", mode="checkpoint", attention="self"),
    ),
    Deviation(
        id="flash-nan-query-zero",
        title="A query that is NaN gives 0",
        affects=">=2.5",
        upstream="pytorch/pytorch#141128",
        clause=1,
        trigger="a NaN or inf in the query, no mask or a causal one, on the CPU's fused kernel; since 2.6 only with"
        " fewer keys than a vector register holds (8 of float64, 16 of float32 with AVX512, else half of that)",
        instead="the context of that query is 0, as if it saw no key: the NaN is lost without a trace",
        advice="look for NaN in the inputs, not in the output",
        applies=lambda call: bool(triggers.forgets_nan(call)),
        change=triggers.forget_nan,
        pinned=ScaledDotProduct(nan_query=True),
    ),
    Deviation(
        id="scripted-without-bias",
        title="A module with bias=False cannot be scripted",
        affects=">=2.1",
        upstream="pytorch/pytorch#149391",
        clause=3,
        trigger="torch.jit.script, and bias=False",
        instead="RuntimeError: the compiler finds that None has no dtype, and the next time that it has met the class",
        advice="bias=True with biases of 0 that are frozen, or torch.export",
        applies=lambda call: call.case.mode == "scripted" and not call.case.bias,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "'NoneType' object has no attribute or method 'dtype'|Can't redefine method"
        ),
        pinned=MultiHead(bias=False, mode="scripted"),
    ),
    Deviation(
        id="scripted-native-no-weights",
        title="nn.MultiheadAttention raises in eval where it is scripted and no weights are asked for",
        affects=">=2.1",
        upstream="not found",
        clause=3,
        trigger="torch.jit.script and need_weights=False, on the native path of nn.MultiheadAttention",
        instead="RuntimeError: strides() called on an undefined Tensor",
        advice="need_weights=True",
        applies=lambda call: triggers.gives_no_weights_natively(call, "scripted"),
        change=lambda computation, call: raising(
            computation, "RuntimeError", r"strides\(\) called on an undefined Tensor"
        ),
        pinned=MultiHead(num_heads=2, attention="self", need_weights=False, mode="scripted"),
    ),
    Deviation(
        id="exported-masks-out-of-order",
        title="nn.MultiheadAttention with both masks cannot be exported with dynamic shapes",
        affects=">=2.6,<2.8",
        upstream="pytorch/pytorch#149528",
        clause=3,
        trigger="torch.export with dynamic_shapes, key_padding_mask given after attn_mask, which has further"
        " dimensions, of a size other than 1",
        instead="KeyError: keywords are taken in the order of the call, their shapes in that of the signature",
        advice="give key_padding_mask before attn_mask, as the signature has them, or use 2.8",
        applies=triggers.takes_a_mask_for_the_other,
        change=lambda computation, call: raising(computation, "KeyError", r"^\d$"),
        pinned=MultiHead(mode="exported_dynamic", L=2, S=2, attn_mask=Mask(), key_padding_mask=Mask(), batched=False),
    ),
    Deviation(
        id="fake-native-weights",
        title="On fake tensors nn.MultiheadAttention returns weights that nobody asked for",
        affects=">=2.10",
        upstream="not found",
        clause=9,
        trigger="fake tensors in eval and need_weights=False, or an empty batch, on the native path of"
        " nn.MultiheadAttention",
        instead="weights of shape (0,) come with the output, where a real call returns None",
        advice="take the output alone",
        applies=lambda call: triggers.gives_no_weights_natively(call, "fake"),
        change=lambda computation, call: raising(computation, "AssertionError", r"torch\.Size\(\[0\]\).* is not "),
        pinned=MultiHead(num_heads=2, attention="self", need_weights=False, mode="fake"),
    ),
    Deviation(
        id="flash-scale-zero-forgets-nan",
        title="A query that is NaN is lost where scale is 0",
        affects=">=2.1,<2.3",
        upstream="not found",
        clause=1,
        trigger="a NaN or inf in the query and scale=0, no mask or a causal one, on the CPU's fused kernel",
        instead="the plain mean of the values that the query sees: a product that is scaled by 0 is not computed",
        advice="look for NaN in the inputs, not in the output",
        applies=triggers.computes_no_scores,
        change=lambda computation, call: with_kernel(computation, IgnoringTheQuery, ("sdpa",)),
        pinned=ScaledDotProduct(nan_query=True, scale=0.0),
    ),
    Deviation(
        id="autocast-mask-overflow",
        title="Under autocast a mask of finfo.min becomes -inf",
        affects=">=2.2",
        upstream="not found",
        clause=2,
        trigger="torch.autocast in bfloat16 on CPU, and a float32 mask that holds a number beyond what bfloat16 has,"
        " such as torch.finfo(torch.float32).min",
        instead="the cast makes it infinite: a row that is masked by it all along sees no key, and is NaN or 0 as the"
        " path has it, where it was a plain mean",
        advice="mask with bool, or with torch.finfo(torch.bfloat16).min, and let every query see at least one key",
        applies=lambda call: bool(autocast.overflowing_masks(call)),
        change=autocast.overflow,
        pinned=ScaledDotProduct(dtype="float32", mode="autocast", attn_mask=Mask("float", "all", "min")),
    ),
    Deviation(
        id="autocast-native-layer-raises",
        title="nn.TransformerEncoderLayer raises in eval under autocast on CPU",
        affects=">=2.2,<2.6",
        upstream="pytorch/pytorch#132613",
        clause=3,
        trigger="torch.autocast on CPU, where the encoder layer's native path serves the call",
        instead="RuntimeError: the native path multiplies what autocast has cast by what it has not",
        advice="from 2.3 torch.backends.mha.set_fastpath_enabled(False); before it batch_first=False; or use 2.6",
        applies=autocast.raises_on_the_native_layer,
        change=autocast.raise_of_dtypes,
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
    ),
    Deviation(
        id="autocast-native-layer-dtype",
        title="nn.TransformerEncoderLayer returns another dtype in eval under autocast on CPU",
        affects=">=2.6",
        upstream="not found",
        clause=3,
        trigger="torch.autocast on CPU, where the encoder layer's native path serves a layer, of a stack any",
        instead="the output is bfloat16 in eval, float32 in training and wherever autograd looks on",
        advice="cast the output, or torch.backends.mha.set_fastpath_enabled(False)",
        applies=autocast.returns_what_is_native,
        change=lambda computation, call: replace(computation, dtype=computed_in(call.case)),
        pinned=Transformer(dtype="float32", mode="autocast", num_heads=2, head_dim=2),
    ),
    Deviation(
        id="autocast-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval under autocast on CPU",
        affects=">=2.2",
        upstream="pytorch/pytorch#107663",
        clause=3,
        trigger="torch.autocast on CPU and src_key_padding_mask, where the batch is packed into a nested tensor",
        instead="RuntimeError: a scalar type is not what was expected",
        advice="enable_nested_tensor=False, and 2.6 or later",
        applies=autocast.raises_when_packed,
        change=autocast.raise_of_dtypes,
        pinned=Transformer(
            dtype="float32",
            mode="autocast",
            module="TransformerEncoder",
            N=2,
            S=3,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("bool", "none"),
        ),
    ),
    Deviation(
        id="func-nested-raises",
        title="nn.TransformerEncoder with padding raises in eval under torch.func.vjp and jvp",
        affects=">=2.0",
        upstream="not found",
        clause=3,
        trigger="torch.func.vjp, grad or jvp, and src_key_padding_mask, where the batch is packed into a nested tensor:"
        " what is differentiated for is a mask, or the parameters of later layers",
        instead="RuntimeError: an internal error, NestedTensorImpl doesn't support strides",
        advice="enable_nested_tensor=False",
        applies=triggers.packs_under_a_transform,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "Internal error: NestedTensorImpl doesn't support (strides|sizes)"
        ),
        pinned=Transformer(
            mode="func_vjp",
            autograd="mask",
            module="TransformerEncoder",
            N=2,
            S=2,
            num_heads=2,
            head_dim=2,
            src_key_padding_mask=Mask("float", "sample"),
        ),
    ),
    Deviation(
        id="func-jvp-expanded",
        title="torch.func.jvp raises where a mask that moves is expanded",
        affects=">=2.0",
        upstream="not found",
        clause=3,
        trigger="forward-mode differentiation for a float mask that was made by expand: several of its elements share"
        " memory",
        instead="RuntimeError: the tangent, whose elements differ, is laid out in memory as the mask is",
        advice="clone the mask, or make it contiguous",
        applies=forward.moves_an_expanded_tensor,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "more than one element of the written-to tensor refers to a single memory"
        ),
        pinned=MultiHead(mode="func_jvp", autograd="mask", S=2, attn_mask=Mask("float", "none", layout="expanded")),
    ),
    Deviation(
        id="flash-gradient-bfloat16",
        title="In bfloat16 gradients are wrong where a head has one feature",
        affects=">=2.7,<2.11",
        upstream="not found",
        clause=1,
        trigger="bfloat16 or autocast, several heads of head_dim 1, and more than 128 keys (64 of 192 queries), on the"
        " CPU's fused kernel (seen on CPUs with AVX512, not on one with AVX2)",
        instead="the gradients of query, key and value are off by up to their own size, and differ from run to run",
        advice="use 2.11, or another dtype or head_dim",
        applies=triggers.garbles_gradients,
        change=lambda computation, call: replace(computation, undefined_gradient=True),
        pinned=ScaledDotProduct(dtype="bfloat16", autograd="inputs", batch=(1, 2), L=32, S=129),
        every_cpu=False,
    ),
    Deviation(
        id="bfloat16-long-sums",
        title="In bfloat16 attention over more than 256 keys loses what the later ones add",
        affects=">=2.0,<2.1",
        upstream="pytorch/pytorch#83863",
        clause=1,
        trigger="bfloat16, and a length above 256, on a CPU with AVX2 (not seen on one with AMX; 1.13 does it too, but"
        " is not asked in bfloat16)",
        instead="sums are kept in bfloat16: of 1,024 equal keys a quarter of what is right comes back",
        advice="use 2.1, or float32",
        applies=triggers.sums_in_bfloat16,
        change=lambda computation, call: undefined(computation),
        pinned=MultiHead(dtype="bfloat16", seed=40, S=1025, head_dim=4, attention="cross", need_weights=False),
        every_cpu=False,
    ),
    Deviation(
        id="bfloat16-nan-spreads",
        title="In bfloat16 a query that sees no key makes others NaN, on CPUs with AMX",
        affects=">=2.7",
        upstream="uxlfoundation/oneDNN#5717",
        clause=1,
        trigger="bfloat16 on a CPU with AMX, more than 16 rows of a width that is no multiple of 32, and NaN where the"
        " next row in memory begins: that of a query that sees no key, a padded position whose content is NaN or"
        " overflows, or what surrounds a slice",
        instead="oneDNN multiplies what lies behind a row by 0, so that NaN there makes it NaN, whatever the masks; of"
        " fewer keys than fill a vector (32), without a mask, the fused kernel then loses it: a wrong number comes back",
        advice="let every query see a key and fill padded positions with numbers, or take multiples of 32 as widths",
        applies=triggers.reads_past_a_row,
        change=triggers.spread_nan,
        pinned=MultiHead(dtype="bfloat16", L=17, S=33, head_dim=8, attn_mask=Mask("bool", "row")),
        every_cpu=False,
    ),
    Deviation(
        id="nested-sdpa-no-keys",
        title="scaled_dot_product_attention raises for nested tensors of empty sequences",
        affects=">=2.2",
        upstream="not found",
        clause=4,
        trigger="nested tensors, strided or jagged, in which all sequences of keys are empty",
        instead="RuntimeError from the conversion to a padded tensor, since 2.12 of a strided one an internal error",
        advice="leave out batches in which there is nothing to attend to",
        applies=given_nested.attends_to_nothing,
        change=lambda computation, call: raising(
            computation,
            "RuntimeError",
            "at least one constituent tensor should have non-zero numel|NestedTensorImpl doesn't support sizes",
        ),
        pinned=ScaledDotProduct(mode="nested_strided", attn_mask=Mask("bool", "all"), mask_batch=(1, 1), broadcast="L"),
    ),
    Deviation(
        id="nested-sdpa-few-keys",
        title="scaled_dot_product_attention raises for nested tensors with fewer scores than queries",
        affects=">=2.5",
        upstream="not found",
        clause=4,
        trigger="nested tensors in which so many sequences of keys are empty that the samples have fewer scores than"
        " queries, on the math backend",
        instead="RuntimeError: what says which rows are hidden is given the memory of the scores, and needs more",
        advice="leave out samples in which there is nothing to attend to",
        applies=given_nested.scores_less_than_it_asks,
        change=lambda computation, call: raising(computation, "RuntimeError", "setStorage: sizes .* are out of bounds"),
        pinned=ScaledDotProduct(
            mode="nested_jagged",
            batch=(2, 1),
            L=2,
            attn_mask=Mask("bool", "slice"),
            mask_batch=(2, 1),
            broadcast="L",
        ),
    ),
    Deviation(
        id="nested-mha-no-keys",
        title="nn.MultiheadAttention raises for a nested tensor of empty sequences",
        affects=">=2.2",
        upstream="pytorch/pytorch#178677",
        clause=4,
        trigger="a nested tensor in which all sequences are empty, in eval, on the native path",
        instead="RuntimeError from to_padded_tensor",
        advice="leave out such batches",
        applies=given_nested.weighs_nothing,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "at least one constituent tensor should have non-zero numel"
        ),
        pinned=MultiHead(mode="nested_strided", num_heads=2, attention="self", key_padding_mask=Mask("bool", "all")),
    ),
    Deviation(
        id="jagged-sdpa-no-backend",
        title="scaled_dot_product_attention raises for jagged tensors with is_causal=True, or without heads, on CPU",
        affects=">=2.3",
        upstream="pytorch/pytorch#156660",
        clause=6,
        trigger="jagged nested tensors on CPU, and is_causal=True or tensors of three dimensions",
        instead="RuntimeError: there is no backend; a build for CUDA, without a GPU, says that its driver is too old"
        " (since 2.8 as AcceleratorError); of one feature the sizes do not fit",
        advice="pad, and give a mask; or add a dimension of one head",
        applies=given_nested.has_no_backend,
        change=lambda computation, call: raising(
            computation,
            "RuntimeError|AcceleratorError",
            "No viable backend|CUDA|split_with_sizes expects|expected to contain only concrete integers",
        ),
        pinned=ScaledDotProduct(mode="nested_jagged", L=2, S=2, is_causal=True),
    ),
)
