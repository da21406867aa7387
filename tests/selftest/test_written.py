"""Attention that is written by hand: the formula, what inductor makes of it, and what the harness sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.harness.cases.case import ScaledDotProduct
from tests.harness.cases.masks import Mask
from tests.harness.deviations.prediction import LACKING, prediction
from tests.harness.execution.release import installed
from tests.harness.execution.runner import made_once, observe
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement.checking import judged
from tests.harness.modes import inductor
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.written import FORMS
from tests.harness.path_names import AS_WRITTEN
from tests.harness.releases import since
from tests.harness.strategies.by_mode import adapted

pytestmark = pytest.mark.skipif(not since(installed(), "2.1"), reason="before 2.1 nothing is compiled")

CASE = ScaledDotProduct("float32", batch=(1, 3), L=3, S=3, D=4, Dv=4, autograd="inputs", scale=2.0)
MASKS = [
    *(Mask("float", pattern, values) for pattern in ("causal", "row") for values in ("inf", "bias")),
    *(Mask("bool", pattern) for pattern in ("causal", "row", "all")),
]
each_form = pytest.mark.parametrize("id", FORMS)
each_mask = pytest.mark.parametrize("mask", MASKS, ids=repr)
_COMPILED = "compiled = torch.compile(attention, backend=inductor_without_its_compiler)"


def in_form(id, mask, **changes):
    """The call in the mode of this id."""
    return adapted(replace(CASE, attn_mask=mask, **changes), BY_ID[id])


def uncompiled(monkeypatch, id):
    """Let the mode of this id call its function as it is written."""
    mode = BY_ID[id]
    assert _COMPILED in mode.made
    monkeypatch.setitem(BY_ID, id, replace(mode, made=mode.made.replace(_COMPILED, "compiled = attention")))


@each_form
@each_mask
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_what_is_specified_is_what_the_formula_gives(id, mask, dtype, monkeypatch):
    uncompiled(monkeypatch, id)
    case = in_form(id, mask, dtype=dtype)
    observation = observe(case)
    assert observation.served == (AS_WRITTEN,)
    verdict = judge(case, observation)
    assert verdict.status == CONFORMS, verdict.mismatches


@each_form
@each_mask
def test_what_is_compiled_is_as_predicted(id, mask):
    assert judged(in_form(id, mask))[1].status in (CONFORMS, DEVIATES)


_ROW = {"mask": Mask("float", "row", "bias")}
_KEYS, _FLAT = ({"mask": Mask("float", pattern), "broadcast": to} for pattern, to in (("causal", "S"), ("one", "1-D")))
_DIVIDED, _TIMES = "written_key_permuted", "written_key_permuted_times"


@pytest.mark.parametrize(
    ("id", "batch", "S", "masks", "autograd"),
    [
        (_DIVIDED, (1, 1), 1, [_ROW], "inputs"),  # nothing to exchange
        (_DIVIDED, (1, 3), 1, [{}, _ROW], "inputs"),
        (_DIVIDED, (1, 1), 3, [{}, _ROW], "inputs"),
        (_DIVIDED, (3, 1), 3, [{}, _ROW, _KEYS, _FLAT], "no_grad"),
        (_DIVIDED, (3, 1), 3, [_ROW], "inputs"),
        (_DIVIDED, (1, 2), 3, [{}, _ROW], "no_grad"),
        (_DIVIDED, (1, 3), 3, [{}, _ROW], "inputs"),
        (_TIMES, (1, 3), 3, [{}], "inputs"),
        (_TIMES, (3, 1), 3, [{}], "no_grad"),
        (_TIMES, (2, 3), 3, [{}], "no_grad"),
        (_TIMES, (2, 3), 3, [{}], "inputs"),
        (_TIMES, (2, 2), 3, [{}], "no_grad"),
    ],
)
def test_an_exchange_of_heads_and_keys_is_predicted_for_all_sizes(id, batch, S, masks, autograd):
    for mask in masks:
        case = in_form(id, **{"mask": None, "autograd": autograd, "batch": batch, "L": 2, "S": S} | mask)
        observation, verdict = judged(case)
        assert verdict.status in (CONFORMS, DEVIATES), verdict.mismatches
        is_affected = since(installed(), "2.4") and not since(installed(), "2.15")
        assert is_affected or observation.served == (AS_WRITTEN,)


@pytest.mark.skipif(not since(installed(), "2.4") or since(installed(), "2.15"), reason="no key is exchanged")
@pytest.mark.parametrize(("autograd", "first"), [("no_grad", "2.12"), ("inputs", "2.15")])
def test_keys_of_several_samples_and_heads_are_exchanged_without_gradients(autograd, first):
    observation = observe(in_form(_TIMES, None, autograd=autograd, batch=(2, 3)))
    assert (observation.served != (AS_WRITTEN,)) == since(installed(), first)


@each_form
def test_a_wrong_formula_is_noticed(id, monkeypatch):
    case, mode = in_form(id, Mask("float", "causal")), BY_ID[id]
    for old, new in (("scores + mask", "scores - mask"), (" @ v", " @ v * 1.01")):
        assert old in mode.made
        monkeypatch.setitem(BY_ID, id, replace(mode, made=mode.made.replace(old, new)))
        assert judged(case)[1].status == FAILS


def test_attention_is_seen_to_be_rewritten():
    case = in_form("written", Mask("float", "causal"), scale=None)
    with made_once():
        first, second = observe(case), observe(replace(case, seed=1))
    assert first.served == second.served != (AS_WRITTEN,)
    assert observe(in_form("written_times", Mask("float", "causal"))).served == (AS_WRITTEN,)


@pytest.mark.skipif(not (since(installed(), "2.6") and inductor.can_build()), reason="inductor cannot build here")
@pytest.mark.parametrize("id", ["written", "written_permuted", "written_key_permuted", "written_like_gpt2"])
def test_the_passes_alone_rewrite_as_all_of_inductor_does(id, monkeypatch):
    mode, case = BY_ID[id], in_form(id, Mask("float", "causal"), autograd="no_grad")
    alone = observe(case)
    built = mode.made.replace("backend=inductor_without_its_compiler", 'backend="inductor"')
    assert built != mode.made
    monkeypatch.setitem(BY_ID, id, replace(mode, made=built))
    torch._dynamo.reset()
    whole = observe(case)
    assert alone.served == whole.served
    assert (alone.error is None) == (whole.error is None)  # 2.12 to 2.14 raise if the divisor is a tensor
    if alone.error is None:
        np.testing.assert_allclose(alone.outputs["output"], whole.outputs["output"], rtol=1e-5, atol=1e-6)


def test_what_is_not_run_is_not_predicted():
    assert prediction(in_form("written", Mask("float", "causal")), installed()).status == LACKING
