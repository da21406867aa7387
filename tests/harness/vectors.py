"""Calls by kernels of another vector extension than the CPU's best: torch takes one when it starts, so in a process."""

import multiprocessing
import os
import re
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

    What the function raises is raised here. If the process dies it is Died; the next call gets a new one.
    """
    connection = _process(name)
    try:
        connection.send((function, arguments))
        has_returned, result = connection.recv()
    except (EOFError, OSError) as error:
        _process.cache_clear()
        raise Died(f"the process with {name} kernels has ended") from error
    if has_returned:
        return result
    raise result


@lru_cache
def _process(name):
    """The connection to a process of this vector extension, which ends with this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name.lower()  # a process that is spawned inherits it
    try:
        context.Process(target=_serve, args=(theirs,), daemon=True).start()
    finally:
        os.environ.pop(VARIABLE)
        os.environ |= {} if before is None else {VARIABLE: before}
    theirs.close()
    return ours


def _serve(connection):
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, function(*arguments)))
        except Exception as raised:  # it is told, and judged where it was asked for
            connection.send((False, raised))
