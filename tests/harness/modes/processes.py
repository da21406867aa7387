"""Calls in a process of their own: of other kernels, which torch chooses when it starts, or that may not survive."""

import multiprocessing
import os
from functools import lru_cache

import torch


class Died(Exception):
    """A process has ended in the middle of a call."""


def run_in(environment, function, *arguments):
    """function(*arguments), which must be importable, in a process with these environment variables, which stays.

    environment: pairs of a name and a value. What the function raises is raised here. If the process dies it is Died;
    the next call gets a new one.
    """
    try:
        return _ask(_process(environment), function, arguments)
    except Died:
        _process.cache_clear()
        raise


def run_alone(function, *arguments):
    """The same in a process of the same environment that is asked nothing else."""
    return _ask(_start(()), function, arguments)


def _ask(connection, function, arguments):
    try:
        connection.send((function, arguments))
        has_returned, result = connection.recv()
    except (EOFError, OSError) as error:
        raise Died("the process that makes the call has ended") from error
    if has_returned:
        return result
    raise result


def _start(environment):
    """The connection to a new process, which ends with this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    before = {name: os.environ.get(name) for name, _ in environment}
    os.environ.update(environment)  # a process that is spawned inherits it
    try:
        context.Process(target=_serve, args=(theirs,), daemon=True).start()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}
    theirs.close()
    return ours


_process = lru_cache(_start)


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
