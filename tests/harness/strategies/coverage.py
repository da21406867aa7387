"""Every kind of mask on every path, at least once in each mode: random draws miss rare combinations.

A kind is a form and a role, such as "bool key_padding_mask"; or a hint, "is_causal"; or "weights of each head", which
show the hidden keys. A path is one of paths.py, "nested", or "detection": a stack tests if its mask is causal, or if
padding comes last.
"""

from dataclasses import replace
from itertools import product

from hypothesis import assume
from hypothesis import strategies as st

from ..cases.case import Case, MultiHead, ScaledDotProduct, Transformer, masks_of, source_of
from ..cases.masks import Mask
from ..contents.packing import NESTED_STRIDED
from ..deviations.paths import (
    asks_for_alignment,
    asks_whether_causal,
    is_compiled_whole,
    path_of_each_block,
    takes_nested_path,
)
from ..execution.release import Release
from ..modes.mode import FUNCTIONAL, MODULES, SDPA, Mode
from ..modes.reading import COMPILED_READING
from ..modes.written import FAMILY
from ..path_names import BY_SDPA, DETECTION, EXPLICIT, NATIVE_LAYER, NATIVE_MHA, NESTED
from .basics import one_of
from .by_mode import adapted, suits
from .masks import attention_mask, padding_mask
from .modules import cases_of
from .shared import is_alike

_CAUSAL, _ATTENTION, _PADDING = "is_causal", "attn_mask", "key_padding_mask"
_WEIGHTS = "weights of each head"
KINDS = (_CAUSAL, *(f"{form} {role}" for role in (_ATTENTION, _PADDING) for form in ("bool", "float")), _WEIGHTS)

# The modules that can take a path, the fastest first, since some modes are slow. Stacks come last.
_PLACES = {
    NATIVE_LAYER: ("TransformerEncoderLayer",),
    NESTED: ("TransformerEncoder",),
    NATIVE_MHA: ("MultiheadAttention", "TransformerDecoderLayer", "TransformerDecoder"),
    BY_SDPA: ("MultiheadAttention", FUNCTIONAL, "TransformerEncoderLayer", "TransformerDecoderLayer", *[SDPA] * 3),
    EXPLICIT: ("MultiheadAttention", FUNCTIONAL),
    DETECTION: ("TransformerEncoder", "TransformerDecoder"),
}
_STACKS = ("TransformerEncoder", "TransformerDecoder")


def combinations_of(case: Case, release: Release) -> set[tuple[str, str]]:
    """{(path, kind)} that the call covers."""
    paths = path_of_each_block(case, release)
    packs = takes_nested_path(case, release)
    its = {block: NESTED if packs and source_of(block) == "src" else path for block, path in paths.items()}
    found = {(path, kind) for block, path in its.items() for kind in _kinds(case, block)}
    return found | {(DETECTION, kind) for kind in _detected(case, its, release)}


def _detected(case, blocks, release):
    """The kinds of mask that a stack inspects to choose its path."""
    if not case.has_layers:
        return
    for block in blocks:
        if asks_whether_causal(case, release, block):
            yield f"{getattr(case, case.mask_names(block)[0]).form} {_ATTENTION}"
    if case.src_key_padding_mask and not case.src_mask and asks_for_alignment(case, release):
        yield f"{case.src_key_padding_mask.form} {_PADDING}"


def _kinds(case, block):
    masks = zip((_ATTENTION, _PADDING), case.mask_names(block), strict=False)  # SDPA has no padding mask
    kinds = {f"{mask.form} {role}" for role, name in masks if (mask := getattr(case, name))}
    tells = case.need_weights and not case.average_attn_weights
    return kinds | ({_CAUSAL} if getattr(case, case.hint(block)) else set()) | ({_WEIGHTS} if tells else set())


_HIDING = ("jagged_batch", "layers_apart", COMPILED_READING)  # ids of modes that have no masks, or few paths


