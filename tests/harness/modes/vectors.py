"""Calls with the kernels of a lesser vector extension of the CPU, in another process: torch chooses it at startup."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from .processes import run_in

_ASCENDING = ("DEFAULT", "AVX2", "AVX512")
VARIABLE = "ATEN_CPU_CAPABILITY"


@lru_cache
def extension() -> str:
    """The vector extension that the kernels of torch use in this process, such as "AVX2"."""
    found = re.search(r"CPU capability usage: (\w+)", torch.__config__.show())
    return {"NO": "DEFAULT"}.get(found.group(1), found.group(1)) if found else "unknown"


def is_lesser(name: str) -> bool:
    """True if the CPU has this vector extension, and this process uses a greater one."""
    return extension() in _ASCENDING and name in _ASCENDING[: _ASCENDING.index(extension())]


def run_with(name: str, function: Callable, *arguments: Any) -> Any:
    """function(*arguments) in a process whose kernels use this vector extension. The function must be importable.

    Raises the exceptions of the function, and processes.Died.
    """
    return run_in(((VARIABLE, name.lower()),), function, *arguments)
