"""Searches the minimal case and the explanation of each group of failures, within a stated time.

Groups that lead to the same case, or to the same change of entries, join.

Each group is searched in a forked process: a call that crashes or hangs ends the search of its group alone.
"""

import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from ..explanation.explanation import NEW
from ..judgement.groups import CRASH, RANGE, WRONG_MASK, Group, Key, key_of, message_of, size
from ..judgement.report import Failure
from ..ledgers import BY_ID
from . import session
from .news import News, added, changes_of, sort_key
from .rerun import simpler_failures, still_failing

_CALLS_OF_A_GROUP = 3  # calls of a group that are made again and made smaller
_SECONDS_OF_A_GROUP = 20.0
_SECONDS_OF_AN_EXPLANATION = 20.0
_GRACE = 5.0  # seconds that a process may take beyond its time


@dataclass(frozen=True)
class Found:
    """A step of the search: the least failure yet, or the end of the search."""

    least: Failure
    keys: tuple[Key, ...]  # the keys of the failures on the way; the last one may be that of a known group
    is_minimal: bool = False  # True if no simpler variant of `least` fails
    is_flaky: bool = False  # True if none of the calls fails again


@dataclass(frozen=True)
class End:
    """The end of a search, and the explanation of the group."""

    found: Found
    parts: tuple[News, ...] = ()  # the group with its explanation, or its parts; empty without explanations


Explain = Callable[[Group], tuple[News, ...]]


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
    """The news of groups whose search has ended, and the failures and explanations that lead to each."""

    def __init__(self) -> None:
        self.news: list[News] = []
        self.done: set[Key] = set()  # keys of the groups
        self.place: dict[Hashable, int] = {}  # {key of a failure, or what has changed: index in `news`}

    @property
    def known(self) -> dict[Key, bool]:
        """{key of a failure whose minimal case is known: True if nothing explains it}"""
        return {key: self._is_new(place) for key, place in self.place.items() if isinstance(key, Key)}

    def _is_new(self, place: int) -> bool:
        return self.news[place].explanation.kind == NEW

    def add(self, group: Group, end: End) -> None:
        """Add a group with the result of its search; join it to a group that has led to the same change."""
        self.done.add(group.key)
        found = end.found
        if found.is_flaky:
            self.news.append(News(replace(group, is_flaky=True)))
            return
        place = self.place.get(found.keys[-1])
        if place is not None and not end.parts:
            self._join(place, News(group))
            self.place[group.key] = place
            return
        for news in end.parts or (News(_with_least(group, found)),):
            self._add_part(news, found if found.least in news.group.calls else None)

    def _add_part(self, news: News, found: Found | None) -> None:
        """found: the result of the search, if it belongs to this part of the group."""
        key: Hashable = changes_of(news)
        if key is None and found:  # joins calls that nothing explains either
            key = found.keys[-1]
        place = self.place.get(key) if key is not None else None
        if place is None or (isinstance(key, Key) and not self._is_new(place)):
            place = len(self.news)
            self.news.append(news)
        else:
            self._join(place, news)
        self.place |= {} if key is None else {key: place}
        if found:
            self.place |= {news.group.key: place, found.keys[-1]: place}

    def add_untried(self, news: News) -> None:
        """Add a group that was not searched; join it to one with the same message, if nothing explains that either.

        Groups without a message join if they are not searched, and have the module, the kind of mode and the
        difference in common.
        """
        key = changes_of(news) or (news.least.module, news.group.key.way, news.group.key.differs)
        if key in self.place:
            self._join(self.place[key], news)
        else:
            self.place[key] = len(self.news)
            self.news.append(news)

    def _join(self, place: int, news: News) -> None:
        self.news[place] = added(self.news[place], news)


def _with_least(group: Group, found: Found) -> Group:
    calls = (found.least, *(call for call in group.calls if call != found.least))
    return replace(group, calls=calls, is_minimal=found.is_minimal)


def news_about(
    groups: Sequence[Group], seconds: float, workers: int = 1, explain: Explain | None = None
) -> tuple[News, ...]:
    """The groups with minimal cases and explanations, as far as they are found in time; joined where these are alike.

    seconds: the time for all groups, the cheapest first. workers: the number of processes that search at a time.
    """
    ends, searched = time.monotonic() + seconds, _Searched()
    running: list[_Here | _Forked] = []
    waiting = _in_order(groups)
    begin = _Forked if can_fork() else _Here
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < ends:
            running.append(begin(waiting.pop(0), searched.known, ends, explain))
        if not running:
            break
        for its in _first_to_end(running):
            running.remove(its)
            is_crash = its.group.key.way == CRASH and not its.end.found.is_flaky
            searched.add(its.group, replace(its.end, parts=explain(its.group)) if explain and is_crash else its.end)
    for group in groups:
        if group.key not in searched.done:
            searched.add_untried(News(group))
    return tuple(sorted(searched.news, key=sort_key))


def _in_order(groups: Sequence[Group]) -> list[Group]:
    """The groups as they are searched: one of each message before others with it, the cheapest first, crashes last."""
    ranks, met = {}, Counter[str]()
    for group in sorted(groups, key=_cost):
        message = message_of(group.least)
        ranks[group.key] = met[message] if message else 0
        met[message] += 1
    return sorted(groups, key=lambda group: (group.key.way == CRASH, ranks[group.key], _cost(group)))


def _cost(group: Group) -> tuple:
    """The key by which groups are searched: wrong masks first, which have no smaller calls; a crash last."""
    return (group.key.way == CRASH, group.key.way not in (WRONG_MASK, RANGE), size(group.least), group.key)


def can_fork() -> bool:
    """True if a search may run in a forked process: there is fork, and no device, which a forked process cannot use."""
    is_there = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    return is_there and session.current.release.device_type == "cpu"


def _steps(
    group: Group, known: Mapping[Key, bool], ends: float, explain: Explain | None, searches: float
) -> Iterator[End]:
    """Generates the steps of the search until the time `searches`, and at last the explanation."""
    steps = search(group, known, searches) if _can_be_asked(group) else iter([Found(group.least, (group.key,))])
    for found in steps:
        yield End(found)
    joins = known.get(found.keys[-1], False)  # calls that nothing explains, as those of a known group
    if explain and not found.is_flaky and group.key.way != CRASH and not joins:
        yield End(found, explain(_with_least(group, found)))


def _can_be_asked(group):
    """False for failures about a range, and for pinned cases that may crash the process."""
    entry = BY_ID.get(group.least.entry)
    return group.key.way != RANGE and not (entry and entry.may_end_the_process)


class _Here:
    """A search in this process. A crash is not made again."""

    connection = None

    def __init__(self, group: Group, known: Mapping[Key, bool], ends: float, explain: Explain | None):
        self.group, self.end = group, End(Found(group.least, (group.key,)))
        if group.key.way != CRASH:
            for self.end in _steps(group, known, ends, explain, min(ends, time.monotonic() + _SECONDS_OF_A_GROUP)):
                pass


class _Forked:
    """A search in a forked process."""

    def __init__(self, group: Group, known: Mapping[Key, bool], ends: float, explain: Explain | None):
        self.group, self.end = group, End(Found(group.least, (group.key,)))
        searches = min(ends, time.monotonic() + _SECONDS_OF_A_GROUP)
        self.ends = min(ends, searches + _SECONDS_OF_AN_EXPLANATION)
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe(duplex=False)
        given = (theirs, group, known, self.ends, explain, searches)
        self.process = context.Process(target=_serve, args=given, daemon=True)
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


def _serve(connection: Connection, *given: Any) -> None:
    for end in _steps(*given):
        connection.send(end)
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
