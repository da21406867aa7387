"""Calls in another process: with kernels that torch chooses at startup, or that may crash."""

import multiprocessing
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch


class Died(Exception):
    """The process ended during the call."""


def run_in(environment: tuple[tuple[str, str], ...], function: Callable, *arguments: Any) -> Any:
    """function(*arguments) in a process with these environment variables, (name, value). The process is reused.

    The function must be importable. Its exceptions are raised here. Raises Died if the process ends; the next call
    starts a new one.
    """
    try:
        return _ask(_process(environment), function, arguments)
    except Died:
        _process.cache_clear()
        raise


def run_alone(function: Callable, *arguments: Any) -> Any:
    """function(*arguments) in a new process that runs nothing else. Raises as `run_in` does."""
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
    """The connection to a new process with these environment variables. It ends when this process ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    before = {name: os.environ.get(name) for name, _ in environment}
    os.environ.update(environment)  # a spawned process inherits it
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
        except Exception as raised:  # sent to the caller, who judges it
            connection.send((False, raised))
