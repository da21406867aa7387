"""Calls that two processes make together, in a group of torch.distributed with gloo.

Both are forked from this process, which takes milliseconds, and serve calls until they end, hang or disagree.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache, lru_cache
from multiprocessing.connection import Connection, Pipe, wait
from signal import SIGKILL
from typing import Any, NoReturn

import torch

from .processes import Died

# Autograd counts the devices when it first differentiates, and a forked process of one that has counted any cannot
# differentiate (here, and in measurement/forked.py). TorchDynamo and torch.export register devices: this comes first.
torch.ones((), requires_grad=True).backward()

PATIENCE = 30.0  # seconds for a call of some milliseconds, before which the first one imports modules

# The statements by which a script becomes both processes. They must precede the import of torch.
BEGINS = """\
os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(20000 + os.getpid() % 10000), "WORLD_SIZE": "2"}
os.environ["RANK"] = "0" if os.fork() else "1"

def leave(code):
    sys.stdout.flush()
    os._exit(code)  # threads of gloo may hang or abort a process that ends by itself"""


class Hung(Died):
    """A process has not answered in time."""


def run_in_both(function: Callable, *arguments: Any) -> tuple[Any, Any]:
    """The results of function(*arguments) in both processes, by rank. The function must be importable.

    Raises the exception of a process. Raises Died if a process ends, Hung if one does not answer in PATIENCE seconds;
    the next call starts two new ones.
    """
    connections, _ = _pair(os.getpid())  # a forked process starts its own
    try:
        for connection in connections:
            connection.send((function, arguments))
        answers = _answers(connections)
    except (EOFError, OSError) as error:
        end()
        raise Died("a process that makes the call has ended") from error
    except Hung:
        end()
        raise
    for has_returned, result in answers:
        if not has_returned:
            end()
            raise result
    return answers[0][1], answers[1][1]


def _answers(connections):
    """What each process sends, by rank. Raises Hung, and EOFError or OSError if a process has ended."""
    answers = {}
    while waiting := [its for its in connections if its not in answers]:
        if not (ready := wait(waiting, timeout=PATIENCE)):
            raise Hung(f"{len(waiting)} of the processes that make the call did not answer in {PATIENCE:g} s")
        answers |= {its: its.recv() for its in ready}
    return [answers[its] for its in connections]


def end() -> None:
    """End the two processes. They are forked, so that a later change of torch in this process needs new ones."""
    if not _pair.cache_info().currsize:
        return
    connections, children = _pair(os.getpid())
    _pair.cache_clear()
    for connection in connections:
        connection.close()
    for child in children:
        with suppress(OSError):  # it may have ended
            os.kill(child, SIGKILL)
            os.waitpid(child, 0)


@cache
def obstacle() -> str:
    """The reason why two forked processes cannot train in a group with gloo on this machine; empty if they can."""
    if not hasattr(os, "fork"):
        return "this system cannot fork"
    if not torch.distributed.is_available():
        return "this build has no torch.distributed"
    try:
        run_in_both(_train)
    except Exception as error:  # no gloo in this build, no network interface, no memory, threads of a device
        return f"two processes cannot train in a group with gloo ({type(error).__name__})"
    finally:
        end()  # later ones know the modules that this process imports until then
    return ""


def _train():
    """Differentiate, and add the derivatives of the processes."""
    weight = torch.ones((), requires_grad=True)
    weight.backward()
    torch.distributed.all_reduce(weight.grad)


@lru_cache(maxsize=1)
def _pair(process):
    """([connection to each process], [its id]) of two new ones, which end when this process ends.

    process: the id of this process.
    """
    place = os.path.join(tempfile.mkdtemp(), "group")
    pipes, children = [Pipe(), Pipe()], []
    for rank in range(2):
        with warnings.catch_warnings():  # Python 3.12 warns of threads; those of pytest-xdist hold no lock here
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            _serve(rank, place, pipes)
        children.append(child)
    for _, theirs in pipes:
        theirs.close()
    return [ours for ours, _ in pipes], children


def _serve(rank: int, place: str, pipes: list[tuple[Connection, Connection]]) -> NoReturn:
    """Answer calls until the other end of the pipe is closed. place: a path for the store by which both meet."""
    try:
        connection = pipes[rank][1]
        for its in (*pipes[0], *pipes[1]):
            if its is not connection:
                its.close()
        silence = os.open(os.devnull, os.O_WRONLY)  # gloo prints that it is connected
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{place}",
            rank=rank,
            world_size=2,
            timeout=timedelta(seconds=PATIENCE),
        )
        while True:
            function, arguments = connection.recv()
            try:
                connection.send((True, function(*arguments)))
            except Exception as raised:  # sent to the caller, who judges it
                connection.send((False, raised))
    finally:
        os._exit(0)  # without the exit functions of the parent
