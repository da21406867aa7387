"""Replacements of modules and functions (--subject): right ones pass, wrong ones fail, unusable ones are refused."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.laws import LAWS
from tests.harness.cases.masks import Mask
from tests.harness.execution.implementation import Unusable, load
from tests.harness.judgement.groups import accepted_argument, unnamed_error
from tests.harness.judgement.outcomes import ACCEPTS, RAISES, UNHELPFUL
from tests.harness.judgement.report import Failure, Nonconformance
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.wrong_masks.judge import check_rows
from tests.harness.wrong_masks.table import CALLS, not_applicable

ROOT = Path(__file__).parents[2]
EMPTY_ROW = MultiHead(L=2, S=2, attention="self", attn_mask=Mask("bool", "all"), need_weights=True)


def subject(name):
    return load(f"tests.selftest.subjects:{name}")


@pytest.fixture
def measuring(request):
    """A function that starts a session for a subject; the former session is restored at the end."""
    former = session.current
    yield lambda name: session.start(adopted=subject(name))
    session.current = former


def measure(name, path, tmp_path, *options):
    """(exit code, record, output) of a conformance run with the subject, of subjects.py if no module is named"""
    name = name if ":" in name else f"tests.selftest.subjects:{name}"
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "pytest", *path, "-p", "no:cacheprovider", "--hypothesis-profile=quick"]
    command += [f"--subject={name}", f"--report={record}", "--hypothesis-seed=1", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    return run.returncode, json.loads(record.read_text()), run.stdout


MAIN = ("tests/conformance/test_multihead_attention.py",)
LAW = ("tests/conformance/test_equivalences.py", "-k", "batch_and_its_samples")


FUNCTION = ("tests/conformance/test_scaled_dot_product_attention.py",)
LAYER = ("tests/conformance/test_transformer.py",)


@pytest.mark.parametrize(
    "name, path, module",
    [
        ("scaled_dot_product_attention=tests.selftest.own:attend", FUNCTION, "scaled_dot_product_attention"),
        ("TransformerEncoderLayer=tests.selftest.own:Layer", LAYER, "TransformerEncoderLayer"),
    ],
)
def test_a_right_one_of_another_kind_passes(name, path, module, tmp_path):
    code, record, output = measure(name, (*path, *MAIN), tmp_path)
    assert code == 0, output[-3000:]
    assert f"in place of {module}" in output
    assert record["environment"]["subject"] == name
    assert list(record["paths"]) == [module]
    assert record["statuses"][CONFORMS] > 50


@pytest.mark.parametrize(
    "name, path, cause",
    [
        ("scaled_dot_product_attention=tests.selftest.subjects:attend_inverted", FUNCTION, "attn_mask is inverted"),
        (
            "TransformerEncoderLayer=tests.selftest.subjects:LayerBlindToPadding",
            LAYER,
            "src_key_padding_mask is ignored",
        ),
        ("BlindToPadding", MAIN, "key_padding_mask counts in the first sample alone"),
    ],
)
def test_a_wrong_one_names_its_cause_once(name, path, cause, tmp_path):
    code, record, output = measure(name, path, tmp_path)
    assert code == 1, output[-3000:]
    assert output.count(f"explanation: {cause}\n") == 1
    (seen,) = re.findall(rf"seen in: (\d+) calls.*\n +explanation: {cause}\n", output)
    assert int(seen) > 0.9 * record["statuses"][FAILS]
    scripts = list(tmp_path.glob("*/*/script.py"))
    runs = [
        subprocess.run([sys.executable, its], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False) for its in scripts
    ]
    assert scripts
    assert {run.returncode for run in runs} == {1}


def test_the_example_of_the_page_is_the_file_that_is_measured():
    code = (ROOT / "tests" / "selftest" / "own.py").read_text().split('"""\n', 1)[1].strip()
    assert code in (ROOT / "docs" / "adopters.md").read_text()


def test_what_a_function_or_a_layer_does_not_take_is_not_asked_of_it():
    attend = load("scaled_dot_product_attention=tests.selftest.own:attend")
    assert attend.takes == {"attn_mask", "is_causal", "scale"}
    grouped = ScaledDotProduct(batch=(1, 4), kv_heads=2, dropout=0.5, scale=2.0, attn_mask=Mask())
    assert attend.adapt(grouped) == replace(grouped, kv_heads=None, dropout=0.0)
    layer = load("TransformerEncoderLayer=tests.selftest.own:Layer")
    assert layer.takes == {"dropout", "batch_first", "src_mask", "src_key_padding_mask"}
    case = Transformer(activation="gelu", norm_first=True, bias=False, src_is_causal=True, autograd="grad")
    assert layer.adapt(case) == Transformer(autograd="inputs")


