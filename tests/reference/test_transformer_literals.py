"""Norms, activations and layers, worked out by hand.

In the layers each token sees only itself, and projections are the identity: self-attention returns its input.
"""

import math

import numpy as np
import pytest

from reference.attention import MultiHeadAttention
from reference.transformer import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    FeedForward,
    LayerNorm,
    Transformer,
    gelu,
    gelu_tanh,
    relu,
    silu,
)

from .comparing import near

I = np.eye(2)
ATTENTION = MultiHeadAttention(1, I, I, I, I)
RELU = FeedForward(I, None, I, None, relu)
ONLY_ITSELF = np.array([[False, True], [True, False]])


def pair(*numbers):
    return np.array(numbers, float)


def norm(weight=(1, 1), bias=None, eps=0.0):
    return LayerNorm(pair(*weight), None if bias is None else pair(*bias), eps)


@pytest.mark.parametrize(
    "module, expected",
    [
        (norm(), (-1, 1)),
        (norm(weight=(2, 3)), (-2, 3)),
        (norm(weight=(2, 3), bias=(10, 20)), (8, 23)),
        (norm(eps=3.0), (-0.5, 0.5)),
        (norm(weight=(2, 3), bias=(10, 20), eps=3.0), (9, 21.5)),
    ],
)
def test_a_layer_norm_divides_by_the_root_of_the_variance_plus_eps(module, expected):
    near(module(pair(1, 3)), expected)  # mean 2, variance 1


def test_a_layer_norm_normalises_each_element_by_itself():
    near(norm()(pair(1, 3, 10, 2).reshape(2, 1, 2)), [[[-1, 1]], [[1, -1]]])


@pytest.mark.parametrize("x, y", [(-2, 0), (0, 0), (3, 3)])
def test_relu_is_zero_below_zero(x, y):
    near(relu(pair(x)), [y])


@pytest.mark.parametrize(
    "x, y",
    [(0, 0), (1, 0.8413447460685429), (-1, -0.15865525393145707), (2, 1.9544997361036416), (9, 9)],
)
def test_gelu_is_x_times_the_exact_normal_distribution(x, y):
    near(gelu(pair(x)), [y])


@pytest.mark.parametrize(
    "x, y",
    [(0, 0), (1, 0.8411919906082767), (-1, -0.1588080093917233), (2, 1.954597694087775), (9, 9), (-9, 0)],
)
def test_gelu_tanh_is_the_known_approximation(x, y):
    near(gelu_tanh(pair(x)), [y])


@pytest.mark.parametrize(
    "x, y", [(0, 0), (1, 0.7310585786300049), (-1, -0.2689414213699951), (2, 1.761594155955765), (50, 50)]
)
def test_silu_is_x_times_the_logistic_function(x, y):
    near(silu(pair(x)), [y])


@pytest.mark.parametrize("x, y", [(3, 31), (-2, 201), (0, 1)])
def test_the_feed_forward_activates_between_two_projections(x, y):
    module = FeedForward(pair(1, -1).reshape(2, 1), None, pair(10, 100).reshape(1, 2), pair(1), relu)
    near(module(pair(x)), [y])


@pytest.mark.parametrize("bias, y", [(-5, 0), (5, 8)])
def test_the_first_bias_of_the_feed_forward_is_added_before_the_activation(bias, y):
    near(FeedForward(np.eye(1), pair(bias), np.eye(1), None, relu)(pair(3)), [y])


ENCODER_NORMS = norm(bias=(1, 1)), norm((2, 3), (10, 20))


@pytest.mark.parametrize(
    "norm_first, expected",
    [
        (False, [[8, 23], [12, 17]]),  # 2x -> (0, 2), (2, 0); doubled -> (0, 4), (4, 0)
        (True, [[9, 28], [19, 18]]),  # x + (0, 2), (2, 0) = (1, 5), (7, 1); + (8, 23), (12, 17)
    ],
)
def test_an_encoder_layer_with_its_norms_after_and_before(norm_first, expected):
    layer = EncoderLayer(ATTENTION, RELU, *ENCODER_NORMS, norm_first)
    near(layer(pair(1, 3, 5, 1).reshape(1, 2, 2), ONLY_ITSELF), [expected])


@pytest.mark.parametrize("masks", [{"src_mask": ONLY_ITSELF[::-1]}, {"src_key_padding_mask": ONLY_ITSELF[:, ::-1]}])
def test_an_encoder_layer_attends_to_the_source_itself_as_its_masks_say(masks):
    layer = EncoderLayer(ATTENTION, FeedForward(0 * I, None, I, None, relu), norm(), norm())
    src = np.tile(pair(1, 3, 5, 1).reshape(1, 2, 2), (2, 1, 1))  # sum of both tokens: (6, 4); twice a token: (2, 6)
    expected = [[1, -1], [1, -1]] if "src_mask" in masks else [[[1, -1], [1, -1]], [[-1, 1], [1, -1]]]
    near(layer(src, **masks), np.broadcast_to(expected, src.shape))


