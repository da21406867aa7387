"""The doctor says of a call what a run of the suite says of it, and changes nothing of the program."""

import functools
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.doctor import compare
from tests.doctor import diagnosis as doctor
from tests.doctor.compare import AS_SPECIFIED, KNOWN, NOT_COMPARED, REFUSED, UNKNOWN
from tests.doctor.compiled import UNSEEN
from tests.doctor.report import as_plain, as_text
from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.deviations.ledger import ENTRIES
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.comparison import DTYPE, ERROR, RESULTS, SHAPE, VALUE
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, judge
from tests.harness.measurement.checking import judged
from tests.harness.modes.modes import BY_ID
from tests.harness.strategies.modules import MODULES, cases_of

from .diagnosed import diagnosed, verdicts
from .sampling import sample

RELEASE = installed()
HAS_SDPA = RELEASE.has_scaled_dot_product_attention
FUNCTIONS = (*MODULES, *(["scaled_dot_product_attention"] if HAS_SDPA else []))
needs_sdpa = pytest.mark.skipif(not HAS_SDPA, reason="this release has no scaled_dot_product_attention")

# Entries that show in warnings and gradients alone, which the doctor does not look at.
_BACKWARD = {entry.id for entry in ENTRIES if entry.stage == "backward"}


def own_findings(case):
    """The findings on the call of a case, without those on its inner calls."""
    diagnosis = diagnosed(lambda: observe(case))
    return [finding for finding in diagnosis.findings.values() if finding.is_own and finding.function == case.module]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("module", FUNCTIONS)
def test_generated_calls_get_the_verdict_of_the_suite(module, inference):
    compared = 0
    for case in sample(cases_of(RELEASE, module, inference), 40):
        _, verdict = judged(case)
        for finding in own_findings(case):
            assert finding.verdict != UNKNOWN, case
            if finding.verdict == KNOWN:
                assert verdict.status == DEVIATES, case
                assert set(finding.entries) <= set(verdict.deviations) or set(verdict.deviations) & _BACKWARD, case
            if verdict.status == CONFORMS:
                assert finding.verdict in (AS_SPECIFIED, NOT_COMPARED, REFUSED), case
            compared += finding.verdict != NOT_COMPARED
    assert compared > 10


PINNED = [
    entry
    for entry in ENTRIES
    if entry.concerns(RELEASE) and entry.pinned.attends and entry.pinned.mode == "eager"
    if entry.stage != "backward" and not entry.ends and RELEASE.offers(entry.pinned)
    if not entry.pinned.is_flex  # a function that the doctor does not watch
]


@pytest.mark.parametrize("entry", PINNED, ids=lambda entry: entry.id)
def test_the_entry_of_a_pinned_case_is_named(entry):
    case, observation = entry.pinned, observe(entry.pinned)
    wrong = {mismatch.kind for mismatch in judge(case, observation).mismatches}
    (finding,) = own_findings(case)
    if wrong & {VALUE, SHAPE, DTYPE, RESULTS, ERROR} and not case.dropout:
        assert finding.verdict == KNOWN, finding
        assert entry.id in finding.entries
        assert finding.remedies
    else:  # only gradients or warnings show it, or this CPU does not
        assert finding.verdict in (AS_SPECIFIED, NOT_COMPARED)


def test_plain_modules_are_as_specified_under_plain_masks():
    causal, padding = Mask("bool", "causal"), Mask("bool", "right")
    cases = [
        MultiHead(dtype="float32", N=2, L=5, S=5, num_heads=2, head_dim=4, attn_mask=causal, key_padding_mask=padding),
        Transformer(N=2, S=5, num_heads=3, head_dim=2, src_mask=causal, training=True, num_layers=2),
        Transformer(
            module="TransformerEncoder", N=2, S=5, num_heads=2, head_dim=4, src_key_padding_mask=padding, training=True
        ),
        Transformer(
            module="Transformer",
            N=2,
            S=5,
            T=4,
            num_heads=2,
            head_dim=4,
            tgt_mask=causal,
            memory_key_padding_mask=padding,
            norm=True,
        ),
    ]
    cases = [replace(case, autograd="inputs") for case in cases]
    if HAS_SDPA:
        cases.append(ScaledDotProduct(batch=(2, 3), L=5, S=5, D=4, Dv=4, attn_mask=causal))
    for case in cases:
        assert [finding.verdict for finding in own_findings(case)] == [AS_SPECIFIED], case


