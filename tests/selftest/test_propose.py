"""`propose` writes edits of the ledgers after which the calls of a run are predicted."""

import json
import subprocess
from dataclasses import replace

import pytest
from packaging.version import Version

from tests.harness.command_line import BAD_INPUT
from tests.harness.deviations.reach import altered
from tests.harness.explanation.edits import Edits
from tests.harness.explanation.explain import explained_parts
from tests.harness.explanation.explanation import BACK, BEHAVIOUR, GONE, NEW, WIDER, Changed, Explanation
from tests.harness.explanation.groups import Explained
from tests.harness.explanation.rows import explained_rows
from tests.harness.explanation.sight import sighted
from tests.harness.judgement.report import Failure
from tests.harness.ledgers import ENTRIES
from tests.harness.measurement import session
from tests.harness.releases import contains
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import injected
from tests.tools.affected import begun, ended, short
from tests.tools.ledger_text import OF_CASES, OF_ROWS, ROOT, Texts
from tests.tools.propose import main, proposed

from .test_explanation import CROSS, FULLY_MASKED, MASKED, NOISE, SDPA, failure, judge, model, model_of_rows

NEXT = Version("2.16.0")


@pytest.mark.parametrize(
    "affects, version, range",
    [
        (">=1.13", "2.16.0", ">=1.13,<2.16"),
        (">=2.0.1,<2.5", "2.3.1", ">=2.0.1,<2.3.1"),
        (">=2.0,<2.5", "2.5", ">=2.0,<2.5"),
        (">=1.13,!=2.14.*", "2.15.0", ">=1.13,!=2.14.*,<2.15"),
    ],
)
def test_a_range_ends(affects, version, range):
    assert ended(affects, Version(version)) == range


@pytest.mark.parametrize(
    "affects, version, range",
    [
        (">=2.0,<2.13", "2.16.0", ">=2.0,!=2.13.*,!=2.14.*,!=2.15.*"),
        (">=2.0,<2.15", "2.15.1", ">=2.0,!=2.15"),
        ("<2.0", "2.0.0", ""),
        (">=2.13", "2.11.0", ">=2.11,!=2.12.*"),
        (">=2.13", "2.14.0", ">=2.13"),
    ],
)
def test_a_range_begins_again(affects, version, range):
    found = begun(affects, Version(version))
    assert contains(found, Version(version))
    if range and version != "2.15.1":
        assert found == range
    for other in ("2.13.0", "2.14.0", "2.12.1", "1.13.0"):
        if Version(other) < Version(version):
            assert contains(found, Version(other)) == contains(affects, Version(other))


def test_a_version_is_spelled_as_in_ranges():
    assert [short(Version(version)) for version in ("2.16.0", "2.14.1")] == ["2.16", "2.14.1"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_the_range_of_each_entry_is_found_in_its_text(entry):
    texts, seen = Texts(), []
    is_written = texts.change_range(entry.id, lambda affects: seen.append(affects) or "==0")
    assert is_written == bool(seen) == (texts.patch() != "")
    assert seen == [entry.affects] or entry.id == "flash-no-heads"  # its range is a name


def evaluated(texts, path):
    """The names that a proposed module defines."""
    package = path.removesuffix("/proposed.py").replace("/", ".")
    names = {"__package__": package, "__name__": f"{package}.proposed_in_a_test"}
    exec(compile(texts.new[path], path, "exec"), names)
    return names


def explained_in(cases, its):
    return [
        Explained(part.explanation, tuple(map(failure, part.calls)), len(part.calls))
        for part in explained_parts(cases, its)
    ]


def is_applied(texts, tmp_path):
    """True if git can apply the patch."""
    patch = tmp_path / "edits.patch"
    patch.write_text(texts.patch())
    done = subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True)
    return done.returncode == 0


def test_an_entry_that_is_gone_gets_an_end(tmp_path):
    texts = Texts()
    gone = Explained(Explanation(GONE, (Changed("empty-row-nan-explicit", GONE),)), ())
    assert proposed([gone], judge(model()), NEXT, texts) == []
    assert '-        affects=">=1.13",\n+        affects=">=1.13,<2.16",' in texts.patch()
    assert is_applied(texts, tmp_path)


def test_an_entry_that_is_back_gets_a_beginning():
    texts = Texts()
    back = Explained(Explanation(BACK, (Changed("empty-row-nan-sdpa", BACK),)), (failure(FULLY_MASKED),))
    proposed([back], judge(model()), NEXT, texts)
    assert texts.patch().count("!=2.15.*") == 1


