"""`python -m tests.tools ask` reads calls as people write them: what a script types is read back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.deviations.prediction import prediction
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.release import installed
from tests.harness.modes.mode import FLEX
from tests.harness.modes.modes import BY_ID, MODES
from tests.harness.strategies.basics import mixed
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.contents import nonfinite_cases
from tests.harness.strategies.modules import any_cases
from tests.tools.ask.case import Situation, case_of
from tests.tools.ask.command import main
from tests.tools.ask.masks import kind_of_mask
from tests.tools.ask.size import is_computable
from tests.tools.ask.text import read
from tests.tools.case_script import call_lines

from .sampling import FEW

RELEASE = installed()
SOME = [AnotherRelease(Version(version)) for version in ("1.13.1", "2.0.0", "2.2.0", "2.4.1", "2.15.0")]


def assert_read_back(case):
    """The text of the case as one types it, read, gives a call of which each release says the same."""
    case = replace(case, garbage=False)  # of content alone
    if case.module in ("TransformerEncoder", "TransformerEncoderLayer"):
        case = replace(case, T=Transformer.T)  # content depends on it, and the call does not
    # what moves forwards stands in no line of the call
    is_forward = BY_ID[case.mode].is_forward
    back = case_of(read(_text(case)), Situation(autograd=case.autograd) if is_forward else None)
    if BY_ID[case.mode].is_second_order:  # nor does a second derivative
        back = replace(back, mode=case.mode)
    # otherwise the seed of `back` chooses what the text says is trained, or is not finite
    if not (case.nonfinite or (case.autograd in ("one_parameter", "one_input") and not is_forward)):
        back = replace(back, seed=case.seed)  # the text has no parameters
    for release in SOME:
        assert prediction(back, release) == prediction(case, release), release.version


def _text(case):
    return "\n".join(call_lines(replace(case, garbage=False)))


RARE = [
    Transformer(
        dtype="float32", seed=23676, autograd="mask", layout="transposed", S=8, num_heads=6, activation="gelu_tanh"
    ),
    Transformer(
        autograd="grad",
        module="TransformerDecoderLayer",
        head_dim=4,
        tgt_mask=Mask("bool", "causal"),
        tgt_is_causal=True,
    ),
    ScaledDotProduct(
        dtype="float32",
        seed=52351,
        autograd="inference_mode",
        nonfinite="nan",
        batch=(2, 1),
        L=2,
        S=2,
        D=0,
        attn_mask=Mask(pattern="nearly_causal"),
        broadcast="1-D",
        scale=0.0,
    ),
    ScaledDotProduct(
        autograd="one_input",
        layout="sliced",
        mode="func_jvp",
        batch=(2, 0),
        L=3,
        attn_mask=Mask(layout="expanded"),
        mask_batch=(2, 0),
        broadcast="L",
    ),
]


@pytest.mark.parametrize("case", RARE)
def test_a_rare_call_is_read_back(case):
    assert_read_back(case)


@FEW
@given(case=mixed(*[any_cases(SOME[-1])] * 4, nonfinite_cases(SOME[-1])))
def test_a_call_as_it_is_typed_is_read_back(case):
    assume(len(_text(case)) < 1_000_000 and is_computable(case))
    assert_read_back(case)


@settings(FEW, max_examples=150)
@given(data=st.data())
def test_a_call_in_any_mode_is_read_back(data):
    read = [mode for mode in MODES if mode.is_in() and mode.id != "eager" and FLEX not in mode.calls]
    mode = data.draw(st.sampled_from(read))  # no text of flex_attention is read
    case = data.draw(cases_in(RELEASE, mode))
    assume(len(_text(case)) < 1_000_000 and is_computable(case))
    # tangents are no part of the text of a call, and the parameters of the function are plain tensors
    assume(not (mode.is_forward and case.functional and case.autograd == "one_parameter"))
    assert_read_back(case)


X = "x = torch.randn(2, 5, 64)\n"
ENCODER = "nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), 2)"
CAUSAL = (
    "torch.triu(torch.ones(5, 5), diagonal=1).bool()",
    "torch.ones(5, 5, dtype=torch.bool).triu(1)",
    "~torch.tril(torch.ones((5, 5), dtype=torch.bool))",
    "torch.arange(5)[None, :] > torch.arange(5)[:, None]",
    "nn.Transformer.generate_square_subsequent_mask(5)",
    "torch.full((5, 5), float('-inf')).triu(diagonal=1)",
    "torch.zeros(5, 5).masked_fill(torch.triu(torch.ones(5, 5), 1) == 1, -torch.inf)",
    "(torch.triu(torch.ones(5, 5)) == 1).transpose(0, 1).logical_not()",
)


@pytest.mark.parametrize("text", CAUSAL)
def test_a_causal_mask_is_known_as_it_is_written(text):
    (mask,) = masks_of(case_of(read(f"{X}mask = {text}\n{ENCODER}(x, mask=mask)"))).values()
    assert mask.pattern == "causal"
    assert np.array_equal(mask.array((5, 5), "float32", []) != 0, np.triu(np.ones((5, 5)), 1) != 0)


READ = [
    ("nn.MultiheadAttention(64, 4)", MultiHead, {"attention": "self", "L": 5, "training": True, "E": 64}),
    (f"{X}nn.MultiheadAttention(64, 4)(x, x, x)", MultiHead, {"attention": "self", "N": 5, "L": 2}),
    (
        "nn.MultiheadAttention(8, 2)(q, k, k, need_weights=False)",
        MultiHead,
        {"attention": "cross", "need_weights": False},
    ),
    (f"{ENCODER}.eval()", Transformer, {"training": False, "num_layers": 2, "dropout": 0.1, "dtype": "float32"}),
    (f"with torch.no_grad():\n    {ENCODER}(x)", Transformer, {"autograd": "no_grad"}),
    (f"m = {ENCODER}\n@torch.no_grad()\ndef f(x):\n    return m(x)", Transformer, {"autograd": "no_grad"}),
    (f"model = {ENCODER}\nmodel.requires_grad_(False)\nmodel(x)", Transformer, {"autograd": "frozen"}),
    (f"torch.compile({ENCODER}, fullgraph=True)(x)", Transformer, {"mode": "compiled_fullgraph"}),
    (f"torch.compile({ENCODER}, fullgraph=True)", Transformer, {"mode": "compiled_fullgraph"}),
    (f"model = torch.compile({ENCODER})\nmodel(x)", Transformer, {"mode": "compiled_inductor"}),
    (f"with torch.autocast('cpu', dtype=torch.bfloat16):\n    {ENCODER}(x)", Transformer, {"mode": "autocast"}),
    (f"torch.backends.mha.set_fastpath_enabled(False)\n{ENCODER}(x)", Transformer, {"fast_path": False}),
    (f"model = {ENCODER}.double()", Transformer, {"dtype": "float64"}),
    (
        "m = nn.Transformer()\nmask = m.generate_square_subsequent_mask(T).to(device)\nm(src, tgt, tgt_mask=mask)",
        Transformer,
        {"tgt_mask": Mask("float", "causal")},
    ),
    ("F.scaled_dot_product_attention(q, k, v)", ScaledDotProduct, {"autograd": "inputs"}),
    (f"{X}F.scaled_dot_product_attention(x, x, x)", ScaledDotProduct, {"autograd": "frozen"}),
    ("nn.Transformer()", Transformer, {"E": 512, "num_layers": 6, "dim_feedforward": 2048}),
    ("F.scaled_dot_product_attention(q, k, v, is_causal=True)", ScaledDotProduct, {"is_causal": True, "L": 5, "S": 5}),
    (
        "class Model:\n    def __init__(self):\n        self.attn = nn.MultiheadAttention(embed_dim=16, num_heads=2)\n"
        "    def forward(self, x):\n        return self.attn(x, x, x, need_weights=False)[0]",
        MultiHead,
        {"E": 16, "need_weights": False, "attention": "self"},
    ),
    (
        "B, L = 3, 6\nq, k, v = (torch.rand(B, 2, L, 4), torch.rand(B, 2, 9, 4), torch.rand(B, 2, 9, 4))\n"
        "with torch.nn.attention.sdpa_kernel(SDPBackend.MATH):\n    F.scaled_dot_product_attention(q, k, v)",
        ScaledDotProduct,
        {"batch": (3, 2), "L": 6, "S": 9, "mode": "sdpa_math"},
    ),
]


@pytest.mark.parametrize(("text", "kind", "fields"), READ, ids=[text[-50:] for text, *_ in READ])
def test_what_people_write_is_read(text, kind, fields):
    case = case_of(read(text))
    assert type(case) is kind
    assert {name: getattr(case, name) for name in fields} == fields


MODEL = """
class Layer(nn.Module):
    def __init__(self, dim, heads=2, dropout=0.0):
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)

    def forward(self, x, padding=None):
        causal = torch.triu(torch.ones(x.size(1), x.size(1)), 1).bool()
        return x + self.attn(x, x, x, attn_mask=causal, key_padding_mask=padding, need_weights=False)[0]