MEMORY = pair(10, 20, 50, 0).reshape(1, 2, 2)
DECODER_NORMS = norm(bias=(1, 1)), norm(), norm((2, 3), (10, 20))
FIRST_OF_MEMORY = np.array([[False, True], [False, True]])


@pytest.mark.parametrize(
    "memory_masks", [{"memory_mask": FIRST_OF_MEMORY}, {"memory_key_padding_mask": FIRST_OF_MEMORY[:1]}]
)
@pytest.mark.parametrize(
    "norm_first, expected",
    [
        # x -> 2x -> (0, 2), (2, 0) -> + (10, 20) = (10, 22), (12, 20) -> (-1, 1) twice -> + (0, 1) = (-1, 2)
        (False, [[8, 23], [8, 23]]),
        # x + (0, 2), (2, 0) = (1, 5), (7, 1) -> + (10, 20) = (11, 25), (17, 21) -> + (8, 23)
        (True, [[19, 48], [25, 44]]),
    ],
)
def test_a_decoder_layer_with_its_norms_after_and_before(memory_masks, norm_first, expected):
    layer = DecoderLayer(ATTENTION, ATTENTION, RELU, *DECODER_NORMS, norm_first)
    near(layer(pair(1, 3, 5, 1).reshape(1, 2, 2), MEMORY, ONLY_ITSELF, **memory_masks), [expected])


def test_a_decoder_layer_normalises_its_queries_to_the_memory_and_not_the_memory():
    double = MultiHeadAttention(1, I, I, 2 * I, I)
    layer = DecoderLayer(ATTENTION, double, FeedForward(I, None, 0 * I, None, relu), norm(), norm(), norm(), True)
    near(layer(pair(0, 0).reshape(1, 1, 2) + pair(1, 3), MEMORY[:, :1]), [[[20, 44]]])  # (1, 3) + (-1, 1) + 2 memory


def test_a_decoder_layer_gives_each_attention_its_own_two_masks():
    def report(query, key, value, attn_mask, key_padding_mask):
        return query * 0 + 10 * attn_mask + key_padding_mask, None

    def remember(query, key, value, attn_mask, key_padding_mask):
        return query * 0 + 1000 * attn_mask + 100 * key_padding_mask, None

    layer = DecoderLayer(report, remember, times(0), *[times(1)] * 3)
    masks = {"memory_mask": 4, "tgt_mask": 2, "memory_key_padding_mask": 3, "tgt_key_padding_mask": 1}
    near(layer(pair(0.5), pair(7), **masks), [4321.5])


def plus(number):
    return lambda x, *args, **kwargs: x + number


def times(number):
    return lambda x, *args, **kwargs: x * number


@pytest.mark.parametrize("norm, expected", [(None, [4]), (times(10), [40])])
def test_a_stack_applies_its_layers_in_order_and_its_norm_last(norm, expected):
    near(Encoder((plus(1), times(2)), norm)(pair(1)), expected)
    near(Decoder((plus(1), times(2)), norm)(pair(1), pair(7)), expected)


def test_every_layer_of_an_encoder_gets_both_masks():
    def layer(x, src_mask, src_key_padding_mask):
        return x + src_mask * src_key_padding_mask

    near(Encoder((layer, layer))(pair(1), pair(2), pair(3)), [13])


def test_every_layer_of_a_decoder_gets_the_memory_and_all_masks():
    def layer(x, memory, **masks):
        return x + memory * math.prod(masks.values())

    near(Decoder((layer, layer))(pair(1), pair(2), tgt_mask=pair(3), memory_mask=pair(5)), [61])


def test_the_output_of_the_encoder_is_the_memory_of_the_decoder():
    def remember(x, memory, **masks):
        return x + 100 * memory

    module = Transformer(Encoder((plus(1),), times(2)), Decoder((remember,), times(10)))
    near(module(pair(1), pair(5)), [4050])


def test_a_transformer_gives_the_encoder_its_masks_and_the_decoder_the_others():
    def encode(x, src_mask, src_key_padding_mask):
        return x + 10 * src_mask + src_key_padding_mask

    def decode(x, memory, **masks):
        return x + memory + 100 * masks["tgt_mask"] + 1000 * masks["memory_mask"]

    module = Transformer(Encoder((encode,)), Decoder((decode,)))
    masks = {"memory_mask": 4, "tgt_mask": 3, "src_mask": 2, "src_key_padding_mask": 1}
    near(module(pair(0.5), pair(0.25), **masks), [4321.75])
