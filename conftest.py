"""Options, Hypothesis profiles, and the hooks that make the conformance tests a measurement: record and summary."""

import gc
import importlib
import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings

from tests.harness.command_line import HARNESS_ERROR
from tests.harness.strategies.provider import INDEPENDENT

_STARTED = time.monotonic()  # before torch is imported and the ledger's pinned cases are tried, which takes a while

# Workers share the machine, and what each computes is small: threads in each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What torch consists of lives as long as the run: to look through it less often saves 6 % of its time.
gc.set_threshold(700, 10, 100)

_CONFORMANCE = Path(__file__).parent / "tests" / "conformance"

# A slow machine is no error of a test, so the health check for slowness is off.
_COMMON = {
    "backend": INDEPENDENT,
    "deadline": None,
    "database": None,
    "print_blob": False,
    "report_multiple_bugs": False,
    "phases": (Phase.explicit, Phase.generate, Phase.shrink),
    "suppress_health_check": [HealthCheck.too_slow],
}
for _name, _examples in {"quick": 50, "default": 200, "long": 600, "thorough": 5000}.items():
    settings.register_profile(_name, max_examples=_examples, **_COMMON)
settings.register_profile("ci", settings.get_profile("default"))
settings.load_profile("default")


def pytest_addoption(parser):
    group = parser.getgroup("attention masks")
    group.addoption("--device", default="cpu", help="any torch device string (default: cpu)")
    group.addoption("--import", dest="imported", metavar="MODULE", help="import it first: it brings the device along")
    group.addoption("--report", metavar="PATH", help="where the record goes (default: reports/<torch>-<device>.json)")
    group.addoption("--baseline", metavar="PATH", help="fail only on what is worse than in this record")
    group.addoption(
        "--shard", metavar="I/N", help="run the I-th of N parts; `python -m tests.tools.merge` puts them together"
    )
    group.addoption(
        "--subject", metavar="MODULE:FACTORY", help="measure what this makes, in the place of nn.MultiheadAttention"
    )
    group.addoption(
        "--patience",
        metavar="SECONDS",
        type=float,
        default=600.0,
        help="once failures have taken so long, those of compiled calls are told as they are found (default: 600)",
    )
    group.addoption(
        "--clause",
        metavar="N",
        action="append",
        help="make only calls that exercise this clause of reference/README.md; can be given again",
    )
    group.addoption("--no-issues", action="store_true", help="leave no scripts and issues for what fails")
    group.addoption("--model", metavar="VERSION", help="judge by the model of this release, not of the installed one")
    group.addoption(
        "--no-ledger",
        action="store_true",
        help="judge by the specification alone; --strict fails when a known deviation is absent",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.stash[_MEASURES] = _measures(config)
    if not config.stash[_MEASURES]:
        return
    if config.getoption("no_ledger") and config.getini("strict"):
        raise pytest.UsageError("--no-ledger and --strict contradict each other: without a ledger nothing is absent")
    if config.getoption("no_ledger") and config.getoption("model"):
        raise pytest.UsageError("--no-ledger and --model contradict each other: a model is the ledger of a release")
    torch = _import_torch()
    _import_backend(config.getoption("imported"))
    device = config.getoption("device")
    try:
        torch.empty(1, device=device)
    except Exception as error:  # torch raises many types here
        raise pytest.UsageError(f"--device {device}: torch cannot use it: {str(error).splitlines()[0]}") from None
    adopted = _adopted(config.getoption("subject"), device)
    selected = _clauses(config.getoption("clause"))
    config.stash[_PART] = _part(config)
    _prepare_paths(config, torch)
    config.stash[_SHARD] = _shard(config.getoption("shard"))
    config.stash[_BASELINE] = _baseline(config.getoption("baseline"))
    if not config.getoption("hypothesis_seed"):
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(10**6))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tests.harness.measurement import session
    from tests.harness.measurement.last_call import LastCall, path_of

    model, imported = _model(config.getoption("model")), config.getoption("imported")
    run = session.start(device, not config.getoption("no_ledger"), model, adopted, imported)
    run.clauses = selected
    config.stash[_RUN] = run
    if hasattr(config, "workerinput"):
        run.last_call = LastCall(path_of(config.option.report, config.workerinput["workerid"]))
    else:
        config.pluginmanager.register(Measurement(config), "measurement")


