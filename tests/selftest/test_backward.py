"""The derivative in reverse mode agrees with the complex step if nothing is NaN."""

from functools import partial

import numpy as np
import pytest
import torch

from reference.derivative import derivative
from tests.harness.cases.case import FlexAttention, MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import directions
from tests.harness.deviations.pruned import _outdated
from tests.harness.execution.runner import observe
from tests.harness.expectation import backward
from tests.harness.expectation.backward import Traced
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.verdict import CONFORMS, judge

FLOAT = Mask("float", "random", "bias")
CASES = [
    ScaledDotProduct(autograd="grad", batch=(2, 3), L=3, S=4, D=2, Dv=3, attn_mask=FLOAT, mask_batch=(2, 1)),
    ScaledDotProduct(autograd="grad", batch=(2, 4), L=3, S=4, kv_heads=2, D=2, Dv=2, scale=-0.5),
    FlexAttention(
        autograd="grad",
        batch=(2, 4),
        L=3,
        S=4,
        kv_heads=2,
        D=2,
        Dv=3,
        kept_mask=Mask("bool", "random"),
        added_mask=FLOAT,
        mask_batch=(2, 1),
        block_size=(1, 1),
        softcap=2.0,
        lse="return_lse",
    ),
    MultiHead(autograd="grad", N=2, L=3, S=4, num_heads=2, head_dim=2, attn_mask=FLOAT, add_bias_kv=True),
    MultiHead(
        autograd="grad", N=2, L=3, S=4, num_heads=2, head_dim=2, attention="distinct", kdim=3, vdim=5, bias=False
    ),
    Transformer(autograd="grad", N=2, S=3, num_heads=2, head_dim=2, src_mask=FLOAT, activation="relu"),
    Transformer(
        module="Transformer",
        autograd="grad",
        N=2,
        S=3,
        T=4,
        num_heads=2,
        head_dim=2,
        num_layers=2,
        norm=True,
        activation="gelu",
        memory_key_padding_mask=Mask("float", "scattered", "bias"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.module)
def test_gradients_are_those_of_the_complex_step(case):
    names = tuple(directions(case))
    rng = np.random.default_rng(0)
    results = predict(case, displace=names)()
    weights = {name: rng.normal(size=array.shape) for name, array in results.items()}
    expected = sum((weights[name] * derivative(results[name])).sum() for name in results)

    leaves = {}

    def move(name, array, _):
        return leaves.setdefault(name, Traced(array))

    finish = partial(backward.traced, case=case)
    gradients = backward.gradients(predict(case, displace=names, move=move, finish=finish)(), weights, leaves)
    assert set(gradients) == set(names)
    got = sum((gradients[name] * direction).sum() for name, direction in directions(case).items())
    assert got == pytest.approx(expected, rel=1e-10)


def test_nan_goes_back_wherever_it_is_multiplied():
    x, weight = Traced([[1.0, np.nan], [3.0, 4.0]]), Traced([[1.0, 2.0]])
    gradients = backward.gradients({"y": x @ weight.T}, {"y": np.array([[0.0], [1.0]])}, {"x": x, "weight": weight})
    assert np.array_equal(gradients["x"], [[0, 0], [1, 2]])
    assert np.array_equal(gradients["weight"], [[3, np.nan]], equal_nan=True)


def test_what_is_left_out_by_a_choice_stays_out():
    x = Traced([np.nan, 2.0])
    chosen = np.where(np.isnan(x), 0, x)
    (gradient,) = backward.gradients({"y": chosen * chosen}, {"y": np.ones(2)}, {"x": x}).values()
    assert np.array_equal(gradient, [0, 4])


def test_outdated_parameters_are_those_of_the_forward_pass_alone():
    """They decide where relu is 0, and the gradient goes to the parameter as it is now."""
    leaf = Traced(np.array([1.0, -2.0]))
    outdated = _outdated(leaf, 1)
    assert outdated.value.tolist() == [2.0, -4.0]
    found = backward.gradients({"output": outdated}, {"output": np.array([1.0, 3.0])}, {"leaf": leaf})
    assert found["leaf"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(("layout", "strides"), [("contiguous", (2, 1)), ("expanded", (0, 0))])
def test_gradients_of_results_have_the_layout_of_the_inputs(layout, strides, monkeypatch):
    given, original = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *of, **how: given.extend(of[2]) or original(*of, **how))
    case = ScaledDotProduct(autograd="grad", L=3, D=2, Dv=2, layout=layout)
    assert judge(case, observe(case)).status == CONFORMS
    assert [cotangent.stride()[-2:] for cotangent in given] == [strides]
