"""`python -m tests.tools soak [--runs N]` repeats the run of the suite with new seeds, until its log has N runs.

If the suite and its model of a release are correct, no run fails. The log, docs/results/soak/<torch>-<device>.json, has
the result of each run, and a histogram of error / bound over all runs. A run that fails keeps its record in
reports/soak. `--page` writes docs/false-alarms.md from all logs. Exit code 1 if a run failed.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.harness.command_line import Parser
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement.record import CRASH, FAILED, HARNESS_ERROR
from tests.harness.releases import NEWEST

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "docs" / "results" / "soak"
PAGE = ROOT / "docs" / "false-alarms.md"
_BAD = (FAILED, HARNESS_ERROR, CRASH)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog="python -m tests.tools soak", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=10, help="number of runs in the log at the end (default: %(default)s)"
    )
    parser.add_argument("--profile", default="default", help="Hypothesis profile of the runs (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--page", action="store_true", help="run no tests; write docs/false-alarms.md")
    parser.add_argument("--check", action="store_true", help="with --page: write nothing; exit 1 if the page is stale")
    options = parser.parse_args(arguments)
    if options.page:
        return write_page(options.check)
    import torch

    path = LOGS / f"{torch.__version__.split('+')[0]}-{options.device.replace(':', '')}.json"
    log = read_log(path)
    while (missing := options.runs - len(log["runs"])) > 0:
        print(f"{missing} more runs of torch {torch.__version__}", flush=True)
        record = _run(options, path.stem)
        add(log, record)
        write_log(path, log)
        print(f"  {describe(log['runs'][-1])}", flush=True)
    return int(any(run["failed"] for run in log["runs"]))


def _run(options, name):
    """The record of one run with a new seed. The files of a run without failures are deleted."""
    seed = random.SystemRandom().randrange(10**9)
    report = ROOT / "reports" / "soak" / f"{name}-{seed}.json"
    command = [sys.executable, "-m", "pytest", "tests/conformance", "-n", os.environ.get("WORKERS", "2"), "--quiet"]
    command += [f"--hypothesis-profile={options.profile}", f"--hypothesis-seed={seed}", f"--device={options.device}"]
    report.parent.mkdir(parents=True, exist_ok=True)
    with open(report.with_suffix(".txt"), "w") as output:
        code = subprocess.run([*command, f"--report={report}"], cwd=ROOT, stdout=output, stderr=output).returncode
    if not report.exists():
        sys.exit(f"no record was written, exit code {code}: see {report.with_suffix('.txt')}")
    record = json.loads(report.read_text())
    if not record["complete"]:
        sys.exit(f"the run was interrupted: {report}")
    if code == 0:
        for made in report.parent.glob(f"{report.stem}.*"):
            made.unlink()
    return record


def read_log(path: Path) -> dict:
    """{"runs": [one dict for each run], "margins": {"module dtype bound decade": number of comparisons}}

    A decade is one of error / bound. A missing file gives an empty log.
    """
    return json.loads(path.read_text()) if path.exists() else {"runs": [], "margins": {}}


def add(log: dict, record: dict) -> None:
    """Add a run to the log. record: of the run, as plain data."""
    statuses, tests = record["statuses"], record["tests"]
    log["runs"].append(
        {
            "seed": record["environment"]["seed"],
            "profile": record["environment"]["profile"],
            "calls": sum(statuses.values()),
            "fails": statuses.get(FAILS, 0),
            "failed": sorted(id for id, test in tests.items() if test["outcome"] in _BAD),
        }
    )
    log["margins"] = dict(sorted((Counter(log["margins"]) + Counter(record["margins"])).items()))


def write_log(path: Path, log: dict) -> None:
    """Write the log with one line for each run, so that a diff shows the new runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = ",\n".join(f"  {json.dumps(run)}" for run in log["runs"])
    margins = ",\n".join(f"  {json.dumps(key)}: {number}" for key, number in log["margins"].items())
    path.write_text(f'{{\n "runs": [\n{runs}\n ],\n "margins": {{\n{margins}\n }}\n}}\n')


