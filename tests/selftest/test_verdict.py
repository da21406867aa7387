"""Every kind of wrong observation gets the verdict 'fails'."""

from dataclasses import replace

import execnet
import numpy as np
import pytest

from tests.harness.cases.case import MultiHead, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.contents.arrays import directions, ignored
from tests.harness.deviations.ledger import Applied
from tests.harness.execution.runner import Observation, observe
from tests.harness.expectation.changes import undefined
from tests.harness.judgement import left_out
from tests.harness.judgement.prediction import Prediction
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement import checking, session
from tests.harness.measurement.checking import check_same_without_garbage, check_twins, judged
from tests.harness.strategies.contents import garbage_cases

from .sampling import sample

CASE = MultiHead(
    N=2, L=3, S=4, num_heads=2, head_dim=2, autograd="grad", attn_mask=Mask("float", "random", "bias"), seed=5
)


def tampered(name, change):
    observation = observe(CASE)
    array = observation.outputs[name].copy()
    change(array)
    return replace(observation, outputs={**observation.outputs, name: array})


def test_the_real_observation_conforms():
    assert judge(CASE, observe(CASE)).status == CONFORMS


@pytest.mark.parametrize("name", ["output", "weights"])
@pytest.mark.parametrize("value", [1e-6, float("nan"), float("inf")])
def test_one_wrong_element_fails(name, value):
    def change(array):
        array[-1, -1, -1] += value

    assert judge(CASE, tampered(name, change)).status == FAILS


@pytest.mark.parametrize("value, limit", [(float("nan"), 1.0), (float("inf"), 1.0), (1e-6, 1e-9)])
def test_the_full_bound_is_not_computed_for_an_error_that_it_cannot_allow(value, limit, monkeypatch):
    def change(array):
        array[-1, -1, -1] += value

    monkeypatch.setattr(Prediction, "rough", property(lambda self: pytest.fail("computed")))
    assert judge(CASE, tampered("output", change), limit=lambda name: limit).status == FAILS
    with pytest.raises(pytest.fail.Exception, match="computed"):
        judge(CASE, tampered("output", lambda array: np.add(array, 1e-6, out=array)))


def test_a_hidden_weight_must_be_exactly_zero():
    def change(array):
        array[array == 0] = 1e-30

    assert judge(CASE, tampered("weights", change)).status == FAILS


@pytest.mark.parametrize(
    "changes",
    [
        {"warnings": ("something is deprecated",)},
        {"mutated": ("attn_mask",)},
        {"lent": ("value",)},
        {"error": ("RuntimeError", "no")},
        {"outputs": {}},
    ],
)
def test_a_side_effect_fails(changes):
    assert judge(CASE, replace(observe(CASE), **changes)).status == FAILS


@pytest.mark.parametrize(
    "changes, served, status",
    [
        ({"fast_path": False}, "native_mha", FAILS),
        ({"fast_path": False}, "explicit", CONFORMS),
        ({"mode": "sdpa_math"}, "sdpa_flash", FAILS),
        ({"mode": "sdpa_math"}, "sdpa_math", CONFORMS),
        ({}, "sdpa_flash", CONFORMS),
    ],
)
def test_a_path_that_the_caller_has_ruled_out_fails(changes, served, status):
    observation = observe(CASE)
    assert judge(replace(CASE, **changes), replace(observation, served=(served,))).status == status
    raised = replace(observation, served=(served,), outputs={}, error=("RuntimeError", "no"))
    assert not any(its.kind == "path" for its in judge(replace(CASE, **changes), raised).mismatches)


@pytest.mark.parametrize("name", ["query", "key", "value", "attn_mask", "in_proj_weight", "out_proj.bias"])
def test_a_wrong_gradient_fails_and_is_named(name):
    observation = observe(CASE)
    gradients = {**observation.gradients, name: observation.gradients[name] * (1 + 1e-6)}
    verdict = judge(CASE, replace(observation, gradients=gradients))
    assert verdict.status == FAILS
    assert f"gradient of {name}," in verdict.mismatches[0].what


@pytest.mark.parametrize("changes", [{"warnings": ("slow",)}, {"settings": ("torch.is_grad_enabled()",)}])
def test_a_side_effect_hides_no_wrong_gradient(changes):
    observation = observe(CASE)
    gradients = {**observation.gradients, "query": 2 * observation.gradients["query"]}
    found = judge(CASE, replace(observation, gradients=gradients, **changes)).mismatches
    assert len(found) == 2
    assert "gradient of query," in found[1].what


