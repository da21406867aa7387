"""Calls near a given call: other contents, other sizes, other masks of the same kind."""

from collections.abc import Iterator
from dataclasses import replace

from ..cases.case import OF_ONE_LENGTH, Case, DotProduct, is_padding, masks_of
from ..cases.masks import Mask
from ..execution.release import Release
from ..modes.modes import BY_ID
from ..modes.written import FAMILY

_COSTLY = ("compiled", "exported", "traced", "scripted", "inductor", FAMILY)  # families of modes that make an artifact


def neighbours(case: Case, release: Release) -> Iterator[Case]:
    """Calls that the release offers and that differ from the case in one respect, the nearest first.

    A case in a mode that makes an artifact has two neighbours with other contents.
    """
    nearest = [replace(case, seed=case.seed + step) for step in (1009, 2003)]
    yield from nearest
    if is_costly(case):
        return
    for changed in (*_of_other_sizes(case), *_of_other_masks(case)):
        if release.offers(changed):
            yield changed


def is_costly(case: Case) -> bool:
    """True if the mode of the case makes an artifact."""
    mode = BY_ID[case.mode]
    return mode.builds or mode.family in _COSTLY


def _of_other_sizes(case):
    if not case.attends:
        yield replace(case, sz=case.sz + 2)
    elif isinstance(case, DotProduct):
        yield replace(case, L=case.L + 1)
        yield replace(case, S=case.S + 2)
        yield replace(case, D=case.D + 1, Dv=case.Dv + 1)
    else:
        yield from _of_other_lengths(case)
        if case.batched and case.only is None:
            yield replace(case, N=case.N + 1)
        yield replace(case, num_heads=case.num_heads + 2)
        if case.num_layers > 1:
            yield replace(case, num_layers=case.num_layers + 1)


def _of_other_lengths(case):
    if case.attention in OF_ONE_LENGTH:
        yield replace(case, L=case.L + 2, S=case.S + 2)
    elif not case.has_layers:
        yield replace(case, S=case.S + 2)
        yield replace(case, L=case.L + 1)
    else:
        yield replace(case, S=case.S + 2)
        yield from [replace(case, T=case.T + 2)] * case.has_decoder


def _of_other_masks(case):
    """The case with one mask of another pattern, unless a hint says that it is causal."""
    if case.is_declared_causal:
        return
    for name, mask in masks_of(case).items():
        if type(mask) is Mask and not mask.repeated:
            patterns = ("scattered", "right") if is_padding(name) else ("random", "causal")
            for pattern in patterns:
                if pattern != mask.pattern:
                    yield replace(case, **{name: replace(mask, pattern=pattern)})
