"""Compares a call with the reference on its actual numbers, and names the entries of the ledger that explain it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from packaging.version import Version

from tests.harness.cases.case import Case, MultiHead, ScaledDotProduct, Transformer, drops
from tests.harness.contents.given import GivenContents
from tests.harness.contents.results import present
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.ledger import ENTRIES, Applied, applying
from tests.harness.deviations.refusals import refusal
from tests.harness.execution.release import Release
from tests.harness.execution.runner import Observation
from tests.harness.expectation.specification import Computation
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.verdict import DEVIATES, FAILS, judge

from .calls import FLEX, MULTI_HEAD, Made
from .describe import described
from .flex import described_flex
from .inexpressible import Inexpressible, Unfit
from .mistakes import mistakes_of
from .modules import parts_of_module
from .rounding import is_decided_by_rounding, overflows
from .watch import unwritten

AS_SPECIFIED, KNOWN, UNKNOWN = "as specified", "differs, known", "differs, unknown"
NOT_COMPARED, REFUSED = "not compared", "raises as documented"
GRAVITY = (UNKNOWN, KNOWN, NOT_COMPARED, REFUSED, AS_SPECIFIED)  # the gravest first

_LONGEST_ERROR = 300  # characters
MOST_SCORES = 2**24  # scores of an attention that the reference computes at once, in float64 with several copies


@dataclass(frozen=True)
class Outcome:
    """The judgement on one call."""

    verdict: str  # one of GRAVITY
    reason: str = ""  # why it was not compared, or the error
    entries: tuple[str, ...] = ()  # ids of the entries that explain a difference
    remedies: tuple[str, ...] = ()  # those that hold for the call in this release, in words
    mismatches: tuple[Mismatch, ...] = ()  # with the specification
    size: float = 0.0  # the largest difference of a finite element
    unfit: str = ""  # the argument of a shape or dtype that no rule allows, and that torch accepts, in words
    case: Case | None = None
    observation: Observation = field(default_factory=Observation)
    samples: tuple[int, int] | None = None  # (compared, all), if only the first samples were compared


_ENDED = "a hook, a compiler or a lack of memory ended it"
DECIDED_BY_ROUNDING = Outcome(NOT_COMPARED, "its scores are so large that rounding decides its result")


def compared(made: Made) -> Outcome:
    """The judgement on a call."""
    try:
        return _compared(made)
    except Inexpressible as reason:
        return Outcome(NOT_COMPARED, f"{reason}; it raised {_error(made)}" if made.error else str(reason))
    except Unfit as reason:
        if made.error is not None:
            return Outcome(REFUSED, f"{reason}: {_error(made)}")
        return Outcome(NOT_COMPARED, f"{reason}, which torch accepts", unfit=str(reason))


def obstacle(made: Made) -> str:
    """A reason, known when a call begins, why it cannot be compared; empty if there is none."""
    if made.function == MULTI_HEAD and made.arguments["query"].ndim not in (2, 3):
        return "its query has neither two nor three dimensions"
    try:
        _require_comparable(made)
    except (Inexpressible, Unfit) as reason:
        return str(reason)
    return ""


def _require_comparable(made):
    if made.module is not None:
        parts = parts_of_module(made.module)
        if made.module.training and parts.config.get("dropout", 0.0) > 0:
            raise Inexpressible("dropout in training")
    elif made.arguments.get("dropout_p", 0.0) > 0 and made.arguments.get("training", True):
        raise Inexpressible("dropout")
    _require_full_precision(made)


def _require_full_precision(made):
    """Raise Inexpressible if torch may round float32 products to a lower precision."""
    lowered = torch.get_float32_matmul_precision() if hasattr(torch, "get_float32_matmul_precision") else "highest"
    is_float32 = any(tensor.dtype is torch.float32 for tensor in made.tensors.values())
    if is_float32 and lowered != "highest" and (made.device.type != "cpu" or lowered == "medium"):
        raise Inexpressible(f"torch.get_float32_matmul_precision() is {lowered!r}")


def _compared(made):
    _require_comparable(made)
    if _is_ended_from_outside(made) and made.compiled is None:  # a compiler wraps the errors of torch in its own
        raise Inexpressible(_ENDED)
    if not unwritten(made):
        raise Inexpressible("its inputs were overwritten before it returned")
    case, observation, samples = _described(made)
    release = Release(Version(torch.__version__), str(made.device))
    plain = judge(case, observation)
    outcome = Outcome(AS_SPECIFIED, case=case, observation=observation, samples=samples)
    if plain.status != FAILS:
        return outcome
    refused = refusal(Call(case, release, observation.served))
    if refused and not any(refused.mismatches(observation)):
        return replace(outcome, verdict=REFUSED, reason=f"{refused.source}: {_error(made)}")
    if _is_ended_from_outside(made):
        raise Inexpressible(_ENDED)
    size = _difference(case, observation)
    outcome = replace(outcome, verdict=UNKNOWN, mismatches=plain.mismatches, size=size)
    ids = _explanation(case, observation, release, samples)
    if not ids and made.compiled is not None:  # TorchDynamo gives up recompiling at a limit, and calls it uncompiled
        ids = _explanation(replace(case, mode="eager"), observation, release, samples)
    if ids:
        return replace(outcome, verdict=KNOWN, entries=ids, remedies=tuple(_remedies(ids, case, release)))
    if any(its.id == "false-hint" for its in mistakes_of(made)):
        return Outcome(NOT_COMPARED, "its hint is_causal=True is false, and no rule says the result")
    if made.error is not None:
        return replace(outcome, reason=_error(made))
    if overflows(case):
        return Outcome(NOT_COMPARED, f"numbers on the way to its result overflow {case.dtype}")
    return DECIDED_BY_ROUNDING if is_decided_by_rounding(case, observation) else outcome


def _is_ended_from_outside(made):
    """True if a hook, a compiler or a lack of memory ended the call."""
    return made.error is not None and type(made.error).__module__ != "builtins"


def _described(made):
    """(case, observation, (compared samples, all samples) or None)"""
    if made.function != FLEX:
        return _first_samples(*described(made))
    case, observation = described_flex(made, MOST_SCORES)
    samples = case.batch[0], made.arguments["query"].shape[0]
    return case, observation, None if samples[0] == samples[1] else samples


def _error(made):
    """The error in one line. Errors of compilers print all arguments of the call."""
    line = " ".join(f"{type(made.error).__name__}: {made.error}".split())
    return line if len(line) <= _LONGEST_ERROR else f"{line[:_LONGEST_ERROR]}..."


# ---- the ledger ----------------------------------------------------------------------------------------------------


def _without_warnings(computation: Computation) -> Computation:
    return replace(computation, warnings=())


_SILENT = Applied("", _without_warnings)  # the program sees the warnings; the doctor looks at results


def _explanation(case, observation, release, samples) -> tuple[str, ...]:
    """The ids of the entries that predict the result; empty if none do."""
    call = Call(case, release, observation.served)
    entries = [entry for entry in ENTRIES if entry.concerns(release) and entry.stage != "backward"]
    applied = applying(call, entries)
    if not _explains(case, observation, applied):
        return ()
    for one in applied:  # without the entries that change nothing here
        others = tuple(other for other in applied if other is not one)
        if others and _explains(case, observation, others):
            applied = others
    return tuple(one.id for one in applied)


def _explains(case, observation, applied: Sequence[Applied]) -> bool:
    return bool(applied) and judge(case, observation, (*applied, _SILENT)).status == DEVIATES


def _remedies(ids, case, release):
    """The remedies that hold for the call in this release, each as a sentence with its cost."""
    for id in ids:
        entry = entry_of(id)
        if entry.no_remedy:
            yield f"{entry.no_remedy} (no remedy of {id})"
        for remedy in entry.remedies:
            if remedy.holds_in(release.version) and remedy.applied(case, release.version) is not None:
                yield remedy.text + (f" Cost: {remedy.cost}." if remedy.cost else "")


def entry_of(id: str) -> Deviation:
    """The entry with this id."""
    return next(entry for entry in ENTRIES if entry.id == id)


# ---- large calls ---------------------------------------------------------------------------------------------------


def _first_samples(case, observation):
    """(case, observation, None), or the part of the first samples if all scores together are too many."""
    per_sample, samples = _scores_of_a_sample(case)
    if per_sample * samples <= MOST_SCORES:
        return case, observation, None
    kept = int(MOST_SCORES // max(per_sample, 1))
    if kept == 0:
        raise Inexpressible(f"it has {per_sample:,} scores in one sample, more than {MOST_SCORES:,}")
    return (*_cut(case, observation, kept), (kept, samples))


def _scores_of_a_sample(case):
    """(scores of the largest attention in one sample, number of samples)"""
    if isinstance(case, ScaledDotProduct):
        samples = case.batch[0] if case.batch else 1
        return int(np.prod(case.batch[1:])) * case.L * case.S, samples
    if isinstance(case, MultiHead):
        return case.num_heads * case.L * case.S, case.N
    assert isinstance(case, Transformer)
    return case.num_heads * max(case.S, case.T) ** 2, case.N


def _cut(case, observation, kept):
    """The case and the observation of the first samples."""
    seed = case.seed
    assert isinstance(seed, GivenContents)
    is_sdpa = isinstance(case, ScaledDotProduct)

    def cut_input(name, array):
        return array[: kept * case.num_heads] if name.startswith("static") else array[:kept]

    def cut_mask(name, array):
        if is_sdpa:
            is_batched = array.ndim == len(case.batch) + 2 and array.shape[0] > 1
            return array[:kept] if is_batched else array
        if name.endswith("key_padding_mask"):
            return array[:kept]
        return array[: kept * case.num_heads] if array.ndim == 3 else array

    contents = GivenContents(
        {name: cut_input(name, array) for name, array in seed.inputs.items()},
        {name: cut_mask(name, array) for name, array in seed.masks.items()},
        seed.parameters,
        seed.trained,
    )
    fields = {"batch": (kept, *case.batch[1:])} if is_sdpa else {"N": kept}
    if is_sdpa and len(case.mask_batch) == len(case.batch) and case.mask_batch[0] > 1:
        fields["mask_batch"] = (kept, *case.mask_batch[1:])
    axis = 0 if is_sdpa or (case.batch_first and not case.functional) else 1
    outputs = {
        name: array.take(range(kept), axis=axis if name == "output" else 0)
        for name, array in observation.outputs.items()
    }
    return replace(case, seed=contents, **fields), replace(observation, outputs=outputs)


def _difference(case, observation):
    """The largest difference of finite elements from the specification."""
    if observation.error or drops(case):
        return 0.0
    expected = present(case, predict(case)())
    largest = 0.0
    for name in set(expected) & set(observation.outputs):
        got, right = observation.outputs[name], expected[name]
        if got.shape == right.shape:
            both = np.isfinite(got) & np.isfinite(right)
            largest = max(largest, float(np.max(np.abs(got - right), where=both, initial=0.0)))
    return largest
