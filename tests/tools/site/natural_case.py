"""The call of an entry in sizes that readers use: two samples, two heads, four positions, float32.

Pinned cases are minimal: one sample, one head of one feature, float64. Here each size grows as far as the model of an
affected release says that the call still shows the entry, and no other.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

from packaging.version import Version

from tests.harness.cases.case import Case, ScaledDotProduct, is_padding, masks_of
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.prediction import prediction
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.releases import RELEASES

_SIZES: dict[str, Any] = {"num_heads": 2, "head_dim": 4, "D": 8, "Dv": 8, "dim_feedforward": 16}
_SIZES |= {"N": 2, "L": 4, "S": 4, "T": 4}


@cache
def lifelike(entry: Deviation) -> Case:
    """The pinned case, grown; as it is if nothing is predicted, as on CUDA, or if other entries show beside it."""
    release = affected(entry)
    if release is None or not shows(entry, entry.pinned, release):
        return entry.pinned
    case = entry.pinned
    for changes in _growth(case):
        grown = replace(case, **changes)
        case = grown if shows(entry, grown, release) else case
    return case


def affected(entry: Deviation) -> AnotherRelease | None:
    """The newest release for the CPU that has the entry; None if it is one of other devices."""
    versions = [*(f"{minor}.0" for minor in reversed(RELEASES)), "2.0.1"]
    return next((its for its in map(_release, versions) if entry.concerns(its)), None)


def _release(version):
    return AnotherRelease(Version(version))


def shows(entry: Deviation, case: Case, release: AnotherRelease) -> bool:
    """True if the model of the release says that the call shows the entry, and no other."""
    return prediction(case, release).ids == (entry.id,)


def _growth(case: Case) -> Iterator[dict[str, Any]]:
    """Generates changes of fields, each to be tried alone."""
    if not case.attends:
        return
    has = {field.name for field in fields(case)}
    if case.dtype == "float64":
        yield {"dtype": "float32"}
    one_length = case.attention in ("self", "copies")
    has -= set() if case.batched else {"N"}
    for name, size in _SIZES.items():
        if name in has and isinstance(former := getattr(case, name), int) and 1 <= former < size:
            yield {"L": size, "S": size} if one_length and name in ("L", "S") else {name: size}
    if isinstance(case, ScaledDotProduct) and case.batch == (1, 1):
        yield {"batch": (1, 2)}
    for name, mask in masks_of(case).items():
        if mask.pattern == "none" and mask.values == "inf":
            yield {name: replace(mask, pattern="right" if is_padding(name) else "causal")}
        elif mask.pattern in ("one", "sample") and is_padding(name):
            yield {name: replace(mask, pattern="right")}
