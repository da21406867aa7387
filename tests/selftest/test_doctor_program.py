"""A program under the doctor keeps its output, its exit code and its arguments; the report says what was seen."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doctor.command import main

ROOT = Path(__file__).parents[2]
ATTENTION = """\
import os, sys, threading, time
import torch
from torch import nn
attention = nn.MultiheadAttention(8, 2)
x = torch.randn(3, 2, 8)
attention(x, x, x, key_padding_mask=torch.ones(2, 3, dtype=torch.bool))
"""


def command(path, *arguments, options=()):
    """The command line that runs a script under the doctor."""
    return [sys.executable, "-m", "tests.tools", "doctor", *options, str(path), *arguments]


def doctor(tmp_path, text, *arguments, options=(), **more):
    """The completed run of a script under the doctor."""
    path = tmp_path / "script.py"
    path.write_text(text, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    given = command(path, *arguments, options=options)
    return subprocess.run(given, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, **more)


def test_output_arguments_and_exit_code_are_those_of_the_script(tmp_path):
    text = "import helper\nprint(__name__, sys.argv[1:], helper.x)\nsys.exit(3)\n"
    (tmp_path / "helper.py").write_text("x = 7\n", encoding="utf-8")
    ran = doctor(tmp_path, ATTENTION + text, "one", "--max-calls", "two")
    assert ran.stdout == "__main__ ['one', '--max-calls', 'two'] 7\n"
    assert ran.returncode == 3
    assert "1 call of attention, ended with exit code 3" in ran.stderr
    assert "empty-row-nan-explicit" in ran.stderr
    assert "MISTAKE hides-everything" in ran.stderr


def test_a_report_in_a_file_leaves_stderr_alone(tmp_path):
    path = tmp_path / "report.json"
    ran = doctor(tmp_path, ATTENTION, options=("--format", "json", "--report", str(path)))
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert report["calls"] == 1
    assert [its["entries"] for its in report["findings"]] == [["empty-row-nan-explicit"]]
    assert [its["id"] for its in report["mistakes"]] == ["hides-everything"]


@pytest.mark.parametrize(
    "text, code, ended",
    [
        ("1 / 0\n", 1, "ended by ZeroDivisionError"),
        ("sys.exit('bye')\n", 1, "ended with exit code 1"),
        ("os._exit(5)\n", 5, "ended by os._exit(5)"),
        ("os.kill(os.getpid(), 15)\ntime.sleep(60)\n", 143, "terminated"),
        ("raise KeyboardInterrupt\n", 130, "interrupted"),
        ("if not (child := os.fork()):\n    time.sleep(60)\n    exit(1)\nos.kill(child, 15)\nos.wait()\n", 0, "ended"),
        ("threading.Thread(target=lambda: attention(x, x, x)).start()\n", 0, "ended"),
        ("if os.fork() == 0:\n    attention(x, x, x)\n    os._exit(9)\nos.wait()\n", 0, "ended"),
    ],
)
def test_the_end_of_a_script(tmp_path, text, code, ended):
    ran = doctor(tmp_path, ATTENTION + text)
    assert ran.returncode == code
    assert ran.stderr.count("==== doctor") == 1
    assert f"of attention, {ended} ====" in ran.stderr
    assert f"{2 if 'Thread' in text else 1} call" in ran.stderr


def test_a_traceback_is_that_of_the_script(tmp_path):
    ran = doctor(tmp_path, ATTENTION + "attention(x, x, x, attn_mask=torch.zeros(5, 5, dtype=torch.bool))\n")
    traceback = ran.stderr.partition("====")[0]
    assert ran.returncode == 1
    assert "script.py" in traceback
    assert "doctor" not in traceback


def test_a_script_that_never_ends_is_stopped_by_the_timeout(tmp_path):
    ran = doctor(tmp_path, ATTENTION + "while True: time.sleep(0.1)\n", options=("--timeout", "8"))
    assert ran.returncode == 142
    assert "1 call of attention, stopped after 8 s" in ran.stderr


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background ignores them


def test_an_interrupt_leaves_a_report(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(ATTENTION + "print('ready', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(path), cwd=ROOT, preexec_fn=_heed_interrupts, **streams)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "1 call of attention, interrupted" in errors


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["missing.py"], "missing.py: no such file"),
        (["no_such_package:factory"], "ModuleNotFoundError"),
        (["json:nothing"], "AttributeError"),
        (["--max-calls", "0", "script.py"], "--max-calls 0: not a positive number"),
        (["--timeout", "-1", "script.py"], "--timeout -1: not a positive number"),
        (["--report", "/no/such/folder/report", "script.py"], "--report /no/such/folder/report: cannot be written"),
        ([], "the following arguments are required: SCRIPT"),
        (["--wrong", "script.py"], "unknown option --wrong"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.setattr(sys, "path", list(sys.path))
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="4"):
        main([str(script) if each == "script.py" else each for each in arguments])
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1


def test_a_script_without_attention(tmp_path):
    ran = doctor(tmp_path, "print('nothing')\n")
    assert (ran.returncode, ran.stdout) == (0, "nothing\n")
    assert "was seen" in ran.stderr


def test_a_script_whose_attention_cannot_be_compared(tmp_path):
    text = "from torch import nn\nimport torch\nx = torch.ones(2, 1, 8, device='meta')\n"
    ran = doctor(tmp_path, text + "nn.MultiheadAttention(8, 2, device='meta')(x, x, x)\n")
    assert "No call could be compared, for these reasons:" in ran.stderr
    assert "not seen: MultiheadAttention on the meta device (1 time)" in ran.stderr
    assert "has no attention" not in ran.stderr


def test_a_factory_is_called_and_its_module_runs_on_its_inputs(tmp_path):
    (tmp_path / "models.py").write_text(
        "import torch\nx = torch.randn(3, 2, 8)\ndef make(): return torch.nn.MultiheadAttention(8, 2), (x, x, x)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = [sys.executable, "-m", "tests.tools", "doctor", "models:make"]
    ran = subprocess.run(given, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0
    assert "as specified: MultiheadAttention" in ran.stderr


def test_a_factory_may_import_functions_by_their_names(tmp_path):
    (tmp_path / "models.py").write_text(
        "import torch\nfrom torch.nn.functional import scaled_dot_product_attention\nx = torch.randn(3, 2, 8)\n"
        "def make(): scaled_dot_product_attention(x, x, x)\n",
        encoding="utf-8",
    )
    given = [sys.executable, str(ROOT / "masks.py"), "doctor", "models:make"]
    ran = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "as specified: models.py:4 in make" in ran.stderr


def test_a_folder_with_a_package_of_tests_of_its_own_does_not_hide_the_doctor(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "forward.py").write_text(ATTENTION, encoding="utf-8")
    given = [sys.executable, str(ROOT / "masks.py"), "doctor", "forward.py"]
    ran = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "1 call of attention" in ran.stderr


def test_the_script_of_an_unknown_difference_exits_1_where_the_bug_is(tmp_path):
    bug = """\
import torch
right = torch.nn.functional.softmax
torch.nn.functional.softmax = lambda *given, **options: 1.1 * right(*given, **options)
"""
    ran = doctor(tmp_path, bug + ATTENTION.replace("ones", "zeros"), options=("--scripts", str(tmp_path / "scripts")))
    assert "DIFFERS, UNKNOWN" in ran.stderr
    (script, *_) = sorted((tmp_path / "scripts").glob("MultiheadAttention*.py"))
    given = [sys.executable, str(script)]
    assert subprocess.run(given, capture_output=True, timeout=120).returncode == 0  # without the bug
    script.write_text(bug + script.read_text(encoding="utf-8"), encoding="utf-8")
    ran = subprocess.run(given, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1, ran.stderr
    assert "output is off by" in ran.stdout
