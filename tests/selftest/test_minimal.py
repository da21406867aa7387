"""A run that collects finds each fault of torch, with a minimal case of its own."""

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, seed, settings
from torch.nn import functional

from tests.harness.cases.case import MultiHead, ScaledDotProduct, SquareSubsequentMask, Transformer
from tests.harness.cases.laws import LAWS
from tests.harness.cases.masks import Mask
from tests.harness.cases.simpler import is_valid, simpler
from tests.harness.deviations.views import REMOVED
from tests.harness.explanation.edits import Edits
from tests.harness.explanation.explanation import BEHAVIOUR, GONE, NEW, Changed, Explanation
from tests.harness.judgement.comparison import SETTING, WARNING
from tests.harness.judgement.groups import Group, key_of, message_of, size
from tests.harness.judgement.report import Failure, crash
from tests.harness.judgement.wording import Difference
from tests.harness.measurement import checking, forked, minimal, session
from tests.harness.measurement.checking import check, check_law, check_same_without_garbage
from tests.harness.measurement.forked import can_fork
from tests.harness.measurement.minimal import End, Found, _in_order, _Searched, news_about
from tests.harness.measurement.news import News
from tests.harness.measurement.rerun import collecting, failures_again, plainer, simpler_failures
from tests.harness.strategies.modules import any_cases
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import injected

RELEASE = session.start().release
TWO = ("memory-padding-lost", "padding-lost-with-weights")
PADDED = MultiHead(N=2, L=3, S=3, num_heads=2, head_dim=2, attention="cross", key_padding_mask=Mask(pattern="one"))


def with_faults(*ids):
    stack = ExitStack()
    for id in ids:
        stack.enter_context(injected(FAULTS[id]))
    return stack


def with_minimal_cases(groups, seconds, workers=1):
    """The groups as a run without explanations tells them."""
    return tuple(news.group for news in news_about(groups, seconds, workers))


def fails(case, *faults):
    """True if the case fails on torch with these faults."""
    with with_faults(*faults), collecting() as tally:
        check(case)
    return bool(tally.groups.seen)


def collected(ask, *given):
    """The groups of failures of one check, or of many."""
    with collecting() as tally:
        ask(*given)
    return tally.groups.all()


@pytest.fixture(scope="module")
def found():
    """The groups with minimal cases of torch with two faults."""

    @seed(5)
    @settings(max_examples=400, deadline=None, database=None)
    @given(any_cases(RELEASE))
    def ask(case):
        check(case)

    with with_faults(*TWO):
        return with_minimal_cases(collected(ask), 120, workers=2)


def test_two_faults_at_once_are_found_each_with_its_minimal_case(found):
    largest = sorted(found, key=lambda group: -group.seen)[:2]
    cases = {fault: group.least.case for fault in TWO for group in largest if fails(group.least.case, fault)}
    layer, attention = (cases[fault] for fault in TWO)
    hiding_one_of_one = [Mask(pattern=name) for name in ("one", "all")]
    decoder = Transformer(module="TransformerDecoderLayer", head_dim=4)
    assert layer in [replace(decoder, memory_key_padding_mask=mask) for mask in hiding_one_of_one]
    both = product(("self", "distinct"), hiding_one_of_one)
    assert attention in [MultiHead(attention=attention, key_padding_mask=mask) for attention, mask in both]


def test_no_group_mixes_two_faults(found):
    for group in found:
        told = [{fault for fault in TWO if fails(call.case, fault)} for call in group.calls]
        assert set.intersection(*told), group


def test_each_group_is_minimal_and_knows_its_calls(found):
    assert all(group.is_minimal and not group.is_flaky for group in found)
    assert sum(group.seen for group in found) > 50


@pytest.mark.parametrize("fork", [True, False])
def test_a_failure_is_made_smaller(fork, monkeypatch):
    if not fork:
        monkeypatch.setattr(minimal, "can_fork", lambda: False)
    large = replace(PADDED, N=3, L=9, S=9, seed=3, layout="sliced", attn_mask=Mask("float", "causal"))
    with with_faults("padding-lost-with-weights"):
        (group,) = with_minimal_cases(collected(check, large), 60)
    assert group.is_minimal
    assert size(group.least) < size(Failure("", case=replace(PADDED, N=1)))
    assert group.least.case.attn_mask is None


def test_a_failure_that_is_not_seen_again_is_flaky():
    with with_faults("padding-lost-with-weights"):
        groups = collected(check, PADDED)
    (group,) = with_minimal_cases(groups, 60)
    assert group.is_flaky
    assert not group.is_minimal
    assert group.calls == groups[0].calls


