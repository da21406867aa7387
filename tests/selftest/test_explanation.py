"""Failing calls are explained by the right change of the model, and calls of two changes by neither of them."""

import json
import pickle
import warnings
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.deviations import behaviours
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.ledger import Applied
from tests.harness.deviations.views import AsInRelease
from tests.harness.execution.implementation import load
from tests.harness.execution.runner import observe
from tests.harness.expectation.changes import raising, warning
from tests.harness.explanation.candidates import changed, stages
from tests.harness.explanation.edits import Edits
from tests.harness.explanation.explain import Options, explain, explained_parts, shows
from tests.harness.explanation.explanation import BACK, BEHAVIOUR, GONE, NARROWER, NEW, WIDER
from tests.harness.explanation.groups import Explained, Judge, explained
from tests.harness.explanation.neighbours import neighbours
from tests.harness.explanation.rows import ModelOfRows, explained_rows
from tests.harness.explanation.search import Search
from tests.harness.explanation.sight import Model, Sight, sighted
from tests.harness.judgement.comparison import SETTING, Mismatch
from tests.harness.judgement.outcomes import UNHELPFUL
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.report import Failure, failure_of
from tests.harness.judgement.verdict import FAILS, Verdict
from tests.harness.measurement import session
from tests.harness.releases import since
from tests.harness.wrong_masks import ledger
from tests.harness.wrong_masks.entry import WrongMaskDeviation
from tests.harness.wrong_masks.judge import rows_of
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import Fault, injected, sdpa
from tests.sensitivity.literals import ATTENTION, CROSS, ENCODER, ENCODER_LAYER, SDPA, TRANSFORMER, inferring

FULLY_MASKED = replace(CROSS, autograd="no_grad", need_weights=True, attn_mask=Mask("bool", "all"))


def model(without=(), added=()):
    """The model of the installed release without some entries, and with some that it does not have."""
    run = session.current
    entries = tuple(entry for entry in run.entries if entry.id not in without)
    return Model(run.release, (*entries, *added))


def present():
    """The ids of entries whose pinned case shows them here."""
    session.start()
    return [entry.id for entry in session.current.entries if not entry.is_asked_late]


def pinned(id):
    return next(entry.pinned for entry in session.current.entries if entry.id == id)


@pytest.mark.parametrize("id", present())
def test_an_entry_that_is_missing_from_the_model_is_named(id):
    told = explain([pinned(id)], model(without=[id]))
    assert told.entries == (id,)
    assert told.kind == NARROWER  # it is known in this release
    assert not told.behaviour


def test_an_entry_of_other_releases_is_back():
    id = "empty-row-nan-explicit"
    entry = next(entry for entry in session.current.entries if entry.id == id)
    known = [its for its in model().candidates if its.id != id] + [replace(entry, affects="<1.0")]
    told = explain([FULLY_MASKED], replace(model(without=[id]), known=tuple(known)))
    assert (told.kind, told.entries) == (BACK, (id,))


def fake(id, change, applies=lambda call: True, case=CROSS):
    return Deviation(id, id, ">=1.13", "not found", 1, "", "", applies, change, case)


NOISE = fake("fake-noise", lambda computation, call: warning(computation, "noise"))
ERROR = fake("fake-error", lambda computation, call: raising(computation, "E", "e"), lambda call: call.case.N > 2)


def test_an_entry_that_no_call_shows_is_gone_or_narrower():
    told = explain([CROSS, replace(CROSS, N=3)], model(added=[NOISE]))
    assert (told.kind, told.entries) == (GONE, (NOISE.id,))
    assert explain([CROSS], model(added=[NOISE]), Options(shown=[NOISE.id])).kind == NARROWER


def test_two_entries_are_named_if_calls_need_both():
    both = (NOISE, replace(NOISE, id="fake-second", change=lambda computation, call: warning(computation, "second")))
    told = explain([CROSS, replace(CROSS, seed=5)], model(added=both))
    assert set(told.entries) == {its.id for its in both}


