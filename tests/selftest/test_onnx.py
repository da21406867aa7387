"""Models that are stored as ONNX files: a lost mask is noticed, the entries hold, and a run says what it lacks."""

from dataclasses import replace

import numpy as np
import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.call import arguments
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement.summary import header
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.onnx import IDS, PACKAGES
from tests.harness.releases import since

stored = pytest.mark.skipif(not BY_ID["onnx"].is_in(), reason="no onnx, onnxscript and onnxruntime, or before 2.9")
each_exporter = pytest.mark.parametrize("exporter", [id for id in IDS if since(installed(), BY_ID[id].since)])

CAUSAL = Mask("bool", "causal")
SDPA = ScaledDotProduct(dtype="float32", batch=(2, 2), L=3, S=3, D=4, Dv=4, attn_mask=CAUSAL)
ATTENTION = MultiHead(dtype="float32", num_heads=2, head_dim=4, L=3, S=3, attn_mask=CAUSAL)
DECODER = Transformer(
    module="TransformerDecoderLayer",
    dtype="float32",
    num_heads=2,
    head_dim=4,
    N=2,
    S=3,
    T=3,
    training=True,
    tgt_mask=CAUSAL,
)
ENVIRONMENT = {
    **dict.fromkeys(
        ("git", "device", "ledger", "numpy", "python", "platform", "cpu", "threads", "profile", "seed"), ""
    ),
    "variables": {},
}


def judged(case, observation):
    """The verdict on a case, by the ledger of the installed release."""
    call = Call(case, installed(), observation.served)
    entries = [entry for entry in ledger.ENTRIES if entry.concerns(call.release)]
    return judge(case, observation, ledger.applying(call, entries))


@stored
@each_exporter
@pytest.mark.parametrize("case", [SDPA, ATTENTION, DECODER], ids=lambda case: case.module)
def test_a_stored_model_conforms_and_a_lost_mask_is_noticed(exporter, case):
    case = replace(case, mode=exporter)
    assert judged(case, observe(case)).status == CONFORMS
    name = "tgt_mask" if case is DECODER or case.has_layers else "attn_mask"
    without = observe(replace(case, **{name: None}))
    assert judged(case, without).status == FAILS


@stored
def test_a_row_that_a_bool_mask_hides_is_the_mean_of_all_values():
    case = replace(SDPA, mode="onnx", attn_mask=Mask("bool", "all"))
    observation = observe(case)
    value = arguments(case)["value"].numpy()
    rows = observation.outputs["output"]
    assert np.allclose(rows, value.mean(-2, keepdims=True), atol=1e-6)
    assert np.abs(rows).min() > 0
    verdict = judged(case, observation)
    assert (verdict.status, verdict.deviations) == (DEVIATES, ("onnx-empty-row-mean",))
    zeros = replace(observation, outputs={"output": np.zeros_like(rows)})
    assert judged(case, zeros).status == FAILS


@pytest.mark.parametrize("torch", ["2.8.0", "2.9.0"])
def test_a_run_says_that_it_lacks_packages_which_its_release_could_use(torch):
    said = "no onnx, onnxscript, onnxruntime: models stored as ONNX files are not asked"
    text = "\n".join(header({**ENVIRONMENT, "torch": torch}))
    assert (said in text) == (torch == "2.9.0")
    versions = dict.fromkeys(PACKAGES, "1.0")
    assert "not asked" not in "\n".join(header({**ENVIRONMENT, "torch": torch, "packages": versions}))
    assert "onnxruntime 1.0" in "\n".join(header({**ENVIRONMENT, "torch": torch, "packages": versions}))
