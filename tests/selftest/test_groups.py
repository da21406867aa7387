"""Failures that look alike are one group, and a collection of groups is bounded."""

import json
from dataclasses import replace
from math import nan

import pytest

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.runner import Observation
from tests.harness.judgement import comparison
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.groups import CRASH, KEPT, MOST, RANGE, WRONG_MASK, Collection, Group, key_of, size
from tests.harness.judgement.outcomes import ACCEPTS, RAISES
from tests.harness.judgement.report import Failure, crash, failure_of
from tests.harness.judgement.verdict import FAILS, Verdict

CASE = MultiHead(N=2, L=2, S=2, attn_mask=Mask(pattern="all"))
NAN = Mismatch("output", 0.5, nan, (0, 1, 0), 0.0, 1e-9, of=("output",))
OFF = Mismatch("output", 0.5, 0.75, (0, 1, 0), 0.25, 1e-9, of=("output",))


def failure(case=CASE, mismatch=NAN, served=("explicit",), **others):
    return failure_of(case, Observation(served=served), Verdict(FAILS, (), (mismatch,)), **others)


def raised(message):
    return Mismatch("error", None, message, kind=comparison.ERROR)


ROW = "MultiheadAttention-self-attn_mask-flat-inference"
OF_A_ROW = Failure(
    "MultiheadAttention, eval: attn_mask of shape (36,) (flat; right is (6, 6)) is accepted; expected an error that"
    " names it",
    module="MultiheadAttention",
    row=ROW,
    outcome=ACCEPTS,
)


@pytest.mark.parametrize(
    "other",
    [
        failure(replace(CASE, seed=7, N=3)),
        failure(replace(CASE, dtype="float32", layout="sliced")),
        failure(replace(CASE, attn_mask=Mask(pattern="anti_causal"), L=3)),
        failure(served=("explicit", "explicit")),
    ],
)
def test_calls_that_look_alike_are_one_group(other):
    assert key_of(other) == key_of(failure())


@pytest.mark.parametrize(
    "other",
    [
        failure(mismatch=OFF),
        failure(replace(CASE, functional=True)),
        failure(replace(CASE, mode="deepcopy")),
        failure(replace(CASE, dtype="bfloat16")),
        failure(replace(CASE, training=True)),
        failure(replace(CASE, attn_mask=Mask("float", "all"))),
        failure(replace(CASE, attn_mask=None, key_padding_mask=Mask(pattern="all"))),
        failure(served=("sdpa",)),
        failure(mismatch=replace(NAN, where=(0, 0, 0), of=("weights",), what="weights")),
        failure(mismatch=raised("RuntimeError: no")),
        replace(failure(), deviations=("empty-row-nan-explicit",)),
        crash(repr(CASE)),
        Failure("an entry is present", entry="empty-row-nan-explicit"),
        OF_A_ROW,
    ],
)
def test_calls_that_differ_are_two(other):
    assert key_of(other) != key_of(failure())


def test_messages_are_told_apart_without_their_numbers():
    one, same, other = (
        key_of(failure(mismatch=raised(f"RuntimeError: {text}"))) for text in ("size 2", "size 17", "no")
    )
    assert one == same != other


def test_a_row_is_grouped_by_its_fault_and_outcome_whatever_the_module():
    key = key_of(OF_A_ROW)
    assert (key.way, key.masks, key.training) == (WRONG_MASK, "attn_mask", "eval")
    assert "flat is accepted" in key.differs
    elsewhere = replace(OF_A_ROW, row="TransformerEncoder-mask-flat-inference", module="TransformerEncoder")
    assert key_of(elsewhere) == key
    refused = replace(OF_A_ROW, outcome=RAISES, message="RuntimeError: no")
    assert key_of(refused) != key


def test_a_crash_and_a_range_are_groups_of_their_own():
    assert key_of(crash(repr(CASE))).way == CRASH
    assert key_of(Failure("an entry is present", entry="empty-row-nan-explicit")).way == RANGE


def test_the_least_calls_are_kept_and_the_others_counted():
    collection = Collection()
    calls = [failure(replace(CASE, L=length, seed=length)) for length in range(2, 30)]
    for call in reversed(calls):
        collection.add(call)
    (group,) = collection.all()
    assert group.calls == tuple(calls[:KEPT])
    assert group.seen == len(calls) == collection.seen


def test_groups_are_bounded_in_number():
    collection = Collection()
    for number in range(MOST + 5):
        collection.add(failure(mismatch=raised("no " + "x" * number), served=(f"path {number}",)))
    assert len(collection.all()) == MOST
    assert (collection.seen, collection.lost) == (MOST + 5, 5)
    collection.add(failure(mismatch=raised("no "), served=("path 0",)))  # of a group that is kept
    assert collection.lost == 5


def test_a_call_in_a_mode_is_larger_and_a_compiled_one_larger_still():
    cases = [replace(CASE, N=5, L=40, S=40), replace(CASE, mode="deepcopy"), replace(CASE, mode="compiled")]
    assert sorted(map(failure, reversed(cases)), key=size) == list(map(failure, cases))


@pytest.mark.parametrize("told", [failure(), OF_A_ROW, crash(repr(CASE)), failure(first=CASE, twin=CASE)])
def test_a_group_can_be_read_back(told):
    group = Group(key_of(told), (told,), 12, ("a::b",), is_minimal=True, is_flaky=True)
    assert Group.from_plain(json.loads(json.dumps(group.as_plain()))) == group
