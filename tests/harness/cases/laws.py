"""Laws (clause 3): each law derives two calls from a case, its twins, which must give the same result."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .case import Case, FlexAttention, MultiHead, ScaledDotProduct, Transformer, is_padding, masks_of
from .masks import Mask, Merged

if TYPE_CHECKING:
    from ..execution.release import Release

LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")

STACKS = ("TransformerEncoder", "TransformerDecoder", "Transformer")
MULTI_HEAD = ("MultiheadAttention", "multi_head_attention_forward")
EVERY_MODULE = ("MultiheadAttention", *LAYERS, *STACKS)
EVERYTHING = (*EVERY_MODULE, "multi_head_attention_forward", "scaled_dot_product_attention")

_CAUSAL = Mask("bool", "causal")
_TYPICAL = {
    "MultiheadAttention": MultiHead(N=2, L=2, S=2, attn_mask=_CAUSAL, layout="sliced"),
    "TransformerEncoderLayer": Transformer(N=2, S=2, src_mask=_CAUSAL, layout="sliced"),
    "scaled_dot_product_attention": ScaledDotProduct(batch=(2, 1), L=2, S=2, attn_mask=_CAUSAL, layout="sliced"),
}


@dataclass(frozen=True)
class Law:
    """Two calls that must give the same result."""

    id: str
    modules: tuple[str, ...]  # the modules and functions for which the law holds
    twins: Callable[[Case], tuple[Case, Case]]  # the two calls, both close to a case of one of `modules`
    needs: str | None = None  # the attribute of Release that must be true, if any

    def is_in(self, release: "Release") -> bool:
        """True if the law applies to the release and, if one is measured, to the adopted implementation."""
        if self.needs is not None and not getattr(release, self.needs):
            return False
        if not release.adopted:
            return True
        if release.adopted.replaces not in self.modules:
            return False
        one, other = map(release.adapt, self.twins(_TYPICAL[release.adopted.replaces]))
        return one != other


def _differing(**fields):
    """A function from a case to twins that differ in one field, named with its two values."""
    ((name, (one, other)),) = fields.items()
    return lambda case: (replace(case, **{name: one}), replace(case, **{name: other}))


def _masked(case):
    """The case; with a random bool attention mask if it has no mask and is not causal."""
    names = {"attn_mask", "src_mask", "tgt_mask"} & set(vars(case))
    if masks_of(case) or case.is_causal:
        return case
    name = "tgt_mask" if case.has_decoder else (names - {"tgt_mask"}).pop()
    return replace(case, **{name: Mask("bool", "random")})


def _bool_or_float(case):
    hiding = {name: replace(mask, form="bool", values="inf") for name, mask in masks_of(_masked(case)).items()}
    float_twins = {name: replace(mask, form="float") for name, mask in hiding.items()}
    return replace(case, **hiding), replace(case, **float_twins)


def _repeated_for_each_head(case):
    case = replace(
        _masked(case),
        **{
            name: replace(mask, per_head=False, over_heads=False, over_samples=False)
            for name, mask in masks_of(_masked(case)).items()
        },
    )
    if isinstance(case, ScaledDotProduct):
        if case.attn_mask is None or case.broadcast == "0-D":
            return case, case
        every = replace(case.attn_mask, repeated=True)
        broadcast = "L" if case.broadcast == "1-D" else case.broadcast
        return replace(case, mask_batch=()), replace(case, attn_mask=every, mask_batch=case.batch, broadcast=broadcast)
    masks = {name: mask for name, mask in masks_of(case).items() if not is_padding(name)}
    return case, replace(case, **{name: replace(mask, per_head=True, repeated=True) for name, mask in masks.items()})


def _two_masks_or_their_sum(case):
    attn_mask = replace(case.attn_mask or Mask("bool", "random"), dtype=None)  # the dtype of the merged mask
    padding = replace(case.key_padding_mask or Mask("bool", "right"), dtype=None)
    two = replace(case, attn_mask=attn_mask, key_padding_mask=padding, is_causal=False)
    one = Merged("float", per_head=True, attn_mask=attn_mask, key_padding_mask=padding)
    return two, replace(two, attn_mask=one, key_padding_mask=None)


def _batch_or_sample(case):
    batch = replace(case, N=2 + case.seed % 2, batched=True)
    return batch, replace(batch, only=case.seed % batch.N)


def _batch_of_one_or_none(case):
    return replace(case, N=1, batched=True), replace(case, N=1, batched=False)


def _train_or_eval(case):
    return replace(case, dropout=0.0, training=True), replace(case, dropout=0.0, training=False)


def _one_tensor_or_copies(case):
    case = replace(case, S=case.L, kdim=None, vdim=None, static=False)
    return replace(case, attention="self"), replace(case, attention="copies")


def _laid_out_or_contiguous(case):
    masks = {name: replace(mask, layout="contiguous") for name, mask in masks_of(case).items()}
    if case.layout == "expanded":  # whose contents depend on it
        case = replace(case, layout="sliced")
    return case, replace(case, layout="contiguous", **masks)


def _hinted_or_not(case):
    causal = Mask("bool", "causal")
    return replace(case, attn_mask=causal, is_causal=True), replace(case, attn_mask=causal, is_causal=False)


LAWS = (
    Law("bool_mask_and_its_float_twin", EVERYTHING, _bool_or_float),
    Law("mask_and_its_repetition_for_each_head", EVERYTHING, _repeated_for_each_head),
    Law("two_masks_and_their_sum", MULTI_HEAD, _two_masks_or_their_sum),
    Law("batch_and_its_samples", EVERY_MODULE, _batch_or_sample),
    Law("batch_of_one_and_no_batch", EVERY_MODULE, _batch_of_one_or_none),
    Law("batch_first_and_sequence_first", EVERY_MODULE, _differing(batch_first=(True, False))),
    Law("weights_wanted_and_not_wanted", MULTI_HEAD, _differing(need_weights=(True, False))),
    Law("train_without_dropout_and_eval", EVERY_MODULE, _train_or_eval),
    Law("grad_and_no_grad", EVERYTHING, _differing(autograd=("grad", "no_grad"))),
    Law("one_tensor_and_its_copies", ("MultiheadAttention",), _one_tensor_or_copies),
    Law("memory_layouts", EVERYTHING, _laid_out_or_contiguous),
    Law("fast_path_on_and_off", EVERY_MODULE, _differing(fast_path=(True, False)), "has_fast_path_switch"),
    Law("causal_mask_with_and_without_hint", MULTI_HEAD, _hinted_or_not, "has_causal_hints"),
)


def _hiding(case):
    """The call of flex_attention with a BlockMask alone, created of a mask_mod that reads a mask."""
    mask = case.kept_mask or replace(case.added_mask or Mask("bool", "random"), form="bool", values="inf")
    mask = replace(mask, pattern="nearly_causal" if mask.pattern == "causal" else mask.pattern)
    return replace(case, kept_mask=mask, added_mask=None, softcap=None, blocks_by="create_block_mask")


def _block_mask_or_score_mod(case, form="bool"):
    case = _hiding(case)
    return case, replace(case, kept_mask=None, added_mask=replace(case.kept_mask, form=form))


def _block_mask_or_dense_mask(case):
    case = replace(_hiding(case), lse="")
    shared = ("dtype", "seed", "autograd", "layout", "garbage", "nonfinite", "batch", "L", "S", "D", "Dv", "scale")
    fields = {name: getattr(case, name) for name in (*shared, "kv_heads", "mask_batch")}
    return case, ScaledDotProduct(**fields, attn_mask=case.kept_mask)


def _causal_by_positions_or_by_a_mask(case):
    causal = replace(_hiding(case), kept_mask=Mask("bool", "causal"))
    return causal, replace(causal, kept_mask=None, added_mask=Mask("bool", "causal"))


FLEX = (FlexAttention.module,)
LAWS_OF_FLEX_ATTENTION = (
    Law("block_mask_and_score_mod_that_hides", FLEX, _block_mask_or_score_mod),
    Law("block_mask_and_score_mod_that_adds", FLEX, lambda case: _block_mask_or_score_mod(case, "float")),
    Law("block_mask_and_dense_mask", FLEX, _block_mask_or_dense_mask),
    Law("positions_compared_and_mask_read", FLEX, _causal_by_positions_or_by_a_mask),
    Law("large_and_small_blocks", FLEX, lambda case: _differing(block_size=((128, 128), (2, 3)))(_hiding(case))),
)