def test_a_wrong_gradient_does_not_widen_its_own_bound():
    case = replace(CASE, dtype="bfloat16", autograd="inputs")
    observation = observe(case)
    along = directions(case)["query"].astype("float64")
    large = np.random.default_rng(0).normal(0, 1000, along.shape)
    # the large numbers cancel, but for 5
    wrong = large + along * (5 - (large * along).sum()) / (along**2).sum()
    gradients = {**observation.gradients, "query": observation.gradients["query"] + wrong}
    assert judge(case, observation).status == CONFORMS
    assert judge(case, replace(observation, gradients=gradients)).status == FAILS


def test_a_gradient_that_leaks_to_an_ignored_key_fails_however_small():
    case = replace(CASE, attn_mask=Mask("bool", "last_column"))
    observation = observe(case)
    leaking = observation.gradients["key"].copy()
    leaking[:, -1] = 1e-200
    assert judge(case, replace(observation, gradients={**observation.gradients, "key": leaking})).status == FAILS


def test_a_wrong_dtype_fails():
    observation = observe(CASE)
    outputs = {name: array.astype("float32") for name, array in observation.outputs.items()}
    assert judge(CASE, replace(observation, outputs=outputs)).status == FAILS


GARBAGE = Transformer(
    N=2, S=3, num_heads=1, head_dim=4, autograd="grad", garbage=True, src_key_padding_mask=Mask("bool", "one")
)


@pytest.mark.parametrize("dtype, error", [("float64", 1e-9), ("float32", 1e-3), ("bfloat16", 0.3)])
@pytest.mark.parametrize("norm_first", [False, True])
def test_rows_that_are_garbage_themselves_are_compared_in_numbers(dtype, error, norm_first):
    case = replace(GARBAGE, dtype=dtype, norm_first=norm_first)
    observation = observe(case)
    verdict = judge(case, observation)
    assert verdict.status == CONFORMS
    assert not verdict.counts[left_out.GARBAGE, "elements"]
    rows = np.argwhere(ignored(case)["src"])
    assert len(rows)
    for row in map(tuple, rows):
        wrong = observation.outputs["output"].copy()
        wrong[row][-1] += error * np.abs(wrong[row]).max()
        assert judge(case, replace(observation, outputs={"output": wrong})).status == FAILS


# In bfloat16, rounding decides some rows of this case.
IN_DOUBT = MultiHead(
    dtype="bfloat16",
    N=24,
    L=16,
    S=16,
    num_heads=2,
    head_dim=2,
    attention="self",
    garbage=True,
    attn_mask=Mask("bool", "last_column"),
    need_weights=False,
)


def test_a_row_of_garbage_that_rounding_decides_is_compared_by_class():
    observation = observe(IN_DOUBT)
    output, rows = observation.outputs["output"], [tuple(row) for row in np.argwhere(ignored(IN_DOUBT)["query"])]

    def verdict(row, change):
        wrong = output.copy()
        wrong[row][0] += change * np.abs(output[row]).max()
        return judge(IN_DOUBT, replace(observation, outputs={"output": wrong}))

    right = verdict(rows[0], 0)
    in_doubt = right.counts[left_out.GARBAGE, "elements"] // IN_DOUBT.E
    assert right.status == CONFORMS
    assert sum(verdict(row, 0.5).status == CONFORMS for row in rows) == in_doubt
    assert 0 < in_doubt < len(rows) / 6  # two roundings of their scores make ties there
    assert all(verdict(row, np.nan).status == FAILS for row in rows)


@pytest.mark.parametrize("value, status", [(float("nan"), DEVIATES), (float("inf"), FAILS), (1e-6, FAILS)])
def test_where_a_number_may_be_nan_it_may_be_nothing_else(value, status):
    def change(array):
        array[-1, -1, -1] += value

    spreading = Applied("spreading", lambda computation: replace(computation, may_be_nan=True))
    assert judge(CASE, tampered("output", change), [spreading]).status == status


def test_a_case_that_raises_shows_only_the_deviation_that_raises():
    def warns(computation):
        return replace(computation, warnings=("be warned",))

    def raises(computation):
        return replace(computation, error=("RuntimeError", "no"))

    deviations = (Applied("quiet", warns), Applied("loud", raises), Applied("late", warns))
    observation = Observation(error=("RuntimeError", "no way"))
    assert judge(CASE, observation, deviations).deviations == ("loud",)
    case = replace(CASE, autograd="no_grad")
    warned = replace(observe(case), warnings=("be warned",))
    assert judge(case, warned, deviations[::2]).deviations == ("quiet", "late")


# A fully masked query gives NaN in every release if weights are requested; the loss leaves its row out.
EMPTY = replace(CASE, attn_mask=Mask("bool", "row"), key_padding_mask=None, N=1)


