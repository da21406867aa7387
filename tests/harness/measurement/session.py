"""What a whole run shares: the release, the device, the ledger's entries in force, and the tally of each test."""

import logging
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from math import ceil, isfinite, log10

import torch

from ..deviations import entry, ledger
from ..deviations.call import Call
from ..deviations.facts import fills_padding
from ..deviations.refusals import refusal
from ..execution import release
from ..execution.runner import observe, observe_apart
from ..expectation import clauses
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, judge
from ..wrong_masks import ledger as wrong_masks_ledger
from ..wrong_masks.judge import is_shown, rows_of
from .last_call import LastCall

PRESENT, ABSENT, CHANGED, NOT_APPLICABLE = "present", "absent", "changed", "not applicable"


@dataclass
class Tally:
    """What one test has seen. Everything adds up over tests, workers and machines, except `ratios`: their maximum."""

    statuses: Counter = field(default_factory=Counter)  # of verdicts
    deviations: Counter = field(default_factory=Counter)  # by ledger id
    modules: Counter = field(default_factory=Counter)  # by "id module": calls of the module that deviate so
    cases: Counter = field(default_factory=Counter)  # by module
    paths: Counter = field(default_factory=Counter)  # by "module path": cases that it served
    findings: dict = field(default_factory=dict)  # by id: of entries of wrong_masks_ledger
    uncomputed: Counter = field(default_factory=Counter)  # by id of such an entry: elements of results left out
    ratios: dict = field(default_factory=dict)  # by "module dtype": the largest error / bound of a right result
    margins: Counter = field(default_factory=Counter)  # by "module dtype bound decade": comparisons, see `decade`
    left_out: Counter = field(default_factory=Counter)  # by "reason: unit" (left_out.py), what is compared among them
    clauses: Counter = field(default_factory=Counter)  # by "number verdict": calls that exercise the clause
    unasked: int = 0  # calls that exercise none of the selected clauses, and are not made
    seconds: float = 0.0  # of CPU time
    seconds_in_torch: float = 0.0  # of these

    def add(self, case, observation, verdict, exercised):
        """Count one judged case. exercised: the numbers of the clauses that it was held to."""
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
            finite = [m for m in verdict.mismatches if m.bound and isfinite(m.error)]
            self.margins.update(f"{key} fails {decade(m.error / m.bound)}" for m in finite)
        else:
            self.ratios[key] = max([self.ratios.get(key, 0.0), *(ratio for _, ratio in verdict.margins)])
            self.margins.update(f"{key} {bound} {decade(ratio)}" for bound, ratio in verdict.margins)

    def exercise(self, numbers, status):
        """Count a call for the clauses of these numbers, unless it was not made."""
        if status in (CONFORMS, DEVIATES, FAILS):
            self.clauses.update(f"{number} {status}" for number in numbers)

    def count(self, counts):
        """Add {(reason, unit): number} of what was compared, or left out."""
        self.left_out.update({f"{reason}: {unit}": number for (reason, unit), number in counts.items() if number})

    def add_wrong_call(self, call, judgement):
        """Count one judged row of the table of wrong masks."""
        self.statuses[judgement.status] += 1
        self.exercise(clauses.of(call), judgement.status)
        if judgement.status == DEVIATES:
            self.deviations[judgement.entry.id] += 1
            self.modules[f"{judgement.entry.id} {call.module}"] += 1
        if judgement.comparison.left_out:
            reason = judgement.entry.id if judgement.entry else "subject"  # whose parameters have names of its own
            self.uncomputed[reason] += judgement.comparison.left_out

    def as_dict(self):
        """Plain data, without what is empty."""
        plain = {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items() if value}
        return plain | {"findings": {id: asdict(finding) for id, finding in self.findings.items()}}


def decade(ratio):
    """The power of ten that the ratio error / bound does not exceed, as text: "1e-02"; "0" if there is no error."""
    return f"{10.0 ** ceil(log10(max(ratio, 1e-9))):.0e}" if ratio else "0"


@dataclass(frozen=True)
class Finding:
    """What became of an entry: of its pinned case, or of its rows in the table of wrong masks.

    status: one of the four above; CHANGED where a case does neither what is specified nor what the entry predicts.
    expected: whether the entry's range has this release; None on a device that ranges are not measured on.
    paths: those that served the pinned case.
    """

    status: str
    expected: bool | None
    paths: tuple[str, ...] = ()


