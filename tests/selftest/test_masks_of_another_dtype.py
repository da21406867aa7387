"""The harness's model of a float mask whose dtype differs from that of the inputs."""

from dataclasses import replace

import numpy as np
import pytest
from packaging.version import Version

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, merged_dtype, mixes_types
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import coarsest, largest_score, merged_bias
from tests.harness.deviations.call import Call
from tests.harness.deviations.empty_inputs import views_nothing
from tests.harness.deviations.refusals import refusal
from tests.harness.execution.release import Release, installed
from tests.harness.judgement.comparison import terms

NAMES = ("attn_mask", "key_padding_mask")


def floating(dtype, values="finite", pattern="all"):
    return Mask("float", pattern, values, dtype=dtype)


@pytest.mark.parametrize("dtype, beside", [(None, "float64"), ("float64", "float64"), ("float32", "float32")])
def test_a_float_mask_has_its_own_dtype_or_that_of_the_inputs(dtype, beside):
    assert floating(dtype).dtype_beside("float64") == beside


def test_a_bool_mask_is_bool_beside_anything():
    assert Mask("bool").dtype_beside("float32") == "bool"


@pytest.mark.parametrize(
    "one, other, mixed, merged",
    [
        (Mask("bool"), Mask("bool"), False, "float64"),
        (Mask("bool"), floating(None), True, "float64"),
        (Mask("bool"), floating("float32"), True, "float64"),
        (floating(None), floating("float64"), False, "float64"),
        (floating("float32"), floating("float64"), True, "float64"),
        (floating("float32"), floating("float32"), False, "float32"),
        (floating("float16"), floating("float16"), False, "float16"),
        (floating("float16"), floating("bfloat16"), True, "float32"),
        (None, floating("float16"), False, "float16"),
        (None, None, False, None),
    ],
)
def test_masks_of_two_dtypes_are_two_types_and_have_one_sum(one, other, mixed, merged):
    case = MultiHead(attn_mask=one, key_padding_mask=other)
    assert (mixes_types(case), merged_dtype(case, *NAMES)) == (mixed, merged)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_sum_of_two_masks_has_no_more_digits_than_they(dtype):
    case = MultiHead(N=2, L=3, S=4, attn_mask=floating(dtype), key_padding_mask=floating(dtype))
    apart = MultiHead(N=2, L=3, S=4, attn_mask=floating(dtype), key_padding_mask=floating("float64"))
    digits = {"float32": 24, "float16": 11, "bfloat16": 8}[dtype]
    fraction, _ = np.frexp(merged_bias(case, *NAMES))
    assert (fraction * 2**digits % 1 == 0).all()
    fraction, _ = np.frexp(merged_bias(apart, *NAMES))
    assert not (fraction * 2**digits % 1 == 0).all()


@pytest.mark.parametrize(
    "values, dtype, size",
    [
        ("-1e4", "float64", 1e4),
        ("-1e9", "float64", 1e9),
        ("-1e30", "float64", 0.0),  # any score is lost beside it
        ("-1e4", "float32", 1e4),
        ("-1e9", "float32", 0.0),
    ],
)
def test_the_largest_score_is_the_largest_that_loses_none(values, dtype, size):
    case = ScaledDotProduct(dtype=dtype, S=2, attn_mask=Mask("float", "all", values))
    assert largest_score(case) == size
    unmasked = ScaledDotProduct(dtype=dtype, S=2)
    assert (terms(case) > terms(unmasked)) == (size > 0)


def test_a_row_that_is_masked_in_part_has_small_scores():
    mask = Mask("float", "last_column", "-1e9")
    assert largest_score(ScaledDotProduct(S=2, attn_mask=mask)) == 0.0


def test_a_mask_counts_alone_beside_a_float_padding_that_1_13_ignores():
    alone = MultiHead(S=2, attn_mask=Mask("float", "all", "-1e9"))
    assert largest_score(alone) == 1e9
    assert largest_score(replace(alone, key_padding_mask=Mask("float", "all", "min"))) == 1e9
    assert largest_score(replace(alone, key_padding_mask=Mask("bool", "all"))) == 0.0


def test_gradients_are_no_finer_than_the_coarsest_that_is_asked_for():
    mask = floating("float32")
    assert coarsest(ScaledDotProduct(S=2, autograd="grad", attn_mask=mask)) == "float32"
    assert coarsest(ScaledDotProduct(S=2, autograd="inputs", attn_mask=mask)) == "float64"
    assert coarsest(ScaledDotProduct(S=2, autograd="grad", dtype="float32", attn_mask=floating("float64"))) == "float32"


def test_a_mask_is_refused_in_the_first_layer_before_a_later_layer_raises():
    """The mask is learned, so that the second layer leaves the fast path, and reshapes padding of no positions."""
    decoder = Transformer(
        module="TransformerDecoder",
        dtype="float32",
        autograd="mask",
        T=0,
        num_heads=2,
        head_dim=2,
        num_layers=2,
        memory_mask=floating("float64"),
        tgt_key_padding_mask=Mask(),
    )
    release = replace(installed(), version=Version("2.4.1"))
    assert views_nothing(Call(decoder, release)) == ("tgt",)
    assert refusal(Call(decoder, release)).id == "mask-of-another-dtype"


def test_a_mask_is_refused_in_an_earlier_layer_before_a_later_layer_views_nothing():
    """The self-attention of the last layer, which learns, raises behind the cross-attention of the first one."""
    case = Transformer(
        dtype="float32",
        autograd="last_layer",
        module="TransformerDecoder",
        N=3,
        S=3,
        T=0,
        num_heads=2,
        head_dim=8,
        tgt_key_padding_mask=Mask(),
        memory_mask=floating("float64", pattern="row"),
        num_layers=2,
    )
    release = Release(Version("2.9.1"), "cpu")
    assert views_nothing(Call(case, release)) == ("tgt.last",)
    assert refusal(Call(case, release)).id == "mask-of-another-dtype"
    assert refusal(Call(replace(case, autograd="grad"), release)) is None