def test_a_group_that_mixes_two_changes_is_explained_by_neither():
    mixed = [FULLY_MASKED, replace(CROSS, N=3)]
    its = model(without=["empty-row-nan-explicit"], added=[ERROR])
    assert explain(mixed, its).kind == NEW
    parts = explained_parts(mixed, its)
    assert {part.explanation.entries: part.calls for part in parts} == {
        ("empty-row-nan-explicit",): (FULLY_MASKED,),
        (ERROR.id,): (replace(CROSS, N=3),),
    }


def test_changes_that_other_calls_have_shown_explain_a_call_together():
    """At most two edits at once are tried, but for those that explain other calls."""
    seeds = (11, 12, 13)
    known = model(added=[noisy_at(seed, 19) for seed in seeds])
    suspects = []
    for seed in seeds:
        assert explain([replace(CROSS, seed=seed)], known, Options(suspects=suspects)).entries == (f"fake-{seed}",)
    every = replace(CROSS, seed=19)
    assert explain([every], known).kind == NEW
    told = explain([every], known, Options(suspects=suspects))
    assert set(told.entries) == {f"fake-{seed}" for seed in seeds}
    known = model(added=[noisy_at(11, 20), noisy_at(12, 20), noisy_at(13)])
    assert set(explain([replace(CROSS, seed=20)], known, Options(suspects=suspects)).entries) == {"fake-11", "fake-12"}


def test_a_smaller_call_must_show_each_of_the_changes():
    known = model(added=[noisy_at(seed, 19, 20) for seed in (11, 12)])
    told = explain([replace(CROSS, seed=19)], known)
    assert set(told.entries) == {"fake-11", "fake-12"}
    assert shows(replace(CROSS, seed=20), told, known)
    assert not shows(replace(CROSS, seed=11), told, known)
    assert not shows(replace(CROSS, seed=5), told, known)
    assert shows(replace(CROSS, seed=11), explain([replace(CROSS, seed=11)], known), known)


def test_a_refusal_that_another_release_lacks_is_named():
    case = replace(ENCODER, mode="exported_dynamic", training=False, src_key_padding_mask=PADDED)
    sight = Sight(case, replace(observe(CROSS), served=("sdpa_math",)), model())
    told = {view.version: changed(Edits(every=view), [sight], model(), ()) for view in EARLIER_AND_LATER}
    assert told["2.9.0"] != told["2.10.0"]
    (named,) = (its for found in told.values() for its in found if its.id == "data-dependent")
    assert named.kind == (WIDER if since(session.current.release, "2.10") else NARROWER)


EARLIER_AND_LATER = (AsInRelease("2.9.0"), AsInRelease("2.10.0"))


def test_a_view_of_the_whole_model_names_its_entries_for_other_calls():
    """As it is, it would explain each later call first."""
    here = session.current.release
    added = [
        fake(f"fake-{i}", partial(warned_as, f"noise {i}"), lambda call: call.release.version >= here.version)
        for i in range(3)
    ]
    suspects = []
    told = explain([CROSS], model(added=added), Options(suspects=suspects))
    assert set(told.entries) == {its.id for its in added}
    assert [set(edits.ids) for edits in suspects] == [set(told.entries)]
    assert not suspects[0].every


def warned_as(text, computation, call):
    return warning(computation, text)


def test_an_entry_of_a_path_that_has_not_served_a_call_is_not_preferred():
    """By its condition, it predicts the call as well as the entry of the path that has served."""
    case = inferring(replace(CROSS, need_weights=True))
    here = session.current.release
    noise = partial(warned_as, "noise")
    native = fake("fake-native", noise, lambda call: not call.case.training)
    explicit = fake("fake-explicit", noise, lambda call: call.release.version < here.version)
    its = model()
    its = replace(its, known=(native, explicit, *its.known), entries=(*its.entries, explicit))
    observed = replace(observe(case), warnings=("noise",), served=("explicit",))
    for served, id in ((("explicit",), "fake-explicit"), (("native_mha",), "fake-native")):
        sight = Sight(case, replace(observed, served=served), its)
        found = Search([sight], partial(stages, model=its), partial(changed, model=its, shown=()), lambda part: [])
        assert found.whole().entries == (id,)


