"""`python -m tests.tools fault-table [--check]` writes docs/sensitivity.md from the results of a campaign.

Each campaign leaves a file named after its version of torch. The page shows the newest version, or that of --torch.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from tests.harness.command_line import Parser
from tests.sensitivity.faults import CLASSES
from tests.sensitivity.reasons import REASONS
from tests.tools.clauses import conformance_tests

if TYPE_CHECKING:
    from tests.sensitivity.campaign import Result

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results" / "sensitivity"
PAGE = ROOT / "docs" / "sensitivity.md"
_HEADS = ("fault", "what goes wrong", "noticed by", "after calls", "alone", "profile")


def path_of(torch: str, folder: Path = FOLDER) -> Path:
    """The file with the results of the campaign on this version of torch."""
    return folder / f"{torch}-cpu.json"


def newest(folder: Path = FOLDER) -> str:
    """The newest version of torch with a file of results. Raises ValueError if the folder has none."""
    return max((path.stem.removesuffix("-cpu") for path in folder.glob("*-cpu.json")), key=Version)


def read(torch: str | None = None, folder: Path = FOLDER) -> dict:
    """The results of the campaign on this version of torch (default: the newest), as `summarise` returns them."""
    return json.loads(path_of(torch or newest(folder), folder).read_text())


def keep(found: dict, folder: Path = FOLDER) -> None:
    """Write the results of a campaign to the file of its version of torch."""
    folder.mkdir(parents=True, exist_ok=True)
    path_of(found["torch"], folder).write_text(json.dumps(found, indent=1) + "\n")


def summarise(results: "dict[str, list[Result]]", environment: dict) -> dict:
    """The results of a campaign as plain data: `environment` and {"faults": {id: facts}}.

    The facts are the profile that noticed the fault (None if none did), the id of the test that took the fewest calls
    ("first"), this number ("calls"), and True under "alone" if no second test function failed (None if unknown).

    results: {id of a fault: its results, one for each profile that was tried}.
    environment: {"torch": version, "seed": seed, "first": True if every run ended with the first failing function}.
    """
    deciding = {fault: next((r for r in tries if r.killed), tries[-1]) for fault, tries in results.items()}
    return {**environment, "faults": {fault: _fault(its) for fault, its in sorted(deciding.items())}}


def _fault(result):
    if not result.killed:
        return {"profile": None}
    first, calls = min(result.killed.items(), key=lambda item: item[1])
    alone = None if result.first else len(set(map(function_of, result.killed))) == 1
    return {"profile": result.profile, "first": first, "calls": calls, "alone": alone}


def function_of(test: str) -> str:
    """The id of a test without its parameters."""
    return test.partition("[")[0]


def noticed_alone(found: dict, test: str) -> list[str]:
    """Ids of the faults that no other test function noticed. test: "file::name", without parameters."""
    return [
        id
        for id, fault in found["faults"].items()
        if fault["profile"] and fault["alone"] and function_of(fault["first"]).endswith(test)
    ]


def page(found: dict) -> str:
    """The text of docs/sensitivity.md. found: see `summarise`."""
    faults = found["faults"]
    quick = sum(fault["profile"] == "quick" for fault in faults.values())
    noticed = sum(fault["profile"] is not None for fault in faults.values())
    lines = [
        "# What the suite notices",
        "",
        "<!-- Written by `python -m tests.tools fault-table` from docs/results/sensitivity. -->",
        "",
        f"{len(faults)} faults were put into torch {found['torch']}, one at a time. A fault is one change in torch's",
        "source, or a wrapper that changes the calls of an operator under one condition. For each fault, the tests",
        "whose calls can reach it were run, without shrinking failures",
        f"(`python -m tox -e sensitivity`, seed {found['seed']}). The quick profile notices {quick} faults",
        f"({_share(quick, faults)}), both profiles together {noticed} ({_share(noticed, faults)}): only faults that",
        "the quick profile misses were tried with the default profile, which draws four times as many examples from",
        "the same strategies. Each fault has a call whose outcome it changes",
        "([test_faults_are_real.py](../tests/sensitivity/test_faults_are_real.py)).",
        f"Each quick run ended with the {'first' if found['first'] else 'second'} test function that failed, each",
        'default run with the first. "Noticed by" names the test that needed the fewest calls. "Alone" means that no',
        "second test function failed; this is unknown after a run that ended with the first.",
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


def main(arguments: list[str]) -> int:
    """Write the page. With --check, write nothing and return 1 if the page is stale."""
    parser = Parser(prog="python -m tests.tools fault-table", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    parser.add_argument("--torch", metavar="VERSION", help="show the campaign on this version (default: newest)")
    options = parser.parse_args(arguments)
    if options.torch and not path_of(options.torch).exists():
        parser.error(f"--torch {options.torch}: no campaign on it is kept in {FOLDER}")
    text = page(read(options.torch))
    is_stale = not PAGE.exists() or PAGE.read_text() != text
    if is_stale and options.check:
        print(f"stale: {PAGE}; run python -m tests.tools fault-table", file=sys.stderr)
        return 1
    if is_stale:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
