"""torch.ao.nn.quantizable.MultiheadAttention, of the installed release: its numbers, masks, deviations and remedies."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.ao.nn import quantizable

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.implementation import load
from tests.harness.execution.release import installed
from tests.harness.judgement.verdict import CONFORMS, DEVIATES, NOT_APPLICABLE
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.releases import since

from .quantizable import Quantizable
from .quantizable_ledger import ENTRIES, WRONG_MASKS

NAME = "tests.adopted.quantizable:Quantizable"


@pytest.fixture(autouse=True, scope="module")
def run():
    """A session that measures the module."""
    former = session.current
    yield session.start(adopted=load(NAME))
    session.current = former


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 6, "vdim": 10}, {"add_bias_kv": True}], ids=str)
@pytest.mark.parametrize("form", ["bool", "float"])
def test_agrees_with_the_stock_module_where_its_parameters_take_effect(options, form):
    """Compares both modules of torch with each other, without this suite."""
    torch.manual_seed(0)
    stock, adopted = (made(8, 2, **options).double().eval() for made in (nn.MultiheadAttention, Quantizable))
    adopted.load_state_dict(stock.state_dict())
    sizes = (4, 3, 8), (5, 3, options.get("kdim", 8)), (5, 3, options.get("vdim", 8))
    inputs = [torch.randn(size, dtype=torch.float64) for size in sizes]
    hidden = torch.arange(20).reshape(4, 5) % 3 == 1
    mask = hidden if form == "bool" else torch.randn(4, 5, dtype=torch.float64).masked_fill(hidden, -torch.inf)
    padding = torch.tensor([[False] * 5, [False] * 4 + [True], [False] * 3 + [True] * 2])
    for masks in ({"attn_mask": mask}, {"key_padding_mask": padding}):
        got, expected = (module(*inputs, **masks) for module in (adopted, stock))
        assert all(torch.allclose(*pair, rtol=0, atol=1e-14) for pair in zip(got, expected, strict=True))


_CALL = MultiHead(N=2, L=3, S=4, num_heads=2, head_dim=2, batch_first=False)
_FLOAT_PADDING = replace(_CALL, key_padding_mask=Mask("float", "trailing"))
# {a row of the table in docs/adopters.md: (call, status before 2.1, status since 2.1)}
MASKS = {
    "bool attn_mask": (replace(_CALL, attn_mask=Mask("bool", "diagonal")), CONFORMS, CONFORMS),
    "attn_mask per head": (replace(_CALL, attn_mask=Mask("bool", "diagonal", per_head=True)), CONFORMS, CONFORMS),
    "float attn_mask": (replace(_CALL, attn_mask=Mask("float", "diagonal", "bias")), CONFORMS, CONFORMS),
    "bool key_padding_mask": (replace(_CALL, key_padding_mask=Mask("bool", "trailing")), CONFORMS, CONFORMS),
    "float key_padding_mask": (_FLOAT_PADDING, DEVIATES, NOT_APPLICABLE),
    "batch_first=True": (replace(_CALL, batch_first=True), DEVIATES, DEVIATES),
    "no batch": (replace(_CALL, batched=False, N=1), NOT_APPLICABLE, NOT_APPLICABLE),
}


@pytest.mark.parametrize("call, before, now", MASKS.values(), ids=MASKS)
def test_takes_the_masks_of_the_table(call, before, now, run):
    status = judged(call)[1].status
    assert status == (now if since(run.release, "2.1") else before)


def test_takes_no_causal_hint(run):
    causal = replace(_CALL, L=4, attn_mask=Mask("bool", "causal"), is_causal=True)
    hinted = run.adopted.adapt(causal)
    assert hinted.is_causal == since(run.release, "2.0")
    assert judged(hinted)[1].status == (NOT_APPLICABLE if hinted.is_causal else CONFORMS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_shows_a_deviation_in_the_releases_of_its_entry(entry, run):
    finding = session.probe(entry, run.release, run.entries)
    assert finding.status == (session.PRESENT if entry.concerns(run.release) else _ABSENT.get(entry.id, session.ABSENT))


_ABSENT = {"quantizable-float-padding": session.NOT_APPLICABLE}  # since 2.1 the call is refused


@pytest.mark.parametrize("entry", WRONG_MASKS, ids=lambda entry: entry.id)
def test_shows_a_wrong_mask_in_the_releases_of_its_entry(entry, run):
    status = session.find_wrong_mask(entry).status
    assert (status == session.PRESENT) == entry.concerns(run.release)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_conforms_after_each_remedy(entry, run):
    assert bool(entry.remedies) != bool(entry.no_remedy)
    if entry.concerns(run.release):
        for remedy in entry.remedies:
            assert judged(run.release.adapt(remedy.change(entry.pinned)))[1].status == CONFORMS, remedy.text


def test_the_stock_parameters_that_it_inherits_have_no_effect():
    """The reason for the adapter."""
    module = quantizable.MultiheadAttention(4, 2).eval()
    x = torch.randn(3, 1, 4)
    before = module(x, x, x)[0]
    nn.init.zeros_(module.in_proj_weight)
    assert torch.equal(module(x, x, x)[0], before)
    assert installed().adopted is None
