"""Starts conformance runs in processes of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHEAP = "tests/conformance/test_generate_square_subsequent_mask.py"


def run(*arguments, path=CHEAP, **options):
    command = [sys.executable, "-m", "pytest", path, "-p", "no:cacheprovider", "--hypothesis-profile=quick", *arguments]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run(command, check=False, **options)
