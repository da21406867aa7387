"""The strategies reach the cases that they are for, and shrink to short cases."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from random import Random

import pytest
import torch
from hypothesis import find, settings
from hypothesis import strategies as st

from tests.harness.cases import masks
from tests.harness.cases.case import AUTOGRAD, UNRECORDED, ScaledDotProduct, is_padding, masks_of
from tests.harness.contents.arrays import directions, hidden, inputs, parameters
from tests.harness.execution.call import arguments
from tests.harness.measurement import session
from tests.harness.modes.mode import SDPA
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.reading import COMPILED_READING
from tests.harness.strategies import written
from tests.harness.strategies.basics import EDGES, evenly, mixed
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.modules import any_cases, cases_of

from .sampling import sample

RELEASE = session.start().release
DRAWS = 1500


def needs(attribute):
    """A mark for an option that only releases with this attribute (release.Release) have."""
    return pytest.mark.skipif(not getattr(RELEASE, attribute), reason="the release does not have the option")


@pytest.fixture(scope="module")
def drawn():
    """A sample of cases of all modules."""
    return sample(any_cases(RELEASE), DRAWS)


@pytest.fixture(scope="module")
def drawn_for_sdpa():
    """A sample of calls of scaled_dot_product_attention, which has a small share in `drawn`."""
    return sample(cases_of(RELEASE, "scaled_dot_product_attention"), DRAWS // 3)


def share(drawn, condition):
    return sum(map(bool, map(condition, drawn))) / len(drawn)


@pytest.mark.parametrize("number", [8, 256, 300, 5000])
def test_every_part_of_a_table_is_drawn_alike(number):
    table = evenly(tuple(range(number)))
    places = [place for places in sample(st.tuples(*[table] * 4), 1000) for place in places]
    quarters = Counter(place * 4 // number for place in places)
    assert all(0.2 < quarters[quarter] / len(places) < 0.35 for quarter in range(4)), quarters


def test_a_mixture_is_mixed_as_it_is_written():
    rare, usual = st.integers(0, 9), st.one_of(st.integers(10, 19), st.integers(20, 29))
    assert 0.15 < share(sample(mixed(*[usual] * 3, rare), 1000), lambda number: number < 10) < 0.35


@pytest.mark.parametrize("id", ["vmap", "sdpa_math", "autocast"])
def test_ways_that_the_function_has_are_asked_of_it(id):
    if SDPA not in BY_ID[id].calls:
        pytest.skip("this release does not have it for the function")
    of_the_function = share(sample(cases_in(RELEASE, BY_ID[id]), 200), lambda case: case.module == SDPA)
    assert 0.2 < of_the_function < 0.6


def test_compiled_calls_mask_something_and_are_mostly_of_single_layers():
    drawn = sample(cases_in(RELEASE, BY_ID["compiled"]), 200)
    assert all(masks_of(case) or case.is_causal for case in drawn)
    assert share(drawn, lambda case: case.module in ("TransformerEncoder", "TransformerDecoder", "Transformer")) < 0.35


@pytest.mark.skipif(not BY_ID["compiled_inductor"].is_in(), reason="inductor builds nothing here")
def test_only_functions_are_built_with_gradients_also_of_several_heads_in_float64():
    drawn = [case for case in sample(cases_in(RELEASE, BY_ID["compiled_inductor"]), 200) if directions(case)]
    assert {case.module for case in drawn} == {SDPA}
    assert 5 < len(drawn) < 50  # of 200
    assert any(case.dtype == "float64" and case.heads > 1 < case.L for case in drawn)


@pytest.mark.skipif(not BY_ID[COMPILED_READING].is_in(), reason="inductor builds nothing here")
def test_masks_that_a_function_reads_at_positions_often_have_rows_and_several_keys():
    drawn = sample(cases_in(RELEASE, BY_ID[COMPILED_READING]), 100)
    assert all(case.attn_mask and not directions(case) for case in drawn)
    read = [case for case in drawn if case.broadcast not in ("1-D", "0-D") and case.mask_shape("attn_mask")[-1] > 1]
    assert 40 < len(read) < 95  # of 100
    assert {case.attn_mask.form for case in read} == {"bool", "float"}


@pytest.mark.skipif(not BY_ID["written_key_permuted"].is_in(), reason="before 2.1 nothing is compiled")
def test_a_key_that_is_permuted_at_once_often_meets_as_many_heads():
    drawn = sample(cases_in(RELEASE, BY_ID["written_key_permuted"]), 200)
    meeting = [case for case in drawn if case.batch[0] == 1 and case.batch[1] == case.S > 1]
    assert len(meeting) > 0.5 * len(drawn)
    assert 0.1 < share(drawn, lambda case: case.attn_mask is None) < 0.4
    assert share(meeting, lambda case: case.attn_mask and case.attn_mask.is_float) > 0.3
    assert share(drawn, lambda case: case.batch[1] == 1 and case.S > 1 and case.attn_mask) > 0.02


@pytest.mark.skipif(not BY_ID["written_key_permuted_times"].is_in(), reason="before 2.1 nothing is compiled")
def test_a_key_that_is_permuted_at_once_for_a_product_often_has_several_samples_and_no_mask():
    drawn = sample(cases_in(RELEASE, BY_ID["written_key_permuted_times"]), 200)
    several = [case for case in drawn if 1 not in (*case.batch, case.L, case.S) and case.attn_mask is None]
    without_gradients = [case for case in several if case.autograd in UNRECORDED]
    assert share(without_gradients, lambda case: case.batch[1] == case.S) > 0.3
    assert share(without_gradients, lambda case: case.batch[1] != case.S) > 0.2
    assert len(without_gradients) > 0.3 * len(drawn)
    assert share(drawn, lambda case: case.batch[0] == 1 and case.batch[1] == case.S and case.attn_mask is None) > 0.1
    assert share(drawn, lambda case: case.attn_mask is not None) > 0.1
    assert len(several) > len(without_gradients)


@pytest.mark.skipif(not BY_ID["written_key_permuted"].is_in(), reason="before 2.1 nothing is compiled")
@pytest.mark.parametrize("mask_batch", [(), (0,), (1,), (3, 0), (1, 0), (3, 1)])
def test_a_mask_fits_a_call_that_gets_as_many_heads_as_keys(mask_batch, monkeypatch):
    case = ScaledDotProduct(batch=(3, 0), mask_batch=mask_batch, S=2, attn_mask=masks.Mask("float", "one"))
    monkeypatch.setattr(written, "scaled_dot_product_cases", lambda release: st.just(case))
    for drawn in sample(cases_in(RELEASE, BY_ID["written_key_permuted"]), 20):
        assert hidden(drawn)[0].shape == (*drawn.batch, drawn.L, drawn.S)


def test_cases_are_drawn_independently(drawn):
    assert len({case.seed for case in drawn}) > 0.95 * len(drawn)


@pytest.mark.parametrize("pattern", dict.fromkeys(masks.ATTENTION_PATTERNS + masks.PADDING_PATTERNS))
def test_every_pattern_is_drawn(drawn, pattern):
    assert share(drawn, lambda case: any(mask.pattern == pattern for mask in masks_of(case).values())) > 0.01


@pytest.mark.parametrize("values", RELEASE.mask_values)
def test_every_kind_of_float_is_drawn(drawn, values):
    def has(case):
        return any(mask.is_float and mask.values == values for mask in masks_of(case).values())

    assert share(drawn, has) > 0.03


@pytest.mark.parametrize("inputs", ["float64", "float32"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_mask_of_each_dtype_is_drawn_beside_inputs_of_each(drawn, inputs, dtype):
    def has(case):
        return case.dtype == inputs and any(mask.dtype == dtype for mask in masks_of(case).values())

    assert share(drawn, has) > 0.01


def test_two_masks_of_one_dtype_that_is_not_the_inputs_are_drawn(drawn):
    def has(case):
        dtypes = [mask.dtype for mask in masks_of(case).values() if mask.dtype]
        return any(dtypes.count(dtype) > 1 for dtype in dtypes if dtype != case.dtype)

    assert share(drawn, has) > 0.0005


def test_float32_masks_are_drawn_beside_float64_where_whole_vectors_of_keys_are(drawn_for_sdpa):
    def has(case):
        mask = case.attn_mask
        return case.dtype == "float64" and mask and mask.dtype == "float32" and case.S >= 16

    assert share(drawn_for_sdpa, has) > 0.001


@pytest.mark.parametrize("id", ["func_vjp", "func_jacrev", "vmap", "fake", "traced", "compiled", "exported"])
def test_modes_are_asked_of_masks_of_another_dtype(id):
    if not BY_ID[id].is_in():
        pytest.skip("this release does not have it")

    def has(case):
        return any(mask.dtype not in (None, case.dtype) for mask in masks_of(case).values())

    assert share(sample(cases_in(RELEASE, BY_ID[id]), 200), has) > 0.02


@pytest.mark.parametrize("layout", masks.LAYOUTS)
def test_every_layout_is_drawn(drawn, layout):
    assert share(drawn, lambda case: any(mask.layout == layout for mask in masks_of(case).values())) > 0.04


@pytest.mark.parametrize("autograd", AUTOGRAD)
def test_every_way_of_autograd_is_drawn(drawn, autograd):
    assert share(drawn, lambda case: case.autograd == autograd) > 0.03


@pytest.mark.parametrize(
    "condition",
    [
        lambda case: case.dtype == "float32",
        lambda case: case.garbage and masks_of(case),
        lambda case: not masks_of(case),
        lambda case: len(masks_of(case)) > 1,
        lambda case: len({mask.form for mask in masks_of(case).values()}) == 2,
        lambda case: getattr(case, "num_heads", 0) % 2 == 1,
        lambda case: getattr(case, "head_dim", 0) % 2 == 1,
        lambda case: getattr(case, "L", 1) != getattr(case, "S", 1),
        lambda case: getattr(case, "S", 1) in EDGES,
        lambda case: getattr(case, "training", False),
        lambda case: not case.batched,
        lambda case: not case.batch_first,
        lambda case: case.num_layers > 1,
    ],
)
def test_every_situation_is_drawn(drawn, condition):
    assert share(drawn, condition) > 0.02


@pytest.mark.parametrize(
    "condition",
    [
        lambda case: case.add_bias_kv,
        lambda case: case.add_zero_attn,
        lambda case: case.kdim,
        pytest.param(lambda case: case.is_causal, marks=needs("has_causal_hints")),
        pytest.param(lambda case: not case.fast_path, marks=needs("has_fast_path_switch")),
        lambda case: not case.bias,
        lambda case: case.dropout,
        lambda case: not case.enable_nested_tensor,
        lambda case: not case.mask_check,
        lambda case: case.norm_first,
        lambda case: getattr(case, "N", 1) == 0,
        lambda case: 0 in (getattr(case, "S", 1), getattr(case, "L", 1), getattr(case, "T", 1)),
        lambda case: case.autograd == "last_layer" and case.num_layers > 1,
        lambda case: getattr(case, "N", 0) == getattr(case, "num_heads", 1) > 2,
        lambda case: getattr(case, "S", 0) == getattr(case, "num_heads", 1) > 2,
        lambda case: getattr(case, "S", 0) == getattr(case, "N", 1) > 3,
        lambda case: max(getattr(case, "D", 0), getattr(case, "head_dim", 0)) > 16,
        lambda case: case.activation == "silu",
        lambda case: case.activation == "gelu_tanh",
    ],
)
def test_every_rare_option_is_drawn(drawn, condition):
    assert share(drawn, condition) > 0.001


_OPTIONS = {
    "MultiheadAttention": (
        *(lambda case: case.add_bias_kv, lambda case: case.add_zero_attn, lambda case: not case.bias),
        *(lambda case: case.training, lambda case: not case.batched, lambda case: not case.batch_first),
    ),
    "TransformerDecoderLayer": (
        *(lambda case: case.norm_first, lambda case: not case.bias, lambda case: not case.batch_first),
        *(lambda case: case.training, lambda case: not case.batched, lambda case: case.dropout),
    ),
}


@pytest.mark.parametrize("module", _OPTIONS)
def test_every_three_options_meet(module):
    if module == "TransformerDecoderLayer" and not RELEASE.has_layer_bias:
        pytest.skip("the release does not have the option")
    cases = sample(cases_of(RELEASE, module), DRAWS)
    for three in combinations(_OPTIONS[module], 3):
        assert share(cases, lambda case, three=three: all(has(case) for has in three)) > 0.005


def test_most_calls_for_inference_have_few_options():
    """Options close fast paths."""
    cases = sample(cases_of(RELEASE, "MultiheadAttention", True), DRAWS // 3)
    closing = _OPTIONS["MultiheadAttention"][:3]
    assert share(cases, lambda case: not any(has(case) for has in closing)) > 0.6


@pytest.mark.parametrize("module", ["MultiheadAttention", "scaled_dot_product_attention", "TransformerDecoderLayer"])
def test_one_query_of_several_keys_is_drawn(module):
    cases = sample(cases_of(RELEASE, module), DRAWS // 3)
    assert share(cases, lambda case: getattr(case, "L", getattr(case, "T", None)) == 1 < case.S) > 0.01


def test_layers_that_differ_in_mode_are_layers_of_one_call():
    cases = sample(cases_in(RELEASE, BY_ID["layers_apart"]), 100)
    assert all(case.num_layers > 1 or case.module == "Transformer" for case in cases)
    assert 0.2 < share(cases, lambda case: case.training) < 0.9


def test_masks_are_one_tensor_in_the_mode_that_shares_them():
    cases = sample(cases_in(RELEASE, BY_ID["shared_masks"]), 100)
    assert share(cases, lambda case: shared_masks(case)) > 0.5
    assert share(cases, lambda case: shared_masks(replace(case, mode="eager"))) == 0


def shared_masks(case):
    """The number of masks of the call that are an earlier one."""
    called = {}

    def module(*given, **options):
        called.update(options)

    tensors = {name: tensor for name, tensor in arguments(case).items() if name in masks_of(case)}
    function, _ = BY_ID[case.mode].prepare(module, ())
    function(**tensors)
    return len(called) - len({id(mask) for mask in called.values()})


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(lambda case: (case.scale or 1) < 0, marks=needs("has_scale")),
        lambda case: case.broadcast.endswith("-D"),
        lambda case: case.broadcast in ("L", "S"),
        lambda case: case.is_causal,
        pytest.param(lambda case: case.kv_heads, marks=needs("has_enable_gqa")),
        lambda case: case.D > 16,
        pytest.param(lambda case: case.D == 0 < case.Dv, marks=needs("has_scale")),
        lambda case: case.Dv == 0 < case.D,
        lambda case: len(case.batch) != 2,
        lambda case: max(case.L, case.S) > 129,
        lambda case: len(case.batch) == 2 and 1 < case.batch[0] == case.L and len(case.mask_batch) == 0,
        lambda case: len(case.batch) == 3 and case.batch[0] == case.batch[1],
        lambda case: case.batch == (),
        pytest.param(lambda case: case.kv_heads and len(case.batch) != 2, marks=needs("has_enable_gqa")),
        lambda case: case.mask_batch[1:] == (1,) and case.broadcast == "L",  # (N, 1, 1, S)
    ],
)
def test_every_rare_option_of_scaled_dot_product_attention_is_drawn(drawn_for_sdpa, condition):
    assert share(drawn_for_sdpa, condition) > 0.01


def test_masks_expanded_over_samples_and_heads_as_wide_as_those_of_models_are_drawn(drawn_for_sdpa):
    def is_bias_of_heads(case):
        return case.attn_mask and case.attn_mask.over_samples and case.attn_mask.layout == "expanded"

    assert share(drawn_for_sdpa, is_bias_of_heads) > 0.005
    assert share(drawn_for_sdpa, lambda case: case.D == 128) > 0.002
    drawn = sample(cases_of(RELEASE, "MultiheadAttention"), DRAWS // 3)
    assert share(drawn, lambda case: case.head_dim in (32, 64)) > 0.01


def test_calls_under_inference_mode_get_tensors_that_were_made_under_it(drawn):
    cases = [case for case in drawn if case.autograd == "inference_mode" and masks_of(case)]
    made_so = [{name: its.is_inference() for name, its in arguments(case).items()} for case in cases]
    assert 0.15 < sum(all(its.values()) for its in made_so) / len(cases) < 0.35
    pairs = zip(cases, made_so, strict=True)
    assert (
        0.15
        < sum(any(made.values()) and not any(made[m] for m in masks_of(c)) for c, made in pairs) / len(cases)
        < 0.35
    )


def test_static_keys_are_drawn():
    functional = sample(cases_of(RELEASE, "multi_head_attention_forward"), DRAWS // 5)
    assert share(functional, lambda case: case.static) > 0.05


def test_masks_per_head_are_drawn_as_often_as_others(drawn):
    named = [item for case in drawn if hasattr(case, "num_heads") for item in masks_of(case).items()]
    attention_masks = [mask for name, mask in named if not is_padding(name)]
    assert 0.3 < share(attention_masks, lambda mask: mask.per_head) < 0.5


def test_long_masks_that_are_nearly_causal_are_drawn_where_a_stack_has_no_hint():
    def may_be_taken_for_causal(case):
        mask, hint, padding = case.tgt_mask, case.tgt_is_causal, case.tgt_key_padding_mask
        return mask and mask.pattern == "nearly_causal" and case.T > 16 and hint is None and padding is None

    assert share(sample(cases_of(RELEASE, "TransformerDecoder"), 800), may_be_taken_for_causal) > 0.003


def test_no_pattern_of_a_module_dominates(drawn):
    patterns = Counter(mask.pattern for case in drawn for mask in masks_of(case).values())
    assert max(patterns.values()) / sum(patterns.values()) < 0.25


@pytest.mark.parametrize("module", ["MultiheadAttention", "Transformer", "scaled_dot_product_attention"])
def test_a_failure_shrinks_to_the_least_case(module):
    least = find(cases_of(RELEASE, module), lambda case: True, settings=settings(database=None), random=Random(0))
    assert not masks_of(least)
    assert (least.dtype, least.layout, least.garbage, least.seed) == ("float64", "contiguous", False, 0)
    assert least.S == 1


@pytest.mark.parametrize("seed", range(10))  # two of 25 seeds once ended at T = 17, a size drawn for a second mask
def test_a_failure_of_a_mask_shrinks_to_that_mask_alone(seed):
    def fails(case):
        return case.tgt_mask is not None and case.tgt_mask.values == "finite" and case.T > 2

    many = settings(database=None, max_examples=5000)
    least = find(cases_of(RELEASE, "Transformer"), fails, settings=many, random=Random(seed))
    assert list(masks_of(least)) == ["tgt_mask"]
    assert least.T == 3
    assert least.num_layers == 1


def test_no_content_is_zero(drawn):
    for case in drawn:
        contents = inputs(case) | parameters(case)
        assert all(array.all() for array in contents.values()), case


def test_no_heads_are_drawn(drawn_for_sdpa):
    assert share(drawn_for_sdpa, lambda case: case.batch[-1:] == (0,) and case.L * case.S > 0) > 0.02


def test_what_is_empty_has_the_strides_that_users_give_it():
    query = arguments(ScaledDotProduct(batch=(2, 0), L=3, D=4))["query"]
    assert query.stride() == torch.empty(2, 0, 3, 4).stride()
