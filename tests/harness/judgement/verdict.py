"""Judges one case: compares its observation with the specification, or with the model of the release."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, isfinite
from typing import TYPE_CHECKING

import numpy as np

from reference.derivative import derivative

from ..cases.case import Case, mixes_types
from ..contents.arrays import GARBAGE, coarsest, directions, ignored
from ..contents.results import present
from ..execution.runner import Observation
from ..expectation.backward import PLAIN, BackwardPass
from ..expectation.dropout import UnlikeDropout
from ..modes.modes import BY_ID, computed_in
from ..path_names import KERNELS, NATIVE_PATHS
from . import comparison, left_out
from .comparison import (
    ATTACHED,
    DEVICE,
    DROPOUT,
    DTYPE,
    ERROR,
    GRADIENT,
    LEAK,
    LENT,
    MUTATED,
    PATH,
    RESULTS,
    SETTING,
    WARNING,
    Mismatch,
    norm,
    weighted,
)
from .prediction import BOUNDS, Prediction, predict

if TYPE_CHECKING:
    from ..deviations.ledger import Applied

_FAR = 1000  # plain bounds: an error below may still be within the full bound, whatever the limit

CONFORMS, DEVIATES, FAILS = "conforms", "deviates as predicted", "fails"
NOT_APPLICABLE = "not applicable"  # the call was not made: the subject declined it, or it may crash the process

# Documented for nn.MultiheadAttention: "If both attn_mask and key_padding_mask are supplied, their types should match."
_MIXED_TYPES = r"Support for mismatched \w+ and \w+ is deprecated"


@dataclass(frozen=True)
class Verdict:
    """The judgement on one case."""

    status: str  # CONFORMS, DEVIATES, FAILS or NOT_APPLICABLE
    deviations: tuple[str, ...] = ()  # ids of the entries that apply; if the status is DEVIATES, of those that show
    mismatches: tuple[Mismatch, ...] = ()  # empty unless the status is FAILS
    margins: tuple[tuple[str, float], ...] = ()  # (one of BOUNDS, error / bound) of each comparison that passed
    # {(COMPARED or a reason of left_out.py, unit): number}
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


def judge(
    case: Case,
    observation: Observation,
    deviations: "Sequence[Applied]" = (),
    announces: bool = False,
    backward_pass: BackwardPass = PLAIN,
    limit: Callable[[str], float] = lambda name: inf,
) -> Verdict:
    """Compare the observation with the specification, changed by the deviations in turn.

    announces: True if a warning must be given for a bool and a float mask in one attention; False if it may be given.
    backward_pass: see facts.backward_pass. limit: of the name of a result, an error above which the full bound, which
    takes most of the time, is not tried, if the error is also far above the plain bound.
    """
    ids = tuple(deviation.id for deviation in deviations)
    prediction = Prediction(case, deviations, observation.kept, observation.served, backward_pass)
    counts: Counter[tuple[str, str]] = Counter()
    mismatches, margins = _against(case, observation, prediction, counts, limit)
    if announces and mixes_types(case) and not observation.error:
        mismatches = (*_missing(observation, _MIXED_TYPES), *mismatches)
    if mismatches:
        return Verdict(FAILS, ids, tuple(_named(mismatches, observation, prediction)), margins, counts)
    if deviations and (prediction.cannot_conform or _differs(case, observation, replace(prediction, deviations=()))):
        return Verdict(DEVIATES, prediction.shown, (), margins, counts)
    return Verdict(CONFORMS, ids, (), margins, counts)


def _differs(case, observation, prediction):
    return bool(_against(case, observation, prediction, Counter(), lambda name: inf)[0])


def showing(case: Case, deviations: "Sequence[Applied]", served: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The ids of the deviations that a run of the case would show; none if it conforms within its bounds.

    Computed without dropout. served: see Observation.
    """
    model, plain = (Prediction(case, its, None, served) for its in (deviations, ()))
    return model.shown if deviations and _can_be_told(case, model, plain) else ()


