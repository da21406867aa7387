"""The size of a call that is asked about: a smaller call stands for it in all that is computed."""

from dataclasses import replace
from math import prod
from typing import Any

from tests.harness.cases.case import Case, DotProduct, masks_of
from tests.harness.cases.masks import Given
from tests.harness.command_line import BadInput

_SCORES = 5_000_000  # the most that are computed
_FEW_FEATURES = 8


def is_computable(case: Case) -> bool:
    """True if the case is small enough to be computed as it is."""
    return _scores(case) <= _SCORES


def computable(case: Case) -> Case:
    """The case, of two samples if it is too large. Raises BadInput if it still is."""
    return case if is_computable(case) else _of_two_samples(case)


def _scores(case):
    if isinstance(case, DotProduct):
        return prod((*case.batch, case.L, case.S))
    return (
        case.N
        * case.num_heads
        * max(case.number_of_queries(block) * case.number_of_keys(block) for block in case.blocks)
    )


def _of_two_samples(case):
    """The case with a smaller batch, which does the same, unless a mask that is a tensor tells its size."""
    is_held = any(isinstance(mask, Given) for mask in masks_of(case).values())
    if not case.has_parameters or is_held or _scores(replace(case, N=2)) > _SCORES:
        raise BadInput(f"{_scores(case):,} scores: ask with a smaller batch, or shorter sequences")
    return replace(case, N=2)


def smaller(case: Case) -> Case:
    """The case with fewer features, heads and layers: no entry tells these apart, and it is quickly computed."""
    if not case.has_parameters:
        return case
    heads, head_dim = _heads_of_a_smaller(case)
    changes: dict[str, Any] = {"num_heads": heads, "head_dim": head_dim}
    for name in ("kdim", "vdim"):
        if getattr(case, name) is not None:
            is_own = getattr(case, name) != case.E
            changes[name] = heads * head_dim + is_own
    if case.has_layers:
        changes |= {"dim_feedforward": min(case.dim_feedforward, _FEW_FEATURES)}
        if case.autograd != "one_parameter":  # which a seed chooses among them
            changes["num_layers"] = min(case.num_layers, 2)
    return replace(case, **changes)


def _heads_of_a_smaller(case):
    """(heads, features of each): as even as they were, and with features enough for gradients to pass a layer norm."""
    head_dim = min(case.head_dim, _FEW_FEATURES // 2)
    if any(mask.per_head or isinstance(mask, Given) for mask in masks_of(case).values()):
        return case.num_heads, head_dim
    enough = (heads for heads in range(2 + case.num_heads % 2, case.num_heads, 2) if heads * head_dim >= _FEW_FEATURES)
    return next(enough, case.num_heads), head_dim


def is_drawn(case: Case) -> bool:
    """True if a seed decides what its masks hold, or the lists of its BlockMask."""
    if case.is_flex and case.has_lists:
        return True
    recipes = [mask for mask in masks_of(case).values() if not isinstance(mask, Given)]
    return any(
        mask.pattern not in ("none", "all", "causal") or (mask.is_float and mask.values in ("finite", "bias", "slight"))
        for mask in recipes
    )
