"""Searches the minimal case of each group of failures, within a stated time; groups that lead to the same case join.

Each group is searched in a forked process: a call that crashes or hangs ends the search of its group alone.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait

from ..judgement.groups import CRASH, RANGE, WRONG_MASK, Group, Key, joined, key_of, size
from ..judgement.report import Failure
from . import session
from .asking import simpler_failures, still_failing

_CALLS_OF_A_GROUP = 3  # calls of a group that are made again and made smaller
_SECONDS_OF_A_GROUP = 20.0
_GRACE = 5.0  # seconds that a process may take beyond its time


@dataclass(frozen=True)
class Found:
    """A step of the search: the least failure yet, or the end of the search."""

    least: Failure
    keys: tuple[Key, ...]  # the keys of the failures on the way; the last one may be that of a known group
    is_minimal: bool = False  # True if no simpler variant of `least` fails
    is_flaky: bool = False  # True if none of the calls fails again


def search(group: Group, known: Collection[Key], ends: float) -> Iterator[Found]:
    """Generates better and better steps of the search. The last one is the result.

    known: keys of groups whose minimal cases are known. ends: time.monotonic() when the search must end.
    """
    failing = [its for call in group.calls[:_CALLS_OF_A_GROUP] if (its := still_failing(call))]
    if not failing:
        yield Found(group.least, (group.key,), is_flaky=True)
        return
    for call in failing:  # a group joins a known one if each of its calls leads there
        for found in _reduced(call, group.key, known, ends):
            yield found
        if found.keys[-1] not in known:
            return


def _reduced(failure: Failure, like: Key, known: Collection[Key], ends: float) -> Iterator[Found]:
    keys: dict[Key, None] = {like: None}
    tried = set()
    yield Found(failure, tuple(keys))
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for asked in simpler_failures(failure):
            calls = (asked.case, asked.first, asked.twin)
            if calls in tried or not size(asked) < size(failure):
                continue
            if time.monotonic() > ends:
                return
            tried.add(calls)
            if found := still_failing(asked):
                failure, is_smaller, key = found, True, key_of(found)
                keys.pop(key, None)
                keys[key] = None
                yield Found(failure, tuple(keys))
                if key in known:
                    return
                break
    yield Found(failure, tuple(keys), is_minimal=True)


# ---- all groups ----------------------------------------------------------------------------------------------------


class _Searched:
    """The groups whose search has ended, and the keys of failures that lead to each."""

    def __init__(self) -> None:
        self.groups: dict[Key, Group] = {}
        self.place: dict[Key, Key] = {}  # {key of a failure: key of its group in `groups`}

    def add(self, group: Group, found: Found) -> None:
        """Add a group with the result of its search; join it to a group that has led to the same failures."""
        place = None if found.is_flaky else self.place.get(found.keys[-1])
        if place is not None:
            self.groups[place] = joined(self.groups[place], group)
            self.place[group.key] = place
            return
        calls = (found.least, *(call for call in group.calls if call != found.least))
        self.groups[group.key] = replace(group, calls=calls, is_minimal=found.is_minimal, is_flaky=found.is_flaky)
        if not found.is_flaky:
            self.place |= {group.key: group.key, found.keys[-1]: group.key}


def with_minimal_cases(groups: Sequence[Group], seconds: float, workers: int = 1) -> tuple[Group, ...]:
    """The groups with their minimal cases, as far as they are found in time; joined where these are alike.

    seconds: the time for all searches, the cheapest first. workers: the number of processes that search at a time.
    """
    ends, searched = time.monotonic() + seconds, _Searched()
    running: list[_Here | _Forked] = []
    waiting = sorted((group for group in groups if group.key.way != RANGE), key=_cost)
    begin = _Forked if can_fork() else _Here
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < ends:
            running.append(begin(waiting.pop(0), tuple(searched.place), ends))
        if not running:
            break
        for its in _first_to_end(running):
            running.remove(its)
            searched.add(its.group, its.found)
    done = {*searched.groups, *searched.place}
    left = [group for group in groups if group.key not in done]
    return tuple(sorted((*searched.groups.values(), *left), key=lambda group: (size(group.least), group.key)))


def _cost(group: Group) -> tuple:
    """The key by which groups are searched: a crash last, as it may be repeated."""
    return (group.key.way == CRASH, group.key.way == WRONG_MASK, size(group.least), group.key)


def can_fork() -> bool:
    """True if a search may run in a forked process: there is fork, and no device, which a forked process cannot use."""
    is_there = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    return is_there and session.current.release.device_type == "cpu"


class _Here:
    """A search in this process. A crash is not made again."""

    def __init__(self, group: Group, known: Collection[Key], ends: float):
        self.group, self.found = group, Found(group.least, (group.key,))
        self.connection = None
        if group.key.way != CRASH:
            for self.found in search(group, known, min(ends, time.monotonic() + _SECONDS_OF_A_GROUP)):
                pass


class _Forked:
    """A search in a forked process."""

    def __init__(self, group: Group, known: Collection[Key], ends: float):
        self.group, self.found = group, Found(group.least, (group.key,))
        self.ends = min(ends, time.monotonic() + _SECONDS_OF_A_GROUP)
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(theirs, group, known, self.ends), daemon=True)
        self.process.start()
        theirs.close()

    def has_ended(self) -> bool:
        """Take the steps that have come. True if there will be no more, or if the time is over; ends the process."""
        try:
            while self.connection.poll():
                self.found = self.connection.recv()
            if time.monotonic() < self.ends + _GRACE:
                return False
        except (EOFError, OSError):  # it has sent its last step, or has crashed
            pass
        self.process.kill()
        self.process.join()
        self.connection.close()
        return True


def _serve(connection: Connection, group: Group, known: Collection[Key], ends: float) -> None:
    for found in search(group, known, ends):
        connection.send(found)
    connection.close()
    os._exit(0)  # without the exit functions of the parent


def _first_to_end(running: Sequence) -> list:
    """The searches that have ended; waits for the first."""
    if isinstance(running[0], _Here):
        return list(running)
    while True:
        wait([its.connection for its in running], timeout=1.0)
        if ended := [its for its in running if its.has_ended()]:
            return ended
