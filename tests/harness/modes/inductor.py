"""The backend "inductor" of torch.compile, which needs a C++ compiler: its availability and its cache directory."""

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from functools import cache

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # by default it forks one worker per core


def compiler() -> str:
    """The name of the C++ compiler that inductor runs."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


@cache
def can_build() -> bool:
    """True if there are a C++ compiler and setuptools, which inductor imports and not every torch wheel requires."""
    return shutil.which(compiler()) is not None and importlib.util.find_spec("setuptools") is not None


@cache
def settle() -> None:
    """Give inductor a temporary cache directory, which is removed when this process exits.

    Precompiled headers still go to the user's cache. They do not affect results.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = place = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, place, ignore_errors=True)