_MEASURES = pytest.StashKey[bool]()
_BASELINE = pytest.StashKey[object]()
_PART = pytest.StashKey[list[str]]()
_RUN, _OTHER = pytest.StashKey[object](), pytest.StashKey[object]()  # sessions: see _resume
_SHARD = pytest.StashKey[tuple[int, int]]()
_SPENT = pytest.StashKey[float]()


def _measures(config):
    """True if conformance tests are asked for: what else there is tests the suite itself."""
    return any(_has_all(place) or _CONFORMANCE in place.parents for place in _places(config))


def _places(config):
    return [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]


def _has_all(place):
    return place == _CONFORMANCE or place in _CONFORMANCE.parents


# Options that leave out tests, by the name of their value.
_LIMITS = {"keyword": "-k", "markexpr": "-m", "shard": "--shard", "deselect": "--deselect", "lf": "--lf"}
_LIMITS |= {"ignore": "--ignore", "ignore_glob": "--ignore-glob", "stepwise": "--stepwise"}


def _part(config):
    """What limits the run to a part of the conformance tests, as it was typed; nothing if it has all of them."""
    paths = [] if any(map(_has_all, _places(config))) else list(config.args)
    given = {option: config.getoption(name, None) for name, option in _LIMITS.items()}
    given = {option: value for option, value in given.items() if value and value != "1/1"}
    clauses = [f"--clause {number}" for number in sorted(set(config.getoption("clause") or ()), key=int)]
    return (
        paths + [option if value is True else f"{option} {_typed(value)}" for option, value in given.items()] + clauses
    )


def _typed(value):
    return " ".join(value) if isinstance(value, list) else value


def _import_torch():
    try:
        import torch
    except ImportError as error:
        raise pytest.UsageError(f"torch cannot be imported: {error}") from None
    from packaging.version import Version

    from tests.harness.releases import OLDEST

    if Version(torch.__version__) < Version(OLDEST):
        raise pytest.UsageError(f"torch {torch.__version__} is too old: {OLDEST} is the oldest that is modelled")
    return torch


def _clauses(numbers):
    """The numbers that --clause gives, as a set."""
    from tests.harness.expectation.clauses import BY_NUMBER

    for number in numbers or ():
        if number not in map(str, BY_NUMBER):
            raise pytest.UsageError(f"--clause {number}: reference/README.md has clauses 1 to {max(BY_NUMBER)}")
    return frozenset(map(int, numbers or ()))


def _exercises(item, selected):
    """False if no call of the test can exercise a selected clause: it is about others, or there are no clauses."""
    from tests.harness.expectation.clauses import OF_CASES

    marker = item.get_closest_marker("clause")
    return not selected or not selected.isdisjoint(marker.args if marker else OF_CASES)


def _shard(text):
    """(which part, of how many) that --shard names; the whole without it."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text or "1/1")
    if not match or int(match[1]) > int(match[2]):
        raise pytest.UsageError(f"--shard {text}: not a part like 1/2 or 2/2")
    return int(match[1]), int(match[2])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if not config.stash[_MEASURES]:
        return
    part, parts = config.stash[_SHARD]
    selected = config.stash[_RUN].clauses
    asked = [item for item in items if not config.getoption("subject") or item.get_closest_marker("subject")]
    asked = [item for item in asked if not _is_measured(config, item.nodeid) or _exercises(item, selected)]
    chosen = asked[part - 1 :: parts]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let a worker that is done take over from the others, for some tests take a hundred times as long as most."""
    if config.stash[_MEASURES] and config.getoption("dist") == "load":
        from xdist.scheduler import WorkStealingScheduling

        return WorkStealingScheduling(config, log)
    return None


def _adopted(name, device):
    """The Adopted that --subject names, or None."""
    from tests.harness.execution.implementation import Unusable, load

    try:
        return load(name, device) if name else None
    except Unusable as error:
        raise pytest.UsageError(f"--subject {error}") from None


def _model(version):
    """The version that --model names, or None."""
    from packaging.version import InvalidVersion, Version

    from tests.harness.releases import NEWEST, OLDEST, is_modelled

    try:
        model = Version(version) if version else None
    except InvalidVersion:
        raise pytest.UsageError(f"--model {version}: not a version") from None
    if model and not is_modelled(model):
        raise pytest.UsageError(f"--model {version}: no release that is modelled: {OLDEST} to {NEWEST}, the newest")
    return str(model) if model else None


def _baseline(path):
    """The Record that --baseline names, or None."""
    from tests.harness.command_line import BadInput
    from tests.tools.records import read_record

    try:
        return read_record(path) if path else None
    except BadInput as error:
        raise pytest.UsageError(f"--baseline {error}") from None