# ---- where calls are made ------------------------------------------------------------------------------------------


class Mine(nn.MultiheadAttention):
    """A subclass that computes with torch's forward."""


class Block(nn.Module):
    """A block with an attention of its own, which is a subclass."""

    def __init__(self):
        super().__init__()
        self.attention = Mine(8, 2, batch_first=True)

    def forward(self, x):
        """(N, L, 8) -> (N, L, 8)"""
        return self.attention(x, x, x, need_weights=False)[0]


class Model(nn.Module):
    """Two blocks."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        """(N, L, 8) -> (N, L, 8)"""
        for block in self.blocks:
            x = block(x)
        return x


def test_places_are_paths_in_the_model():
    model, x = Model(), torch.randn(2, 3, 8)
    assert verdicts(lambda: model(x)) == {f"Model.blocks.{i}.attention": [AS_SPECIFIED] for i in range(2)}


@needs_sdpa
def test_a_function_has_the_place_of_its_line():
    x = torch.randn(2, 3, 8)
    (place,) = verdicts(lambda: F.scaled_dot_product_attention(x, x, x))
    assert place.startswith("test_doctor.py:")


class OwnForward(nn.TransformerEncoderLayer):
    """A layer with a feed-forward block of its own."""

    def _ff_block(self, x):
        return x


class Swish(nn.Module):
    """An activation that the reference does not have."""

    def forward(self, x):
        """Elementwise."""
        return x * x


@pytest.mark.parametrize(
    "layer, reason",
    [
        (OwnForward(8, 2, 8, batch_first=True, dropout=0.0), "OwnForward._ff_block is its own code"),
        (nn.TransformerEncoderLayer(8, 2, 8, activation=Swish(), batch_first=True, dropout=0.0), "activation Swish"),
    ],
)
def test_the_attention_of_a_layer_that_no_case_expresses_is_compared(layer, reason):
    diagnosis = diagnosed(lambda: layer(torch.randn(2, 3, 8)))
    found = {finding.function: finding for finding in diagnosis.findings.values()}
    assert found["TransformerEncoderLayer"].verdict == NOT_COMPARED
    assert reason in found["TransformerEncoderLayer"].reason
    assert found["MultiheadAttention"].verdict == AS_SPECIFIED


needs_quantized = pytest.mark.skipif(not BY_ID["quantized"].is_in(), reason="this release or CPU has no such layers")


def quantized(module):
    """The module with the linear layers that quantize_dynamic makes; in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases deprecate it
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(module), {nn.Linear})[0]


@needs_quantized
def test_quantized_layers_are_not_compared_and_counted_and_their_attentions_are():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True), 2)
    encoder = quantized(encoder).train()
    padding = torch.tensor([[False, False, False], [False, True, True]])
    diagnosis = diagnosed(lambda: [encoder(torch.randn(2, 3, 8), src_key_padding_mask=padding) for _ in range(3)])
    found = {(its.function, its.verdict, its.reason, its.calls) for its in diagnosis.findings.values()}
    assert found == {
        ("TransformerEncoder", NOT_COMPARED, "linear1 is a quantized Linear, not nn.Linear", 3),
        ("TransformerEncoderLayer", NOT_COMPARED, "linear1 is a quantized Linear, not nn.Linear", 3),
        ("MultiheadAttention", AS_SPECIFIED, "", 3),
    }
    assert "not compared: 9, as specified: 6;" in as_text(diagnosis, "")


@needs_quantized
def test_the_error_of_a_call_that_is_not_compared_is_told():
    layer = quantized(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True))

    def program():
        with pytest.raises(AttributeError):
            layer(torch.randn(2, 3, 8))

    (finding,) = diagnosed(program).findings.values()
    assert finding.verdict == NOT_COMPARED
    assert "linear1 is a quantized Linear, not nn.Linear; it raised AttributeError: 'function'" in finding.reason


class Packed(torch.Tensor):
    """A tensor of a class of its own, as those that hold quantized numbers are."""