def _can_be_told(case, model, plain):
    """True if two predictions differ by more than the bounds of a result."""
    if model.cannot_conform or (_is_loose(model.computation) and any(array.size for array in model.exact.values())):
        return True
    kinds = [(its.computation.dtype, its.computation.weights_dtype, its.computation.device) for its in (model, plain)]
    if kinds[0] != kinds[1] or any(_result_differs(name, model.exact[name].real, plain) for name in plain.exact):
        return True
    return bool(directions(case)) and _slopes_differ(case, model, plain)


def _result_differs(name, got, prediction):
    """True if a result differs by more than its bounds, in rows of garbage queries too."""
    if _compared(name, got, prediction)[0]:
        return True
    is_left = np.zeros(got.shape, bool)
    return prediction.garbage[name] is not None and bool(_rows_of_garbage(name, got, prediction, is_left, Counter())[0])


def _is_loose(computation):
    """True if some numbers are not predicted."""
    return bool(computation.undefined) or computation.may_be_nan or computation.undefined_gradient is not None


def _slopes_differ(case, model, plain):
    """True if the gradients or tangents of two predictions differ by more than their bounds."""
    if BY_ID[case.mode].is_forward:
        return any(_compared(name, derivative(model.exact[name]), plain, derivative)[0] for name in plain.exact)
    results = [array for its in (model, plain) for array in its.exact.values()]
    if any(np.isnan(array).any() for array in results) or not any(array.size for array in results):
        nan = [{name: np.isnan(array) for name, array in its.gradients.items()} for its in (model, plain)]
        passed = [name for name, array in model.gradients.items() if array.any()]  # others may be None
        if any((nan[0][name] != nan[1][name]).any() for name in passed):
            return True
        if any(its.any() for its in nan[1].values()):  # as a run compares the other elements
            model, plain = (replace(its, still=nan[1]) for its in (model, plain))
    slope = weighted(plain.cotangents, model.exact, derivative).sum()
    # the gradients themselves, which cost more, can but widen the bound
    spreads = (lambda: 0.0, lambda: comparison.contraction(plain.gradients, directions(case))[1])
    return all(_slope_compared(case, slope, spread(), plain, has_nan=False)[0] for spread in spreads)


def _against(case, observation, prediction, counts, limit):
    """(mismatches, margins). Adds the numbers of compared and left out elements, gradients and results to `counts`."""
    model = prediction.computation
    found = [*_side_effects(case, observation, model), *_errors(case, observation, model)]
    if model.error or observation.error:
        counts[left_out.RAISED, "results"] += 1
        return tuple(found), ()
    try:
        more, margins = _results(observation, prediction, counts, limit)
    except UnlikeDropout as unlike:
        return (*found, Mismatch(unlike.what, unlike.expected, unlike.got, kind=DROPOUT)), ()
    found += more
    if directions(case) and all(its.kind in (PATH, SETTING, WARNING) for its in found):  # which hide no wrong gradient
        is_forward = BY_ID[case.mode].is_forward
        compared = _tangents if is_forward else partial(_gradients, counts=counts)
        more, its_margins, reason = compared(case, observation, prediction)
        counts[reason or left_out.COMPARED, "gradients"] += len(directions(case))
        found, margins = found + more, margins + its_margins
    return tuple(found), tuple(margins)


def _side_effects(case, observation, model):
    for name in observation.mutated:
        yield Mismatch(f"{name} after the call", "unchanged", "changed", kind=MUTATED, of=(name,))
    for name in observation.lent:
        yield Mismatch(f"memory of {name}", "not shared", "shared with a result", kind=LENT, of=(name,))
    for name in observation.settings:
        yield Mismatch(f"{name} after the call", "unchanged", "changed", kind=SETTING, of=(name,))
    for name in observation.attached:
        yield Mismatch(f"{name}.requires_grad", "False", "True", kind=ATTACHED, of=(name,))
    yield from _paths(case, observation)
    allowed = (*model.warnings, *[_MIXED_TYPES] * mixes_types(case))
    allowed += tuple(filter(None, [BY_ID[case.mode].warns, case.may_warn]))
    for message in observation.warnings:
        if not any(re.search(pattern, message) for pattern in allowed):
            yield Mismatch("warning", None, message, kind=WARNING)
    for pattern in model.warnings if model.error is None else ():  # a call may raise before it warns
        yield from _missing(observation, pattern)


