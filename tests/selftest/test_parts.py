"""Modes that adapt, wrap, hook or override parts of a module: what they make, predict, and read in a text."""

from dataclasses import replace

import pytest
import torch
from packaging.version import Version
from torch import nn

from tests.harness.cases.case import MultiHead, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.command_line import BadInput
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.paths import path_of_each_block
from tests.harness.deviations.replaced_parts import ENTRIES
from tests.harness.execution.release import Release, installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.verdict import DEVIATES, FAILS, judge
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.parts import OF_PARTS
from tests.tools.ask.text import read

LAYER = Transformer(num_heads=2, head_dim=2)
IDS = [mode.id for mode in OF_PARTS]


def made(id, module):
    """The module that the mode makes of this module, in training mode."""
    return BY_ID[id].prepare(module, dict(module.named_parameters()))[0]


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("kind", ["TransformerEncoderLayer", "TransformerDecoderLayer"])
def test_parts_change_what_they_compute(id, kind):
    """If torch calls all parts, the result is as before; the parameters of the parts are others."""
    given = [torch.ones(1, 2, 4, dtype=torch.float64).tril()] * (2 if "Decoder" in kind else 1)
    layer = getattr(nn, kind)(4, 2, 4, dropout=0.0, batch_first=True).double()
    changed = made(id, layer)
    assert changed is not layer
    with torch.no_grad():  # the projection of an attention is never called
        expected, found = layer(*given), changed(*given)
    assert torch.equal(found, expected) == ("projection" not in id)
    pairs = [(changed.linear2, layer.linear2), (changed.self_attn.out_proj, layer.self_attn.out_proj)]
    assert not all(torch.equal(getattr(part, "weight", its.bias), its.weight) for part, its in pairs)


def test_parameters_are_found_under_their_new_names():
    assert BY_ID["adapted"].where("layers.0.norm1.weight") == "layers.0.norm1.base.weight"
    assert BY_ID["adapted"].where("self_attn.out_proj.weight") == "self_attn.out_proj.weight"
    assert BY_ID["wrapped"].where("out_proj.bias") == "out_proj.0.bias"
    assert BY_ID["wrapped"].where("self_attn.out_proj.bias") == "self_attn.out_proj.bias"
    assert BY_ID["hooked"].where("self_attn.in_proj_weight") == "self_attn.in_proj_weight"
    assert BY_ID["pruned"].where("norm.weight") == "norm.weight_orig"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_a_call_fails_if_its_entry_is_left_out(entry):
    verdict = judge(entry.pinned, observe(entry.pinned), ())
    assert (verdict.status == FAILS) == entry.concerns(installed())


@pytest.mark.parametrize(("id", "closed"), [("hooked", True), ("hooked_projection", True), ("overridden", False)])
def test_hooks_close_the_fast_path_since_2_5(id, closed):
    case = replace(LAYER, mode=id)
    before, after = (
        path_of_each_block(case, Release(Version(version), "cpu"))["src"] for version in ("2.4.1", "2.5.0")
    )
    assert before == "native_layer"
    assert (after != "native_layer") == closed


ATTENTION = "attention = nn.MultiheadAttention(4, 2)\n{}\nattention(x, x, x)"
OF_LAYER = "layer = nn.TransformerEncoderLayer(4, 2)\n{}\nlayer(x)"
LORA = "class LoRA(nn.Module):\n    def __init__(self, base):\n        self.base = base\n"
WITH_WEIGHT = f"{LORA}    @property\n    def weight(self):\n        return self.base.weight\n"


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (WITH_WEIGHT + ATTENTION.format("attention.out_proj = LoRA(attention.out_proj)"), "adapted_projection"),
        (LORA + ATTENTION.format("attention.out_proj = LoRA(attention.out_proj)"), "wrapped"),
        (ATTENTION.format("attention.out_proj = lora.Linear(4, 4, r=2)"), "adapted_projection"),
        (ATTENTION.format("attention.out_proj = nn.Linear(4, 4)"), "eager"),
        (ATTENTION.format("attention.out_proj.register_forward_hook(hook)"), "hooked_projection"),
        (ATTENTION.format("attention.register_forward_hook(hook)"), "eager"),
        (WITH_WEIGHT + OF_LAYER.format("layer.linear1 = LoRA(layer.linear1)"), "adapted"),
        (WITH_WEIGHT + OF_LAYER.format("layer.self_attn.out_proj = LoRA(layer.linear1)"), "adapted_projection"),
        (OF_LAYER.format("layer.linear2 = nn.Sequential(layer.linear2, nn.Tanh())"), "wrapped"),
        (OF_LAYER.format("layer.self_attn.register_forward_hook(hook)"), "hooked"),
        ("class Own(nn.TransformerEncoderLayer):\n    def _sa_block(self, *given): ...\nOwn(4, 2)(x)", "overridden"),
        ("class Own(nn.TransformerEncoderLayer):\n    pass\nOwn(4, 2)(x)", "eager"),
    ],
)
def test_ask_reads_what_a_text_makes_of_parts(text, mode):
    assert read(text).mode == mode


@pytest.mark.parametrize("part", ["norm1 = LoRA(layer.norm1)", "self_attn = LoRA(layer.self_attn)"])
def test_ask_says_what_is_not_modelled(part):
    with pytest.raises(BadInput, match="is not modelled"):
        read(LORA + OF_LAYER.format(f"layer.{part}"))


@pytest.mark.parametrize("sizes", [{"S": 0}, {"N": 0}, {"S": 0, "mask_check": False}])
def test_an_empty_stack_raises_what_comes_first(sizes):
    case = replace(LAYER, module="TransformerEncoder", mode="wrapped", src_key_padding_mask=Mask(), **sizes)
    observation, release = observe(case), installed()
    entries = [entry for entry in ledger.ENTRIES if entry.concerns(release)]
    assert (
        judge(case, observation, ledger.applying(Call(case, release, observation.served), entries)).status == DEVIATES
    )


def test_an_attention_of_its_own_does_what_the_reference_does_behind_a_hook():
    """A hook on an nn.MultiheadAttention is called on every path."""
    for case in (MultiHead(mode="hooked", need_weights=False), MultiHead(mode="hooked", num_heads=2, attention="self")):
        assert judge(case, observe(case), ()).status != FAILS
