"""`python -m tests.tools faults` runs the suite on torch with one fault at a time: which test notices it?

Each run is a conformance run in its own process. Failures are not shrunk. The run ends when a second test function
fails, because then no test notices the fault alone.

Every fault is tried with the quick profile first, on the tests that can reach it (see reach.py). A fault that survives
is tried with the default profile, on all tests, until one test function fails. The default run starts with compiled
modes, then with the tests that can reach the fault.
"""

import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings

from tests.harness.command_line import BAD_INPUT, Parser
from tests.harness.measurement.record import CRASH, FAILED, HARNESS_ERROR
from tests.sensitivity.controls import CONTROLS
from tests.sensitivity.faults import CLASSES, FAULTS
from tests.sensitivity.injection import injected, without_translations
from tests.sensitivity.kill_table import PAGE, function_of, keep, page, read, summarise
from tests.sensitivity.reach import Only, Recorder, sign

ROOT = Path(__file__).parents[2]
SEED = 20260101
TIMEOUT = 1200.0  # seconds
PROFILES = ("quick", "default")
IN_A_FORK = "-Wignore::pytest.PytestAssertRewriteWarning"  # preloaded modules are not rewritten
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Result:
    """The outcome of one run with one fault."""

    fault: str  # id of the fault
    profile: str  # Hypothesis profile of the run
    killed: dict[str, int]  # {id of a test that failed: number of calls that it judged until then}
    errors: tuple[str, ...] = ()  # ids of the tests with an error of the harness, or a message about the run
    first: bool = False  # True if the run ended with the first test function that failed, not with the second