def test_torch_itself_can_take_its_own_place():
    for name in ("scaled_dot_product_attention=torch.nn.functional:scaled_dot_product_attention",):
        assert load(name).takes >= {"attn_mask", "dropout_p", "is_causal"}
    assert load("TransformerEncoderLayer=torch.nn:TransformerEncoderLayer").is_alike


def test_wrong_masks_that_are_met_by_one_error_are_told_once():
    """The error names no mask, and nothing explains it."""
    rows = (
        "TransformerEncoderLayer-src_mask-flat-inference",
        "TransformerEncoderLayer-src_key_padding_mask-flat-inference",
    )
    failures = [Failure("own", "own", row=row, outcome=UNHELPFUL, message="ValueError: 3") for row in rows]
    assert {unnamed_error(failure) for failure in failures} == {"raises an error that does not name it: ValueError: 3"}
    assert unnamed_error(Failure("own", "own", row="x", outcome=ACCEPTS)) == ""
    assert unnamed_error(Failure("own", "own", row="x", outcome=RAISES, message="ValueError: src_mask")) == ""


def test_wrong_masks_that_are_accepted_in_one_place_are_told_once():
    row = "MultiheadAttention-self-attn_mask-flat_beside_padding-inference"
    assert accepted_argument(Failure("own", "own", row=row, outcome=ACCEPTS)) == "own attn_mask"
    assert accepted_argument(Failure("own", "own", row="F-attn_mask-flat", outcome=ACCEPTS)) == "own attn_mask"
    assert accepted_argument(Failure("own", "own", row=row, outcome=RAISES)) == ""


@pytest.mark.parametrize("name", ["Subclass", "Port"])
def test_a_right_one_passes(name, tmp_path):
    code, record, output = measure(name, MAIN, tmp_path)
    assert code == 0, output[-3000:]
    assert record["environment"]["subject"] == f"tests.selftest.subjects:{name}"
    assert list(record["paths"]) == ["MultiheadAttention"]
    assert record["statuses"][CONFORMS] > 100


