"""A reproduction script agrees with the harness, and needs no part of the suite."""

import subprocess
import sys
import types
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import LAYOUTS, Mask
from tests.harness.cases.spelling import shortest_repr
from tests.harness.contents.arrays import directions, ignored, inputs, mask_arrays
from tests.harness.contents.results import as_given
from tests.harness.deviations import ledger
from tests.harness.execution.call import lay_out
from tests.harness.execution.release import installed
from tests.harness.execution.setting import Setting
from tests.harness.judgement.verdict import FAILS
from tests.harness.ledgers import ENTRIES
from tests.harness.strategies.by_mode import low_precision_cases
from tests.harness.strategies.modules import any_cases
from tests.harness.wrong_masks import outcome, table
from tests.harness.wrong_masks.judge import judge_row
from tests.tools.case_script import ARGUMENTS, EVERYTHING, GRADIENTS, RESULTS, WARNINGS, script
from tests.tools.python_text import number as digits
from tests.tools.reproduce import main, script_of_entry
from tests.tools.wrong_mask_script import wrong_mask_script

from .running import CANNOT_BE_ASKED, mismatches, run_script

RELEASE = installed()
FEW = settings(max_examples=100, deadline=None, database=None, phases=[Phase.generate])


def test_script_of_a_right_answer_to_a_wrong_mask_ends_well():
    call = next(call for call in table.CALLS if outcome.observe(call).kind == table.RAISES)
    assert run_script(wrong_mask_script(call))[0] == 0


@pytest.mark.parametrize("keys", ["", "_33_keys"])
def test_script_of_a_mask_that_may_be_accepted_looks_at_the_numbers(keys):
    id = f"TransformerEncoderLayer-src_mask-lower_precision{keys}-training"
    call = next(call for call in table.CALLS if call.id == id)
    judgement = judge_row(call, outcome.observe(call), RELEASE, ())
    code, output, _ = run_script(wrong_mask_script(call))
    assert code == (judgement.status == FAILS), output
    assert ("off by" in output) == (outcome.observe(call).kind == table.ACCEPTS)


def test_script_stands_alone(tmp_path):
    """The script runs in its own process, which cannot import the suite."""
    codes = []
    for case in (MultiHead(attn_mask=Mask("bool", "all")), MultiHead(S=2, attn_mask=Mask("bool", "none"))):
        path = tmp_path / "script.py"
        path.write_text(script(case))
        ended = subprocess.run([sys.executable, "-I", path], cwd=tmp_path, capture_output=True, text=True)
        assert torch.__version__ in ended.stdout
        codes.append(ended.returncode)
    assert codes == [1, 0]


# ---- any case ------------------------------------------------------------------------------------------------------


def rare(layout, broadcast):
    mask = Mask("float", "one", "bias", layout=layout)
    return ScaledDotProduct(autograd="grad", S=2, attn_mask=mask, broadcast=broadcast)


PADDING = Mask("float", "one", "inf")
STACK = {"num_layers": 2, "head_dim": 4, "autograd": "last_layer"}
DROPPING = MultiHead(training=True, dropout=0.5, need_weights=False, key_padding_mask=PADDING, autograd="grad")
NAN_BESIDE_PADDING = {
    "tgt_mask": Mask("float", "one", "nan", per_head=True),
    "tgt_key_padding_mask": Mask("float", "trailing"),
}
RARE = [
    *(rare(layout, broadcast) for layout in LAYOUTS for broadcast in ("0-D", "1-D")),
    ScaledDotProduct(L=2, S=2, is_causal=True, scale=-1.0),
    ScaledDotProduct(batch=(0, 2), S=2, attn_mask=PADDING, autograd="grad"),
    *(MultiHead(N=0, num_heads=2, attention="self", autograd=autograd) for autograd in ("grad", "no_grad")),
    *(MultiHead(key_padding_mask=PADDING, autograd="grad", **sizes) for sizes in ({"N": 0}, {"L": 0}, {"S": 0})),
    MultiHead(attention="copies", functional=True, static=True, autograd="grad"),
    MultiHead(L=0, S=2, key_padding_mask=Mask("bool", "all"), autograd="inputs"),
    Transformer(N=0, S=4, num_heads=3, head_dim=4, src_key_padding_mask=PADDING, autograd="mask"),
    Transformer(module="TransformerDecoder", T=0, S=2, memory_key_padding_mask=PADDING, autograd="grad", head_dim=4),
    *(Transformer(module=f"Transformer{kind}", **STACK) for kind in ("Encoder", "Decoder", "")),
    Transformer(module="TransformerEncoder", src_key_padding_mask=Mask(), **STACK),
    *(replace(DROPPING, N=N) for N in (0, 2)),
    *(ScaledDotProduct(batch=(2, 0), L=3, S=4, layout=layout, attn_mask=Mask(layout=layout)) for layout in LAYOUTS),
    Transformer(module="TransformerDecoder", garbage=True, N=2, S=2, T=3, **NAN_BESIDE_PADDING),
]


