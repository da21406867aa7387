"""The judgement on one case: what was observed, against the specification or the model of the release."""

import re
from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from reference.derivative import derivative

from . import comparison
from .arrays import directions, ignored
from .cases import ScaledDotProduct, attentions
from .comparison import Mismatch
from .results import cotangents, garbage_rows, present
from .specification import specification

CONFORMS, DEVIATES, FAILS = "conforms", "deviates as predicted", "fails"

# Documented: "If both attn_mask and key_padding_mask are supplied, their types should match."
_MIXED_TYPES = r"Support for mismatched \w+ and \w+ is deprecated"


@dataclass(frozen=True)
class Verdict:
    """status: one of the three above. deviations: ids of the ledger entries that explain it. ratio: error / bound."""

    status: str
    deviations: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    ratio: float = 0.0


def judge(case, observation, deviations=()):
    """Compare with the specification, as the deviations (ledger.Applied) change it."""
    ids = tuple(deviation.id for deviation in deviations)
    mismatches, ratio = _against(case, observation, deviations)
    if mismatches:
        return Verdict(FAILS, ids, mismatches, ratio)
    if deviations and _against(case, observation, ())[0]:
        return Verdict(DEVIATES, ids, (), ratio)
    return Verdict(CONFORMS, (), (), ratio)


def predict(case, deviations=(), dtype="float64", displace=()):
    """The computation of the release: the specification, changed by each deviation in turn."""
    computation = specification(case, dtype, displace)
    for deviation in deviations:
        computation = deviation.change(computation)
    return computation


def allowances(case):
    """{name: the error that each result may have}, by the specification."""
    expected, rough = (present(case, specification(case, dtype)()) for dtype in ("float64", "float32"))
    ignore = garbage_rows(case, expected)
    return {
        name: comparison.bound(expected[name], rough[name], case.dtype, comparison.terms(case), ignore[name])
        for name in expected
    }


def _against(case, observation, deviations):
    """(mismatches, largest error / bound)"""
    model = predict(case, deviations)
    found = [*_side_effects(case, observation, model), *_errors(observation, model)]
    if model.error or observation.error:
        return tuple(found), 0.0
    more, ratio = _results(case, observation, deviations, model)
    found += more
    if directions(case) and not found and not model.undefined:
        more, its_ratio = _gradients(case, observation, deviations)
        found, ratio = found + more, max(ratio, its_ratio)
    return tuple(found), ratio


def _side_effects(case, observation, model):
    for name in observation.mutated:
        yield Mismatch(f"{name} after the call", "unchanged", "changed")
    allowed = (*model.warnings, _MIXED_TYPES) if _mixes_types(case) else model.warnings
    for message in observation.warnings:
        if not any(re.search(pattern, message) for pattern in allowed):
            yield Mismatch("warning", None, message)
    for pattern in model.warnings:
        if not any(re.search(pattern, message) for message in observation.warnings):
            yield Mismatch("warning", pattern, None)


def _mixes_types(case):
    """Whether an attention is given both masks, one bool and one float."""
    if isinstance(case, ScaledDotProduct):
        return False
    pairs = [(getattr(case, attn_mask), getattr(case, padding)) for attn_mask, padding, _ in attentions(case)]
    return any(mask and padding and mask.form != padding.form for mask, padding in pairs)


def _errors(observation, model):
    expected, got = model.error, observation.error
    if expected is None and got is None:
        return
    if expected is None or got is None or expected[0] != got[0] or not re.search(expected[1], got[1]):
        yield Mismatch("error", expected and ": ".join(expected), got and ": ".join(got))


def _results(case, observation, deviations, model):
    found, ratio = [], 0.0
    expected, rough = present(case, model()), present(case, predict(case, deviations, "float32")())
    ignore = dict.fromkeys(expected) if model.ignores_garbage else garbage_rows(case, expected)
    if set(expected) != set(observation.outputs):
        found.append(Mismatch("results", sorted(expected), sorted(observation.outputs)))
    for name in set(expected) & set(observation.outputs):
        got = observation.outputs[name]
        if str(got.dtype) != case.dtype:
            found.append(Mismatch(f"{name} dtype", case.dtype, str(got.dtype)))
        allowed = comparison.bound(expected[name], rough[name], case.dtype, comparison.terms(case), ignore[name])
        if model.undefined and got.shape == expected[name].shape:
            continue
        mismatch, its_ratio = comparison.compare_arrays(name, expected[name], got, allowed, ignore[name])
        found, ratio = found + [mismatch] * (mismatch is not None), max(ratio, its_ratio)
    return found, ratio


def _gradients(case, observation, deviations):
    names = tuple(directions(case))
    got, spread = comparison.contraction(observation.gradients, directions(case))
    expected, size, error = _directional_derivative(case, deviations, names)
    condition = hypot(error / comparison.ROUNDOFF32, np.sqrt(comparison.terms(case)) * hypot(size, spread))
    allowed = comparison.SAFETY * float(np.finfo(case.dtype).eps) / 2 * condition
    if np.isnan(expected):  # some result is NaN: what is left of its derivative is NaN, or cut off by a mask
        return [], 0.0
    mismatch, ratio = comparison.compare_numbers("gradient", expected, got, allowed)
    if mismatch is None:
        return [] if deviations else list(_leaks(case, observation)), ratio
    wrong = [name for name in names if _gradient_is_wrong(case, observation, deviations, name, allowed)]
    what = "gradient of " + ", ".join(wrong or names) + ", in the drawn direction"
    return [replace(mismatch, what=what)], ratio


def _directional_derivative(case, deviations, names):
    """(the derivative, the size of what is added up, the error that float32 makes), the latter as root sums of squares.

    What is added up are the slopes of the results and, where they cancel, the results themselves.
    """
    results, rough = (present(case, predict(case, deviations, dtype, names)()) for dtype in ("float64", "float32"))
    weights = cotangents(case, {name: array.shape for name, array in results.items()})

    def gather(arrays):
        return np.concatenate([(weights[name] * arrays[name]).ravel() for name in results])

    with np.errstate(invalid="ignore"):
        values, slopes = gather({name: array.real for name, array in results.items()}), gather(_slopes(results))
        errors = gather(_slopes(rough)) - slopes
    return slopes.sum(), hypot(_norm(values), _norm(slopes)), _norm(errors)


def _norm(array):
    return np.linalg.norm(array[np.isfinite(array)])


def _slopes(results):
    return {name: derivative(array) for name, array in results.items()}


def _gradient_is_wrong(case, observation, deviations, name, allowed):
    expected, *_ = _directional_derivative(case, deviations, (name,))
    got, _ = comparison.contraction(observation.gradients, {name: directions(case)[name]})
    return not abs(expected - got) <= allowed


def _leaks(case, observation):
    """A key that every query is told to ignore gets a gradient of exactly 0, unless it is itself a query (clause 5)."""
    for source, positions in ignored(case).items():
        for name in {"key": ("key", "value"), "memory": ("memory",)}.get(source, ()):
            gradient = observation.gradients.get(name)
            if gradient is None:
                continue
            leaked = gradient[positions]
            if leaked.any():
                yield Mismatch(f"gradient of {name} where every query ignores it", 0.0, float(np.abs(leaked).max()))
