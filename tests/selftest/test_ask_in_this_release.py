"""The predictions of `python -m tests.tools ask`, compared with runs of the installed release."""

import json
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from math import ceil

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests.harness.cases.case import MultiHead, drops
from tests.harness.deviations.call import Call
from tests.harness.deviations.prediction import CONFORMS, DEVIATES, LACKING, REFUSED, prediction
from tests.harness.deviations.refusals import refusal
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.release import installed
from tests.harness.judgement.verdict import CONFORMS as IS_RIGHT
from tests.harness.judgement.verdict import FAILS, NOT_APPLICABLE, judge
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.modes.modes import BY_ID, MODES
from tests.harness.modes.parsing import parse
from tests.harness.modes.written import is_written
from tests.harness.releases import is_modelled
from tests.harness.strategies.basics import mixed
from tests.harness.strategies.by_mode import cases_in, low_precision_cases
from tests.harness.strategies.contents import nonfinite_cases
from tests.harness.strategies.flex import flex_attention_cases
from tests.harness.strategies.modules import MODULES, any_cases, cases_of, module_cases
from tests.tools.ask.answers import Question, remedied
from tests.tools.ask.command import main

from .sampling import FEW

RELEASE = installed()
PREDICTED = AnotherRelease(RELEASE.version)
QUICK = [mode for mode in MODES if mode.is_in() and mode.id != "eager" and not (mode.compiles or mode.vectors)]
SLOW = [mode for mode in MODES if mode.is_in() and mode.compiles and not mode.builds]


# ---- what it says --------------------------------------------------------------------------------------------------


def assert_said(case):
    """The prediction, if it says what the run of the call sees; AssertionError else."""
    observation, verdict = judged(case)
    assume(verdict.status != NOT_APPLICABLE)
    if not is_modelled(RELEASE.version):
        assume(verdict.status != FAILS)  # a failure is of the conformance tests to tell
    assert verdict.status != FAILS, verdict.mismatches
    said = prediction(case, PREDICTED)
    if is_written(case):  # only a run tells if it is rewritten
        assert said.status == LACKING
        return said
    if refused := refusal(Call(case, session.current.release, observation.served)):
        assert said.refusal is refused
        return said
    findings = session.current.findings.items()
    on_other_cpus = {id for id, its in findings if its.expected and its.status == session.ABSENT}
    ids = set(said.ids) - on_other_cpus
    if verdict.status == IS_RIGHT and (drops(case) or is_near_bound(case, observation, verdict)):
        assert ids <= set(verdict.deviations)  # what is dropped, or small, may hide an entry that applies
    else:
        assert ids == (set() if verdict.status == IS_RIGHT else set(verdict.deviations))
    return said


# What ask once said otherwise.
RARE = [
    # the rows of garbage queries alone show it
    "Transformer(seed=59344, autograd='inputs', layout='sliced', garbage=True, module='TransformerDecoder', S=2, T=2,"
    " num_heads=8, head_dim=2, tgt_mask=Mask(form='float', pattern='one', values='-1e9', per_head=True,"
    " layout='stepped', dtype='bfloat16'), tgt_key_padding_mask=Mask(form='float', pattern='sample', values='bias',"
    " layout='expanded'), memory_key_padding_mask=Mask(), num_layers=2, activation='gelu_tanh')",
    # NaN in one sample, and a query of the other one whose keys are masked with -1e9, which leaves scores no digits
    "Transformer(dtype='float32', seed=26584, autograd='frozen', layout='sliced', nonfinite='nan',"
    " module='TransformerDecoderLayer', N=2, S=5, T=5, num_heads=2, head_dim=17, tgt_mask=Mask(form='float',"
    " pattern='anti_causal', values='-1e9'), memory_mask=Mask(form='float', pattern='causal', values='bias',"
    " layout='sliced'), tgt_key_padding_mask=Mask(form='float', pattern='sample', values='bias', layout='stepped'),"
    " memory_key_padding_mask=Mask(form='float', pattern='scattered', values='finite', dtype='bfloat16'),"
    " activation='silu')",
    # in 2.1 the missing biases raise before gradients are differentiated again
    "Transformer(seed=24215, autograd='inputs', mode='second_derivatives', module='Transformer', N=2, S=3, T=2,"
    " num_heads=4, head_dim=4, tgt_mask=Mask(form='float', pattern='causal'), activation='gelu', bias=False)",
    # in 1.13 the float padding becomes bool and gets no gradient, which would be NaN
    "Transformer(dtype='float32', seed=23101, autograd='mask', nonfinite='nan', module='TransformerDecoderLayer', S=2,"
    " T=2, num_heads=2, head_dim=3, tgt_mask=Mask(pattern='all'), memory_mask=Mask(pattern='slice'),"
    " tgt_key_padding_mask=Mask(form='float', pattern='sample', values='-1e30', dtype='bfloat16'),"
    " memory_key_padding_mask=Mask(pattern='left'), activation='gelu', layer_norm_eps=0.01)",
    # the fused kernel takes a query of three dimensions since 2.14, and beside it a mask of none
    "ScaledDotProduct(mode='sdpa_flash', batch=(3,), D=3, Dv=3, attn_mask=Mask(), broadcast='0-D')",
    # the gradients that the entry makes wrong are NaN in any case, from NaN in another mask
    "Transformer(seed=21985, autograd='last_layer', module='TransformerDecoderLayer', N=2, S=513, T=2, num_heads=4,"
    " tgt_mask=Mask(form='float', pattern='row', values='min', per_head=True, dtype='float64'),"
    " memory_mask=Mask(form='float', pattern='one', values='nan'), tgt_key_padding_mask=Mask(pattern='sample'),"
    " batch_first=False, dim_feedforward=7)",
]


