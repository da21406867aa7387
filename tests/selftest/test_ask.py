"""`python -m tests.tools ask` predicts each release, answers for neighbouring ones, and refuses what is not a call."""

import json
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from packaging.version import Version

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask
from tests.harness.command_line import BAD_INPUT
from tests.harness.deviations import ledger
from tests.harness.deviations.kernels import kernels
from tests.harness.deviations.prediction import CONFORMS, DEVIATES, LACKING, REFUSED, prediction
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.release import installed
from tests.harness.strategies.modules import any_cases
from tests.tools.ask import page
from tests.tools.ask.answers import versions_in
from tests.tools.ask.command import main
from tests.tools.ask.size import smaller
from tests.tools.ask.table import as_json, cells

from .sampling import FEW

RELEASE = installed()
SOME = [AnotherRelease(Version(version)) for version in ("1.13.1", "2.0.0", "2.2.0", "2.4.1", "2.15.0")]


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


@FEW
@given(case=any_cases(SOME[-1]))
def test_fewer_features_change_no_answer(case):
    for release in SOME:
        said = [prediction(its, release) for its in (smaller(case), case)]
        if case.dtype == "float32" and {"native-layer-gelu-tanh"} == {*said[0].ids} ^ {*said[1].ids}:
            continue  # the two formulas differ so little that rounding hides it in one of both
        assert said[0] == said[1], release.version


# ---- answers -------------------------------------------------------------------------------------------------------


def asked(*arguments, capsys):
    """(exit code, what it prints as JSON)"""
    code = main([*arguments, "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


TITLES = {entry.id: entry.title for entry in ledger.ENTRIES}
ENCODER = "nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), 2)"
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--torch", "1.13"), "1.13  cannot be called so: it lacks the function, or one of the arguments"),
        (("--torch", "2.2", "--dtype", "float16"), "2.2  not measured in float16"),
    ],
)
def test_a_call_that_was_not_measured_is_not_said_to_be_impossible(options, told, capsys):
    question = ("F.scaled_dot_product_attention(q, k, v, attn_mask=m)", *EVERY_KEY, *options)
    assert main(question) == 0
    assert f"\n{told}\n" in capsys.readouterr().out
    assert main((*question, "--format", "json")) == 0
    (answer,) = json.loads(capsys.readouterr().out)["ranges"]
    assert (answer["status"], answer["is_unknown"]) == (LACKING, "not measured" in told)


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


def test_a_causal_hint_is_explained_where_there_are_more_keys_than_queries(capsys):
    call = ("F.scaled_dot_product_attention(q, k, v, is_causal=True)", "--length", "1", "--torch", "2.15")
    _, told = asked(*call, "--memory-length", "6", capsys=capsys)
    assert "is_causal=True" in told["call"]
    assert any("causal_lower_right" in note for note in told["notes"])
    _, told = asked(*call, capsys=capsys)
    assert not any("causal_lower_right" in note for note in told["notes"])


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
    return as_json(cells(versions), versions)


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
    ((MHA, "--mask", "attn_mask=int:causal"), "'int' is unknown or given twice. A mask is one of"),
    ((MHA, "--mask", "attn_mask"), "ARGUMENT=KIND"),
    (("nn.Linear(3, 4)(x)",), "no call of an attention"),
    (("nn.MultiheadAttention(64",), "not Python"),
    (("F.scaled_dot_product_attention(q, k)",), "scaled_dot_product_attention: value is missing in the call"),
    (("nn.TransformerDecoderLayer(64, 4)(x)",), "TransformerDecoderLayer: memory is missing in the call"),
    (("nn.MultiheadAttention(64, 4)(x)",), "MultiheadAttention: key, value are missing in the call"),
    (("nn.MultiheadAttention(64, 5)",), "embed_dim=64 is not divisible by num_heads=5"),
    (("nn.MultiheadAttention(64, 0)",), "num_heads=0: less than 1"),
    ((f"torch.compile({MHA})(x, x, x)", "--mode", "exported"), "two ways at once, compiled_inductor and exported"),
    (("m = nn.MultiheadAttention(8, 2)\nm.get_parameter(name).requires_grad_(False)\nm(x, x, x)",), "not told by"),
    (("nosuch.py",), "nosuch.py: No such file"),
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
    assert page.main(["--check"]) == 0, f"run {page.COMMAND}"


def test_a_stale_answer_is_noticed(tmp_path, monkeypatch):
    stale = tmp_path / "ask.md"
    stale.write_text(page.PAGE.read_text(encoding="utf-8").replace("nested-padding-zero", "nested"))
    monkeypatch.setattr(page, "PAGE", stale)
    assert page.main(["--check"]) == 1
    assert page.main([]) == 0
    assert "(nested-padding-zero)" in stale.read_text()


def test_the_page_names_each_field_of_the_json(capsys):
    _, told = asked("F.scaled_dot_product_attention(q, k, v, attn_mask=m)", *EVERY_KEY, capsys=capsys)
    ranges = told["ranges"]
    parts = [told, *ranges, *(part for its in ranges for part in (*its["entries"], *its["remedies"]))]
    text = page.PAGE.read_text(encoding="utf-8").partition("## JSON")[2]
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
