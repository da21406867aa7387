"""Low precision: the harness rounds like torch, models the error of arithmetic, and still detects wrong results."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.dtypes import LOW, PRECISIONS, Emulated, emulated, held, rounded
from tests.harness.cases.masks import VALUES, Mask
from tests.harness.execution.call import lay_out
from tests.harness.execution.release import Release, installed
from tests.harness.execution.runner import observe
from tests.harness.expectation.specification import specification
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.releases import since

NUMBERS = np.random.default_rng(0).normal(0, 1, 4000) * 10.0 ** np.arange(-10, 10).repeat(200)
ODD = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.00390625, 1.01171875, 3.4e38, 65519.9, 65520.0, 1e-40, 6e-8]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_number_is_rounded_as_torch_rounds_it(dtype):
    array = np.array([*NUMBERS, *ODD]).astype("float32")
    expected = torch.tensor(array).to(getattr(torch, dtype)).to(getattr(torch, held(dtype)))
    assert np.array_equal(rounded(array, dtype), expected.numpy(), equal_nan=True)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_limits_are_those_of_torch(dtype):
    ours, theirs = PRECISIONS[dtype], torch.finfo(getattr(torch, dtype))
    assert (ours.eps, ours.tiny, ours.max, ours.min) == (theirs.eps, theirs.tiny, theirs.max, theirs.min)
    assert ours.size == theirs.bits // 8


def test_autocast_casts_the_sum_of_two_masks():
    """-65504 and -65404 round to different numbers of bfloat16, but 100 is lost if it is added to -65536."""
    masks = {"attn_mask": Mask("float", "all", "float16_min"), "key_padding_mask": Mask("float", "trailing", "large")}
    case = MultiHead(dtype="float32", mode="autocast", S=2, **masks)
    assert specification(case, "bfloat16")()["weights"].tolist() == [[[[0, 1]]]]


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("name", ["add", "multiply", "true_divide", "exp", "sqrt"])
def test_arithmetic_is_that_of_torch(dtype, name):
    if dtype not in installed().low_dtypes:
        pytest.skip("this release cannot")
    rng = np.random.default_rng(1)
    operands = [np.abs(rounded(rng.normal(0, 1, 500), dtype)) for _ in range(1 + (name not in ("exp", "sqrt")))]
    got = getattr(np, name)(*(emulated(operand, dtype) for operand in operands))
    expected = getattr(torch, name)(*(torch.tensor(operand).to(getattr(torch, dtype)) for operand in operands))
    assert isinstance(got, Emulated)
    assert np.array_equal(np.asarray(got), expected.float().numpy())


@pytest.mark.parametrize("dtype", LOW)
def test_what_numpy_makes_of_emulated_numbers_is_emulated(dtype):
    x = emulated(np.ones((3, 2)), dtype)
    made = [x @ x.T, x.mean(axis=0), np.where(x > 0, x, 0), np.concatenate([x, x]), x.sum(), np.zeros_like(x), x[0]]
    assert all(isinstance(array, Emulated) and array.dtype_of_torch == dtype for array in made)
    assert not isinstance(x > 0, Emulated)


def test_a_derivative_is_rounded_like_a_number_of_any_size():
    x = emulated(np.array([1.0 + 1e-20j * 1.01171875, 1e4 - 1e-3j]), "float16")
    assert x.real.tolist() == [1.0, 10000.0]
    assert np.allclose(x.imag, [1.01171875e-20, -1e-3], rtol=2**-11, atol=0)
    assert len({float(emulated(np.array(1j * d * 1e-30), "bfloat16").imag) for d in np.linspace(1, 1.01, 100)}) <= 3


# ---- cases ---------------------------------------------------------------------------------------------------------

CASES = [
    ScaledDotProduct(batch=(2, 2), L=5, S=5, D=4, Dv=4),
    MultiHead(N=2, L=5, S=5, num_heads=2, head_dim=4),
    MultiHead(N=2, L=5, S=5, num_heads=2, head_dim=4, attention="self", need_weights=False, training=True),
    Transformer(N=2, S=5, num_heads=2, head_dim=8, dim_feedforward=7, training=True),
    Transformer(module="TransformerDecoder", T=5, S=5, num_heads=2, head_dim=8, num_layers=2, training=True),
]
NAMES = {"scaled_dot_product_attention": "attn_mask", "MultiheadAttention": "attn_mask"}


def masked(case, mask, dtype):
    name = NAMES.get(case.module, "tgt_mask" if case.has_decoder else "src_mask")
    case = replace(case, dtype=dtype, **{name: mask})
    if dtype not in installed().low_dtypes or not installed().offers(case):
        pytest.skip("this release cannot")
    return case


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.module)
# 1e4 is left out: it hides all other keys and leaves no digits for scores, so that nearly any result is right. So is
# NaN, with which all queries of a second layer are NaN.
@pytest.mark.parametrize("values", (None, *(values for values in VALUES if values not in ("1e4", "nan"))))
def test_a_right_result_conforms_and_one_of_another_mask_fails(case, values, dtype):
    mask = Mask("float", "window", values) if values else Mask("bool", "window")
    case = masked(case, mask, dtype)
    other = masked(case, replace(mask, pattern="causal"), dtype)
    conforming, failing = 0, 0
    for seed in range(8):
        observation = observe(replace(case, seed=seed))
        conforming += judge(replace(case, seed=seed), observation).status == CONFORMS
        failing += judge(replace(other, seed=seed), observation).status == FAILS
    assert conforming == 8
    assert failing >= 2  # the masks differ by one key


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "expanded", "sliced", "stepped"])
def test_a_layout_is_the_same_in_every_dtype(layout):
    array = np.arange(24.0, dtype="float32").reshape(2, 3, 4)
    strides = {lay_out(array, layout, dtype).stride() for dtype in PRECISIONS}
    assert len(strides) == 1
    assert lay_out(array > 1, layout, "bfloat16").dtype == torch.bool


def test_a_result_of_another_dtype_fails():
    case = masked(CASES[0], None, "bfloat16")
    observation = observe(case)
    assert judge(case, replace(observation, dtypes={"output": "float32"})).mismatches[0].what == "output dtype"


def test_the_device_is_asked_for_its_dtypes():
    assert installed().low_dtypes[:1] == ("bfloat16",) * since(installed(), "2.0")
    assert bool(Release(installed().version, "meta").low_dtypes) == since(installed(), "2.0")
