"""Wrong masks: the table is complete and each mask wrong, outcomes are distinguished, the ledger is well-formed."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from torch import nn
from torch.nn import functional

from tests.harness import ledgers
from tests.harness.cases.case import is_padding
from tests.harness.deviations import ledger
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.release import Release
from tests.harness.execution.setting import Setting
from tests.harness.judgement.outcomes import ACCEPTS, RAISES, UNHELPFUL
from tests.harness.measurement import record, session
from tests.harness.releases import RELEASES, since
from tests.harness.wrong_masks.ledger import ENTRIES
from tests.harness.wrong_masks.outcome import Outcome, names_mask, observe, source
from tests.harness.wrong_masks.results import compare
from tests.harness.wrong_masks.sequences import ROWS, SEQUENCES, SequenceFault, WrongSequence
from tests.harness.wrong_masks.table import CALLEES, CALLS, HEADS, SDPA, Fault, L, N, S, WrongCall, not_applicable

PATCHED = [{"1.13": "1.13.1", "2.0": "2.0.1"}.get(minor, f"{minor}.0") for minor in RELEASES]
BY_ID = {call.id: call for call in ROWS}

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)

MODULES = (
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoderLayer,
    nn.TransformerDecoder,
    nn.Transformer,
)


# ---- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_every_mask_argument_of_every_module_is_in_the_table(module):
    arguments = {name for name in inspect.signature(module.forward).parameters if name.endswith("mask")}
    assert {call.argument for call in CALLS if call.module == module.__name__} == arguments


def test_every_mask_argument_of_every_function_is_in_the_table():
    arguments = inspect.signature(functional.multi_head_attention_forward).parameters
    expected = {name for name in arguments if name.endswith("mask")}
    assert {call.argument for call in CALLS if call.module == "multi_head_attention_forward"} == expected
    assert {call.argument for call in CALLS if call.module == "scaled_dot_product_attention"} == {"attn_mask"}


def test_every_mask_has_a_wrong_size_type_and_device_in_every_mode():
    for callee in CALLEES:
        for argument, _ in callee.masks:
            for mode in callee.modes:
                rows = [call for call in CALLS if (call.callee, call.argument, call.mode) == (callee, argument, mode)]
                names = {call.fault.name for call in rows}
                assert names >= {"too_few_keys", "too_many_keys", "reshaped", "int64", "uint8", "complex64"}
                assert names & {"flat", "no_dimension"}
                assert names >= {"higher_precision", "lower_precision", "other_device"}


def test_ids_are_unique_and_read_like_the_call():
    assert len(BY_ID) == len(ROWS)
    assert "TransformerEncoderLayer-src_mask-too_many_keys-inference" in BY_ID
    assert "scaled_dot_product_attention-4d-attn_mask-mask_with_hint" in BY_ID


def test_every_wrong_shape_is_wrong():
    for call in CALLS:
        if call.fault in _TYPES or call.fault.name in _OF_THE_RIGHT_SHAPE:
            continue
        if call.module == "scaled_dot_product_attention":
            scores = (N * HEADS, L, S) if call.callee.variant == "3d" else (N, HEADS, L, S)
            assert not _broadcasts(call.shape, scores), call
        else:
            slices = N * HEADS if call.callee.is_batched else HEADS
            is_sliced = not is_padding(call.argument) and call.shape == (slices, *call.right_shape)
            assert not is_sliced, call
            assert call.shape != call.right_shape, call


_OF_THE_RIGHT_SHAPE = ("hint_without_mask", "mask_with_hint", "bias_with_hint", "causal_bias")
_TYPES = {call.fault for call in CALLS if call.fault.dtype != "bool" or call.fault.elsewhere}


def _broadcasts(shape, scores):
    try:
        return np.broadcast_shapes(shape, scores) == scores
    except ValueError:
        return False


@pytest.mark.parametrize("inputs", ["float32", "float64"])
@pytest.mark.parametrize("callee", CALLEES, ids=lambda callee: f"{callee.module}-{callee.variant}")
def test_a_right_mask_is_accepted_so_that_what_is_refused_is_the_mask(callee, inputs, run):
    right = Fault("none", inputs=inputs)
    attentions = N * HEADS if callee.is_batched else HEADS
    slices = Fault("none", lambda rows, keys: (attentions, rows, keys), inputs=inputs, beside=True)
    if not_applicable(WrongCall(callee, callee.masks[0][0], right, callee.modes[0]), run.release):
        pytest.skip("this release has no such function")
    for argument, _ in callee.masks:
        for mode in callee.modes:
            call = WrongCall(callee, argument, right, mode)
            assert _is_right(call), source(call)
            if not is_padding(argument) and call.other in dict(callee.masks):
                assert _is_right(replace(call, fault=slices)), source(replace(call, fault=slices))


def _is_right(call):
    """True if the call is accepted and its result conforms."""
    outcome = observe(call)
    return outcome == Outcome(ACCEPTS) and not compare(call, outcome).mismatches


def test_a_call_can_be_typed():
    for call in ROWS:
        compile(source(call), call.id, "exec")


def test_the_mask_alone_is_elsewhere():
    call = BY_ID["TransformerDecoderLayer-memory_mask-other_device-inference"]
    assert source(call) == (
        "torch.default_generator.manual_seed(0)\n"
        "module = torch.nn.TransformerDecoderLayer(4, 2, 4, dropout=0.0, batch_first=True)\n"
        "torch.default_generator.manual_seed(1)\n"
        "tgt = torch.randn((2, 4, 4))\n"
        "memory = torch.randn((2, 6, 4))\n"
        "mask = torch.arange(24, device='meta').reshape((4, 6)) % 5 == 2\n"
        "module.eval()\n"
        "with torch.no_grad():\n"
        "    result = module(tgt, memory, memory_mask=mask)"
    )
    elsewhere = source(call, Setting("cuda:0")).splitlines()
    assert [line.count("device='cuda:0'") for line in elsewhere[1:6]] == [1, 0, 1, 1, 0]
    assert elsewhere[5] == "mask = torch.arange(24).reshape((4, 6)) % 5 == 2"


# ---- sequences -----------------------------------------------------------------------------------------------------


def test_every_wrong_sequence_is_wrong():
    """No right call has the sizes of a wrong sequence, with or without broadcasting."""
    for call in SEQUENCES:
        shapes = {name: call.shape_of(name) for name in call.callee.inputs}
        right = {name: WrongCall.shape_of(call, name) for name in shapes}
        assert {name for name in shapes if shapes[name] != right[name]} == set(call.fault.of), call
        assert 1 not in shapes[call.argument][:1], call


@pytest.mark.parametrize("callee", dict.fromkeys(call.callee for call in SEQUENCES), ids=lambda callee: callee.module)
def test_right_sequences_are_accepted_so_that_what_is_refused_are_their_sizes(callee, run):
    right = SequenceFault("none", of=())
    for fault in (right, replace(right, beside=True)):
        for mode in callee.modes:
            call = WrongSequence(callee, callee.inputs[-1], fault, mode)
            if not not_applicable(call, run.release):
                assert _is_right(call), source(call)


def test_a_key_that_is_cut_short_goes_on_behind_its_end():
    call = BY_ID["scaled_dot_product_attention-3d-key-key_cut_short"]
    assert source(call).splitlines()[2:4] == ["stored = torch.randn((4, 6, 2))", "key = stored[..., :5, :]"]


# ---- outcomes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("src_mask", "The shape of the 2D attn_mask is torch.Size([6, 5]), but should be (6, 6)."),
        ("attn_mask", "For batched (3-D) `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found 1-D tensor"),
        ("src_key_padding_mask", "Expected key_padded_mask.shape[1] to be 6, but got 5"),
        ("src_key_padding_mask", "only bool and floating types of src_key_padding_mask are supported"),
        ("mask", "only bool and floating types of mask are supported"),
        ("src_mask", "For mask_type == 2 mask shape should match input shape"),
        ("src_key_padding_mask", "Mask shape should match input"),
        ("tgt_mask", "Need attn_mask if specifying the is_causal hint."),
        ("attn_mask", "_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True"),
        ("attn_mask", "CausalBias only supports scaled_dot_product_attention"),
    ],
)
def test_a_message_that_names_the_mask(argument, message):
    assert names_mask(message, argument)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "key_padding_mask",
            "For unbatched (2-D) `query`, expected `attn_mask` to be `None` or 1-D but found 2-D tensor",
        ),
        ("memory_key_padding_mask", "Expected attn_mask dtype to be bool or float or to match query dtype"),
        ("attn_mask", "key_padding_mask must be 1-D"),
        ("tgt_mask", "memory_mask has a wrong shape"),
    ],
)
def test_a_message_that_names_another(argument, message):
    assert not names_mask(message, argument)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "shape '[1, 1, 6, 6]' is invalid for input of size 30",
        "The size of tensor a (6) must match the size of tensor b (5) at non-singleton dimension 3",
        "Input dtypes must be the same, got: input double, batch1: float, batch2: float",
        "value cannot be converted to type int64_t without overflow",
        "Expected all tensors to be on the same device, but found at least two devices, meta and cpu!",
        "Could not run 'aten::_nested_tensor_from_mask_left_aligned' with arguments from the 'Meta' backend.",
        "aten::masked_fill: attempted to run this operator with Meta tensors",
    ],
)
def test_a_message_that_does_not(message):
    assert not names_mask(message, "attn_mask")


def test_what_torch_raises_is_an_outcome():
    call = BY_ID["MultiheadAttention-cross-attn_mask-too_few_keys-training"]
    outcome = observe(call)
    assert outcome.kind == RAISES
    assert outcome.error.startswith("RuntimeError: The shape of the 2D attn_mask is torch.Size([4, 5])")


# ---- the ledger ----------------------------------------------------------------------------------------------------


def test_ids_are_unique_in_both_ledgers():
    ids = [entry.id for entry in (*ENTRIES, *ledger.ENTRIES)]
    assert len(ids) == len(set(ids))
    assert all(id == id.lower() and " " not in id for id in ids)


@each_entry
def test_an_entry_says_all_that_a_reader_needs(entry):
    SpecifierSet(entry.affects)
    assert entry.upstream == "not found" or entry.upstream.startswith("pytorch/pytorch#")
    assert entry.instead in (ACCEPTS, UNHELPFUL)
    assert bool(entry.message) == (entry.instead == UNHELPFUL)
    assert all((entry.title, entry.effect))


@pytest.mark.parametrize("version", PATCHED)
def test_one_entry_at_most_applies_to_a_row(version):
    release = Release(Version(version), "cpu")
    concerned = [entry for entry in ENTRIES if entry.concerns(release)]
    for call in ROWS:
        assert len([entry for entry in concerned if entry.applies(call, release)]) <= 1, call


@each_entry
def test_an_entry_applies_in_some_row_of_each_release_that_it_names(entry):
    for release in (Release(Version(version), "cpu") for version in PATCHED):
        assert not entry.concerns(release) or any(entry.applies(call, release) for call in ROWS)


def test_the_record_tells_of_each_entry(run):
    def tally(**counts):
        return {"outcome": record.PASSED, "clauses": [9], "message": "", "tally": counts}

    def finding(status, expected):
        return {"status": status, "expected": expected, "paths": ()}

    present, absent, quiet, elsewhere, *_ = (entry.id for entry in ENTRIES)
    findings = {
        present: finding(session.PRESENT, True),
        absent: finding(session.ABSENT, True),
        quiet: finding(session.PRESENT, True),
        elsewhere: finding(session.ABSENT, False),
    }
    tests = {
        "a": tally(deviations={present: 2}, modules={f"{present} Transformer": 2}),
        "b": tally(findings=findings),
    }
    entries = record.assemble(run, {}, tests, True, 0)["ledger"]
    assert (entries[present]["status"], entries[present]["cases"]) == (session.PRESENT, 2)
    assert entries[present]["modules"] == {"Transformer": 2}
    assert (entries[absent]["status"], entries[absent]["cases"]) == (session.ABSENT, 0)
    assert entries[quiet]["status"] == record.NOT_EXERCISED
    assert (entries[elsewhere]["status"], entries[elsewhere]["expected"]) == (session.ABSENT, False)
    assert {entry.id for entry in ENTRIES} <= set(ledgers.BY_ID)


def test_a_call_that_the_installed_torch_takes_is_made_by_the_model_of_an_earlier_release():
    """The model of a release without torch.nn.attention.bias judges a later one, which has it."""
    has_it = since(session.current.release, "2.3")
    row = next(call for call in CALLS if call.fault.bias and call.module == SDPA)
    assert (not_applicable(row, Release(Version("2.2.2"), "cpu")) is None) == has_it
    assert not_applicable(row, AnotherRelease(Version("2.2.2")))
