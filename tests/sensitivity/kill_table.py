"""`python -m tests.sensitivity.kill_table [--check]` writes docs/sensitivity.md: what the campaign on a torch found.

Each campaign leaves a file that is named by its torch; the page tells of the newest, or of that after --torch.
"""

import json
import sys
from pathlib import Path

from packaging.version import Version

from tests.harness.command_line import Parser
from tests.sensitivity.faults import CLASSES
from tests.sensitivity.reasons import REASONS
from tests.tools.clauses import conformance_tests

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results" / "sensitivity"
PAGE = ROOT / "docs" / "sensitivity.md"
_HEADS = ("fault", "what goes wrong", "noticed by", "after calls", "alone", "profile")


def path_of(torch, folder=FOLDER):
    """Where is kept what a campaign on this version of torch found."""
    return folder / f"{torch}-cpu.json"


def newest(folder=FOLDER):
    """The newest torch of which a campaign is kept."""
    return max((path.stem.removesuffix("-cpu") for path in folder.glob("*-cpu.json")), key=Version)


def read(torch=None, folder=FOLDER):
    """What the campaign on this version of torch found, or on the newest."""
    return json.loads(path_of(torch or newest(folder), folder).read_text())


def keep(found, folder=FOLDER):
    """Keep what a campaign found, beside those on other versions of torch."""
    folder.mkdir(parents=True, exist_ok=True)
    path_of(found["torch"], folder).write_text(json.dumps(found, indent=1) + "\n")


def summarise(results, environment):
    """What is kept of a campaign: plain data. results: {fault: its campaign.Result by profile}.

    environment: {"torch", "seed", "first": whether all runs ended with the first function that noticed}.
    """
    deciding = {fault: next((r for r in tries if r.killed), tries[-1]) for fault, tries in results.items()}
    return {**environment, "faults": {fault: _fault(its) for fault, its in sorted(deciding.items())}}


def _fault(result):
    if not result.killed:
        return {"profile": None}
    first, calls = min(result.killed.items(), key=lambda item: item[1])
    alone = None if result.first else len(set(map(function_of, result.killed))) == 1
    return {"profile": result.profile, "first": first, "calls": calls, "alone": alone}


def function_of(test):
    """The id of a test without its parameters."""
    return test.partition("[")[0]


def noticed_alone(found, test):
    """The faults that this test, of file::name, has noticed and no other, whatever its parameters."""
    return [
        id
        for id, fault in found["faults"].items()
        if fault["profile"] and fault["alone"] and function_of(fault["first"]).endswith(test)
    ]


def page(found):
    """docs/sensitivity.md"""
    faults = found["faults"]
    quick = sum(fault["profile"] == "quick" for fault in faults.values())
    noticed = sum(fault["profile"] is not None for fault in faults.values())
    lines = [
        "# What the suite notices",
        "",
        "<!-- Written by `python -m tests.sensitivity.kill_table` from docs/results/sensitivity. -->",
        "",
        f"{len(faults)} faults were put into torch {found['torch']}, one at a time: its source with one change, or",
        "a wrapper around an operator that spoils one condition. For each the tests in which it can show",
        "itself were run, without shrinking",
        f"what fails (`python -m tox -e sensitivity`, seed {found['seed']}). The quick profile notices {quick}",
        f"({_share(quick, faults)}), the default profile {noticed} ({_share(noticed, faults)}): what quick notices",
        "was not tried with default, which draws four times as much from the same strategies. Each fault shows itself",
        "on a call of its own ([test_faults_are_real.py](../tests/sensitivity/test_faults_are_real.py)).",
        f"Each quick run ended with the {'first' if found['first'] else 'second'} test function that noticed,",
        'each of default with the first: "noticed by" is the test that took the fewest calls, "alone" where there was',
        "no second function, as far as that is known.",
        "",
        "| class | faults | noticed by quick | by default |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, members in CLASSES.items():
        profiles = [faults[fault.id]["profile"] for fault in members if fault.id in faults]
        numbers = len(profiles), profiles.count("quick"), len(profiles) - profiles.count(None)
        lines.append(f"| [{kind}](#{kind}) | {' | '.join(map(str, numbers))} |")
    for kind, members in CLASSES.items():
        lines += ["", f"## {kind}", "", f"| {' | '.join(_HEADS)} |", "| --- | --- | --- | ---: | --- | --- |"]
        lines += [_row(fault, faults[fault.id]) for fault in members if fault.id in faults]
    return "\n".join([*lines, *(() if found["first"] else _tests(found)), ""])


def _share(number, faults):
    return f"{number / len(faults):.1%}"


def _row(fault, seen):
    if seen["profile"] is None:
        return f"| `{fault.id}` | {fault.title} | **survives** | | | |"
    facts = _short(seen["first"]), seen["calls"], "alone" if seen["alone"] else "", seen["profile"]
    return f"| `{fault.id}` | {fault.title} | {' | '.join(map(str, facts))} |"


def _short(test):
    return test.removeprefix("tests/conformance/test_").replace(".py::test_", ": ").replace("|", "\\|")


def _tests(found):
    """The table of tests."""
    yield from ("", "## Tests", "")
    yield "Which faults a test noticed and no other did. A test that notices nothing alone says why it stays."
    yield from ("", "| test | notices alone | stays because |", "| --- | --- | --- |")
    for test in conformance_tests():
        names = ", ".join(f"`{fault}`" for fault in noticed_alone(found, test))
        yield f"| {_short(test)} | {names} | {REASONS.get(test, '')} |"


def main(arguments):
    parser = Parser(prog="python -m tests.sensitivity.kill_table", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    parser.add_argument("--torch", metavar="VERSION", help="of which campaign (default: the newest)")
    options = parser.parse_args(arguments)
    if options.torch and not path_of(options.torch).exists():
        parser.error(f"--torch {options.torch}: no campaign on it is kept in {FOLDER}")
    text = page(read(options.torch))
    is_stale = not PAGE.exists() or PAGE.read_text() != text
    if is_stale and options.check:
        print(f"stale: {PAGE}; run python -m tests.sensitivity.kill_table", file=sys.stderr)
        return 1
    if is_stale:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
