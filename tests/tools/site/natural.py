"""The example of an entry: by hand, or made of the pinned case.

A made example ends with the observation that tells: the shape of the output or an error, NaN, a dtype, a warning. The
texts to expect are those of the model of an affected release and of the specification.
"""

import re
from functools import cache

import numpy as np
from packaging.version import Version

from tests.harness.cases.case import UNRECORDED
from tests.harness.contents.arrays import directions
from tests.harness.contents.results import as_given
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.kernels import kernels
from tests.harness.deviations.prediction import concerning
from tests.harness.deviations.remedies import Remedy
from tests.harness.execution.setting import Setting
from tests.harness.expectation.specification import Computation, specification
from tests.harness.judgement.prediction import predict

from .example import Example
from .examples import EXAMPLES
from .natural_call import NaturalCall, Unnatural
from .natural_case import affected, lifelike, shows


@cache
def example_of(entry: Deviation) -> Example | None:
    """The example of an entry of the ledger: by hand, or made. None if it can only be shown at length."""
    if entry.id in EXAMPLES:
        return EXAMPLES[entry.id]
    try:
        return _made(entry, lifelike(entry))
    except Unnatural:
        return None


def remedied(entry: Deviation, remedy: Remedy, version: Version) -> Example | None:
    """The made example with a remedy, in a release in which it helps. None if the example is by hand, or too long."""
    case = lifelike(entry)
    changed = None if entry.id in EXAMPLES or remedy.upgrade else remedy.applied(case, version)
    try:
        return None if changed is None else _made(entry, case, changed, version)
    except Unnatural:
        return None


def _made(entry, case, written=None, version=None):
    """The example of a case that shows the entry. written: the case whose call is written instead: with a remedy."""
    release = affected(entry)
    call = NaturalCall(written or case, Setting(entry.devices[0]), version or (release and release.version))
    if release is None or not shows(entry, case, release):  # the call is shown, not what it prints
        return Example("\n".join(call.lines), "", "")
    model = predict(case, ledger.applying(Call(case, release, kernels(case, release)), concerning(release)))
    look, comes, should = _observation(entry, case, model, written or case)
    backward = ["output.sum().backward()"] * (bool(directions(case)) and case.autograd not in UNRECORDED[:2])
    return Example("\n".join((*call.lines, *backward, look)), comes, should)


def _observation(entry, case, model: Computation, written):
    """(the last statement, the text that it prints in an affected release, and that of the written call)"""
    plain, right = specification(case), specification(written)
    if model.error and entry.stage == "backward":
        return 'print("backward is done")', _error(model), "backward is done"
    if model.error:
        shape = as_given(written, "query", right()["output"]).shape
        return "print(tuple(output.shape))", _error(model), str(shape)
    if model.lost:
        told = "weights are returned:"
        return f'print("{told}", weights is not None)', f"{told} False", f"{told} True"
    if len(model.warnings) > len(plain.warnings):
        return 'print("no warning")', f"Warning: {_plain(model.warnings[-1])}", "no warning"
    if model.dtype != plain.dtype:
        return "print(output.dtype)", f"torch.{model.dtype}", f"torch.{right.dtype}"
    if _has_nan(model) != _has_nan(plain):
        told = "NaN in the output:"
        look = f'print("{told}", output.isnan().any().item())'
        return look, f"{told} {_has_nan(model)}", f"{told} {_has_nan(right)}"
    raise Unnatural("only the numbers differ")


def _has_nan(computation):
    return bool(np.isnan(computation()["output"]).any())


def _error(model):
    type_name, message = model.error
    return f"{type_name}: {_plain(message)}"


def _plain(pattern):
    """The beginning of a regular expression, as far as it means itself; empty if there are alternatives."""
    plain = re.match(r"(?:\.(?![*+?])|[\w ,'`:=-]|\\[.()\[\]])*", pattern)
    return plain[0].replace("\\", "").strip() if plain and "|" not in pattern else ""