def noisy_at(*seeds):
    """An entry that predicts a warning for calls with these seeds."""
    text = f"noise {seeds[0]}"
    return fake(f"fake-{seeds[0]}", lambda its, call: warning(its, text), lambda call: call.case.seed in seeds)


def test_calls_that_do_not_fail_are_not_explained():
    told = explain([CROSS], model())
    assert (told.kind, told.entries, told.behaviour) == (NEW, (), "")
    assert "do not fail again" in told.text


# ---- simple behaviours ---------------------------------------------------------------------------------------------

MASKED = Mask("bool", "random")
BEHAVIOURS = {
    "bool-mask-inverted": (replace(ATTENTION, attn_mask=MASKED), "attn_mask is inverted"),
    "sdpa-bool-inverted": (replace(SDPA, attn_mask=MASKED), "attn_mask is inverted"),
    "sdpa-float-negated": (replace(SDPA, attn_mask=Mask("float", "random", "finite")), "attn_mask is subtracted"),
    "float-as-bool": (replace(ATTENTION, attn_mask=Mask("float", "random", "finite")), "attn_mask is read as a bool"),
    "padding-heads-first": None,
    "mask-transposed": None,
    "sdpa-mask-of-another-head": None,
    "sdpa-mask-of-another-sample": None,
    "sdpa-causal-at-the-end": (replace(SDPA, is_causal=True), "is aligned at the last query"),
    "memory-padding-inverted": None,
    "memory-mask-transposed": None,
    "mask-lost-beside-padding": (
        replace(CROSS, attn_mask=MASKED, key_padding_mask=Mask("bool", "right")),
        "attn_mask is ignored",
    ),
    "encoder-layer-padding-lost-with-norm-first": None,
    "mask-detached": (replace(CROSS, attn_mask=Mask("float", "random", "finite")), "the gradient of attn_mask is lost"),
    "empty-row-mean": None,
    "native-layer-unmasked": (
        replace(inferring(ENCODER_LAYER), src_key_padding_mask=Mask("bool", "scattered")),
        "src_key_padding_mask is ignored",
    ),
    "target-mask-not-in-the-last-layer": (None, "tgt.last"),
    "encoder-padding-in-the-first-layer-only": (
        replace(ENCODER, autograd="no_grad", src_key_padding_mask=Mask("bool", "right"), num_layers=3, norm_first=True),
        "no mask is applied in src, but for its first layer",
    ),
    "masks-warned-of": None,
    "bool-mask-refused": None,
    "last-head-unmasked": None,
    "native-attention-last-sample-unmasked": None,
    "native-padding-inverted": None,
    "native-layer-mask-of-the-first-head": None,
}


@pytest.mark.parametrize("id", sorted(set(BEHAVIOURS) & set(FAULTS)))
def test_a_simple_fault_is_explained_by_its_behaviour(id):
    fault = FAULTS[id]
    case, words = BEHAVIOURS[id] or (None, "")
    case = case or fault.shows
    cases = [case, *(replace(case, seed=seed) for seed in (11, 12))]
    with injected(fault):
        told = explain(cases, model())
    assert told.kind == BEHAVIOUR, told.text
    assert words in told.behaviour
    assert told.checked > len(cases)