def _import_backend(module):
    try:
        if module:
            importlib.import_module(module)
    except Exception as error:  # a module can fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise pytest.UsageError(f"--import {module}: {reason}") from None


def _prepare_paths(config, torch):
    name = f"{torch.__version__.split('+')[0]}-{config.getoption('device').replace(':', '')}"
    if config.getoption("subject"):
        name += f"-{config.getoption('subject').replace(':', '.')}"
    if config.stash[_PART]:
        shards = [limit.split()[1] for limit in config.stash[_PART] if limit.startswith("--shard ")]
        name += "-part" + "".join(f"-{shard.replace('/', '-of-')}" for shard in shards)
    report = Path(config.getoption("report") or config.rootpath / "reports" / f"{name}.json")
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with open(report, "a"):
            pass
        if not report.stat().st_size:
            report.unlink()
    except OSError as error:
        raise pytest.UsageError(f"--report {report}: cannot be written: {error.strerror}") from None
    config.option.report = str(report)
    if not config.option.xmlpath:
        config.option.xmlpath = str(report.with_suffix(".xml"))


# ---- in the process that runs the tests ----------------------------------------------------------------------------


def _is_measured(config, nodeid):
    """True if a conformance test is measured. Others can be part of the run, which test the suite itself."""
    return config.stash[_MEASURES] and _CONFORMANCE in Path(config.rootpath, nodeid.partition("::")[0]).parents


def _resume(node):
    """Put the session of the measurement in its place for a conformance test, and that of other tests for these."""
    from tests.harness.measurement import session

    stash = node.config.stash
    if _is_measured(node.config, node.nodeid):
        if session.current is not stash[_RUN]:
            stash[_OTHER], session.current = session.current, stash[_RUN]
    elif session.current is stash[_RUN] and _OTHER in stash:
        session.current = stash[_OTHER]


def pytest_collectstart(collector):
    if collector.config.stash[_MEASURES]:
        _resume(collector)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    if item.config.stash[_MEASURES]:
        _resume(item)
    if _is_measured(item.config, item.nodeid):
        from tests.harness.measurement import session

        session.current.tally = session.Tally()  # or one that is skipped tells what the one before it counted
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    if _is_measured(item.config, item.nodeid):
        from tests.harness.measurement import session

        if hasattr(item.obj, "hypothesis"):
            _seed(item)(item.obj)
        started = time.process_time()
        outcome = yield
        tally = session.current.tally
        tally.seconds = round(time.process_time() - started, 3)
        if tally.unasked and not tally.statuses and not outcome.excinfo:
            outcome.force_exception(pytest.skip.Exception("no call of it exercises a selected clause"))
    else:
        yield


def _seed(item, part=""):
    """A decorator for what asks Hypothesis: the run's seed, made the test's own, or two would draw the same cases."""
    return seed(f"{item.config.getoption('hypothesis_seed')} {item.path.name} {item.name}{part}")


