"""Generated calls that show an entry of the ledger: its pinned case with some fields taken from generated cases."""

import random
from dataclasses import fields, replace
from functools import cache
from time import process_time

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.harness.cases.case import OF_ONE_LENGTH, MultiHead, ScaledDotProduct, masks_of
from tests.harness.cases.simpler import is_valid
from tests.harness.contents.packing import packs
from tests.harness.deviations import ledger, refusals
from tests.harness.deviations.call import Call
from tests.harness.deviations.facts import backward_pass
from tests.harness.execution.runner import is_withheld, observe
from tests.harness.judgement import verdict
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.verdict import CONFORMS, DEVIATES
from tests.harness.measurement import checking
from tests.harness.modes.modes import BY_ID
from tests.harness.strategies.by_mode import adapted, suits
from tests.harness.strategies.modules import cases_of

POOL, TRIES = 150, 3000

# Fields that are exchanged together, and fields that are never exchanged (_WAYS).
_SIZES = {"batch", "mask_batch", "broadcast", "L", "S", "D", "Dv", "kv_heads", "N", "T"}
_HEADS = {"num_heads", "head_dim", "kdim", "vdim"}
_WAYS = {"mode", "module", "only", "static", "functional", "nan_query"}


@cache
def pool(release, module, of):
    """Generated calls of the module in eager mode, half of them in inference. of: the seed."""
    cases = []
    for inference in (False, True):

        @seed(f"{of} {module}")
        @settings(
            max_examples=POOL,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases_of(release, module, inference))
        def collect(case):
            cases.append(case)

        collect()
    return cases


def grafts(entry, release, of=0):
    """Yields, without end, copies of the pinned case with some fields of a generated case. of: the seed."""
    rng = random.Random(f"{of} {entry.id}")
    scions = pool(release, entry.pinned.module, of)
    names = [field.name for field in fields(entry.pinned) if field.name not in _WAYS | _SIZES | _HEADS]
    groups = [[name] for name in names] + [sorted(_SIZES & vars(entry.pinned).keys())]
    groups += [[name] for name in names if name.endswith("mask")] * 3
    groups += [sorted(_HEADS & vars(entry.pinned).keys())] * bool(entry.pinned.attention)
    while True:
        scion, chosen = rng.choice(scions), rng.sample(groups, rng.randint(1, 5))
        case = replace(entry.pinned, **{name: getattr(scion, name) for group in chosen for name in group})
        case = replace(case, seed=rng.randrange(2**16))
        if masks_of(case).keys() >= masks_of(entry.pinned).keys() and is_sound(case, release):
            yield case


def is_sound(case, release):
    """True if the case can be called on this release, and no field contradicts another."""
    mode = BY_ID[case.mode]
    if adapted(case, mode) != case or not suits(case, mode) or not release.offers(case) or not is_valid(case):
        return False
    if not case.attends:
        return True
    if isinstance(case, ScaledDotProduct):
        return _is_sound_alone(case)
    if case.is_flex:
        return _is_sound_flex(case)
    if not case.batched and case.N != 1:
        return False
    if isinstance(case, MultiHead):
        is_alike = case.attention in OF_ONE_LENGTH
        has_sizes = case.attention == "distinct" or (case.kdim == case.vdim and not (is_alike and case.kdim))
        is_hinted = not case.is_causal or (case.attn_mask is not None and case.attn_mask.pattern == "causal")
        return (not is_alike or case.L == case.S) and has_sizes and is_hinted
    hints = ((getattr(case, case.hint(name)), getattr(case, f"{name}_mask")) for name in ("src", "tgt", "memory"))
    return all(not hint or (mask is not None and mask.pattern == "causal") for hint, mask in hints)


def _is_sound_alone(case):
    mask = case.attn_mask
    if case.is_causal and mask is not None:
        return False
    if mask is None and (case.mask_batch or case.broadcast):
        return False
    if packs(case) and case.mask_batch and (set(case.mask_batch[1:]) - {1} or case.broadcast != "L"):
        return False  # a mask of samples is their padding
    return not (mask and (mask.over_heads or mask.over_samples) and len(case.mask_batch) < 2)


def _is_sound_flex(case):
    """True if masks have the shape of the batch, and no function reads a mask without elements."""
    if any(size not in (1, whole) for size, whole in zip(case.mask_batch, case.batch, strict=True)):
        return False
    reads = case.added_mask is not None or (case.has_mask_mod and not case.compares_positions)
    return not ((reads or case.has_lists) and 0 in (*case.batch, *case.lengths))


def shown(case, run):
    """Ids of the entries that the call shows; empty if the outcome is not as the ledger predicts."""
    observation = observe(case, run.device)
    if is_withheld(observation):
        return ()
    call = Call(case, run.release, observation.served)
    if refusals.refusal(call):
        return ()
    verdict = _judged(call, observation, ledger.applying(call, run.entries))
    return verdict.deviations if verdict.status == DEVIATES else ()


def _judged(call, observation, deviations):
    its = backward_pass(call.case, call.release)
    return verdict.judge(call.case, observation, deviations, checking.announces(call), its)


def asked(entry, remedies, run, number, seconds, of=0):
    """{position of a remedy: calls that show the entry and that the remedy changes}.

    The calls are the pinned case and up to `number` generated ones. Calls that also show an entry that the pinned case
    does not show are left out, because the remedy is not meant for that entry.
    """
    alike, version = set(shown(entry.pinned, run)), run.release.version
    assert entry.id in alike, f"{entry.id} is not shown by its pinned case"
    found = {
        place: [entry.pinned] * (remedy.applied(entry.pinned, version) is not None)
        for place, remedy in enumerate(remedies)
    }
    full = {place: number + len(cases) for place, cases in found.items()}
    start, seen = process_time(), {entry.pinned}
    for tried, case in enumerate(grafts(entry, run.release, of)):
        open_ones = [place for place in found if len(found[place]) < full[place]]
        if not open_ones or tried > TRIES or process_time() - start > seconds:
            break
        taking = [
            place for place in open_ones if case not in seen and remedies[place].applied(case, version) is not None
        ]
        seen.add(case)
        if taking and entry.id in (ids := _shown_if_possible(case, run)) and ids <= alike:
            for place in taking:
                found[place].append(case)
    return found


def _shown_if_possible(case, run):
    try:
        return set(shown(case, run))
    except Exception:  # a case with exchanged fields can fail in any way
        return set()


def outcome(case, run):
    """None if the call conforms to the specification, else a description of its result."""
    if not run.release.offers(case):
        return "this release cannot make the call"
    observation = observe(case, run.device)
    verdict = _judged(Call(case, run.release), observation, ())
    known = ledger.applying(Call(case, run.release, observation.served), run.entries)
    model = predict(case, known)
    if verdict.status == CONFORMS and not (model.undefined or model.may_be_nan or model.undefined_gradient):
        return None
    ids = ", ".join(entry.id for entry in known) or "no entry of the ledger"
    return f"{'; '.join(mismatch.what for mismatch in verdict.mismatches)} ({ids} applies): {observation.error}"
