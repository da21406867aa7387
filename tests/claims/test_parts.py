"""Claims about adapters and hooks on the parts of attention, and about methods that a subclass overrides."""

import pytest
import torch
from torch import nn

from .claim import Claim
from .comparing import arbitrary, array, filled, near, since


class LowRank(nn.Module):
    """The update of LoRA as a parametrization of a weight (out, in)."""

    def __init__(self, weight: torch.Tensor, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1], dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, dtype=weight.dtype))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.up @ self.down


def adapt(attention: nn.MultiheadAttention, rank: int) -> LowRank:
    """Freeze the attention, and give out_proj an update that is trained."""
    attention.requires_grad_(False)
    update = LowRank(attention.out_proj.weight, rank)
    nn.utils.parametrize.register_parametrization(attention.out_proj, "weight", update)
    return update


ADAPTER = Claim(
    id="adapter-on-out-proj",
    says="LoRA on `out_proj` of `nn.MultiheadAttention` has no effect.",
    verdict="true of a module in its place, false of a parametrization",
    because="""
    `nn.MultiheadAttention` never calls `out_proj`; it reads `out_proj.weight` and `out_proj.bias`. An adapter in its
    place changes no output and gets no gradient, in train and eval mode, on every release from 1.13 to 2.15. Without
    an attribute `weight`, it raises AttributeError. A parametrization of the weight is part of what is read: its
    update changes the output and is trained. Merging the update into the weight works, too.
    """,
    recipe=(LowRank, adapt),
    proof=("test_an_adapter_in_the_place_of_out_proj_is_ignored", "test_a_parametrization_is_read_and_trained"),
)


class Adapted(nn.Module):
    """An adapter in the place of a linear part."""

    def __init__(self, base):
        super().__init__()
        self.base, self.update = base, filled(nn.Linear(4, 4))

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    def forward(self, values):
        return self.base(values) + self.update(values)


@pytest.fixture(params=[True, False], ids=["weights", "no_weights"])
def need_weights(request):
    return request.param


def test_an_adapter_in_the_place_of_out_proj_is_ignored(training, need_weights):
    attention, x = filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(training), arbitrary(2, 3, 4)
    before = attention(x, x, x, need_weights=need_weights)[0].detach()
    attention.out_proj = Adapted(attention.out_proj)
    after = attention(x, x, x, need_weights=need_weights)[0]
    near(after, array(before))
    if training:
        after.sum().backward()
        assert attention.out_proj.update.weight.grad is None
    attention.out_proj = nn.Sequential(attention.out_proj)
    with pytest.raises(AttributeError, match="no attribute 'weight'"):
        attention(x, x, x, need_weights=need_weights)


def test_a_parametrization_is_read_and_trained(training, need_weights):
    attention, x = filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(training), arbitrary(2, 3, 4)
    before = attention(x, x, x, need_weights=need_weights)[0].detach()
    update = adapt(attention, rank=1)
    assert isinstance(update, LowRank)
    near(attention(x, x, x, need_weights=need_weights)[0], array(before))
    with torch.no_grad():
        update.up.fill_(1)
    other = filled(nn.MultiheadAttention(4, 2, batch_first=True))  # its weight holds the same update
    with torch.no_grad():
        other.out_proj.weight.add_(update.down)
    after = attention(x, x, x, need_weights=need_weights)[0]
    near(after, array(other(x, x, x, need_weights=need_weights)[0]))
    assert (after - before).abs().max() > 0.1
    if training:
        after.sum().backward()
        assert update.up.grad.abs().max() > 0


class Recording(nn.TransformerEncoderLayer):
    """An encoder layer that keeps the features behind its self-attention, as an overridden method or a hook can."""

    def _sa_block(self, *given, **options):
        self.seen = super()._sa_block(*given, **options)
        return self.seen


def with_every_part_called(layer: nn.TransformerEncoderLayer, src: torch.Tensor) -> torch.Tensor:
    """The output of a layer in eval mode off its fast path, so that hooks and overridden methods are called."""
    switch = torch.backends.mha.set_fastpath_enabled  # since 2.3
    switch(False)
    try:
        return layer(src)
    finally:
        switch(True)


def layer_with_norms(E: int, num_heads: int, norm: type[nn.Module]) -> nn.TransformerEncoderLayer:
    """An encoder layer with norms of another kind, such as nn.RMSNorm. ReLU in a module keeps it off the fast path."""
    layer = nn.TransformerEncoderLayer(E, num_heads, 4 * E, activation=nn.Sequential(nn.ReLU()), batch_first=True)
    layer.norm1, layer.norm2 = norm(E), norm(E)
    return layer