def _paths(case, observation):
    """Mismatches of paths that the caller has ruled out: by set_fastpath_enabled(False), or by sdpa_kernel."""
    if not any(array.size for array in observation.outputs.values()):  # an error, or nothing to compute
        return
    kernel = BY_ID[case.mode].kernel
    for path in dict.fromkeys(observation.served):
        if not case.fast_path and path in NATIVE_PATHS:
            yield Mismatch("path", "none of the fast paths, which are switched off", path, kind=PATH)
        if kernel and path in KERNELS and path != kernel:
            yield Mismatch("path", f"{kernel}, which the call asks for", path, kind=PATH)


def _missing(observation, pattern):
    """A mismatch if no warning matches the pattern."""
    if not any(re.search(pattern, message) for message in observation.warnings):
        yield Mismatch("warning", pattern, None, kind=WARNING)


def _errors(case, observation, model):
    expected, got = model.error, observation.error
    if expected is None and got is None:
        return
    is_wrapped = BY_ID[case.mode].compiles  # the compiler wraps errors of torch in its own type
    kinds_differ = expected is None or got is None or not (is_wrapped or re.fullmatch(expected[0], got[0]))
    if kinds_differ or not re.search(expected[1], got[1]):
        yield Mismatch("error", expected and ": ".join(expected), got and ": ".join(got), kind=ERROR)


def _results(observation, prediction, counts, limit):
    found, margins = [], []
    expected, model = prediction.exact, prediction.computation
    if set(expected) != set(observation.outputs):
        found.append(Mismatch("results", sorted(expected), sorted(observation.outputs), kind=RESULTS))
    for name in sorted(set(expected) & set(observation.outputs)):
        got = observation.outputs[name]
        dtype = observation.dtypes[name]
        told = (name != "output" and model.weights_dtype) or model.dtype
        if dtype != told:
            found.append(Mismatch(f"{name} dtype", told, dtype, kind=DTYPE, of=(name,)))
        if model.device and observation.devices.get(name) != model.device:
            device = observation.devices.get(name)
            found.append(Mismatch(f"{name} device", model.device, device, kind=DEVICE, of=(name,)))
        is_left = np.zeros(got.shape, bool)
        if got.shape == expected[name].shape:
            is_left = _left_out(name, got, prediction, counts)
            got = np.where(is_left, expected[name].real, got) if is_left.any() else got
        more, its_margins = _compared(name, got, prediction, limit=limit)
        found, margins = found + more, margins + its_margins
        if not more and prediction.garbage[name] is not None:
            more, its_margins = _rows_of_garbage(name, got, prediction, is_left, counts)
            found, margins = found + more, margins + its_margins
    return found, margins


def _left_out(name, got, prediction, counts):
    """bool array: True at elements that are not compared. Counts them, except for rows of garbage queries."""
    expected, model = prediction.exact[name].real, prediction.computation
    is_left = np.zeros(got.shape, bool)
    reasons = [(reason, np.broadcast_to(where, got.shape)) for reason, where in model.undefined.items()]
    reasons += [(left_out.MAY_BE_NAN, np.isnan(got) & ~np.isnan(expected))] * model.may_be_nan
    for reason, where in reasons:
        counts[reason, "elements"] += int((where & ~is_left).sum())
        is_left = is_left | where
    counts[left_out.COMPARED, "elements"] += int(np.sum(~is_left))
    is_whole = is_left.any() and is_left.all()
    counts[reasons[0][0] if is_whole else left_out.COMPARED, "results"] += 1
    return is_left


def _rows_of_garbage(name, got, prediction, is_left, counts):
    """(mismatches, margins) of rows whose query is garbage. Each row has a bound of its own (comparison.py).

    Rows that are decided by rounding or dropped by the mode count as left out, though their classes are compared.
    """
    expected, found, margins = prediction.exact[name].real, [], []
    for kind, allowed, ignore, is_zero in prediction.bounds_of_garbage(name):
        mismatch, ratio = comparison.compare_arrays(name, expected, got, allowed, ignore, is_zero)
        found, margins = ([mismatch], []) if mismatch else ([], [(kind, ratio)])
        if not found:
            break
    number = int(np.sum(prediction.garbage[name] & ignore & ~is_left))
    counts[left_out.GARBAGE, "elements"] += number
    counts[left_out.COMPARED, "elements"] -= number
    return found, margins