@pytest.mark.parametrize("case", [replace(ATTENTION, attn_mask=MASKED), SDPA, ENCODER_LAYER])
def test_a_behaviour_is_the_same_in_another_process(case):
    (sight,) = sighted([case], model())
    found = [*behaviours.of_masks(case), *behaviours.of_rows(case), *behaviours.of_outcome(sight.observation)]
    for one in [*found, *behaviours.with_nan(found[:1], case)]:
        edits = Edits(behaviours=(one,))
        other = pickle.loads(pickle.dumps(edits))
        assert (other, other.behaviours[0].text) == (edits, one.text)
        results = [predict(case, sight.changes(its))() for its in (edits, other)]
        assert results[0].keys() == results[1].keys()
        for name in results[0]:
            np.testing.assert_array_equal(results[0][name], results[1][name])


# ---- side effects that are changes of their own --------------------------------------------------------------------

DRAWS = FAULTS["random-number-drawn"]
DRAWN = frozenset({(SETTING, "torch.get_rng_state()")})


def test_a_side_effect_of_every_call_hides_no_other_change():
    with injected(DRAWS):
        told = explain([FULLY_MASKED], replace(model(without=["empty-row-nan-explicit"]), side_effects=DRAWN))
        assert told.entries == ("empty-row-nan-explicit",)
        assert explain([FULLY_MASKED], model(without=["empty-row-nan-explicit"])).kind == NEW


def test_calls_that_are_right_but_for_a_side_effect_still_fail():
    with injected(DRAWS):
        told = explain([CROSS], replace(model(), side_effects=DRAWN))
    assert told.kind == NEW
    assert not told.note


PADDED = Mask("bool", "right")
OF_EVERY_KIND = [
    replace(SDPA, attn_mask=Mask("bool", "causal"), mask_batch=SDPA.batch),
    replace(SDPA, is_causal=True),
    replace(
        CROSS, need_weights=True, attn_mask=Mask("float", "random", "bias", per_head=True), key_padding_mask=PADDED
    ),
    replace(ATTENTION, attn_mask=MASKED, key_padding_mask=PADDED),
    replace(TRANSFORMER, src_key_padding_mask=PADDED, tgt_key_padding_mask=PADDED, memory_mask=MASKED),
]


@pytest.mark.parametrize("case", OF_EVERY_KIND)
def test_every_behaviour_of_a_call_can_be_computed(case):
    call = Call(case, session.current.release)
    every = [*behaviours.of_masks(case), *behaviours.of_rows(case)]
    for behaviour in [*every, *behaviours.with_nan(every, case)]:
        named = eval(behaviour.code, {"behaviours": behaviours})
        for change in (behaviour.change, named):
            assert "output" in predict(case, [Applied("", partial(change, call=call))], kept=None)()


@pytest.mark.skipif(not since(session.current.release, "2.6"), reason="the entry holds for these calls since 2.6")
def test_a_deviation_that_no_ledger_knows_is_a_behaviour():
    id = "flash-nan-query-zero"
    its = model(without=[id])
    unknown = replace(its, known=tuple(entry for entry in its.candidates if entry.id != id))
    told = explain([pinned(id), replace(pinned(id), seed=4)], unknown)
    assert (told.kind, told.behaviour) == (BEHAVIOUR, "a query that is NaN gives 0 in sdpa")


def warned(result, call):
    warnings.warn("noise", stacklevel=1)
    return result


def refused(result, call):
    raise ValueError(f"{call.query.shape[-2]} queries are refused")


OUTCOMES = {
    "the result is of dtype float32": lambda result, call: result.float(),
    "samples and positions of the output are exchanged": lambda result, call: result.transpose(0, 1),
    "warns: noise": warned,
    "raises ValueError: 3 queries are refused": refused,
}


@pytest.mark.parametrize("words", OUTCOMES)
def test_another_outcome_is_a_behaviour(words):
    case = inferring(replace(SDPA, batch=(2,), L=3, S=5))
    with injected(Fault("fault", "", sdpa(after=OUTCOMES[words]), case)):
        told = explain([case, replace(case, seed=9)], model())
    assert (told.kind, told.behaviour) == (BEHAVIOUR, words)


