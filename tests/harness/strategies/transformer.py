"""Calls of nn.Transformer, its stacks and its layers."""

from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import strategies as st

from ..cases.case import AUTOGRAD, LEARNED, UNRECORDED, Transformer
from ..cases.simpler import LEAST_FEATURES
from ..execution.release import Release
from .basics import (
    DROPOUTS,
    LENGTHS,
    LENGTHS_OF_NATIVE_PATHS,
    NEARLY_CAUSAL,
    SAMPLES,
    SOURCES,
    coincidences,
    common,
    evenly,
    heads,
    lengths,
    one_of,
    small_if_long,
    variations,
    without_contradictions,
)
from .masks import attention_mask, hint, padding_mask

_SMOOTH = (*["gelu"] * 4, "silu")  # with silu, encoder layers leave their native path
_ACTIVATIONS = (*["relu"] * 5, *_SMOOTH, "gelu_tanh")


@st.composite
def transformer_cases(draw: st.DrawFn, release: Release, module: str, inference: bool = False) -> Transformer:
    """Calls of nn.Transformer, or of one of its stacks or layers.

    inference: in settings that open the fast path: eval, batched, batch_first, an even number of heads, and an
    autograd setting that may leave the fast path open; few break one of these conditions.
    """
    has_encoder, has_decoder = not module.startswith("TransformerDecoder"), not module.startswith("TransformerEncoder")
    shared = common(draw, release, (*UNRECORDED, "one_parameter", "last_layer") if inference else (*AUTOGRAD, LEARNED))
    masks: dict[str, Any] = {}
    if has_encoder:
        masks |= {"src_mask": attention_mask(draw, release, 4), "src_key_padding_mask": padding_mask(draw, release)}
    if has_decoder:
        masks |= {"tgt_mask": attention_mask(draw, release), "tgt_key_padding_mask": padding_mask(draw, release, 4)}
        masks |= {"memory_mask": attention_mask(draw, release, 4)}
        masks |= {"memory_key_padding_mask": padding_mask(draw, release)}
    T, S = _target_and_source(draw, module, masks, inference)
    may_jump = shared["dtype"] == "float64" or shared["autograd"] in UNRECORDED[:-1]
    activations = _ACTIVATIONS if may_jump else _SMOOTH if has_decoder else (*_SMOOTH, "gelu_tanh")
    dim_feedforward, activation = draw(evenly(tuple(product((1, 4, 7), activations))))
    layers: tuple[int, ...] = (*(1, 2, 3) * 4, 6)
    if module == "Transformer":  # more layers are drawn for the stacks by themselves
        # the input of the decoder's second layer requires a gradient, even if its parameters are frozen
        layers = (1,) if shared["autograd"] == "one_parameter" else (1, 2)
    case = Transformer(
        **shared,
        **masks,
        **heads(draw, inference, smallest=LEAST_FEATURES),
        **_hints(draw, release, module, masks),
        module=module,
        N=draw(evenly(SAMPLES)),
        S=S,
        T=T,
        num_layers=1 if module.endswith("Layer") else one_of(draw, *layers),
        dim_feedforward=dim_feedforward,
        activation=activation,
        norm=module == "Transformer",
    )
    options: list[dict[str, Any]] = [{"dropout": 0.5}, {"norm_first": True}, {"layer_norm_eps": 1e-2}]
    if not inference and release.shows_dropout:
        options += DROPOUTS
    options += [{"fast_path": False}] if release.has_fast_path_switch else []
    options += [{"bias": False}] if release.has_layer_bias else []
    if module in ("TransformerEncoder", "TransformerDecoder"):
        options += [{"norm": True}] * 3
    if module == "TransformerEncoder":
        options += [{"enable_nested_tensor": False}, {"mask_check": False}]
    options += [{"training": True}, {"batch_first": False}, {"batched": False}]
    options += coincidences(case, "S" if has_encoder else "T", {"S": case.num_heads, "T": case.num_heads})
    chosen = variations(draw, *options, rarely=inference)
    return release.adapt(small_if_long(replace(case, **without_contradictions(chosen, release))))


def _target_and_source(draw, module, masks, inference):
    """(T, S); mostly long beside a nearly causal mask, since a test for causality may stop early."""
    nearly = any(mask and mask.pattern == "nearly_causal" and not mask.per_head for mask in masks.values())
    if module.startswith("TransformerDecoder"):
        return lengths(draw, NEARLY_CAUSAL if nearly else LENGTHS)
    own = LENGTHS_OF_NATIVE_PATHS if inference and module == "TransformerEncoderLayer" else SOURCES
    targets, sources = (NEARLY_CAUSAL, NEARLY_CAUSAL) if nearly else (LENGTHS, own)
    return one_of(draw, *targets), one_of(draw, *sources)


def _hints(draw, release, module, masks):
    """{argument: hint} for the hints that this module has in this release."""
    names = {
        "TransformerEncoderLayer": ("src",) if release.has_causal_hints else (),
        "TransformerEncoder": ("src",) if release.has_causal_hints else (),
        "TransformerDecoderLayer": ("tgt", "memory") if release.has_causal_hints else (),
        "TransformerDecoder": ("tgt", "memory") if release.has_decoder_hints else (),
        "Transformer": ("src", "tgt", "memory") if release.has_transformer_hints else (),
    }[module]
    return {f"{name}_is_causal": hint(draw, masks[f"{name}_mask"]) for name in names}