def aims(release: Release, mode: Mode) -> dict[str, dict[str, list[tuple[str, bool]]]]:
    """{path: {kind: places}} that the mode can cover in this release; a place is (module, True for inference)."""
    if mode.family in (NESTED_STRIDED, FAMILY, "causal_upper_left") or mode.id in _HIDING:
        return {}  # these modes hide keys in their own way, or have few paths
    found: dict[str, dict[str, list[tuple[str, bool]]]] = {}
    for path, kind in product(_PLACES, KINDS):
        if path == DETECTION and (mode.builds or mode.is_sharded or mode.id == "compiled_fullgraph"):
            # a build compiles as "compiled" does, but takes 4 s; full graphs are refused; modes that share a call all
            # detect as "distributed" does
            continue
        asked = [
            (module, inferring) for module in _PLACES[path] if _is_asked(module, mode) for inferring in (False, True)
        ]
        its = [place for place in asked if _meets(path, kind, place, release, mode)]
        dear = (*_STACKS, "TransformerDecoderLayer") if mode.serves == "sizes" else _STACKS  # 3 s each
        its = [place for place in its if place[0] not in dear] or its
        if mode.builds or mode.id == "compiled_fullgraph":  # only the first place, the fastest
            its = its[:1]
        if its:
            found.setdefault(path, {})[kind] = its
    return found


def _meets(path, kind, place, release, mode):
    """True if the minimal call of the place covers the combination of path and kind."""
    case = adapted(_with(kind, _least(*place, path == EXPLICIT), Mask()), mode)
    case = _opened(path, case, release)
    return release.offers(case) and (path, kind) in combinations_of(case, release)


def _opened(path, case, release):
    """The case with the option that the path needs: a full graph cannot test the padding, so mask_check is off."""
    if path == NESTED and is_compiled_whole(case, release):
        return replace(case, mask_check=False)
    return case


def _is_asked(module, mode):
    return (module if module in (FUNCTIONAL, SDPA) else MODULES) in mode.calls


def _least(module, inferring, need_weights):
    """A minimal call of the module, for inference or for training. SDPA has one form for both."""
    if module == SDPA:
        return ScaledDotProduct(L=2, S=2)
    sizes = {"num_heads": 2, "head_dim": 2, "S": 2, "training": not inferring}
    if module in ("MultiheadAttention", FUNCTIONAL):
        is_functional = module == FUNCTIONAL
        return MultiHead(L=2, attention="self", need_weights=need_weights, functional=is_functional, **sizes)
    masks = {"tgt_mask": Mask()} if module == "TransformerDecoder" else {}  # the compiled graph breaks at a tgt_mask
    return Transformer(module=module, T=2, **masks, **sizes)


def _with(kind, case, mask):
    """The case with a mask of this kind, made from `mask`, in each attention that takes one; or with a true hint."""
    if not case.has_parameters:
        return _function_with(kind, case, mask)
    if kind == _WEIGHTS:
        return case if case.has_layers else replace(case, need_weights=True, average_attn_weights=False)
    form, _, role = kind.partition(" ")
    changes = {}
    for block in case.blocks:
        (attn_mask, padding), hint = case.mask_names(block), case.hint(block)
        if kind == _CAUSAL:
            changes |= {attn_mask: Mask(mask.form, "causal"), hint: True}
        elif role == _PADDING:
            changes[padding] = _of_form(mask, form)
        else:
            changes |= {attn_mask: _of_form(mask, form), hint: False if hint == _CAUSAL else None}
    return replace(case, **changes)


def _function_with(kind, case, mask):
    form, _, role = kind.partition(" ")
    if kind == _CAUSAL:
        return replace(case, is_causal=True, attn_mask=None, mask_batch=(), broadcast="")
    if role == _PADDING or kind == _WEIGHTS:
        return case
    return replace(case, is_causal=False, attn_mask=_of_form(replace(mask, per_head=False), form))


def _of_form(mask, form):
    if form == "bool":
        return replace(mask, form=form, values="inf", dtype=None)
    return replace(mask, form=form)


@st.composite
def aimed(draw: st.DrawFn, release: Release, mode: Mode, path: str, kind: str, places: list[tuple[str, bool]]) -> Case:
    """Calls at one of the places (see `aims`) that cover the combination of path and kind, and hide something."""
    case = draw(cases_of(release, *one_of(draw, *places)))
    mask = padding_mask(draw, release, 0) if kind.endswith(_PADDING) else attention_mask(draw, release, 0)
    case = _opened(path, adapted(_with(kind, case, mask), mode), release)
    assume((path, kind) in combinations_of(case, release) and suits(case, mode) and _can_show(case))
    assume(is_alike(case, release))
    return case


def _can_show(case):
    """True if each sequence has two positions or more, and a mask or hint hides something."""
    hides = case.is_causal or any(mask.pattern != "none" for mask in masks_of(case).values())
    return min(case.lengths) > 1 and hides
