"""Run scripts in this process, and compare their cases with the specification."""

import io
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout

import torch

from tests.harness.deviations.facts import backward_pass
from tests.harness.execution.release import installed
from tests.harness.execution.runner import observe
from tests.harness.judgement.comparison import ERROR, GRADIENT, LEAK, MUTATED, WARNING
from tests.harness.judgement.verdict import judge
from tests.tools.case_script import ARGUMENTS, ERRORS, GRADIENTS, RESULTS, WARNINGS

CANNOT_BE_ASKED = 2


def run_script(text, apart=False):
    """(exit code, output, variables) of the script.

    One that forks runs in another process, and tells no variables; so does one whose functions TorchDynamo looks up in
    the module __main__. apart: it may end its process.
    """
    if apart or "os.fork()" in text or "def mask_mod(" in text:
        run = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=120)
        return run.returncode, run.stdout + run.stderr, {}
    names, output = {"__name__": "__main__"}, io.StringIO()
    code = 0
    with redirect_stdout(output), redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(text, "script", "exec"), names)
        except SystemExit as ended:
            code = int(ended.code)
        except Exception as raised:
            print(type(raised).__name__, raised)
            code = 1
        finally:
            if hasattr(torch.backends, "mha"):
                torch.backends.mha.set_fastpath_enabled(True)
            torch.set_default_dtype(torch.float32)
            if hasattr(torch, "set_default_device"):
                torch.set_default_device(None)
    return code, output.getvalue(), names


def mismatches(case):
    """The mismatches of the case with the specification, without deviations."""
    return judge(case, observe(case), backward_pass=backward_pass(case, installed())).mismatches


def kinds_of(mismatches):
    """The parts of the outcome that a script must check to find these mismatches."""
    kinds = {MUTATED: ARGUMENTS, WARNING: WARNINGS, ERROR: ERRORS, GRADIENT: GRADIENTS, LEAK: GRADIENTS}
    return {kinds.get(mismatch.kind, RESULTS) for mismatch in mismatches}
