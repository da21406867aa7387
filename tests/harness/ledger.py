"""The known deviations: for each, which cases it affects in which releases, and what they do instead.

model of a release = reference + its deviations. A deviation predicts; it excuses nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from packaging.specifiers import SpecifierSet

from . import dispatch
from .behaviours import (
    HidingNonzero,
    LosingTheNormaliser,
    causal_over_all_keys,
    multiplying,
    packed,
    raising,
    warning,
    with_kernel,
    without_gradient,
)
from .cases import Case, MultiHead, ScaledDotProduct, Transformer
from .dispatch import since
from .masks import Mask
from .situations import (
    absorbs_everything,
    drops_the_mask,
    has_empty_row,
    has_nonzero_finite,
    mask_names,
    needs_mask_gradient,
    uses_flash,
)


@dataclass(frozen=True)
class Deviation:
    """One entry.

    affects: the releases, as a version specifier. trigger, instead: in words. applies: (case, release) -> bool, for
    a release that is affected. change: (computation, case, release) -> computation. pinned: a least case that shows
    it. upstream: "pytorch/pytorch#N", or "not found".
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


def applying(case, release, entries=None):
    """The deviations of this case in this release, in the order in which they compose."""
    entries = ENTRIES if entries is None else entries
    return tuple(
        Applied(entry.id, partial(entry.change, case=case, release=release))
        for entry in entries
        if entry.concerns(release) and entry.applies(case, release)
    )


# ---- where a deviation applies -------------------------------------------------------------------------------------


def _blocks(case, release, path):
    """The attention blocks of the case that this path serves."""
    if isinstance(case, ScaledDotProduct):
        return ("sdpa",) if path == "sdpa" else ()
    if dispatch.nested(case, release):  # its masks are gone
        return tuple(block for block, served in dispatch.paths(case, release).items() if served == path and block != "src")
    return tuple(block for block, served in dispatch.paths(case, release).items() if served == path)


def _empty(path):
    """Whether a block on that path has a row that sees no key."""

    def applies(case, release):
        return any(has_empty_row(case, block) for block in _blocks(case, release, path))

    return applies


def _plain_arithmetic(path):
    """NaN where a row sees no key, and wherever that spreads to."""

    def change(computation, case, release):
        return with_kernel(computation, lambda _: multiplying, _blocks(case, release, path))

    return change


def _reads_float_as_bool(case, release):
    served = _blocks(case, release, "native_layer")
    return any(has_nonzero_finite(case, block) for block in served)


def _loses_the_normaliser(case, release):
    return case.autograd == "inputs" and bool(_absorbing_flash_blocks(case, release))


def _absorbing_flash_blocks(case, release):
    served = _blocks(case, release, "sdpa")
    return tuple(block for block in served if absorbs_everything(case, block) and uses_flash(case, release, block))


def _differentiates_native_layer(case, release):
    served = _blocks(case, release, "native_layer")
    return case.autograd == "mask" and any(needs_mask_gradient(case, block) for block in served)


def _dropped_masks(case, release):
    """The names of the float masks that get no gradient since is_causal takes their place."""
    if isinstance(case, ScaledDotProduct):
        return ()
    served = _blocks(case, release, "sdpa")
    blocks = [block for block in served if needs_mask_gradient(case, block) and drops_the_mask(case, release, block)]
    return tuple(mask_names(case, block)[0] for block in blocks)


def _hides_appended_keys(case, release):
    appends = getattr(case, "add_bias_kv", False) or getattr(case, "add_zero_attn", False)
    return appends and any(drops_the_mask(case, release, block) for block in _blocks(case, release, "sdpa"))


def _packs_nothing(case, release):
    return dispatch.nested(case, release) and not dispatch.nested_lengths(case)[0].any()


def _is_nested(case, release):
    return dispatch.nested(case, release)


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
        applies=_empty("explicit"),
        change=_plain_arithmetic("explicit"),
        pinned=MultiHead(num_heads=1, head_dim=1, attn_mask=Mask("bool", "all")),
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
        applies=lambda case, release: _empty("native_mha")(case, release) or _empty("native_layer")(case, release),
        change=lambda computation, case, release: _plain_arithmetic("native_layer")(
            _plain_arithmetic("native_mha")(computation, case, release), case, release
        ),
        pinned=MultiHead(num_heads=2, head_dim=1, attention="self", attn_mask=Mask("bool", "all"), need_weights=False),
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
        applies=_empty("sdpa"),
        change=_plain_arithmetic("sdpa"),
        pinned=ScaledDotProduct(attn_mask=Mask("bool", "all")),
    ),
    Deviation(
        id="native-layer-float-mask",
        title="nn.TransformerEncoderLayer reads a float mask as a bool one in eval",
        affects=">=2.0",
        upstream="pytorch/pytorch#118628",
        clause=2,
        trigger="a float mask with a finite value other than 0, on the native path of the encoder layer",
        instead="every key whose mask is not 0 is hidden",
        advice="torch.backends.mha.set_fastpath_enabled(False), or give the mask's parameters a gradient",
        applies=_reads_float_as_bool,
        change=lambda computation, case, release: with_kernel(computation, lambda _: HidingNonzero(), ("src",)),
        pinned=Transformer(S=2, num_heads=2, src_mask=Mask("float", "one", "finite")),
    ),
    Deviation(
        id="native-layer-mask-gradient",
        title="A float mask cannot be learned while the encoder layer's parameters are frozen",
        affects=">=2.0",
        upstream="not found",
        clause=5,
        trigger="a float mask that requires a gradient, in eval, where no parameter and no input does",
        instead="backward raises, since the native path has no derivative",
        advice="torch.backends.mha.set_fastpath_enabled(False)",
        applies=_differentiates_native_layer,
        change=lambda computation, case, release: raising(
            computation, "RuntimeError", "derivative for aten::_transformer_encoder_layer_fwd is not implemented"
        ),
        pinned=Transformer(autograd="mask", S=2, num_heads=2, src_mask=Mask("float", "one", "inf")),
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
        applies=lambda case, release: bool(_dropped_masks(case, release)),
        change=lambda computation, case, release: without_gradient(computation, _dropped_masks(case, release)),
        pinned=Transformer(module="TransformerEncoder", autograd="grad", S=2, head_dim=4, src_mask=Mask("float", "causal")),
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
        change=lambda computation, case, release: with_kernel(computation, lambda _: causal_over_all_keys, ("self",)),
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
        applies=_loses_the_normaliser,
        change=lambda computation, case, release: with_kernel(
            computation, LosingTheNormaliser, _absorbing_flash_blocks(case, release)
        ),
        pinned=ScaledDotProduct(autograd="inputs", S=2, attn_mask=Mask("float", "all", "min")),
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
        applies=_is_nested,
        change=lambda computation, case, release: packed(computation, case, truncates=not since(release, "2.1")),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "right")
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
        change=lambda computation, case, release: raising(
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
        change=lambda computation, case, release: warning(computation, "nested tensors is in prototype stage"),
        pinned=Transformer(
            module="TransformerEncoder", N=2, S=3, num_heads=2, src_key_padding_mask=Mask("bool", "none")
        ),
    ),
)
