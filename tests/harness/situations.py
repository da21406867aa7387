"""What a case's masks amount to, as the ledger's triggers ask it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from reference import masks as meaning

from . import dispatch, packing
from .arrays import mask_arrays, merged_bias
from .cases import Case, MultiHead, ScaledDotProduct, Transformer, merged_dtype
from .dispatch import blocks, detects_causality, source
from .modes import BY_ID, computed_in
from .precision import held, rounded
from .release import Release
from .vectors import extension


@dataclass(frozen=True)
class Call:
    """A case on a release, and the path that served each of its attentions, in order (Observation.served).

    lengths: how many keys each sample has, of a call as torch meets it, where the mode packs.
    """

    case: Case
    release: Release
    served: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None

    @property
    def met(self):
        """The call as torch meets it: where the mode packs, without the padding."""
        if self.lengths is not None or not packing.packs(self.case):
            return self
        return replace(self, case=packing.without_padding(self.case), lengths=packing.lengths(self.case))

    @property
    def vectors(self):
        """The vector extension of the CPU whose kernels serve the call."""
        return BY_ID[self.case.mode].vectors or extension()

    def blocks(self, path):
        """The attention blocks that the release serves by this path: "native_layer", "native_mha", "sdpa", "explicit".

        On the nested path the encoder's block has no masks any more, and is not among them.
        """
        return self._blocks.get(path, ())

    @cached_property
    def _blocks(self):
        """{path: blocks that it serves}; triggers ask for it again and again."""
        if isinstance(self.case, ScaledDotProduct):
            return {"sdpa": ("sdpa",)}
        paths = dispatch.paths(self.case, self.release)
        if dispatch.nested(self.case, self.release):
            paths = {block: path for block, path in paths.items() if source(block) != "src"}
        return {path: tuple(block for block in paths if paths[block] == path) for path in paths.values()}

    def flash_blocks(self):
        """Those that scaled_dot_product_attention gives to the kernel that is called flash."""
        return self.sdpa_blocks("sdpa_flash")

    def sdpa_blocks(self, *kernels):
        """Those that scaled_dot_product_attention gives to one of these kernels (watching.PATHS)."""
        served = {block for block, kernel in self._kernels() if kernel in kernels}
        return tuple(block for block in self.blocks("sdpa") if block in served)

    def kernel_of_first(self, block):
        """The kernel that serves the block in its first layer."""
        return next((kernel for its, kernel in self._kernels() if its == block), None)

    def _kernels(self):
        """(block, kernel) of each attention that scaled_dot_product_attention computes, in order."""
        kernels = [path for path in self.served if path.startswith("sdpa")]
        blocks = self.blocks("sdpa")
        order = [block for block in self._order() if block in blocks]
        # what a native layer makes of a learned mask has a gradient, which keeps later layers off their native path
        return list(zip(order, kernels[max(len(kernels) - len(order), 0) :], strict=False))

    def _order(self):
        """The blocks in the order in which they are computed: all layers of the encoder, then those of the decoder."""
        case = self.case
        if not isinstance(case, Transformer):
            return ("sdpa",) if isinstance(case, ScaledDotProduct) else ("self",)
        is_split = any("." in block for block in blocks(case))
        parts = [".early"] * (case.num_layers - 1) + [".last"] if is_split else [""] * case.num_layers
        stacks = (("src",) if case.has_encoder else ()), (("tgt", "memory") if case.has_decoder else ())
        return tuple(f"{name}{part}" for names in stacks for part in parts for name in names)


def is_cast(case):
    """Whether what is multiplied is cast to a lower precision first, the masks included."""
    return computed_in(case) != case.dtype


def merged(case, block):
    """The merged bias of a block as it is added, broadcastable to its scores; None without masks."""
    bias = _merged(case, block)
    return rounded(bias, computed_in(case)) if bias is not None and is_cast(case) else bias


def _merged(case, block):
    if isinstance(case, ScaledDotProduct):
        if case.is_causal:
            return meaning.as_bias(meaning.causal(case.L, case.S), held(case.dtype))
        mask = mask_arrays(case).get("attn_mask")
        return None if mask is None else meaning.as_bias(mask, held(case.dtype), true_hides=False)
    return merged_bias(case, *mask_names(case, block))


def mask_dtype(case, block):
    """The dtype in torch of a block's merged mask, to which a bool one gives that of the inputs; None without masks."""
    dtype = merged_dtype(case, *mask_names(case, block))
    return computed_in(case) if is_cast(case) and dtype not in (None, "float64") else dtype


