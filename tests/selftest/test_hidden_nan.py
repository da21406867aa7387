"""NaN and inf in hidden positions: their places in the inputs, their effect on results, their share of the draws."""

from dataclasses import replace

import numpy as np
import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import directions, inputs
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.facts import backward_pass
from tests.harness.deviations.hidden_content import hides_nonfinite_on
from tests.harness.deviations.paths import takes_nested_path
from tests.harness.execution.runner import observe
from tests.harness.expectation.arithmetic import Arithmetic
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement import session
from tests.harness.modes.modes import BY_ID
from tests.harness.strategies.by_mode import cases_in, low_precision_cases
from tests.harness.strategies.contents import nonfinite_cases
from tests.harness.strategies.modules import MODULES

from .sampling import sample

RELEASE = session.start().release
SDPA = ScaledDotProduct(L=2, S=3, nonfinite="nan", attn_mask=Mask("bool", "last_column"))
ENCODER = Transformer(module="TransformerEncoder", S=3, num_heads=2, head_dim=2, nonfinite="nan")
ENCODER = replace(ENCODER, src_key_padding_mask=Mask("bool", "trailing"), N=2)

needs_sdpa = pytest.mark.skipif(not RELEASE.has_scaled_dot_product_attention, reason="the release has no SDPA")


def spoiled(case):
    """Names of the inputs with non-finite elements."""
    return {name for name, array in inputs(case).items() if not np.isfinite(array).all()}


@pytest.mark.parametrize("seed, names", [(0, {"key", "value"}), (1, {"key"}), (2, {"value"})])
def test_the_seed_chooses_what_is_not_finite(seed, names):
    assert spoiled(replace(SDPA, seed=seed)) == names


@pytest.mark.parametrize(
    "case, names",
    [
        (replace(SDPA, nonfinite=""), set()),
        (replace(SDPA, attn_mask=None), set()),
        (MultiHead(S=2, nonfinite="inf", key_padding_mask=Mask("bool", "one")), {"key", "value"}),
        (MultiHead(L=2, S=2, attention="self", nonfinite="nan", key_padding_mask=Mask("bool", "one")), {"query"}),
        (ENCODER, {"src"}),
    ],
)
def test_only_what_nobody_may_see_is_not_finite(case, names):
    assert spoiled(case) == names


def test_what_is_seen_stays_finite():
    assert np.isfinite(inputs(SDPA)["value"][..., :-1, :]).all()
    assert np.isinf(inputs(replace(SDPA, nonfinite="inf"))["value"][..., -1, :]).all()


HIDDEN = np.array([[0.0, -np.inf], [-np.inf, -np.inf]])


@pytest.mark.parametrize(
    "arithmetic, key, value, is_nan",
    [
        (Arithmetic(), np.nan, 1.0, [True, True]),
        (Arithmetic(), 1.0, np.nan, [True, True]),
        (Arithmetic(), np.inf, 1.0, [True, True]),
        (Arithmetic(), -np.inf, 1.0, [False, True]),
        (Arithmetic(is_safe=True), 1.0, 1.0, [False, False]),
        (Arithmetic(is_safe=True), -np.inf, 1.0, [False, False]),
        (Arithmetic(is_safe=True), 1.0, np.nan, [True, True]),
        (Arithmetic(fills=True), np.nan, 1.0, [False, True]),
        (Arithmetic(fills=True), 1.0, np.nan, [True, True]),
        (Arithmetic(fills=True, is_safe=True), np.nan, 1.0, [False, False]),
    ],
)
def test_what_arithmetic_makes_of_a_hidden_key(arithmetic, key, value, is_nan):
    with np.errstate(all="ignore"):
        context, _ = arithmetic(np.ones((2, 1)), np.array([[1.0], [key]]), np.array([[1.0], [value]]), HIDDEN, 1.0)
    assert np.isnan(context[:, 0]).tolist() == is_nan


