"""Remedies of the entries: changes of the call, which tests/remedies applies and judges.

A change that leads from one deviation into another is no remedy.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from packaging.version import Version

from ..cases.case import Case, masks_of
from ..cases.masks import Mask, OverKeys, SeeingFirst
from ..contents.arrays import mask_arrays
from ..releases import RELEASES as MINORS
from ..releases import contains
from .facts import does_more_than_hide, has_empty_row

if TYPE_CHECKING:
    from .entry import Entry

ENOUGH = 25  # generated calls to which a remedy is applied, each of which shows the entry


@dataclass(frozen=True)
class Condition:
    """A condition for a remedy, in words and as a predicate."""

    words: str
    holds: Callable[[Case], bool]
    before: str = ""  # first release in which the condition is not needed; empty if it always is

    def allows(self, case: Case, version: Version) -> bool:
        """True if the condition holds for the case, or is not needed in this release."""
        return (bool(self.before) and not contains(f"<{self.before}", version)) or self.holds(case)


class AnyRemedy(Protocol):
    """A remedy of an entry of either ledger. Its calls are cases, or rows of the table of wrong masks."""

    @property
    def text(self) -> str:
        """An imperative sentence."""

    @property
    def releases(self) -> str:
        """The releases in which the remedy helps, as a version specifier."""

    @property
    def only_in_words(self) -> str:
        """The conditions on the call; empty if there are none."""

    @property
    def cost(self) -> str:
        """The cost in words; empty if there is none."""

    @property
    def upgrade(self) -> bool:
        """True if the remedy is another release, in which the call stays unchanged."""

    @property
    def tested(self) -> bool:
        """False if no installed release can be asked about the remedy."""

    def holds_in(self, version: Version) -> bool:
        """True if the remedy helps in this release."""

    def applied(self, call: Any, version: Version) -> Any:
        """The changed call; None if the remedy does not fit the call in this release."""

    def assertion(self, call: Any) -> str:
        """An expression that is True for a right call, to be checked before it; empty if the remedy is a change."""


@dataclass(frozen=True)
class Remedy:
    """A change of a call after which the call conforms."""

    text: str  # an imperative sentence
    change: Callable[[Any], Any]  # from a case to a case, of the kind whose fields it changes
    releases: str = ">=1.13"  # releases in which the remedy helps, as a version specifier
    only: tuple[Condition, ...] = ()  # conditions on the call, which must all hold
    cost: str = ""  # in words; empty if there is none
    upgrade: bool = False  # True if the remedy is another release, in which the call stays unchanged
    tested: bool = True  # False if no installed release can be asked about the remedy

    @property
    def only_in_words(self) -> str:
        """The conditions in words, each once, grouped by `Condition.before`; empty if there are none."""
        always = {condition.words for condition in self.only if not condition.before}
        words: dict[str, list[str]] = {}
        for condition in sorted(self.only, key=lambda condition: condition.before):
            its = words.setdefault(condition.before, [])
            if condition.words not in its and not (condition.before and condition.words in always):
                its.append(condition.words)
        return "; ".join(
            f"{f'before {before} ' if before else ''}if {', and '.join(its)}" for before, its in words.items() if its
        )

    def holds_in(self, version: Version) -> bool:
        """True if the remedy helps in this release."""
        return contains(self.releases, version)

    def applied(self, case: Case, version: Version) -> Case | None:
        """The changed call; None if a condition does not hold for it in this release."""
        return self.change(case) if all(condition.allows(case, version) for condition in self.only) else None

    def assertion(self, case: Case) -> str:
        """Empty: the remedy is a change."""
        del case
        return ""


# ---- conditions ----------------------------------------------------------------------------------------------------


EVERY_QUERY_SEES_A_KEY = Condition(
    "no query is fully masked", lambda case: not any(has_empty_row(case, block) for block in case.blocks)
)

_LARGE = ("min", "-1e4", "-1e9", "-1e30", "float16_min", "bfloat16_min")


def _has_large_row(case):
    """True if a query has every key masked, and a mask hides by a large number."""
    masks = masks_of(case)
    hiding = {name: replace(mask, values="inf") for name, mask in masks.items() if mask.values in _LARGE}
    return bool(hiding) and not EVERY_QUERY_SEES_A_KEY.holds(replace(case, **hiding))


# its gradient would be that of flash-gradient-finfo-min
NO_LARGE_ROW = Condition(
    "no query has every key masked by a number such as -1e9", lambda case: not _has_large_row(case)
)

MASKS_ONLY_HIDE = Condition(
    "float masks hold only 0 and -inf",
    lambda case: not any(does_more_than_hide(case, block) for block in case.blocks),
)
BOOL_MASKS = Condition("masks are bool", lambda case: not any(mask.is_float for mask in masks_of(case).values()))

ENCODER = Condition("the encoder is not part of nn.Transformer", lambda case: case.module == "TransformerEncoder")

OWN_DTYPE = Condition(
    "masks are bool or of the inputs' dtype", lambda case: all(mask.dtype is None for mask in masks_of(case).values())
)
BATCHED = Condition("the input is a batch", lambda case: case.batched)
EAGER = Condition("the call is not compiled, exported, cast or transformed", lambda case: case.mode == "eager")

# 2.1 and 2.2 have native-layer-bias
HAS_BIASES = Condition("layers have biases", lambda case: not case.has_layers or case.bias, before="2.3")

EXACT_ACTIVATION = Condition(
    "the activation is not nn.GELU(approximate='tanh')",
    lambda case: case.activation != "gelu_tanh",
)
NO_MASK_LEARNS = Condition("no mask is learned beside frozen parameters", lambda case: case.autograd != "mask")
NATIVE = (EVERY_QUERY_SEES_A_KEY, MASKS_ONLY_HIDE, EXACT_ACTIVATION)  # the encoder layer's fast path conforms


# ---- changes -------------------------------------------------------------------------------------------------------


def changed(**values: Any) -> Callable[[Any], Any]:
    """A change of cases: these fields get these values."""
    return lambda case: replace(case, **values)


def with_masks(change: Callable[[Mask], Mask]) -> Callable[[Any], Any]:
    """A change of cases: `change` is applied to each mask."""
    return lambda case: replace(case, **{name: change(mask) for name, mask in masks_of(case).items()})


def as_kind(kind: type[Mask]) -> Callable[[Mask], Mask]:
    """A change of masks: the recipe becomes one of this class, with equal fields."""
    return lambda mask: kind(**{field.name: getattr(mask, field.name) for field in fields(Mask)})


def without_empty_masks(case: Case) -> Case:
    """The case without masks that have no elements, and without hints about them."""
    none: dict[str, Any] = {name: None for name, array in mask_arrays(case).items() if array.size == 0}
    for name in tuple(none):
        none |= case.without_hint(name)
    return replace(case, **none)


GLOBAL = "global: every module of the process leaves its fast path, which is slower"
NO_FAST_PATH = "Call torch.backends.mha.set_fastpath_enabled(False) first"
SEQUENCES_FIRST = "Make the module with batch_first=False, and give it inputs whose first dimension is the length"
SLOWER = "speed"
_RECORDED = "speed and memory: the call is recorded"
OTHER_NUMBERS = "other numbers, since the masks change"


def in_releases(releases: str, *remedies: Remedy) -> tuple[Remedy, ...]:
    """The remedies, limited to these releases."""
    return tuple(replace(remedy, releases=f"{remedy.releases},{releases}") for remedy in remedies)


def until(version: str, condition: Condition) -> Condition:
    """The condition, needed only before this release."""
    return replace(condition, before=version)


SEES_A_KEY_BEFORE_2_5 = until("2.5", EVERY_QUERY_SEES_A_KEY)  # before 2.5 the other paths give NaN, too


_OFF_NATIVE = (SEES_A_KEY_BEFORE_2_5, OWN_DTYPE)  # the other paths refuse masks of another dtype


def fast_path_off(only: tuple[Condition, ...] = (), **more: Any) -> Remedy:
    """A remedy: set_fastpath_enabled(False), which closes every fast path."""
    return Remedy(f"{NO_FAST_PATH}.", changed(fast_path=False, **more), ">=2.3", (*only, *_OFF_NATIVE), GLOBAL)


def sequences_first(only: tuple[Condition, ...] = (), **more: Any) -> Remedy:
    """A remedy: batch_first=False, with which no fast path opens."""
    return Remedy(
        f"{SEQUENCES_FIRST}.",
        changed(batch_first=False, **more),
        only=(BATCHED, *only, *_OFF_NATIVE),
        cost=SLOWER,
    )


def recorded(only: tuple[Condition, ...] = (), **more: Any) -> Remedy:
    """A remedy: autograd records the call, so that no fast path opens."""
    return Remedy(
        "Let parameters and inputs require a gradient, and make the call outside of torch.no_grad().",
        changed(autograd="grad", **more),
        only=tuple(dict.fromkeys((*only, *_OFF_NATIVE, NO_LARGE_ROW))),
        cost=_RECORDED,
    )


def off_the_fast_path(releases: str = "", only: tuple[Condition, ...] = (), **more: Any) -> tuple[Remedy, ...]:
    """All remedies that keep a call off the fast paths; the first two affect one module alone."""
    remedies = (sequences_first(only, **more), recorded(only, **more), fast_path_off(only, **more))
    return in_releases(releases, *remedies) if releases else remedies


def without(way: str, **more: Any) -> Remedy:
    """A remedy: the module is called directly, without this way of calling it."""
    return Remedy(f"Make the call without {way}.", changed(mode="eager"), **more)


def upgrade(version: str) -> Remedy:
    """A remedy: a release in which the unchanged call conforms."""
    return Remedy(f"Use PyTorch {version}, or a later release.", changed(), f">={version}", upgrade=True)


def on_native_paths(remedy: Remedy) -> Remedy:
    """The remedy for calls that it leaves on a fast path.

    A fast path of 2.0 warns of each mask, one of 1.13 of each float mask.
    """
    (its,) = in_releases("!=2.0.*", remedy)
    return replace(its, only=(*its.only, until("2.1", BOOL_MASKS), HAS_BIASES))


NOT_NESTED = on_native_paths(
    Remedy(
        "Make the encoder with enable_nested_tensor=False.",
        changed(enable_nested_tensor=False),
        only=(ENCODER, *NATIVE, NO_MASK_LEARNS),
        cost=SLOWER,
    )
)
MATH_BACKEND = Remedy(
    "Use the math backend alone: call within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), before 2.3 within"
    " torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False).",
    changed(mode="sdpa_math"),
    ">=2.0",
    only=(EAGER,),
    cost="speed and memory: every score is kept",
)
FIRST_KEY = Remedy(
    "Let every query see the first key: mask[..., 0] = False (in scaled_dot_product_attention True), or 0 if the mask"
    " is float.",
    with_masks(as_kind(SeeingFirst)),
    cost=OTHER_NUMBERS,
)
FIRST_KEY_AND_SEQUENCES_FIRST = Remedy(
    f"Let every query see the first key. {SEQUENCES_FIRST}.",
    lambda case: replace(FIRST_KEY.change(case), batch_first=False),
    "<2.5",
    (BATCHED, OWN_DTYPE),
    f"{SLOWER}; {OTHER_NUMBERS}",
)
NO_EMPTY_MASK = Remedy("Leave out a mask that has no elements.", without_empty_masks, only=(OWN_DTYPE,))

FLOAT32 = Remedy("Compute in float32.", changed(dtype="float32"), cost="speed and memory")
_smaller = with_masks(lambda mask: replace(mask, values="negative") if mask.values in _LARGE else mask)
BY_SMALLER_NUMBER = Remedy(
    "Mask with -100 in place of -1e9 or finfo.min.",
    _smaller,
    only=(Condition("no query is fully masked then", lambda case: EVERY_QUERY_SEES_A_KEY.holds(_smaller(case))),),
    cost="other numbers if every key is masked, since scores then count",
)


def _expanded(case):
    return replace(case, broadcast="", attn_mask=as_kind(OverKeys)(case.attn_mask))


EXPANDED = Remedy("Expand the mask to (..., L, S) and make it contiguous.", _expanded, cost="memory for the mask")

_WRITTEN = (
    "written-batch-key-transposed",
    "written-empty-row",
    "written-key-transposed",
    "written-scale-lost",
    "written-tensor-scale-raises",
)

_STORED = (
    "onnx-dimensions-raise",
    "onnx-empty-row-mean",
    "onnx-empty-row-nan",
    "onnx-groups-raise",
    "onnx-native-raises",
    "onnx-negative-scale",
)

_FLEX: tuple[str, ...] = (
    "flex-blocks-ignored",
    "flex-hidden-nan",
    "flex-gradient-large-mask",
    "flex-log-sum-exp-overflow",
)
_FLEX += ("flex-no-keys", "flex-adjusted-blocks", "flex-empty-block-mask", "flex-mask-mod-past-the-end")
_FLEX += ("flex-slice-forgets-mask-mod", "flex-slice-keeps-length", "flex-checkpoint-gradient")
_FLEX += ("flex-adjusted-far", "flex-narrow-lists", "flex-number-in-index")

# Entries with fewer generated calls than ENOUGH: {id: (number of calls, reason)}.
FEWER = {
    "built-float64-gradient": (2, "a call takes ten seconds"),
    "built-mask-by-positions": (2, "a call takes six seconds"),
    "built-mask-of-stepped-key": (2, "a call takes six seconds"),
    "built-native-layer-transposed": (2, "a call takes four seconds"),
    "torchscript-nested-sum": (8, "a call takes a third of a second, as it is traced"),
    "scripted-native-no-weights": (12, "a call takes a tenth of a second, as it is scripted"),
    "scripted-without-bias": (12, "a call takes a tenth of a second, as it is scripted"),
    "compiled-nested-raises": (6, "a call takes half a second, as it is compiled"),
    "compiled-whole-padding-raises": (6, "a call takes half a second, as it is compiled"),
    **dict.fromkeys(_WRITTEN, (8, "a call takes a seventh of a second, as it is compiled")),
    **dict.fromkeys(_STORED, (6, "a call takes up to two seconds, as it is exported")),
    **dict.fromkeys(_FLEX, (6, "a call takes a fifth of a second, as it is compiled")),
    "traced-causal-mask": (12, "a call takes a tenth of a second, as it is traced"),
}

# The releases at which a range of affected releases can begin or end, the newest first.
RELEASES = [Version(f"{release}.{patch}") for release in reversed(MINORS) for patch in (1, 0)]


def untested(remedies: Iterable[Remedy]) -> tuple[Remedy, ...]:
    """The remedies, marked as untested: no installed release can be asked about them."""
    return tuple(replace(remedy, tested=False) for remedy in remedies)


def meeting(entry: "Entry", remedy: AnyRemedy) -> list[Version]:
    """The releases that have the deviation and in which the remedy helps, the newest first."""
    return [version for version in RELEASES if contains(entry.affects, version) and remedy.holds_in(version)]


def mistakes(entry: "Entry") -> Iterator[str]:
    """The mistakes in the remedies of an entry of either ledger, in words."""
    if not entry.remedies and not entry.no_remedy:
        yield f"{entry.id}: neither a remedy nor the reason why there is none"
    if entry.remedies and entry.no_remedy:
        yield f"{entry.id}: both a remedy and the reason why there is none"
    for remedy in entry.remedies:
        if remedy.upgrade and meeting(entry, remedy):
            yield f"{entry.id}: still there in {meeting(entry, remedy)[0]}: {remedy.text}"
        if not remedy.upgrade and not meeting(entry, remedy):
            yield f"{entry.id}: in no release of {entry.affects} holds: {remedy.text}"
