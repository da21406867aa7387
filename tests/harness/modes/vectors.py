"""Calls by kernels of another vector extension than the CPU's best: torch takes one when it starts, so in a process."""

import re
from functools import lru_cache

import torch

from .processes import run_in

_ASCENDING = ("DEFAULT", "AVX2", "AVX512")


VARIABLE = "ATEN_CPU_CAPABILITY"


@lru_cache
def extension():
    """The vector extension that torch's kernels use in this process, such as AVX2."""
    found = re.search(r"CPU capability usage: (\w+)", torch.__config__.show())
    return {"NO": "DEFAULT"}.get(found.group(1), found.group(1)) if found else "unknown"


def is_lesser(name):
    """True if this extension is one that the CPU has besides that which is used here."""
    return extension() in _ASCENDING and name in _ASCENDING[: _ASCENDING.index(extension())]


def run_with(name, function, *arguments):
    """function(*arguments), which must be importable, in a process whose kernels use this vector extension."""
    return run_in(((VARIABLE, name.lower()),), function, *arguments)
