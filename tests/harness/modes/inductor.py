"""What torch.compile builds with a C++ compiler (its backend "inductor"): whether it can, and where it leaves that."""

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from functools import cache

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # it would fork as many workers as there are cores


def compiler():
    """The name by which inductor calls the compiler."""
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")


@cache
def can_build():
    """True if there is one, and setuptools, which torch imports for it and does not always bring."""
    return shutil.which(compiler()) is not None and importlib.util.find_spec("setuptools") is not None


@cache
def settle():
    """Let it leave its files in a place of this process, which goes with it.

    Headers that it compiles beforehand it keeps in a place of the user's all the same; they decide nothing.
    """
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = place = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, place, ignore_errors=True)
