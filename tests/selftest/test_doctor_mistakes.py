"""Each mistake of the caller is found, and none is told of a right call."""

import copy
import inspect
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.doctor import mistakes as rules
from tests.doctor.compare import NOT_COMPARED
from tests.doctor.mistakes import KINDS
from tests.doctor.report import as_text
from tests.harness.execution.release import installed

from .diagnosed import diagnosed, mistakes, verdicts

needs_sdpa = pytest.mark.skipif(
    not installed().has_scaled_dot_product_attention, reason="this release has no scaled_dot_product_attention"
)
needs_hints = pytest.mark.skipif(not installed().has_causal_hints, reason="this release has no hints")

N, L, HEADS, E = 4, 4, 2, 8
X = torch.randn(N, L, E)
CAUSAL = torch.ones(L, L).triu(1).bool()
LENGTHS = torch.tensor([4, 3, 2, 1])
PADDING = torch.arange(L) >= LENGTHS[:, None]  # True at padding behind each sample
LOW = torch.finfo(torch.float32).min


def self_attention(x=X, **masks):
    """A program that calls self-attention with these masks."""
    attention = nn.MultiheadAttention(E, HEADS, batch_first=True)
    return lambda: attention(x, x, x, need_weights=False, **masks)


def sdpa(mask=None, S=L, **options):
    """A program that calls scaled_dot_product_attention with this mask."""
    query, key = torch.randn(N, HEADS, L, 4), torch.randn(N, HEADS, S, 4)
    return lambda: F.scaled_dot_product_attention(query, key, key, mask, **options)


def of_low(mask):
    """The float mask with finfo.min where the bool mask is True."""
    return torch.zeros(mask.shape).masked_fill(mask, LOW)


@pytest.mark.parametrize(
    "id, program",
    [
        ("inverted-causal", self_attention(attn_mask=~CAUSAL)),
        ("inverted-causal", self_attention(attn_mask=torch.ones(L, L).tril(-1).bool())),
        ("inverted-padding", self_attention(key_padding_mask=~PADDING)),
        ("hides-everything", self_attention(key_padding_mask=torch.arange(L) >= torch.tensor([4, 0, 2, 1])[:, None])),
        ("hides-everything", self_attention(attn_mask=torch.arange(L).eq(2)[:, None].expand(L, L))),
        ("two-types", self_attention(attn_mask=of_low(CAUSAL), key_padding_mask=PADDING)),
        ("time-first-mask", self_attention(key_padding_mask=torch.arange(L)[:, None] >= torch.tensor([2, 4, 1, 3]))),
        pytest.param(
            "minimum-twice",
            self_attention(attn_mask=of_low(CAUSAL), key_padding_mask=of_low(PADDING)),
            marks=needs_hints,  # 1.13 takes no float padding mask
        ),
        ("minimum-twice", self_attention(attn_mask=of_low(CAUSAL) + of_low(PADDING[1])[None])),
        ("mask-of-nan", self_attention(attn_mask=CAUSAL * -torch.inf)),  # 0 * -inf where nothing is hidden
        ("mask-of-nan", self_attention(attn_mask=CAUSAL * torch.finfo(torch.float32).max * 2)),
        pytest.param("mask-of-nan", self_attention(key_padding_mask=PADDING * -torch.inf), marks=needs_hints),
        ("float-of-zeros-and-ones", self_attention(key_padding_mask=PADDING.float())),
        ("repeat-not-interleaved", self_attention(attn_mask=PADDING[:, None].expand(N, L, L).repeat(HEADS, 1, 1))),
        pytest.param("false-hint", self_attention(attn_mask=CAUSAL.flip(0), is_causal=True), marks=needs_hints),
        pytest.param("inverted-causal", sdpa(CAUSAL), marks=needs_sdpa),
        pytest.param("inverted-padding", sdpa(PADDING[:, None, None]), marks=needs_sdpa),
        pytest.param("hides-everything", sdpa(torch.zeros(L, L, dtype=torch.bool)), marks=needs_sdpa),
        pytest.param("causal-with-cache", sdpa(is_causal=True, S=9), marks=needs_sdpa),
        pytest.param("mask-of-nan", sdpa(CAUSAL * -torch.inf), marks=needs_sdpa),
        pytest.param("minimum-twice", sdpa(of_low(CAUSAL) + of_low(PADDING[1])), marks=needs_sdpa),
    ],
)
@pytest.mark.filterwarnings("ignore:Support for mismatched|Converting mask")
def test_a_mistake_is_found(id, program):
    assert id in mistakes(program)


@needs_hints
def test_a_call_with_a_false_hint_is_not_judged():
    """No rule says its result: it is no difference that nobody knows."""
    program = self_attention(attn_mask=CAUSAL.flip(0), is_causal=True)
    (verdict,) = verdicts(program)["MultiheadAttention"]
    assert verdict == NOT_COMPARED


@pytest.mark.parametrize(
    "program",
    [
        self_attention(),
        self_attention(attn_mask=CAUSAL, key_padding_mask=PADDING),
        self_attention(attn_mask=CAUSAL, key_padding_mask=PADDING.flip(1)),  # left padding
        self_attention(key_padding_mask=PADDING.flip(1)),
        self_attention(attn_mask=torch.randn(L, L)),
        self_attention(attn_mask=torch.zeros(L, L).masked_fill(CAUSAL, -torch.inf)),
        self_attention(attn_mask=of_low(CAUSAL)),
        self_attention(attn_mask=PADDING[:, None].expand(N, L, L).repeat_interleave(HEADS, 0)),
        pytest.param(self_attention(attn_mask=CAUSAL, is_causal=True), marks=needs_hints),
        pytest.param(sdpa(~CAUSAL), marks=needs_sdpa),
        pytest.param(sdpa(~PADDING[:, None, None]), marks=needs_sdpa),
        pytest.param(sdpa(~PADDING.flip(1)[:, None, None] & ~CAUSAL), marks=needs_sdpa),
        pytest.param(sdpa(is_causal=True), marks=needs_sdpa),
        pytest.param(sdpa(torch.ones(L, 9).tril(5).bool(), S=9), marks=needs_sdpa),
    ],
)
def test_a_right_call_has_no_mistake(program):
    assert mistakes(program) == set()


