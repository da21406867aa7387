"""The header of a run and its summary, as text for a person."""

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import Version

from ..execution.setting import Setting
from ..expectation import clauses
from ..judgement.left_out import UNITS
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from ..ledgers import BY_ID
from ..modes.onnx import PACKAGES
from ..modes.onnx import SINCE as ONNX_SINCE
from ..releases import is_measured
from .record import CRASH, FAILED, HARNESS_ERROR, depends_on_cpu
from .session import ABSENT, CHANGED, PRESENT


def header(environment: Mapping[str, Any]) -> list[str]:
    """The lines that pytest prints before the tests. environment: see record.environment."""
    e = environment
    subject = Setting(subject=e.get("subject"))
    variables = ", ".join(f"{name}={value}" for name, value in e["variables"].items()) or "none set"
    return [
        f"attention masks: torch {e['torch']} ({e['git'][:10]}) on {e['device']}, {e['ledger']} known deviations",
        f"  numpy {e['numpy']}, python {e['python']}, {e['platform']}, cpu {e['cpu']}, threads {e['threads']}",
        *([f"  subject: {subject.factory}, in place of {subject.replaced}"] if subject.subject else []),
        *([f"  judged by the model of torch {e['model']}"] if "model" in e else []),
        *(["  no C++ compiler, or no setuptools: inductor builds nothing"] if e.get("compiler") is False else []),
        *(["  no quantized engine of x86: the mode quantized is not asked"] if e.get("quantizes") is False else []),
        *([f"  {e['not_shared']}: the distributed modes are not asked"] if "not_shared" in e else []),
        *_packages(e),
        f"  profile {e['profile']}, seed {e['seed']} (again with --hypothesis-seed={e['seed']})",
        f"  environment: {variables}",
    ]


def _packages(environment):
    """The line about the packages that some modes need; none for a release without such modes."""
    versions = environment.get("packages", {})
    absent = [name for name in PACKAGES if name not in versions]
    if versions and not absent:
        yield f"  {', '.join(f'{name} {version}' for name, version in versions.items())}"
    elif Version(environment["torch"]) >= Version(ONNX_SINCE):
        yield f"  no {', '.join(absent)}: models stored as ONNX files are not asked (tox -e torch2.15-onnx)"


def summary(record: Mapping[str, Any], path: str) -> Iterator[str]:
    """The lines that pytest prints after the tests. record: see record.assemble. path: of the record."""
    statuses = record["statuses"]
    total = sum(statuses.values())
    e = record["environment"]
    yield f"torch {e['torch']} on {e['device']}: {total} calls were compared with the specification."
    yield f"  {statuses.get(CONFORMS, 0):7} conform to it"
    where = "torch on CPU" if _is_lent(e) else f"torch {e['model']}" if "model" in e else "this release"
    where = "the subject" if "subject_ledger" in e else where
    yield f"  {statuses.get(DEVIATES, 0):7} deviate exactly as the ledger predicts for {where}"
    yield f"  {statuses.get(FAILS, 0):7} fail: they do neither (many calls may have one cause)"
    if declined := statuses.get(NOT_APPLICABLE, 0):
        yield f"  {declined:7} were declined by the subject"
    if record.get("part"):
        yield f"This is a part of the suite: {', '.join(record['part'])}"
    if not record["complete"]:
        yield "The run is INCOMPLETE: it was interrupted."
    yield from _known(record)
    yield from _left_out(record)
    yield from _clauses(record)
    yield from _news(record)
    if uncomputed := record.get("uncomputed"):
        yield f"Not compared: {sum(uncomputed.values())} elements of accepted wrong calls ({', '.join(uncomputed)})"
    yield from _paths(record)
    share = record["cpu_seconds_in_torch"] / max(record["cpu_seconds"], 0.1)
    yield (
        f"{record['seconds']:.0f} s of wall time, including the import of torch and the pinned cases; {share:.0%} of"
        f" the tests' CPU time was spent inside torch. Record: {path}"
    )


def _is_lent(environment):
    """True if the ledger has not been measured on this release, device or implementation."""
    is_lent = "subject" in environment and "subject_ledger" not in environment
    return is_lent or not is_measured(environment["device"].partition(":")[0], Version(environment["torch"]))