@dataclass
class Session:
    """findings: of each ledger entry, by id. entries: those that predict in this run.

    wrong_masks: the entries that predict what becomes of wrong masks. model: the version whose model judges, if not
    that of the installed torch. clauses: the numbers of those that are selected; all if there are none.
    """

    release: release.Release
    findings: dict[str, Finding]
    entries: tuple[entry.Deviation, ...]
    wrong_masks: tuple[wrong_masks_ledger.WrongMaskDeviation, ...] = ()
    model: str | None = None
    imported: str | None = None
    last_call: LastCall = field(default_factory=LastCall)
    tally: Tally = field(default_factory=Tally)
    clauses: frozenset[int] = frozenset()

    @property
    def device(self):
        return self.release.device

    @property
    def adopted(self):
        return self.release.adopted

    @property
    def setting(self):
        return replace(self.release.setting, imported=self.imported)

    @property
    def has_own_ledger(self):
        """True if what is measured is what the ledger was measured on.

        Another implementation, or another device, may conform where torch deviates on CPU, or deviate as it does.
        """
        return self.adopted is None and self.release.is_measured


current: Session | None = None


def start(device="cpu", use_ledger=True, model=None, adopted=None, imported=None):
    """Begin a session with the installed torch. An entry that its pinned case does not show predicts nothing.

    Entries of other releases are tried as well, which shows that their ranges are right. model: the version of a
    release by whose model alone the installed torch is judged, as on the day when it was new. adopted: what stands in
    the place of nn.MultiheadAttention (implementation.Adopted). imported: the module that has brought the device along.
    """
    global current
    torch.set_num_threads(1)
    torch.set_warn_always(True)
    logging.getLogger("torch._export").setLevel(logging.ERROR)  # else it tells of sizes, before the run's own header
    installed = release.installed(device, model, adopted)
    if not use_ledger:
        current = Session(installed, {}, (), imported=imported)
        return current
    concerned = tuple(entry for entry in ledger.ENTRIES if entry.concerns(installed))
    known = ledger.ENTRIES if model is None else concerned
    findings = {entry.id: probe(entry, installed, concerned) for entry in known}
    entries = tuple(entry for entry in concerned if findings[entry.id].status == PRESENT or entry.is_asked_late)
    wrong_masks = tuple(entry for entry in wrong_masks_ledger.ENTRIES if entry.concerns(installed))
    current = Session(installed, findings, entries, wrong_masks, model, imported)
    return current


def probe(entry, installed, concerned, late=False):
    """The Finding on an entry, with the other entries that concern the release.

    late: whether to ask for one that takes seconds; where it may end the process, in another one.
    """
    expected = _expected(entry in concerned, installed)
    if not installed.offers(entry.pinned) or (entry.is_asked_late and not late):
        return Finding(NOT_APPLICABLE, expected)
    case = installed.held(entry.pinned)
    observation = (observe_apart if entry.ends else observe)(case, installed.device)
    call = Call(case, installed, observation.served)
    if refusal(call):
        return Finding(NOT_APPLICABLE, expected)
    others = tuple(other for other in concerned if other is not entry)
    status, fills = CHANGED, fills_padding(installed)
    if judge(case, observation, ledger.applying(call, others), fills=fills).status != FAILS:
        status = ABSENT
    elif judge(case, observation, ledger.applying(call, (*others, entry)), fills=fills).status != FAILS:
        status = PRESENT
    return Finding(status, expected, tuple(dict.fromkeys(observation.served)))


def _expected(is_in_range, installed):
    return is_in_range if installed.is_measured else None


def find_late(entry):
    """The Finding on an entry that was not tried before the tests, which joins the others."""
    finding = probe(entry, current.release, current.entries, late=True)
    current.tally.findings[entry.id] = finding
    return finding


def find_wrong_mask(entry):
    """The Finding on an entry of wrong_masks_ledger in this session, which joins the others."""
    status = NOT_APPLICABLE
    if rows_of(entry, current.release):
        status = PRESENT if is_shown(entry, current.release) else ABSENT
    finding = Finding(status, _expected(entry in current.wrong_masks, current.release))
    current.tally.findings[entry.id] = finding
    return finding