class Dropping(nn.Module):
    """A module that passes dropout_p in eval mode, too, unless it is right."""

    def __init__(self, is_right):
        super().__init__()
        self.is_right = is_right

    def forward(self, x):
        """(N, L, E) -> (N, L, E)"""
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.0 if self.is_right and not self.training else 0.5)


def test_each_kind_of_mistake_is_described_and_tested():
    text = Path(__file__).read_text(encoding="utf-8")
    source = Path(inspect.getfile(rules)).read_text(encoding="utf-8")
    assert all(f'"{id}"' in text for id in KINDS)
    assert set(re.findall(r'Mistake\(\s*"([a-z-]+)"', source)) == set(KINDS)


@needs_sdpa
@pytest.mark.parametrize("is_right, training, expected", [(False, False, 1), (True, False, 0), (False, True, 0)])
def test_dropout_in_eval(is_right, training, expected):
    module = Dropping(is_right).train(training)
    assert mistakes(lambda: module(X)) == {"dropout-in-eval"} & ({"dropout-in-eval"} if expected else set())


def test_padding_of_the_encoder_without_padding_of_the_memory():
    transformer = nn.Transformer(E, HEADS, 1, 1, E, batch_first=True)
    assert mistakes(lambda: transformer(X, X, src_key_padding_mask=PADDING)) == {"memory-padding"}
    both = {"src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
    assert mistakes(lambda: transformer(X, X, **both)) == set()


def test_the_memory_of_a_decoder_is_known_by_identity():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, E, batch_first=True), 1).train()
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(E, HEADS, E, batch_first=True), 1)

    def program(**masks):
        memory = encoder(X, src_key_padding_mask=PADDING)
        decoder(X, memory, **masks)

    assert mistakes(program) == {"memory-padding"}
    assert mistakes(lambda: program(memory_key_padding_mask=PADDING)) == set()


def test_padding_in_one_of_two_attentions_to_a_memory():
    attentions = [nn.MultiheadAttention(E, HEADS, batch_first=True) for _ in range(2)]
    memory = torch.randn(N, L, E)

    def program(*masks):
        for attention, mask in zip(attentions, masks, strict=True):
            attention(X, memory + 1, memory, key_padding_mask=mask)

    assert mistakes(lambda: program(PADDING, None)) == {"memory-padding"}
    assert mistakes(lambda: program(PADDING, PADDING)) == set()


def test_a_wrong_mask_that_torch_accepts():
    attention = nn.MultiheadAttention(E, HEADS, batch_first=True).eval()
    mask = torch.zeros(1, 1, L, L, dtype=torch.bool)

    def program():
        with torch.no_grad():
            attention(X, X, X, attn_mask=mask)

    try:
        program()
    except (RuntimeError, AssertionError):
        pytest.skip("this release refuses it")
    assert mistakes(program) == {"accepted-wrong-mask"}


class Adapted(nn.Linear):
    """An adapter in the place of a linear layer."""

    def forward(self, x):
        """(..., E) -> (..., E)"""
        return super().forward(x) + x


def test_an_adapter_in_the_output_projection_is_never_called():
    attention = nn.MultiheadAttention(E, HEADS)
    assert mistakes(lambda: attention(X, X, X)) == set()
    adapted = copy.deepcopy(attention)
    adapted.out_proj = Adapted(E, E)
    assert mistakes(lambda: adapted(X, X, X)) == {"projection-not-called"}


def test_each_mask_is_told_in_its_own_words():
    module = nn.Transformer(E, HEADS, 1, 1, E, 0.0, batch_first=True)
    masks = {"src_key_padding_mask": ~PADDING, "tgt_key_padding_mask": ~PADDING, "memory_key_padding_mask": ~PADDING}

    def program():
        module(X, X, **masks)
        module(X[:2], X[:2], **{name: mask[:2] for name, mask in masks.items()})

    inverted = [its.says for _, _, its in diagnosed(program).mistakes if its.id == "inverted-padding"]
    for name in masks:
        assert any(says.startswith(f"{name} hides") and "1 of 4 samples" in says for says in inverted), name
        assert any(says.startswith(f"{name} hides") and "1 of 2 samples" in says for says in inverted), name


def test_rows_without_a_key_are_no_mistake_of_their_own_where_the_mask_is_inverted():
    assert mistakes(self_attention(key_padding_mask=~PADDING)) == {"inverted-padding"}


def test_many_mistakes_of_one_kind_are_told_by_the_first():
    def program():
        for hidden in range(1, 4):
            for samples in range(hidden, 4):
                padding = torch.zeros(samples + 1, L, dtype=torch.bool)
                padding[:hidden] = True
                self_attention(X[: samples + 1], key_padding_mask=padding)()

    text = as_text(diagnosed(program), "ended")
    assert text.count("MISTAKE hides-everything: key_padding_mask: the masks hide all keys of") == 4
    assert "MISTAKE hides-everything: 2 more of MultiheadAttention, with other masks" in text
