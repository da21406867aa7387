"""What each release does with a call, by the ledger: the entries that apply, and the remedies that help.

Nothing is run. Neighbouring releases that do the same are one answer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff
from functools import cached_property, lru_cache
from itertools import combinations, groupby

import numpy as np
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from tests.harness.cases.case import Case, drops, masks_of
from tests.harness.cases.masks import Given, SeeingFirst
from tests.harness.command_line import BadInput
from tests.harness.contents.arrays import directions
from tests.harness.contents.results import present
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.deviations.kernels import kernels
from tests.harness.deviations.prediction import CONFORMS, LACKING, Prediction, prediction
from tests.harness.execution.another_release import AnotherRelease
from tests.harness.execution.call import constructor
from tests.harness.judgement.prediction import predict
from tests.harness.judgement.verdict import showing
from tests.harness.modes.modes import BY_ID
from tests.harness.modes.reading import COMPILED_READING
from tests.harness.modes.written import is_written
from tests.harness.releases import RELEASES, is_modelled, minor

from ..case_script import call_lines
from .size import is_drawn

DRAWS, FEW_DRAWS = 8, 3  # contents of a mask whose kind leaves them open; few where gradients cost more
_MOST_LINES = 12
WARNS = "an undue warning"
_STAND_INS = {
    "compiled_inductor": "compiled",
    "compiled_inductor_dynamic": "compiled_dynamic",
    COMPILED_READING: "compiled_dynamic",
}
_ENTRIES = {entry.id: entry for entry in ledger.ENTRIES}


@dataclass(frozen=True)
class Remedied:
    """A remedy, or two together. releases: those of the answer in which it helps, in words; empty if all.

    diff: the lines of the call that it changes.
    """

    text: str
    cost: str = ""
    releases: str = ""
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """An entry that applies. shows: in how many of `draws` contents. is_anywhere: whether each CPU does it."""

    id: str
    symptom: str
    title: str
    instead: str
    shows: int
    draws: int
    is_anywhere: bool
    upstream: str


@dataclass(frozen=True)
class Answer:
    """What neighbouring releases do. status: of prediction.Prediction. why: of a refusal, or of what is lacking.

    is_unknown: whether the call is lacking because it was not measured or is not predicted; the releases may have it.
    """

    versions: tuple[Version, ...]
    status: str
    entries: tuple[Shown, ...] = ()
    why: str = ""
    remedies: tuple[Remedied, ...] = ()
    no_remedy: str = ""
    is_unknown: bool = False

    @property
    def releases(self) -> str:
        """The releases in words, such as "2.1 to 2.4.0"."""
        return in_words(self.versions)


# ---- releases ------------------------------------------------------------------------------------------------------


def _borders():
    """{minor release: the patch releases in which a range of the ledger begins or ends}"""
    versions = {part.version for entry in ledger.ENTRIES for part in SpecifierSet(entry.affects)}
    versions = {Version(version.removesuffix(".*")) for version in versions}
    return {release: sorted(v for v in versions if minor(v) == release and v.micro) for release in RELEASES}


_PATCHES = _borders()


def versions_in(text: str) -> list[Version]:
    """The versions of "2.1:2.15", "2.4" or "2.4.1": minor releases by the patch releases that differ."""
    found = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        start, end = (_version(end) if end else None for end in ((first, last) if colon else (first, first)))
        if start and end and start > end:
            raise BadInput(f"--torch {part}: {first} comes after {last}")
        found += _between(start, end)
    return sorted(set(found))


def _version(text):
    try:
        version = Version(text)
    except InvalidVersion:
        raise BadInput(f"--torch {text}: no version; as in 2.4, 2.1:2.15 or 2.4.1") from None
    if not is_modelled(version):
        raise BadInput(f"--torch {text}: not modelled; {', '.join(RELEASES)} are")
    return version


def _between(first, last):
    if first is not None and first == last and len(first.release) > 2:
        return [first]
    known = [Version(f"{release}.0") for release in RELEASES]
    known = sorted([*known, *(patch for patches in _PATCHES.values() for patch in patches)])
    starts = [v for v in known if first is None or v >= first]
    return [v for v in starts if last is None or v <= last or (len(last.release) < 3 and minor(v) == minor(last))]


def in_words(versions: Sequence[Version]) -> str:
    """As "2.1 to 2.4.0": neighbouring versions, with a patch release where another one of its minor release differs."""
    first, last = versions[0], versions[-1]
    if first == last:
        return str(first) if _PATCHES[minor(first)] else minor(first)
    ends = minor(first) if first.micro == 0 else str(first), _end(last)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _end(version):
    """The minor release, unless later patch releases may differ."""
    patches = _PATCHES[minor(version)]
    return minor(version) if not patches or version >= patches[-1] else str(version)


# ---- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """The answer for one release, without remedies. See Answer."""

    status: str
    entries: tuple[Shown, ...] = ()
    why: str = ""
    is_unknown: bool = False


@dataclass(frozen=True)
class Question:
    """A call, and how it is computed.

    small: the same call of fewer features, which stands for it in all that is computed. kernel: the one to take for
    granted (kernels.py). only: whether its seed, and no other, tells what it holds.
    """

    case: Case
    small: Case
    kernel: str | None = None
    only: bool = False
    calls: int = 1  # in the text, see text.Asked

    @cached_property
    def draws(self) -> list[Case]:
        """The small call with the contents to ask about."""
        number = FEW_DRAWS if directions(self.small) else DRAWS
        seeds = range(number) if is_drawn(self.case) and not self.only else [self.case.seed]
        return [replace(self.small, seed=seed) for seed in seeds]

    @cached_property
    def _known(self):
        return {}

    def predicted(self, case: Case, release: AnotherRelease) -> Prediction:
        """The Prediction of one call."""
        key = case, release
        if key not in self._known:
            self._known[key] = prediction(case, release, self.kernel)
        return self._known[key]


def answers(question: Question, versions: Sequence[Version]) -> list[Answer]:
    """The Answers on a Question, in the order of the releases."""
    said = [(version, said_of(question, AnotherRelease(version))) for version in versions]
    groups = [(what, tuple(version for version, _ in group)) for what, group in groupby(said, key=lambda pair: pair[1])]
    return [_answer(question, what, its) for what, its in groups]


def said_of(question: Question, release: AnotherRelease) -> Said:
    """The answer for one release, without remedies."""
    draws = [_in_its_mode(case, release) for case in question.draws]
    made = [question.predicted(case, release) for case in draws]
    if made[0].status == LACKING:
        unknown = _unknown(draws[0], release)
        return Said(LACKING, why=unknown or "it lacks the function, or one of the arguments", is_unknown=bool(unknown))
    status = next((its.status for its in made if its.status != CONFORMS), CONFORMS)
    why = next((_documented(its.refusal) for its in made if its.refusal), "")
    entries = [_shown(_ENTRIES[id], draws, made, release, question.kernel) for id in _ids(made)]
    telling = [entry for entry in entries if entry.shows] or entries
    return Said(status, tuple(sorted(telling, key=lambda entry: entry.symptom == WARNS)), why)


def _ids(made):
    """The ids of the entries that show with any of the contents, in the order of the ledger."""
    shown = {id for its in made for id in its.ids}
    return [id for id in _ENTRIES if id in shown]


def _documented(refusal):
    """The error of a refusal, and where it is documented."""
    types = " or ".join(name.removesuffix(".*") for name in refusal.error[0].split("|"))
    return f"{types}: {refusal.source}"


def _in_its_mode(case, release):
    """The case; before 2.6 the graph alone stands for all that torch.compile makes by default."""
    stand_in = None if case.is_flex else _STAND_INS.get(case.mode)
    return replace(case, mode=stand_in) if stand_in and not release.has_mode(case.mode) else case


def _unknown(case, release):
    """The reason for which nothing is known of the case in a release; empty if the release cannot make the call."""
    if is_written(case):
        return "not predicted for attention written by hand, which inductor may rewrite: run it"
    if case.dtype not in (*release.dtypes, *release.low_dtypes):
        return f"not measured in {case.dtype}"
    if (device := BY_ID[case.mode].only_on) not in (None, "cpu"):
        return f"not predicted: the mode {case.mode} is one of {device}"
    if not release.has_mode(case.mode):
        return f"not measured in the mode {case.mode} (from {BY_ID[case.mode].since} on)"
    return ""


def _shown(entry, draws, made, release, kernel):
    """The Shown of an entry: with how many of the contents it makes a difference by itself."""
    calls = [Call(case, release, kernels(case, release, kernel)) for case in draws]
    pairs = zip(calls, made, strict=True)
    found = (symptom_of(entry, call, is_alone=its.ids == (entry.id,)) for call, its in pairs if entry.id in its.ids)
    symptoms = list(filter(None, found))
    symptom = symptoms[0] if symptoms else "together with others"
    told = entry.title, entry.instead, len(symptoms), len(draws), entry.every_cpu, entry.upstream
    return Shown(entry.id, symptom, *told)


# ---- symptoms ------------------------------------------------------------------------------------------------------


def symptom_of(entry: Deviation, call: Call, is_alone: bool = False) -> str:
    """A few words for an error, NaN, or another result that an entry alone makes of a call; empty if it makes none.

    is_alone: whether no other entry is known to show.
    """
    applied, undropped = ledger.applying(call, (entry,)), _undropped(call.case)
    model = predict(undropped, applied)
    if model.error:
        return f"raises {model.error[0].partition('|')[0]}"
    if model.warnings:
        return WARNS
    if model.lost:
        return "no log-sum-exp is returned" if call.case.is_flex else "no weights are returned"
    plain, right = _specified(undropped)
    wrong = {name: np.real(array) for name, array in present(undropped, model()).items()}
    if any(wrong[name].shape != right[name].shape for name in wrong):
        return f"output of shape {wrong['output'].shape}, not {right['output'].shape}"
    if numbers := _of_numbers(model, right, wrong):
        return numbers
    if (model.dtype, model.weights_dtype) != (plain.dtype, plain.weights_dtype):
        return "another dtype"
    is_seen = bool(directions(call.case)) and (is_alone or bool(showing(call.case, applied, call.served)))
    return "wrong gradients" if is_seen else ""


def _undropped(case):
    return replace(case, dropout=0.0) if drops(case) else case


@lru_cache(maxsize=64)
def _specified(case):
    """(computation, results) of the specification."""
    plain = predict(case)
    return plain, {name: np.real(array) for name, array in present(case, plain()).items()}


def _of_numbers(model, right, wrong):
    """The symptom that results show; empty if they are right."""
    where = {name: np.isnan(wrong[name]) & ~np.isnan(right[name]) for name in wrong}
    if any(its.any() for its in where.values()):
        is_all = where["output"].size and where["output"].all()
        return (
            "output is all NaN" if is_all else "output is NaN in part" if where["output"].any() else "weights are NaN"
        )
    if model.may_be_nan:
        return "output may be NaN"
    is_right = all(np.allclose(wrong[name], right[name], rtol=1e-9, equal_nan=True) for name in wrong)
    return "" if is_right and not model.undefined else "wrong output, without an error"


# ---- remedies ------------------------------------------------------------------------------------------------------


def _answer(question, said, versions):
    """The Answer, with remedies after which the call does what is specified, for each of its contents."""
    answer = Answer(versions, said.status, said.entries, said.why, is_unknown=said.is_unknown)
    if not said.entries:
        return answer
    entries = [_ENTRIES[its.id] for its in said.entries]
    remedies = [remedy for entry in entries for remedy in entry.remedies]
    changes = [list(its) for _, its in groupby(sorted(_changes(remedies), key=_text), key=_text)]
    changes.sort(key=lambda its: remedies.index(its[0]))
    found = [_helping(question, versions, its) for its in changes]
    if not any(found) and len(entries) > 1:
        found = [_helping(question, versions, *pair) for pair in combinations(changes, 2)]
    found = [remedied for remedied in found if remedied] + list(_upgrades(question, remedies))
    reasons = [entry.no_remedy for entry in entries if entry.no_remedy]
    return replace(answer, remedies=tuple(found), no_remedy="" if found else "; ".join(reasons) or "none is known")


def _changes(remedies):
    return (remedy for remedy in remedies if not remedy.upgrade)


def _text(remedy):
    return remedy.text


def _helping(question, versions, *remedies):
    """The Remedied, with the releases in which these changes together lead to what is specified; None if in none.

    remedies: lists of those that say one thing, each for its calls.
    """
    helped, shown = [], None
    for version in versions:
        release = AnotherRelease(version)
        cases = [_in_its_mode(case, release) for case in question.draws]
        cases = [case for case in cases if question.predicted(case, release).ids][:FEW_DRAWS]
        changed = [_changed(case, version, remedies) for case in cases]
        if cases and all(its and question.predicted(its, release).status == CONFORMS for its in changed):
            helped.append(version)
            shown = shown or (cases[0], changed[0])
    if not helped:
        return None
    text = " ".join(its[0].text for its in remedies)
    cost = "; ".join(dict.fromkeys(its[0].cost for its in remedies if its[0].cost))
    where = "" if len(helped) == len(versions) else _where(helped, versions)
    return Remedied(text, cost, where, _diff(question.case, *shown))


def _changed(case, version, remedies):
    """The call with these changes; None where one of them says nothing about it."""
    for alternatives in remedies:
        changes = (its.applied(case, version) for its in alternatives if its.holds_in(version))
        changed = next((changed for changed in changes if changed is not None), None)
        if changed is None:
            return None
        case = _with_contents(case, changed)
    return case


def _with_contents(case, changed):
    """The changed call, where masks that are held keep their contents but for the first key."""
    held = {}
    for name, mask in masks_of(changed).items():
        former = getattr(case, name, None)
        if isinstance(former, Given) and isinstance(mask, SeeingFirst):
            held[name] = replace(former, form=mask.form, values=mask.values, shown_first=True)
    return replace(changed, **held)


def remedied(question: Question, ids: Iterable[str], version: Version) -> Iterator[Case]:
    """The calls that single remedies of these entries make of the call, and that then do what is specified."""
    release = AnotherRelease(version)
    for remedy in _changes([remedy for id in ids for remedy in _ENTRIES[id].remedies]):
        changed = _changed(question.case, version, [[remedy]])
        if changed is not None and question.predicted(changed, release).status == CONFORMS:
            yield changed


def _upgrades(question, remedies):
    """To use another release helps if it does what is specified."""
    for text in dict.fromkeys(remedy.text for remedy in remedies if remedy.upgrade):
        remedy = next(its for its in remedies if its.text == text)
        release = AnotherRelease(Version(next(part.version for part in SpecifierSet(remedy.releases))))
        cases = [_in_its_mode(case, release) for case in question.draws]
        if all(question.predicted(case, release).status == CONFORMS for case in cases):
            yield Remedied(text)


def _where(helped, versions):
    """The releases in which a remedy helps: runs of neighbouring ones."""
    runs = groupby(versions, key=helped.__contains__)
    return ", ".join(in_words(tuple(run)) for is_helped, run in runs if is_helped)


def _diff(case, *smalls):
    """The lines by which two small calls differ, with the sizes of the case that they stand for."""
    if case.is_flex and case.has_lists:  # its lists stand for those that are not read
        return ()
    lines = [_lines(small) for small in smalls]
    before, after = ([_in_size(line, case, smalls[0]) for line in its] for its in lines)
    lines = list(unified_diff(before, after, n=0, lineterm=""))[2:]
    lines = [line for line in lines if not line.startswith("@@") and line[1:].strip()]
    return tuple(f"{line[0]} {line[1:]}" for line in lines) if len(lines) <= _MOST_LINES else ()


def _lines(small):
    """The lines of a call. A mask of flex_attention stands for one that is not read, and its lines are left out."""
    lines = "\n".join(call_lines(small, with_inputs=False)).splitlines()
    return [line for line in lines if not (small.is_flex and ("_mask = torch" in line or "torch.tensor(" in line))]


def _in_size(line, case, small):
    """A line of a small call with the numbers of the case."""
    if not case.is_module:
        return line
    sizes = {f"{name}=": (value, constructor(case)[name]) for name, value in constructor(small).items()}
    sizes |= {"(layer, ": (getattr(small, "num_layers", 0), getattr(case, "num_layers", 0))}
    sizes |= {"LayerNorm(": (small.E, case.E)}
    for name, (former, number) in sizes.items():
        line = re.sub(rf"{re.escape(name)}{re.escape(str(former))}(?=[,)])", f"{name}{number}", line)
    return line