def samples(case):
    """How many samples the call has."""
    return case.N if case.only is None else 1


def keys(case, block):
    """How many keys the block has, without appended ones."""
    return case.T if source(block) == "tgt" else case.S


def queries(case, block):
    """How many queries the block has."""
    if isinstance(case, MultiHead):
        return case.L
    return case.S if source(block) == "src" else case.T


def is_empty(case, block):
    """Whether a block has nothing to do."""
    return case.N * queries(case, block) * keys(case, block) == 0


def mask_names(case, block):
    """The names of the attention mask and the padding mask of a block."""
    if isinstance(case, ScaledDotProduct):
        return ("attn_mask",)
    if isinstance(case, MultiHead):
        return "attn_mask", "key_padding_mask"
    return f"{source(block)}_mask", f"{source(block)}_key_padding_mask"


def has_empty_row(case, block):
    """Whether a query of the block sees no key at all."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = merged(case, block)
    return bias is not None and bool(meaning.hidden(bias).all(axis=-1).any())


def has_nonzero_finite(case, block):
    """Whether the block's merged mask holds a finite number that is not 0."""
    bias = merged(case, block)
    return bias is not None and bool((np.isfinite(bias) & (bias != 0)).any())


def absorbs_everything(case, block, least):
    """Whether all that some query sees is masked by numbers of at least this size, beside which scores are little."""
    if getattr(case, "add_zero_attn", False) or getattr(case, "add_bias_kv", False):
        return False
    bias = merged(case, block)
    if bias is None:
        return False
    top = bias.max(axis=-1, initial=-np.inf).astype("float64")
    return bool((np.isfinite(top) & (np.abs(top) > least)).any())


def needs_mask_gradient(case, block):
    """Whether autograd asks for the gradient of a float mask of the block."""
    return case.autograd in ("grad", "mask") and gives_float(case, block)


def drops_the_mask(case, release, block):
    """Whether the mask of this block, served by scaled_dot_product_attention, is replaced by its is_causal.

    That is so for a causal mask without padding, of which a hint says so or a stack finds out by itself.
    """
    if isinstance(case, ScaledDotProduct):
        return False
    attn_mask, key_padding_mask = mask_names(case, block)
    mask = mask_arrays(case).get(attn_mask)
    if mask is None or getattr(case, key_padding_mask) is not None or not release.has_causal_hints:
        return False
    if not isinstance(case, Transformer):
        return case.is_causal
    hint = getattr(case, f"{source(block)}_is_causal")
    return bool(hint) or (hint is None and detects_causality(case, release, block) and _seems_causal(case, mask))


def _seems_causal(case, mask):
    """Whether a stack takes the mask for causal; of a trace, whether it took the one that it is traced with."""
    if BY_ID[case.mode].family == "traced":
        is_square = mask.ndim == 2 and mask.shape[0] == mask.shape[1]
        return is_square and (case.mode == "traced_causal" or mask.size == 1)
    return is_exactly_causal(mask)


def is_exactly_causal(mask):
    """Whether a mask (L, S) hides all that comes later, and changes nothing else."""
    L, S = mask.shape[-2:]
    return (
        mask.ndim == 2
        and L == S
        and np.array_equal(meaning.as_bias(mask, "float64"), meaning.as_bias(meaning.causal(L, S), "float64"))
    )


def gives_float(case, block):
    """Whether a mask of the block is float."""
    return any(getattr(case, name) is not None and getattr(case, name).is_float for name in mask_names(case, block))
