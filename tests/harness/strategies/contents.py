"""Calls with special contents (garbage, NaN, inf, dropout), and calls for the laws."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from ..cases.case import UNRECORDED, drops
from ..cases.laws import Law
from ..contents.arrays import nonfinite_positions
from ..execution.release import Release
from ..modes.modes import MODES
from .basics import WITHOUT_GRADIENT, evenly, mixed
from .by_mode import NONFINITE, cases_in
from .modules import any_cases, cases_of, module_cases
from .multi_head import multi_head_cases
from .sdpa import scaled_dot_product_cases


def cases_under(release: Release, law: Law) -> st.SearchStrategy:
    """Calls that the law applies to."""
    if release.adopted:
        return any_cases(release)
    modules = [
        m for m in law.modules if m != "scaled_dot_product_attention" or release.has_scaled_dot_product_attention
    ]
    cases = st.one_of([cases_of(release, module, inference) for module in modules for inference in (False, True)])
    return cases.map(lambda case: replace(case, dropout=0.0) if drops(case) else case)  # twins drop different elements


def garbage_cases(release: Release, dropout: float = 0.0) -> st.SearchStrategy:
    """Calls with garbage in all positions that are hidden from every query."""

    def with_garbage(case):
        training = {"training": bool(dropout)} if case.has_training_mode else {}
        layout = "sliced" if case.layout == "expanded" else case.layout  # garbage is no copy of other contents
        return release.adapt(replace(case, garbage=True, dropout=dropout, layout=layout, **training))

    return any_cases(release).map(with_garbage)


def nonfinite_cases(release: Release) -> st.SearchStrategy:
    """Calls with NaN or inf in positions that are hidden from every query, a third of them with their own autograd."""

    def without_finite(drawn):
        case, nonfinite, autograd = drawn
        case = replace(case, garbage=False, nonfinite=nonfinite, dropout=0.0)
        if autograd and case.autograd not in WITHOUT_GRADIENT:
            case = replace(case, autograd=autograd)
        return release.adapt(case)

    cases = any_cases(release)
    if not release.adopted:
        cases = mixed(cases, module_cases(release, inferring=(True,)))
    drawn = st.tuples(cases, evenly(NONFINITE), evenly(("no_grad", "no_grad", "")))
    return drawn.map(without_finite).filter(nonfinite_positions)


_BIASED = [mode for mode in MODES if mode.family == "causal_upper_left" and mode.is_in()]
_DROPPED: dict[str, Any] = {"dropout": 0.5, "need_weights": True, "average_attn_weights": False}


def shows_dropped_weights(release: Release) -> bool:
    """True if the measured implementation returns the weights of each head under dropout."""
    return release.adopted is None or (takes_dropout(release) and release.adopted.takes >= _DROPPED.keys())


def takes_dropout(release: Release) -> bool:
    """True if the measured implementation is of nn.MultiheadAttention and has dropout, which its weights show."""
    adopted = release.adopted
    return adopted is None or (adopted.replaces == "MultiheadAttention" and "dropout" in adopted.takes)


def dropout_cases(release: Release) -> st.SearchStrategy:
    """Calls of nn.MultiheadAttention in training, with dropout, that return the weights of each head."""
    return multi_head_cases(release).map(lambda case: replace(case, training=True, **_DROPPED))


def all_dropped_cases(release: Release) -> st.SearchStrategy:
    """Calls that drop every weight: nn.MultiheadAttention, and SDPA with a mask or a CausalBias."""
    kinds: list[st.SearchStrategy] = [
        multi_head_cases(release).map(lambda case: replace(case, training=True, need_weights=False))
    ]
    if release.has_scaled_dot_product_attention and not release.adopted:
        kinds += [scaled_dot_product_cases(release), *(cases_in(release, mode) for mode in _BIASED)]

    def dropping(case):
        case = replace(case, dropout=1.0)
        return release.adopted.adapt(case) if release.adopted else case

    return st.one_of(kinds).map(dropping)


def nan_query_cases(release: Release, module: str) -> st.SearchStrategy:
    """Calls with one query that is NaN, of scaled_dot_product_attention or of nn.MultiheadAttention.

    nn.MultiheadAttention gets distinct inputs, so that no key or value is NaN.
    """
    own = {} if module == "scaled_dot_product_attention" else {"attention": "distinct"}
    changes = {"nan_query": True, "garbage": False, **own}

    def with_nan(case):
        return replace(case, autograd=case.autograd if case.autograd in UNRECORDED else "no_grad", **changes)

    return cases_of(release, module, inference=True).map(with_nan)
