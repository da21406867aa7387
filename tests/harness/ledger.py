"""The known deviations: for each, which cases it affects in which releases, and what they do instead.

model of a release = reference + its deviations. A deviation predicts; it excuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from packaging.specifiers import SpecifierSet

from . import dispatch
from .arrays import mask_arrays
from .behaviours import (
    HidingNonzero,
    LosingTheNormaliser,
    causal_over_all_keys,
    multiplying,
    packed,
    raising,
    truncated,
    undefined,
    warning,
    with_kernel,
    with_masks,
    without_gradient,
)
from .cases import Case, MultiHead, ScaledDotProduct, Transformer
from .dispatch import since
from .masks import Mask
from .situations import (
    absorbs_everything,
    drops_the_mask,
    gives_float,
    has_empty_row,
    has_nonzero_finite,
    mask_names,
    merged,
    needs_mask_gradient,
)


@dataclass(frozen=True)
class Deviation:
    """One entry.

    affects: the releases, as a version specifier. trigger, instead: in words. applies: Call -> bool, for a release
    that is affected. change: (computation, call) -> computation. pinned: a least case that shows it. upstream:
    "pytorch/pytorch#N", or "not found".
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
    devices: tuple[str, ...] = ("cpu",)

    def concerns(self, release):
        """Whether this release and device are affected."""
        specifier = SpecifierSet(self.affects, prereleases=True)
        return release.device_type in self.devices and specifier.contains(release.version.base_version)


@dataclass(frozen=True)
class Applied:
    """An entry that changes a case: change is computation -> computation."""

    id: str
    change: Callable


def applying(call, entries):
    """The deviations of this call (situations.Call), in the order in which they compose.

    entries: those that concern the release.
    """
    return tuple(Applied(entry.id, partial(entry.change, call=call)) for entry in entries if entry.applies(call))


# ---- where a deviation applies -------------------------------------------------------------------------------------


def _has_empty_row(*paths):
    """Whether a block on one of these paths has a query that sees no key."""

    def applies(call):
        return any(has_empty_row(call.case, block) for path in paths for block in call.blocks(path))

    return applies


def _computes_plainly(*paths):
    """NaN where a query sees no key, and wherever that spreads to."""

    def change(computation, call):
        blocks = sum((call.blocks(path) for path in paths), ())
        return with_kernel(computation, lambda _: multiplying, blocks)

    return change


def _reads_float_as_bool(call):
    return any(has_nonzero_finite(call.case, block) for block in call.blocks("native_layer"))


def _absorbing_flash_blocks(call):
    if call.case.autograd != "inputs":  # a float mask that requires a gradient is not for the fused kernel
        return ()
    return tuple(block for block in call.flash_blocks() if absorbs_everything(call.case, block))


def _is_broadcast_over_keys(call):
    case = call.case
    return isinstance(case, ScaledDotProduct) and "S" in case.broadcast and case.S > 1 and bool(call.flash_blocks())


def _differentiates(call, path):
    return call.case.autograd == "mask" and any(needs_mask_gradient(call.case, block) for block in call.blocks(path))


def _converts_masks(call):
    blocks = call.blocks("native_mha") + call.blocks("native_layer")
    if not getattr(call.case, "bias", True):  # raises before it warns
        return False
    if since(call.release, "2.0"):
        return any(merged(call.case, block) is not None for block in blocks)
    return any(gives_float(call.case, block) for block in blocks)


def _mixed_blocks(call, form):
    """The explicit blocks that are given an attention mask of this form and a float padding mask."""
    served = [block for block in call.blocks("explicit") if not (block == "memory" and _truncates(call))]
    masks = {block: [getattr(call.case, name) for name in mask_names(call.case, block)] for block in served}
    return [
        block
        for block, (attn_mask, padding) in masks.items()
        if attn_mask and padding and attn_mask.form == form and padding.is_float
    ]


