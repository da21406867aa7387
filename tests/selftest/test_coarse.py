"""Scores of garbage in a low precision: a rounding decides which key is seen, and the bound of the row knows it."""

import numpy as np
import pytest

from reference.attention import attend
from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.runner import observe
from tests.harness.expectation.arithmetic import Coarse
from tests.harness.judgement.verdict import CONFORMS, FAILS, judge
from tests.harness.modes.modes import BY_ID

# Products of ten and more digits, of which two sums differ by little.
QUERY = np.array([[1000.0, 1000.0]])
KEYS = np.array([[1000.0, 0.0], [0.0, 1001.0], [500.0, 0.0]])
VALUES = np.array([[1.0], [2.0], [4.0]])


@pytest.mark.parametrize("shift", [0, 0.5])
def test_one_of_two_grids_makes_neighbouring_scores_equal(shift):
    """The scores are 1,000,000, 1,001,000 and 500,000; the step is a hundredth of the largest."""
    _, weights = Coarse(attend, 0.01, shift)(QUERY, KEYS, VALUES, None, 1.0)
    assert np.allclose(weights, [[0.5, 0.5, 0.0]])
    _, exact = attend(QUERY, KEYS, VALUES, None, 1.0)
    assert exact.tolist() == [[0.0, 1.0, 0.0]]


def test_scores_at_the_border_of_two_steps_are_equal_on_the_other_grid():
    keys = KEYS * np.array([[1.0, 1.0], [1.0, 0.994 / 1.001], [1.0, 1.0]])  # scores 1,000,000 and 994,000
    found = [Coarse(attend, 0.01, shift)(QUERY, keys, VALUES, None, 1.0)[1].round(6).tolist() for shift in (0, 0.5)]
    assert sorted(found) == [[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]]]


def test_a_hidden_key_does_not_decide_the_step():
    bias = np.array([[0.0, 0.0, -np.inf]])
    keys = KEYS * np.array([[1.0], [0.99], [1e6]])
    _, weights = Coarse(attend, 0.001)(QUERY, keys, VALUES, bias, 1.0)
    assert weights.tolist() == [[1.0, 0.0, 0.0]]


CASE = MultiHead(
    dtype="float32",
    seed=12379,
    garbage=True,
    mode="autocast",
    L=32,
    S=32,
    num_heads=4,
    head_dim=8,
    attention="self",
    key_padding_mask=Mask("float", "right"),
)


@pytest.mark.skipif(not BY_ID["autocast"].is_in(), reason="this release has no such mode")
def test_a_tie_by_rounding_is_no_failure_and_a_wrong_row_is_one():
    """Two keys of query 28 tie in bfloat16, which torch sees, and the formula in bfloat16 does not."""
    observation = observe(CASE)
    assert judge(CASE, observation).status == CONFORMS
    observation.outputs["output"][0, 0] += 0.5  # of an ordinary query
    assert judge(CASE, observation).status == FAILS
