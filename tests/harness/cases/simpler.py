"""Simpler variants of a case, for the search for the minimal case of a failure.

Every variant is a valid call: a causal hint stays true, a sequence that attends to itself keeps one length.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from .case import (
    LEARNED,
    OF_ONE_LENGTH,
    UNRECORDED,
    Case,
    MultiHead,
    ScaledDotProduct,
    Transformer,
    hint_about,
    is_padding,
    masks_of,
)
from .dtypes import LOW
from .masks import Mask, Merged

_PATTERNS_OF_ATTENTION = ("none", "one", "row", "column", "causal", "all")
_PATTERNS_OF_PADDING = ("none", "one", "right", "all")
LEAST_FEATURES = 4  # of a transformer: a norm over fewer is ill-conditioned
_LENGTHS = ("L", "S", "T")


def _changed(value: Any, **fields_of_its_kind: Any) -> Any:
    """The case or mask with other fields, which depend on its kind."""
    return replace(value, **fields_of_its_kind)


def simpler(case: Case) -> Iterator[Case]:
    """Generates simpler variants of the case, those that simplify most first."""
    yield from _in_eager_mode(case)
    yield from _other_modules(case)
    yield from _without_a_mask(case)
    yield from _with_defaults(case)
    yield from _with_sizes(case)
    yield from _with_masks(case)


def _in_eager_mode(case: Case) -> Iterator[Case]:
    if case.mode != "eager":
        yield _changed(case, mode="eager")


# ---- modules -------------------------------------------------------------------------------------------------------

_SHARED = ("dtype", "seed", "layout", "garbage", "mode", "nan_query", "nonfinite", "num_heads", "head_dim", "N")
_OF_MODULES = ("training", "dropout", "batched", "batch_first", "bias", "fast_path", "only")


def _other_modules(case: Case) -> Iterator[Case]:
    """The parts of a module: the layers of a stack, the attentions of a layer, the function that they call."""
    if isinstance(case, Transformer):
        if case.module == "Transformer":
            yield _part(case, "TransformerEncoder", ("tgt", "memory"))
            yield _part(case, "TransformerDecoder", ("src",))
        elif not case.module.endswith("Layer"):
            yield _changed(_part(case, f"{case.module}Layer", ()), num_layers=1, norm=False)
        else:
            yield from _attentions(case)
    elif isinstance(case, MultiHead):
        if case.functional:
            yield _changed(case, functional=False, static=False)
        if not case.need_weights and not case.key_padding_mask:
            yield from _function(case)


def _part(case: Transformer, module: str, without: tuple[str, ...]) -> Transformer:
    dropped = dict.fromkeys(field.name for field in fields(case) if field.name.split("_")[0] in without)
    stack = {"norm": False} if case.module == "Transformer" else {}
    return _changed(case, module=module, enable_nested_tensor=True, mask_check=True, **dropped, **stack)


def _attentions(case: Transformer) -> Iterator[Case]:
    shared = {name: getattr(case, name) for name in (*_SHARED, *_OF_MODULES)}
    autograd = case.autograd if case.autograd != "last_layer" else "grad"
    for attn_mask, padding, queries, keys in case.attentions:
        is_self = queries == keys
        hint = getattr(case, hint_about(attn_mask))
        L = case.T if queries == "tgt" else case.S
        yield MultiHead(
            **shared,
            autograd=autograd,
            L=L,
            S=L if is_self else case.S,
            attention="self" if is_self else "cross",
            attn_mask=getattr(case, attn_mask),
            key_padding_mask=getattr(case, padding),
            is_causal=bool(hint),
            need_weights=False,
        )


def _function(case: MultiHead) -> Iterator[Case]:
    mask = case.attn_mask
    if case.add_bias_kv or case.add_zero_attn or isinstance(mask, Merged) or case.only is not None:
        return
    if case.autograd in ("one_parameter", "last_layer", LEARNED) or case.nan_query:
        return
    shared = {name: getattr(case, name) for name in ("dtype", "seed", "layout", "garbage", "mode", "nonfinite")}
    batch = (case.N, case.num_heads)
    yield ScaledDotProduct(
        **shared,
        autograd=case.autograd,
        batch=batch,
        L=case.L,
        S=case.S,
        D=case.head_dim,
        Dv=case.head_dim,
        attn_mask=_changed(mask, per_head=False) if mask else None,
        mask_batch=batch if mask and mask.per_head else (),
        dropout=case.dropout if case.training else 0.0,
    )


# ---- fields --------------------------------------------------------------------------------------------------------


def _without_a_mask(case: Case) -> Iterator[Case]:
    for name in masks_of(case):
        changes: dict[str, Any] = {name: None}
        changes |= (
            {"mask_batch": (), "broadcast": ""} if isinstance(case, ScaledDotProduct) else case.without_hint(name)
        )
        yield _changed(case, **changes)


_NOT_OPTIONS: tuple[str, ...] = ("module", "mode", "functional", "activation", "kdim", "vdim", "attention", "norm")
_NOT_OPTIONS += ("batch", "mask_batch", "broadcast")
_SIZES = ("N", "sz", *_LENGTHS, "D", "Dv", "num_heads", "head_dim", "kv_heads", "num_layers", "dim_feedforward")


def _with_defaults(case: Case) -> Iterator[Case]:
    """The case with one more field at its default."""
    for field in fields(case):
        if field.name in (*_NOT_OPTIONS, *_SIZES) or field.name.endswith("mask"):
            continue
        if getattr(case, field.name) != field.default:
            yield _changed(case, **{field.name: field.default})
    if case.dropout:
        yield _changed(case, dropout=0.0, **{"training": False} if case.has_training_mode else {})
    if case.kdim or case.vdim:
        yield _changed(case, kdim=None, vdim=None)
    if case.norm and case.module != "Transformer":
        yield _changed(case, norm=False)
    if case.activation not in ("", "relu") and (case.autograd in UNRECORDED or case.dtype == "float64"):
        yield _changed(case, activation="relu")
    is_free = not (case.kdim or case.vdim or case.nan_query or case.static)
    if case.attention not in ("", "self") and is_free:
        yield _changed(case, attention="self", S=case.L)
    if case.is_flex and case.mask_batch != _shared_masks(case, case.batch):
        yield _changed(case, mask_batch=_shared_masks(case, case.batch))
    elif not case.is_flex and (case.broadcast or case.mask_batch):
        yield _changed(case, broadcast="", mask_batch=())


def _shared_masks(case: Case, batch: tuple[int, ...]) -> tuple[int, int]:
    """The `mask_batch` of masks that samples and heads of the batch share, as far as the BlockMask lets them."""
    return (batch[0] if case.slices_samples else 1), 1


def _with_sizes(case: Case) -> Iterator[Case]:
    """The case with one smaller size."""
    if isinstance(case, ScaledDotProduct) and (case.batch != (1, 1) or case.kv_heads):
        for batch in ((1, 1), (1, 2), (2, 1), (2, 2)):
            mask_batch = batch if case.mask_batch else ()
            yield _changed(case, batch=batch, kv_heads=None, mask_batch=mask_batch)
    if case.is_flex and (case.batch != (1, 1) or case.kv_heads):
        for batch in ((1, 1), (1, 2), (2, 1)):
            yield _changed(case, batch=batch, kv_heads=None, mask_batch=_shared_masks(case, batch))
    if case.attention in OF_ONE_LENGTH:
        lengths: tuple[tuple[str, ...], ...] = (("L", "S"),)
    else:
        lengths = tuple((name,) for name in case.length_fields)
        lengths += (lengths[0] + lengths[1],) if len(lengths) == 2 else ()
    for names in lengths:
        for smaller in _smaller(max(getattr(case, name) for name in names)):
            yield _changed(case, **dict.fromkeys(names, smaller))
    for name in ("N", "num_layers", "dim_feedforward", "D", "Dv", "sz"):
        for smaller in _smaller(getattr(case, name, 1)):
            yield _changed(case, **{name: smaller})
    if case.has_parameters and not (case.kdim or case.vdim):
        least = LEAST_FEATURES if case.has_layers else 1
        for heads, dim in ((1, 1), (2, 1), (1, 2), (1, 4), (2, 2), (2, 4)):
            if heads * dim >= least and heads * (dim + 1) < case.num_heads * (case.head_dim + 1):
                yield _changed(case, num_heads=heads, head_dim=dim)


def _smaller(size: int) -> Iterator[int]:
    """Smaller numbers than `size`, from 1."""
    yield from (number for number in (*range(1, 5), size // 2, size - size // 4, size - 1) if 0 < number < size)


def _with_masks(case: Case) -> Iterator[Case]:
    for name, mask in masks_of(case).items():
        is_hinted = bool(getattr(case, hint_about(name), False)) and not is_padding(name)
        for simple in _simpler_mask(mask, is_padding(name), is_hinted):
            yield _changed(case, **{name: simple})


def _simpler_mask(mask: Mask, is_padding: bool, is_hinted: bool) -> Iterator[Mask]:
    defaults: dict[str, Any] = {"dtype": None, "layout": "contiguous"}
    defaults |= {"repeated": False, "over_heads": False, "over_samples": False, "per_head": False}
    for name, default in defaults.items():
        if getattr(mask, name) != default:
            yield _changed(mask, **{name: default})
    if isinstance(mask, Merged):
        return
    if mask.is_float:
        yield _changed(mask, form="bool", values="inf", dtype=None)
        if mask.values != "inf":
            yield _changed(mask, values="inf")
    if is_hinted or (mask.layout == "expanded" and not is_padding):
        return
    patterns = _PATTERNS_OF_PADDING if is_padding else _PATTERNS_OF_ATTENTION
    yield from (_changed(mask, pattern=pattern) for pattern in patterns[: _place(mask.pattern, patterns)])


def _place(pattern: str, patterns: tuple[str, ...]) -> int:
    return patterns.index(pattern) if pattern in patterns else len(patterns)


def is_valid(case: Case) -> bool:
    """True unless a change of one field contradicts another field."""
    if not case.batched and case.N != 1:
        return False
    if case.is_flex and case.slices_samples and case.mask_batch[0] != case.batch[0]:
        return False
    if case.attention in OF_ONE_LENGTH and case.L != case.S:
        return False
    if case.only is not None and case.only >= case.N:
        return False
    if not case.has_parameters and case.is_causal and case.attn_mask:
        return False
    if case.attends and not case.has_parameters and case.D == 0 and case.scale is None:  # it is 1 / sqrt(D)
        return False
    has_kink = case.activation in ("relu", "gelu_tanh") and case.autograd not in UNRECORDED[:-1]
    return not (has_kink and case.dtype in LOW)
