"""Outcomes of wrong masks are judged by clause 9, by the entry that predicts them, and by the numbers that come out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from packaging.version import Version
from torch.nn import functional

from reference import masks as meaning
from tests.harness.execution.release import Release, installed
from tests.harness.expectation.changes import undefined, with_masks
from tests.harness.judgement.left_out import MEMORY
from tests.harness.judgement.outcomes import ACCEPTS, RAISES, UNHELPFUL
from tests.harness.judgement.report import Failure, Nonconformance
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS
from tests.harness.measurement import session
from tests.harness.releases import RELEASES, since
from tests.harness.wrong_masks import judge
from tests.harness.wrong_masks.judge import (
    Judgement,
    check_row,
    failure_of,
    is_shown,
    judge_row,
    predicted_entry,
    report,
)
from tests.harness.wrong_masks.ledger import ENTRIES
from tests.harness.wrong_masks.outcome import Outcome, observe, source
from tests.harness.wrong_masks.results import Comparison, compare
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import CALLS, HEADS, E, L, N, S, not_applicable

BY_ID = {call.id: call for call in ROWS}
NEWEST = Release(Version(f"{RELEASES[-1]}.0"), "cpu")
REFUSED = "MultiheadAttention-cross-attn_mask-too_few_keys-training"
VIEWED = "TransformerEncoderLayer-src_mask-too_few_keys-inference"
FLAT = "TransformerEncoderLayer-src_mask-flat-inference"
PRECISE = "TransformerEncoderLayer-src_mask-higher_precision-inference"
HALVED = "scaled_dot_product_attention-4d-attn_mask-lower_precision_33_keys"
NO_VIEW = Outcome(UNHELPFUL, "RuntimeError: shape '[1, 1, 6, 6]' is invalid for input of size 30")
HELPFUL = Outcome(RAISES, "RuntimeError: wrong mask")
OTHER = Outcome(UNHELPFUL, "RuntimeError: something else")

needs_2 = pytest.mark.skipif(not hasattr(functional, "scaled_dot_product_attention"), reason="rows of later releases")


@needs_2
@pytest.mark.parametrize(
    ("id", "outcome", "status"),
    [
        (REFUSED, HELPFUL, CONFORMS),
        (REFUSED, OTHER, FAILS),
        (REFUSED, Outcome(ACCEPTS), FAILS),
        (VIEWED, NO_VIEW, DEVIATES),
        (VIEWED, OTHER, FAILS),
        (VIEWED, Outcome(ACCEPTS), FAILS),
        (FLAT, OTHER, FAILS),
        (PRECISE, HELPFUL, CONFORMS),
        (PRECISE, OTHER, FAILS),
    ],
)
def test_an_outcome_is_judged_by_the_entry_that_predicts_it(id, outcome, status):
    assert judge_row(BY_ID[id], outcome, NEWEST, ENTRIES).status == status


ACCEPTED = {FLAT: DEVIATES, HALVED: DEVIATES, PRECISE: CONFORMS}


def _off(outcome, by=1.0):
    """The outcome with `by` added to the last element of its result."""
    result = outcome.names["result"].contiguous().clone()
    result.view(-1)[-1] += by
    return replace(outcome, names={**outcome.names, "result": result})


def _installed_or_skip(id):
    if not_applicable(BY_ID[id], installed()) or not since(installed(), "2.4"):
        pytest.skip("rows of later releases")
    return installed()


@pytest.mark.parametrize(("id", "status"), ACCEPTED.items())
def test_an_accepted_mask_is_judged_by_the_numbers_that_come_out(id, status):
    release, outcome = _installed_or_skip(id), observe(BY_ID[id])
    assert judge_row(BY_ID[id], outcome, release, ENTRIES).status == status
    judgement = judge_row(BY_ID[id], _off(outcome), release, ENTRIES)
    assert judgement.status == FAILS
    assert "output is off by 1 at [" in report(failure_of(BY_ID[id], outcome, judgement))
    assert judge_row(BY_ID[id], _off(outcome, float("nan")), release, ENTRIES).status == FAILS


@pytest.mark.parametrize("id", [id for id, status in ACCEPTED.items() if status == DEVIATES])
def test_an_accepted_mask_is_not_judged_by_what_another_entry_computes(id):
    release, outcome = _installed_or_skip(id), observe(BY_ID[id])
    changed = [
        replace(entry, change=lambda computation, call: _causal(computation, call)) for entry in ENTRIES if entry.change
    ]
    assert judge_row(BY_ID[id], outcome, release, changed).status == FAILS


def _causal(computation, call):
    """The computation with a causal mask instead of the wrong one."""
    hidden = meaning.causal(*call.right_shape)
    mask = ~hidden if call.module == "scaled_dot_product_attention" else hidden
    return with_masks(computation, {call.argument: mask})


def test_an_entry_that_accepts_and_predicts_no_result_is_an_error_that_names_it():
    for entry in ENTRIES:
        if entry.instead == ACCEPTS:
            with pytest.raises(ValueError, match=entry.id):
                replace(entry, change=None)


def test_what_is_uninitialised_is_counted(run):
    run = replace(run, tally=session.Tally())
    rows = [call for call in CALLS if call.fault.elsewhere and not not_applicable(call, run.release)]
    judgements = [judge_row(call, observe(call), run.release, ENTRIES) for call in rows]
    for call, judgement in zip(rows, judgements, strict=True):
        run.tally.add_wrong_call(call, judgement)
    accepted = [its for its in judgements if its.status == DEVIATES and its.entry.instead == ACCEPTS]
    assert accepted
    assert all(its.comparison.left_out > 0 for its in accepted)
    assert sum(run.tally.uncomputed.values()) == sum(its.comparison.left_out for its in accepted)


def test_only_what_is_uninitialised_is_left_out():
    call = BY_ID[FLAT]
    if not_applicable(call, installed()) or not since(installed(), "2.0"):
        pytest.skip("rows of later releases")
    entry = next(entry for entry in ENTRIES if entry.id == "native-mask-by-elements")
    first = np.arange(E) == 0

    def partly(computation, call):
        return undefined(entry.change(computation, call), MEMORY, first)

    outcome = observe(call)
    assert compare(call, outcome, partly) == Comparison((), N * S)
    assert compare(call, _off(outcome), partly).mismatches  # the last element is defined


@needs_2
@pytest.mark.parametrize(("still_there", "status"), [(True, FAILS), (False, CONFORMS)])
def test_a_row_may_only_conform_where_the_entry_as_a_whole_is_absent(still_there, status, monkeypatch):
    monkeypatch.setattr(judge, "is_shown", lambda entry, release: still_there)
    assert judge_row(BY_ID[FLAT], HELPFUL, NEWEST, ENTRIES).status == status


def test_without_a_ledger_every_deviation_fails():
    assert judge_row(BY_ID[VIEWED], NO_VIEW, NEWEST, ()).status == FAILS
    assert judge_row(BY_ID[FLAT], Outcome(ACCEPTS), NEWEST, ()).status == FAILS


def test_an_entry_that_no_row_shows_is_absent(run, monkeypatch):
    concerned = [entry for entry in ENTRIES if entry.concerns(run.release)]
    assert all(is_shown.__wrapped__(entry, run.release) for entry in concerned)
    assert not any(is_shown(entry, run.release) for entry in ENTRIES if entry not in concerned)
    monkeypatch.setattr(judge, "observe", lambda call, setting: HELPFUL)
    assert not any(is_shown.__wrapped__(entry, run.release) for entry in concerned)


@needs_2
def test_a_failing_row_shows_the_call_and_what_was_expected(run, monkeypatch):
    monkeypatch.setattr(judge, "observe", lambda call, setting: OTHER)
    with pytest.raises(Nonconformance) as failed:
        check_row(BY_ID[FLAT], run)
    report = str(failed.value)
    assert source(BY_ID[FLAT]).splitlines()[-1] in report
    assert "native-mask-by-elements" in report
    assert OTHER.error in report
    assert run.tally.statuses[FAILS] == 1
    judgement = judge_row(BY_ID[REFUSED], Outcome(ACCEPTS), run.release, ENTRIES)
    assert failure_of(BY_ID[REFUSED], Outcome(ACCEPTS), judgement).clauses == (9,)


@pytest.mark.parametrize(
    "outcome", [Outcome(ACCEPTS), OTHER, HELPFUL], ids=lambda outcome: outcome.kind.replace(" ", "_")
)
def test_every_row_can_be_told(outcome):
    """In a line of its own, which is read back from the data of a record."""
    failures = [failure_of(call, outcome, Judgement(FAILS)) for call in ROWS]
    assert all(Failure.from_plain(json.loads(json.dumps(failure.as_plain()))) == failure for failure in failures)
    assert all(f"\nRow: {failure.row}\n" in report(failure) for failure in failures[::40])
    assert {failure.clauses for failure in failures} == {(9,)}


@pytest.mark.parametrize(
    ("id", "title"),
    [
        (
            "MultiheadAttention-self-attn_mask-flat-inference",
            "MultiheadAttention, eval: attn_mask of shape (36,) (flat; right is (6, 6)) is accepted;"
            " expected an error that names it",
        ),
        (
            "Transformer-tgt_mask-int64-training",
            "Transformer, train: tgt_mask of dtype int64 beside float32 (int64) is accepted;"
            " expected an error that names it",
        ),
        (
            "scaled_dot_product_attention-4d-attn_mask-mask_with_hint",
            "scaled_dot_product_attention: attn_mask (mask with hint) is accepted; expected an error that names it",
        ),
    ],
)
def test_the_first_line_of_a_row_stands_alone(id, title):
    assert failure_of(BY_ID[id], Outcome(ACCEPTS), Judgement(FAILS)).title == title


@pytest.mark.parametrize("id", ["value-value_too_short", "value-value_too_long", "key-key_cut_short"])
def test_as_many_keys_as_values_are_told_by_the_numbers(id):
    call, release = BY_ID[f"scaled_dot_product_attention-4d-{id}"], _installed_or_skip(HALVED)
    outcome = observe(call)
    judgement = judge_row(call, outcome, release, ENTRIES)
    assert judgement.status == DEVIATES
    # Uninitialised numbers of the last head are left out.
    assert judgement.comparison.left_out == (L * E // HEADS if id.endswith("long") else 0)
    result = outcome.names["result"].clone()
    result[0, 0, 0, 0] += 1
    outcome = replace(outcome, names={**outcome.names, "result": result})
    assert judge_row(call, outcome, release, ENTRIES).status == FAILS


def test_an_entry_speaks_of_the_devices_that_it_names(run):
    elsewhere = Release(NEWEST.version, "mps")
    named = [replace(entry, devices=("cuda",)) for entry in ENTRIES]
    assert all(predicted_entry(call, NEWEST, named) is None for call in CALLS)
    assert judge_row(BY_ID[FLAT], OTHER, elsewhere, ENTRIES).status == FAILS


def test_where_nothing_was_measured_both_are_right(monkeypatch):
    monkeypatch.setattr(judge, "is_shown", lambda entry, release: True)
    elsewhere = Release(NEWEST.version, "mps")
    assert judge_row(BY_ID[FLAT], HELPFUL, elsewhere, ENTRIES).status == CONFORMS
    if since(installed(), "2.0.1"):
        assert judge_row(BY_ID[FLAT], observe(BY_ID[FLAT]), elsewhere, ENTRIES).status == DEVIATES
