"""The state of a run: the release, the device, the entries that predict outcomes, and the tally of the current test."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import ceil, isfinite, log10
from typing import Any, cast

import torch

from ..cases.case import Case
from ..deviations import ledger
from ..deviations.call import Call
from ..deviations.entry import Deviation
from ..deviations.facts import backward_pass
from ..deviations.refusals import refusal
from ..execution import release
from ..execution.implementation import DECLINED, Adopted
from ..execution.runner import Observation, observe, observe_apart
from ..execution.setting import Setting
from ..expectation import clauses
from ..judgement.groups import Collection
from ..judgement.report import Failure, Nonconformance, report
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE, Verdict, judge
from ..wrong_masks import ledger as wrong_masks_ledger
from ..wrong_masks.entry import WrongMaskDeviation
from ..wrong_masks.judge import Judgement, is_shown, rows_of
from ..wrong_masks.table import WrongCall
from .last_call import LastCall

PRESENT, ABSENT, CHANGED = "present", "absent", "changed"


@dataclass
class Tally:
    """The counts of one test. Tallies are added over tests, workers and machines; of `ratios` the maximum is taken."""

    statuses: Counter = field(default_factory=Counter)  # {status: calls}
    deviations: Counter = field(default_factory=Counter)  # {id of an entry: calls that show it}
    modules: Counter = field(default_factory=Counter)  # {"id module": calls of the module that show the entry}
    cases: Counter = field(default_factory=Counter)  # {module: cases}
    paths: Counter = field(default_factory=Counter)  # {"module path": cases of the module that the path served}
    findings: dict = field(default_factory=dict)  # {id of an entry: Finding}, of entries tried during the tests
    # {id of an entry of wrong_masks_ledger, or "subject": elements of results that are not compared}
    uncomputed: Counter = field(default_factory=Counter)
    ratios: dict = field(default_factory=dict)  # {"module dtype": largest error / bound of a right result}
    margins: Counter = field(default_factory=Counter)  # {"module dtype bound decade": comparisons}, see `decade`
    left_out: Counter = field(default_factory=Counter)  # {"reason: unit": number} (left_out.py), also for COMPARED
    clauses: Counter = field(default_factory=Counter)  # {"number status": calls that exercise the clause}
    groups: Collection = field(default_factory=Collection)  # the failures, if the run collects them
    unasked: int = 0  # calls that are skipped because they exercise none of the selected clauses
    seconds: float = 0.0  # CPU time of the test
    seconds_in_torch: float = 0.0  # part of `seconds` that torch takes

    def add(self, case: Case, observation: Observation, verdict: Verdict, exercised: Iterable[int]) -> None:
        """Count one judged case. exercised: the numbers of the clauses that the verdict is about."""
        self.statuses[verdict.status] += 1
        self.exercise(exercised, verdict.status)
        self.cases[case.module] += 1
        self.paths.update(f"{case.module} {path}" for path in set(observation.served))
        self.seconds_in_torch += observation.seconds
        if verdict.status == DEVIATES:
            self.deviations.update(verdict.deviations)
            self.modules.update(f"{id} {case.module}" for id in verdict.deviations)
        self.count(verdict.counts)
        key = f"{case.module} {case.dtype}"
        if verdict.status == FAILS:
            ratios = [float(m.error) / float(m.bound) for m in verdict.mismatches if m.bound and m.error is not None]
            self.margins.update(f"{key} fails {decade(ratio)}" for ratio in ratios if isfinite(ratio))
        else:
            self.ratios[key] = max([self.ratios.get(key, 0.0), *(ratio for _, ratio in verdict.margins)])
            self.margins.update(f"{key} {bound} {decade(ratio)}" for bound, ratio in verdict.margins)

    def exercise(self, numbers: Iterable[int], status: str) -> None:
        """Count a call for the clauses of these numbers. Calls that were not made do not count."""
        if status in (CONFORMS, DEVIATES, FAILS):
            self.clauses.update(f"{number} {status}" for number in numbers)

    def count(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add the numbers of compared and left out elements, gradients and results: {(reason, unit): number}."""
        self.left_out.update({f"{reason}: {unit}": number for (reason, unit), number in counts.items() if number})

    def add_wrong_call(self, call: WrongCall, judgement: Judgement) -> None:
        """Count one judged row of the table of wrong masks."""
        self.statuses[judgement.status] += 1
        self.exercise(clauses.of(call), judgement.status)
        entry = judgement.entry
        if judgement.status == DEVIATES and entry:
            self.deviations[entry.id] += 1
            self.modules[f"{entry.id} {call.module}"] += 1
        if judgement.comparison.left_out:
            reason = entry.id if entry else "subject"  # its parameters have other names
            self.uncomputed[reason] += judgement.comparison.left_out

    def as_dict(self) -> dict[str, Any]:
        """The tally as plain data, without empty values."""
        plain = {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items() if value}
        plain["groups"] = [group.as_plain() for group in self.groups.all()]
        return plain | {"findings": {id: asdict(finding) for id, finding in self.findings.items()}}