@pytest.mark.parametrize("where, is_nan", [(511, True), (512, False)])
def test_the_fused_kernel_never_looks_past_the_last_block(where, is_nan):
    value = np.ones((600, 1))
    value[where] = np.nan
    bias = np.where(np.arange(600) > np.arange(2)[:, None], -np.inf, 0.0)
    kernel = Arithmetic(fills=True, skips=True)
    context, _ = kernel(np.ones((2, 1)), np.ones((600, 1)), value, bias, 1.0)
    assert np.isnan(context).all() == np.isnan(context).any() == is_nan


def verdict(case, entries):
    observation = observe(case)
    return judge(case, observation, ledger.applying(Call(case, RELEASE, observation.served), entries))


@pytest.mark.parametrize(
    "case",
    [
        MultiHead(S=2, nonfinite="nan", key_padding_mask=Mask("bool", "one")),
        MultiHead(L=2, S=2, num_heads=2, attention="self", nonfinite="nan", key_padding_mask=Mask("bool", "one")),
        replace(ENCODER, enable_nested_tensor=False),
        pytest.param(SDPA, marks=needs_sdpa),
    ],
)
def test_nan_spreads_as_predicted_and_is_no_conformance(case):
    entries = session.current.entries
    assert verdict(case, entries).status == DEVIATES
    assert verdict(case, [entry for entry in entries if not entry.id.startswith("hidden-nan")]).status == FAILS


def test_a_packed_batch_leaves_it_out():
    entries = [entry for entry in session.current.entries if not entry.id.startswith("nested-padding-zero")]
    assert not any(entry.id.startswith("hidden-nan") for entry in ledger.applying(Call(ENCODER, RELEASE), entries))
    assert np.isfinite(observe(ENCODER).outputs["output"]).all()


@needs_sdpa
def test_a_hidden_key_alone_is_no_matter_to_the_causal_kernel():
    case = ScaledDotProduct(seed=1, L=2, S=3, nonfinite="nan", is_causal=True)
    is_fused = observe(case).served == ("sdpa_flash",)
    assert verdict(case, session.current.entries).status == (CONFORMS if is_fused else DEVIATES)


SEEN = MultiHead(S=2, head_dim=2, nonfinite="nan", key_padding_mask=Mask("bool", "one"), autograd="grad")


def verdict_on(observation, case=SEEN):
    entries = ledger.applying(Call(case, RELEASE, observation.served), session.current.entries)
    return judge(case, observation, entries, backward_pass=backward_pass(case, RELEASE))


@pytest.mark.parametrize("name", ["key", "out_proj.weight"])
def test_nan_that_a_gradient_lacks_fails(name):
    observation = observe(SEEN)
    assert verdict_on(observation).status == DEVIATES
    assert np.isnan(observation.gradients[name]).any()
    gradients = {**observation.gradients, name: np.nan_to_num(observation.gradients[name])}
    assert verdict_on(replace(observation, gradients=gradients)).status == FAILS


LATE = Transformer(
    module="TransformerDecoder",
    seed=3,
    T=700,
    S=2,
    head_dim=4,
    num_layers=2,
    tgt_mask=Mask("bool", "causal"),
    memory_mask=Mask("bool", "row"),
    training=True,
)


@pytest.mark.parametrize("autograd", ["no_grad", "grad"])
def test_nan_in_a_later_block_of_keys_does_not_reach_earlier_queries_of_a_causal_stack(autograd):
    """Before 2.5 the query that sees no key of the memory is NaN, and so are the keys of the next layer."""
    case = replace(LATE, autograd=autograd)
    observation = observe(case)
    assert verdict_on(observation, case).status != FAILS
    if RELEASE.has_decoder_hints and np.isnan(observation.outputs["output"]).any():
        assert np.isfinite(observation.outputs["output"][:, :512]).all()


FUNCTION = ScaledDotProduct(seed=1, autograd="grad", L=520, S=1025, nonfinite="nan", is_causal=True)


