"""Second derivatives: predicted by two formulations, and judged."""

from dataclasses import replace

import numpy as np
import pytest

from reference.derivative import derivative, displaced
from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import directions
from tests.harness.contents.results import cotangents, present
from tests.harness.execution.runner import observe
from tests.harness.expectation.backward import BENDS
from tests.harness.judgement.comparison import SECOND
from tests.harness.judgement.prediction import predict, second_order
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.modes.modes import BY_ID
from tests.tools.case_script import script

from .running import run_script

FLOAT = Mask("float", "random", "finite")
MODE = "second_derivatives"
CASES = [
    ScaledDotProduct(mode="second_derivatives_math", batch=(2, 3), L=3, S=4, D=2, attn_mask=FLOAT, mask_batch=(2, 1)),
    MultiHead(mode=MODE, N=2, L=3, S=4, num_heads=2, head_dim=2, attn_mask=FLOAT, kdim=3),
    MultiHead(mode=MODE, N=2, L=3, S=4, num_heads=2, head_dim=2, add_bias_kv=True, attn_mask=Mask("bool", "row")),
    *(
        Transformer(
            mode="second_derivatives_math",
            module="TransformerDecoderLayer",
            N=2,
            S=3,
            T=4,
            num_heads=2,
            head_dim=2,
            activation=activation,
            tgt_mask=Mask("bool", "causal"),
            memory_mask=FLOAT,
        )
        for activation in ("gelu", "silu", "gelu_tanh")
    ),
]
CASES = [replace(case, autograd="grad") for case in CASES]
in_each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.module} {case.activation}".strip())


def _slope(case, distance):
    """The derivative of the loss along `directions`, by the complex step, at arguments moved by this distance."""

    def move(name, array, direction):
        return array if array.dtype == bool else displaced(array + distance * direction, direction)

    results = present(case, predict(case, (), "float64", tuple(directions(case)), move=move)())
    weights = cotangents(case, {name: array.shape for name, array in results.items()})
    return sum((weights[name] * derivative(array)).sum() for name, array in results.items())


@in_each_case
def test_second_derivatives_are_those_of_differences(case):
    h = 1e-4
    slopes = {n: (_slope(case, n * h) - _slope(case, -n * h)) / (2 * n * h) for n in (1, 2)}
    expected = (4 * slopes[1] - slopes[2]) / 3  # without the error of order h ** 2
    assert sum(second_order(case).along().values()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("activation", BENDS, ids=lambda activation: activation.__name__)
def test_second_derivatives_of_activations(activation):
    x, h = np.linspace(-4, 4, 41) + 0.013, 1e-5

    def slope(at):
        return derivative(activation(displaced(at, np.ones_like(at))))

    assert BENDS[activation](x) == pytest.approx((slope(x + h) - slope(x - h)) / (2 * h), abs=1e-8)


def _observed(case):
    if not BY_ID[case.mode].is_in():
        pytest.skip("this release cannot choose a backend")
    return observe(case)


@in_each_case
def test_torch_conforms(case):
    assert judge(case, _observed(case)).status == CONFORMS


@in_each_case
def test_a_wrong_second_gradient_is_found_and_named(case):
    observation = _observed(case)
    name = next(iter(observation.second_gradients))
    off = observation.second_gradients[name] + 1e-3 * np.sign(directions(case)[name])
    verdict = judge(case, replace(observation, second_gradients={**observation.second_gradients, name: off}))
    assert verdict.status == FAILS
    assert [(mismatch.kind, mismatch.of) for mismatch in verdict.mismatches] == [(SECOND, (name,))]


def test_a_missing_second_gradient_is_found():
    observation = _observed(CASES[1])
    without = {**observation.second_gradients, "query": None}
    assert judge(CASES[1], replace(observation, second_gradients=without)).status == FAILS


@pytest.mark.parametrize("case", CASES[1:3])
def test_the_script_of_a_call_conforms(case):
    code, output, _ = run_script(script(case))
    assert code == 0, output
    assert "second derivative along query" in output
