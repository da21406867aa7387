"""The text of a case is parsed, never evaluated; any other text is refused with a message of one line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.cases.case import MultiHead, ScaledDotProduct, Transformer
from tests.harness.cases.masks import Mask, Merged
from tests.harness.cases.spelling import shortest_repr
from tests.harness.command_line import BAD_INPUT, HARNESS_ERROR, BadInput
from tests.harness.modes.parsing import parse
from tests.tools import again, reproduce

ROOT = Path(__file__).parents[2]
SUBCLASSES = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['touch', '{}'])"
CASES = (
    MultiHead(dropout=0.5, kdim=3, attn_mask=Mask("float", "causal", layout="stepped"), bias=False),
    MultiHead(attn_mask=Merged("float", per_head=True, attn_mask=Mask(), key_padding_mask=Mask(pattern="left"))),
    ScaledDotProduct(batch=(2, 3), scale=-0.5, kv_heads=1, attn_mask=Mask(), mask_batch=(1,)),
    Transformer(module="Transformer", tgt_key_padding_mask=Mask(pattern="trailing"), src_is_causal=True),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.module)
def test_a_case_is_read_from_its_text(case):
    assert parse(shortest_repr(case)) == parse(repr(case)) == case


@pytest.mark.parametrize("text", [SUBCLASSES, "MultiHead(N={})", "__import__('os').system('touch {}')"])
def test_nothing_in_a_text_is_run(text, tmp_path):
    made = tmp_path / "made"
    with pytest.raises(BadInput):
        parse(text.format(made if "touch" in text else SUBCLASSES.format(made)))
    assert not made.exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not a case"),
        ("3", "not a case"),
        ("Mask()", "not a case"),
        ("MultiHead(" * 200, "not a case"),
        ("-" * 9_000 + "1", "not a case"),
        ("(" * 100_000, "100,000 characters"),
        ("MultiHead(\0)", "not a case"),
        ("Multihead()", "Multihead: not one of ScaledDotProduct, MultiHead"),
        ("MultiHead(3)", "takes named fields"),
        ("MultiHead(**{})", "takes named fields"),
        ("MultiHead(heads=3)", "has no field heads; it has dtype, seed"),
        ("MultiHead(mode='copied')", "mode='copied': not one of 'eager', 'deepcopy'"),
        ("MultiHead(mode=None)", "mode=None: not one of 'eager'"),
        ("MultiHead(dtype='float8')", "dtype='float8': not one of"),
        ("Transformer(module='Encoder')", "module='Encoder': not one of 'TransformerEncoderLayer'"),
        ("MultiHead(N=-1)", "N=-1: less than 0"),
        ("MultiHead(N=1.5)", "N=1.5: not of type int"),
        ("MultiHead(N=True)", "N=True: not of type int"),
        ("MultiHead(bias=1)", "bias=1: not of type bool"),
        ("MultiHead(num_heads=0)", "num_heads=0: less than 1"),
        ("ScaledDotProduct(batch=2)", "batch=2: not of type tuple"),
        ("ScaledDotProduct(batch=(-2,))", "batch=(-2,): less than 0"),
        ("ScaledDotProduct(D=0)", "D=0: needs a scale, since the default scale is 1 / sqrt(D)"),
        ("MultiHead(attn_mask='causal')", "attn_mask='causal': not of type"),
        ("MultiHead(attn_mask=Mask(pattern='left'))", "attn_mask: pattern='left': not one of 'all'"),
        ("MultiHead(key_padding_mask=Mask(pattern='causal'))", "key_padding_mask: pattern='causal': not one of"),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_wrong_is_told_in_one_line(text, words):
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("main", [again.main, reproduce.main], ids=["again", "reproduce"])
def test_a_command_that_is_given_no_case_ends_as_bad_input(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["MultiHead(mode='copied')"])
    assert ended.value.code == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "mode='copied': not one of 'eager'" in line


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["MultiHead()"], 0),
        (["MultiHead(attn_mask=Mask(pattern='left'))"], BAD_INPUT),
        (["MultiHead()", "toaster"], BAD_INPUT),
        (["MultiHead(N=0)", "--after", "MultiHead(N=-1)"], BAD_INPUT),
        (["MultiHead(mode='sdpa_cudnn')"], BAD_INPUT),  # a CPU has no cuDNN
    ],
    ids=str,
)
def test_the_exit_code_of_again(arguments, code):
    command = [sys.executable, "-m", "tests.tools", "again", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert run.returncode == code
    assert "Traceback" not in run.stderr
    assert len(re.findall(r"^python -m tests\.tools again: ", run.stderr, re.MULTILINE)) == (code == BAD_INPUT)


def test_an_error_of_the_suite_is_no_failure_of_the_case(run, monkeypatch, capsys):
    monkeypatch.setattr(again, "judged", lambda case: 1 / 0)
    monkeypatch.setattr(again, "_start", lambda options: None)
    assert again.main(["MultiHead()"]) == HARNESS_ERROR
    assert "ZeroDivisionError" in capsys.readouterr().err