class Model(nn.Module):
    def __init__(self, config, depth=4):
        super().__init__()
        self.layers = nn.ModuleList([Layer(config.width, config.width // 8) for _ in range(depth)])

    def forward(self, x, lengths):
        padding = torch.arange(x.size(1))[None, :] >= lengths[:, None]
        for layer in self.layers:
            x = layer(x, padding)
        return x

class Config:
    width: int = 64
"""
CALL_OF_MODEL = """
model = Model(Config(width=32)).eval()
with torch.no_grad():
    model(torch.randn(3, 5, 32), torch.tensor([5, 0, 3]))
"""


def test_a_model_of_classes_is_read_as_it_is_called():
    case = case_of(read(MODEL + CALL_OF_MODEL))
    assert (case.E, case.num_heads, case.N, case.L, case.training) == (32, 4, 3, 5, False)
    assert (case.autograd, case.attn_mask.pattern, case.need_weights) == ("no_grad", "causal", False)
    padding = case.key_padding_mask.array((3, 5), "float32", [], is_padding=True)
    assert padding.sum(1).tolist() == [0, 5, 2]


def test_a_model_that_is_not_called_is_read_as_it_is_made():
    asked = read(f"{MODEL}\nmodel = torch.compile(Model(Config()), fullgraph=True)", length=6)
    case = case_of(asked, Situation(masks={"key_padding_mask": "left"}))
    assert (case.E, case.num_heads, case.L, case.training) == (64, 8, 6, True)
    assert case.key_padding_mask == Mask("bool", "left")


NAMED = [
    ("bool:causal", "attn_mask", Mask("bool", "causal")),
    ("causal", "attn_mask", Mask("bool", "causal")),
    ("causal:-1e9", "attn_mask", Mask("float", "causal", "-1e9")),
    ("float:causal:-inf", "attn_mask", Mask("float", "causal")),
    ("alibi", "attn_mask", Mask("float", "causal", "bias")),
    ("generate_square_subsequent_mask", "tgt_mask", Mask("float", "causal")),
    ("padding", "key_padding_mask", Mask("bool", "right")),
    ("float64:causal", "attn_mask", Mask("float", "causal", dtype="float64")),
    ("bool:causal:per_head:transposed", "attn_mask", Mask("bool", "causal", per_head=True, layout="transposed")),
]


@pytest.mark.parametrize(("text", "argument", "mask"), NAMED, ids=[text for text, *_ in NAMED])
def test_a_mask_is_named_as_people_call_it(text, argument, mask):
    assert kind_of_mask(text, argument) == mask


def test_padding_stands_for_all_padding_masks():
    case = case_of(read("nn.Transformer()"), Situation(masks={"padding": "left", "tgt_mask": "causal"}))
    assert {name: mask.pattern for name, mask in masks_of(case).items()} == {
        "tgt_mask": "causal",
        "src_key_padding_mask": "left",
        "tgt_key_padding_mask": "left",
        "memory_key_padding_mask": "left",
    }


def test_a_mask_may_be_left_out():
    situation = Situation(masks={"attn_mask": "None"})
    assert (
        case_of(read("nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x, attn_mask=m)"), situation).attn_mask
        is None
    )


def test_a_bool_mask_keeps_in_scaled_dot_product_attention_and_hides_in_modules():
    ones = "torch.ones(5, 5, dtype=torch.bool)"
    for text, pattern in (
        (f"F.scaled_dot_product_attention(q, k, v, attn_mask={ones})", "none"),
        (f"nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x, attn_mask={ones})", "all"),
    ):
        assert case_of(read(text)).attn_mask.pattern == pattern


def test_nothing_of_the_text_is_run(tmp_path):
    path = tmp_path / "proof"
    text = f"__import__('pathlib').Path({str(path)!r}).touch()\nnn.MultiheadAttention(8, 2)"
    case_of(read(text))
    assert not path.exists()


TRIL = "m = torch.tril(torch.ones(4, 4)).bool()\nx = torch.randn(2, 4, 8)\n"


@pytest.mark.parametrize(
    "text, named",
    [
        (f"{TRIL}nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x, attn_mask=m)", "attn_mask"),
        (TRIL + "F.scaled_dot_product_attention(x, x, x, ~m)", "attn_mask"),
        ("k = torch.arange(5)[None] < torch.tensor([[3], [5]])\n"
         "nn.TransformerEncoderLayer(8, 2)(x, src_key_padding_mask=k)", "src_key_padding_mask"),
        (TRIL + "nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x, attn_mask=~m)", None),
        (TRIL + "F.scaled_dot_product_attention(x, x, x, m)", None),
    ],
)  # fmt: skip
def test_a_mask_that_looks_inverted_is_named(capsys, text, named):
    assert main([text, "--torch", "2.15"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (f"{named} looks inverted" in said) == bool(named)
    assert ("looks inverted" in said) == bool(named)
