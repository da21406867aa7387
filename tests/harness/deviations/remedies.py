"""What to do about each entry of the ledger: changes of the call, which tests/remedies makes and judges.

A remedy that leads from one deviation into another is none.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from packaging.version import Version

from ..cases.case import MultiHead, Transformer, masks_of
from ..cases.masks import Mask, OverKeys, SeeingFirst
from ..contents.arrays import mask_arrays
from ..releases import RELEASES as MINORS
from ..releases import contains
from .facts import has_empty_row, has_nonzero_finite
from .paths import every_block

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

MASKS_ONLY_HIDE = Condition(
    "float masks hold 0 and -inf alone",
    lambda case: not any(has_nonzero_finite(case, block) for block in every_block(case)),
)
BOOL_MASKS = Condition("masks are bool", lambda case: not any(mask.is_float for mask in masks_of(case).values()))

ENCODER = Condition("the encoder is made by itself", lambda case: case.module == "TransformerEncoder")

OWN_DTYPE = Condition(
    "masks are of the inputs' dtype, or bool", lambda case: all(mask.dtype is None for mask in masks_of(case).values())
)
BATCHED = Condition("the input is a batch", lambda case: case.batched)
EAGER = Condition("it is not compiled, exported, cast or transformed", lambda case: case.mode == "eager")

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


def as_kind(kind):
    return lambda mask: kind(**{field.name: getattr(mask, field.name) for field in fields(Mask)})


def without_empty_masks(case):
    """The case without masks that have no elements."""
    none = {name: None for name, array in mask_arrays(case).items() if array.size == 0}
    if isinstance(case, MultiHead) and "attn_mask" in none:
        none["is_causal"] = False
    if isinstance(case, Transformer):
        none |= {f"{name.removesuffix('_mask')}_is_causal": None for name in none if "padding" not in name}
    return replace(case, **none)


GLOBAL = "global: every module of the process leaves its fast path, which is slower"
NO_FAST_PATH = "Call torch.backends.mha.set_fastpath_enabled(False) first"
SEQUENCES_FIRST = "Make the module with batch_first=False, and give it inputs whose first dimension is the length"
SLOWER = "speed"
_RECORDED = "speed and memory: the call is recorded"
OTHER_NUMBERS = "other numbers: it asks something else"


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
    return Remedy(f"{NO_FAST_PATH}.", changed(fast_path=False, **more), ">=2.3", (*only, *_OFF_NATIVE), GLOBAL)


def sequences_first(only=(), **more):
    """batch_first=False, by which no fast path opens."""
    return Remedy(
        f"{SEQUENCES_FIRST}.",
        changed(batch_first=False, **more),
        only=(BATCHED, *only, *_OFF_NATIVE),
        cost=SLOWER,
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
        cost=SLOWER,
    )
)
MATH_BACKEND = Remedy(
    "Call it with the math backend alone: within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3 within"
    " torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False).",
    changed(mode="sdpa_math"),
    ">=2.0",
    only=(EAGER,),
    cost="speed and memory: every score is kept",
)
FIRST_KEY = Remedy(
    "Let every query see the first key: mask[..., 0] = False, or 0 if the mask is float.",
    with_masks(as_kind(SeeingFirst)),
    cost=OTHER_NUMBERS,
)
FIRST_KEY_AND_SEQUENCES_FIRST = Remedy(
    f"Let every query see the first key. {SEQUENCES_FIRST}.",
    lambda case: replace(FIRST_KEY.change(case), batch_first=False),
    "<2.5",
    (BATCHED,),
    f"{SLOWER}; {OTHER_NUMBERS}",
)
NO_EMPTY_MASK = Remedy("Leave out a mask that has no elements.", without_empty_masks)

FLOAT32 = Remedy("Compute in float32.", changed(dtype="float32"), cost="speed and memory")
_LARGE = ("min", "-1e4", "-1e9", "-1e30", "float16_min", "bfloat16_min")
_smaller = with_masks(lambda mask: replace(mask, values="negative") if mask.values in _LARGE else mask)
BY_SMALLER_NUMBER = Remedy(
    "Mask with -100 in place of -1e9 or finfo.min.",
    _smaller,
    only=(Condition("every query then sees a key", lambda case: EVERY_QUERY_SEES_A_KEY.holds(_smaller(case))),),
    cost="other numbers where every key is masked: scores count",
)


def _expanded(case):
    return replace(case, broadcast="", attn_mask=as_kind(OverKeys)(case.attn_mask))


EXPANDED = Remedy("Expand the mask to (..., L, S) and make it contiguous.", _expanded, cost="memory for the mask")

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

# Those in which a range can begin or end, the newest first.
RELEASES = [Version(f"{release}.{patch}") for release in reversed(MINORS) for patch in (1, 0)]


def untested(remedies):
    """The remedies, which no release that is installed here can be asked about."""
    return tuple(replace(remedy, tested=False) for remedy in remedies)


def remedies_of(entry):
    """The remedies of an entry of either ledger, the cheapest first; none where nothing helps."""
    return () if isinstance(entry.remedies, NoRemedy) else entry.remedies


def meeting(entry, remedy):
    """The releases that have the entry's deviation and the remedy for it, the newest first."""
    return [version for version in RELEASES if contains(entry.affects, version) and remedy.holds_in(version)]


def mistakes(entry):
    """What is wrong with the remedies of an entry of either ledger, in words."""
    if entry.remedies == ():
        yield f"{entry.id}: neither a remedy nor the reason why there is none"
    for remedy in remedies_of(entry):
        if remedy.upgrade and meeting(entry, remedy):
            yield f"{entry.id}: still there in {meeting(entry, remedy)[0]}: {remedy.text}"
        if not remedy.upgrade and not meeting(entry, remedy):
            yield f"{entry.id}: in no release of {entry.affects} holds: {remedy.text}"