@pytest.fixture
def seeded(request):
    """The same decorator, for one part of a test that asks Hypothesis several times."""
    return lambda part: _seed(request.node, f" {part}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not _is_measured(item.config, item.nodeid) or (report.when != "call" and report.passed):
        return
    from tests.harness.judgement.report import Nonconformance
    from tests.harness.measurement import record, session

    if report.failed and call.when == "call":
        _spend(item.config, report.duration)
    outcome = record.PASSED
    if call.excinfo is not None and not report.skipped:
        expected = call.when == "call" and call.excinfo.errisinstance((Nonconformance, AssertionError))
        outcome = record.FAILED if expected else record.HARNESS_ERROR
    # a plain attribute of the report travels from a worker to the controller
    report.measured = {
        "outcome": "skipped" if report.skipped else outcome,
        "seconds": round(report.duration, 2),
        "tally": session.current.tally.as_dict(),
        "failures": [its.as_plain() for its in getattr(call.excinfo.value, "failures", ())] if report.failed else [],
        "message": str(call.excinfo.value)[:20_000] if report.failed else "",
        **_about(item),
    }


def _about(item):
    """The entry of a ledger that a test is about, or in which way it asks: "eager", in a mode, in a low precision."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    about = {name: getattr(value, "id", value) for name, value in parameters.items() if name in _ABOUT}
    about = {_ABOUT[name]: value for name, value in about.items() if isinstance(value, str)}
    return about or {"way": "eager"}


_ABOUT = {"entry": "entry", "mode": "way", "dtype": "way"}  # by the names of parameters of tests


def _spend(config, seconds):
    """Count what a failure has taken, which is mostly to make it smaller; tests that ask Hypothesis later may not."""
    config.stash[_SPENT] = config.stash.get(_SPENT, 0.0) + seconds
    if config.stash[_SPENT] > config.getoption("patience"):
        settings.register_profile("as found", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("as found")


# ---- in the process that was started by hand -----------------------------------------------------------------------


class Measurement:
    """Collects what the tests report, writes the record and prints the summary."""

    def __init__(self, config):
        from tests.harness.measurement import record, session

        self.config, self.run, self.tests, self.record = config, session.current, {}, None
        self.changes, self.filed, self.others_failed = [], [], False
        profile = config.getoption("hypothesis_profile") or "default"
        self.environment = record.environment(session.current, profile, config.option.hypothesis_seed)

    def pytest_report_header(self):
        from tests.harness.measurement.summary import header

        return header(self.environment)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        from tests.harness.measurement import record

        if hasattr(report, "measured"):
            self.tests[report.nodeid] = report.measured
        elif report.failed and not _is_measured(self.config, report.nodeid):
            self.others_failed = True
        elif report.failed:  # xdist's own report: the worker is gone
            last = self._last_call(report)
            told = "".join(f"\n\nIts last call was that of\n\n    {failure.again}" for failure in last)
            crashed = {"seconds": 0, "tally": {}, "failures": [failure.as_plain() for failure in last]}
            crashed["message"] = f"{str(report.longrepr)[:2000]}{told}"
            self.tests[report.nodeid] = {"outcome": record.CRASH, **crashed}

    def _last_call(self, report):
        """The Failure of the call that the worker was making, in a list; empty if it was making none."""
        from tests.harness.judgement.report import crash
        from tests.harness.measurement.last_call import path_of, taken

        case = taken(path_of(self.config.option.report, report.node.gateway.id))
        return [crash(case, self.run.setting)] if case else []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        from tests.harness.deviations.paths import reachable_paths
        from tests.harness.measurement import record
        from tests.harness.measurement.last_call import path_of

        for path in Path(self.config.option.report).parent.glob(path_of(self.config.option.report, "*").name):
            path.unlink()
        complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldfail
        seconds = time.monotonic() - _STARTED
        self.record = record.assemble(self.run, self.environment, self.tests, complete, seconds)
        self.record |= {"part": self.config.stash[_PART]} if self.config.stash[_PART] else {}
        self.record["neglected_paths"] = record.neglected_paths(self.record, reachable_paths(self.run.release))
        if self.tests:
            record.write(self.record, self.config.option.report)
            self.filed = self._file()
        if complete and self.config.stash[_BASELINE]:
            session.exitstatus = self._gate()
        if complete and (self.record["neglected_paths"] or record.HARNESS_ERROR in self.record["outcomes"]):
            session.exitstatus = HARNESS_ERROR

    def _file(self):
        """Leave what is needed to file each failure; the record is written already, whatever goes wrong here."""
        from tests.tools.filing import file_failures

        if self.config.getoption("no_issues"):
            return []
        try:
            return [f"To file: {place}" for place in file_failures(self.record, Path(self.config.option.report).parent)]
        except Exception as error:  # the run has failed already, and its record is written
            return [f"HARNESS ERROR: the failures cannot be filed: {type(error).__name__}: {error}"]

    def _gate(self):
        """The exit code by what changed since the baseline."""
        from tests.tools.compare import as_text, changes, forgiven
        from tests.tools.records import as_record

        baseline, now = self.config.stash[_BASELINE], as_record(self.record, self.config.option.report)
        found = changes(baseline, now)
        self.changes = [*as_text(baseline, now, found), *forgiven(baseline, now)]
        is_worse = self.others_failed or any(change.is_worse for change in found)
        return pytest.ExitCode.TESTS_FAILED if is_worse else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter):
        from tests.harness.measurement.summary import markdown, summary

        if not self.tests:
            return
        terminalreporter.section("attention masks", sep="=")
        for line in (*summary(self.record, self.config.option.report), *self.filed):
            terminalreporter.write_line(line)
        if self.changes:
            terminalreporter.section("since the baseline", sep="=")
            for line in self.changes:
                terminalreporter.write_line(line)
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with open(step_summary, "a") as file:
                file.write(markdown(self.record))
