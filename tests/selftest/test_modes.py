"""Each mode does what its name says, is judged like an eager call, and has a script that can be typed."""

import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace

import pytest
import torch
from packaging.version import Version
from torch import nn

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.contents.packing import BESIDE, JAGGED, NESTED_STRIDED, lengths
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.refusals import refusal
from tests.harness.execution import dangers
from tests.harness.execution.release import Release, installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.report import call_text
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from tests.harness.measurement.checking import judged
from tests.harness.modes.mode import FUNCTIONAL, MODULES, SDPA
from tests.harness.modes.modes import BY_ID, EAGER, MODES
from tests.harness.modes.reading import COMPILED_READING
from tests.harness.modes.vmap import VMAP_OF_PARAMETERS
from tests.harness.modes.written import FORMS
from tests.harness.releases import since
from tests.harness.strategies.shared import shared
from tests.tools.case_script import ERRORS, GRADIENTS, RESULTS, script

from .running import kinds_of, mismatches, run_script

LAYER = Transformer(S=3, num_heads=2, head_dim=2, autograd="grad", src_mask=Mask("float", "causal", "finite"))
CALLS = [
    LAYER,
    MultiHead(S=2, autograd="grad", key_padding_mask=Mask()),
    MultiHead(S=2, autograd="grad", key_padding_mask=Mask(), functional=True),
    ScaledDotProduct(S=2, autograd="grad", attn_mask=Mask()),
]
OTHERS = [mode for mode in MODES if mode is not EAGER and mode.is_in()]
PACKING = [mode for mode in OTHERS if mode.family == NESTED_STRIDED]  # modules take nested tensors in eval mode only
RAGGED = [
    ScaledDotProduct(
        autograd="grad", batch=(2, 2), L=3, S=3, D=2, attn_mask=Mask("bool", "right"), mask_batch=(2, 1), broadcast="L"
    ),
    MultiHead(N=2, L=3, S=3, num_heads=2, attention="self", key_padding_mask=Mask("bool", "right")),
    Transformer(
        module="TransformerEncoder", N=2, S=3, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "right")
    ),
]


def prepared(id):
    """(callable, its parameters, the original module) of an encoder layer prepared in the mode of this id"""
    module = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
    called, parameters = BY_ID[id].prepare(module, dict(module.named_parameters()))
    return called, parameters, module


# ids of modes that call functions, or whose parameters get no gradient
WITHOUT_PARAMETERS = ("jagged_batch", "quantized", COMPILED_READING, VMAP_OF_PARAMETERS, *FORMS)