def _known(record):
    seen = {id: entry["cases"] for id, entry in record["ledger"].items() if entry["cases"]}
    if seen:
        yield "Known deviations that were seen (calls; a call may show several):"
    for id, cases in sorted(seen.items(), key=lambda item: -item[1]):
        title = f": {BY_ID[id].title} ({BY_ID[id].upstream})" if id in BY_ID else ""
        yield f"  {cases:7}  {id}{title}"


def _clauses(record):
    """The number of calls that exercise each clause."""
    counts = {int(number): its["calls"] for number, its in record.get("clauses", {}).items()}
    if counts:
        yield f"Calls by clause: {', '.join(f'{number}: {calls:,}' for number, calls in sorted(counts.items()))}."


def _unexercised(record):
    """The clauses of this run that no call exercises. Older records have no counts of clauses, and yield none."""
    counts, part = record.get("clauses"), record.get("part")
    for clause in clauses.CLAUSES if counts is not None else ():
        is_asked = not part or f"--clause {clause.number}" in part
        if is_asked and str(clause.number) not in counts:
            yield clause


def _left_out(record):
    """The shares of elements, gradients and results that are not compared, by reason."""
    compared, left_out = record.get("compared", {}), record.get("left_out", {})
    if not compared:
        return
    units = [unit for unit in UNITS if compared.get(unit)]
    total = {unit: compared[unit] + sum(counts.get(unit, 0) for counts in left_out.values()) for unit in units}

    def shares(counts):
        return ", ".join(f"{counts.get(unit, 0) / total[unit]:.2%} of {unit}" for unit in units)

    all_left = {unit: total[unit] - compared[unit] for unit in units}
    end = ":" if left_out else "."
    yield f"Compared: {', '.join(f'{compared[unit]:,} {unit}' for unit in units)}. Left out: {shares(all_left)}{end}"
    yield from (f"  {reason}: {shares(counts)}" for reason, counts in sorted(left_out.items()))


def _news(record):
    for id, entry in record["ledger"].items():
        if entry["status"] == ABSENT and entry["expected"] and depends_on_cpu(id):
            yield f"Not on this CPU: {id}. Some CPUs show it."
        elif entry["status"] == ABSENT and entry["expected"]:
            yield f"Good news: {id} is absent. The ledger expects it here; its case conforms."
        if entry["status"] == PRESENT and entry["expected"] is False:
            yield f"The ledger's range is wrong: {id} is present."
        if entry["status"] == CHANGED and not _is_lent(record["environment"]):
            yield f"Changed: {id}. Its pinned case neither conforms nor deviates as predicted."
    for id, test in record["tests"].items():
        if test["outcome"] in (FAILED, HARNESS_ERROR, CRASH):
            yield f"{test['outcome'].upper()}: {id}"
    for clause in _unexercised(record):
        yield f"NOT EXERCISED: no call is about clause {clause.number}, {clause.title}."
    for path in record["neglected_paths"]:
        yield f"{HARNESS_ERROR.upper()}: the suite reaches a path too rarely: {path}"


def _paths(record):
    yield "Paths that served the calls (% of a module's calls; one call can take several):"
    for module, counts in record["paths"].items():
        cases = counts["cases"]
        shares = ", ".join(f"{path} {100 * n / cases:.0f}" for path, n in counts.items() if path != "cases")
        yield f"  {module} ({cases}): {shares}"


def markdown(record: Mapping[str, Any]) -> str:
    """The summary in Markdown, for the page of a CI job."""
    e = record["environment"]
    lines = [f"### Attention masks: torch {e['torch']} on {e['device']}", "", "| calls | verdict |", "| ---: | --- |"]
    lines += [f"| {number} | {status} |" for status, number in record["statuses"].items()]
    lines += ["", "| calls | known deviation |", "| ---: | --- |"]
    lines += [f"| {entry['cases']} | {id} |" for id, entry in record["ledger"].items() if entry["cases"]]
    lines += ["", *(f"- {line}" for line in _news(record)), ""]
    return "\n".join(lines)
