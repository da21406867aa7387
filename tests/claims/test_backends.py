"""Claims about dropout, backends, several devices, and what is not measured."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from .claim import Claim
from .comparing import arbitrary, filled, internal_warnings, near, needs_sdpa, since

pytestmark = [*internal_warnings]

RESULTS = Path(__file__).parents[2] / "docs" / "results"


class SelfAttention(nn.Module):
    """Attention by F.scaled_dot_product_attention, whose dropout follows train() and eval()."""

    def __init__(self, E: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.projection, self.output = nn.Linear(E, 3 * E), nn.Linear(E, E)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        heads = self.projection(x).unflatten(-1, (3, self.num_heads, -1))  # (N, S, 3, heads, D)
        query, key, value = heads.transpose(1, 3).unbind(2)  # each (N, heads, S, D)
        dropout = self.dropout if self.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, keep, dropout_p=dropout)
        return self.output(context.transpose(1, 2).flatten(2))


SDPA_DROPOUT = Claim(
    id="sdpa-dropout",
    says="`model.eval()` turns dropout off in `F.scaled_dot_product_attention`.",
    verdict="false",
    because="""
    A function has no mode: with `dropout_p=0.5` two equal calls differ, in eval mode too. `nn.MultiheadAttention`
    passes 0 in eval mode; a module of your own must do so itself. (1.13 has no `F.scaled_dot_product_attention`.)
    """,
    recipe=(SelfAttention,),
    proof=("test_a_function_drops_in_eval", "test_a_module_that_asks_for_its_mode"),
)


@needs_sdpa
def test_a_function_drops_in_eval():
    module, x = nn.Identity().eval(), arbitrary(4, 8, 16)
    one, other = (module(F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)) for _ in range(2))
    assert (one != other).any()


@needs_sdpa
def test_a_module_that_asks_for_its_mode(training):
    module, x = SelfAttention(4, 2, 0.5).double().train(training), arbitrary(8, 8, 4)
    assert (module(x) != module(x)).any() == training
    right = nn.MultiheadAttention(4, 2, batch_first=True).double()
    right.load_state_dict(dict(zip(right.state_dict(), module.state_dict().values(), strict=True)))
    module.dropout = 0.0
    near(module(x), right(x, x, x, need_weights=False)[0].detach().numpy())


def with_every_mask(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention by the one backend that takes every mask, on every device (from 2.3 on)."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return F.scaled_dot_product_attention(query, key, value, mask)


YES, NO = "yes", "No available kernel"
# (mask, does MATH take it, does FLASH_ATTENTION on CPU take it)
TAKEN = (
    ("no mask", YES, YES),
    ("`is_causal=True`", YES, YES),
    ("bool `attn_mask`", YES, YES),
    ("float `attn_mask`", YES, YES),
    ("float `attn_mask` that requires a gradient", YES, NO),
    ("`attn_mask` of three dimensions, such as (num_heads, L, S)", YES, NO),
)

BACKENDS_AND_MASKS = Claim(
    id="backends-and-masks",
    says="Every backend of `F.scaled_dot_product_attention` takes every mask.",
    verdict="false",
    because="""
    `sdpa_kernel` (from 2.3 on) restricts the choice. If the chosen backend does not take the call, torch raises "No
    available kernel. Aborting execution." The table is for CPU and a query of four dimensions, without dropout: with
    `dropout_p` FLASH_ATTENTION takes no call, and a query of three dimensions only since 2.14. EFFICIENT_ATTENTION and
    CUDNN_ATTENTION do not exist on CPU ("No viable backend"). On CUDA, torch says that its FLASH_ATTENTION takes no
    `attn_mask` at all, only `is_causal`; that is not tested here. Without `sdpa_kernel` torch takes a backend that can.
    """,
    recipe=(with_every_mask,),
    proof=(
        "test_a_backend_takes_the_masks_of_the_table",
        "test_dropout_and_three_dimensions",
        "test_a_gpu_backend_does_not_exist_on_cpu",
    ),
    table=(("mask", "MATH", "FLASH_ATTENTION on CPU"), *TAKEN),
)

needs_choice = pytest.mark.skipif(not since("2.3"), reason="sdpa_kernel comes with torch 2.3")
ignoring_why_not = pytest.mark.filterwarnings("ignore::UserWarning")  # in which a backend says what it does not take


def _arguments(mask):
    """The keyword arguments that give this mask."""
    keep = torch.ones(3, 3, dtype=torch.bool).tril()
    added = torch.zeros(3, 3, dtype=torch.float64).masked_fill(~keep, -1.5)
    if "three" in mask:
        return {"attn_mask": keep[None]}
    if "attn_mask" not in mask:
        return {"is_causal": "is_causal" in mask}
    return {"attn_mask": keep if "bool" in mask else added.requires_grad_("gradient" in mask)}


@needs_choice
@ignoring_why_not
@pytest.mark.parametrize("mask, math, flash", TAKEN)
def test_a_backend_takes_the_masks_of_the_table(mask, math, flash):
    x, backends = arbitrary(1, 1, 3, 4), torch.nn.attention.SDPBackend
    for backend, is_taken in ((backends.MATH, math), (backends.FLASH_ATTENTION, flash)):
        with torch.nn.attention.sdpa_kernel(backend):
            if is_taken == YES:
                F.scaled_dot_product_attention(x, x, x, **_arguments(mask))
            else:
                with pytest.raises(RuntimeError, match=is_taken):
                    F.scaled_dot_product_attention(x, x, x, **_arguments(mask))
    given = _arguments(mask)
    if "attn_mask" in given:
        near(
            with_every_mask(x, x, x, given["attn_mask"]),
            F.scaled_dot_product_attention(x, x, x, **given).detach().numpy(),
        )


@needs_choice
@ignoring_why_not
def test_dropout_and_three_dimensions():
    x = arbitrary(1, 1, 3, 4)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        with pytest.raises(RuntimeError, match=NO):
            F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
        if since("2.14"):
            F.scaled_dot_product_attention(x[0], x[0], x[0])
        else:
            with pytest.raises(RuntimeError, match=NO):
                F.scaled_dot_product_attention(x[0], x[0], x[0])


@needs_choice
def test_a_gpu_backend_does_not_exist_on_cpu():
    x = arbitrary(1, 1, 3, 4)
    on_gpu = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION)
    with on_gpu, pytest.raises(RuntimeError, match="No viable backend"):
        F.scaled_dot_product_attention(x, x, x)


class WithItsMask(nn.Module):
    """Makes the causal mask (S, S) where it is used, so that nothing splits it between devices."""

    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, src: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        S = src.shape[1]
        hidden = torch.triu(torch.ones(S, S, dtype=torch.bool, device=src.device), diagonal=1)
        return self.encoder(src, mask=hidden, src_key_padding_mask=padding)


DATA_PARALLEL = Claim(
    id="data-parallel",
    says="`nn.DataParallel` takes a `src_mask` (S, S) as any other argument.",
    verdict="false",
    because="""
    `nn.DataParallel` splits each tensor argument along its first axis, which is the batch of `src` and of
    `src_key_padding_mask` (N, S), but an axis of positions in a mask (S, S). With two devices a module gets (S/2, S)
    and raises: "The shape of the 2D attn_mask is torch.Size([3, 6]), but should be (6, 6)", or in eval without autograd
    since 2.0 "shape '[1, 1, 6, 6]' is invalid for input of size 18". A mask (N·num_heads, S, S) splits as it should.
    Make a mask (S, S) inside of the module, as below, or keep it as a buffer. The tests split the arguments as
    `nn.DataParallel` documents it; they do not run it, since that needs two GPUs. `DistributedDataParallel` splits
    nothing.
    """,
    recipe=(WithItsMask,),
    proof=("test_half_a_mask_is_refused", "test_a_mask_that_the_module_makes_is_not_split"),
)


def _encoder():
    return filled(nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0, batch_first=True), 1))


def test_half_a_mask_is_refused(training):
    src, hidden = arbitrary(2, 6, 4), torch.triu(torch.ones(6, 6, dtype=torch.bool), diagonal=1)
    is_native = not training and since("2.0")
    message = (
        r"shape '\[1, 1, 6, 6\]' is invalid for input of size 18"
        if is_native
        else r"\[3, 6\]\), but should be \(6, 6\)"
    )
    for part, its_mask in zip(src.chunk(2), hidden.chunk(2), strict=True):
        with pytest.raises(RuntimeError, match=message):
            _encoder().train(training)(part, mask=its_mask)


def test_a_mask_that_the_module_makes_is_not_split(training):
    model, src = WithItsMask(_encoder()).train(training), arbitrary(2, 6, 4)
    padding = torch.arange(6) >= torch.tensor([[6], [4]])
    parts = [model(*part) for part in zip(src.chunk(2), padding.chunk(2), strict=True)]
    near(torch.cat(parts), model(src, padding).detach().numpy())


def as_an_oracle(scores: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Weights by hand, to compare a device or a runtime with: scores (..., L, S); keep, True keeps, broadcasts to it.

    A fully masked query gets zeros, as the specification wants it.
    """
    weights = torch.softmax(scores.masked_fill(~keep, -math.inf), dim=-1)
    return weights.masked_fill(~keep.any(dim=-1, keepdim=True), 0)