@pytest.mark.parametrize(
    "mode",
    [mode for mode in OTHERS if not (mode in PACKING or mode.is_shared or mode.id in WITHOUT_PARAMETERS)],
    ids=lambda mode: mode.id,
)
def test_the_parameters_are_those_that_are_used(mode):
    called, parameters, module = prepared(mode.id)
    assert list(parameters) == [name for name, _ in module.named_parameters()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{mode.warns}")
        called(torch.ones(1, 2, 4, requires_grad=True), src_mask=torch.zeros(2, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in parameters.values())


@pytest.mark.parametrize("id", ["deepcopy", "saved", "state_dict", "parametrized", "pruned"])
def test_a_copy_shares_nothing(id):
    _, parameters, module = prepared(id)
    assert not {p.data_ptr() for p in parameters.values()} & {p.data_ptr() for p in module.parameters()}


def test_modes_do_what_they_say():
    assert prepared("pruned")[0].linear1._forward_pre_hooks
    assert prepared("parametrized")[0].self_attn.parametrizations.in_proj_weight[0]
    assert prepared("functional_call")[0].__globals__["hollow"].linear1.weight.is_meta
    assert prepared("checkpoint")[0].func is torch.utils.checkpoint.checkpoint
    assert type(prepared("own_classes")[0].self_attn) not in (nn.MultiheadAttention, nn.Module)


def test_what_is_built_lies_in_a_place_of_its_own():
    """The cache folder of TorchInductor is set before the first call in a mode, which imports TorchDynamo."""
    imports = "import os; import torch; from tests.harness.modes.modes import BY_ID"
    asks = f"{imports}; BY_ID['deepcopy'].prepare(torch.nn.ReLU(), {{}})"
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    command = [sys.executable, "-c", f"{asks}; print(os.environ['TORCHINDUCTOR_CACHE_DIR'])"]
    place = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert os.path.dirname(place) == tempfile.gettempdir()
    # torchinductor_... is torch's default folder, shared by all processes of a user.
    assert not os.path.basename(place).startswith("torchinductor")
    assert not os.path.exists(place)


def test_stacks_are_of_classes_of_which_torch_knows_nothing():
    layer = nn.TransformerEncoderLayer(4, 2, 4, dropout=0.0, batch_first=True)
    own, parameters = BY_ID["own_classes"].prepare(nn.TransformerEncoder(layer, 1), ["layers.0.linear1.weight"])
    assert not isinstance(own, nn.TransformerEncoder)
    assert isinstance(own.layers[0], nn.TransformerEncoderLayer)
    assert parameters["layers.0.linear1.weight"] is own.layers[0].linear1.weight
    assert own(torch.ones(1, 2, 4)).shape == (1, 2, 4)


def asked(mode, case):
    """The case in this mode, changed as the mode requires; skips the test if the mode does not take the module."""
    if (case.module if case.module in (FUNCTIONAL, SDPA) else MODULES) not in mode.calls:
        pytest.skip("the mode is for other modules")
    if mode.lowers or mode.quantizes:
        case = replace(case, dtype="float32")
    if mode.lowers and not since(installed(), "2.2"):  # before 2.2, masks raise (see the ledger)
        case = replace(case, **dict.fromkeys(masks_of(case)))
    if not mode.is_differentiated(case):
        case = replace(case, autograd="no_grad", **{"training": True} if case.has_training_mode else {})
    if mode.is_shared:
        case = shared(case, mode)
    if mode.maps("masks"):  # a learned mask raises under vmap (see the ledger)
        case = replace(case, autograd="parameters")
    return replace(case, mode=mode.id)


def is_refused(case):
    """True if torch has to refuse the case; asserts that it refuses as predicted, so that a skip hides no failure."""
    observation, verdict = judged(case)
    refused = refusal(Call(case, installed(), observation.served)) is not None
    assert not refused or verdict.status == CONFORMS
    return refused


@pytest.mark.parametrize(
    "mode",
    [mode for mode in OTHERS if MODULES in mode.calls and not (mode.vectors or mode.is_shared or mode in PACKING)],
    ids=lambda mode: mode.id,
)
def test_a_mode_is_judged_like_any_other_call(mode, monkeypatch):
    case = replace(asked(mode, LAYER), training=True)  # the native path calls no method that the test could replace
    if is_refused(case):
        pytest.skip("this release does not serve it")
    assert judged(case)[1].status in (CONFORMS, DEVIATES)
    monkeypatch.setattr(nn.TransformerEncoderLayer, "_ff_block", lambda self, x: self.linear2(self.linear1(x)))
    assert judged(replace(case, activation="gelu"))[1].status == FAILS


@pytest.mark.parametrize("mode", OTHERS, ids=lambda mode: mode.id)
@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.module)
def test_a_mode_can_be_typed(case, mode):
    if not installed().offers(case):
        pytest.skip("this release has no such function")
    case = asked(mode, case)
    if is_refused(case):
        pytest.skip("this release does not serve it")
    assert_can_be_typed(case, mode)


def assert_can_be_typed(case, mode):
    """Assert that the case's script agrees with the harness, and that script and report show the code of the mode."""
    text = script(case, about={RESULTS, GRADIENTS})
    code, output, _ = run_script(text)
    assert code == bool(kinds_of(mismatches(case)) & {RESULTS, GRADIENTS, ERRORS}), output
    for line in (*mode.made.splitlines(), mode.called if mode.called != "module" else "", mode.around(), mode.begins):
        assert line in text
        assert line in call_text(case)


@pytest.mark.parametrize(
    "mode", [mode for mode in PACKING if mode.id not in (BESIDE, "jagged_narrow")], ids=lambda mode: mode.id
)
@pytest.mark.parametrize("case", RAGGED, ids=lambda case: case.module)
def test_nested_tensors_are_judged_like_any_other_call(case, mode, monkeypatch):
    if not installed().offers(case):
        pytest.skip("this release has no such function")
    case = replace(case, mode=mode.id)
    if mode.id in JAGGED[1:] and not case.has_parameters:  # few heads, and gradients, show deviations
        case = replace(case, autograd="no_grad", batch=(2, case.L))
    if is_refused(case):
        return
    assert_can_be_typed(case, mode)
    observation, verdict = judged(case)
    assert verdict.status == CONFORMS
    ends, output = lengths(case), observation.outputs["output"]
    assert min(ends) < case.S
    assert all(not sample[..., end:, :].any() for sample, end in zip(output, ends, strict=True))
    made = mode.made.replace("(~padding).sum(-1)", "((~padding).sum(-1) - 1).clamp(1)")  # drops the last keys
    assert made != mode.made
    monkeypatch.setitem(BY_ID, mode.id, replace(mode, made=made))
    assert judged(case)[1].status == FAILS


@pytest.mark.parametrize("case", RAGGED[1:], ids=lambda case: case.module)
def test_padding_is_given_beside_nested_tensors(case, monkeypatch):
    mode = BY_ID[BESIDE]
    case = replace(case, mode=mode.id)
    assert is_refused(case) or judged(case)[1].deviations == ("nested-beside-padding",)
    monkeypatch.setitem(BY_ID, mode.id, replace(mode, made=mode.made.replace("options.get", "options.pop")))
    assert judged(case)[1].status == FAILS


def test_samples_may_differ_in_how_many_sequences_they_have(monkeypatch):
    mode = BY_ID["jagged_batch"]
    if not mode.is_in():
        pytest.skip("this release does not serve it")
    case = ScaledDotProduct(mode=mode.id, batch=(3, 2), L=3, S=3, D=2, autograd="grad", is_causal=True)
    assert judged(case)[1].status == CONFORMS
    assert_can_be_typed(case, mode)
    monkeypatch.setitem(BY_ID, mode.id, replace(mode, made=mode.made.replace(", **options", "")))
    assert judged(case)[1].status == FAILS


@pytest.mark.parametrize("id", ["causal_upper_left", "causal_lower_right"])
@pytest.mark.parametrize(("L", "S"), [(3, 3), (2, 3), (3, 2)])
def test_a_causal_mask_is_given_as_a_bias(id, L, S, monkeypatch):
    if not BY_ID[id].is_in():
        pytest.skip("this release has no such biases")
    from torch.nn.attention.bias import CausalBias  # not in every release

    is_causal = id == "causal_upper_left" or L == S
    case = ScaledDotProduct(
        L=L, S=S, D=2, is_causal=is_causal, attn_mask=None if is_causal else Mask("bool", "lower_right"), mode=id
    )
    assert judged(case)[1].status in (CONFORMS, DEVIATES)
    assert_can_be_typed(case, BY_ID[id])

    def forgetting(query, key, value, attn_mask, **options):
        return nn.functional.scaled_dot_product_attention(query, key, value, **options)

    monkeypatch.setattr(CausalBias, "_dispatch", staticmethod(forgetting))
    assert judged(case)[1].status == FAILS


@pytest.mark.parametrize("id", ["func_vjp", "func_jvp_math", "checkpoint", "vmap", "traced"])
def test_a_mode_can_be_typed_where_there_are_no_weights(id):
    if not BY_ID[id].is_in():
        pytest.skip("this release does not have the mode")
    case = asked(BY_ID[id], MultiHead(N=3, L=2, S=2, autograd="grad", need_weights=False))
    code, output, _ = run_script(script(case, about={RESULTS, GRADIENTS}))
    assert code == 0, output


STACK = Transformer(
    "float32", module="TransformerEncoder", S=2, num_heads=2, head_dim=2, src_mask=Mask("bool", "causal")
)


@pytest.mark.parametrize("id", ["vmap", "exported"])
def test_what_depends_on_the_values_of_a_mask_is_refused(id):
    if not BY_ID[id].is_in():
        pytest.skip("this release does not have the mode")
    case = replace(STACK, mode=id)
    assert refusal(Call(case, installed())).id == "data-dependent"
    assert judged(case)[1].status == CONFORMS
    assert refusal(Call(replace(case, src_is_causal=True), installed())) is None
    assert judged(replace(case, src_is_causal=True))[1].status == CONFORMS


PADDED = Transformer(
    module="TransformerEncoder", N=2, S=3, num_heads=2, head_dim=2, src_key_padding_mask=Mask("bool", "left")
)


@pytest.mark.parametrize(
    ("version", "case", "instead"),
    [
        ("2.0.1", MultiHead(S=2, need_weights=False, key_padding_mask=Mask()), "autocast-mask-raises"),
        ("2.1.2", MultiHead(S=2, need_weights=False, add_bias_kv=True), "autocast-mask-raises"),
        ("2.1.2", MultiHead(S=2, key_padding_mask=Mask()), None),
        ("2.1.2", MultiHead(num_heads=2, attention="self"), "autocast-native-attention-raises"),
        ("2.1.2", MultiHead(N=0, num_heads=2, attention="self"), "autocast-native-attention-empty"),
        ("2.1.2", replace(LAYER, training=True), "autocast-mask-raises"),
        ("2.1.2", replace(LAYER, autograd="no_grad"), "autocast-native-layer-raises"),
        ("2.2.0", MultiHead(S=2, need_weights=False, key_padding_mask=Mask()), None),
        ("2.2.0", MultiHead(num_heads=2, attention="self"), None),
    ],
)
def test_what_raises_under_autocast_first(version, case, instead):
    """The expectations were measured in these releases."""
    call = Call(replace(case, dtype="float32", mode="autocast"), Release(Version(version), "cpu"))
    entries = [entry for entry in ledger.ENTRIES if entry.concerns(call.release)]
    found = [entry.id for entry in ledger.applying(call, entries) if entry.id.startswith("autocast")]
    assert found == ([instead] if instead else [])


@pytest.mark.skipif(not BY_ID["compiled_fullgraph"].is_in(), reason="this release does not have the mode")
def test_what_breaks_a_graph_is_refused_where_it_has_to_be_whole():
    case = replace(STACK, mode="compiled_fullgraph", training=True)
    assert refusal(Call(case, installed())).id == "graph-break"
    assert judged(case)[1].status == CONFORMS
    for other in (replace(case, src_is_causal=True), replace(case, module="TransformerEncoderLayer")):
        assert refusal(Call(other, installed())) is None
        assert judged(other)[1].status == CONFORMS
    mixed = MultiHead(mode=case.mode, S=2, attn_mask=Mask(), key_padding_mask=Mask("float"))
    assert (refusal(Call(mixed, installed())) is not None) == since(installed(), "2.5")
    assert judged(mixed)[1].status == CONFORMS


@pytest.mark.parametrize(
    ("version", "case", "instead"),
    [
        ("2.4.1", PADDED, "compiled-nested-raises"),
        ("2.5.0", PADDED, "compiled-whole-padding-raises"),
        ("2.9.1", PADDED, "compiled-whole-padding-raises"),
        ("2.9.1", replace(PADDED, autograd="grad", src_mask=Mask()), "compiled-whole-padding-raises"),
        ("2.9.1", replace(PADDED, src_mask=Mask("float")), "graph-break"),
        ("2.9.1", replace(PADDED, mask_check=False), "graph-break"),
        ("2.9.1", replace(PADDED, training=True), None),
        ("2.10.0", PADDED, None),
        ("2.10.0", replace(PADDED, src_mask=Mask()), "graph-break"),
        ("2.11.0", replace(PADDED, src_mask=Mask()), None),
    ],
)
def test_padding_breaks_a_graph(version, case, instead):
    """The expectations were measured in these releases."""
    call = Call(replace(case, mode="compiled_fullgraph"), Release(Version(version), "cpu"))
    refused, entries = refusal(call), [entry for entry in ledger.ENTRIES if entry.concerns(call.release)]
    found = [refused.id] if refused else [entry.id for entry in ledger.applying(call, entries)]
    assert [id for id in found if id == "graph-break" or id.startswith("compiled")] == ([instead] if instead else [])


TRACED = Transformer("float32", module="TransformerEncoder", S=3, num_heads=2, head_dim=2, training=True)


@pytest.mark.parametrize("mask", [Mask("bool", "none"), Mask("float", "diagonal", "finite"), Mask("bool", "causal")])
def test_what_a_trace_is_made_with_decides_what_a_mask_is_taken_for(mask):
    case = replace(TRACED, src_mask=mask)
    for id in ("traced", "traced_hiding"):
        assert judged(replace(case, mode=id))[1].status == CONFORMS
    is_taken = mask.pattern != "causal" and since(installed(), "2.0.1")
    for changes in ({}, {"src_is_causal": False}, {"src_key_padding_mask": Mask(mask.form, "right")}):
        if changes and not installed().has_causal_hints:
            continue
        verdict = judged(replace(case, mode="traced_causal", **changes))[1]
        assert verdict.deviations == (("traced-causal-mask",) if is_taken and not changes else ())
        assert verdict.status == (DEVIATES if verdict.deviations else CONFORMS)


def test_a_trace_takes_a_mask_for_causal_only_in_layers_off_the_fast_path():
    """The last layer of the decoder is trained, which keeps it alone off its fast path."""
    case = Transformer(mode="traced_causal", module="TransformerDecoder", S=2, T=2, num_heads=2, head_dim=2)
    case = replace(case, num_layers=2, autograd="last_layer", tgt_mask=Mask("bool", "one"))
    if not installed().has_decoder_hints:
        pytest.skip("the decoder detects no causal mask")
    verdict = judged(case)[1]
    assert (verdict.status, verdict.deviations) == (DEVIATES, ("traced-causal-mask",))


def test_a_trace_packs_as_the_padding_does_that_it_is_made_with():
    verdicts = {id: judged(replace(PADDED, mode=id))[1] for id in ("traced", "traced_hiding", "traced_causal")}
    assert all(verdict.status == DEVIATES for id, verdict in verdicts.items() if id != "traced_hiding")
    assert {id for id, verdict in verdicts.items() if "nested-unaligned" in verdict.deviations} == {
        "traced",
        "traced_causal",
    }
    assert verdicts["traced_hiding"].status == CONFORMS


_FLOAT32 = {"attn_mask": Mask("float", "random", "bias", dtype="float32")}
_MASKED = MultiHead(mode="vmap_of_masks", L=3, S=33, head_dim=2, training=True, need_weights=False, **_FLOAT32)


@pytest.mark.parametrize("padding", [None, Mask("float", "right", dtype="float32")])
@pytest.mark.parametrize("changes", [{}, {"add_zero_attn": True}, {"N": 2, "num_heads": 2}, {"num_heads": 2}], ids=str)
def test_masks_that_vmap_maps_are_strided_which_decides_the_kernel(padding, changes):
    """Only the fused kernel skips half of a vector of a float32 mask."""
    case = replace(_MASKED, key_padding_mask=padding, **changes)
    if not installed().offers(case) or not BY_ID[case.mode].is_in():
        pytest.skip("the release does not have the mode")
    assert judged(case)[1].status != FAILS


def test_a_backend_refuses_what_it_does_not_serve():
    case = ScaledDotProduct(S=2, Dv=2, mode="sdpa_flash")
    if not installed().offers(case) or not since(installed(), "2.1"):
        pytest.skip("the backend is not chosen in this release")
    assert refusal(Call(replace(case, D=2), installed())) is None
    observation, verdict = judged(case)
    assert observation.error[0] == "RuntimeError"
    assert verdict.status == CONFORMS
    met = refusal(Call(case, installed()))
    assert [mismatch.what for mismatch in met.mismatches(replace(observation, error=None))] == ["error"]
    assert [mismatch.what for mismatch in met.mismatches(replace(observation, warnings=()))] == ["warning"]


@pytest.mark.parametrize(
    "masks, is_refused",
    [({"memory_key_padding_mask": Mask()}, True), ({"tgt_key_padding_mask": Mask()}, False), ({}, True)],
)
def test_of_what_raises_in_a_decoder_layer_without_samples_the_first_is_met(masks, is_refused):
    """In 2.1, vmap lacks a rule for an attention without a mask, and a mask for no sample raises, too."""
    case = Transformer(module="TransformerDecoderLayer", mode="vmap", N=0, head_dim=4, **masks)
    met = refusal(Call(case, Release(Version("2.1.2"), "cpu")))
    assert (met and met.id) == ("no-batching-rule" if is_refused else None)


FORWARDS = [
    (MultiHead(S=2), False),
    (MultiHead(S=2, need_weights=False), True),
    (MultiHead(S=2, need_weights=False, mode="func_jvp_math"), False),
    (MultiHead(num_heads=2, attention="self", mode="func_jvp_math"), True),
    (MultiHead(num_heads=2, attention="self", mode="func_jvp_math", fast_path=False), False),
    (LAYER, True),
    (replace(LAYER, mode="func_jvp_math"), True),
    (replace(LAYER, mode="func_jvp_math", training=True), False),
]


@pytest.mark.parametrize(("case", "meets_one"), FORWARDS)
def test_fused_and_native_kernels_refuse_tangents(case, meets_one):
    case = replace(case, autograd="inputs", mode=case.mode if case.mode != "eager" else "func_jvp")
    if not installed().offers(case) or not since(installed(), "2.1"):
        pytest.skip("this release does not have the mode, or no fused kernel")
    assert is_refused(case) == meets_one
    observation, verdict = judged(case)
    assert verdict.status == CONFORMS
    assert bool(observation.tangents) != meets_one


def test_graphs_break_for_nobody_but_torch():
    """TorchDynamo recognises the native operators, although the harness has replaced them in this process."""
    case = replace(LAYER, autograd="no_grad", src_mask=None, mode="exported_strict")
    if not BY_ID[case.mode].is_in():
        pytest.skip("this release does not have the mode")
    observation, verdict = judged(case)
    assert observation.error is None
    assert verdict.status == CONFORMS


def test_a_tangent_that_cancels_may_round():
    """A number added to all scores of a row changes nothing; in the reference the tangent is exactly 0."""
    mask = {"attn_mask": Mask("float"), "mask_batch": (1, 3), "broadcast": "S"}
    case = ScaledDotProduct(batch=(1, 3), L=2, S=2, autograd="mask", mode="func_jvp_math", **mask)
    if not BY_ID[case.mode].is_in():
        pytest.skip("this release does not have the mode")
    observation, verdict = judged(case)
    assert verdict.status == CONFORMS
    moved = replace(observation, tangents={"output": observation.tangents["output"] + 1e-12})
    assert judge(case, moved).status == FAILS


def test_a_wrong_tangent_fails():
    case = MultiHead(S=2, autograd="grad", mode="func_jvp", key_padding_mask=Mask("float", "one", "finite"))
    if not BY_ID["func_jvp"].is_in():
        pytest.skip("this release does not have the mode")
    observation, verdict = judged(case)
    assert verdict.status == CONFORMS
    for name, tangent in observation.tangents.items():
        wrong = replace(observation, tangents={**observation.tangents, name: tangent * (1 + 1e-6)})
        assert [mismatch.what for mismatch in judge(case, wrong).mismatches] == [f"tangent of {name}"]
    assert judge(case, replace(observation, tangents={})).status == FAILS


@pytest.mark.skipif(not installed().has_scaled_dot_product_attention, reason="the release has no SDPA")
def test_earlier_calls_of_a_mode_that_are_known_to_crash_are_withheld(monkeypatch):
    """They may take another path than the call that is judged: without its mask, say."""
    withheld = []

    def withhold(path, query, key, value, attn_mask=None, *_, **__):
        if attn_mask is None:
            withheld.append(path)
            raise dangers.Withheld("without a mask")

    monkeypatch.setattr(dangers, "withhold", withhold)
    case = ScaledDotProduct(mode="reused", batch=(1, 1), S=2, attn_mask=Mask("float", "causal"))
    assert observe(case).error is None
    assert withheld


@pytest.mark.skipif(not installed().has_scaled_dot_product_attention, reason="the release has no SDPA")
@pytest.mark.parametrize("batch", [(2,), (2, 2)])
def test_math_serves_a_mask_that_gets_a_gradient(batch):
    """torch 2.14 and later report another choice for three dimensions."""
    case = ScaledDotProduct(batch=batch, S=2, attn_mask=Mask("float"), autograd="grad")
    assert observe(case).served == ("sdpa_math",)
