"""Searches the explanation and the minimal case of each group of failures, within a stated time.

Groups that lead to the same case, or to the same change of entries, join.

Each group is searched in a forked process: a call that crashes or hangs ends the search of its group alone.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from ..explanation.edits import Suspects
from ..explanation.explanation import NEW, Explanation
from ..judgement.groups import CRASH, RANGE, WRONG_MASK, Group, Key, key_of, message_of, size
from ..judgement.report import Failure
from ..ledgers import BY_ID
from .forked import Forked, Here, can_fork, in_turn
from .news import News, added, changes_of, merged, sort_key
from .rerun import plainer, simpler_failures, still_failing

_CALLS_OF_A_GROUP = 3  # calls of a group that are made again and made smaller
_SHARE_OF_A_GROUP = 1 / 6  # of the time, at most, for the search of a minimal case, and for an explanation
_SHARE_OF_EXPLANATIONS = 0.6  # of the time, at most, for explanations of calls as found
_SHARE_OF_THE_REST = 1 / 6  # of the time, for groups that are not searched


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
    suspects: Suspects = field(default_factory=Suspects)  # edits that explain calls, for other groups


# (a group, edits that are tried first): the group with its explanation, or its parts. Adds the edits that explain them.
Explain = Callable[[Group, Suspects], tuple[News, ...]]
# (a group, news with behaviours): the parts of the group that these behaviours predict, and the rest of it
Recognize = Callable[[Group, Sequence[News]], tuple[News, ...]]
# True if a failure shows the changes of an explanation, all of them and no other
Shows = Callable[[Failure, Explanation], bool]


def search(
    group: Group, known: Collection[Key], ends: float, keeps: Callable[[Failure], bool] = lambda failure: True
) -> Iterator[Found]:
    """Generates better and better steps of the search. The last one is the result.

    known: keys of groups whose minimal cases are known. ends: time.monotonic() when the search must end. keeps: False
    for a failure that is smaller, but another one.
    """
    failing = [its for call in group.calls[:_CALLS_OF_A_GROUP] if (its := still_failing(call))]
    if not failing:
        yield Found(group.least, (group.key,), is_flaky=True)
        return
    for call in failing:  # a group joins a known one if each of its calls leads there
        for found in _reduced(call, group.key, known, ends, keeps):
            yield found
        if found.keys[-1] not in known:
            return


def _reduced(
    failure: Failure, like: Key, known: Collection[Key], ends: float, keeps: Callable[[Failure], bool]
) -> Iterator[Found]:
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
            if (found := still_failing(asked)) and keeps(found):
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
        self.place: dict[Hashable, int] = {}  # {key of a failure, or what has changed: index in `news`}

    @property
    def known(self) -> dict[Key, bool]:
        """{key of a failure whose minimal case is known: True if nothing explains it}"""
        return {key: self._is_new(place) for key, place in self.place.items() if isinstance(key, Key)}

    def _is_new(self, place: int) -> bool:
        return self.news[place].explanation.kind == NEW

    def add(self, news: News, end: End) -> None:
        """Add a group with the result of its search; join it to a group that has led to the same change."""
        found, group = end.found, news.group
        if found.is_flaky:
            self.news.append(News(replace(group, is_flaky=True)))
            return
        if _is_explained(news):
            self._add_part(replace(news, group=_with_least(group, found)), None)
            return
        place = self.place.get(found.keys[-1])
        if place is not None and not end.parts:
            self._join(place, news)
            self.place[group.key] = place
            return
        for part in end.parts or (replace(news, group=_with_least(group, found)),):
            self._add_part(part, found if found.least in part.group.calls else None)

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
        """Join a group that was not searched to one with the same change or message, or to one that nothing explains
        whose search met the same kind of call; else to one that was not searched either, if the module, the kind of
        mode and the difference are the same.
        """
        change, like = changes_of(news), (news.least.module, news.group.key.way, news.group.key.differs)
        place = self.place.get(change) if change else None
        if place is None and news.explanation.kind == NEW:
            place = self._place_of(news)
        if place is None:
            place = self.place.get(change or like, len(self.news))
            self.place[change or like] = place
        if place == len(self.news):
            self.news.append(news)
        else:
            self._join(place, news)

    def _place_of(self, news: News) -> int | None:
        """The place of a group that has led to the call of the news, or of a behaviour that shows its message."""
        if self.known.get(news.group.key):
            return self.place[news.group.key]
        if not (message := message_of(news.least)):
            return None
        behaviours = ((i, its) for i, its in enumerate(self.news) if _has_behaviour(its))
        return next((i for i, its in behaviours if message_of(its.least) == message), None)

    def _join(self, place: int, news: News) -> None:
        self.news[place] = added(self.news[place], news)


def _with_least(group: Group, found: Found) -> Group:
    calls = (found.least, *(call for call in group.calls if call != found.least))
    return replace(group, calls=calls, is_minimal=found.is_minimal)


def _is_explained(news: News) -> bool:
    """True if changes of entries explain the news. A behaviour is tried again on the minimal case."""
    return bool(news.explanation.changed) and not news.explanation.behaviour


def news_about(
    groups: Sequence[Group],
    seconds: float,
    workers: int = 1,
    explain: Explain | None = None,
    shows: Shows = lambda failure, explanation: True,
    recognize: Recognize | None = None,
    is_whole: bool = False,
) -> tuple[News, ...]:
    """The groups with minimal cases and explanations, as far as they are found in time; joined where these are alike.

    The calls as found are explained first: most groups then join a few changes, and the minimal case of each change is
    searched in the rest of the time. Groups for which no time is left join others by a plainer call.

    seconds: the time for all groups, the cheapest first. workers: the number of processes that search at a time.
    recognize: joins calls to a behaviour that explains others. is_whole: it also joins calls that have another
    explanation, if the behaviour explains more; for another implementation, whose mistakes show in calls of every kind.
    """
    ends, most = time.monotonic() + seconds, seconds * _SHARE_OF_A_GROUP
    searched, suspects, begin = _Searched(), Suspects(), Forked if can_fork() else Here
    told = [News(group) for group in _in_order(groups)]
    if explain:
        told = _as_found(told, explain, suspects, workers, seconds)
    until = ends - seconds * _SHARE_OF_THE_REST
    if recognize and is_whole:
        told = _with_causes(told, recognize, workers, until)

    def search_of(news: News) -> Here | Forked:
        group, searches = news.group, min(until, time.monotonic() + most)
        steps: Iterator[End] = iter(())
        if begin is Forked or group.key.way != CRASH:  # in this process, a crash is not made again
            steps = _steps(news, searched.known, explain, shows, suspects, searches)
        return begin(news, End(Found(group.least, (group.key,))), steps, min(until, searches + most))

    waiting = _with_new_ones_first(told)
    for its in in_turn(waiting, search_of, workers, until):
        suspects.add(its.end.suspects)
        is_crash = its.task.group.key.way == CRASH and not its.end.found.is_flaky
        parts = explain(its.task.group, suspects) if explain and is_crash else its.end.parts
        searched.add(its.task, replace(its.end, parts=parts))
    for news in _plainer(waiting, searched.news, recognize, workers, ends):
        searched.add_untried(news)
    return tuple(sorted(searched.news, key=sort_key))


def _plainer(
    waiting: list[News], known: Sequence[News], recognize: Recognize | None, workers: int, ends: float
) -> list[News]:
    """The news that wait, with plainer calls as far as there is time, and with the behaviours of known news."""
    begin, looked = Forked if can_fork() else Here, [its for its in waiting if not _may_be_plainer(its)]
    left = [its for its in waiting if _may_be_plainer(its)]
    causes = [its for its in known if _has_behaviour(its)]

    def look_at(news: News) -> Here | Forked:
        return begin(news, End(Found(news.least, (news.group.key,))), _as_plainer(news, causes, recognize), ends)

    for its in in_turn(left, look_at, workers, ends):
        looked += its.end.parts or (its.task,)
    return [*looked, *left]


def _may_be_plainer(news: News) -> bool:
    return news.group.key.way not in (CRASH, WRONG_MASK, RANGE) and not _is_explained(news)


def _as_plainer(news: News, causes: Sequence[News], recognize: Recognize | None) -> Iterator[End]:
    """Generates the end of the look at one group."""
    group, least = news.group, plainer(news.least)
    if not _has_behaviour(news):
        alike = [its for its in causes if its.least.module == least.module]
        parts = recognize(replace(group, calls=(least,)), alike) if recognize and alike else ()
        news = next(filter(_has_behaviour, parts), news)
    found = Found(least, (group.key,))
    yield End(found, (replace(news, group=replace(_with_least(group, found), key=key_of(least))),))


def _as_found(told: Sequence[News], explain: Explain, suspects: Suspects, workers: int, seconds: float) -> list[News]:
    """The news with explanations of their calls as found, as far as there is time; those with the same change join."""
    begin, waiting = Forked if can_fork() else Here, list(told)
    looked: list[News] = []
    ends = time.monotonic() + seconds * _SHARE_OF_EXPLANATIONS

    def look_at(news: News) -> Here | Forked:
        group, by = news.group, min(ends, time.monotonic() + seconds * _SHARE_OF_A_GROUP)
        steps = iter(()) if group.key.way == CRASH else _explained(group, explain, suspects)
        return begin(news, End(Found(group.least, (group.key,))), steps, by)

    for its in in_turn(waiting, look_at, workers, ends):
        suspects.add(its.end.suspects)
        looked += its.end.parts or (its.task,)
    known, others = ([its for its in looked if _is_explained(its) is told] for told in (True, False))
    return [*merged(known), *others, *waiting]


def _with_causes(told: Sequence[News], recognize: Recognize, workers: int, ends: float) -> list[News]:
    """The news, in which calls that a behaviour of more calls predicts have joined the news of that behaviour."""
    of_calls = [news for news in told if news.group.key.way not in (CRASH, WRONG_MASK, RANGE)]
    looked = [news for news in told if news not in of_calls]
    known = merged(news for news in of_calls if _has_behaviour(news))
    known.sort(key=lambda news: -news.group.seen)

    def look_at(news: News) -> Here | Forked:
        causes = list(takewhile(lambda other: other is not news, known))
        found = Found(news.least, (news.group.key,))
        steps = (End(found, recognize(news.group, causes)) for _ in causes[:1])
        return (Forked if can_fork() else Here)(news, End(found), steps, ends)

    waiting = [*known, *(news for news in of_calls if not _has_behaviour(news))]
    for its in in_turn(waiting, look_at, workers, ends):
        parts = its.end.parts
        looked += parts if any(map(_has_behaviour, parts)) else (its.task,)
    looked += waiting
    return [*merged(filter(_has_behaviour, looked)), *(its for its in looked if not _has_behaviour(its))]


def _has_behaviour(news: News) -> bool:
    """True if a behaviour alone explains the news."""
    return bool(news.explanation.behaviour) and not news.explanation.changed


def _explained(group: Group, explain: Explain, suspects: Suspects) -> Iterator[End]:
    """Generates the explanation of the group."""
    parts = explain(group, suspects)
    yield End(Found(group.least, (group.key,)), parts, suspects.without_outcomes())


def _with_new_ones_first(told: Sequence[News]) -> list[News]:
    """The news in the order in which their minimal cases are searched: those that nothing explains, then the cheapest.

    Crashes come last.
    """
    return sorted(told, key=lambda news: (news.group.key.way == CRASH, _is_explained(news)))


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


def _steps(
    news: News, known: Mapping[Key, bool], explain: Explain | None, shows: Shows, suspects: Suspects, ends: float
) -> Iterator[End]:
    """Generates the steps of the search until the time `ends`, and at last the explanation if there is none yet."""
    group, end = news.group, End(Found(news.least, (news.group.key,)))
    if not _can_be_asked(group):
        steps: Iterator[Found] = iter([end.found])
    elif _is_explained(news):
        steps = search(group, (), ends, lambda failure: shows(failure, news.explanation))
    else:
        steps = search(group, known, ends)
    for end in map(End, steps):
        yield end
    joins = known.get(end.found.keys[-1], False)  # calls that nothing explains, as those of a known group
    if explain and not (_is_explained(news) or end.found.is_flaky or group.key.way == CRASH or joins):
        yield replace(next(_explained(_with_least(group, end.found), explain, suspects)), found=end.found)


def _can_be_asked(group):
    """False for failures about a range, and for pinned cases that may crash the process."""
    entry = BY_ID.get(group.least.entry)
    return group.key.way != RANGE and not (entry and entry.may_end_the_process)
