"""The model of CUDA agrees with recorded calls on an H100 with torch 2.11; these tests need no GPU."""

import json
import lzma
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from packaging.version import Version
from torch._subclasses import FakeTensorMode

from tests.harness.contents.packing import packs
from tests.harness.deviations import cuda, cuda_modules, ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.refusals import refusal
from tests.harness.execution import dangers
from tests.harness.execution.release import Release
from tests.harness.execution.runner import Observation
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.parsing import parse

SEEN = Path(__file__).parent / "seen" / "cuda_2.11.jsonl.xz"
RELEASE = Release(Version("2.11.0"), "cuda")
ENTRIES = tuple(entry for entry in ledger.ENTRIES if entry.concerns(RELEASE))
OF_CUDA = (*cuda.ENTRIES, *cuda_modules.ENTRIES)
REFUSED = "refused"


@cache
def seen():
    """(case, Observation) of each recorded call whose contents are drawn as then: those of expanded inputs are not."""
    lines = lzma.decompress(SEEN.read_bytes()).decode().splitlines()
    calls = [(parse(line["case"]), _observation(line)) for line in map(json.loads, lines)]
    return [(case, observation) for case, observation in calls if case.layout != "expanded"]


def _observation(line):
    arrays = {
        kind: {name: None if array is None else _array(array) for name, array in line[kind].items()}
        for kind in ("outputs", "gradients", "tangents")
    }
    tuples = {name: tuple(line[name]) for name in ("warnings", "served", "mutated")}
    error = line["error"] and tuple(line["error"])
    return Observation(**arrays, **tuples, dtypes=line["dtypes"], error=error)


def _array(plain):
    numbers = [np.nan if number is None else float(number) for number in plain["values"]]
    return np.array(numbers, plain["dtype"]).reshape(plain["shape"])


def judged(case, observation, entries=ENTRIES):
    """(status, ids of the deviations)"""
    call = Call(case, RELEASE, observation.served)
    if refused := refusal(call):
        return (FAILS if list(refused.mismatches(observation)) else REFUSED), ()
    verdict = judge(case, observation, ledger.applying(call, entries), BY_ID[case.mode].is_watched)
    return verdict.status, verdict.deviations


@cache
def judgements():
    return [judged(case, observation) for case, observation in seen()]


def is_of_another_loss(case, observation):
    """True if gradients were recorded of another loss than today's, as it included NaN."""
    return bool(observation.gradients) and any(np.isnan(array).any() for array in observation.outputs.values())


def test_what_was_seen_is_what_the_model_says():
    wrong = [call for call, (status, _) in zip(seen(), judgements(), strict=True) if status == FAILS]
    assert [case for case, observation in wrong if not is_of_another_loss(case, observation)] == []
    assert len(wrong) == 4  # should be 0 once the calls are recorded again
    assert Counter(status for status, _ in judgements()).keys() == {CONFORMS, DEVIATES, REFUSED, FAILS}


def test_each_deviation_of_cuda_was_seen_and_nothing_else_predicts_it():
    shown = Counter(id for status, ids in judgements() if status == DEVIATES for id in ids)
    for entry in OF_CUDA:
        if entry.ends or not shown[entry.id]:
            continue
        others = tuple(other for other in ENTRIES if other is not entry)
        without = [
            judged(case, observation, others)[0]
            for (case, observation), (status, ids) in zip(seen(), judgements(), strict=True)
            if status == DEVIATES and entry.id in ids
        ]
        assert FAILS in without, entry.id
    unseen = {entry.id for entry in OF_CUDA if not entry.ends and not shown[entry.id]}
    assert unseen <= {"native-mha-no-sample", "cudnn-no-sample"}  # shown by the committed record of a run