def _reads_padding_as_bool(computation, call):
    blocks = _mixed_blocks(call, "bool")
    names = [mask_names(call.case, block)[1] for block in blocks]
    masks = {name: mask_arrays(call.case)[name] != 0 for name in names}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def _reads_padding_bytes(computation, call):
    blocks = _mixed_blocks(call, "float")
    names = [mask_names(call.case, block)[1] for block in blocks]
    lowest = {name: _lowest_bytes(mask_arrays(call.case)[name]) for name in names}
    if any((array > 1).any() for array in lowest.values()):
        return raising(computation, "RuntimeError", "Mask tensor can take 0 and 1 values only")
    masks = {name: array == 1 for name, array in lowest.items()}
    return with_kernel(with_masks(computation, masks), lambda _: multiplying, tuple(blocks))


def _lowest_bytes(array):
    """The byte at the address of each element, on a little-endian machine."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape, -1)[..., 0]


def _dropped_masks(call):
    """The names of the float masks that get no gradient since is_causal takes their place."""
    if isinstance(call.case, ScaledDotProduct):
        return ()
    blocks = [block for block in call.blocks("sdpa") if needs_mask_gradient(call.case, block)]
    dropped = [block for block in blocks if drops_the_mask(call.case, call.release, block)]
    return tuple(mask_names(call.case, block)[0] for block in dropped)


def _hides_appended_keys(call):
    appends = getattr(call.case, "add_bias_kv", False) or getattr(call.case, "add_zero_attn", False)
    return appends and any(drops_the_mask(call.case, call.release, block) for block in call.blocks("sdpa"))


def _is_nested(call):
    return dispatch.nested(call.case, call.release)


def _is_unaligned(call):
    return _is_nested(call) and not dispatch.is_left_aligned(dispatch.nested_lengths(call.case)[1])


def _packs_what_is_hidden(call):
    return _is_nested(call) and not _is_unaligned(call) and not has_nonzero_finite(call.case, "src")


def _truncates(call):
    if not _is_nested(call):
        return False
    return dispatch.nested_lengths(call.case)[0].max(initial=0) < call.case.S


def _truncate(computation, call):
    """With a memory that is too short for them, masks of the right shape are wrong."""
    computation = truncated(packed(computation, call.case))
    if call.case.memory_mask is not None:
        return raising(computation, "RuntimeError", r"The shape of the [23]D attn_mask is .*, but should be")
    if call.case.memory_key_padding_mask is not None:
        return raising(computation, "AssertionError", "expecting key_padding_mask shape of")
    return computation


def _packs_nothing(call):
    return _is_nested(call) and not dispatch.nested_lengths(call.case)[0].any()


# ---- entries -------------------------------------------------------------------------------------------------------

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
        applies=_has_empty_row("explicit"),
        change=_computes_plainly("explicit"),
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
        advice="let every query see at least one key, or torch.backends.mha.set_fastpath_enabled(False)",
        applies=_has_empty_row("native_mha", "native_layer"),
        change=_computes_plainly("native_mha", "native_layer"),
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
        applies=_has_empty_row("sdpa"),
        change=_computes_plainly("sdpa"),
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
        advice="torch.backends.mha.set_fastpath_enabled(False), or give the mask's parameters a gradient",
        applies=_reads_float_as_bool,
        change=lambda computation, call: with_kernel(computation, lambda _: HidingNonzero(), ("src",)),
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
        applies=_converts_masks,
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
        advice="torch.backends.mha.set_fastpath_enabled(False)",
        applies=lambda call: _differentiates(call, "native_layer"),
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
        applies=lambda call: _differentiates(call, "native_mha"),
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
        instead="TypeError, since the native path needs a bias",
        advice="use 2.1, or give a parameter or the input a gradient",
        applies=lambda call: not getattr(call.case, "bias", True) and bool(call.blocks("native_mha")),
        change=lambda computation, call: raising(computation, "TypeError", "'qkv_bias'.* must be Tensor, not NoneType"),
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
        applies=lambda call: bool(_mixed_blocks(call, "bool")),
        change=_reads_padding_as_bool,
        pinned=MultiHead(S=2, attn_mask=Mask("bool", "none"), key_padding_mask=Mask("float", "one", "finite")),
    ),
    Deviation(
        id="causal-mask-gradient",
        title="A causal float mask gets no gradient",
        affects=">=2.0",
        upstream="not found",
        clause=6,
        trigger="a float mask that requires a gradient is causal, and a hint says so or a stack detects it",
        instead="the mask is replaced by is_causal=True, so that its gradient is None",
        advice="add a padding mask of zeros, or start the learned mask from other values than exactly 0 and -inf",
        applies=lambda call: bool(_dropped_masks(call)),
        change=lambda computation, call: without_gradient(computation, _dropped_masks(call)),
        pinned=Transformer(
            module="TransformerEncoder", autograd="grad", S=2, head_dim=4, src_mask=Mask("float", "causal")
        ),
    ),
    Deviation(
        id="causal-hint-hides-appended-keys",
        title="is_causal=True hides the keys that add_bias_kv and add_zero_attn append",
        affects=">=2.0",
        upstream="not found",
        clause=7,
        trigger="nn.MultiheadAttention with is_causal=True, need_weights=False, no padding mask, and appended keys",
        instead="the causal mask is taken over all keys, so that the appended ones are hidden from early queries",
        advice="leave out the hint",
        applies=_hides_appended_keys,
        change=lambda computation, call: with_kernel(computation, lambda _: causal_over_all_keys, ("self",)),
        pinned=MultiHead(attn_mask=Mask("bool", "causal"), is_causal=True, need_weights=False, add_zero_attn=True),
    ),
    Deviation(
        id="flash-gradient-finfo-min",
        title="Gradients are too large by the number of keys where all are masked with finfo.min",
        affects=">=2.1",
        upstream="not found",
        clause=1,
        trigger="a row whose visible keys all have a mask of about finfo.min, on the CPU's fused kernel",
        instead="the gradients that pass through the row are multiplied by the number of keys that share the maximum",
        advice="mask with -inf (or bool), or give such rows another key to see",
        applies=lambda call: bool(_absorbing_flash_blocks(call)),
        change=lambda computation, call: with_kernel(computation, LosingTheNormaliser, _absorbing_flash_blocks(call)),
        pinned=ScaledDotProduct(autograd="inputs", S=2, attn_mask=Mask("float", "all", "min")),
    ),
    Deviation(
        id="flash-mask-one-key",
        title="A mask of size 1 over keys is read past its end",
        affects=">=2.1,<2.5",
        upstream="pytorch/pytorch#128816",
        clause=1,
        trigger="attn_mask (..., L, 1) broadcasts over keys, in scaled_dot_product_attention on the CPU's fused kernel",
        instead="the kernel reads the memory behind the mask: the numbers are undefined",
        advice="expand the mask to (..., L, S) and make it contiguous, or use 2.5",
        applies=_is_broadcast_over_keys,
        change=lambda computation, call: undefined(computation),
        pinned=ScaledDotProduct(L=3, S=5, D=4, Dv=4, attn_mask=Mask("float", "all", "finite"), broadcast="S"),
    ),
    Deviation(
        id="nested-padding-zero",
        title="nn.TransformerEncoder writes zeros into padded positions",
        affects=">=1.13",
        upstream="not found",
        clause=8,
        trigger="src_key_padding_mask in eval, where the batch is packed into a nested tensor",
        instead="padded positions come out as 0 (as the final norm of 0)",
        advice="ignore the output at padded positions, or enable_nested_tensor=False",
        applies=_packs_what_is_hidden,
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
        applies=lambda call: _is_nested(call) and has_nonzero_finite(call.case, "src") and not _is_unaligned(call),
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
        applies=_is_unaligned,
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
        applies=_truncates,
        change=_truncate,
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
        id="nested-all-padding",
        title="nn.TransformerEncoder raises where all samples are padding",
        affects=">=2.1",
        upstream="pytorch/pytorch#178677",
        clause=4,
        trigger="src_key_padding_mask hides every position of every sample, in eval, on the nested path",
        instead="RuntimeError from to_padded_tensor",
        advice="skip such batches, or enable_nested_tensor=False",
        applies=_packs_nothing,
        change=lambda computation, call: raising(
            computation, "RuntimeError", "at least one constituent tensor should have non-zero numel"
        ),
        pinned=Transformer(
            module="TransformerEncoder", S=2, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "all")
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
        applies=_is_nested,
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
        applies=lambda call: bool(_mixed_blocks(call, "float")),
        change=_reads_padding_bytes,
        pinned=MultiHead(S=2, attn_mask=Mask("float", "none"), key_padding_mask=Mask("float", "one", "inf")),
    ),
)
