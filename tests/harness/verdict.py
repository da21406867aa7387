"""The judgement on one case: what was observed, against the specification or the model of the release."""

import re
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from reference.derivative import derivative

from . import comparison
from .arrays import coarsest, directions, ignored, inputs
from .behaviours import multiplied
from .cases import Case, mixes_types
from .comparison import Mismatch
from .dropping import UnlikeDropout, dropping, drops
from .modes import BY_ID, computed_in
from .precision import LOW
from .results import cotangents, garbage_rows, present
from .specification import specification

CONFORMS, DEVIATES, FAILS = "conforms", "deviates as predicted", "fails"
NOT_APPLICABLE = "not applicable"  # of what is measured in the place of torch: it declined the call

BOUNDS = ("plain", "full")  # see comparison.py: the second is computed where the first does not do

_GRADIENT = "gradient"  # of all that has one

# Documented: "If both attn_mask and key_padding_mask are supplied, their types should match."
_MIXED_TYPES = r"Support for mismatched \w+ and \w+ is deprecated"


@dataclass(frozen=True)
class Verdict:
    """status: one of those above. margins: ("plain" or "full" bound, error / bound) of each comparison that passed.

    deviations: ids of the ledger's entries that apply; where a case deviates, of those that it shows.
    """

    status: str
    deviations: tuple[str, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    margins: tuple[tuple[str, float], ...] = ()


def judge(case, observation, deviations=(), announces=False):
    """Compare with the specification, as the deviations (ledger.Applied) change it.

    announces: whether masks of two types must be warned of; else they may.
    """
    ids = tuple(deviation.id for deviation in deviations)
    prediction = _Prediction(case, deviations, observation.kept)
    mismatches, margins = _against(case, observation, prediction)
    if announces and mixes_types(case) and not observation.error:
        mismatches = (*_missing(observation, _MIXED_TYPES), *mismatches)
    if mismatches:
        return Verdict(FAILS, ids, tuple(_named(mismatches, observation, prediction)), margins)
    if deviations and (prediction.cannot_conform or _against(case, observation, replace(prediction, deviations=()))[0]):
        return Verdict(DEVIATES, prediction.shown, (), margins)
    return Verdict(CONFORMS, ids, (), margins)


def predict(case, deviations=(), dtype="float64", displace=(), kept=()):
    """The computation of the release: the specification, changed by each deviation in turn.

    kept: what was not dropped, where the case drops (dropping.py). None: as if it dropped nothing.
    """
    computation = specification(case, dtype, displace)
    for deviation in deviations:
        computation = deviation.change(computation)
    computation = multiplied(computation) if deviations else computation
    return dropping(computation, case, kept) if drops(case) and kept is not None else computation


@dataclass(frozen=True)
class _Prediction:
    """What the deviations make of a case. Results are complex where the case differentiates: see derivative.py.

    kept: see Observation.
    """

    case: Case
    deviations: tuple = ()
    kept: tuple = ()

    def _computation(self, dtype):
        return predict(self.case, self.deviations, dtype, tuple(directions(self.case)), self.kept)

    @cached_property
    def computation(self):
        return self._computation("float64")

    @property
    def shown(self):
        """The ids of the deviations, without those that an error keeps from being seen."""
        shown, computation = (), specification(self.case)
        for deviation in self.deviations:
            changed = deviation.change(computation)
            if changed.error != computation.error:
                shown = (deviation.id,)
            elif changed.error is None:
                shown += (deviation.id,)
            computation = changed
        return shown

    @cached_property
    def exact(self):
        return self._present(self.computation)

    @cached_property
    def rough(self):
        """The same in float32 or less, and of inputs that differ in its last bit: one alone may err too little.

        They cost as much each, and are wanted only where the plain bound does not do.
        """
        dtype = computed_in(self.case)
        computation = self._computation(comparison.rough(dtype))
        moved = computation if dtype in LOW else self.computation  # a low precision errs more by what is between
        generators = (np.random.default_rng([self.case.seed, 3, step]) for step in range(3))
        size = comparison.roundoff(dtype) * (2 if dtype in LOW else 1)  # less would be rounded away
        nearby = (self._nearby(moved, rng, size) for rng in generators)
        return [self._present(its) for its in (computation, *nearby)]

    def _nearby(self, computation, rng, size):
        """The computation with its inputs moved by up to so much, relative to what they are."""
        arguments = dict(computation.arguments)
        for name in filter(arguments.__contains__, inputs(self.case)):  # in one order, or each process has other bounds
            arguments[name] = arguments[name] * (1 + size * rng.uniform(-1, 1, np.shape(arguments[name])))
        return replace(computation, arguments=arguments)

    def _present(self, computation):
        results = present(self.case, computation())
        return {name: array for name, array in results.items() if name not in computation.lost}

    @cached_property
    def garbage(self):
        ignores = self.computation.ignores_garbage
        return dict.fromkeys(self.exact) if ignores else garbage_rows(self.case, self.exact)

    @property
    def cannot_conform(self):
        """Whether it has what no specification has, so that this need not be evaluated: an error, a warning, NaN."""
        if self.computation.error or self.computation.warnings or self.computation.lost:
            return True
        return not self.case.holds_nan and any(np.isnan(array).any() for array in self.exact.values())

    def bounds(self, name, part=np.real):
        """The errors to allow, the cheap bound first (see comparison.py)."""
        exact, ignore = part(self.exact[name]), self.garbage[name]
        dtype, terms = computed_in(self.case), comparison.terms(self.case)
        moved = 0.0  # what cancels in a derivative is as large as the result
        if part is derivative:
            moved = comparison.bound(*[np.real(self.exact[name])] * 2, dtype, terms, ignore)
        yield moved + comparison.bound(exact, exact, dtype, terms, ignore)
        yield moved + max(comparison.bound(exact, part(its[name]), dtype, terms, ignore) for its in self.rough)


def bounds(case, name, part=np.real, kept=()):
    """The errors that a result may have by the specification, or its tangent, the cheap bound first.

    kept: see `predict`.
    """
    return _Prediction(case, kept=kept).bounds(name, part)


def _against(case, observation, prediction):
    """(mismatches, margins)"""
    model = prediction.computation
    found = [*_side_effects(case, observation, model), *_errors(case, observation, model)]
    if model.error or observation.error:
        return tuple(found), ()
    try:
        more, margins = _results(observation, prediction)
    except UnlikeDropout as unlike:
        return (*found, Mismatch(unlike.what, unlike.expected, unlike.got)), ()
    found += more
    if directions(case) and not found and not (model.undefined or model.undefined_gradient):
        is_forward = BY_ID[case.mode].is_forward
        more, its_margins = (_tangents if is_forward else _gradients)(case, observation, prediction)
        found, margins = found + more, margins + its_margins
    return tuple(found), tuple(margins)


def _side_effects(case, observation, model):
    for name in observation.mutated:
        yield Mismatch(f"{name} after the call", "unchanged", "changed")
    allowed = (*model.warnings, *[_MIXED_TYPES] * mixes_types(case), *filter(None, [BY_ID[case.mode].warns]))
    for message in observation.warnings:
        if not any(re.search(pattern, message) for pattern in allowed):
            yield Mismatch("warning", None, message)
    for pattern in model.warnings if model.error is None else ():  # what raises may do so before it warns
        yield from _missing(observation, pattern)


def _missing(observation, pattern):
    """A warning that was not given."""
    if not any(re.search(pattern, message) for message in observation.warnings):
        yield Mismatch("warning", pattern, None)


def _errors(case, observation, model):
    expected, got = model.error, observation.error
    if expected is None and got is None:
        return
    is_wrapped = BY_ID[case.mode].compiles  # in an error of the compiler's own
    kinds_differ = expected is None or got is None or not (is_wrapped or re.fullmatch(expected[0], got[0]))
    if kinds_differ or not re.search(expected[1], got[1]):
        yield Mismatch("error", expected and ": ".join(expected), got and ": ".join(got))


def _results(observation, prediction):
    found, margins = [], []
    expected = prediction.exact
    if set(expected) != set(observation.outputs):
        found.append(Mismatch("results", sorted(expected), sorted(observation.outputs)))
    for name in set(expected) & set(observation.outputs):
        got = observation.outputs[name]
        dtype = observation.dtypes[name]
        model = prediction.computation
        told = (name == "weights" and model.weights_dtype) or model.dtype
        if dtype != told:
            found.append(Mismatch(f"{name} dtype", told, dtype))
        if prediction.computation.undefined and got.shape == expected[name].shape:
            continue
        if prediction.computation.may_be_nan and got.shape == expected[name].shape:
            got = np.where(np.isnan(got), expected[name].real, got)
        more, its_margins = _compared(name, got, prediction)
        found, margins = found + more, margins + its_margins
    return found, margins


def _compared(name, got, prediction, part=np.real):
    for kind, allowed in zip(BOUNDS, prediction.bounds(name, part), strict=True):
        expected, ignore = part(prediction.exact[name]), prediction.garbage[name]
        # what sums up to 0 by chance does so no more if the inputs move
        is_zero = kind == BOUNDS[0] or np.all([part(its[name]) == 0 for its in prediction.rough], axis=0)
        is_zero &= part is np.real or np.real(prediction.exact[name]) == 0
        mismatch, ratio = comparison.compare_arrays(name, expected, got, allowed, ignore, is_zero)
        if mismatch is None:
            return [], [(kind, ratio)]
    return [mismatch], []


def _tangents(case, observation, prediction):
    found, margins = [], []
    if set(prediction.exact) != set(observation.tangents):
        found.append(Mismatch("tangents", sorted(prediction.exact), sorted(observation.tangents)))
    for name, got in observation.tangents.items():
        is_nan = np.isnan(prediction.exact[name].real)  # which has a derivative only where nothing is multiplied by it
        known = np.where(is_nan, derivative(prediction.exact[name]), got)
        more, its_margins = _compared(name, known, prediction, derivative)
        found += [replace(mismatch, what=f"tangent of {name}") for mismatch in more]
        margins += its_margins
    return found, margins


def _gradients(case, observation, prediction):
    got, spread = comparison.contraction(observation.gradients, directions(case))
    weights = cotangents(case, {name: array.shape for name, array in prediction.exact.items()})
    slopes = _weighted(weights, prediction.exact, derivative)
    expected = slopes.sum()
    if not slopes.size and prediction.deviations:  # of nothing it is 0, or NaN where NaN times 0 is met on the way back
        return [], []
    if np.isnan(got) and prediction.computation.may_be_nan:
        return [], []
    if np.isnan(expected):  # some result is NaN: what is left of its derivative is NaN, or cut off by a mask
        return [], []
    # what is added up: slopes, products, and where the slopes cancel, the results themselves
    size = np.linalg.norm([_norm(slopes), spread, _norm(_weighted(weights, prediction.exact, np.real))])
    errors = (
        lambda: 0.0,
        lambda: max(_norm(_weighted(weights, its, derivative) - slopes) for its in prediction.rough),
    )
    for kind, error in zip(BOUNDS, errors, strict=True):
        allowed = comparison.bound_of_gradient(error(), size, coarsest(case), comparison.terms(case))
        mismatch, ratio = comparison.compare_numbers(_GRADIENT, expected, got, allowed)
        if mismatch is None:
            return [] if prediction.deviations else list(_leaks(case, observation)), [(kind, ratio)]
    return [mismatch], []


def _named(mismatches, observation, prediction):
    """The mismatches; one of the gradient tells of which arguments it is, for which each has to be differentiated."""
    for mismatch in mismatches:
        if mismatch.what == _GRADIENT:
            of = directions(prediction.case)
            wrong = [name for name in of if _gradient_is_wrong(observation, prediction, name, mismatch.bound)]
            what = f"gradient of {', '.join(wrong or of)}, in the drawn direction"
            mismatch = replace(mismatch, what=what)
        yield mismatch


def _weighted(weights, results, part):
    with np.errstate(invalid="ignore"):
        return np.concatenate([(weights[name] * part(results[name])).ravel() for name in weights])


def _norm(array):
    return np.linalg.norm(array[np.isfinite(array)])


def _gradient_is_wrong(observation, prediction, name, allowed):
    """Whether the gradient of this one argument is."""
    case = prediction.case
    weights = cotangents(case, {name: array.shape for name, array in prediction.exact.items()})
    results = present(case, predict(case, prediction.deviations, displace=(name,), kept=prediction.kept)())
    expected = _weighted(weights, results, derivative).sum()
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