def test_two_faults_at_once_are_told_apart():
    one = [replace(SDPA, attn_mask=MASKED, seed=seed) for seed in (3, 4)]
    finite = Mask("float", "random", "finite")
    other = [replace(CROSS, need_weights=True, attn_mask=finite, seed=seed) for seed in (3, 4)]
    with injected(FAULTS["mask-detached"]), injected(FAULTS["sdpa-bool-inverted"]):
        assert explain([*one, *other], model()).kind == NEW
        found = explained_parts([*one, *other], model())
    of = {part.explanation.behaviour: set(part.calls) for part in found}
    assert of == {"attn_mask is inverted": set(one), "the gradient of attn_mask is lost": set(other)}


def test_a_behaviour_that_a_neighbour_contradicts_explains_nothing():
    """In a call with one key alone many behaviours agree; other calls tell them apart."""
    case = replace(SDPA, batch=(1, 1), L=1, S=2, attn_mask=Mask("bool", "one"))
    with injected(FAULTS["sdpa-bool-inverted"]):
        told = explain([case], model())
    assert told.behaviour == "attn_mask is inverted"


# ---- neighbours, rows, groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [CROSS, SDPA, ENCODER_LAYER, replace(ATTENTION, attn_mask=MASKED)])
def test_neighbours_differ_and_can_be_made(case):
    near = list(neighbours(case, session.current.release))
    assert len(near) > 4
    assert case not in near
    assert len(sighted(near, model())) == len(near)


def model_of_rows(without=()):
    run = session.current
    return ModelOfRows(run.release, tuple(entry for entry in run.wrong_masks if entry.id not in without))


def entries_with_rows():
    session.start()
    run = session.current
    return [entry.id for entry in run.wrong_masks if rows_of(entry, run.release)][:8]


@pytest.mark.parametrize("id", entries_with_rows())
def test_an_entry_that_is_missing_from_the_model_explains_its_rows(id):
    entry = next(entry for entry in session.current.wrong_masks if entry.id == id)
    rows = [row.id for row in rows_of(entry, session.current.release)[:5]]
    (part,) = explained_rows(rows, model_of_rows(without=[id]))
    assert part.explanation.entries == (id,)


def test_a_row_that_no_entry_explains_has_a_simple_outcome():
    with injected(FAULTS["integer-masks-taken"]):
        (part, *_) = explained_rows(["MultiheadAttention-cross-attn_mask-int64-training"], model_of_rows())
    assert part.explanation.kind == BEHAVIOUR
    assert "accepted" in part.explanation.behaviour


def test_an_entry_that_predicts_rows_in_the_place_of_another_is_named_with_it():
    """The first entry that applies predicts a row: one behind it explains the row only if the first one is gone."""
    its = model_of_rows()
    right = next(entry for entry in its.entries if rows_of(entry, its.release))
    rows = [row.id for row in rows_of(right, its.release)[:5]]
    ahead = WrongMaskDeviation(
        "fake-ahead", "", ">=1.13", "", UNHELPFUL, "", lambda row, _: row.id in rows, message="no such error"
    )
    known, wrong = tuple(ledger.ENTRIES), replace(its, entries=(ahead, *its.entries))
    (part,) = explained_rows(rows, replace(wrong, known=(ahead, *known)))
    assert part.explanation.entries == (ahead.id,)
    without = tuple(entry for entry in wrong.entries if entry is not right)
    for ordered in ((ahead, *known), (*known, ahead)):
        (part,) = explained_rows(rows, replace(wrong, entries=without, known=ordered))
        assert {(changed.id, changed.kind) for changed in part.explanation.changed} == {
            (ahead.id, GONE),
            (right.id, BACK),
        }


@dataclass(frozen=True)
class Grouped:
    """Failures that look alike."""

    calls: tuple
    seen: int


def failure(case, **others):
    wrong = Mismatch("output", 0.0, 1.0, (0,), 1.0, 0.0)
    return failure_of(case, observe(case), Verdict(FAILS, (), (wrong,)), **others)