def test_without_time_groups_are_told_as_found():
    with with_faults("padding-lost-with-weights"):
        groups = collected(check, PADDED)
        assert with_minimal_cases(groups, 1e-9) == groups


@pytest.mark.skipif(not can_fork(), reason="no fork")
@pytest.mark.parametrize("how", [os.abort, lambda: time.sleep(60)])
def test_a_crash_or_hang_during_the_search_ends_the_search_of_its_group_alone(how, monkeypatch):
    monkeypatch.setattr(minimal, "_SHARE_OF_A_GROUP", 1 / 30)
    monkeypatch.setattr(forked, "_GRACE", 0.5)
    parent, original = os.getpid(), functional.scaled_dot_product_attention

    def ends(*given, **options):
        if os.getpid() != parent:
            how()
        return original(*given, **options)

    other = replace(PADDED, need_weights=False, num_heads=1)
    crashed = crash(repr(other))
    groups = [Group(key_of(crashed), (crashed,))]
    with with_faults("padding-lost-with-weights"):
        groups += collected(check, PADDED)
        with monkeypatch.context() as patched:
            patched.setattr(functional, "scaled_dot_product_attention", ends)
            one, two = with_minimal_cases(groups, 60)
    assert (one.is_minimal, two.is_minimal) == (True, False)
    assert two.least == crashed
    assert not two.is_flaky


# ---- groups join ---------------------------------------------------------------------------------------------------

OLD, OTHER = Explanation(GONE, (Changed("one", GONE),)), Explanation(GONE, (Changed("two", GONE),))
UNEXPLAINED, IGNORED = Explanation(NEW), Explanation(BEHAVIOUR, effect="ignored()")


def group(*cases):
    calls = tuple(Failure("output is off", case.module, case) for case in cases)
    return Group(key_of(calls[0]), calls)


def told_of(*ends):
    """The explanations and numbers of calls that are told of (group, explanation of its calls) in turn."""
    searched = _Searched()
    for one, explanation in ends:
        found = Found(one.least, (one.key, key_of(Failure("x", "end", PADDED))))
        searched.add(News(one), End(found, (News(one, explanation),)))
    return [(news.explanation, news.group.seen) for news in searched.news]


ONE, TWO_HEADS = group(PADDED), group(replace(PADDED, mode="deepcopy"))
ELSEWHERE = group(replace(PADDED, functional=True))


def test_the_same_change_is_told_once_and_another_one_is_not_hidden_behind_it():
    assert told_of((ONE, OLD), (TWO_HEADS, OLD)) == [(OLD, 2)]
    assert told_of((ONE, OLD), (TWO_HEADS, OTHER)) == [(OLD, 1), (OTHER, 1)]
    assert told_of((ONE, UNEXPLAINED), (TWO_HEADS, UNEXPLAINED)) == [(UNEXPLAINED, 2)]
    assert told_of((ONE, OLD), (TWO_HEADS, UNEXPLAINED)) == [(OLD, 1), (UNEXPLAINED, 1)]
    assert told_of((ONE, IGNORED), (TWO_HEADS, IGNORED)) == [(IGNORED, 2)]
    assert told_of((ONE, IGNORED), (ELSEWHERE, IGNORED)) == [(IGNORED, 1), (IGNORED, 1)]


def test_parts_of_a_group_are_news_of_their_own():
    both = group(PADDED, replace(PADDED, seed=1))
    parts = [News(replace(both, calls=both.calls[:1], seen=4), OLD), News(replace(both, calls=both.calls[1:]), OTHER)]
    searched = _Searched()
    searched.add(News(both), End(Found(both.least, (both.key,), is_minimal=True), tuple(parts)))
    assert searched.news == parts


def warning(text, *cases):
    differs = Difference(f"warns {text}", WARNING, (), "warns", "", "nothing", text, "warnings")
    calls = tuple(Failure(f"warns {text}", case.module, case, mismatches=(differs,)) for case in cases)
    return Group(key_of(calls[0]), calls)


@pytest.mark.parametrize("fork", [True, False])
def test_calls_are_explained_as_found_and_join_before_minimal_cases_are_searched(fork, monkeypatch):
    if not fork:
        monkeypatch.setattr(minimal, "can_fork", lambda: False)
    monkeypatch.setattr(minimal, "search", lambda group, *_: iter([Found(group.least, (group.key,))]))
    groups = collected_padded(PADDED, replace(PADDED, mode="deepcopy"), replace(PADDED, functional=True))

    def explain(group, suspects):
        known = bool(suspects.cases)
        suspects.cases.append(Edits({"one": REMOVED}))
        return (News(group, OTHER if known else OLD),)

    told = news_about(groups, 60, explain=explain)
    assert sorted((news.explanation.entries, news.group.seen) for news in told) == [(("one",), 1), (("two",), 2)]