def _compared(name, got, prediction, part=np.real, limit=lambda name: inf):
    """(mismatches, margins) of a result. The full bound is not tried if NaN or inf is wrong, or above the limit."""
    for kind, allowed in zip(BOUNDS, prediction.bounds(name, part), strict=True):
        expected, ignore = part(prediction.exact[name]), prediction.garbage[name]
        is_zero = kind == BOUNDS[0] or prediction.is_zero(name, part)
        is_zero &= part is np.real or np.real(prediction.exact[name]) == 0
        mismatch, ratio = comparison.compare_arrays(name, expected, got, allowed, ignore, is_zero)
        if mismatch is None:
            return [], [(kind, ratio)]
        if mismatch.error is None or not isfinite(mismatch.expected - mismatch.got):
            break
        if kind == BOUNDS[0] and mismatch.error > _FAR * mismatch.bound and mismatch.error > limit(name):
            break
    return [mismatch], []


def _tangents(case, observation, prediction):
    """(mismatches, margins, the reason if tangents are left out or None)"""
    found, margins = [], []
    if reason := _undefined_gradient(prediction):
        return [], [], reason
    if prediction.computation.may_be_nan and any(np.isnan(array).any() for array in observation.tangents.values()):
        return [], [], left_out.MAY_BE_NAN
    if set(prediction.exact) != set(observation.tangents):
        found.append(Mismatch("tangents", sorted(prediction.exact), sorted(observation.tangents), kind=RESULTS))
    for name, got in observation.tangents.items():
        is_nan = np.isnan(prediction.exact[name].real)  # torch's tangent of a NaN depends on multiplications by NaN
        known = np.where(is_nan, derivative(prediction.exact[name]), got)
        more, its_margins = _compared(name, known, prediction, derivative)
        found += [replace(mismatch, what=f"tangent of {name}") for mismatch in more]
        margins += its_margins
    return found, margins, None


def _undefined_gradient(prediction):
    if prediction.is_steep:
        return left_out.STEEP
    return next(iter(prediction.computation.undefined), prediction.computation.undefined_gradient)


def _gradients(case, observation, prediction, counts):
    """(mismatches, margins, the reason if gradients are left out or None)"""
    got = {name: array for name, array in observation.gradients.items() if array is not None}
    if reason := _undefined_gradient(prediction):
        return [], [], reason
    if prediction.computation.may_be_nan and any(np.isnan(array).any() for array in got.values()):
        return [], [], left_out.MAY_BE_NAN
    has_nan = any(np.isnan(array).any() for array in prediction.exact.values())
    if has_nan and case.mode == "func_jacrev":  # it multiplies whole rows of NaN by 0
        return [], [], left_out.JACOBIAN
    has_nothing = not any(array.size for array in prediction.exact.values())
    if has_nan or has_nothing or case.nonfinite:
        found = [mismatch for name in got for mismatch in _nan_in_gradient(name, got[name], prediction)]
        if found:
            return found, [], None
        still = {name: np.isnan(prediction.gradients[name]) for name in got}
        if any(array.any() for array in still.values()):  # otherwise the prediction is unchanged
            got = {name: np.where(still[name], 0, array) for name, array in got.items()}
            prediction = replace(prediction, still=still)
    found, margins = _contraction(case, got, prediction, has_nan)
    if BY_ID[case.mode].is_second_order and not found:
        found, more = _second_gradients(case, observation, prediction, has_nan, counts)
        margins = margins + more
    if not (found or prediction.deviations or has_nan):
        found = list(_leaks(case, observation))
    return found, margins, None


def _second_gradients(case, observation, prediction, has_nan, counts):
    """(mismatches, margins) of second gradients. Adds their number to `counts`."""
    predicted = None if has_nan else prediction.second_order
    is_known = predicted is not None and predicted.is_known
    counts[left_out.COMPARED if is_known else left_out.SECOND, "gradients"] += len(directions(case))
    return predicted.compared(observation.second_gradients, BOUNDS) if is_known else ([], [])