def judge(its, **others):
    return Judge(its, model_of_rows(), **others)


def test_a_broken_law_has_the_explanation_of_its_calls():
    case = replace(ATTENTION, attn_mask=MASKED)
    broken = [failure(case, twin=replace(case, mode="deepcopy")), failure(replace(case, seed=11))]
    with injected(FAULTS["bool-mask-inverted"]):
        (change,) = explained([Grouped((its,), 1) for its in broken], judge(model()))
    assert (change.explanation.behaviour, change.seen) == ("attn_mask is inverted", 2)
    (change,) = explained([Grouped(broken[:1], 1)], judge(model()))
    assert change.explanation.kind == NEW  # each of the calls is right by itself


def test_what_is_wrong_in_another_implementation_is_one_change_beside_what_torch_does():
    """It ignores padding behind the first sample; a query of the first one that sees no key is NaN, as in torch."""
    first = MultiHead(
        N=3, L=3, S=3, num_heads=2, head_dim=2, attention="self", key_padding_mask=Mask(pattern="trailing")
    )
    cases = [
        first,
        replace(first, seed=5, attn_mask=Mask(pattern="anti_causal"), key_padding_mask=Mask("float", "left")),
    ]
    groups = [Grouped((failure(cases[0]),), 1), Grouped((failure(cases[1]), failure(cases[1], twin=cases[0])), 2)]
    (change,) = explained(groups, judge(model(), adopted=load("tests.selftest.subjects:BlindToPadding")))
    assert change.explanation.behaviour == "key_padding_mask counts in the first sample alone"
    assert change.seen == 3


def test_groups_with_the_same_explanation_are_one_change():
    cases = [FULLY_MASKED, replace(FULLY_MASKED, functional=True), replace(FULLY_MASKED, mode="deepcopy")]
    groups = [Grouped((failure(case),), 7) for case in cases]
    (change,) = explained(groups, judge(model(without=["empty-row-nan-explicit"])))
    assert change.explanation.entries == ("empty-row-nan-explicit",)
    assert change.seen == 21
    assert {its.case for its in change.calls} == set(cases)


def test_an_entry_whose_pinned_case_is_absent_is_gone_once():
    changes = explained([], judge(model(), absent=frozenset({"some-entry"})))
    assert [(its.explanation.kind, its.explanation.entries) for its in changes] == [(GONE, ("some-entry",))]
    still = explained([], judge(model(), absent=frozenset({"some-entry"}), shown=frozenset({"some-entry"})))
    assert still[0].explanation.kind == NARROWER


def test_a_failure_about_a_range_names_its_entry():
    about = Failure("empty-row-nan-explicit is absent", entry="empty-row-nan-explicit")
    (change,) = explained([Grouped((about,), 1)], judge(model()))
    assert (change.explanation.kind, change.explanation.entries) == (GONE, ("empty-row-nan-explicit",))


def test_an_entry_whose_pinned_case_shows_another_change_is_gone():
    """Its pinned case neither conforms nor deviates as the entry says, so that it predicts nothing in the run."""
    its = model(without=["empty-row-nan-explicit", "native-layer-bias"])
    failures = (failure(FULLY_MASKED, entry="native-layer-bias"),)
    (change,) = explained([Grouped(failures, 1)], judge(its))
    assert change.explanation.entries == ("empty-row-nan-explicit", "native-layer-bias")
    assert change.explanation.changed[1].kind == GONE


def test_changes_are_plain_data():
    told = explain([FULLY_MASKED], model(without=["empty-row-nan-explicit"]))
    change = Explained(told, (failure(FULLY_MASKED),), 3)
    assert Explained.from_plain(json.loads(json.dumps(change.as_plain()))) == change


def test_edits_add_up():
    one, other = Edits(is_silent=True), Edits({"some-entry": None})
    assert (one + other).is_silent
    assert (one + other).ids == ("some-entry",)
