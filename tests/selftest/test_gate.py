"""Gates: `ask --allow`, the workflows of docs/gate.md, and --baseline."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from tests.doctor import command
from tests.harness.command_line import BAD_INPUT
from tests.harness.releases import NEWEST, minor
from tests.tools.ask.command import main

ROOT = Path(__file__).parents[2]

CALL = "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2)(x, src_key_padding_mask=padding)"
SITUATION = ("--eval", "--no-grad", "--mask", "src_key_padding_mask=bool:trailing", "--torch", "2.15")
WHAT_APPLIES = "nested-padding-zero,nested-prototype-warning"


@pytest.mark.parametrize(
    ("allowed", "code", "told"),
    [
        ("none", 1, "not allowed: nested-padding-zero, nested-prototype-warning"),
        ("nested-padding-zero", 1, "not allowed: nested-prototype-warning"),
        (WHAT_APPLIES, 0, ""),
        (f"{WHAT_APPLIES},empty-row-nan-explicit", 0, ""),
    ],
)
def test_an_entry_that_is_not_allowed_fails_a_gate(allowed, code, told, capsys):
    assert main([CALL, *SITUATION, "--allow", allowed]) == code
    assert capsys.readouterr().err.strip() == told


def test_a_call_as_specified_passes_a_gate():
    assert main(["nn.MultiheadAttention(8, 2)(x, x, x)", "--torch", "2.15", "--allow", "none"]) == 0


def test_an_unknown_id_is_bad_input(capsys):
    with pytest.raises(SystemExit) as ended:
        main([CALL, "--allow", "nested-padding"])
    assert ended.value.code == BAD_INPUT
    assert "--allow nested-padding: no entry" in capsys.readouterr().err


# ---- docs/gate.md --------------------------------------------------------------------------------------------------

PAGE = ROOT / "docs" / "gate.md"
WORKFLOWS = sorted((ROOT / "docs" / "gates").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_page_shows_each_workflow(path):
    text = PAGE.read_text()
    assert f"```yaml\n{path.read_text()}```" in text
    assert f"(gates/{path.name})" in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_the_newest_release_and_known_options(path, capsys):
    text = path.read_text()
    for tool in (main, command.main):
        with pytest.raises(SystemExit):
            tool(["--help"])
    known = f"{(ROOT / 'conftest.py').read_text()}{capsys.readouterr().out}"
    assert {minor(Version(version)) for version in re.findall(r"\b2\.\d+\.\d+\b", text)} <= {NEWEST}
    options = set(re.findall(r"(?<!-)--[a-z][a-z-]*", text))
    assert all(re.search(rf"{option}\b", known) for option in options), options


def test_the_library_of_the_page_passes_its_gate(tmp_path):
    example = tmp_path / "encoder.py"
    example.write_text(re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])
    step = (ROOT / "docs" / "gates" / "library.yml").read_text().partition("../examples/encoder.py")[2]
    options = shlex.split(step.partition("\n\n")[0].replace("\\\n", " "))
    assert "--allow" in options
    assert main([str(example), *options]) == 0
    assert main([str(example), *options[:-1], "none"]) == 1


def test_the_inputs_of_the_vendor_are_those_of_the_reusable_workflow():
    inputs = re.findall(r"^      ([a-z]+):", (ROOT / "docs" / "gates" / "vendor.yml").read_text(), re.MULTILINE)
    taken = (ROOT / ".github" / "workflows" / "backend.yml").read_text().partition("permissions:")[0]
    assert "baseline" in inputs
    assert set(inputs) <= set(re.findall(r"^      ([a-z]+):", taken, re.MULTILINE))


# ---- --baseline ----------------------------------------------------------------------------------------------------

MINE = """
from torch import nn

class Mine(nn.MultiheadAttention):
    def forward(self, query, key, value, key_padding_mask=None, attn_mask=None, **options):
        {bugs}
        return super().forward(query, key, value, key_padding_mask=key_padding_mask, attn_mask=attn_mask, **options)
"""
KNOWN = "key_padding_mask = None"
ANOTHER = "attn_mask = None if attn_mask is not None and attn_mask.dim() == 3 else attn_mask"


@pytest.fixture
def measure(tmp_path):
    """A function that runs a test with an attention that has these bugs: (exit code, output)."""

    def run(*bugs, report="new", **options):
        (tmp_path / "mine.py").write_text(MINE.format(bugs="; ".join(bugs)))
        command = [sys.executable, "-m", "pytest", "tests/conformance/test_multihead_attention.py", "-q"]
        command += ["-k", "test_inference", "--subject=mine:Mine", f"--report={tmp_path / report}.json", "--budget=1"]
        command += ["--no-issues", "--hypothesis-profile=quick", *(f"--{name}={its}" for name, its in options.items())]
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return run


def test_a_baseline_hides_no_other_failure_of_a_test_that_it_forgives(measure, tmp_path):
    baseline = tmp_path / "old.json"
    assert measure(KNOWN, report="old", **{"hypothesis-seed": 3})[0] == 1
    code, told = measure(KNOWN, baseline=baseline)
    assert (code, "nothing changed" in told) == (0, True), told
    code, told = measure(KNOWN, ANOTHER, baseline=baseline)
    assert (code, "fails in another way: " in told) == (1, True), told
