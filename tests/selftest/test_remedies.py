"""Each entry has a remedy, and a remedy that does not help is detected."""

from dataclasses import replace

import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct
from tests.harness.cases.masks import Mask, OverKeys, SeeingFirst
from tests.harness.contents.arrays import mask_arrays
from tests.harness.deviations import ledger, remedies
from tests.harness.deviations.remedies import Remedy, changed, mistakes, upgrade
from tests.harness.ledgers import ENTRIES
from tests.harness.modes.modes import BY_ID, MODES, REMEDIED
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.judge import rows_of
from tests.harness.wrong_masks.remedies import WrongMaskRemedy
from tests.remedies import wrong_calls
from tests.remedies.showing import asked
from tests.remedies.test_remedies import failures
from tests.tools.remedied import sentences, shown_remedies

ENTRY = next(entry for entry in ledger.ENTRIES if entry.id == "empty-row-nan-explicit")
USELESS = Remedy("Hope.", changed(), releases=">=2.0")


def test_every_entry_of_both_ledgers_says_what_to_do():
    assert [mistake for entry in ENTRIES for mistake in mistakes(entry)] == []


@pytest.mark.parametrize(
    ("remedies", "said"),
    [
        ((), "empty-row-nan-explicit: neither a remedy nor the reason why there is none"),
        ((replace(USELESS, releases="<1.13"),), "empty-row-nan-explicit: in no release of >=1.13 holds: Hope."),
        ((upgrade("2.5"),), "empty-row-nan-explicit: still there in 2.15.1: Use PyTorch 2.5, or a later release."),
    ],
)
def test_a_mistake_is_told_with_its_entry(remedies, said):
    assert list(mistakes(replace(ENTRY, remedies=remedies))) == [said]


def test_no_remedy_is_an_answer():
    assert list(mistakes(replace(ENTRY, remedies=(), no_remedy="it is as it is"))) == []


def test_a_remedy_and_the_reason_for_none_exclude_each_other():
    (said,) = mistakes(replace(ENTRY, no_remedy="it is as it is"))
    assert said.endswith("both a remedy and the reason why there is none")


def test_a_condition_is_said_once():
    only = (remedies.NO_LARGE_ROW, remedies.EVERY_QUERY_SEES_A_KEY, remedies.SEES_A_KEY_BEFORE_2_5)
    remedy = Remedy("Change it.", changed(), only=(*only, remedies.NO_LARGE_ROW, remedies.HAS_BIASES))
    assert remedy.only_in_words == (
        "if no query has every key masked by a number such as -1e9, and no query is fully masked;"
        " before 2.3 if layers have biases"
    )


def test_a_remedy_that_does_not_help_is_reported(run):
    (report,) = failures(USELESS, [ENTRY.pinned], run)
    assert "MultiHead(attn_mask=Mask(pattern='all'))" in report
    assert ENTRY.id in report


def test_a_remedy_that_leads_into_another_deviation_is_reported(run):
    masked = MultiHead(num_heads=2, attention="self", key_padding_mask=Mask("bool", "all"))
    (report,) = failures(Remedy("Ask for no weights.", changed(need_weights=False)), [masked], run)
    assert "empty-row-nan-native" in report


def test_a_remedy_of_a_wrong_mask_that_does_not_help_is_reported(run):
    entry = next(entry for entry in wrong_masks_ledger.ENTRIES if entry.id == "native-mask-by-elements")
    call = rows_of(entry, run.release)[0]
    for useless in (
        WrongMaskRemedy("Hope.", lambda call: call, becomes="raises"),
        WrongMaskRemedy("Hope.", check=lambda call: "True"),
        WrongMaskRemedy("Hope.", check=lambda call: "False"),
    ):
        assert wrong_calls.outcome(useless, call, run.setting) is not None


def test_generated_calls_show_the_entry_and_are_the_same_each_time(run):
    remedies = [remedy for remedy in ENTRY.remedies if remedy.holds_in(run.release.version)]
    first, second = (asked(ENTRY, remedies, run, 5, 60) for _ in range(2))
    assert first == second
    assert all(len(set(cases)) >= 5 for cases in first.values())
    assert not [case for cases in first.values() for case in cases if not failures(USELESS, [case], run)]


def test_masks_of_remedies_hide_what_they_say():
    case = MultiHead(L=3, S=3, attn_mask=SeeingFirst("bool", "all"))
    assert mask_arrays(case)["attn_mask"].tolist() == [[False, True, True]] * 3
    case = ScaledDotProduct(L=3, S=4, attn_mask=OverKeys("float", "all", "finite"))
    array = mask_arrays(case)["attn_mask"]
    assert (array == array[:, :1]).all()
    narrow = mask_arrays(replace(case, attn_mask=Mask("float", "all", "finite"), broadcast="S"))["attn_mask"]
    assert (array[:, :1] == narrow).all()


def test_modes_of_remedies_are_never_generated():
    assert not set(REMEDIED) & set(MODES)
    assert all(BY_ID[mode.id] is mode for mode in REMEDIED)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_each_remedy_is_shown_in_words(entry):
    for sentence in sentences(entry):
        assert sentence.endswith(".")
        assert "set_fastpath_enabled" not in sentence or "global" in sentence


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_a_remedy_is_shown_as_the_lines_that_change(entry):
    shown = [remedy for remedy in shown_remedies(entry) if not remedy.text.startswith("Use PyTorch")]
    assert any(remedy.diff for remedy in shown) or not shown