NORMS = Claim(
    id="rms-norm-in-a-layer",
    says="`nn.RMSNorm` can take the place of `norm1` and `norm2` of an encoder layer.",
    verdict="true in train mode, false in eval mode with `batch_first=True`",
    because="""
    In eval mode a layer with `batch_first=True`, a batch as its input, and ReLU or GELU as its activation asks its
    norms for `eps`, `weight` and `bias`, with or without autograd. It raises AttributeError: "'RMSNorm' object has no
    attribute 'bias'" (with an even number of heads; since 2.4, which brings `nn.RMSNorm`), or for `nn.Identity`
    "'Identity' object has no attribute 'eps'". In train mode it only calls them. With `batch_first=False`, or with
    another activation, it does so in eval mode, too: `nn.Sequential(nn.ReLU())` counts as another one.
    """,
    recipe=(layer_with_norms,),
    proof=("test_norms_in_eval", "test_norms_beside_another_activation"),
)

KINDS_OF_NORM = [nn.Identity, *([nn.RMSNorm] if since("2.4") else [])]


@pytest.mark.parametrize("norm", KINDS_OF_NORM, ids=lambda norm: norm.__name__)
def test_norms_in_eval(norm, training):
    src, missing = arbitrary(2, 3, 4), {"Identity": "eps", "RMSNorm": "bias"}[norm.__name__]
    for batch_first in (True, False):
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first)
        layer.norm1, layer.norm2 = norm(4), norm(4)
        layer.double().train(training)
        if training or not batch_first:
            assert layer(src).isfinite().all()
            continue
        for is_recorded in (True, False):
            with torch.set_grad_enabled(is_recorded), pytest.raises(AttributeError, match=f"attribute '{missing}'"):
                layer(src)


@pytest.mark.parametrize("norm", KINDS_OF_NORM, ids=lambda norm: norm.__name__)
def test_norms_beside_another_activation(norm):
    layer, src = layer_with_norms(4, 2, norm).double().eval(), arbitrary(2, 3, 4)
    expected = layer(src)
    with torch.no_grad():
        near(layer(src), array(expected))


HOOKS = Claim(
    id="hooks-in-eval",
    says="In eval mode, hooks on `self_attn` of an encoder layer, or an overridden `_sa_block`, are called.",
    verdict="true of hooks since 2.5, false of overridden methods",
    because="""
    The fast path of `nn.TransformerEncoderLayer` (eval mode, no autograd) reads the weights of all parts, and calls
    none. Since 2.5, the layer leaves this path if it or a part has a forward hook or a forward pre-hook; before, hooks
    on parts are not called. A hook that `nn.modules.module.register_module_forward_hook` puts on all modules does not
    keep it off the path: it is called for the layer alone. Overridden methods are not called in any release from 1.13
    to 2.15. A hook on `out_proj` is never called. With autograd, or after
    `torch.backends.mha.set_fastpath_enabled(False)` (since 2.3), methods and other hooks are called.
    """,
    recipe=(with_every_part_called,),
    proof=(
        "test_hooks_in_eval",
        "test_a_hook_on_all_modules_in_eval",
        "test_overridden_methods_in_eval",
        "test_a_hook_on_out_proj_is_never_called",
    ),
)


def test_hooks_in_eval():
    layer, calls = filled(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)).eval(), []
    layer.self_attn.register_forward_hook(lambda *_: calls.append(None))
    layer(arbitrary(1, 3, 4))
    assert len(calls) == 1
    with torch.no_grad():
        layer(arbitrary(1, 3, 4))
    assert len(calls) == (2 if since("2.5") else 1)


def test_a_hook_on_all_modules_in_eval(training):
    layer, called = filled(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True)).train(training), set()
    hook = nn.modules.module.register_module_forward_hook(lambda part, *_: called.add(part))
    try:
        layer(arbitrary(1, 3, 4))
    finally:
        hook.remove()
    assert (layer.self_attn in called) == training
    assert layer in called


def test_overridden_methods_in_eval():
    layer = filled(Recording(4, 2, 4, batch_first=True)).eval()
    with torch.no_grad():
        layer(arbitrary(1, 3, 4))
        assert not hasattr(layer, "seen")
        if since("2.3"):
            with_every_part_called(layer, arbitrary(1, 3, 4))
            assert layer.seen.shape == (1, 3, 4)
    layer(arbitrary(1, 3, 4))
    assert layer.seen.shape == (1, 3, 4)


def test_a_hook_on_out_proj_is_never_called(training):
    attention, x, calls = filled(nn.MultiheadAttention(4, 2, batch_first=True)).train(training), arbitrary(1, 3, 4), []
    attention.out_proj.register_forward_hook(lambda *_: calls.append(None))
    attention(x, x, x)
    with torch.no_grad():
        attention(x, x, x)
    assert not calls
