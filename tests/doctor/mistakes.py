"""Mistakes of the caller that no rule forbids: calls that are allowed, and probably not meant.

Each rule looks at one attention of a call, or at the call. A rule that cannot tell a mistake from a right call is
silent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from reference import masks as meaning

from .calls import FLEX, FUNCTIONAL, MODULES, MULTI_HEAD, SDPA, Made
from .describe import dtype_name, to_array
from .patterns import hides, hides_per_score, is_inverted_causal, is_inverted_padding, is_sorted

# {id: the call in words}
KINDS = {
    "inverted-causal": "an attention mask hides the past and shows the future",
    "inverted-padding": "a padding mask hides the first key of every sample, and nearly everything, or whole samples",
    "hides-everything": "some query, which is not padding itself, may attend to no key",
    "memory-padding": "a memory is padded in one place (the encoder, another layer) and not in the other",
    "two-types": "the attention mask and the padding mask are of two types",
    "false-hint": "`is_causal=True` beside a mask that is not causal",
    "time-first-mask": "a square padding mask whose padding runs along its first dimension",
    "minimum-twice": "`finfo.min` is added twice, which gives `-inf`",
    "mask-of-nan": "a float mask holds NaN or `+inf`, which makes results NaN",
    "float-of-zeros-and-ones": "a float mask of zeros and ones, which is added and hides nothing",
    "causal-with-cache": "`is_causal=True` of `scaled_dot_product_attention` with fewer queries than keys",
    "repeat-not-interleaved": "masks of samples, repeated for the heads in the wrong order",
    "dropout-in-eval": "`dropout_p` above 0 from a module in eval mode",
    "accepted-wrong-mask": "a mask of a shape or dtype that no rule allows, which torch accepts",
    "projection-not-called": "an adapter in the place of `out_proj`, which is never called",
}

_LARGEST = 2**27  # positions of a mask that are looked at


@dataclass(frozen=True)
class Mistake:
    """A call that is allowed, and probably not meant."""

    id: str
    says: str  # a sentence
    remedy: str  # an imperative sentence


@dataclass(frozen=True)
class Attention:
    """The masks of one attention in a call."""

    made: Made
    attn_mask: str  # name of the argument
    key_padding_mask: str  # name of the argument; empty for scaled_dot_product_attention
    hint: str  # name of the argument
    attends_to_itself: bool  # queries and keys are the same positions

    def array(self, name: str) -> np.ndarray | None:
        """The mask of this name as an array; None if it is not given, is no mask or is very large."""
        mask = self.made.masks.get(name)
        if mask is None or mask.numel() > _LARGEST or not (mask.dtype is torch.bool or mask.is_floating_point()):
            return None
        return to_array(mask)

    @property
    def true_keeps(self) -> bool:
        """True if a bool mask keeps where it is True."""
        return self.made.function in (SDPA, FLEX)

    @property
    def polarity(self) -> str:
        """The meaning of a bool mask in a sentence."""
        if self.made.function == FLEX:
            return "mask_mod keeps where it returns True"
        return f"A bool mask {'keeps' if self.true_keeps else 'hides'} where it is True"

    def inverse(self, name: str) -> str:
        """The advice to invert the mask of this name."""
        function = {"block_mask": "mask_mod", "score_mod": "score_mod"}.get(name)
        return f"Invert the condition in {function}" if function else f"Invert it: ~{name}"


def mistakes_of(made: Made) -> Iterator[Mistake]:
    """The mistakes in one call."""
    for attention in _attentions(made):
        found = [mistake for rule in _RULES for mistake in rule(attention)]
        is_inverted = any(mistake.id.startswith("inverted") for mistake in found)
        yield from (mistake for mistake in found if not (is_inverted and mistake.id == "hides-everything"))
    yield from _dropout_in_eval(made)
    yield from _replaced_projection(made)
    if made.function == "Transformer":
        given = {name: made.arguments.get(f"{name}_key_padding_mask") is not None for name in ("src", "memory")}
        if given["src"] != given["memory"]:
            yield memory_padding("src_key_padding_mask", "memory_key_padding_mask", given["src"])


def memory_padding(of_encoder: str, of_decoder: str, is_first: bool) -> Mistake:
    """The mistake that padding is given in one place and not in the other. is_first: it is given in the first."""
    given, missing = (of_encoder, of_decoder) if is_first else (of_decoder, of_encoder)
    return Mistake(
        "memory-padding",
        f"the same sequence is padded in one place ({given} is given) and not in the other ({missing} is not): there,"
        " padding is attended to",
        f"Give {missing}, too.",
    )


def accepted(unfit: str) -> Mistake:
    """The mistake that an argument has a shape or dtype that no rule allows. unfit: a sentence about it."""
    return Mistake(
        "accepted-wrong-mask",
        f"{unfit}: torch accepts it, and no rule says how it is read",
        "Give the mask in a documented shape and dtype.",
    )


def _attentions(made) -> Iterator[Attention]:
    if made.function == SDPA:
        is_self = made.arguments["query"].shape[-2] == made.arguments["key"].shape[-2]
        yield Attention(made, "attn_mask", "", "is_causal", is_self)
    elif made.function == FLEX:
        is_self = made.arguments["query"].shape[2] == made.arguments["key"].shape[2]
        yield from (Attention(made, name, "", "", is_self) for name in made.evaluated)
    elif made.function in (MULTI_HEAD, FUNCTIONAL):
        is_self = made.arguments["query"] is made.arguments["key"]
        yield Attention(made, "attn_mask", "key_padding_mask", "is_causal", is_self)
    else:
        for source in _sources(made.function):
            hint = "is_causal" if made.function.startswith("TransformerEncoder") else f"{source}_is_causal"
            yield Attention(made, f"{source}_mask", f"{source}_key_padding_mask", hint, source != "memory")


def _sources(function):
    encoder, decoder = ("src",), ("tgt", "memory")
    return (*encoder, *decoder) if function == "Transformer" else decoder if "Decoder" in function else encoder


# ---- rules on one attention ----------------------------------------------------------------------------------------


def _inverted_causal(attention):
    mask = attention.array(attention.attn_mask)
    if mask is not None and is_inverted_causal(hides(mask, attention.true_keeps)):
        yield Mistake(
            "inverted-causal",
            f"{attention.attn_mask} hides the past and shows the future: it looks inverted. {attention.polarity}",
            f"{attention.inverse(attention.attn_mask)}, if no query may see what follows it.",
        )


def _inverted_padding(attention):
    padding = _padding_rows(attention)
    if padding is None:
        return
    name, rows = padding
    if is_inverted_padding(rows):
        is_whole = rows.all(axis=1)
        yield Mistake(
            "inverted-padding",
            f"{name} hides the first key of every sample, and all keys of {int(is_whole.sum())} of {len(rows)} samples:"
            f" it looks inverted. {attention.polarity}",
            f"{attention.inverse(name)}.",
        )


def _padding_rows(attention):
    """(name, hidden (N, S)) of the padding mask, or of a mask of SDPA that is padding; None if there is none."""
    name = attention.key_padding_mask or attention.attn_mask
    mask = attention.array(name)
    if mask is None or mask.size == 0 or mask.ndim < (1 if attention.key_padding_mask else 2):
        return None
    if attention.made.function == FLEX and (mask == mask[..., :1, :]).all():  # one mask for all queries
        mask = mask[..., :1, :]
    if attention.true_keeps and mask.shape[-2] != 1:
        return None
    return name, np.atleast_2d(hides(mask, attention.true_keeps).reshape(-1, mask.shape[-1]))


def _hides_everything(attention):
    """Queries without a key. A query that is padding itself, seen by no query, is no mistake."""
    hidden = hides_per_score(attention)
    if hidden is None or hidden.size == 0:
        return
    empty = hidden.all(axis=-1)  # (N, H, L)
    if not empty.any():
        return
    whole = hidden.all(axis=(-2, -1))
    unseen = hidden.all(axis=-2)  # (N, H, S)
    L, S = hidden.shape[-2:]
    if attention.attends_to_itself or attention.true_keeps:
        last = unseen[..., S - L :] if L <= S else None
        wrong = empty if last is None else empty & (~last | whole[..., None])
    else:
        wrong = empty
    if not wrong.any():
        return
    if whole.all():
        says = f"the masks hide every key from every query. {attention.polarity}"
    elif whole.any():
        samples = whole.any(axis=-1)
        says = f"the masks hide all keys of {int(samples.sum())} of {len(samples)} samples"
    else:
        says = f"the masks hide every key from {int(wrong.any(axis=(0, 1)).sum())} of {L} queries"
    result = "0" if attention.made.function == FLEX else "NaN on some paths, and 0 or a bias on others"
    yield Mistake(
        "hides-everything",
        f"{_names(attention)}: {says}; the result is {result}",
        "Let each query see a key, such as itself, and leave the row out of the loss.",
    )


def _names(attention):
    names = [name for name in (attention.attn_mask, attention.key_padding_mask) if name in attention.made.masks]
    return " and ".join(names) or attention.hint


def _two_types(attention):
    masks = [attention.made.masks.get(name) for name in (attention.attn_mask, attention.key_padding_mask)]
    if all(mask is not None for mask in masks) and len({mask.dtype for mask in masks}) > 1:
        kinds = " and ".join(dtype_name(mask.dtype) for mask in masks)
        yield Mistake(
            "two-types",
            f"{attention.attn_mask} and {attention.key_padding_mask} are of two types, {kinds}: the documentation asks"
            " for one type, and releases differ in how they convert",
            "Give both as bool masks, or both as float masks of the dtype of the inputs.",
        )


def _false_hint(attention):
    mask = attention.array(attention.attn_mask)
    if attention.true_keeps or not attention.made.arguments.get(attention.hint) or mask is None:
        return
    if not is_truly_causal(mask):
        yield Mistake(
            "false-hint",
            f"{attention.hint}=True is a hint that {attention.attn_mask} is causal, and it is not: some paths apply a"
            " causal mask in its place",
            f"Leave out {attention.hint}.",
        )


def is_truly_causal(mask: np.ndarray) -> bool:
    """True if the mask hides what follows each query, and changes nothing else."""
    L, S = mask.shape[-2:]
    return bool((meaning.as_bias(mask, "float64") == meaning.as_bias(meaning.causal(L, S), "float64")).all())


def _time_first(attention):
    mask = attention.array(attention.key_padding_mask)
    if mask is None or mask.ndim != 2 or mask.shape[0] != mask.shape[1] or len(mask) < 2:
        return
    rows = hides(mask, False)
    is_padding_of_rows = is_sorted(rows) or is_sorted(rows[:, ::-1])
    if not is_padding_of_rows and is_sorted(rows.T) and not rows[0].any():
        yield Mistake(
            "time-first-mask",
            f"{attention.key_padding_mask} is square, and padding runs along its first dimension: it looks transposed."
            " The first dimension is the sample, also if batch_first=False",
            f"Transpose it: {attention.key_padding_mask}.T.",
        )


def _minimum_twice(attention):
    if attention.made.function == FLEX:  # its numbers are those that score_mod adds
        return
    masks = [attention.array(name) for name in (attention.attn_mask, attention.key_padding_mask)]
    floats = [mask for mask in masks if mask is not None and mask.dtype != bool]
    names = _names(attention)
    inside = any(np.isneginf(mask).any() and (mask == np.finfo(mask.dtype).min).any() for mask in floats)
    beside = len(floats) == 2 and all((mask <= np.finfo(mask.dtype).min / 2).any() for mask in floats)
    beside = beside and not any(np.isneginf(mask).any() for mask in floats)
    if inside or beside:
        where = "stands in both masks" if beside else "stands beside -inf, as where two masks have been added"
        yield Mistake(
            "minimum-twice",
            f"{names}: finfo.min {where}; finfo.min + finfo.min is -inf, so that a query whose keys are all hidden"
            " becomes NaN on some paths",
            "Join the masks as bool masks with `|`, and convert once.",
        )


def _nan(attention):
    for name in filter(None, (attention.attn_mask, attention.key_padding_mask)):
        mask = attention.array(name)
        if mask is None or mask.dtype == bool:
            continue
        is_nan, is_large = np.isnan(mask), np.isposinf(mask)
        if number := int((is_nan | is_large).sum()):
            kinds = " and ".join(its for its, found in (("NaN", is_nan), ("+inf", is_large)) if found.any())
            yield Mistake(
                "mask-of-nan",
                f"{name} holds {kinds}, in {number} of {mask.size} elements, which makes the results of their queries"
                " NaN on most paths. Such a mask comes of 0 * -inf, as in (1 - keep) * -inf",
                "Fill a mask of zeros: torch.zeros(L, S).masked_fill(hidden, -inf), or give a bool mask.",
            )


def _zeros_and_ones(attention):
    names = (attention.attn_mask, attention.key_padding_mask) if attention.made.function != FLEX else ()
    for name in filter(None, names):
        mask = attention.array(name)
        if mask is None or mask.dtype == bool or mask.size < 2:
            continue
        if ((mask == 0) | (mask == 1)).all() and (mask == 1).any():
            yield Mistake(
                "float-of-zeros-and-ones",
                f"{name} is a float mask of zeros and ones: it is added to the scores, and hides nothing",
                "Convert it: mask.bool(), which keeps where it is True in scaled_dot_product_attention and hides where"
                " it is True in modules.",
            )


def _causal_with_cache(attention):
    made = attention.made
    if made.function != SDPA or not made.arguments["is_causal"]:
        return
    L, S = made.arguments["query"].shape[-2], made.arguments["key"].shape[-2]
    if 0 < L < S:
        yield Mistake(
            "causal-with-cache",
            f"is_causal=True with {L} queries and {S} keys: it is aligned at the first key, so that the last query sees"
            f" {L} of {S} keys",
            "With a cache of keys, give a mask that is aligned at the last key, or none if there is one query.",
        )


def _repeated_in_turn(attention):
    mask = attention.array(attention.attn_mask)
    if mask is None or mask.ndim != 3 or attention.true_keeps:
        return
    samples = _samples(attention.made)
    heads = len(mask) // samples if samples else 0
    if samples < 2 or heads < 2 or len(mask) != samples * heads:
        return
    by_sample = mask.reshape(samples, heads, *mask.shape[1:])
    by_head = mask.reshape(heads, samples, *mask.shape[1:])
    if (by_head == by_head[:1]).all() and not (by_sample == by_sample[:, :1]).all():
        yield Mistake(
            "repeat-not-interleaved",
            f"{attention.attn_mask} repeats the masks of {samples} samples one after the other: slice n * heads + h"
            " belongs to sample n, so that samples get each other's masks",
            "Use mask.repeat_interleave(heads, dim=0), not mask.repeat(heads, 1, 1).",
        )


def _samples(made):
    first = next(tensor for name, tensor in made.tensors.items() if name in ("query", "src", "tgt"))
    if first.ndim != 3:
        return 1
    is_batch_first = made.function != FUNCTIONAL and _is_batch_first(made.module)
    return first.shape[0 if is_batch_first else 1]


def _is_batch_first(module):
    attention = next((part for part in module.modules() if isinstance(part, nn.MultiheadAttention)), None)
    return attention is not None and bool(attention.batch_first)


_RULES: tuple[Callable[[Attention], Iterator[Mistake]], ...] = (
    _inverted_causal,
    _inverted_padding,
    _hides_everything,
    _two_types,
    _false_hint,
    _time_first,
    _minimum_twice,
    _nan,
    _zeros_and_ones,
    _causal_with_cache,
    _repeated_in_turn,
)


# ---- rules on a call -----------------------------------------------------------------------------------------------


def _dropout_in_eval(made):
    if made.function in MODULES or made.owner is None or made.owner.training:
        return
    p = made.arguments.get("dropout_p", 0.0)
    if p > 0 and made.arguments.get("training", True):
        yield Mistake(
            "dropout-in-eval",
            f"{made.function} gets dropout_p={p:g} from a module in eval mode: it drops whenever dropout_p is above 0",
            "Pass dropout_p=self.dropout if self.training else 0.0.",
        )


def _replaced_projection(made):
    for module in made.module.modules() if made.module is not None else ():
        if not isinstance(module, nn.MultiheadAttention):
            continue
        out_proj = module.out_proj
        if type(out_proj).forward is not nn.Linear.forward or out_proj._forward_hooks:
            yield Mistake(
                "projection-not-called",
                f"out_proj of nn.MultiheadAttention is a {type(out_proj).__name__}"
                + (" with hooks" if out_proj._forward_hooks else "")
                + ": it is never called, only its weight and bias are read, so that an adapter in it has no effect",
                "Merge the adapter into the weight, or adapt a module that is called.",
            )
            return


def unique(mistakes: Iterator[Mistake]) -> list[Mistake]:
    """One mistake for each id, since the attentions of a call may share it."""
    return list({mistake.id: mistake for mistake in mistakes}.values())
