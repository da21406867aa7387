"""Results that are decided by rounding: the reference's own result moves as far if its arguments move by one rounding.

Scores far above 1 make the softmax choose between keys whose scores differ by less than their rounding errors.
"""

from dataclasses import replace

import numpy as np

from tests.harness.cases.case import Case
from tests.harness.cases.dtypes import LOW, PRECISIONS
from tests.harness.contents.given import GivenContents
from tests.harness.contents.results import present
from tests.harness.execution.runner import Observation
from tests.harness.judgement.prediction import bounds, is_zero, predict
from tests.harness.modes.modes import computed_in

_TRIES = 8  # nearby calls that are evaluated
_FACTOR = 8.0  # a right result may be off by so many times the largest move that the tries show


def is_decided_by_rounding(case: Case, observation: Observation) -> bool:
    """True if each result is as far from the reference's as those of nearby calls are, and NaN where it is NaN."""
    if observation.error or not isinstance(case.seed, GivenContents):
        return False
    exact = present(case, predict(case)())
    if set(exact) != set(observation.outputs):
        return False
    moved = [present(case, predict(_nearby(case, seed))()) for seed in range(_TRIES)]
    return all(_is_near(case, name, exact[name], observation.outputs[name], moved) for name in exact)


def overflows(case: Case) -> bool:
    """True if numbers on the way to the result exceed the largest number of a low precision."""
    dtype = computed_in(case)
    if dtype not in LOW:
        return False
    exact, low = (present(case, predict(case, dtype=its)()) for its in ("float64", dtype))
    return any(not np.array_equal(np.isfinite(exact[name]), np.isfinite(low[name])) for name in exact)


def _is_near(case, name, exact, got, moved):
    if got.shape != exact.shape or not np.array_equal(np.isfinite(got), np.isfinite(exact)):
        return False
    with np.errstate(invalid="ignore"):
        spread = np.max([np.abs(each[name] - exact) for each in moved], axis=0, initial=0.0)
        spread = np.nan_to_num(spread, nan=0.0, posinf=0.0).max(axis=-1, keepdims=True, initial=0.0)
        error = np.nan_to_num(np.abs(got - exact), nan=0.0, posinf=0.0)
    allowed = np.where(is_zero(case, name), 0.0, _FACTOR * spread + max(bounds(case, name)))
    return bool((error <= allowed).all())


def _nearby(case, seed):
    """The case with inputs and parameters that are moved by one rounding of the dtype of its products."""
    rng, size = np.random.default_rng([seed, 6]), PRECISIONS[computed_in(case)].eps
    contents = case.seed

    def move(arrays):
        return {name: array * (1 + size * rng.uniform(-1, 1, array.shape)) for name, array in arrays.items()}

    return replace(
        case,
        seed=GivenContents(
            move(contents.inputs),
            contents.masks,
            move(contents.parameters),
            contents.trained,
            contents.blocks,
            contents.score_mod,
        ),
    )
