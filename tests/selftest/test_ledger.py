"""The ledger is well-formed, and each entry is needed on the installed release."""

import re
from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.spelling import shortest_repr
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.release import Release
from tests.harness.execution.runner import observe
from tests.harness.judgement.verdict import DEVIATES, FAILS, judge
from tests.harness.measurement import session
from tests.harness.modes.modes import BY_ID as MODES
from tests.harness.modes.parsing import parse

ENTRIES = pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)


def test_ids_are_unique_and_speak_kebab_case():
    ids = [entry.id for entry in ledger.ENTRIES]
    assert len(ids) == len(set(ids))
    assert all(id == id.lower() and " " not in id for id in ids)


@ENTRIES
def test_an_entry_says_all_that_a_reader_needs(entry):
    SpecifierSet(entry.affects)
    assert entry.upstream == "not found" or re.fullmatch(r"[\w-]+/[\w-]+#\d+", entry.upstream)
    assert 1 <= entry.clause <= 10
    assert all((entry.title, entry.trigger, entry.instead))


@ENTRIES
def test_a_pinned_case_can_be_pasted_back(entry):
    assert parse(shortest_repr(entry.pinned)) == parse(repr(entry.pinned)) == entry.pinned


@ENTRIES
def test_an_entry_of_this_release_predicts_its_pinned_case_and_nothing_else_does(entry, run):
    finding = run.findings[entry.id]
    if not finding.expected:
        pytest.skip("the entry is for other releases")
    if not MODES[entry.pinned.mode].has_packages:
        pytest.skip("the packages that run the call are absent; tox -e torch2.15-onnx has them")
    if not entry.every_cpu and finding.status == session.ABSENT:
        pytest.skip("the entry is for other CPUs")  # on a CPU that shows it, its status is not ABSENT
    observation = observe(entry.pinned)
    call = Call(entry.pinned, run.release, observation.served)
    others = tuple(other for other in run.entries if other is not entry)
    assert judge(entry.pinned, observation, ledger.applying(call, run.entries)).status == DEVIATES
    assert judge(entry.pinned, observation, ledger.applying(call, others)).status == FAILS


@ENTRIES
def test_an_entry_of_other_releases_is_not_shown_by_this_one(entry, run):
    finding = run.findings[entry.id]
    assert finding.expected or finding.status in (session.ABSENT, session.NOT_APPLICABLE)


def test_a_range_that_lacks_a_release_is_told(run, monkeypatch):
    """The range of an entry that this release shows is cut before this release."""
    entry = next(entry for entry in run.entries if entry.affects == ">=1.13")
    narrow = replace(entry, affects=">=1.13,<2.0")
    monkeypatch.setattr(ledger, "ENTRIES", (narrow, *(other for other in ledger.ENTRIES if other is not entry)))
    monkeypatch.setattr(session, "current", run)  # restored after the test
    finding = session.start().findings[entry.id]
    assert (finding.status, finding.expected) == (session.PRESENT, False)


def test_a_release_to_come_is_modelled_like_the_newest():
    def concerned(version):
        return [entry.id for entry in ledger.ENTRIES if entry.concerns(Release(Version(version), "cpu"))]

    assert concerned("99.0.0") == concerned("99.1.0.dev20990101") != []


def test_a_release_is_not_asked_for_what_it_lacks(monkeypatch):
    old = Release(Version("1.13.1"), "cpu")
    for name in ("has_scaled_dot_product_attention", "has_causal_hints", "has_layer_bias", "has_fast_path_switch"):
        monkeypatch.setitem(vars(old), name, False)
    assert not old.offers(ScaledDotProduct())
    assert not old.offers(MultiHead(is_causal=True))
    assert not old.offers(Transformer(tgt_is_causal=False))
    assert not old.offers(Transformer(bias=False))
    assert not old.offers(Transformer(fast_path=False))
    assert old.offers(MultiHead(bias=False))


@ENTRIES
def test_an_entry_whose_deviation_is_not_seen_is_absent(entry, run, monkeypatch):
    """Observations are made from the specification, as on a release without deviations."""
    from tests.harness.cases.dtypes import rounded
    from tests.harness.contents.arrays import directions
    from tests.harness.contents.results import present
    from tests.harness.deviations.call import Call
    from tests.harness.deviations.refusals import refusal
    from tests.harness.execution.runner import Observation
    from tests.harness.expectation.specification import specification
    from tests.harness.measurement import session
    from tests.harness.modes.modes import BY_ID

    def conforming(case, device, adopted):
        computation = specification(case)
        outputs = {name: rounded(array, case.dtype) for name, array in present(case, computation()).items()}
        dtypes, devices = (dict.fromkeys(outputs, its) for its in (computation.dtype, computation.device))
        served = (BY_ID[case.mode].kernel or "sdpa_flash",)
        return Observation(outputs, dtypes, served=served, devices=devices)

    monkeypatch.setattr(session, "observe", conforming)
    if not directions(entry.pinned):
        is_refused = refusal(Call(entry.pinned, run.release, ("sdpa_flash",))) is not None
        is_asked = run.release.offers(entry.pinned) and not entry.is_asked_late and not is_refused
        expected = session.ABSENT if is_asked else session.NOT_APPLICABLE
        assert session.probe(entry, run.release, (entry,)).status == expected


def test_an_entry_predicts_unless_its_pinned_case_conforms(monkeypatch):
    from dataclasses import replace

    from tests.harness.deviations import ledger
    from tests.harness.measurement import session
    from tests.sensitivity.faults import FAULTS
    from tests.sensitivity.injection import injected

    by_id = {its.id: its for its in ledger.ENTRIES}
    shown, refused = by_id["empty-row-nan-explicit"], by_id["flex-gradient-large-mask"]
    refused = replace(refused, pinned=replace(refused.pinned, autograd="inputs"))  # since 2.11
    absent = replace(shown, id="absent", pinned=replace(shown.pinned, attn_mask=None), applies=lambda call: False)
    monkeypatch.setattr(ledger, "ENTRIES", (shown, refused, absent))
    monkeypatch.setattr(session, "current", session.current)  # is restored
    assert shown in session.start().entries
    assert absent not in session.current.entries
    assert (refused in session.current.entries) == refused.concerns(session.current.release)
    with injected(FAULTS["random-number-drawn"]):
        session.start()
    assert session.current.findings[shown.id].status == session.CHANGED
    assert shown in session.current.entries