@pytest.mark.parametrize("fork", [True, False])
def test_calls_that_a_behaviour_of_more_calls_predicts_join_it(fork, monkeypatch):
    """Calls that nothing explains, and those with a rarer behaviour, as far as the other behaviour predicts them."""
    if not fork:
        monkeypatch.setattr(minimal, "can_fork", lambda: False)
    rare, common = (Explanation(BEHAVIOUR, (), text, code) for text, code in (("rare", "1"), ("common", "2")))
    here, elsewhere, other = (warning(text, PADDED) for text in ("here", "elsewhere", "other"))
    told = [
        News(here, rare),
        News(replace(elsewhere, seen=3), common),
        News(replace(other, seen=2)),
        News(warning("more", PADDED)),
    ]

    def recognize(group, causes):
        assert causes[0].explanation == common
        if group.key == other.key:
            left = News(replace(group, seen=1))
            return (News(replace(group, seen=1), common), left)
        return (News(group, common),) if group.key == here.key else (News(group),)

    found = minimal._with_causes(told, recognize, 1, time.monotonic() + 60)
    assert [(its.explanation.behaviour, its.group.seen) for its in found] == [("common", 5), ("", 1), ("", 1)]


def collected_padded(*cases):
    with with_faults("padding-lost-with-weights"):
        return [one for case in cases for one in collected(check, case)]


def test_calls_that_nothing_explains_are_one_change_if_they_have_one_message():
    here, elsewhere = warning("slow", PADDED), warning("slow", replace(PADDED, functional=True))
    other = warning("old", replace(PADDED, functional=True))
    assert told_of((here, UNEXPLAINED), (elsewhere, UNEXPLAINED)) == [(UNEXPLAINED, 2)]
    assert told_of((here, UNEXPLAINED), (other, UNEXPLAINED))[0] == (UNEXPLAINED, 1)
    assert told_of((here, OLD), (elsewhere, UNEXPLAINED)) == [(OLD, 1), (UNEXPLAINED, 1)]
    untried = with_minimal_cases([here, elsewhere, other, ONE, ELSEWHERE], 1e-9)
    assert sorted(its.seen for its in untried) == [1, 1, 1, 2]
    with_other_masks = group(replace(PADDED, attn_mask=Mask(pattern="one")))
    assert [its.seen for its in with_minimal_cases([ONE, with_other_masks], 1e-9)] == [2]


def test_calls_that_change_one_setting_are_one_change():
    def changing(setting, module):
        differs = Difference(f"changes {setting}", SETTING, (setting,), "changes the setting", "", "", "", "changes")
        failure = Failure(differs.says, module, PADDED, mismatches=(differs,))
        return Group(key_of(failure), (failure,))

    here, elsewhere = (changing("torch.get_rng_state()", module) for module in ("MultiheadAttention", "Transformer"))
    other = changing("torch.is_grad_enabled()", "MultiheadAttention")
    assert len({here.key, elsewhere.key, other.key}) == 3
    assert sorted(its.seen for its in with_minimal_cases([here, elsewhere, other], 1e-9)) == [1, 2]


def test_one_group_of_each_message_is_searched_before_others_with_it():
    groups = [warning(text, replace(PADDED, seed=seed)) for text in ("slow", "old") for seed in (2, 1)]
    groups[1], groups[3] = (warning(text, replace(PADDED, functional=True)) for text in ("slow", "old"))
    dies = crash(repr(PADDED))
    order = _in_order([Group(key_of(dies), (dies,)), *groups])
    assert [message_of(its.least) for its in order[:2]] == [message_of(its.least) for its in order[2:4]]
    assert order[-1].least == dies


# ---- groups that are not searched ----------------------------------------------------------------------------------


def test_a_plainer_call_is_made_eagerly_and_of_the_module_itself():
    with with_faults("padding-lost-with-weights"):
        for case in (replace(PADDED, mode="deepcopy"), replace(PADDED, functional=True)):
            (group,) = collected(check, case)
            assert plainer(group.least).case == PADDED


