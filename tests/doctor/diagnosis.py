"""Collects the findings of a run, by place: calls, masks, paths, verdicts and mistakes, as plain data."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .calls import Made
from .compare import AS_SPECIFIED, GRAVITY, NOT_COMPARED, UNKNOWN, Outcome, compared
from .in_words import masks_as_grids, masks_in_words, mismatch_in_words, setting_in_words
from .memories import Memories
from .mistakes import Mistake, accepted, mistakes_of
from .places import Place


@dataclass
class Finding:
    """All calls of one function at one place whose verdict and explanation are equal."""

    place: Place
    function: str
    verdict: str
    reason: str = ""
    entries: tuple[str, ...] = ()  # ids of the entries that explain the difference
    remedies: tuple[str, ...] = ()  # for this call in this release
    is_own: bool = True  # the program makes the calls itself
    calls: int = 0  # compared calls
    masks: Counter[str] = field(default_factory=Counter)  # {masks of a call in words: calls}
    grids: dict[str, dict[str, str]] = field(default_factory=dict)  # {masks in words: {name: grid of a small mask}}
    paths: Counter[str] = field(default_factory=Counter)
    settings: Counter[str] = field(default_factory=Counter)  # "eval, no grad, float32"
    difference: str = ""  # the first mismatch in words
    size: float = 0.0  # the largest difference
    script: str = ""  # the path of a script that repeats the first call, if the verdict is UNKNOWN

    @property
    def gravity(self) -> int:
        """The position of the verdict in GRAVITY."""
        return GRAVITY.index(self.verdict)


@dataclass
class Diagnosis:
    """The findings of one run."""

    most: int = 10  # calls that are compared for each kind of call at a place
    keep: Callable[[Made, Outcome], str] = lambda made, outcome: ""  # writes a script, and returns its path
    calls: Counter[tuple[Place, str]] = field(default_factory=Counter)  # all calls
    findings: dict[tuple[Any, ...], Finding] = field(default_factory=dict)
    mistakes: dict[tuple[Place, str, Mistake], int] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)  # calls that were not seen, by reason
    errors: Counter[str] = field(default_factory=Counter)  # errors of the doctor
    seconds: float = 0.0  # spent comparing
    process: int = field(default_factory=os.getpid)
    memories: Memories = field(default_factory=Memories)
    _seen: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def wants(self, made: Made) -> bool:
        """Count the call; True if it is to be compared."""
        if made.is_own:
            self.calls[made.place, made.function] += 1
        kind = (made.place, made.function, _kind(made))
        self._seen[kind] += 1
        return self._seen[kind] <= self.most

    def fails(self, error: Exception) -> None:
        """Note an error of the doctor."""
        self.errors[" ".join(f"{type(error).__name__}: {error}".split())] += 1

    def passes(self, reason: str) -> None:
        """Note a call that was not seen."""
        self.passed[reason] += 1

    def judge(self, made: Made) -> None:
        """Compare a call, and the calls inside it if nobody knows why it differs, or if it cannot be compared."""
        outcome = compared(made)
        if made.is_own:
            self._add_mistakes(made, outcome)
        self._add(made, outcome)
        if outcome.verdict in (UNKNOWN, NOT_COMPARED):
            for inner in made.inner:
                self.judge(inner)

    def _add_mistakes(self, made, outcome):
        found = [*mistakes_of(made), *self.memories.mistakes_of(made)]
        found += [accepted(outcome.unfit)] * bool(outcome.unfit)
        for mistake in dict.fromkeys(found):
            key = (made.place, made.function, mistake)
            self.mistakes[key] = self.mistakes.get(key, 0) + 1

    def _add(self, made, outcome):
        key = (made.place, made.function, outcome.verdict, outcome.reason, outcome.entries, outcome.remedies)
        if key not in self.findings:
            self.findings[key] = Finding(
                made.place,
                made.function,
                outcome.verdict,
                outcome.reason,
                outcome.entries,
                outcome.remedies,
                made.is_own,
            )
            if outcome.verdict == UNKNOWN:
                self.findings[key].script = self.keep(made, outcome)
        finding = self.findings[key]
        finding.calls += 1
        words = masks_in_words(made)
        finding.masks[words] += 1
        if words not in finding.grids:
            finding.grids[words] = {} if outcome.verdict in (AS_SPECIFIED, NOT_COMPARED) else masks_as_grids(made)
        finding.paths[" ".join(dict.fromkeys(made.served)) or "none"] += 1
        finding.settings[setting_in_words(made)] += 1
        finding.size = max(finding.size, outcome.size)
        finding.difference = finding.difference or mismatch_in_words(outcome)


def _kind(made):
    """The kind of a call: calls of one kind are likely to take the same path."""
    masks = tuple((name, str(mask.dtype), mask.ndim) for name, mask in made.masks.items())
    training = None if made.owner is None else made.owner.training
    return made.compiled is None, masks, training, made.around.records, str(made.device), made.around.autocast
