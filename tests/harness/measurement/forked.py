"""Runs searches in forked processes, so that a call that crashes or hangs ends its own search alone."""

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from . import session

_GRACE = 5.0  # seconds that a process may take beyond its time


def can_fork() -> bool:
    """True if a search may run in a forked process: there is fork, and no device, which a forked process cannot use."""
    is_there = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    return is_there and session.current.release.device_type == "cpu"


class Here:
    """A search in this process."""

    connection = None

    def __init__(self, task: Any, first: Any, steps: Iterator[Any], ends: float):
        self.task, self.end = task, first
        for self.end in steps:
            pass


class Forked:
    """A search in a forked process."""

    def __init__(self, task: Any, first: Any, steps: Iterator[Any], ends: float):
        self.task, self.end = task, first
        self.ends = ends
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(theirs, steps), daemon=True)
        with warnings.catch_warnings():  # Python 3.12 warns of threads; those of pytest-xdist have ended their work
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def has_ended(self) -> bool:
        """Take the steps that have come. True if there will be no more, or if the time is over; ends the process."""
        try:
            while self.connection.poll():
                self.end = self.connection.recv()
            if time.monotonic() < self.ends + _GRACE:
                return False
        except (EOFError, OSError):  # it has sent its last step, or has crashed
            pass
        self.process.kill()
        self.process.join()
        self.connection.close()
        return True


def _serve(connection: Connection, steps: Iterator[Any]) -> None:
    for end in steps:
        connection.send(end)
    connection.close()
    os._exit(0)  # without the exit functions of the parent


Search = Here | Forked  # `task` is its task; `end` its last step, or the value `first` if there was none


def in_turn(waiting: list, begin: Callable[[Any], Search], workers: int, ends: float) -> Iterator[Search]:
    """Begin the search of each task and generate the searches that have ended.

    Tasks for which there is no time are left in `waiting`. workers: the number of searches at a time. ends:
    time.monotonic() after which no search begins.
    """
    running: list[Search] = []
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < ends:
            running.append(begin(waiting.pop(0)))
        if not running:
            return
        for its in _first_to_end(running):
            running.remove(its)
            yield its


def _first_to_end(running: list) -> list:
    """The searches that have ended; waits for the first."""
    if isinstance(running[0], Here):
        return list(running)
    while True:
        wait([its.connection for its in running], timeout=1.0)
        if ended := [its for its in running if its.has_ended()]:
            return ended