def decade(ratio: float) -> str:
    """The ratio error / bound rounded up to a power of ten, such as "1e-02"; "0" for a ratio of 0."""
    return f"{10.0 ** ceil(log10(max(ratio, 1e-9))):.0e}" if ratio else "0"


@dataclass(frozen=True)
class Finding:
    """The result of trying an entry, by its pinned case or its rows in the table of wrong masks."""

    status: str  # PRESENT, ABSENT, NOT_APPLICABLE, or CHANGED: the case neither conforms nor deviates as predicted
    expected: bool | None  # True if the entry's range contains this release; None on a device without measured ranges
    paths: tuple[str, ...] = ()  # paths that served the pinned case


@dataclass
class Session:
    """The state of one run."""

    release: release.Release  # the installed release and the device
    findings: dict[str, Finding]  # {id of an entry of the ledger: its finding}
    entries: tuple[Deviation, ...]  # the entries that predict outcomes in this run
    wrong_masks: tuple[WrongMaskDeviation, ...] = ()  # the entries that predict wrong masks
    model: str | None = None  # --model: judge by the model of this version, not of the installed one
    imported: str | None = None  # --import: the module that registers the device with torch
    last_call: LastCall = field(default_factory=LastCall)
    tally: Tally = field(default_factory=Tally)  # of the current test
    clauses: frozenset[int] = frozenset()  # --clause: the numbers of the selected clauses; empty for all
    collects: bool = False  # True if failing calls are kept; False if the first one ends its test

    @property
    def device(self) -> str:
        """The device string of torch."""
        return self.release.device

    @property
    def adopted(self) -> Adopted | None:
        """The implementation that is measured in place of nn.MultiheadAttention, if any."""
        return self.release.adopted

    @property
    def setting(self) -> Setting:
        """The device and the implementation, for reports."""
        return replace(self.release.setting, imported=self.imported)

    @property
    def has_own_ledger(self) -> bool:
        """True if the ledger has been measured on this release, device and implementation.

        Otherwise a call may conform although torch deviates on CPU, or deviate as torch on CPU does.
        """
        return (self.adopted is None or self.adopted.ledger is not None) and self.release.is_measured

    def fail(self, failure: Failure, text: Callable[[Failure], str] = report) -> None:
        """Keep the failure in the tally if the run collects failures; else raise Nonconformance.

        text: makes the message of the exception.
        """
        __tracebackhide__ = True
        if not self.collects:
            raise Nonconformance(text(failure), failure)
        self.tally.groups.add(failure)


current = cast(Session, None)  # set by `start`