def test_parameters_of_a_class_of_their_own_are_not_compared():
    layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    layer.linear1.weight = nn.Parameter(layer.linear1.weight.detach().as_subclass(Packed))
    diagnosis = diagnosed(lambda: layer(torch.randn(2, 3, 8)))
    reasons = {finding.reason for finding in diagnosis.findings.values() if finding.verdict == NOT_COMPARED}
    assert reasons == {"linear1.weight is a Packed"}


def test_dropout_in_training_is_not_compared_and_counted():
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    diagnosis = diagnosed(lambda: layer(torch.randn(2, 3, 8)))
    assert {finding.reason for finding in diagnosis.findings.values() if finding.is_own} == {"dropout in training"}


# ---- what nobody knows ---------------------------------------------------------------------------------------------


def test_a_new_bug_is_unknown_and_its_inner_calls_are_compared(monkeypatch):
    right = nn.TransformerEncoderLayer.forward

    def wrong(self, src, *masks, **options):
        return right(self, src, *masks, **options) + (self is stack.layers[1])

    monkeypatch.setattr(nn.TransformerEncoderLayer, "forward", wrong)
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True), 2)
    found = verdicts(lambda: stack(torch.randn(2, 3, 8)))
    assert found["TransformerEncoder"] == [UNKNOWN]
    assert found["TransformerEncoder.layers.1"] == [UNKNOWN]
    assert found["TransformerEncoder.layers.0"] == [AS_SPECIFIED]


# ---- nothing changes -----------------------------------------------------------------------------------------------


def test_torch_is_as_before_afterwards():
    before = nn.MultiheadAttention.forward, F.multi_head_attention_forward, F.softmax, torch.jit.script
    diagnosed(lambda: None)
    assert before == (nn.MultiheadAttention.forward, F.multi_head_attention_forward, F.softmax, torch.jit.script)


def test_results_hooks_and_random_numbers_are_kept():
    model, x, seen = Model(), torch.randn(2, 3, 8), []
    model.blocks[0].attention.register_forward_hook(lambda *_: seen.append("hook"))
    torch.manual_seed(0)
    expected = [model(x), torch.rand(3)]
    got = []

    def program():
        torch.manual_seed(0)
        got.extend([model(x), torch.rand(3)])

    diagnosed(program)
    assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))
    assert seen == ["hook"] * 2


def test_errors_of_torch_propagate_and_are_told():
    attention, x = nn.MultiheadAttention(8, 2), torch.randn(3, 2, 8)

    def program():
        with pytest.raises((RuntimeError, AssertionError)):
            attention(x, x, x, attn_mask=torch.zeros(5, 5, dtype=torch.bool))

    (finding,) = (its for its in diagnosed(program).findings.values() if its.is_own)
    assert finding.verdict == REFUSED
    assert "attn_mask has shape (5, 5), not (3, 3)" in finding.reason


def test_scripting_and_tracing_work():
    layer, x = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, dropout=0.0), torch.randn(2, 3, 8)
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and warns of constants in traces
        diagnosis = diagnosed(
            lambda: made.extend([torch.jit.script(layer), torch.jit.trace(layer, x, check_trace=False)])
        )
    assert all(torch.allclose(each(x), layer(x), atol=1e-6) for each in made)
    assert any("inside a trace" in reason for reason in diagnosis.passed)


def test_calls_beyond_the_most_are_counted_and_not_compared():
    model, x = Model(), torch.randn(2, 3, 8)
    diagnosis = diagnosed(lambda: [model(x) for _ in range(7)], most=3)
    assert set(diagnosis.calls.values()) == {7}
    assert {finding.calls for finding in diagnosis.findings.values()} == {3}


def test_a_checkpoint_that_stops_a_call_is_no_error():
    attention, x = nn.MultiheadAttention(8, 2), torch.randn(3, 2, 8, requires_grad=True)

    def program():
        checkpoint(lambda y: attention(y, y, y)[0], x, use_reentrant=False).sum().backward()

    found = {verdict for each in verdicts(program).values() for verdict in each}
    assert found <= {AS_SPECIFIED, NOT_COMPARED}