def test_a_number_that_is_off_is_noticed():
    """Calls with garbage, padding or undefined numbers in their outputs are left out, since these may differ."""
    noticed = Counter()
    for (case, observation), (status, ids) in zip(seen()[::3], judgements()[::3], strict=True):
        output = observation.outputs.get("output")
        may_differ = case.garbage or packs(case) or _UNDEFINED.intersection(ids)
        is_plain = status in (CONFORMS, DEVIATES) and not may_differ
        if is_plain and output is not None and output.size and np.isfinite(output).all():
            changed = output + (np.arange(output.size) == 0).reshape(output.shape) * 4.0
            moved = replace(observation, outputs=observation.outputs | {"output": changed})
            noticed[status, judged(case, moved)[0] == FAILS] += 1
    assert noticed[CONFORMS, True] > 30
    assert noticed[DEVIATES, True] > 30
    assert noticed[CONFORMS, False] == noticed[DEVIATES, False] == 0


_UNDEFINED = {"efficient-lower-right", "fused-scale-not-positive"}


# ---- dangerous calls -----------------------------------------------------------------------------------------------


def withheld(path, *shapes, mask=None, learned=False, dtype=torch.float16, device="cuda"):
    """The id of the danger that prevents a call with these shapes, made with fake tensors; None if there is none."""
    with FakeTensorMode():
        tensors = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
        more = {} if mask is None else {"attn_mask": torch.empty(mask, dtype=dtype, device=device)}
        for tensor in more.values():
            tensor.requires_grad_(learned)
        try:
            dangers.withhold(path, *tensors, **more)
        except dangers.Withheld as reason:
            return str(reason)
    return None


QUERY, KEY = (1, 1, 5, 64), (1, 1, 8, 64)


def test_a_mask_of_one_element_for_all_keys_is_kept_from_cudnn():
    assert withheld("sdpa_cudnn", QUERY, KEY, KEY, mask=(5, 1)) == "cudnn-mask-one-key"
    assert withheld("sdpa_cudnn", QUERY, KEY, KEY, mask=(5, 8)) is None
    assert withheld("sdpa_cudnn", QUERY, KEY, KEY) is None
    assert withheld("sdpa_efficient", QUERY, KEY, KEY, mask=(5, 1)) is None
    assert withheld("sdpa_cudnn", QUERY, KEY, KEY, mask=(5, 1), device="cpu") is None


def test_a_mask_of_one_head_is_not_learned_alone():
    assert withheld("sdpa_efficient", QUERY, KEY, KEY, mask=(5, 8), learned=True) == "efficient-mask-alone-one-head"
    assert withheld("sdpa_efficient", QUERY, KEY, KEY, mask=(5, 8)) is None
    assert withheld("sdpa_math", QUERY, KEY, KEY, mask=(5, 8), learned=True) is None
    several = [(1, 2, *shape[2:]) for shape in (QUERY, KEY, KEY)]
    assert withheld("sdpa_efficient", *several, mask=(5, 8), learned=True) is None


def test_no_sample_is_packed_fast():
    assert withheld("nested", (0, 2, 4), (0, 2), dtype=torch.float32) == "nested-no-sample-segfault"
    assert withheld("nested", (1, 2, 4), (1, 2), dtype=torch.float32) is None
    assert withheld("nested", (0, 2, 4), (0, 2), dtype=torch.float64) is None


def test_no_heads_are_kept_from_the_kernel_that_divides_by_them(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.0")
    without = [(2, 0, *shape[2:]) for shape in (QUERY, KEY, KEY)]
    assert withheld("sdpa_flash", *without, device="cpu") == "flash-no-heads"
    assert withheld("sdpa_math", *without, device="cpu") is None
    assert withheld("sdpa_flash", QUERY, KEY, KEY, device="cpu") is None
    monkeypatch.setattr(torch, "__version__", "2.12.1")
    assert withheld("sdpa_flash", *without, device="cpu") is None


def test_what_is_withheld_is_an_entry_of_its_own():
    ending = {entry.id for entry in ledger.ENTRIES if entry.ends}
    assert ending == {id for id, *_ in dangers.DANGERS}
