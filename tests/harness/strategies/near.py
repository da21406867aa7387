"""Calls near the pinned case of an entry of the ledger, which random draws seldom meet.

A bug that comes back, or whose edge has moved, shows first in these calls.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from ..cases.case import UNRECORDED, Case, DotProduct, drops, masks_of
from ..cases.dtypes import LOW
from ..cases.masks import LAYOUTS, Mask
from ..cases.simpler import LEAST_FEATURES
from ..contents.packing import NESTED_STRIDED
from ..execution.release import Release
from ..explanation.neighbours import is_costly, neighbours
from ..modes.mode import Mode
from ..modes.modes import BY_ID, EAGER
from ..modes.shared_masks import SHARED_MASKS
from .basics import SEEDS, one_of
from .by_mode import adapted, lowered, suits
from .shared import is_alike

_AUTOGRAD = ("grad", "no_grad", "inference_mode", "frozen", "inputs", "mask")
_OWN_DRAWS = (NESTED_STRIDED, "jagged_batch")  # families of modes whose calls have strategies of their own


@st.composite
def cases_near(draw: st.DrawFn, release: Release, pinned: Case) -> Case:
    """Calls that differ from the pinned case in their contents, and in one to three respects."""
    mode, case = BY_ID[pinned.mode], pinned
    if pinned.has_layers and pinned.E < LEAST_FEATURES:
        wider: Any = {"head_dim": LEAST_FEATURES}
        case = replace(pinned, **wider)
    for _ in range(one_of(draw, 1, 2, 3)):
        ways = [changed for changed in _changes(case, release, mode) if changed != case]
        case = ways[draw(st.integers(0, len(ways) - 1))]
    if not is_costly(pinned):  # of such calls many need certain contents
        case = replace(case, seed=draw(SEEDS))
    if case.dtype in LOW:
        case = lowered(case, case.dtype)
    assume(case != pinned and is_offered(case, release))
    return case


def is_offered(case: Case, release: Release) -> bool:
    """True if the release can run the call, and other strategies may draw its sizes and numbers for this release."""
    if not release.offers(case):
        return False
    if case.is_flex and not case.compares_positions and masks_of(case) and 0 in (*case.batch, *case.lengths):
        return False  # functions cannot read a mask without elements
    values = [mask.values for mask in masks_of(case).values() if mask.is_float]
    return case.dtype in (*release.dtypes, *release.low_dtypes) and set(values) <= set(release.mask_values)


def _changes(case: Case, release: Release, mode: Mode) -> Iterator[Case]:
    """The case with another size, or another value of one field, as the mode allows it; the nearest first."""
    if not case.attends:
        yield from neighbours(case, release)
        return
    is_free = mode.family not in _OWN_DRAWS and mode is not SHARED_MASKS
    ways = (*_ways(case, release, mode), *(_free_ways(case) if is_free else ()))
    for changed in (*neighbours(case, release), *(replace(case, **changes) for changes in ways)):
        if not is_free and masks_of(changed) != masks_of(case):
            continue
        if is_free:
            changed = release.adapt(adapted(changed, mode))
            if suits(case, mode) > suits(changed, mode) or (mode.is_shared and not is_alike(changed, release)):
                continue
        yield changed


def _ways(case: Case, release: Release, mode: Mode) -> Iterator[dict[str, Any]]:
    """Fields that a call in any mode may have."""
    dtypes = (*release.dtypes, *[dtype for dtype in release.low_dtypes if mode is EAGER])
    yield from ({"dtype": dtype} for dtype in dtypes if mode.takes(dtype))
    yield from ({"layout": layout} for layout in LAYOUTS)
    if mode.differentiates:
        is_recorded = not (case.nan_query or (case.is_flex and case.nonfinite))  # as other strategies draw them
        autograd = _AUTOGRAD if is_recorded else UNRECORDED
        yield from ({"autograd": its} for its in autograd)


def _free_ways(case: Case) -> Iterator[dict[str, Any]]:
    """Fields that a mode with calls of its own may fix."""
    if not (case.nonfinite or case.nan_query):
        yield {"garbage": not case.garbage}
    if case.has_training_mode and not drops(case):
        yield {"training": not case.training, "dropout": 0.0}
    if case.has_parameters and case.batched:
        yield {"batch_first": not case.batch_first}
    if case.returns_pair and not isinstance(case, DotProduct):
        yield {"need_weights": not case.need_weights}
    if case.has_layers:
        yield {"norm_first": not case.norm_first}
    for name, mask in masks_of(case).items():
        if type(mask) is Mask and not case.is_flex:
            yield {name: replace(mask, form="bool" if mask.is_float else "float")}
            none = {"mask_batch": (), "broadcast": ""} if isinstance(case, DotProduct) else {}
            yield from [{name: None, **none}] * (not case.is_declared_causal)
