"""`python -m tests.tools ask` reads calls as people write them, and answers for each release."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from packaging.version import Version

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer, masks_of
from tests.harness.cases.masks import Mask
from tests.harness.command_line import BAD_INPUT
from tests.harness.deviations import ledger
from tests.harness.deviations.kernels import kernels
from tests.harness.deviations.prediction import CONFORMS, DEVIATES, LACKING, REFUSED, prediction
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.release import installed
from tests.harness.modes.modes import BY_ID, MODES
from tests.harness.strategies.basics import mixed
from tests.harness.strategies.by_mode import cases_in
from tests.harness.strategies.contents import nonfinite_cases
from tests.harness.strategies.modules import any_cases
from tests.tools import asked_page, asked_table
from tests.tools.answers import versions_in
from tests.tools.ask import main
from tests.tools.asked_case import Situation, case_of
from tests.tools.asked_masks import kind_of_mask
from tests.tools.asked_size import smaller
from tests.tools.asked_text import read
from tests.tools.case_script import call_lines

RELEASE = installed()
SOME = [AnotherRelease(Version(version)) for version in ("1.13.1", "2.0.0", "2.2.0", "2.4.1", "2.15.0")]
FEW = settings(
    max_examples=100,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


# ---- predictions ----------------------------------------------------------------------------------------------------


def test_a_prediction_may_be_any_of_four():
    """By this the tests above can fail."""
    empty = MultiHead(attn_mask=Mask("bool", "all"))
    found = {
        CONFORMS: prediction(replace(empty, need_weights=False), SOME[-1]),
        DEVIATES: prediction(empty, SOME[-1]),
        REFUSED: prediction(ScaledDotProduct(mode="sdpa_flash", D=1, Dv=2), SOME[-1]),
        LACKING: prediction(ScaledDotProduct(), SOME[0]),
    }
    assert {status: its.status for status, its in found.items()} == {status: status for status in found}
    assert found[DEVIATES].ids == ("empty-row-nan-explicit",)


def test_an_entry_that_applies_and_does_not_show_is_not_said():
    """Of one key the weight is 1, whatever is added to its score."""
    biased = Transformer(S=2, num_heads=2, head_dim=2, src_mask=Mask("float", "none"))
    assert not prediction(biased, SOME[-1]).ids
    assert prediction(replace(biased, src_mask=Mask("float", "one", "finite")), SOME[-1]).ids


@pytest.mark.parametrize(
    ("version", "kernel"),
    [("2.0.0", "sdpa_math"), ("2.2.0", "sdpa_math"), ("2.3.0", "sdpa_flash"), ("2.15.0", "sdpa_flash")],
)
def test_the_kernel_of_a_masked_call_is_that_of_the_release(version, kernel):
    case = ScaledDotProduct(attn_mask=Mask())
    assert kernels(case, AnotherRelease(Version(version))) == (kernel,)
    assert kernels(replace(case, autograd="mask", attn_mask=Mask("float")), AnotherRelease(Version(version)))[0] == (
        "sdpa_math"
    )


# ---- what it reads -------------------------------------------------------------------------------------------------


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
    assume(len(_text(case)) < 1_000_000)
    assert_read_back(case)


@settings(FEW, max_examples=150)
@given(data=st.data())
def test_a_call_in_any_mode_is_read_back(data):
    mode = data.draw(st.sampled_from([mode for mode in MODES if mode.is_in() and mode.id != "eager"]))
    case = data.draw(cases_in(RELEASE, mode))
    assume(len(_text(case)) < 1_000_000)
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


def test_a_causal_hint_is_explained_where_there_are_more_keys_than_queries(capsys):
    call = ("F.scaled_dot_product_attention(q, k, v, is_causal=True)", "--length", "1", "--torch", "2.15")
    _, told = asked(*call, "--memory-length", "6", capsys=capsys)
    assert "is_causal=True" in told["call"]
    assert any("causal_lower_right" in note for note in told["notes"])
    _, told = asked(*call, capsys=capsys)
    assert not any("causal_lower_right" in note for note in told["notes"])


def test_a_mask_may_be_left_out():
    situation = Situation(masks={"attn_mask": "None"})
    assert case_of(read("nn.MultiheadAttention(8, 2)(x, x, x, attn_mask=m)"), situation).attn_mask is None


def test_a_bool_mask_keeps_in_scaled_dot_product_attention_and_hides_in_modules():
    ones = "torch.ones(5, 5, dtype=torch.bool)"
    for text, pattern in (
        (f"F.scaled_dot_product_attention(q, k, v, attn_mask={ones})", "none"),
        (f"nn.MultiheadAttention(8, 2)(x, x, x, attn_mask={ones})", "all"),
    ):
        assert case_of(read(text)).attn_mask.pattern == pattern


def test_nothing_of_the_text_is_run(tmp_path):
    path = tmp_path / "proof"
    text = f"__import__('pathlib').Path({str(path)!r}).touch()\nnn.MultiheadAttention(8, 2)"
    case_of(read(text))
    assert not path.exists()


@FEW
@given(case=any_cases(SOME[-1]))
def test_fewer_features_change_no_answer(case):
    for release in SOME:
        assert prediction(smaller(case), release) == prediction(case, release), release.version


# ---- answers -------------------------------------------------------------------------------------------------------


def asked(*arguments, capsys):
    """(exit code, what it prints as JSON)"""
    code = main([*arguments, "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


TITLES = {entry.id: entry.title for entry in ledger.ENTRIES}
EVERY_KEY = ("--mask", "attn_mask=bool:all")
ANSWERS = [
    (
        "F.scaled_dot_product_attention(q, k, v, attn_mask=m)",
        "--mask attn_mask=bool:all",
        [("1.13", None), ("2.0 to 2.4", ["empty-row-nan-sdpa"]), ("2.5 to 2.15", [])],
    ),
    (
        "nn.MultiheadAttention(8, 2)",
        "--mask attn_mask=float:causal --torch 2.0:2.1",
        [("2.0 to 2.1", [])],
    ),
    (
        f"torch.compile({ENCODER}, fullgraph=True)(x, src_key_padding_mask=...)",
        "--eval --no-grad --mask src_key_padding_mask=bool:none --torch 2.9:2.10",
        [("2.9", ["compiled-whole-padding-raises"]), ("2.10", [])],
    ),
    (
        "nn.MultiheadAttention(8, 2)(q, q, q, is_causal=True, need_weights=False)",
        "--train --mask attn_mask=float:causal --autograd grad --torch 2.0",
        [("2.0.0", ["hint-excludes-mask"]), ("2.0.1", ["causal-mask-gradient"])],
    ),
    (
        f"{ENCODER}(x, src_key_padding_mask=m)",
        "--eval --no-grad --mask src_key_padding_mask=bool:trailing --torch 2.4",
        [("2.4", ["nested-padding-zero", "nested-prototype-warning"])],
    ),
]


@pytest.mark.parametrize(("call", "options", "expected"), ANSWERS, ids=[call[:40] for call, *_ in ANSWERS])
def test_neighbouring_releases_are_one_answer(call, options, expected, capsys):
    code, told = asked(call, *options.split(), capsys=capsys)
    found = [
        (its["releases"], None if its["status"] == LACKING else [entry["id"] for entry in its["entries"]])
        for its in told["ranges"]
    ]
    assert (code, found) == (0, expected)


def test_the_text_begins_with_the_symptom_and_has_a_remedy(capsys):
    main(["F.scaled_dot_product_attention(q, k, v, attn_mask=m)", *EVERY_KEY, "--torch", "2.1:2.15"])
    text = capsys.readouterr().out
    assert f"2.1 to 2.4   output is all NaN: {TITLES['empty-row-nan-sdpa'][:40]}" in text
    assert "remedy: Use PyTorch 2.5, or a later release." in text
    assert "2.5 to 2.15  as specified" in text
    assert "CUDA is not asked" in text


@pytest.mark.parametrize("kernel", ["math", "flash"])
def test_a_kernel_that_is_named_serves(kernel, capsys):
    call = "F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=-1.0)"
    _, told = asked(call, "--kernel", kernel, "--torch", "2.15", capsys=capsys)
    assert bool(told["ranges"][0]["entries"]) == (kernel == "flash")


@pytest.mark.parametrize(
    ("text", "first", "last", "has"),
    [
        ("2.1:2.15", "2.1.0", "2.15.0", "2.4.1"),
        ("2.4", "2.4.0", "2.4.1", "2.4.1"),
        ("2.4.1", "2.4.1", "2.4.1", "2.4.1"),
        (":2.0", "1.13.0", "2.0.1", "2.0.1"),
        ("2.14:", "2.14.0", "2.15.0", "2.15.0"),
        ("2.2.2", "2.2.2", "2.2.2", "2.2.2"),
        ("2.1,2.9", "2.1.0", "2.9.0", "2.9.0"),
    ],
)
def test_a_range_of_releases_has_the_patch_releases_that_differ(text, first, last, has):
    found = [str(version) for version in versions_in(text)]
    assert (found[0], found[-1]) == (first, last)
    assert has in found


# ---- the table -----------------------------------------------------------------------------------------------------

IN_THE_TABLE = [
    ("TransformerEncoder", "causal-bias", "train", []),
    ("TransformerEncoder", "causal-bias", "eval-no-grad", ["native-layer-float-mask"]),
    ("TransformerEncoder", "bool-padding", "eval-no-grad", ["nested-padding-zero", "nested-prototype-warning"]),
    ("MultiheadAttention", "all-padding", "eval", ["empty-row-nan-explicit"]),
    ("MultiheadAttention, need_weights=False", "all-padding", "eval", []),
    ("scaled_dot_product_attention", "all-padding", "train", []),
]


@pytest.fixture(scope="module")
def table():
    versions = versions_in("2.4,2.15")
    return asked_table.as_json(asked_table.cells(versions), versions)


@pytest.mark.parametrize(("module", "mask", "setting", "expected"), IN_THE_TABLE)
def test_the_table_has_the_entries_that_apply(module, mask, setting, expected, table):
    (cell,) = (its for its in table["cells"] if (its["module"], its["mask"], its["setting"]) == (module, mask, setting))
    assert [entry["id"] for entry in cell["ranges"][-1]["entries"]] == expected


def test_each_cell_of_the_table_says_something_of_each_version_once(table):
    for cell in table["cells"]:
        assert [version for its in cell["ranges"] for version in its["versions"]] == table["versions"]
        assert all(bool(its["entries"]) == (its["status"] == DEVIATES) for its in cell["ranges"]), cell


def test_each_module_of_the_table_has_each_kind_of_mask_that_it_takes(table):
    found = {(cell["module"], cell["mask"]) for cell in table["cells"]}
    lacking = {(module, mask) for module in table["modules"] for mask in table["masks"]} - found
    assert {mask for module, mask in lacking if module != "scaled_dot_product_attention"} == {
        "memory-bool",
        "memory-float",
    }


# ---- bad input -----------------------------------------------------------------------------------------------------

MHA = "nn.MultiheadAttention(64, 4)"
BAD = [
    (("nn.MultiheadAttention(64, 5)",), "num_heads=5"),
    ((f"{MHA}(q, k, v, src_mask=m)",), "takes no src_mask; it takes query, key"),
    ((MHA, "--mask", "src_mask=bool:causal"), "takes no mask src_mask; it takes key_padding_mask, attn_mask"),
    ((MHA, "--mask", "attn_mask=bool:cuasal"), "'cuasal'"),
    ((MHA, "--mask", "attn_mask=int:causal"), "no such 'int' of a bool mask; form: bool float; pattern: none"),
    ((MHA, "--mask", "attn_mask"), "ARGUMENT=KIND"),
    (("nn.Linear(3, 4)(x)",), "no call of an attention"),
    (("nn.MultiheadAttention(64",), "not Python"),
    ((MHA, "--torch", "3.0"), "3.0: not modelled; 1.13, 2.0"),
    ((MHA, "--torch", "2.4:2.1"), "comes after"),
    ((MHA, "--torch", "new"), "no version"),
    (("F.scaled_dot_product_attention(q, k, v, attn_mask=m)",), "--mask attn_mask=bool:causal"),
    (("F.scaled_dot_product_attention(q, k, v, attn_mask=m, is_causal=True)", *EVERY_KEY), "not both"),
    ((MHA, "--mode", "jit"), "not one of eager"),
    ((MHA, "--kernel", "cudnn"), "not one of math, flash"),
    ((MHA, "--dtype", "int8"), "not one of"),
    ((MHA, "--autograd", "some"), "not one of grad"),
    ((MHA, "--batch", "-1"), "--batch -1"),
    ((f"{MHA}.cuda()",), "CUDA is not asked"),
    (("nn.MultiheadAttention(E, 4)",), "embed_dim=E"),
    ((f"{MHA}(*arguments)",), "write the arguments out"),
    ((f"{MHA}(x, x, x, attn_mask=torch.ones(3, 4, 5, 6))",), "has shape"),
    ((f"{MHA}(x, x, x, attn_mask=torch.ones(100000, 100000))",), "smaller sizes"),
    ((f"{MHA}(x, x, x, attn_mask=torch.ones(2, 3) + torch.ones(4))",), "must match the size"),
    ((f"{MHA}(x, x, x, attn_mask=torch.eye(5).long())",), "int64"),
    ((f"{MHA}(x, x, x, is_causal=True)",), "hint"),
    ((f"x = torch.randn(2, 5, 32)\n{MHA}(x, x, x)",), "32 features"),
    (("nn.TransformerEncoder(layer, 2)",), "nn.TransformerEncoderLayer(...) is wanted"),
    (("nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 0)",), "num_layers=0"),
    (("nn.Transformer(num_encoder_layers=1)",), "num_decoder_layers=6"),
    (("MultiHead(L=-1)",), "less than 0"),
    (("MultiHead()", "--eval"), "no option but"),
    (("missing.py",), "missing.py"),
    ((), "CALL is missing"),
    (("--table", MHA), "--table takes no CALL"),
    (("--table", "--mode", "traced"), "--table takes no --mode"),
    (("--table", "--dtype", "int8"), "--dtype int8: not one of bfloat16"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_is_one_line_that_names_it(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    told = capsys.readouterr().err
    assert ended.value.code == BAD_INPUT
    assert words in told
    assert told.count("\n") == 1


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_answers_on_the_page_are_those_of_today():
    assert asked_page.main(["--check"]) == 0, f"run {asked_page.COMMAND}"


def test_a_stale_answer_is_noticed(tmp_path, monkeypatch):
    stale = tmp_path / "ask.md"
    stale.write_text(asked_page.PAGE.read_text(encoding="utf-8").replace("nested-padding-zero", "nested"))
    monkeypatch.setattr(asked_page, "PAGE", stale)
    assert asked_page.main(["--check"]) == 1
    assert asked_page.main([]) == 0
    assert "(nested-padding-zero)" in stale.read_text()


def test_the_page_names_each_field_of_the_json(capsys):
    _, told = asked("F.scaled_dot_product_attention(q, k, v, attn_mask=m)", *EVERY_KEY, capsys=capsys)
    ranges = told["ranges"]
    parts = [told, *ranges, *(part for its in ranges for part in (*its["entries"], *its["remedies"]))]
    text = asked_page.PAGE.read_text(encoding="utf-8").partition("## JSON")[2]
    assert {name for part in parts for name in part} <= set(re.findall(r"`(\w+)`", text))


def test_a_file_is_read(tmp_path, capsys):
    path = tmp_path / "model.py"
    path.write_text(f"import torch\nfrom torch import nn\nmodel = {ENCODER}\nmodel.eval()\n")
    assert main([str(path), "--torch", "2.15"]) == 0
    assert "TransformerEncoder, in eval mode" in capsys.readouterr().out


def test_a_call_of_a_case_is_what_its_seed_says(capsys):
    _, told = asked("ScaledDotProduct(attn_mask=Mask(form='bool', pattern='all'))", "--torch", "2.4", capsys=capsys)
    assert [its["id"] for its in told["ranges"][0]["entries"]] == ["empty-row-nan-sdpa"]
    assert told["torch"] == torch.__version__