def start(
    device: str = "cpu",
    use_ledger: bool = True,
    model: str | None = None,
    adopted: Adopted | None = None,
    imported: str | None = None,
    findings: Mapping[str, Finding] | None = None,
) -> Session:
    """Begin a session with the installed torch and try the pinned case of each entry. Sets `current`.

    An entry predicts outcomes in this session if its pinned case shows the deviation, or is tried later
    (Deviation.is_asked_late). On a measured release, an entry in range predicts unless its pinned case conforms: a new
    warning beside the deviation, or a refusal of the pinned case, says nothing against it. Without a model, entries of
    other releases are tried, too, to test their ranges.

    device: a device string of torch. use_ledger: False judges by the specification alone. model: a version; the
    installed torch is judged by the entries that concern this release. adopted: the implementation to measure in place
    of nn.MultiheadAttention. imported: the module that has registered the device with torch. findings: those of another
    process of the same run; with them no case is tried here.
    """
    global current
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    logging.getLogger("torch._export").setLevel(logging.ERROR)  # it would log sizes before the header
    installed = release.installed(device, model, adopted)
    if not use_ledger:
        current = Session(installed, {}, (), imported=imported)
        return current
    known, known_wrong_masks = ledger.ENTRIES, wrong_masks_ledger.ENTRIES
    if adopted and adopted.ledger:
        known, known_wrong_masks = adopted.ledger.ENTRIES, adopted.ledger.WRONG_MASKS
    concerned = tuple(entry for entry in known if entry.concerns(installed))
    if model is not None:
        known = concerned
    if findings is None:
        findings = {entry.id: probe(entry, installed, concerned) for entry in known}
    predicting = (PRESENT, CHANGED, NOT_APPLICABLE) if installed.is_measured else (PRESENT,)
    entries = tuple(entry for entry in concerned if findings[entry.id].status in predicting or entry.is_asked_late)
    wrong_masks = tuple(entry for entry in known_wrong_masks if entry.concerns(installed))
    current = Session(installed, dict(findings), entries, wrong_masks, model, imported)
    return current


def probe(entry: Deviation, installed: release.Release, concerned: Sequence[Deviation], late: bool = False) -> Finding:
    """The finding on an entry: its pinned case is run and judged with and without the entry.

    concerned: all entries that concern the release. late: also run a pinned case that takes seconds or may crash the
    process; the latter runs in a separate process.
    """
    expected = _expected(entry in concerned, installed)
    if not installed.offers(entry.pinned) or (entry.is_asked_late and not late):
        return Finding(NOT_APPLICABLE, expected)
    case = installed.held(entry.pinned)
    adopted = installed.adopted if installed.adopted and installed.adopted.ledger else None
    observation = (observe_apart if entry.ends else observe)(case, installed.device, adopted)
    call = Call(case, installed, observation.served)
    if refusal(call) or (adopted and observation.error and observation.error[0] == DECLINED):
        return Finding(NOT_APPLICABLE, expected)
    others = tuple(other for other in concerned if other is not entry)
    status, judged = CHANGED, partial(judge, case, observation, backward_pass=backward_pass(case, installed))
    if judged(deviations=ledger.applying(call, others)).status != FAILS:
        status = ABSENT
    elif judged(deviations=ledger.applying(call, (*others, entry))).status != FAILS:
        status = PRESENT
    return Finding(status, expected, tuple(dict.fromkeys(observation.served)))


def _expected(is_in_range, installed):
    return is_in_range if installed.is_measured else None


def find_late(entry: Deviation) -> Finding:
    """The finding on an entry that was not tried at the start of the session. Also added to the current tally."""
    finding = probe(entry, current.release, current.entries, late=True)
    current.tally.findings[entry.id] = finding
    return finding


def find_wrong_mask(entry: WrongMaskDeviation) -> Finding:
    """The finding on an entry of wrong_masks_ledger in this session. Also added to the current tally."""
    status = NOT_APPLICABLE
    if rows_of(entry, current.release):
        status = PRESENT if is_shown(entry, current.release) else ABSENT
    finding = Finding(status, _expected(entry in current.wrong_masks, current.release))
    current.tally.findings[entry.id] = finding
    return finding
