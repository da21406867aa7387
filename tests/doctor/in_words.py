"""Masks and differences in words."""

import numpy as np

from reference import masks as meaning
from tests.harness.cases.case import is_padding
from tests.harness.judgement.comparison import ERROR
from tests.harness.judgement.wording import differences

from .calls import SDPA, Made
from .compare import Outcome
from .describe import dtype_name, to_array


def mask_in_words(made: Made, name: str) -> str:
    """A mask in words: "causal, float32, 128 x 128"."""
    mask = made.masks[name]
    size = " x ".join(map(str, mask.shape)) or "scalar"
    array = to_array(mask)
    return f"{_pattern(array, made.function == SDPA, is_padding(name))}, {dtype_name(mask.dtype)}, {size}"


def hides(array: np.ndarray, true_keeps: bool) -> np.ndarray:
    """bool array: True where the mask hides; float masks hide where they are -inf or as low as -1e4."""
    if array.dtype == bool:
        return ~array if true_keeps else array
    return array <= -1e4


def _pattern(array, true_keeps, padding):
    """The pattern of a mask in words."""
    if array.dtype != bool and not np.issubdtype(array.dtype, np.floating):
        return "no mask of a documented type"
    hidden = hides(array, true_keeps)
    biased = array.dtype != bool and bool(((array != 0) & ~hidden).any())
    with_bias = " with a bias" if biased else ""
    if not hidden.any():
        return "a bias that hides nothing" if biased else "hides nothing"
    if hidden.all():
        return "hides everything"
    if padding or hidden.ndim < 2 or hidden.shape[-2] == 1:
        rows = np.atleast_2d(hidden.reshape(-1, hidden.shape[-1]))
        kind = "right padding" if _is_sorted(rows) else "left padding" if _is_sorted(rows[:, ::-1]) else ""
        return (kind or _share(hidden)) + with_bias
    L, S = hidden.shape[-2:]
    flat = hidden.reshape(-1, L, S)
    if (flat == meaning.causal(L, S)).all():
        return "causal" + with_bias
    if L != S and (flat == (np.arange(S) > np.arange(L)[:, None] + S - L)).all():
        return "causal, aligned at the last key" + with_bias
    if (hidden | ~meaning.causal(L, S)).all():
        return "causal and more" + with_bias
    return _share(hidden) + with_bias


def _is_sorted(rows):
    """True if no visible key follows a hidden one in any row."""
    return not (rows[:, :-1] & ~rows[:, 1:]).any()


def _share(hidden):
    return f"hides {100 * hidden.mean():.0f} %"


def mismatch_in_words(outcome: Outcome) -> str:
    """The first difference from the specification in words; empty if there is none."""
    if not outcome.mismatches or outcome.case is None:
        return ""
    found = differences(outcome.case, outcome.mismatches, (), outcome.observation.served)
    if outcome.mismatches[0].kind == ERROR and outcome.observation.error:
        return f"raises {': '.join(outcome.observation.error)}"
    return found[0].says if found else ""