def _nan_in_gradient(name, got, prediction):
    """The first element that is NaN in only one of the observed and the predicted gradient, as a mismatch."""
    expected = prediction.gradients[name]
    differs = np.argwhere(np.isnan(expected) != np.isnan(got))
    if len(differs):
        where = tuple(map(int, differs[0]))
        numbers = float(expected[where]), float(got[where])
        yield Mismatch(f"gradient of {name}", *numbers, where, kind=GRADIENT, of=(name,))


def _contraction(case, gradients, prediction, has_nan):
    """(mismatches, margins) of the directional derivative: the sum of all gradients times their directions.

    If deviations make garbage visible, as they may where results are NaN, the bound allows for scores as large.
    """
    got, spread = comparison.contraction(gradients, directions(case))
    is_predicted = not (prediction.deviations or has_nan or case.nonfinite)
    if is_predicted and spread > 2 * _size_of_slopes(prediction):  # a wrong gradient must not widen its own bound
        spread = min(spread, comparison.contraction(prediction.gradients, directions(case))[1])
    return _slope_compared(case, got, spread, prediction, has_nan)


def _size_of_slopes(prediction, spread=0.0):
    """The norm of the summands of a directional derivative, and of the results, since derivatives may cancel.

    spread: the norm of the products of gradients and directions.
    """
    of_results = (norm(weighted(prediction.cotangents, prediction.exact, part)) for part in (derivative, np.real))
    return np.linalg.norm([*of_results, spread])


def _slope_compared(case, got, spread, prediction, has_nan):
    """(mismatches, margins) of a directional derivative. spread: see _size_of_slopes."""
    terms = comparison.terms(case)
    if (has_nan and case.garbage) or prediction.shows_garbage:
        terms *= (1 + GARBAGE[computed_in(case)] / 8) ** 2
    weights = prediction.cotangents
    slopes = weighted(weights, prediction.exact, derivative)
    expected = slopes.sum()
    size = _size_of_slopes(prediction, spread)
    errors = (
        lambda: 0.0,
        lambda: max(norm(weighted(weights, its, derivative) - slopes) for its in prediction.rough),
    )
    for kind, error in zip(BOUNDS, errors, strict=True):
        allowed = comparison.bound_of_gradient(error(), size, coarsest(case), terms)
        mismatch, ratio = comparison.compare_numbers(GRADIENT, expected, got, allowed)
        if mismatch is None:
            return [], [(kind, ratio)]
    return [mismatch], []


def _named(mismatches, observation, prediction):
    """The mismatches; one of the directional derivative gets the names of the arguments with wrong gradients.

    The reference is differentiated for one argument after the other to find them.
    """
    for mismatch in mismatches:
        if mismatch.kind == GRADIENT and mismatch.where is None:
            of = directions(prediction.case)
            wrong = [name for name in of if _gradient_is_wrong(observation, prediction, name, mismatch.bound)]
            what = f"gradient of {', '.join(wrong or of)}, in the drawn direction"
            mismatch = replace(mismatch, what=what, of=tuple(wrong or of))
        yield mismatch


def _gradient_is_wrong(observation, prediction, name, allowed):
    """True if the gradient of this argument, times its direction, is off by more than `allowed`."""
    case = prediction.case
    results = present(case, predict(case, prediction.deviations, displace=(name,), kept=prediction.kept)())
    expected = weighted(prediction.cotangents, results, derivative).sum()
    got, _ = comparison.contraction(observation.gradients, {name: directions(case)[name]})
    return not abs(expected - got) <= allowed


def _leaks(case, observation):
    """Mismatches at hidden keys with a nonzero gradient (clause 5); keys that are also queries may have one."""
    for source, positions in ignored(case).items():
        for name in {"key": ("key", "value"), "query": ("value",), "memory": ("memory",)}.get(source, ()):
            gradient = observation.gradients.get(name)
            if gradient is None:
                continue
            if gradient[positions].any():
                where = tuple(map(int, np.argwhere(np.where(positions[..., None], gradient, 0))[0]))
                what = f"gradient of {name} at a hidden position"
                yield Mismatch(what, 0.0, float(gradient[where]), where, kind=LEAK, of=(name,))