@pytest.mark.skipif(not hasattr(torch, "compiler"), reason="this release compiles nothing with Python 3.11")
@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_calls_pass_unseen_and_unbroken(fullgraph):
    attention, x, results = nn.MultiheadAttention(8, 2), torch.randn(3, 2, 8), []
    expected = attention(x, x, x)[0]

    def program():
        torch._dynamo.reset()
        compiled = torch.compile(attention, backend="eager", fullgraph=fullgraph)
        results.append(compiled(x, x, x)[0])

    diagnosis = diagnosed(program)
    assert torch.allclose(results[0], expected)
    assert dict(diagnosis.passed) == {UNSEEN: 1}


@pytest.mark.parametrize("batch_first", [True, False])
def test_of_a_large_call_the_first_samples_are_compared(monkeypatch, batch_first):
    monkeypatch.setattr(compare, "MOST_SCORES", 2 * 2 * 5 * 5)
    mask = Mask("float", "random", "bias", per_head=True)
    case = MultiHead(N=4, L=5, S=5, num_heads=2, attn_mask=mask, key_padding_mask=Mask("float", "right"))
    case = replace(case, batch_first=batch_first)
    outcomes = []
    monkeypatch.setattr(doctor, "compared", lambda made: outcomes.append(compare.compared(made)) or outcomes[-1])
    (finding,) = own_findings(case)
    assert finding.verdict in (AS_SPECIFIED, KNOWN)
    assert outcomes[-1].samples == (2, 4)
    assert outcomes[-1].observation.outputs["output"].shape[0 if case.batch_first else 1] == 2
    assert own_findings(Transformer(module="TransformerDecoder", N=4, S=5, T=5, num_heads=2))
    assert outcomes[-1].samples == (2, 4)


def test_overwritten_inputs_are_not_compared():
    attention, x = nn.MultiheadAttention(8, 2), torch.randn(3, 2, 8)
    right = F.multi_head_attention_forward

    @functools.wraps(right)
    def overwriting(query, *given, **options):
        result = right(query, *given, **options)
        x.add_(1)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "multi_head_attention_forward", overwriting)
        diagnosis = diagnosed(lambda: attention(x, x, x))
    assert {finding.verdict for finding in diagnosis.findings.values()} == {NOT_COMPARED}


def test_results_that_rounding_decides_are_not_compared():
    """Scores of a million, which float16 holds to 500 or overflows."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = 1000 * torch.randn(2, 130, 8)
    if installed().low_dtypes:
        attention, x = attention.to(torch.bfloat16), x.to(torch.bfloat16)
    assert set(verdicts(lambda: attention(x, x, x, need_weights=False))["MultiheadAttention"]) <= {
        AS_SPECIFIED,
        NOT_COMPARED,
    }


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_new_bug_is_found_beside_scores_of_any_size(monkeypatch, scale):
    right = F.multi_head_attention_forward

    @functools.wraps(right)
    def wrong(query, key, *given, **options):
        result, weights = right(query, key, *given, **options)
        return 1.1 * result, weights

    monkeypatch.setattr(F, "multi_head_attention_forward", wrong)
    attention, x = nn.MultiheadAttention(8, 2), scale * torch.randn(5, 2, 8)
    assert verdicts(lambda: attention(x, x, x))["MultiheadAttention"] == [UNKNOWN]


def test_the_report_shows_small_masks_as_grids_and_says_what_was_not_compared():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    padding = torch.tensor([[False, False, False, True], [True, True, True, True]])

    def program():
        with torch.no_grad():
            layer(torch.randn(2, 4, 8), src_key_padding_mask=padding)

    diagnosis = diagnosed(program)
    lines = as_text(diagnosis, "the program ended").splitlines()
    shown = lines.index("        src_key_padding_mask ('#' is True, '.' False):")
    assert lines[shown + 1 : shown + 3] == ["            . . . #", "            # # # #"]
    assert "results and errors were compared; gradients and warnings were not" in lines
    (finding,) = as_plain(diagnosis, "")["findings"]
    assert list(finding["grids"].values()) == [{"src_key_padding_mask": ". . . #\n# # # #"}]


def test_large_masks_and_masks_of_what_conforms_are_not_shown_as_grids():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()

    def program():
        with torch.no_grad():
            layer(torch.randn(1, 20, 8), src_key_padding_mask=torch.ones(1, 20, dtype=torch.bool))
            layer(torch.randn(1, 4, 8), src_key_padding_mask=torch.zeros(1, 4, dtype=torch.bool))

    assert "'#' is True" not in as_text(diagnosed(program), "")
