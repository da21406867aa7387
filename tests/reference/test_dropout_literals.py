"""Dropout in layers, worked out by hand: dropout doubles the first feature and drops the second.

There is one token, which sees itself. Projections are the identity; norms double or change nothing.
"""

import numpy as np
import pytest

from reference.attention import MultiHeadAttention
from reference.transformer import Decoder, DecoderLayer, Encoder, EncoderLayer, FeedForward, relu

from .comparing import near

I = np.eye(2)
ATTENTION = MultiHeadAttention(1, I, I, I, I)
RELU = FeedForward(I, None, I, None, relu)
ALONE = np.array([[[1.0, 3.0]]])


def as_it_is(x):
    return x


def doubled(x):
    return 2 * x


def dropout(x):
    return x * np.array([2.0, 0.0])


@pytest.mark.parametrize(
    "norm, norm_first, expected",
    [
        # attention adds (2, 0), the features are (6, 0), the feed-forward adds (12, 0)
        (as_it_is, False, (15, 3)),
        # from (2, 6) attention adds (4, 0); from (10, 6) the features are (20, 0), the feed-forward adds (40, 0)
        (doubled, True, (45, 3)),
        # (3, 3) is doubled; from (6, 6) the features are (12, 0), the feed-forward adds (24, 0); (30, 6) is doubled
        (doubled, False, (60, 12)),
    ],
)
def test_an_encoder_layer_drops_what_it_adds_and_features(norm, norm_first, expected):
    layer = EncoderLayer(ATTENTION, RELU, norm, norm, norm_first, dropout)
    near(layer(ALONE), [[expected]])


def test_a_decoder_layer_drops_what_the_memory_adds_too():
    layer = DecoderLayer(ATTENTION, ATTENTION, RELU, as_it_is, as_it_is, as_it_is, dropout=dropout)
    # attention adds (2, 0), the memory (10, 0), the features are (26, 0), the feed-forward adds (52, 0)
    near(layer(ALONE, np.array([[[5.0, 7.0]]])), [[(65, 3)]])


def test_every_layer_of_a_stack_drops():
    layer = EncoderLayer(ATTENTION, RELU, as_it_is, as_it_is, dropout=dropout)
    near(Encoder((layer, layer))(ALONE), [[(15 * 15, 3)]])
    layer = DecoderLayer(ATTENTION, ATTENTION, RELU, as_it_is, as_it_is, as_it_is, dropout=dropout)
    near(Decoder((layer, layer))(ALONE, 0 * ALONE), [[(15 * 15, 3)]])


def test_nothing_is_dropped_by_default():
    near(EncoderLayer(ATTENTION, RELU, as_it_is, as_it_is)(ALONE), [[(4, 12)]])
