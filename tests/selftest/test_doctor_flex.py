"""The doctor reads flex_attention: its functions are evaluated, and compared with the reference."""

import contextlib

import pytest
import torch

from tests.doctor.compare import AS_SPECIFIED, KNOWN, NOT_COMPARED, REFUSED, UNKNOWN
from tests.harness.execution.release import installed
from tests.harness.releases import since

from .diagnosed import diagnosed, mistakes

pytestmark = pytest.mark.skipif(not installed().has_flex_attention, reason="this release has no flex_attention")

B, H, L, D = 2, 2, 8, 16
Q, K, V = torch.randn(3, B, H, L, D).unbind()
LENGTHS = torch.tensor([5, 8])
BIAS = torch.randn(H, L, L)


def flex(query=Q, key=K, value=V, mask_mod=None, blocks=None, **options):
    """A program that calls flex_attention; mask_mod and blocks (of 2 x 2 positions) become its block_mask."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    if mask_mod is not None and blocks is None:
        options["block_mask"] = create_block_mask(mask_mod, B, H, L, L, device="cpu")
    if blocks is not None:
        numbers = torch.tensor(blocks, dtype=torch.int32).sum(-1)[None, None]
        order = torch.tensor(blocks).logical_not().int().argsort(dim=-1, stable=True)[None, None].int()
        options["block_mask"] = BlockMask.from_kv_blocks(numbers, order, BLOCK_SIZE=(2, 2), mask_mod=mask_mod)

    def program():
        from torch.nn.attention.flex_attention import flex_attention

        flex_attention(query, key, value, **options)

    return program


def causal(b, h, q, k):
    return q >= k


def tanh(score, b, h, q, k):
    return torch.where(q >= k, 20 * torch.tanh(score / 20) + BIAS[h, q, k], -float("inf"))


def the_finding(program):
    """The only finding of a program; errors that it raises are those of the call."""
    diagnosis = diagnosed(lambda: _without_errors(program))
    (finding,) = diagnosis.findings.values()
    return finding


def _without_errors(program):
    with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
        program()


@pytest.mark.parametrize(
    "options, masks",
    [
        ({}, "none"),
        ({"scale": 0.3}, "none"),
        ({"mask_mod": causal}, "block_mask: causal, bool, 1 x 1 x 8 x 8"),
        ({"mask_mod": lambda b, h, q, k: k < LENGTHS[b]}, "block_mask: padding (hides 19 %), bool, 2 x 1 x 8 x 8"),
        ({"mask_mod": lambda b, h, q, k: (k <= q) & (h > 0)}, "block_mask: causal and more, bool, 1 x 2 x 8 x 8"),
        ({"score_mod": tanh, "return_lse": True}, "score_mod: causal with a bias, float32, 2 x 2 x 8 x 8"),
        ({"score_mod": lambda s, b, h, q, k: s + BIAS[h, q].sum()}, None),
        ({"mask_mod": causal, "blocks": [[1, 1, 1, 1]] * 4}, "block_mask: causal, bool, 1 x 1 x 8 x 8"),
        ({"key": K[:, :1], "value": V[:, :1], "enable_gqa": True}, "none"),
    ],
)
def test_a_right_call_is_as_specified(options, masks):
    finding = the_finding(flex(**options))
    assert (finding.verdict, finding.reason) == (AS_SPECIFIED, "")
    assert masks in (None, *finding.masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_each_precision_is_compared_with_its_own_bound(dtype):
    inputs = [tensor.to(dtype) for tensor in (Q, K, V)]
    assert the_finding(flex(*inputs, mask_mod=causal)).verdict == AS_SPECIFIED


def test_a_wrong_result_is_found(monkeypatch):
    from torch.nn.attention import flex_attention as module

    right = module.flex_attention
    monkeypatch.setattr(module, "flex_attention", lambda query, key, value: right(query, key, value) * 1.001)
    finding = the_finding(flex())
    assert finding.verdict == UNKNOWN
    assert "output is off by" in finding.difference
    assert finding.script == ""


def test_blocks_that_disagree_with_mask_mod_are_a_known_deviation():
    finding = the_finding(flex(mask_mod=causal, blocks=[[1, 0, 0, 0]] * 4))
    assert (finding.verdict, finding.entries) == (KNOWN, ("flex-blocks-ignored",))
    assert finding.remedies


def test_nan_in_a_hidden_position_is_a_known_deviation():
    value = V.clone()
    value[:, :, -1] = torch.nan
    finding = the_finding(flex(value=value, mask_mod=lambda b, h, q, k: k < L - 1))
    assert (finding.verdict, finding.entries) == (KNOWN, ("flex-hidden-nan",))


@pytest.mark.parametrize(
    "id, mask_mod",
    [
        ("inverted-causal", lambda b, h, q, k: q <= k),
        ("inverted-causal", lambda b, h, q, k: q < k),
        ("inverted-padding", lambda b, h, q, k: k >= LENGTHS[b]),
        ("hides-everything", lambda b, h, q, k: (q >= k) & (q != 3)),
        (None, causal),
        (None, lambda b, h, q, k: k < LENGTHS[b]),
        (None, lambda b, h, q, k: (q < LENGTHS[b]) & (k < LENGTHS[b])),  # padded queries see nothing
    ],
)
def test_a_mistake_in_mask_mod_is_told(id, mask_mod):
    assert mistakes(flex(mask_mod=mask_mod)) == ({id} if id else set())


def test_a_score_mod_that_hides_the_past_is_told():
    assert mistakes(flex(score_mod=lambda s, b, h, q, k: torch.where(q <= k, s, -float("inf")))) == {"inverted-causal"}


def test_the_words_are_those_of_flex_attention():
    ((_, _, mistake),) = diagnosed(flex(mask_mod=lambda b, h, q, k: q <= k)).mistakes
    assert mistake.says.endswith("it looks inverted. mask_mod keeps where it returns True")
    assert mistake.remedy == "Invert the condition in mask_mod, if no query may see what follows it."


@pytest.mark.parametrize(
    "options, verdict, reason",
    [
        ({"key": K[:, :1], "value": V[:, :1]}, REFUSED, "do not fit each other"),
        ({"query": Q[0]}, REFUSED, "have not four dimensions"),
        ({"key": K[..., :4].repeat(1, 1, 1, 4), "query": Q, "value": V.double()}, NOT_COMPARED, "dtype"),
    ],
)
def test_a_call_that_does_not_fit_has_its_reason(options, verdict, reason):
    finding = the_finding(flex(**options))
    assert (finding.verdict, reason in finding.reason) == (verdict, True), finding.reason


@pytest.mark.skipif(not since(installed(), "2.11"), reason="gradients are computed before 2.11")
def test_gradients_are_refused_as_documented():
    assert the_finding(flex(query=Q.clone().requires_grad_())).verdict == REFUSED


def test_a_call_within_a_module_has_its_place():
    class Block(torch.nn.Module):
        def forward(self):
            flex(score_mod=lambda s, b, h, q, k: s - self.slopes[h] * (q - k).abs())()

    block = Block().eval()
    block.slopes = torch.nn.Parameter(torch.ones(H))
    with torch.no_grad():
        finding = the_finding(block)
    assert (finding.verdict, str(finding.place).partition(" ")[0]) == (AS_SPECIFIED, "Block")


def test_a_function_that_cannot_be_evaluated_is_the_reason(monkeypatch):
    monkeypatch.setattr("tests.doctor.flex._ReadingByTensors", {}.popitem)  # raises KeyError
    finding = the_finding(flex(mask_mod=causal))
    assert finding.verdict == NOT_COMPARED
    assert finding.reason.startswith("its mask_mod cannot be evaluated at all positions: KeyError")


def test_a_large_call_is_compared_in_its_first_samples(monkeypatch):
    monkeypatch.setattr("tests.doctor.compare.MOST_SCORES", H * L * L)
    assert the_finding(flex(mask_mod=lambda b, h, q, k: k < LENGTHS[b])).verdict == AS_SPECIFIED
    monkeypatch.setattr("tests.doctor.compare.MOST_SCORES", 10)
    assert "128 scores in one sample" in the_finding(flex()).reason


@pytest.mark.parametrize("as_decorator", [False, True])
def test_compiled_calls_are_counted_with_their_reason(as_decorator):
    def program():
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(backend="eager")(flex_attention) if as_decorator else None
        compiled = compiled or torch.compile(flex_attention, backend="eager")
        compiled(Q, K, V)
        compiled(Q, K, V)

    diagnosis = diagnosed(program)
    assert diagnosis.passed == {"flex_attention compiled by torch.compile, whose fused kernel is not compared": 2}
    assert not diagnosis.findings


def test_an_eager_call_is_no_use_of_torch_compile():
    assert not diagnosed(flex()).passed