@pytest.mark.parametrize("name, path", [("BlindToPadding", LAW), ("TransposedPort", MAIN)])
def test_a_wrong_one_fails_and_leaves_scripts_that_show_it(name, path, tmp_path):
    code, _, output = measure(name, path, tmp_path)
    assert code == 1, output[-3000:]
    assert f"tests.selftest.subjects:{name}, eval: output is" in output
    assert re.search(rf'tests\.tools again ".*" --subject tests\.selftest\.subjects:{name}\n', output)
    (script, *_) = tmp_path.glob("*/*/script.py")
    run = subprocess.run([sys.executable, script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert run.returncode == 1, run.stderr
    assert f"tests.selftest.subjects.{name}(" in script.read_text()


def test_the_adapter_of_the_recipe_is_on_its_page_and_conforms(request):
    source = (ROOT / "tests" / "selftest" / "adapter.py").read_text().split('"""\n', 1)[1].strip()
    assert source in (ROOT / "docs" / "adopters.md").read_text()
    former = session.current
    request.addfinalizer(lambda: setattr(session, "current", former))
    session.start(adopted=load("tests.selftest.adapter:Adapter"))
    padded = MultiHead(N=2, L=3, S=3, num_heads=2, head_dim=2, attention="self", need_weights=False)
    padded = replace(padded, key_padding_mask=Mask("bool", "trailing"))
    causal = replace(padded, attn_mask=Mask("bool", "causal"), batch_first=False)
    per_head = replace(padded, key_padding_mask=None, attn_mask=Mask("bool", "diagonal", per_head=True))
    assert [judged(case)[1].status for case in (padded, causal, per_head)] == [CONFORMS] * 3
    assert judged(replace(padded, need_weights=True))[1].status == NOT_APPLICABLE


def test_one_that_declines_everything_is_not_conforming(tmp_path):
    code, record, output = measure("decliner", MAIN, tmp_path)
    assert code == 3
    assert set(record["statuses"]) == {NOT_APPLICABLE}
    assert "the subject declines every call" in output


def test_it_may_deviate_as_torch_does_or_conform(measuring):
    measuring("Subclass")
    assert judged(EMPTY_ROW)[1].status == DEVIATES
    measuring("Port")
    assert judged(EMPTY_ROW)[1].status == CONFORMS


def test_what_it_does_not_take_is_not_asked(measuring):
    adopted = measuring("Port").adopted
    assert adopted.takes == {"batch_first", "attn_mask"}
    asked = adopted.adapt(MultiHead(key_padding_mask=Mask(), need_weights=False, autograd="grad", bias=False, kdim=3))
    assert asked == MultiHead(autograd="inputs")
    assert load("torch.nn:MultiheadAttention").adapt(asked) == asked


def test_a_call_that_it_declines_is_not_applicable(measuring):
    measuring("Port")
    assert judged(MultiHead(batched=False))[1].status == NOT_APPLICABLE


def test_laws_are_those_that_say_something_about_it(measuring):
    release = measuring("Port").release
    laws = {law.id for law in LAWS if law.is_in(release)}
    assert {"bool_mask_and_its_float_twin", "batch_first_and_sequence_first"} <= laws
    assert not {"weights_wanted_and_not_wanted", "causal_mask_with_and_without_hint"} & laws


@pytest.mark.parametrize("name", ["Subclass", "Port"])
def test_wrong_masks_are_asked_of_it(name, measuring):
    run = measuring(name)
    calls = calls_of(run)
    assert {call.module for call in calls} == {"MultiheadAttention"}
    check_rows(calls, run)
    declined = [call for call in calls if name == "Port" and not call.callee.is_batched]
    assert run.tally.statuses[NOT_APPLICABLE] == len(declined)


def test_wrong_masks_that_it_takes_are_failures(measuring):
    run = measuring("TransposedPort")
    with pytest.raises(Nonconformance):
        check_rows(calls_of(run), run)


def calls_of(run):
    """The calls with a wrong mask that the subject can take."""
    return [call for call in CALLS if not not_applicable(call, run.release)]


def test_one_that_forgets_a_parameter_for_no_other_is_judged():
    assert subject("WithoutOutputBias").is_alike


def test_the_adapter_of_quantizable_is_on_the_page():
    code = (ROOT / "tests" / "adopted" / "quantizable.py").read_text().split('"""\n', 1)[1].strip()
    assert code in (ROOT / "docs" / "adopters.md").read_text()


def test_one_with_a_ledger_of_its_own_passes(tmp_path):
    name = "tests.adopted.quantizable:Quantizable"
    code, record, output = measure(name, (*MAIN, *LAW), tmp_path)
    assert code == 0, output[-3000:]
    assert "deviate exactly as the ledger predicts for the subject" in output
    assert record["environment"]["subject_ledger"] == "tests.adopted.quantizable_ledger"
    assert {id for id, entry in record["ledger"].items() if entry["cases"]} >= {"quantizable-batch-first"}
    assert all(entry["status"] != session.ABSENT for entry in record["ledger"].values() if entry["expected"])


def test_one_with_a_ledger_of_its_own_is_judged_by_it_alone(monkeypatch):
    adopted = load("tests.adopted.quantizable:Quantizable")
    monkeypatch.setattr(session, "current", session.current)  # restored after the test
    session.start(adopted=adopted)
    mixed, empty = MultiHead(L=2, S=2, num_heads=2, attention="self"), replace(EMPTY_ROW, batch_first=False)
    assert [judged(case)[1].status for case in (mixed, empty)] == [DEVIATES] * 2
    own = adopted.ledger
    without = SimpleNamespace(ENTRIES=own.ENTRIES[1:], WRONG_MASKS=(), BACKWARD_PASS=own.BACKWARD_PASS, __name__="own")
    session.start(adopted=replace(adopted, ledger=without))
    assert own.ENTRIES[0].id == "quantizable-empty-row-nan"
    assert judged(empty)[1].status == FAILS  # torch deviates likewise
    session.start(adopted=replace(subject("Subclass"), ledger=own))
    assert judged(mixed)[1].status == CONFORMS
    assert session.current.findings["quantizable-batch-first"].status == session.ABSENT


@pytest.mark.parametrize(
    "name, words",
    [
        ("subjects", "not of the form"),
        ("attention=tests.selftest.own:attend", "NAME is MultiheadAttention, TransformerEncoderLayer or scaled_dot"),
        ("scaled_dot_product_attention=torch.nn:Linear", "is a function, not a class"),
        ("TransformerEncoderLayer=torch.nn:MultiheadAttention", "TypeError: .* unexpected keyword argument 'd_model'"),
        ("no_such_module:x", "ModuleNotFoundError"),
        ("tests.selftest.subjects:nothing", "AttributeError"),
        ("tests.selftest.subjects:refuser", "RuntimeError: no heads at all"),
        ("math:sqrt", "TypeError"),
        (
            "torch.ao.nn.quantizable:MultiheadAttention",
            r"no effect: in_proj_weight, in_proj_bias: it computes with others \(linear_Q.weight, ",
        ),
        ("tests.selftest.subjects:Detached", r": kdim=5, vdim=6, its parameters have no effect: v_proj_weight"),
        ("tests.selftest.subjects:Deaf", r"no effect: in_proj_weight, .*: it computes with others \(to_out.weight, "),
        ("tests.selftest.subjects:Strict", "load_state_dict does not take .* RuntimeError: Error.* Missing key"),
    ],
)
def test_what_cannot_be_used_is_one_line(name, words):
    with pytest.raises(Unusable, match=words) as raised:
        load(name)
    assert "\n" not in str(raised.value)
