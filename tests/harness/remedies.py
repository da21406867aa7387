"""What to do about each entry of the ledger: changes of the call, which tests/remedies makes and judges.

A remedy that leads from one deviation into another is none.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from packaging.version import Version

from . import wrong_masks_remedies
from .arrays import mask_arrays
from .cases import UNRECORDED, MultiHead, Transformer, masks_of
from .dispatch import every_block, is_left_aligned, nested_lengths
from .masks import Mask, Merged, OverKeys, SeeingFirst
from .setting import contains
from .situations import has_empty_row, has_nonzero_finite

ENOUGH = 25  # generated calls that show an entry


@dataclass(frozen=True)
class Condition:
    """In words, and as Case -> bool. before: the release from which on it need not hold; empty if it always must."""

    words: str
    holds: Callable
    before: str = ""

    def allows(self, case, version):
        """True if nothing is in the way of the remedy in a release (a packaging.version.Version)."""
        return (bool(self.before) and not contains(f"<{self.before}", version)) or self.holds(case)


@dataclass(frozen=True)
class Remedy:
    """text: an imperative sentence. change: Case -> Case. releases: in which it helps, as a version specifier.

    only: the calls that it helps. cost: in words, empty if there is none. upgrade: whether it is another release, in
    which the call stays as it is. tested: whether a release that is installed can be asked.
    """

    text: str
    change: Callable
    releases: str = ">=1.13"
    only: tuple[Condition, ...] = ()
    cost: str = ""
    upgrade: bool = False
    tested: bool = True

    @property
    def only_in_words(self):
        """For which calls, empty if for all."""
        words = {before: [] for before in sorted({condition.before for condition in self.only})}
        for condition in self.only:
            words[condition.before].append(condition.words)
        return "; ".join(
            f"{f'before {before} ' if before else ''}if {', and '.join(its)}" for before, its in words.items()
        )

    def holds_in(self, version):
        """True if it helps in this release (a packaging.version.Version)."""
        return contains(self.releases, version)

    def applied(self, case, version):
        """The changed call, or None where the remedy says nothing about it in this release."""
        return self.change(case) if all(condition.allows(case, version) for condition in self.only) else None


@dataclass(frozen=True)
class NoRemedy:
    """Nothing helps."""

    reason: str


# ---- for which calls -----------------------------------------------------------------------------------------------

EVERY_QUERY_SEES_A_KEY = Condition(
    "every query sees a key", lambda case: not any(has_empty_row(case, block) for block in every_block(case))
)
SEES_A_KEY_UNCAST = Condition(
    "every query sees a key without the cast",
    lambda case: EVERY_QUERY_SEES_A_KEY.holds(replace(case, mode="eager")),
)
MASKS_ONLY_HIDE = Condition(
    "float masks hold 0 and -inf alone",
    lambda case: not any(has_nonzero_finite(case, block) for block in every_block(case)),
)
BOOL_MASKS = Condition("masks are bool", lambda case: not any(mask.is_float for mask in masks_of(case).values()))
PADDING_ALONE = Condition(
    "padding comes last, autograd sees nothing, and there is no other mask and no final norm",
    lambda case: (
        len(masks_of(case)) == 1
        and is_left_aligned(nested_lengths(case)[1])
        and not case.norm
        and case.autograd in UNRECORDED
    ),
)
NO_WEIGHTS = Condition("no weights are asked for", lambda case: not getattr(case, "need_weights", False))
ONE_ATTENTION = Condition("it is nn.MultiheadAttention", lambda case: isinstance(case, MultiHead))
ENCODER = Condition("the encoder is made by itself", lambda case: case.module == "TransformerEncoder")
WEIGHTS = Condition(
    "weights are asked for, since the fused kernel has no forward mode",
    lambda case: getattr(case, "need_weights", False),
)
NO_INPUT_GRADIENT = Condition("no input requires a gradient", lambda case: case.autograd in UNRECORDED)
HAS_QUERIES = Condition("there is a query", lambda case: case.L > 0 and 0 not in case.batch)
OWN_DTYPE = Condition(
    "masks are of the inputs' dtype, or bool", lambda case: all(mask.dtype is None for mask in masks_of(case).values())
)
BATCHED = Condition("the input is a batch", lambda case: case.batched)
EAGER = Condition("it is not compiled, exported, cast or transformed", lambda case: case.mode == "eager")
HAS_HINTS = Condition("it is not nn.Transformer", lambda case: case.module != "Transformer")
NO_PADDING = Condition(
    "no position is padding",
    lambda case: not any(array.any() for name, array in mask_arrays(case).items() if name == "src_key_padding_mask"),
)
POSITIVE_SCALE = Condition("the scale is positive", lambda case: case.scale is None or case.scale > 0)
NOT_NATIVE = Condition(
    "query, key and value are different tensors, or it is training, or autograd sees a parameter",
    lambda case: case.attention != "self" or case.training or case.autograd not in UNRECORDED,
)
EXACT_ACTIVATION = Condition(
    "the activation is not nn.GELU(approximate='tanh')",
    lambda case: getattr(case, "activation", "") != "gelu_tanh",
)
NATIVE = (EVERY_QUERY_SEES_A_KEY, MASKS_ONLY_HIDE, EXACT_ACTIVATION)  # what the native layers compute right


# ---- changes -------------------------------------------------------------------------------------------------------


def changed(**values):
    """The case with other values of its fields."""
    return lambda case: replace(case, **values)


def with_masks(change):
    """The case with its masks changed."""
    return lambda case: replace(case, **{name: change(mask) for name, mask in masks_of(case).items()})


def _as(kind):
    return lambda mask: kind(**{field.name: getattr(mask, field.name) for field in fields(Mask)})


def without_empty_masks(case):
    """The case without masks that have no elements."""
    none = {name: None for name, array in mask_arrays(case).items() if array.size == 0}
    if isinstance(case, MultiHead) and "attn_mask" in none:
        none["is_causal"] = False
    if isinstance(case, Transformer):
        none |= {f"{name.removesuffix('_mask')}_is_causal": None for name in none if "padding" not in name}
    return replace(case, **none)


def merged(case):
    """The case of an attention with both masks in one."""
    both = Merged("float", per_head=True, attn_mask=case.attn_mask, key_padding_mask=case.key_padding_mask)
    return replace(case, attn_mask=both, key_padding_mask=None)


_GLOBAL = "global: every module of the process leaves its fast path, which is slower"
_NO_FAST_PATH = "Call torch.backends.mha.set_fastpath_enabled(False) first"
_SEQUENCES_FIRST = "Make the module with batch_first=False, and give it inputs whose first dimension is the length"
_SLOWER = "speed"
_RECORDED = "speed and memory: the call is recorded"
_OTHER_NUMBERS = "other numbers: it asks something else"


def in_releases(releases, *remedies):
    """The remedies, in these releases alone."""
    return tuple(replace(remedy, releases=f"{remedy.releases},{releases}") for remedy in remedies)


def until(version, condition):
    """The condition, which need not hold from this release on."""
    return replace(condition, before=version)


SEES_A_KEY_BEFORE_2_5 = until("2.5", EVERY_QUERY_SEES_A_KEY)  # else there is NaN off the native paths, too


_OFF_NATIVE = (SEES_A_KEY_BEFORE_2_5, OWN_DTYPE)  # the other paths refuse a mask of another dtype


def fast_path_off(only=(), **more):
    """set_fastpath_enabled(False)."""
    return Remedy(f"{_NO_FAST_PATH}.", changed(fast_path=False, **more), ">=2.3", (*only, *_OFF_NATIVE), _GLOBAL)


def sequences_first(only=(), **more):
    """batch_first=False, by which no fast path opens."""
    return Remedy(
        f"{_SEQUENCES_FIRST}.",
        changed(batch_first=False, **more),
        only=(BATCHED, *only, *_OFF_NATIVE),
        cost=_SLOWER,
    )


def recorded(only=(), **more):
    """Autograd, by which no fast path opens."""
    return Remedy(
        "Let parameters and inputs require a gradient, and make the call outside of torch.no_grad().",
        changed(autograd="grad", **more),
        only=(*only, *_OFF_NATIVE),
        cost=_RECORDED,
    )


def off_the_fast_path(releases="", only=(), **more):
    """Every way off the native paths, of which two concern one module alone."""
    remedies = (sequences_first(only, **more), recorded(only, **more), fast_path_off(only, **more))
    return in_releases(releases, *remedies) if releases else remedies


def without(way, **more):
    """The call without a way of making it."""
    return Remedy(f"Make the call without {way}.", changed(mode="eager"), **more)


def upgrade(version):
    """A release in which the call does what is specified, as it is."""
    return Remedy(f"Use PyTorch {version}, or a later release.", changed(), f">={version}", upgrade=True)


def on_native_paths(remedy):
    """The remedy, which leaves a call on a native path: 2.0 warns there of each mask, 1.13 of a float one."""
    (its,) = in_releases("!=2.0.*", remedy)
    return replace(its, only=(*its.only, until("2.1", BOOL_MASKS)))


NOT_NESTED = on_native_paths(
    Remedy(
        "Make the encoder with enable_nested_tensor=False.",
        changed(enable_nested_tensor=False),
        only=(ENCODER, *NATIVE),
        cost=_SLOWER,
    )
)
MATH = Remedy(
    "Call it with the math backend alone: within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3 within"
    " torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False).",
    changed(mode="sdpa_math"),
    ">=2.0",
    only=(EAGER,),
    cost="speed and memory: every score is kept",
)
FIRST_KEY = Remedy(
    "Let every query see the first key: mask[..., 0] = False, or 0 if the mask is float.",
    with_masks(_as(SeeingFirst)),
    cost=_OTHER_NUMBERS,
)
FIRST_KEY_AND_SEQUENCES_FIRST = Remedy(
    f"Let every query see the first key. {_SEQUENCES_FIRST}.",
    lambda case: replace(FIRST_KEY.change(case), batch_first=False),
    "<2.5",
    (BATCHED,),
    f"{_SLOWER}; {_OTHER_NUMBERS}",
)
NO_EMPTY_MASK = Remedy("Leave out a mask that has no elements.", without_empty_masks)
TRACED = Remedy("Trace the module: torch.jit.trace.", changed(mode="traced"), only=(EVERY_QUERY_SEES_A_KEY,))
MERGED = Remedy(
    "Add both masks, and give the sum as an attention mask of shape (N * num_heads, L, S).",
    merged,
    only=(ONE_ATTENTION, EVERY_QUERY_SEES_A_KEY),
    cost="memory for the mask",
)
PADDED = Remedy(
    "Give a padded batch, and the padding as attn_mask.", changed(mode="eager"), ">=2.5", cost="speed and memory"
)
FLOAT32 = Remedy("Compute in float32.", changed(dtype="float32"), cost="speed and memory")
_LARGE = ("min", "-1e4", "-1e9", "-1e30", "float16_min", "bfloat16_min")
_smaller = with_masks(lambda mask: replace(mask, values="negative") if mask.values in _LARGE else mask)
BY_SMALLER_NUMBER = Remedy(
    "Mask with -100 in place of -1e9 or finfo.min.",
    _smaller,
    only=(Condition("every query then sees a key", lambda case: EVERY_QUERY_SEES_A_KEY.holds(_smaller(case))),),
    cost="other numbers where every key is masked: scores count",
)
IN_ITS_DTYPE = Remedy("Give the mask as mask.to(query.dtype).", with_masks(lambda mask: replace(mask, dtype=None)))
FILLED = Remedy("Fill hidden positions with numbers, such as 0, before the call.", changed(nonfinite=""))
AS_FUNCTION = Remedy(
    "Give the activation as a function: functools.partial(torch.nn.functional.gelu, approximate='tanh').",
    changed(activation="gelu_tanh_function"),
    only=(Condition("the activation is nn.GELU", lambda case: case.activation == "gelu_tanh"),),
)


def _causal(case):
    return replace(case, is_causal=False, attn_mask=Mask("bool", "causal"))


def _without_hints(case):
    if isinstance(case, MultiHead):
        return replace(case, is_causal=False)
    return replace(
        case,
        **{"src_is_causal": False} if case.has_encoder else {},
        **{"tgt_is_causal": False} if case.has_decoder else {},
    )


def _beside_zeros(case):
    zeros = Mask("float", "none")
    if isinstance(case, MultiHead):
        return replace(case, key_padding_mask=zeros)
    return replace(
        case,
        **{"src_key_padding_mask": zeros} if case.has_encoder else {},
        **{"tgt_key_padding_mask": zeros} if case.has_decoder else {},
    )


def _masked(case):
    return replace(case, is_causal=False, attn_mask=Mask("bool", "causal" if case.is_causal else "none"))


def _expanded(case):
    return replace(case, broadcast="", attn_mask=_as(OverKeys)(case.attn_mask))


EXPANDED = Remedy("Expand the mask to (..., L, S) and make it contiguous.", _expanded, cost="memory for the mask")


# ---- by entry ------------------------------------------------------------------------------------------------------

REMEDIES = {
    "empty-row-nan-explicit": (
        Remedy(
            "Call with need_weights=False.",
            changed(need_weights=False),
            ">=2.5",
            (NOT_NATIVE,),
            "no weights are returned",
        ),
        Remedy(
            f"{_NO_FAST_PATH}, and call with need_weights=False.",
            changed(need_weights=False, fast_path=False),
            ">=2.5",
            cost=f"no weights are returned; {_GLOBAL}",
        ),
        FIRST_KEY,
    ),
    "empty-row-nan-native": (
        *off_the_fast_path(">=2.5", (NO_WEIGHTS,)),
        on_native_paths(FIRST_KEY),
    ),
    "empty-row-nan-sdpa": (upgrade("2.5"), FIRST_KEY),
    "native-layer-float-mask": off_the_fast_path(),
    "native-mha-float-mask": (sequences_first(), recorded(), upgrade("2.1")),
    "native-converts-mask-warning": (
        Remedy("Ignore the warning by warnings.filterwarnings.", changed(mode="silenced_conversion"), only=(EAGER,)),
        sequences_first(),
        recorded(),
        upgrade("2.1"),
    ),
    "native-layer-mask-gradient": off_the_fast_path(),
    "native-mha-mask-gradient": (sequences_first(), recorded(), upgrade("2.1")),
    "native-mha-bias": (sequences_first(), recorded(), upgrade("2.1")),
    "bool-mask-float-padding": (MERGED, upgrade("2.0")),
    "causal-mask-gradient": (
        Remedy("Say is_causal=False: src_is_causal, tgt_is_causal.", _without_hints, only=(HAS_HINTS,)),
        Remedy(
            "Give a float padding mask of zeros, too.",
            _beside_zeros,
            cost=_SLOWER,
        ),
    ),
    "causal-hint-hides-appended-keys": (Remedy("Leave out the hint.", changed(is_causal=False)),),
    "flash-gradient-finfo-min": (MATH, BY_SMALLER_NUMBER),
    "explicit-mask-overflows": (BY_SMALLER_NUMBER,),
    "sdpa-mask-overflows": (BY_SMALLER_NUMBER, upgrade("2.5")),
    "flash-float32-mask": (IN_ITS_DTYPE, MATH),
    "hidden-nan-explicit": (FILLED,),
    "hidden-nan-native": (FILLED,),
    "hidden-nan-sdpa": (FILLED,),
    "flash-no-heads": (upgrade("2.12"),),
    "traced-causal-mask": (
        Remedy("Give a hint that is False, such as src_is_causal=False.", _without_hints, only=(HAS_HINTS,)),
        without("torch.jit.trace", cost="no trace"),
    ),
    "autocast-mask-raises": (without("torch.autocast", cost="speed and memory"), upgrade("2.2")),
    "autocast-native-attention-raises": (sequences_first(), recorded(), upgrade("2.2")),
    "autocast-native-attention-empty": (without("torch.autocast", cost="speed and memory"), upgrade("2.2")),
    "compiled-whole-padding-raises": (NOT_NESTED, *off_the_fast_path(), upgrade("2.10")),
    "flash-causal-negative-scale": (
        Remedy("Give a causal attn_mask in place of is_causal=True.", _causal, cost="memory for the mask"),
        MATH,
    ),
    "flash-first-keys-hidden": (upgrade("2.4.1"), MATH),
    "flash-mask-one-key": (
        EXPANDED,
        MATH,
        upgrade("2.5"),
    ),
    "nested-padding-zero": (NOT_NESTED, *off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
    "nested-float-padding": off_the_fast_path(),
    "nested-unaligned": (
        on_native_paths(Remedy("Leave mask_check on.", changed(mask_check=True), only=NATIVE)),
        NOT_NESTED,
        *off_the_fast_path(),
    ),
    "nested-truncates": (NOT_NESTED, sequences_first(), recorded()),
    "nested-prototype-warning": (
        Remedy(
            "Ignore the warning by warnings.filterwarnings.",
            changed(mode="silenced_prototype"),
            only=(EAGER, NO_PADDING),
        ),
        NOT_NESTED,
        *off_the_fast_path(),
    ),
    "float-mask-float-padding": (
        Remedy(
            "Give the padding mask as bool.",
            lambda case: replace(
                case,
                **{
                    name: replace(mask, form="bool")
                    for name, mask in masks_of(case).items()
                    if name.endswith("key_padding_mask")
                },
            ),
            only=(MASKS_ONLY_HIDE,),
        ),
        MERGED,
        upgrade("2.0"),
    ),
    "empty-mask-view": (NO_EMPTY_MASK,),
    "native-mha-empty-weights": off_the_fast_path(),
    "nested-all-padding": (
        *off_the_fast_path(">=2.5"),
        FIRST_KEY_AND_SEQUENCES_FIRST,
        Remedy(
            "Let every query see the first key of a bool mask, and make the encoder with enable_nested_tensor=False.",
            lambda case: replace(
                case,
                src_key_padding_mask=replace(_as(SeeingFirst)(case.src_key_padding_mask), form="bool"),
                enable_nested_tensor=False,
            ),
            only=(ENCODER, EXACT_ACTIVATION),
            cost=_OTHER_NUMBERS,
        ),
    ),
    "nested-no-layer-norm": (NOT_NESTED, sequences_first(), recorded(), FIRST_KEY_AND_SEQUENCES_FIRST),
    "torchscript-nested-sum": (NOT_NESTED, sequences_first(), recorded()),
    "nested-checkpoint": (
        *in_releases("!=2.4.*", NOT_NESTED, *off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
        Remedy(
            "Call it without a checkpoint, and let parameters and inputs require a gradient.",
            changed(mode="eager", autograd="grad"),
            "==2.4.*",  # whose checkpoint warns
            (EVERY_QUERY_SEES_A_KEY,),
            "memory: the call is recorded",
        ),
    ),
    "nested-partly-frozen": (NOT_NESTED, *off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
    "native-layer-bias": (sequences_first(), upgrade("2.3")),
    "native-layer-gelu-tanh": (AS_FUNCTION, *off_the_fast_path()),
    "decoder-activation-module": (AS_FUNCTION,),
    "nested-empty-batch": (NO_EMPTY_MASK, NOT_NESTED),
    "nested-no-positions": (NO_EMPTY_MASK,),
    "pruned-out-projection": (
        Remedy("Make the pruning permanent by torch.nn.utils.prune.remove.", changed(mode="pruned_for_good")),
        Remedy("Call module.out_proj on anything before each call of the module.", changed(mode="pruned_refreshed")),
    ),
    "pruned-native-layer": (
        Remedy("Make the pruning permanent by torch.nn.utils.prune.remove.", changed(mode="pruned_for_good")),
    ),
    "sdpa-mask-of-few-dimensions": (
        Remedy(
            "Give the mask two dimensions: mask[None].",
            changed(broadcast="L", mask_batch=()),
            only=(Condition("the mask is (S,)", lambda case: case.broadcast == "1-D"), SEES_A_KEY_BEFORE_2_5),
        ),
        replace(MATH, only=(*MATH.only, SEES_A_KEY_BEFORE_2_5)),
    ),
    "hint-excludes-mask": (Remedy("Leave out the hint.", changed(is_causal=False)), upgrade("2.0.1")),
    "sdpa-no-keys-nan-spreads": (Remedy("Give query.nan_to_num() as the query.", changed(nan_query=False)),),
    "float16-mask-overflow": (BY_SMALLER_NUMBER, FLOAT32),
    "lower-right-bias-warning": (
        Remedy("Ignore the warning by warnings.filterwarnings.", changed(mode="silenced_lower_right"), ">=2.5"),
        Remedy("Give the mask itself as attn_mask.", changed(mode="eager"), ">=2.5", cost="memory for the mask"),
        Remedy(
            "Give the mask itself as attn_mask, and let every query see the first key.",
            lambda case: replace(FIRST_KEY.change(case), mode="eager"),
            "<2.5",
            cost=f"memory for the mask; {_OTHER_NUMBERS}",
        ),
    ),
    "checkpoint-autocast-warning": (
        without("a checkpoint", cost="memory"),
        upgrade("2.5"),
    ),
    "flash-nan-query-zero": (
        MATH,
        Remedy("Give a mask: one that hides nothing, or the causal one.", _masked, cost="memory for the mask"),
    ),
    "scripted-without-bias": (
        TRACED,
        Remedy(
            "Export the module: torch.export.export.",
            changed(mode="exported"),
            ">=2.3",
            (EVERY_QUERY_SEES_A_KEY,),
        ),
        without("torch.jit.script", only=(EVERY_QUERY_SEES_A_KEY,), cost=_SLOWER),
    ),
    "scripted-native-no-weights": (
        Remedy(
            "Call with need_weights=True.", changed(need_weights=True), only=(EVERY_QUERY_SEES_A_KEY,), cost=_SLOWER
        ),
        TRACED,
        sequences_first(),
        recorded(),
    ),
    "exported-padding-of-a-view": (
        Remedy("Give src.contiguous().", changed(layout="contiguous")),
        NOT_NESTED,
        upgrade("2.6"),
    ),
    "exported-masks-out-of-order": (
        Remedy(
            "Give key_padding_mask before attn_mask, as the signature has them.",
            changed(mode="exported_in_order"),
            only=(EVERY_QUERY_SEES_A_KEY,),
        ),
        Remedy("Export without dynamic_shapes.", changed(mode="exported"), only=(EVERY_QUERY_SEES_A_KEY,)),
        upgrade("2.8"),
    ),
    "fake-native-weights": off_the_fast_path(),
    "flash-scale-zero-forgets-nan": (
        MATH,
        Remedy("Give a mask: one that hides nothing, or the causal one.", _masked, cost="memory for the mask"),
    ),
    "autocast-mask-overflow": (
        BY_SMALLER_NUMBER,
        without("torch.autocast", cost="speed and memory", only=(NO_INPUT_GRADIENT, SEES_A_KEY_UNCAST)),
        FIRST_KEY,
    ),
    "autocast-native-layer-raises": off_the_fast_path(),
    "autocast-native-layer-dtype": off_the_fast_path(),
    "autocast-nested-raises": off_the_fast_path(),
    "func-nested-raises": (*off_the_fast_path(), FIRST_KEY_AND_SEQUENCES_FIRST),
    "func-jvp-expanded": (
        Remedy(
            "Give mask.contiguous().",
            with_masks(lambda mask: replace(mask, layout="contiguous")),
            only=(WEIGHTS, EVERY_QUERY_SEES_A_KEY),
        ),
    ),
    "flash-gradient-bfloat16": (MATH, FLOAT32, upgrade("2.11")),
    "bfloat16-long-sums": (FLOAT32, upgrade("2.1"), MATH),
    "bfloat16-nan-spreads": (FIRST_KEY, FLOAT32),
    "compiled-nested-raises": (NOT_NESTED, *off_the_fast_path(), upgrade("2.5")),
    "built-native-layer-transposed": (Remedy("Give src.contiguous().", changed(layout="contiguous"), only=NATIVE),),
    "nested-sdpa-no-keys": (PADDED, replace(FIRST_KEY, only=(HAS_QUERIES,))),
    "nested-sdpa-few-keys": (PADDED, replace(FIRST_KEY, only=(HAS_QUERIES,))),
    "nested-mha-no-keys": (
        FIRST_KEY,
        Remedy(
            f"Give a padded batch, {_NO_FAST_PATH.lower()}, and call with need_weights=False.",
            changed(mode="eager", fast_path=False, need_weights=False),
            ">=2.5",
            cost=f"no weights are returned; {_GLOBAL}",
        ),
    ),
    "nested-beside-padding": (
        Remedy("Give no padding mask.", changed(mode="nested_strided"), only=(PADDING_ALONE, EXACT_ACTIVATION)),
    ),
    "jagged-sdpa-no-backend": (
        Remedy("Give a padded batch.", changed(mode="eager"), only=(POSITIVE_SCALE,), cost=_SLOWER),
    ),
}

# Of the entries that CUDA alone has.
_ON_CUDA = {
    "efficient-mask-alone": (Remedy("Let the query require a gradient, too.", changed(autograd="grad")),),
    "efficient-mask-alone-one-head": (Remedy("Let the query require a gradient, too.", changed(autograd="grad")),),
    "native-layer-gelu": off_the_fast_path(),
    "fused-finfo-min": (BY_SMALLER_NUMBER,),
    "cudnn-bool-mask": (
        Remedy(
            "Give the mask as float, with -inf.",
            with_masks(lambda mask: replace(mask, form="float", values="inf")),
            cost="memory for the mask",
        ),
    ),
    "fused-scale-not-positive": (MATH,),
    "efficient-lower-right": (
        Remedy("Give the mask itself as attn_mask.", changed(mode="eager"), cost="memory for the mask"),
    ),
    "efficient-mask-one-key": (EXPANDED,),
    "cudnn-mask-one-key": (EXPANDED,),
    "efficient-vmap-mask": (without("torch.func.vmap", cost=_SLOWER),),
    "efficient-vmap-mask-stride": (without("torch.func.vmap", cost=_SLOWER),),
    "nested-slow-conversion-warning": (NOT_NESTED, *off_the_fast_path()),
    "native-mha-no-sample": off_the_fast_path(),
    "cudnn-no-sample": (FLOAT32,),
    "nested-no-sample-segfault": (NO_EMPTY_MASK,),
    "autocast-weights-dtype": (without("torch.autocast", cost="speed and memory"),),
    "efficient-odd-strides": (Remedy("Give clones of query, key and value.", changed(layout="contiguous")),),
}

REMEDIES |= {
    "square-mask-default-dtype": (
        Remedy("Give torch.get_default_dtype() as dtype.", lambda case: replace(case, given_dtype=case.dtype)),
        upgrade("2.6"),
    ),
    "square-mask-default-device": (
        Remedy(
            "Give the name of the default device as device.",
            lambda case: replace(case, given_device=case.default_device),
        ),
        upgrade("2.6"),
    ),
}

# Fewer generated calls than ENOUGH, and why.
FEWER = {
    "built-native-layer-transposed": (2, "a call takes four seconds"),
    "torchscript-nested-sum": (8, "a call takes a third of a second, as it is traced"),
    "scripted-native-no-weights": (12, "a call takes a tenth of a second, as it is scripted"),
    "scripted-without-bias": (12, "a call takes a tenth of a second, as it is scripted"),
    "compiled-nested-raises": (6, "a call takes half a second, as it is compiled"),
    "compiled-whole-padding-raises": (6, "a call takes half a second, as it is compiled"),
    "traced-causal-mask": (12, "a call takes a tenth of a second, as it is traced"),
}


REMEDIES |= {id: tuple(replace(remedy, tested=False) for remedy in remedies) for id, remedies in _ON_CUDA.items()}
REMEDIES |= wrong_masks_remedies.REMEDIES


# Those in which a range can begin or end, the newest first.
RELEASES = [Version(f"2.{minor}.{patch}") for minor in range(15, -1, -1) for patch in (1, 0)]
RELEASES += [Version("1.13.1"), Version("1.13.0")]


def remedies_of(entry):
    """The remedies of an entry of either ledger, the cheapest first; none where nothing helps."""
    found = REMEDIES[entry.id]
    return () if isinstance(found, NoRemedy) else found


def meeting(entry, remedy):
    """The releases that have the entry's deviation and the remedy for it, the newest first."""
    return [version for version in RELEASES if contains(entry.affects, version) and remedy.holds_in(version)]


def mistakes(entries, remedies):
    """What is wrong with {id: remedies} for these entries, in words."""
    ids = {entry.id for entry in entries}
    yield from (f"{id}: no ledger has this entry" for id in remedies.keys() - ids)
    for entry in entries:
        found = remedies.get(entry.id, ())
        if isinstance(found, NoRemedy):
            continue
        if not found:
            yield f"{entry.id}: neither a remedy nor the reason why there is none"
        for remedy in found:
            if remedy.upgrade and meeting(entry, remedy):
                yield f"{entry.id}: still there in {meeting(entry, remedy)[0]}: {remedy.text}"
            if not remedy.upgrade and not meeting(entry, remedy):
                yield f"{entry.id}: in no release of {entry.affects} holds: {remedy.text}"