@needs_sdpa
@pytest.mark.parametrize("case", [FUNCTION, replace(FUNCTION, seed=2)])
def test_keys_that_the_causal_kernel_never_computes_have_no_nan_in_their_gradient(case):
    observation = observe(case)
    assert verdict_on(observation, case).status != FAILS
    is_fused = observation.served == ("sdpa_flash",)
    if is_fused and case.seed == 1:  # only keys are NaN
        assert 0 < np.isnan(observation.gradients["query"]).sum() < case.L


STACK = Transformer(
    module="TransformerEncoder", autograd="grad", S=1025, head_dim=4, src_mask=Mask("bool", "causal"), training=True
)


@pytest.mark.parametrize("case, sources", [(STACK, ("src",)), (replace(STACK, src_is_causal=False), ())])
def test_a_stack_gives_is_causal_in_place_of_a_causal_mask(case, sources):
    expected = sources if RELEASE.has_causal_hints else ()
    assert not RELEASE.offers(case) or backward_pass(case, RELEASE).causal == expected


@pytest.mark.parametrize(
    "strategy",
    [
        *(cases_in(RELEASE, BY_ID[id]) for id in ("traced", "reused", "pruned")),
        *(low_precision_cases(RELEASE, dtype) for dtype in RELEASE.low_dtypes),
    ],
    ids=str,
)
def test_a_few_are_generated_in_other_modes_and_low_precision(strategy):
    assert 0.02 < np.mean([case.nonfinite != "" for case in sample(strategy, 300)]) < 0.2


STATIC = MultiHead(L=2, S=2, head_dim=2, attention="self", functional=True, static=True, autograd="grad")


@pytest.mark.parametrize("batched", [True, False])
def test_a_batch_that_is_query_key_and_value_is_projected_by_one_product(batched):
    """Static keys and values leave two of the projections without a gradient, but the product multiplies it by NaN."""
    case = replace(STATIC, batched=batched, nonfinite="nan", key_padding_mask=Mask("bool", "one"))
    assert verdict_on(observe(case), case).status != FAILS


@pytest.fixture(scope="module")
def drawn():
    return sample(nonfinite_cases(RELEASE), 600)


def test_it_is_generated_for_every_module(drawn):
    modules = {case.module for case in drawn}
    assert modules >= set(MODULES)
    assert ("scaled_dot_product_attention" in modules) == RELEASE.has_scaled_dot_product_attention


@pytest.mark.parametrize("path", ["explicit", "native_mha", "native_layer", "sdpa", "nested"])
def test_it_is_generated_for_every_path(path, drawn):
    is_there = path != "sdpa" or RELEASE.has_scaled_dot_product_attention
    assert not is_there or sum(path in paths_of(case) for case in drawn) > 10


def paths_of(case):
    """The paths of the blocks that get non-finite elements."""
    call, paths = Call(case, RELEASE), ("explicit", "native_mha", "native_layer", "sdpa")
    found = {path for path in paths if hides_nonfinite_on(path)(call)}
    return found | ({"nested"} if takes_nested_path(case, RELEASE) else set())


def test_some_are_differentiated(drawn):
    assert sum(bool(directions(case)) for case in drawn) > 50


@pytest.mark.parametrize("nonfinite", ["nan", "inf"])
def test_both_kinds_are_generated(nonfinite, drawn):
    assert sum(case.nonfinite == nonfinite for case in drawn) > 100


@needs_sdpa
@pytest.mark.parametrize("appended", [{"add_zero_attn": True}, {"add_bias_kv": True}])
@pytest.mark.parametrize("seed", range(3))
def test_a_hint_that_hides_appended_keys_leaves_what_is_computed_of_hidden_ones(appended, seed):
    case = MultiHead(
        attention="cross", seed=seed, S=2, attn_mask=Mask("bool", "causal"), is_causal=True, need_weights=False
    )
    case = replace(case, nonfinite="inf", **appended)
    assert verdict_on(observe(case), case).status == DEVIATES