@FEW
@given(case=st.sampled_from(RARE).map(parse))
def test_ask_says_what_a_run_of_a_rare_call_sees(case):
    assume(RELEASE.offers(case))
    assert_said(case)


CALLED = (*MODULES, *["scaled_dot_product_attention"] * RELEASE.has_scaled_dot_product_attention)
OF_FLEX = 25  # which compiles itself anew for each
OF_EACH = ceil(300 / len(CALLED))


@pytest.mark.skipif(not is_modelled(RELEASE.version), reason="ask answers for the releases of the ledger")
@pytest.mark.parametrize("module", CALLED)
def test_the_command_says_what_a_run_of_this_release_sees(module):
    said: Counter[str] = Counter()

    @settings(FEW, max_examples=OF_EACH)
    @given(case=mixed(*(cases_of(RELEASE, module, inference) for inference in (False, True))))
    def ask_and_run(case):
        said[assert_answered(case).status] += 1

    ask_and_run()
    print(f"{module}: {', '.join(f'{number} {status}' for status, number in sorted(said.items()))}")
    assert said.total() == OF_EACH
    assert said.keys() <= {CONFORMS, DEVIATES, REFUSED}


@pytest.mark.skipif(not (RELEASE.has_flex_attention and is_modelled(RELEASE.version)), reason="since 2.5")
def test_the_command_says_what_a_run_of_flex_attention_sees():
    @settings(FEW, max_examples=OF_FLEX)
    @given(case=mixed(*(flex_attention_cases(RELEASE, inference) for inference in (False, True))))
    def ask_and_run(case):
        assert_answered(case)

    ask_and_run()


def assert_answered(case):
    """The prediction, if the command's answer on the case says it, and the run of the call sees it."""
    said = assert_said(case)
    (answer,) = answered(case)["ranges"]
    assert answer["status"] == said.status
    ids = {entry["id"] for entry in answer["entries"]}
    assert ids <= set(said.ids)  # an entry that shows beside others alone is not told
    assert bool(ids) == bool(said.ids)
    return said


def answered(case):
    """The answer of the command on a case for this release, as JSON."""
    with redirect_stdout(StringIO()) as printed:
        assert main([repr(case), "--torch", str(RELEASE.version), "--format", "json"]) == 0
    return json.loads(printed.getvalue())


@FEW
@given(case=nonfinite_cases(RELEASE))
def test_ask_says_what_a_run_with_nan_or_inf_sees(case):
    assert_said(case)


def is_near_bound(case, observation, verdict):
    """True if the run's distance from the specification is as near to its bound as the prediction to the run."""
    from_model, from_specification = (
        max((ratio for _, ratio in its.margins), default=0) for its in (verdict, judge(case, observation))
    )
    return from_specification + from_model > 1


@settings(FEW, max_examples=300)
@given(data=st.data())
def test_ask_says_what_a_run_in_any_mode_sees(data):
    mode = data.draw(st.sampled_from(QUICK))
    event(f"{mode} {assert_said(data.draw(cases_in(RELEASE, mode))).status}")


@settings(FEW, max_examples=12)
@given(data=st.data())
def test_ask_says_what_a_run_of_a_compiled_call_sees(data):
    assert_said(data.draw(cases_in(RELEASE, data.draw(st.sampled_from(SLOW)))) if SLOW else MultiHead())


@pytest.mark.parametrize("dtype", RELEASE.low_dtypes)
@FEW
@given(data=st.data())
def test_ask_says_what_a_run_in_low_precision_sees(dtype, data):
    assert_said(data.draw(low_precision_cases(RELEASE, dtype)))


@FEW
@given(case=module_cases(RELEASE))
def test_ask_says_what_a_run_sees_where_parameters_alone_are_trained(case):
    assert_said(replace(case, autograd="parameters"))


@settings(FEW, max_examples=60)
@given(case=mixed(module_cases(RELEASE, inferring=(True,)), any_cases(RELEASE)))
def test_a_remedy_that_is_told_helps_on_this_release(case):
    assume(not drops(case))
    said = prediction(case, PREDICTED)
    assume(said.ids and assert_said(case).ids)
    for changed in remedied(Question(case, case, only=True), said.ids, RELEASE.version):
        _, verdict = judged(changed)
        assert verdict.status == IS_RIGHT, changed


# ---- what only an installed release can tell -----------------------------------------------------------------------

FACTS = [name for name in dir(AnotherRelease) if name.startswith("has_") and name != "has_mode"]


@pytest.mark.parametrize("name", [*FACTS, "dtypes", "low_dtypes"])
def test_another_release_offers_what_the_installed_one_does(name):
    assert getattr(PREDICTED, name) == getattr(RELEASE, name)


@pytest.mark.parametrize("mode", [id for id, mode in BY_ID.items() if not mode.builds and mode.has_packages])
def test_another_release_has_the_modes_of_the_installed_one(mode):
    assert PREDICTED.has_mode(mode) == BY_ID[mode].is_in()


def test_there_are_facts():
    assert "has_scale" in FACTS
    assert [AnotherRelease(Version(version)).has_scale for version in ("2.0", "2.1")] == [False, True]
