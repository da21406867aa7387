"""Calls by kernels of another vector extension than the CPU's best: torch takes one when it starts, so in a process."""

import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

import torch

_ASCENDING = ("DEFAULT", "AVX2", "AVX512")
VARIABLE = "ATEN_CPU_CAPABILITY"


@lru_cache
def extension():
    """The vector extension that torch's kernels use in this process, such as AVX2."""
    found = re.search(r"CPU capability usage: (\w+)", torch.__config__.show())
    return {"NO": "DEFAULT"}.get(found.group(1), found.group(1)) if found else "unknown"


def is_lesser(name):
    """Whether this extension is one that the CPU has besides that which is used here."""
    return extension() in _ASCENDING and name in _ASCENDING[: _ASCENDING.index(extension())]


class Died(Exception):
    """A process has ended in the middle of a call."""


def run_with(name, function, *arguments):
    """function(*arguments), which must be importable, in a process whose kernels use this vector extension.

    If the process dies it raises Died; the next call gets a new one.
    """
    try:
        return _process(name).submit(function, *arguments).result()
    except BrokenProcessPool as error:
        _process.cache_clear()
        raise Died(f"the process with {name} kernels has ended") from error


@lru_cache
def _process(name):
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name.lower()  # a process that is spawned inherits it
    try:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        pool.submit(_begin).result()
    finally:
        os.environ.pop(VARIABLE)
        os.environ |= {} if before is None else {VARIABLE: before}
    return pool


def _begin():
    torch.set_num_threads(1)
    torch.set_warn_always(True)
