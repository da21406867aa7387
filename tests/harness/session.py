"""What a whole run shares: the release, the device, the ledger's entries in force, and the tally of each test."""

from collections import Counter
from dataclasses import dataclass, field

import torch

from . import ledger, release, wrong_masks_ledger
from .situations import Call
from .subject import observe
from .verdict import DEVIATES, FAILS, judge

PRESENT, ABSENT, CHANGED, NOT_APPLICABLE = "present", "absent", "changed", "not applicable"


@dataclass
class Tally:
    """What one test has seen. Everything adds up over tests, workers and machines, except `ratios`: their maximum."""

    statuses: Counter = field(default_factory=Counter)  # of verdicts
    deviations: Counter = field(default_factory=Counter)  # by ledger id
    cases: Counter = field(default_factory=Counter)  # by module
    paths: Counter = field(default_factory=Counter)  # by "module path": cases that it served
    ratios: dict = field(default_factory=dict)  # by "module dtype": the largest error / bound of a right result
    absent: Counter = field(default_factory=Counter)  # by id: entries of wrong_masks_ledger that no row shows
    seconds: float = 0.0  # of CPU time
    seconds_in_torch: float = 0.0  # of these

    def add(self, case, observation, verdict):
        """Count one judged case."""
        self.statuses[verdict.status] += 1
        self.cases[case.module] += 1
        self.paths.update(f"{case.module} {path}" for path in set(observation.served))
        self.seconds_in_torch += observation.seconds
        if verdict.status == DEVIATES:
            self.deviations.update(verdict.deviations)
        if verdict.status != FAILS:
            key = f"{case.module} {case.dtype}"
            self.ratios[key] = max(self.ratios.get(key, 0.0), float(verdict.ratio))

    def add_wrong_call(self, judgement):
        """Count one judged row of the table of wrong masks."""
        self.statuses[judgement.status] += 1
        if judgement.status == DEVIATES:
            self.deviations[judgement.entry.id] += 1

    def as_dict(self):
        """Plain data, without what is empty."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items() if value}


@dataclass
class Session:
    """statuses: of each ledger entry, by its pinned case. entries: those that predict in this run.

    wrong_masks: the entries that predict what becomes of wrong masks; whether they are present, their rows tell.
    """

    release: release.Release
    statuses: dict[str, str]
    entries: tuple[ledger.Deviation, ...]
    wrong_masks: tuple[wrong_masks_ledger.WrongMaskDeviation, ...] = ()
    tally: Tally = field(default_factory=Tally)

    @property
    def device(self):
        return self.release.device


current: Session | None = None


def start(device="cpu", use_ledger=True):
    """Begin a session with the installed torch. An entry that its pinned case does not show predicts nothing."""
    global current
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    installed = release.installed(device)
    concerned = tuple(entry for entry in ledger.ENTRIES if entry.concerns(installed)) if use_ledger else ()
    statuses = {entry.id: NOT_APPLICABLE for entry in ledger.ENTRIES}
    statuses |= {entry.id: probe(entry, installed, concerned) for entry in concerned}
    entries = tuple(entry for entry in concerned if statuses[entry.id] == PRESENT)
    wrong_masks = tuple(entry for entry in wrong_masks_ledger.ENTRIES if use_ledger and entry.concerns(installed))
    current = Session(installed, statuses, entries, wrong_masks)
    return current


def probe(entry, installed, concerned):
    """What the pinned case of an entry shows: PRESENT, ABSENT, or CHANGED where neither prediction holds."""
    observation = observe(entry.pinned, installed.device)
    call = Call(entry.pinned, installed, observation.served)
    others = tuple(other for other in concerned if other.id != entry.id)
    if judge(entry.pinned, observation, ledger.applying(call, others)).status != FAILS:
        return ABSENT
    return CHANGED if judge(entry.pinned, observation, ledger.applying(call, concerned)).status == FAILS else PRESENT
