"""torch takes its paths as the page of edge cases says, and the entries raise for the calls that they name."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.claims.comparing import since
from tests.tools.paths_in_words import MEANINGS

pytestmark = [
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning"),
    pytest.mark.filterwarnings("ignore:Converting mask without torch.bool dtype:UserWarning"),
]


@dataclass(frozen=True)
class Setting:
    """How an encoder layer is made and called; the defaults are those of the fast path."""

    training: bool = False
    records: bool = False
    batch_first: bool = True
    num_heads: int = 2
    activation: object = F.relu
    is_batch: bool = True

    def call(self) -> None:
        """Make the layer and call it."""
        layer = nn.TransformerEncoderLayer(
            6, self.num_heads, 8, activation=self.activation, batch_first=self.batch_first
        ).train(self.training)
        with torch.set_grad_enabled(self.records):
            layer(torch.randn(*((2, 3, 6) if self.is_batch else (3, 6))))


NATIVE = (Setting(), Setting(activation=F.gelu), Setting(activation=nn.GELU()), Setting(num_heads=6))
OTHERS = (
    Setting(training=True),
    Setting(records=True),
    Setting(batch_first=False),
    Setting(num_heads=3),
    Setting(activation=F.silu),
    Setting(is_batch=False),
)


@pytest.fixture
def native_calls(monkeypatch):
    """A list that gets an element for each call of the native code of an encoder layer."""
    calls, native = [], torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(
        torch, "_transformer_encoder_layer_fwd", lambda *given, **named: calls.append(1) or native(*given, **named)
    )
    return calls


@pytest.mark.parametrize(
    ("setting", "is_native"), [*((one, True) for one in NATIVE), *((one, False) for one in OTHERS)]
)
def test_the_fast_path_opens_as_the_page_says(setting, is_native, native_calls):
    setting.call()
    assert bool(native_calls) == is_native


def test_a_frozen_layer_takes_the_fast_path_with_autograd(native_calls):
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval().requires_grad_(False)
    layer(torch.randn(2, 3, 6))
    assert native_calls


def _partly_trained(num_layers, layer, part):
    """What a padded encoder with all parameters frozen but this part of this layer does in eval mode."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), num_layers).eval()
    encoder.requires_grad_(False).layers[layer].get_submodule(part).requires_grad_(True)
    padding = torch.tensor([[False, False, False], [False, False, True]])
    try:
        encoder(torch.randn(2, 3, 6), src_key_padding_mask=padding)
    except AssertionError:
        return "raises"
    return "runs"


@pytest.mark.skipif(not since("2.0"), reason="a norm of 1.13 takes no packed batch")
def test_a_later_layer_takes_a_packed_batch_if_its_attention_is_frozen():
    """As nested-partly-frozen says."""
    assert _partly_trained(2, 1, "self_attn") == _partly_trained(3, 2, "self_attn") == "raises"
    for part in ("linear1", "linear2", "norm1", "norm2"):
        assert _partly_trained(2, 1, part) == _partly_trained(3, 2, part) == "runs"
        assert _partly_trained(3, 1, part) == "raises"


@pytest.mark.parametrize("setting", [*OTHERS[3:], Setting(batch_first=False), Setting(training=True)])
def test_only_what_asks_for_the_fast_path_reads_the_weight_of_linear1(setting, monkeypatch):
    """As linear-without-weight says, with and without autograd."""
    made = nn.TransformerEncoderLayer.__init__

    def without_weight(layer, *given, **named):
        made(layer, *given, **named)
        layer.linear1 = nn.Sequential(layer.linear1)

    monkeypatch.setattr(nn.TransformerEncoderLayer, "__init__", without_weight)
    for records in (True, False):
        replace(setting, records=records).call()
        with pytest.raises(AttributeError, match="weight"):
            Setting(records=records).call()


def test_each_word_is_explained_once():
    assert len({word for word, _ in MEANINGS}) == len(MEANINGS)