@pytest.mark.parametrize("case", RARE, ids=shortest_repr)
def test_script_of_a_rare_case_says_what_the_harness_says(case):
    if not RELEASE.offers(case):
        assert run_script(script(case))[0] == CANNOT_BE_ASKED
        return
    assert_agreement(case)
    assert_layouts(case)


@settings(FEW, max_examples=300)
@given(case=any_cases(RELEASE))
def test_script_says_what_the_harness_says(case):
    found = assert_agreement(case)
    event(f"{case.module} {'deviates' if found else 'conforms'}")


@pytest.mark.parametrize("dtype", RELEASE.low_dtypes)
@FEW
@given(data=st.data())
def test_script_in_low_precision_says_what_the_harness_says(dtype, data):
    case = data.draw(low_precision_cases(RELEASE, dtype))
    assert_agreement(case)
    assert_layouts(case)


def is_close(mismatch):
    """True if a script may accept the result in spite of this mismatch.

    A script adds to its bound half a unit of the digit to which it rounds the expected numbers, and rounds the sum up
    to one digit: with that half unit, at most 2.65 times the bound. It allows four times as much for gradients.
    """
    slack = 2.65 * (4 if mismatch.what.startswith("gradient") else 1)
    return bool(mismatch.bound) and mismatch.error <= slack * mismatch.bound


def assert_agreement(case):
    """Assert that the case's script agrees with the harness; return the mismatches that the harness finds."""
    found = mismatches(case)
    text = script(case)
    code, output, _ = run_script(text)
    if code or not all(map(is_close, found)):
        assert code == bool(found), f"{shortest_repr(case)}\n{found}\n{output}"
    assert all(len(line) <= 120 for line in text.splitlines())
    return found


@FEW
@given(case=any_cases(RELEASE))
def test_tensors_are_laid_out_as_the_harness_does(case):
    assert_layouts(case)


def assert_layouts(case):
    made = run_script(script(case, about=()))[2]
    for name, array in (inputs(case) | mask_arrays(case)).items():
        mask = masks_of(case).get(name)
        layout, dtype = (mask.layout, mask.dtype or case.dtype) if mask else (case.layout, case.dtype)
        tensor = lay_out(as_given(case, name, array), layout, dtype)
        assert made[name].dtype == tensor.dtype
        assert made[name].requires_grad == (name in directions(case))
        torch.testing.assert_close(made[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert _steps(made[name]) == _steps(tensor)


def _steps(tensor):
    """(strides of all axes with more than one element, storage offset) of the tensor"""
    axes = [axis for axis, size in enumerate(tensor.shape) if size > 1]
    return [tensor.stride(axis) for axis in axes], tensor.storage_offset()


def test_numbers_are_read_again_as_they_were():
    numbers = np.random.default_rng(0).normal(0, 1, 1000) * 10.0 ** np.arange(-8, 12).repeat(50)
    for dtype in ("float32", "float64"):
        lowest = np.finfo(dtype).min
        for number in [*numbers.astype(dtype), np.dtype(dtype).type(lowest), np.dtype(dtype).type(-np.inf)]:
            text = digits(number)
            assert np.dtype(dtype).type(eval(text, {f"{dtype}_min": lowest, "inf": np.inf})) == number


def halved(original):
    return lambda *args, **kwargs: original(*args, **kwargs) / 2


def warns(original):
    def warning(*args, **kwargs):
        warnings.warn("of nothing", stacklevel=1)
        return original(*args, **kwargs)

    return warning


def raises(original):
    def raising(*args, **kwargs):
        raise RuntimeError("for nothing")

    return raising


def detaches(original):
    return lambda *args, **kwargs: original(*args, **kwargs).detach()


CONFORMING = MultiHead(L=2, S=2, attn_mask=Mask("float", "one", "bias"), autograd="grad")


@pytest.mark.parametrize(
    "about", [*([kind] for kind in sorted(EVERYTHING)), EVERYTHING], ids=lambda about: "+".join(sorted(about))
)
@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        (lambda original: original, set()),
        (halved, {RESULTS, GRADIENTS}),
        (warns, {WARNINGS}),
        (raises, EVERYTHING),
        (detaches, {GRADIENTS}),
    ],
    ids=["none", "halved", "warns", "raises", "detaches"],
)
def test_script_of_a_conforming_case_shows_a_fault_in_torch(fault, kinds, about, monkeypatch):
    """A script reports a fault in the parts of the outcome that it checks, and no other fault."""
    text = script(CONFORMING, about=about)
    monkeypatch.setattr(F, "softmax", fault(F.softmax))
    code, output, _ = run_script(text)
    assert code == bool(kinds & set(about)), output