NOT_MEASURED = Claim(
    id="not-measured",
    says="What these pages say holds on MPS, and in TensorRT, too.",
    verdict="false as a conclusion: neither is measured",
    because="""
    There are records for CPU, and for CUDA with torch 2.11 on one GPU, and no others. Not measured: MPS (Apple), ROCm,
    XPU and TPU as releases of their own, runtimes of ONNX other than onnxruntime, TensorRT, statically quantized
    modules, FlexAttention on GPUs, and the packages flash-attn and xformers. Known from reports, and not tested here:
    SDPA on MPS gave NaN for a fully masked query where the CPU gives 0
    ([#156707](https://github.com/pytorch/pytorch/issues/156707)). For a device of your own run the suite with
    [`--device`](adopters.md); for a runtime compare with weights by hand, as below.
    """,
    recipe=(as_an_oracle,),
    proof=("test_records_are_of_cpu_and_cuda", "test_weights_by_hand"),
)


def test_records_are_of_cpu_and_cuda():
    names = {path.stem for path in RESULTS.glob("*.json")}
    assert {name.rpartition("-")[2] for name in names} == {"cpu", "cuda"}
    assert [name for name in names if name.endswith("cuda")] == ["2.11.0-cuda"]


def test_weights_by_hand():
    keep = torch.tensor([[True, True, False], [False, False, False]])
    near(as_an_oracle(torch.zeros(2, 3), keep), [[0.5, 0.5, 0], [0, 0, 0]])
