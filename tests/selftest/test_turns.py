"""Sequences of calls: the artifact made for the first call serves the others, which have other masks or sizes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.cases.spelling import shortest_repr
from tests.harness.execution.runner import made_once, observe
from tests.harness.judgement.report import Nonconformance
from tests.harness.measurement import session
from tests.harness.measurement.checking import check_in_turn
from tests.harness.modes.mode import SDPA, Mode
from tests.harness.modes.modes import BY_ID, EAGER, MODES
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.reuse import call_sequences
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import injected
from tests.tools import again
from tests.tools.case_script import script
from tests.tools.filing import script_of

from .running import mismatches, run_script
from .sampling import sample

RELEASE = session.start().release
HERE = [mode for mode in MODES if mode.is_in()]
SERVING = [mode for mode in HERE if mode.serves and not mode.builds]
QUICK = ("compiled_eager", "exported", "scripted")  # modes whose artifact is made quickly
SIZES = ("N", "L", "S", "T")
PADDED = MultiHead(L=3, S=3, num_heads=2, attention="self", key_padding_mask=Mask("bool", "one"))
MASKED = ScaledDotProduct(dtype="float32", batch=(1, 2), L=3, S=3, attn_mask=Mask("bool", "one"))


@pytest.fixture
def made(monkeypatch):
    """A list of the ids of the modes whose artifact was made, in order."""
    ids, prepare = [], Mode.prepare

    def noting(mode, *given):
        if mode is not EAGER:
            ids.append(mode.id)
        return prepare(mode, *given)

    monkeypatch.setattr(Mode, "prepare", noting)
    return ids


@pytest.fixture
def exports(monkeypatch):
    """A list that grows by one element with each export."""
    exports, export = [], torch.export.export
    monkeypatch.setattr(
        torch.export, "export", lambda *given, **options: exports.append(1) or export(*given, **options)
    )
    return exports


def check(cases):
    """Run check_in_turn inside a Hypothesis test, since it reports paths to Hypothesis."""

    @settings(max_examples=1, database=None, deadline=None)
    @given(st.none())
    def ask(_):
        check_in_turn(cases)

    ask()


def turns(mode, number=300):
    return sample(call_sequences(cases_in(RELEASE, mode), mode), number)


@pytest.mark.parametrize("mode", SERVING, ids=str)
def test_those_that_follow_differ_in_what_may_differ(mode):
    masks = set()
    has_few_masks = mode.id == "written_key_permuted_times"
    for first, *others in turns(mode, 1_500 if has_few_masks else 800):
        layouts = {first.layout, *(mask.layout for mask in masks_of(first).values())}
        fixed = {"expanded", "sliced", "stepped"} if mode.serves == "sizes" else {"expanded"}
        assert len(others) <= (0 if fixed & layouts else 5)
        for case in others:
            masks |= {(mask.form, mask.pattern, mask.values) for mask in masks_of(case).values()}
            assert masks_of(case).keys() == masks_of(first).keys()
            contents = {
                name: replace(mask, pattern=masks_of(first)[name].pattern, values=masks_of(first)[name].values)
                for name, mask in masks_of(case).items()
            }
            sizes = {name: getattr(first, name) for name in SIZES if hasattr(first, name)}
            assert replace(case, **contents, **sizes) == first
            assert mode.serves == "sizes" or all(getattr(case, name) == size for name, size in sizes.items())
            for name, size in sizes.items():
                equal = [getattr(case, other) for other, its in sizes.items() if its == size]
                assert set(equal) == {getattr(case, name) if size > 1 else size}
    forms = (("bool", "inf"), ("float", "inf"), ("float", "min"))
    assert masks >= {(form, pattern, values) for form, values in forms for pattern in ("row", "all")}


def test_a_hinted_mask_stays():
    for first, *others in turns(BY_ID["scripted"]):
        for name, hint in (("attn_mask", "is_causal"), ("src_mask", "src_is_causal"), ("tgt_mask", "tgt_is_causal")):
            if getattr(first, name, None) and getattr(first, hint, None):
                assert all(getattr(case, name) == getattr(first, name) for case in others)


def test_other_modes_are_asked_of_single_calls():
    assert all(len(cases) == 1 for cases in turns(BY_ID["deepcopy"], 20))


@pytest.mark.parametrize("mode", SERVING, ids=str)
def test_what_is_made_for_the_first_serves_the_others(mode, made):
    case, name, patterns = PADDED, "key_padding_mask", ("one", "left", "all")
    if set(mode.calls) == {SDPA}:
        case, name, patterns = MASKED, "attn_mask", ("one", "causal", "all")
    cases = [replace(case, mode=mode.id, **{name: Mask("bool", pattern)}) for pattern in patterns]
    check(cases)
    assert made == [mode.id]
    observe(cases[0])
    assert made == [mode.id] * 2, "and nothing after them"


def test_what_does_not_serve_others_is_made_for_each(made):
    check([replace(PADDED, mode="deepcopy", seed=seed) for seed in range(3)])
    assert made == ["deepcopy"] * 3


@pytest.mark.parametrize(
    "case",
    [
        MultiHead(N=2, L=3, S=5, num_heads=2, key_padding_mask=Mask("bool", "one"), autograd="no_grad"),
        Transformer(N=2, S=3, num_heads=2, head_dim=2, src_mask=Mask("float", "causal"), training=True),
    ],
    ids=shortest_repr,
)
def test_one_program_serves_all_sizes(case, exports):
    cases = [replace(case, mode="exported_dynamic", N=N, S=S) for N, S in ((2, 6), (4, 9), (3, 17))]
    check(cases)
    assert len(exports) == 1


def test_what_is_right_only_at_first_fails_and_can_be_run_again(capsys):
    patterns = ("none", "one")
    first, second = (replace(PADDED, mode="exported", key_padding_mask=Mask("bool", pattern)) for pattern in patterns)
    with injected(FAULTS["exported-program-keeps-its-first-mask"]):
        check([first])
        check([second])
        with pytest.raises(Nonconformance) as failure:
            check([first, second])
        assert f'"{shortest_repr(second)}" --after "{shortest_repr(first)}"' in str(failure.value)
        assert again.main([shortest_repr(second)]) == 0
        assert again.main([shortest_repr(second), "--after", shortest_repr(first)]) == 1
        assert "made by a call of another case" in capsys.readouterr().out
        assert run_script(script(second))[0] == 0
        (its_failure,) = failure.value.failures
        assert run_script(script_of(its_failure))[0] == 1


@pytest.mark.parametrize("mode", [mode for mode in SERVING if mode.id in QUICK], ids=str)
def test_a_script_of_a_call_that_follows_makes_the_first_one_too(mode):
    for first, *others in turns(mode, 6):
        for case in others[:2]:
            text = script(case, after=first)
            assert text.count("# what is judged is the call that comes after\n    pass") == 1
            code, output, _ = run_script(text)
            assert code == bool(mismatches(case)), output


def test_what_is_right_only_for_one_size_fails():
    first, second = (replace(PADDED, L=S, S=S, mode="compiled_dynamic") for S in (3, 5))
    second = replace(second, key_padding_mask=Mask("bool", "trailing"))
    with injected(FAULTS["compiled-for-a-length"]):
        check([second])
        with pytest.raises(Nonconformance):
            check([first, second])


def test_the_functions_are_served_as_well(made):
    case = ScaledDotProduct(L=2, S=3, attn_mask=Mask("bool", "one"), mode="compiled_eager")
    with made_once():
        for pattern in ("one", "row"):
            assert observe(replace(case, attn_mask=Mask("bool", pattern))).error is None
    assert made == ["compiled_eager"]
