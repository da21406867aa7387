"""What a person reads: the header of a run and its summary."""

from packaging.version import Version

from ..expectation import clauses
from ..judgement.left_out import UNITS
from ..judgement.verdict import CONFORMS, DEVIATES, FAILS, NOT_APPLICABLE
from ..releases import is_measured
from .record import CRASH, FAILED, HARNESS_ERROR, depends_on_cpu, titles
from .session import ABSENT, CHANGED, PRESENT


def header(environment):
    """The lines at the head of a run."""
    e = environment
    variables = ", ".join(f"{name}={value}" for name, value in e["variables"].items()) or "none set"
    return [
        f"attention masks: torch {e['torch']} ({e['git'][:10]}) on {e['device']}, {e['ledger']} known deviations",
        f"  numpy {e['numpy']}, python {e['python']}, {e['platform']}, cpu {e['cpu']}, threads {e['threads']}",
        *([f"  subject: {e['subject']}, in the place of nn.MultiheadAttention"] if "subject" in e else []),
        *([f"  judged by the model of torch {e['model']}"] if "model" in e else []),
        *(["  no C++ compiler, or no setuptools: nothing is built by inductor"] if e.get("compiler") is False else []),
        f"  profile {e['profile']}, seed {e['seed']} (again with --hypothesis-seed={e['seed']})",
        f"  environment: {variables}",
    ]


def summary(record, path):
    """The lines at the end of a run."""
    statuses = record["statuses"]
    total = sum(statuses.values())
    e = record["environment"]
    yield f"torch {e['torch']} on {e['device']}: {total} calls were compared with the specification."
    yield f"  {statuses.get(CONFORMS, 0):7} conform to it"
    where = "torch on CPU" if _is_lent(e) else f"torch {e['model']}" if "model" in e else "this release"
    yield f"  {statuses.get(DEVIATES, 0):7} deviate exactly as the ledger predicts for {where}"
    yield f"  {statuses.get(FAILS, 0):7} fail: neither (failing tests shrink, so several calls may show one fault)"
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
        f"{record['seconds']:.0f} s by the clock, with the import of torch and the ledger's own cases; {share:.0%} of"
        f" the tests' CPU time was spent inside torch. Record: {path}"
    )


def _is_lent(environment):
    """True if the ledger was measured on something else."""
    return "subject" in environment or not is_measured(
        environment["device"].partition(":")[0], Version(environment["torch"])
    )


def _known(record):
    seen = {id: entry["cases"] for id, entry in record["ledger"].items() if entry["cases"]}
    if seen:
        yield "Known deviations that were seen (calls; a call may show several):"
    entries = titles()
    for id, cases in sorted(seen.items(), key=lambda item: -item[1]):
        yield f"  {cases:7}  {id}: {entries[id].title} ({entries[id].upstream})"


def _clauses(record):
    """How many calls exercise each clause."""
    counts = {int(number): its["calls"] for number, its in record.get("clauses", {}).items()}
    if counts:
        yield f"Calls by clause: {', '.join(f'{number}: {calls:,}' for number, calls in sorted(counts.items()))}."


def _unexercised(record):
    """The clauses that the run was for, and that no call exercises; none of an older record, which lacks the counts."""
    counts, part = record.get("clauses"), record.get("part")
    for clause in clauses.CLAUSES if counts is not None else ():
        is_asked = not part or f"--clause {clause.number}" in part
        if is_asked and str(clause.number) not in counts:
            yield clause


def _left_out(record):
    """How much of the results, and of the gradients, is not compared, and why."""
    compared, left_out = record.get("compared", {}), record.get("left_out", {})
    if not compared:
        return
    units = [unit for unit in UNITS if compared.get(unit)]
    total = {unit: compared[unit] + sum(counts.get(unit, 0) for counts in left_out.values()) for unit in units}

    def shares(counts):
        return ", ".join(f"{counts.get(unit, 0) / total[unit]:.2%} of {unit}" for unit in units)

    all_left = {unit: total[unit] - compared[unit] for unit in units}
    yield f"Compared: {', '.join(f'{compared[unit]:,} {unit}' for unit in units)}. Left out: {shares(all_left)}:"
    yield from (f"  {reason}: {shares(counts)}" for reason, counts in sorted(left_out.items()))


def _news(record):
    for id, entry in record["ledger"].items():
        if entry["status"] == ABSENT and entry["expected"] and depends_on_cpu(id):
            yield f"Not on this CPU: {id}, which others show."
        elif entry["status"] == ABSENT and entry["expected"]:
            yield f"Good news: {id} is absent. The ledger expects it here; its case behaves as specified."
        if entry["status"] == PRESENT and entry["expected"] is False:
            yield f"The ledger's range is wrong: {id} is present."
        if entry["status"] == CHANGED and not _is_lent(record["environment"]):
            yield f"Changed: {id} does neither what it did nor what is specified."
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


def markdown(record):
    """The summary for a page of a CI service."""
    e = record["environment"]
    lines = [f"### Attention masks: torch {e['torch']} on {e['device']}", "", "| calls | verdict |", "| ---: | --- |"]
    lines += [f"| {number} | {status} |" for status, number in record["statuses"].items()]
    lines += ["", "| calls | known deviation |", "| ---: | --- |"]
    lines += [f"| {entry['cases']} | {id} |" for id, entry in record["ledger"].items() if entry["cases"]]
    lines += ["", *(f"- {line}" for line in _news(record)), ""]
    return "\n".join(lines)