def with_gradient(name, change):
    """The verdict on EMPTY after change(gradient) in place, for the gradient of this name."""
    observation = judged(EMPTY)[0]
    array = observation.gradients[name].copy()
    change(array)
    changed = replace(observation, gradients={**observation.gradients, name: array})
    deviations = [entry for entry in session.current.entries if entry.id == "empty-row-nan-explicit"]
    return judge(EMPTY, changed, [Applied(entry.id, lambda its, e=entry: e.change(its, CALL)) for entry in deviations])


class CALL:
    """A call of EMPTY on the explicit path."""

    case = EMPTY

    @staticmethod
    def blocks(path):
        return ("self",) if path == "explicit" else ()


def test_beside_nan_gradients_are_as_predicted():
    observation, verdict = judged(EMPTY)
    assert verdict.status == DEVIATES
    assert np.isnan(observation.outputs["output"]).any()
    are_nan = {name: np.isnan(array) for name, array in observation.gradients.items()}
    assert are_nan["value"].all()
    assert not are_nan["out_proj.bias"].any()
    assert are_nan["query"].any()
    assert not are_nan["query"].all()
    assert with_gradient("query", lambda array: None).status == DEVIATES


@pytest.mark.parametrize("name", ["query", "out_proj.bias"])
def test_a_wrong_gradient_beside_nan_fails(name):
    def change(array):
        array *= 1 + 1e-6

    assert with_gradient(name, change).status == FAILS


@pytest.mark.parametrize("name", ["query", "out_proj.bias"])
def test_nan_in_a_gradient_that_should_be_a_number_fails(name):
    def change(array):
        array[np.unravel_index(np.flatnonzero(np.isfinite(array))[0], array.shape)] = np.nan

    verdict = with_gradient(name, change)
    assert verdict.status == FAILS
    assert verdict.mismatches[0].what == f"gradient of {name}"


@pytest.mark.parametrize("name", ["query", "key", "in_proj_weight"])
def test_a_number_in_a_gradient_that_should_be_nan_fails(name):
    def change(array):
        array[np.unravel_index(np.flatnonzero(np.isnan(array))[0], array.shape)] = 0

    assert with_gradient(name, change).status == FAILS


def test_what_is_compared_is_counted(run):
    judged(CASE)
    outputs = observe(CASE).outputs
    assert run.tally.left_out == {
        "compared: elements": sum(array.size for array in outputs.values()),
        "compared: gradients": len(observe(CASE).gradients),
        "compared: results": 2,
    }


def test_only_numbers_that_are_undefined_are_left_out():
    def change(array):
        array[0, 0] += 1

    case = replace(CASE, autograd="no_grad")
    observation = observe(case)
    array = observation.outputs["output"].copy()
    change(array)
    where = np.zeros((CASE.N, CASE.L, 1), bool)
    where[0, 0] = True
    for place, status in ((where, DEVIATES), (~where, FAILS)):
        applied = Applied("some", lambda computation, at=place: undefined(computation, left_out.MEMORY, at))
        verdict = judge(
            replace(case, need_weights=False),
            replace(observation, outputs={"output": array}, dtypes={"output": "float64"}),
            [applied],
        )
        assert verdict.status == status
        assert verdict.counts[left_out.MEMORY, "elements"] == int(place.sum()) * CASE.E


def test_rows_of_garbage_count_as_compared(run):
    judged(GARBAGE)
    assert run.tally.left_out["compared: elements"] == observe(GARBAGE).outputs["output"].size
    assert "garbage query: elements" not in run.tally.left_out


def test_calls_that_deviate_and_are_not_compared_to_each_other_are_counted(run, monkeypatch):
    check_same_without_garbage(EMPTY)
    assert run.tally.left_out == {"twin deviates: results": 1}
    monkeypatch.setattr(checking, "event", lambda _: None)
    check_twins(EMPTY, EMPTY)
    assert run.tally.left_out["twin deviates: results"] == 2


def test_what_is_counted_can_travel_from_a_worker(run):
    for case in sample(garbage_cases(run.release), 50):
        judged(case)
        execnet.dumps(run.tally.as_dict())


def test_a_derivative_that_overflows_spoils_no_result():
    """The fused kernel recovers exp(score - log-sum-exp) of garbage keys that it does not mask: inf."""
    case = Transformer(
        module="TransformerDecoder",
        seed=29691,
        autograd="one_parameter",
        garbage=True,
        N=2,
        S=16,
        num_heads=2,
        head_dim=8,
        memory_mask=Mask("float", "all", dtype="float32"),
        num_layers=2,
        dim_feedforward=2,
    )
    observation, verdict = judged(case)
    assert verdict.status in (CONFORMS, DEVIATES)
    wrong = replace(observation, outputs={"output": observation.outputs["output"] * np.nan})
    assert judge(case, wrong).status == FAILS