def describe(run: dict) -> str:
    """A run of a log, in one line."""
    return f"seed {run['seed']}: {run['calls']} calls, " + (", ".join(run["failed"]) or "none fails")


# ---- the page ------------------------------------------------------------------------------------------------------


def write_page(check: bool) -> int:
    """Write docs/false-alarms.md. If `check`, write nothing, and return 1 if the page is stale."""
    text = page({path.stem: read_log(path) for path in sorted(LOGS.glob("*.json"))})
    is_stale = not PAGE.exists() or PAGE.read_text() != text
    if is_stale and not check:
        PAGE.write_text(text)
    if is_stale and check:
        print(f"stale: {PAGE}; run python -m tests.tools soak --page", file=sys.stderr)
    return int(is_stale and check)


def page(logs: dict[str, dict]) -> str:
    """The text of docs/false-alarms.md. logs: {release and device: log}."""
    lines = [
        "# False alarms",
        "",
        "<!-- Written by `python -m tests.tools soak --page` from docs/results/soak: change those. -->",
        "",
        f"Runs of the whole suite with different seeds. `python -m tox -e torch{NEWEST}-soak` makes such runs. The",
        "suite predicts the behaviour of a release for every call. A call that fails is therefore a false alarm, or",
        "shows a deviation that the ledger lacks. Each failure was examined; the suite or the ledger was corrected.",
        "",
        "| release | runs | profile | calls | calls that fail | tests that failed |",
        "| --- | ---: | --- | ---: | ---: | --- |",
        *(_row(name, log["runs"]) for name, log in logs.items()),
        "",
        "## Errors of correct results",
        "",
        "The number of comparisons of an array or a directional derivative, by error / bound. If an error exceeds the",
        "plain bound, the full bound is computed. It takes the condition of the case into account",
        "([comparison.py](../tests/harness/judgement/comparison.py)). A result fails only beyond the full bound.",
        "",
        *_margins(_coarse(sum((Counter(log["margins"]) for log in logs.values()), Counter()))),
        "",
    ]
    return "\n".join(lines)


def _row(name, runs):
    failed = sorted({test.partition("::")[2] for run in runs for test in run["failed"]})
    calls, fails = (sum(run[what] for run in runs) for what in ("calls", "fails"))
    profiles = ", ".join(sorted({run["profile"] for run in runs}))
    return f"| {name} | {len(runs)} | {profiles} | {calls:,} | {fails} | {', '.join(failed)} |"


def _margins(margins):
    """Generates the table of the number of comparisons, by module, dtype and decade of error / bound."""
    full = sum(number for key, number in margins.items() if " full " in key)
    yield from (f"Of {margins.total():,} comparisons {full:,} needed the full bound.", "")
    columns = sorted({tuple(key.split(" ")[2:]) for key in margins}, key=_column)
    rows = sorted({tuple(key.split(" ")[:2]) for key in margins})
    yield f"| module | dtype | {' | '.join(_head(*column) for column in columns)} |"
    yield f"| --- | --- |{' ---: |' * len(columns)}"
    for row in rows:
        numbers = (margins[" ".join((*row, *column))] for column in columns)
        yield f"| {row[0]} | {row[1]} | {' | '.join(f'{number:,}' if number else '' for number in numbers)} |"


def _coarse(margins):
    """The margins without failed comparisons, and with all small errors in one decade."""
    coarse = Counter()
    for key, number in margins.items():
        *of, decade = key.split(" ")
        if of[-1] != "fails":
            coarse[" ".join((*of, decade if decade == "0" else f"{max(float(decade), 1e-4):.0e}"))] += number
    return coarse


def _column(column):
    """The key by which columns are sorted."""
    kind, decade = column
    return kind == "full", float(decade)


def _head(kind, decade):
    return f"{kind}: {'exact' if decade == '0' else f'≤ {float(decade):g}'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