@pytest.mark.parametrize("fork", [True, False])
def test_groups_that_are_not_searched_join_by_a_plainer_call(fork, monkeypatch):
    if not fork:
        monkeypatch.setattr(minimal, "can_fork", lambda: False)
    monkeypatch.setattr(minimal, "_SHARE_OF_THE_REST", 1)  # none is searched
    groups = collected_padded(*(replace(PADDED, mode=mode) for mode in ("deepcopy", "eager", "saved")))
    with with_faults("padding-lost-with-weights"):
        (told,) = news_about(groups, 60)
    assert (told.group.seen, told.group.is_minimal) == (3, False)
    assert told.least.case == PADDED


def test_a_message_joins_a_group_that_is_not_searched_to_a_behaviour():
    searched = _Searched()
    here, elsewhere = warning("slow", PADDED), warning("slow", replace(PADDED, functional=True))
    searched.add(News(here), End(Found(here.least, (here.key,)), (News(here, WARNS),)))
    searched.add_untried(News(elsewhere))
    assert [(its.explanation, its.group.seen) for its in searched.news] == [(WARNS, 2)]


WARNS = Explanation(BEHAVIOUR, behaviour="warns", effect="behaviours.warns('slow')", checked=1)


# ---- other kinds of failures ---------------------------------------------------------------------------------------


WEIGHTS_WANTED = next(law for law in LAWS if law.id == "weights_wanted_and_not_wanted")


def test_a_broken_law_is_made_smaller_with_its_twin():
    case = replace(PADDED, seed=7, layout="stepped")
    one, other = WEIGHTS_WANTED.twins(case)
    failure = Failure("broken", case=other, twin=one, law=WEIGHTS_WANTED.id)
    assert conforms_again(failure)
    for simple in simpler_failures(failure):
        assert simple.twin.need_weights != simple.case.need_weights
        assert replace(simple.twin, need_weights=False) == replace(simple.case, need_weights=False)


def conforms_again(failure):
    """True if the law is checked again, and holds on torch without a fault."""
    return failures_again(failure) == ()


def test_a_broken_law_is_checked_again(monkeypatch):
    monkeypatch.setattr(checking, "bounds", lambda *_: [-1.0])  # no result is close enough
    (group,) = collected(check_law, WEIGHTS_WANTED, PADDED)
    (failure,) = group.calls
    assert failure.law == WEIGHTS_WANTED.id
    assert "of the twin (weights wanted and not wanted): MultiHead(" in failure.note
    assert failures_again(failure) == (failure,)


def test_hidden_content_is_checked_again(monkeypatch):
    """A module whose output depends on hidden values."""
    original = functional.multi_head_attention_forward

    def leaking(query, key, value, *given, **options):
        output, weights = original(query, key, value, *given, **options)
        return output + value.sum() * 1e-3, weights

    monkeypatch.setattr(functional, "multi_head_attention_forward", leaking)
    case = replace(PADDED, attention="distinct", garbage=True)
    (group,) = collected(check_same_without_garbage, case)
    assert group.least.mismatches[0].kind == "content"
    assert failures_again(group.least)[0].mismatches[0].kind == "content"


# ---- simpler variants ----------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, database=None)
@given(any_cases(RELEASE))
def test_a_simpler_variant_is_a_valid_call_of_the_release(case):
    """It is no failure on the release itself, and it contradicts no hint."""
    for simple in list(simpler(case))[:40]:
        if is_valid(simple) and RELEASE.offers(simple):
            hints = {"attn_mask": "is_causal"} | {f"{s}_mask": f"{s}_is_causal" for s in ("src", "tgt", "memory")}
            for mask, hint in hints.items():
                if mask != "attn_mask" or isinstance(simple, MultiHead):
                    is_hinted = getattr(simple, hint, None)
                    assert not is_hinted or getattr(simple, mask) is None or getattr(simple, mask).pattern == "causal"


@settings(max_examples=60, deadline=None, database=None)
@given(any_cases(RELEASE))
def test_a_simpler_variant_conforms_where_torch_has_no_fault(case):
    variants = [its for its in simpler(case) if is_valid(its) and RELEASE.offers(its)]
    for simple in variants[:: max(1, len(variants) // 3)]:
        assert not collected(check, simple), simple


def test_a_call_without_features_keeps_its_scale():
    assert is_valid(ScaledDotProduct(D=0, scale=0.5))
    assert not is_valid(ScaledDotProduct(D=0))


def test_the_simplest_calls_have_no_variants():
    assert not [its for its in simpler(MultiHead(attention="self")) if size(Failure("", case=its)) < (0, 0, 1, 1)]
    assert not list(simpler(SquareSubsequentMask()))
