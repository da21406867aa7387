"""Claims about positions: relative biases, positional encodings, and masks that they cannot replace."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from reference import masks
from reference.derivative import derivative, displaced

from .claim import Claim
from .comparing import arbitrary, array, filled, internal_warnings, moved, near, reference_of, since, with_another

pytestmark = [*internal_warnings]


def alibi(num_heads: int, L: int, S: int) -> torch.Tensor:
    """(num_heads, L, S): minus the distance, times a slope for each head; num_heads is a power of 2."""
    slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)
    distance = (torch.arange(S) - torch.arange(L)[:, None]).abs()
    return -slopes[:, None, None] * distance


def t5_buckets(L: int, S: int, num_buckets: int = 32, max_distance: int = 128) -> torch.Tensor:
    """(L, S): a bucket for each small distance, logarithmic buckets for larger ones; half of all are for the future."""
    distance = torch.arange(S) - torch.arange(L)[:, None]
    half = num_buckets // 2
    exact, far = half // 2, distance.abs()
    growth = torch.log(far.clamp(min=exact) / exact) / math.log(max_distance / exact)
    shared = (exact + (half - exact) * growth).long().clamp(max=half - 1)
    return half * (distance > 0) + torch.where(far < exact, far, shared)


class RelativeBias(nn.Module):
    """A learned number for each bucket and head. Do not initialise it with zeros, as said above."""

    def __init__(self, num_heads: int, num_buckets: int = 32) -> None:
        super().__init__()
        self.table = nn.Embedding(num_buckets, num_heads)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, L: int, S: int) -> torch.Tensor:
        return self.table(t5_buckets(L, S)).permute(2, 0, 1)  # (num_heads, L, S)


def encode_relatively(encoder: nn.TransformerEncoder, src: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """src (S, N, E), for an encoder without batch_first; bias (num_heads, S, S) becomes (N * num_heads, S, S)."""
    return encoder(src, mask=bias.to(src).repeat(src.shape[1], 1, 1))


RELATIVE_ATTENTION = Claim(
    id="relative-attention",
    says="`nn.Transformer(relative_attention=True)` gives relative positions.",
    verdict="false",
    because="""
    TypeError: there is no such argument. A relative bias is a number that is added to the score. Give it as a float
    `attn_mask`, with one slice for each sample and head: ALiBi, the buckets of T5, a learned table. There are two
    traps. First, since 2.0, in eval without autograd, `nn.TransformerEncoderLayer` with `batch_first=True` reads a
    float mask as bool: every number but 0 hides. With ALiBi every query then sees only itself, and nothing warns. With
    `batch_first=False` the layer does not take this fast path, and train and eval agree on every release (from 2.3
    on, `torch.backends.mha.set_fastpath_enabled(False)` closes it, too). Second, `nn.TransformerEncoder` since 2.0 and
    `nn.TransformerDecoder` since 2.1 replace an exactly causal bias without an axis for heads (a table of zeros with
    -inf in the future) by `is_causal=True`: the table gets no gradient and never learns.
    """,
    recipe=(alibi, t5_buckets, RelativeBias, encode_relatively),
    proof=(
        "test_there_is_no_argument_for_positions",
        "test_alibi",
        "test_t5_buckets",
        "test_an_encoder_with_a_bias",
        "test_in_eval_batch_first_hides_what_is_not_zero",
        "test_without_the_fast_path_eval_is_right",
        "test_a_table_learns",
        "test_zeros_with_a_causal_mask_never_learn",
        "test_a_causal_bias_of_a_decoder",
    ),
)


def encoder(**options: bool) -> nn.TransformerEncoder:
    return filled(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, **options), 2, enable_nested_tensor=False)
    )


@pytest.mark.parametrize("argument", ["relative_attention", "position_encoding"])
def test_there_is_no_argument_for_positions(argument):
    with pytest.raises(TypeError, match=argument):
        nn.Transformer(4, 2, 1, 1, 8, **{argument: True})


def test_alibi():
    near(alibi(8, 1, 3)[:, 0], np.outer(-1 / 2.0 ** np.arange(1, 9), [0, 1, 2]))
    near(alibi(2, 3, 3)[0], [[0, -1 / 16, -1 / 8], [-1 / 16, 0, -1 / 16], [-1 / 8, -1 / 16, 0]])


def test_t5_buckets():
    buckets = array(t5_buckets(200, 200))
    past = {0: 0, 1: 1, 7: 7, 8: 8, 11: 8, 12: 9, 20: 10, 100: 15, 128: 15, 199: 15}
    assert {distance: buckets[distance, 0] for distance in past} == past
    assert {distance: buckets[0, distance] for distance in (1, 7, 12, 199)} == {1: 17, 7: 23, 12: 25, 199: 31}


BIASES = [lambda: alibi(2, 3, 3), lambda: filled(RelativeBias(2))(3, 3)]


@pytest.mark.parametrize("bias", BIASES, ids=["alibi", "table"])
def test_an_encoder_with_a_bias(bias, training):
    model, src = encoder().train(training), arbitrary(3, 2, 4)
    per_head = np.tile(array(bias()), (2, 1, 1)).astype(float)
    near(encode_relatively(model, src, bias()), reference_of(model)(array(src).swapaxes(0, 1), per_head).swapaxes(0, 1))


def test_in_eval_batch_first_hides_what_is_not_zero():
    model, src = encoder(batch_first=True).eval(), arbitrary(1, 3, 4)
    read_as = array(alibi(2, 3, 3)) != 0 if since("2.0") else array(alibi(2, 3, 3)).astype(float)
    with torch.no_grad():
        near(model(src, mask=alibi(2, 3, 3).to(src)), reference_of(model)(array(src), read_as))


def test_without_the_fast_path_eval_is_right():
    switch = getattr(getattr(torch.backends, "mha", None), "set_fastpath_enabled", None)
    assert (switch is not None) == since("2.3")
    model, src = encoder(batch_first=True).eval(), arbitrary(1, 3, 4)
    if switch is None:
        return
    switch(False)
    try:
        with torch.no_grad():
            output = model(src, mask=alibi(2, 3, 3).to(src))
    finally:
        switch(True)
    near(output, reference_of(model)(array(src), array(alibi(2, 3, 3)).astype(float)))


def test_a_table_learns():
    model, src, bias = encoder(), arbitrary(3, 2, 4), filled(RelativeBias(2))
    table, direction = array(bias.table.weight), array(arbitrary(32, 2))
    encode_relatively(model, src, bias(3, 3)).sum().backward()
    # Derivative of the reference by the complex step; slice n * num_heads + h of the mask is for head h.
    moving = displaced(table, direction)[array(t5_buckets(3, 3))].transpose(2, 0, 1)
    expected = derivative(reference_of(model)(array(src).swapaxes(0, 1), np.tile(moving, (2, 1, 1))).sum())
    near((array(bias.table.weight.grad) * direction).sum(), expected)


def test_zeros_with_a_causal_mask_never_learn():
    model, src, table = encoder(), arbitrary(3, 2, 4), torch.zeros(5, dtype=torch.float64, requires_grad=True)
    distance = torch.arange(3) - torch.arange(3)[:, None] + 2
    future = torch.triu(torch.ones(3, 3, dtype=torch.bool), diagonal=1)
    model(src, mask=table[distance].masked_fill(future, -math.inf)).sum().backward()
    assert (table.grad is None) == since("2.0")
    table = (table + 0.02).detach().requires_grad_()
    model(src, mask=table[distance].masked_fill(future, -math.inf)).sum().backward()
    assert (table.grad[:3] != 0).any()


def test_a_causal_bias_of_a_decoder():
    model = filled(nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, dropout=0), 2))
    bias = torch.triu(torch.full((3, 3), -math.inf, dtype=torch.float64), diagonal=1).requires_grad_()
    model(arbitrary(3, 2, 4), arbitrary(3, 2, 4), tgt_mask=bias).sum().backward()
    assert (bias.grad is None) == since("2.1")


def bias_and_mask(bias: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """bias (num_heads, L, S); hidden (L, S), True hides: the result is -inf at hidden positions, else the bias."""
    return bias.masked_fill(hidden, -math.inf)


BIAS_FOR_MASK = Claim(
    id="bias-for-mask",
    says="A relative bias can replace `src_mask`.",
    verdict="false",
    because="""
    Both use the same argument, but a finite bias only reduces the weight of a key. With ALiBi alone, another last
    token changes the output at the first position by more than 0.01 (features are of size 1). With -inf at hidden
    positions it does not change at all. Give the sum of bias and mask.
    """,
    recipe=(bias_and_mask,),
    proof=("test_a_bias_hides_nothing", "test_a_bias_and_a_mask"),
)


def test_a_bias_hides_nothing(training):
    model, src, bias = encoder().train(training), arbitrary(3, 1, 4), alibi(2, 3, 3)
    other = with_another(src.transpose(0, 1), 2).transpose(0, 1)
    both = bias_and_mask(bias, torch.triu(torch.ones(3, 3, dtype=torch.bool), diagonal=1))
    assert moved(encode_relatively(model, src, bias), encode_relatively(model, other, bias))[0] > 0.01
    near(moved(encode_relatively(model, src, both), encode_relatively(model, other, both))[:2], 0)


def test_a_bias_and_a_mask(training):
    model, src, bias = encoder().train(training), arbitrary(3, 1, 4), alibi(2, 3, 3)
    expected = np.where(masks.causal(3, 3), -np.inf, array(bias).astype(float))
    both = bias_and_mask(bias, torch.tensor(masks.causal(3, 3)))
    near(encode_relatively(model, src, both)[:, 0], reference_of(model)(array(src).swapaxes(0, 1), expected)[0])


def encode_with_bias(encoder: nn.TransformerEncoder, src: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """src (N, S, E), batch first, bias (N * num_heads, S, S). Training needs no remedy; eval leaves the fast path.

    Autograd records the call, which keeps it off the fast path on every release; the result is detached again.
    """
    if encoder.training:
        return encoder(src, mask=bias)
    with torch.enable_grad():
        return encoder(src.detach().requires_grad_(), mask=bias).detach()


ALIBI_IN_EVAL = Claim(
    id="alibi-in-eval",
    says="An encoder that was trained with ALiBi, as a float `src_mask`, computes the same in `model.eval()`.",
    verdict="true with autograd, false under `torch.no_grad()` since 2.0",
    because="""
    Without autograd a layer with `batch_first=True` and an even number of heads takes its fast path, which reads a
    float mask as bool: each bias but 0 hides, so that a query sees itself alone, silently. If no bias is 0, all keys
    are hidden, and the output is NaN. Remedies: the recipe below, on every release; `batch_first=False`, as in
    `relative-attention`; from 2.3 on `torch.backends.mha.set_fastpath_enabled(False)`. See [the
    catalogue](edge-cases.md#native-layer-float-mask).
    """,
    recipe=(alibi, encode_with_bias),
    proof=("test_in_eval_alibi_hides_or_gives_nan", "test_an_encoder_with_a_bias_is_right_in_eval"),
)


@pytest.mark.parametrize("shift, hides_all", [(0, False), (1, True)])
def test_in_eval_alibi_hides_or_gives_nan(shift, hides_all):
    model, src, bias = encoder(batch_first=True).eval(), arbitrary(1, 3, 4), alibi(2, 3, 3) + shift
    with torch.no_grad():
        output = model(src, mask=bias.to(src))
    if since("2.0"):
        assert output.isnan().any() == hides_all
        near(output, reference_of(model)(array(src), array(torch.eye(3)) == 0) if not hides_all else math.nan)
    else:
        near(output, reference_of(model)(array(src), array(bias).astype(float)))


def test_an_encoder_with_a_bias_is_right_in_eval(training):
    model, src, bias = encoder(batch_first=True).train(training), arbitrary(1, 3, 4), alibi(2, 3, 3)
    near(encode_with_bias(model, src, bias.to(src)), reference_of(model)(array(src), array(bias).astype(float)))


def sinusoidal(S: int, E: int) -> torch.Tensor:
    """(S, E), E even: sines at even features, cosines at odd ones, with wavelengths from 2 pi to 10000 * 2 pi."""
    angle = torch.arange(S)[:, None] / 10000 ** (torch.arange(0, E, 2) / E)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Embedding(nn.Module):
    """ids (N, S) -> (N, S, E), with learned or fixed positions."""

    def __init__(self, vocabulary: int, E: int, longest: int, learned: bool = True) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, E)
        self.register_buffer("fixed", sinusoidal(longest, E))
        self.learned = nn.Embedding(longest, E) if learned else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        S = ids.shape[1]
        return self.tokens(ids) + (self.learned.weight if self.learned else self.fixed)[:S]


POSITION_ENCODING = Claim(
    id="position-encoding",
    says='`nn.Transformer(position_encoding="learned")` adds positions.',
    verdict="false",
    because="""
    TypeError: there is no such argument, and the module adds no positions at all. Without positions an encoder is
    equivariant: tokens in another order give the same outputs in that order. Add positions to the embedded tokens.
    """,
    recipe=(sinusoidal, Embedding),
    proof=(
        "test_there_is_no_argument_for_positions",
        "test_without_positions_order_is_nothing",
        "test_sinusoidal",
        "test_positions_are_added",
    ),
)


def test_without_positions_order_is_nothing(training):
    model, src = encoder(batch_first=True).train(training), arbitrary(1, 3, 4)
    near(model(src.flip(1)), array(model(src).flip(1)))


def test_sinusoidal():
    expected = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    near(sinusoidal(2, 4), np.array(expected), error=1e-6)


@pytest.mark.parametrize("learned", [True, False])
def test_positions_are_added(learned):
    embedding, ids = filled(Embedding(5, 4, longest=6, learned=learned)), torch.tensor([[3, 3]])
    positions = array(embedding.learned.weight if learned else sinusoidal(6, 4))[:2]
    near(embedding(ids)[0], array(embedding.tokens.weight)[3] + positions, error=1e-6)