def test_a_new_behaviour_gets_an_entry_that_predicts_it(tmp_path):
    fault, its = FAULTS["sdpa-bool-inverted"], model()
    cases = [replace(SDPA, attn_mask=MASKED, seed=seed) for seed in (3, 4)]
    texts = Texts()
    with injected(fault):
        changes = explained_in(cases, its)
        assert [change.explanation.kind for change in changes] == [BEHAVIOUR]
        proposed(changes, judge(its), session.current.release.version, texts)
        (entry,) = evaluated(texts, OF_CASES)["ENTRIES"]
        after = replace(its, entries=(*its.entries, entry))
        others = [replace(case, seed=case.seed + 100, L=case.L + 1) for case in cases]
        conforming = [replace(SDPA, attn_mask=None), replace(SDPA, is_causal=True), CROSS]
        sights = sighted([*cases, *others, *conforming], after)
        assert [sight.is_predicted(Edits()) for sight in sights] == [True] * len(sights)
    assert entry.pinned in cases
    assert is_applied(texts, tmp_path)


def test_an_entry_that_some_calls_no_longer_show_gets_a_reach():
    its = model(added=[replace(NOISE, applies=lambda call: True)])
    cases = [CROSS, replace(CROSS, seed=8)]
    told = Explanation("narrower", (Changed(NOISE.id, "narrower", "views.REMOVED"),))
    texts = Texts()
    proposed([Explained(told, tuple(map(failure, cases)), 2)], judge(its), session.current.release.version, texts)
    reaches = evaluated(texts, OF_CASES)["REACHES"]
    entry = altered(its.entries[-1], reaches)
    after = replace(its, entries=(*its.entries[:-1], entry))
    assert all(sight.is_predicted(Edits()) for sight in sighted(cases, after))


def test_a_row_gets_an_entry_that_predicts_it(tmp_path):
    row = "MultiheadAttention-cross-attn_mask-int64-training"
    with injected(FAULTS["integer-masks-taken"]):
        parts = explained_rows([row], model_of_rows())
        changes = [Explained(part.explanation, (Failure("title: x", row=row),), 1) for part in parts]
        texts = Texts()
        proposed(changes, judge(model()), session.current.release.version, texts)
    (entry,) = evaluated(texts, OF_ROWS)["ENTRIES"]
    assert is_applied(texts, tmp_path)
    assert entry.instead == "accepts"


def test_what_nothing_explains_gets_a_skeleton_that_predicts_nothing():
    texts = Texts()
    proposed([Explained(Explanation(NEW), (failure(CROSS),), 1)], judge(model()), NEXT, texts)
    (entry,) = evaluated(texts, OF_CASES)["ENTRIES"]
    assert entry.pinned == CROSS
    assert entry.change("a computation", None) == "a computation"
    assert entry.no_remedy == "unknown"


def test_an_entry_as_in_another_release_gets_a_reach_by_a_view():
    texts = Texts()
    view = 'views.AsInRelease("2.4.0").look(call)'
    told = Explanation(WIDER, (Changed("empty-row-nan-sdpa", WIDER, view),))
    proposed([Explained(told, (failure(FULLY_MASKED),), 1)] * 2, judge(model()), NEXT, texts)
    (reach,) = evaluated(texts, OF_CASES)["REACHES"]
    assert (reach.id, reach.first, reach.view.version) == ("empty-row-nan-sdpa", "2.16.0", "2.4.0")


def test_proposals_are_added_to_those_that_are_there():
    texts = Texts()
    texts.add(OF_CASES, reaches=['Reach("some-entry", "2.16.0", views.REMOVED)'])
    once = texts.new[OF_CASES]
    texts.add(OF_CASES, reaches=['Reach("another-entry", "2.16.0", views.REMOVED)'])
    assert [reach.id for reach in evaluated(texts, OF_CASES)["REACHES"]] == ["some-entry", "another-entry"]
    texts.new[OF_CASES] = once
    texts.add(OF_CASES)
    assert texts.new[OF_CASES] == once


def record(**others):
    environment = {"torch": str(session.current.release.version), "device": "cpu"}
    return {"schema": 3, "environment": environment, "ledger": {}, "tests": {}, "groups": []} | others


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "no such file"),
        ("{", "not a whole record"),
        ("[]", "not a record"),
        (json.dumps({"schema": 1}), "schema 1"),
        (json.dumps({"schema": 3}), "not a record"),
        (json.dumps(record(environment={"torch": "1.0.0", "device": "cpu"})), "is installed"),
    ],
)
def test_bad_input_is_one_line(content, says, tmp_path, capsys):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    assert main([str(path)]) == BAD_INPUT
    assert says in capsys.readouterr().err
    assert capsys.readouterr().out == ""


def test_an_output_that_cannot_be_written_is_bad_input(tmp_path, capsys):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record()))
    assert main([str(path), "--output", str(tmp_path)]) == BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_without_failures_proposes_nothing(tmp_path, capsys):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record()))
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == ""