GARBAGE = MultiHead(
    N=2, L=3, S=3, attention="self", key_padding_mask=Mask("bool", "one"), garbage=True, need_weights=False
)


@pytest.mark.parametrize("factor, ends", [(1.0, 0), (1.5, 1), (np.nan, 1)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_script_shows_a_fault_in_rows_of_garbage_queries_alone(dtype, factor, ends, monkeypatch):
    case = replace(GARBAGE, dtype=dtype)
    rows = torch.tensor(ignored(case)["query"])
    original = torch.nn.MultiheadAttention.forward

    def scaling(*args, **kwargs):
        output, weights = original(*args, **kwargs)
        return torch.where(rows[..., None], factor * output, output), weights

    monkeypatch.setattr(torch.nn.MultiheadAttention, "forward", scaling)
    code, output, _ = run_script(script(case))
    assert code == ends == bool(mismatches(case)), output


@pytest.mark.parametrize("number", [1, 0])  # a write of equal contents counts
def test_script_shows_that_an_argument_is_changed(number, monkeypatch):
    case = ScaledDotProduct(S=2, attn_mask=Mask("float", "one", "bias"))

    def writing(query, key, value, attn_mask):
        attn_mask += number
        return torch.zeros(1)

    monkeypatch.setattr(F, "scaled_dot_product_attention", writing, raising=False)
    assert run_script(script(case, about={ARGUMENTS}))[0] == 1


def test_script_shows_that_a_result_is_an_argument(monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda query, key, value: value, raising=False)
    assert run_script(script(ScaledDotProduct(), about={ARGUMENTS}))[0] == 1


@pytest.mark.parametrize(
    "case",
    [
        ScaledDotProduct(),
        ScaledDotProduct(scale=2.0),
        ScaledDotProduct(kv_heads=1),
        MultiHead(fast_path=False),
        MultiHead(L=2, S=2, attn_mask=Mask("bool", "causal"), is_causal=True),
        MultiHead(L=2, S=2, attn_mask=Mask("bool", "causal"), is_causal=True, functional=True),
        Transformer(head_dim=4, bias=False),
        Transformer(module="TransformerEncoder", head_dim=4, bias=False),
        Transformer(module="Transformer", T=2, head_dim=4, tgt_mask=Mask("bool", "causal"), tgt_is_causal=True),
    ],
    ids=shortest_repr,
)
def test_script_says_that_a_release_lacks_something(case, monkeypatch):
    """torch is changed to lack everything that was added after 1.12."""

    def forward(self, query):
        raise AssertionError("is called")

    for module in ("MultiheadAttention", "TransformerEncoderLayer", "Transformer"):
        monkeypatch.setattr(torch.nn, module, type(module, (torch.nn.Module,), {"forward": forward}))
    monkeypatch.setattr(F, "multi_head_attention_forward", forward)
    if case.module != "scaled_dot_product_attention" or case == ScaledDotProduct():
        monkeypatch.delattr(F, "scaled_dot_product_attention", raising=False)
    else:
        old = types.SimpleNamespace(__doc__="scaled_dot_product_attention(query, key, value)")
        monkeypatch.setattr(F, "scaled_dot_product_attention", old, raising=False)
    monkeypatch.setattr(torch, "backends", types.SimpleNamespace())
    code, output, _ = run_script(script(case))
    assert code == CANNOT_BE_ASKED, output
    assert "this release has no" in output


# ---- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_head_of_a_script_tells_what_is_wrong(entry):
    assert entry.title in script_of_entry(entry).replace("\n#     ", " ")


# ---- the command line ----------------------------------------------------------------------------------------------


def test_command_prints_the_script_of_an_entry_and_of_a_case(capsys):
    entry, case = ledger.ENTRIES[0], ledger.ENTRIES[0].pinned
    for argument, text in ((entry.id, script_of_entry(entry)), (shortest_repr(case), script(case))):
        assert main([argument]) == 0
        assert capsys.readouterr().out == text


@pytest.mark.parametrize("arguments", [[], ["no-such-entry"], ["MultiHead("], ["Mask()"], ["1", "cpu", "2"]])
def test_command_refuses_what_it_does_not_understand_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_script_for_another_device_says_so():
    text = script(MultiHead(S=2, key_padding_mask=Mask(layout="sliced")), Setting("cuda:0"))
    assert text.count("cuda:0") >= 4