class _WithoutShrinking:
    """A pytest plugin that keeps Hypothesis from shrinking failures."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self):
        settings.register_profile("unshrunk", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("unshrunk")


class _UntilNoticedBy:
    """A pytest plugin that ends the run when `number` test functions have failed.

    A test function that has failed is skipped for its other parameters. Compiled modes run last, since they are slow.

    likely: ids of the tests that can reach a fault that a quick run has missed. If given, compiled modes run first,
    because a quick run makes few compiled calls, and within each group the likely tests run first.
    """

    def __init__(self, number, likely=()):
        self._number, self._likely, self._failed = number, likely, set()

    def pytest_sessionstart(self, session):
        self._session = session

    def pytest_collection_modifyitems(self, items):
        def place(item):
            mode = item.callspec.params.get("mode") if hasattr(item, "callspec") else None
            is_compiled = "_when_" in item.name or getattr(mode, "compiles", False)
            return (not is_compiled, item.nodeid not in self._likely) if self._likely else is_compiled

        items.sort(key=place)

    def pytest_runtest_setup(self, item):
        if function_of(item.nodeid) in self._failed:
            pytest.skip("it has noticed")

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._failed.add(function_of(report.nodeid))
        if len(self._failed) == self._number:
            self._session.shouldfail = f"noticed by {self._number}"


def _arguments(profile, seed, report):
    """Redirect this process's output to a file beside the report; return the arguments of pytest."""
    log = os.open(report.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(ROOT)
    return [
        "tests/conformance",
        f"--hypothesis-profile={profile}",
        f"--hypothesis-seed={seed}",
        "--tb=no",
        "--no-issues",
        "--patience=600",  # each test ends with its first failure
        IN_A_FORK,
        f"--report={report}",
    ]


def _faulty_run(fault, profile, seed, report, first, tests):
    """Run `python -m pytest tests/conformance` on torch with the fault, and exit with its code.

    tests: ids of the tests that can reach the fault, None if unknown. A quick run runs only these tests.
    """
    only = [Only(tests)] if tests is not None and profile == PROFILES[0] else []
    until = _UntilNoticedBy(1 if first else 2, () if only else tests or ())
    plugins = [_WithoutShrinking(), until, *only]
    with injected((FAULTS | CONTROLS)[fault]):
        sys.exit(pytest.main(_arguments(profile, seed, report), plugins=plugins))


def _recorded_run(profile, seed, report, path):
    """Run the conformance tests on torch without a fault, and write {test id: signs of faults} to `path` as JSON."""
    recorder = Recorder()
    with without_translations(), recorder.watching(FAULTS.values()):
        code = pytest.main(_arguments(profile, seed, report), plugins=[recorder])
    path.write_text(json.dumps(recorder.tests, indent=1))
    sys.exit(code)


def tests_by_sign(profile: str, seed: int, folder: Path) -> dict[str, set[str]]:
    """{sign of a fault: ids of the tests that show this sign in a run with this profile and seed}.

    The run is made once; later calls read reach.json from the folder of the profile.
    """
    path = folder / profile / "reach.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _in_a_process(_recorded_run, profile, seed, path.with_name("without.json"), path)
    found = {}
    for test, signs in json.loads(path.read_text()).items():
        for its_sign in signs:
            found.setdefault(its_sign, set()).add(test)
    return found


def _in_a_process(function, *args):
    """The exit code of function(*args) in a forked process; None after a timeout, negative after a signal."""
    run = _FORK.Process(target=function, args=args)
    run.start()
    run.join(TIMEOUT)
    if run.is_alive():
        run.kill()
        return None
    return run.exitcode


def try_fault(
    fault: str,
    profile: str,
    seed: int,
    folder: Path,
    first: bool = False,
    reach: dict[str, set[str]] | None = None,
) -> Result:
    """Run the suite with the fault of this id, or read the record of a former run from `folder`.

    first: end the run with the first test function that fails, not with the second.
    reach: the result of tests_by_sign; None runs all tests.
    """
    report = folder / profile / f"{fault}.json"
    if not report.exists():
        report.parent.mkdir(parents=True, exist_ok=True)
        tests = reach.get(sign(FAULTS[fault]), set()) if reach else None
        if tests is not None and not tests and profile == PROFILES[0]:  # no quick call reaches the fault
            return Result(fault, profile, {}, first=first)
        code = _in_a_process(_faulty_run, fault, profile, seed, report, first, tests)
        if code is None or code < 0:  # a fault that crashes or hangs the process counts as noticed
            return Result(fault, profile, {CRASH: 0}, first=first)
        if not report.exists():
            return Result(fault, profile, {}, (f"no record, see {report.with_suffix('.txt')}",), first)
    record = json.loads(report.read_text())
    result = replace(_read(fault, profile, record), first=first)
    if not record["complete"] and not result.killed:
        report.unlink()  # so that the next campaign does not read an incomplete record
        return replace(result, errors=(f"interrupted, see {report.with_suffix('.txt')}",))
    return result


def _read(fault, profile, record):
    tests = record["tests"].items()
    killed = {id: sum(test.get("statuses", {}).values()) for id, test in tests if test["outcome"] in (FAILED, CRASH)}
    errors = tuple(id for id, test in tests if test["outcome"] == HARNESS_ERROR)
    return Result(fault, profile, killed, errors)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print one line for each fault.

    Exit code: 0 if every fault was noticed, 1 if one survives, 3 after an error of the harness or if a control was
    noticed, 4 if the arguments name an unknown fault.
    """
    parser = Parser(prog="python -m tests.tools faults", description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", help="ids of faults, or names of classes (default: all faults)")
    parser.add_argument(
        "--first", action="store_true", help="end each run with the first test function that fails, not the second"
    )
    parser.add_argument("--profile", choices=PROFILES, help="run only this profile (default: quick, then default)")
    parser.add_argument("--seed", type=int, default=SEED, help="the seed of all runs (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=int(os.environ.get("WORKERS", "2")))
    parser.add_argument(
        "--reports",
        type=Path,
        default=ROOT / "reports" / "sensitivity",
        help="folder for the records; a fault whose record is there is not run again",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.faults) - set(FAULTS) - set(CLASSES)
    if unknown:
        print(f"no such fault or class: {', '.join(sorted(unknown))}", file=sys.stderr)
        return BAD_INPUT
    faults = [
        fault.id
        for kind, members in CLASSES.items()
        for fault in members
        if not options.faults or {kind, fault.id} & set(options.faults)
    ]
    torch.set_num_threads(1)
    results, controls, reach = {}, [], None
    for profile in (options.profile,) if options.profile else PROFILES:
        surviving = [fault for fault in faults if not any(r.killed for r in results.get(fault, ()))]
        if profile == PROFILES[0] and not options.faults:  # measuring takes as long as one or two faults
            reach = tests_by_sign(profile, options.seed, options.reports)
        first = options.first or bool(results)  # one failing test is enough for a fault that the quick run missed
        run = partial(try_fault, profile=profile, seed=options.seed, folder=options.reports, first=first, reach=reach)
        with ProcessPoolExecutor(options.workers, _FORK) as pool:  # a process that forks must have no threads
            for result in pool.map(run, surviving):
                results.setdefault(result.fault, []).append(result)
                print(_line(result), flush=True)
        if profile == PROFILES[0] and not options.faults:
            with ProcessPoolExecutor(options.workers, _FORK) as pool:
                controls = list(pool.map(partial(run, reach=None), CONTROLS))
    if not options.faults and not options.profile:
        about = {"torch": torch.__version__.split("+")[0], "seed": options.seed, "first": options.first}
        found = summarise(results, about)
        keep(found)
        PAGE.write_text(page(read()))
    return _verdict(results) or _verdict_on(controls)


def _line(result):
    if result.errors:
        return f"{result.fault} ({result.profile}): HARNESS ERROR in {', '.join(result.errors[:3])}"
    if not result.killed:
        return f"{result.fault} ({result.profile}): SURVIVES"
    test, calls = min(result.killed.items(), key=lambda item: item[1])
    return f"{result.fault} ({result.profile}): noticed by {_short(test)} after {calls} calls"


def _verdict_on(controls):
    """Print the outcome of each control. Exit code 3 if a test noticed one, since controls change nothing."""
    noticed = {result.fault: [*result.killed, *result.errors] for result in controls}
    for id, tests in noticed.items():
        print(f"{id}: {'noticed by ' + ', '.join(map(_short, tests)) if tests else 'not noticed, as it should be'}")
    return 3 if any(noticed.values()) else 0


def _short(test):
    return test.removeprefix("tests/conformance/")


def _verdict(results):
    survivors = [fault for fault, tries in results.items() if not any(result.killed for result in tries)]
    erring = [fault for fault, tries in results.items() if any(result.errors for result in tries)]
    by_quick = sum(bool(tries[0].killed) for tries in results.values())
    first = next(iter(results.values()))[0].profile
    print(f"{len(results)} faults: the {first} profile notices {by_quick}, {len(survivors)} survive.")
    for fault in survivors:
        print(f"  survives: {fault}: {FAULTS[fault].title}")
    return 3 if erring else int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
