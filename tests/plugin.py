"""The pytest hooks that measure conformance: they start a session and write a record, a summary and issues."""

import gc
import os
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.errors import FlakyFailure

from tests.harness.command_line import HARNESS_ERROR, BadInput
from tests.harness.deviations.paths import reachable_paths
from tests.harness.execution.implementation import Unusable, load
from tests.harness.expectation.clauses import BY_NUMBER, OF_CASES
from tests.harness.explanation.groups import is_shown_by
from tests.harness.judgement.groups import CRASH, Collection, Group, Key, collected, key_of
from tests.harness.judgement.report import Failure, Nonconformance, crash
from tests.harness.measurement import record, session
from tests.harness.measurement.last_call import LastCall, path_of, taken
from tests.harness.measurement.minimal import news_about
from tests.harness.measurement.news import News, judge_of, of_absent, parts_of, parts_with_cause, sort_key
from tests.harness.measurement.order import dealt, place
from tests.harness.measurement.summary import header, markdown, summary
from tests.tools.compare import as_text, changes, forgiven
from tests.tools.filing import file_failures, file_news
from tests.tools.news import Told, as_lines, as_markdown
from tests.tools.news_page import as_html
from tests.tools.records import Record, as_record, read_record


@dataclass(frozen=True)
class Asked:
    """The values of options that the hooks use."""

    conformance: Path  # the folder of the conformance tests
    part: list[str]  # options and paths that limit the run to a part of these tests, as typed; empty for a whole run
    shard: tuple[int, int]  # (number of this shard from 1, number of shards)
    baseline: Record | None  # the record that --baseline names
    started: float  # time.monotonic() before the import of torch


def register(
    config: pytest.Config, conformance: Path, part: list[str], shard: tuple[int, int], model: str | None, started: float
) -> None:
    """Begin the session and register the hooks. Raises pytest.UsageError for invalid options.

    conformance, part, shard, started: see Asked. model: the version that --model names.
    """
    adopted = _adopted(config.getoption("subject"), config.getoption("device"))
    clauses = _clauses(config.getoption("clause"))
    asked = Asked(conformance, part, shard, _baseline(config.getoption("baseline")), started)
    ledger = not config.getoption("no_ledger")
    imported, findings = config.getoption("imported"), _findings(config)
    run = session.start(config.getoption("device"), ledger, model, adopted, imported, findings)
    run.clauses = clauses
    run.collects = not config.getoption("maxfail") and config.getoption("patience") is None
    config.pluginmanager.register(Order(config, asked), "order of measured tests")
    config.pluginmanager.register(Tests(config, asked, run), "measured tests")
    if hasattr(config, "workerinput"):
        run.last_call = LastCall(path_of(config.option.report, config.workerinput["workerid"]))
    else:
        config.pluginmanager.register(Measurement(config, asked, run), "measurement")


def _findings(config):
    """The findings of the controller of xdist, which has tried the pinned cases; None in the controller itself."""
    sent = getattr(config, "workerinput", {}).get("findings")
    return sent and {id: session.Finding(**{**its, "paths": tuple(its["paths"])}) for id, its in sent.items()}


def _adopted(name, device):
    """The implementation that --subject names, as an Adopted; or None."""
    try:
        return load(name, device) if name else None
    except Unusable as error:
        raise pytest.UsageError(f"--subject {error}") from None


def _clauses(numbers):
    """The set of the numbers given by --clause."""
    for number in numbers or ():
        if number not in map(str, BY_NUMBER):
            raise pytest.UsageError(f"--clause {number}: reference/README.md has clauses 1 to {max(BY_NUMBER)}")
    return frozenset(map(int, numbers or ()))


def _baseline(path):
    """The Record that --baseline names, or None."""
    try:
        return read_record(path) if path else None
    except BadInput as error:
        raise pytest.UsageError(f"--baseline {error}") from None


def _is_measured(config, asked, nodeid):
    """True for conformance tests, False for tests of the suite itself, which may be in the same run."""
    return asked.conformance in Path(config.rootpath, nodeid.partition("::")[0]).parents


def _can_ask(item, adopted):
    """True if the test can be asked of the implementation that is measured, or if torch is."""
    marker = item.get_closest_marker("subject")
    return adopted is None or (marker is not None and marker.args in ((), (adopted.replaces,)))


class Order:
    """Sorts the conformance tests by their cost. Other plugins may sort them afterwards."""

    def __init__(self, config, asked):
        self.config, self.asked = config, asked

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        others = [item for item in items if not _is_measured(self.config, self.asked, item.nodeid)]
        measured = [item for item in items if item not in others]
        items[:] = [*others, *sorted(measured, key=_place)]


def _place(item):
    """The key by which tests are sorted; see `order.place`."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    mode, entry = parameters.get("mode"), parameters.get("entry")
    is_slow = getattr(mode, "compiles", False) or getattr(entry, "is_asked_late", False)
    return place(item.path.name, is_slow)


_NEW_OBJECTS = 20_000  # after which the garbage collector runs; a call makes about a thousand


class Tests:
    """Hooks for each process that runs tests: without xdist the only one, otherwise the workers."""

    def __init__(self, config, asked, run):
        self.config, self.asked, self.run = config, asked, run
        self.other = None  # the session of the tests of the suite itself
        self.spent = 0.0  # seconds of failing tests

    def _is_measured(self, nodeid):
        return _is_measured(self.config, self.asked, nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        part, parts = self.asked.shard
        asked = [item for item in items if _can_ask(item, self.run.adopted)]
        asked = [item for item in asked if not self._is_measured(item.nodeid) or self._exercises(item)]
        chosen = asked[part - 1 :: parts]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = dealt(chosen, getattr(config, "workerinput", {}).get("workercount", 1))

    def pytest_collection_finish(self):
        """Spare the garbage collector what lives as long as the run: it took a twentieth of the tests' CPU time."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_NEW_OBJECTS)

    def pytest_unconfigure(self):
        """Give back what is frozen: libraries report objects that are still there when Python ends."""
        gc.unfreeze()

    def _exercises(self, item):
        """False if the marks of the test show that it exercises none of the clauses selected by --clause."""
        marker = item.get_closest_marker("clause")
        return not self.run.clauses or not self.run.clauses.isdisjoint(marker.args if marker else OF_CASES)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config, log):
        """Let idle workers take tests from other workers, as a few tests take a hundred times as long as most."""
        if config.getoption("dist") != "load":
            return None
        from xdist.scheduler import WorkStealingScheduling  # xdist may be absent

        return WorkStealingScheduling(config, log)

    def _resume(self, node):
        """Make the measured session current for a conformance test, and the other session for other tests."""
        if self._is_measured(node.nodeid):
            if session.current is not self.run:
                self.other, session.current = session.current, self.run
        elif session.current is self.run and self.other is not None:
            session.current = self.other

    def pytest_collectstart(self, collector):
        self._resume(collector)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_setup(self, item):
        self._resume(item)
        if self._is_measured(item.nodeid):
            session.current.tally = session.Tally()  # a skipped test must not report the last tally
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        if not self._is_measured(item.nodeid):
            yield
            return
        if hasattr(item.obj, "hypothesis"):
            _seed(item)(item.obj)
        started = time.process_time()
        outcome = yield
        tally = session.current.tally
        if tally.groups.seen and not outcome.excinfo:
            outcome.force_exception(collected(tally.groups))
        elif seen := _seen_once(outcome.excinfo):
            outcome.force_exception(seen)
        tally.seconds = round(time.process_time() - started, 3)
        if tally.unasked and not tally.statuses and not outcome.excinfo:
            outcome.force_exception(pytest.skip.Exception("no call of it exercises a selected clause"))

    @pytest.fixture
    def seeded(self, request):
        """A decorator that seeds one part of a test that runs Hypothesis several times."""
        return lambda part: _seed(request.node, f" {part}")

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        if not self._is_measured(item.nodeid) or (report.when != "call" and report.passed):
            return
        if report.failed and call.when == "call" and not self.run.collects:
            self._spend(report.duration)
        outcome = record.PASSED
        if call.excinfo is not None and not report.skipped:
            expected = call.when == "call" and call.excinfo.errisinstance((Nonconformance, AssertionError))
            outcome = record.FAILED if expected else record.HARNESS_ERROR
        failures = getattr(call.excinfo.value, "failures", ()) if report.failed else ()
        if report.failed and session.current.tally.groups.seen and outcome == record.FAILED:
            report.longrepr = str(call.excinfo.value)  # a traceback would show the hooks of this file
        # xdist sends plain attributes of a report from the worker to the controller.
        report.measured = {
            "outcome": "skipped" if report.skipped else outcome,
            "seconds": round(report.duration, 2),
            "tally": self._taken(),
            "failures": [failure.as_plain() for failure in failures],
            "message": str(call.excinfo.value)[:20_000] if report.failed else "",
            **_about(item),
        }

    @staticmethod
    def _taken():
        """The tally of the test as plain data; the next test begins with an empty one."""
        tally, session.current.tally = session.current.tally, session.Tally()
        return tally.as_dict()

    def _spend(self, seconds):
        """Add the time of a failed test. After --patience seconds, tests that start Hypothesis inside do not shrink."""
        self.spent += seconds
        patience = self.config.getoption("patience")
        if self.spent > (_PATIENCE if patience is None else patience):
            settings.register_profile("as found", settings(), phases=(Phase.explicit, Phase.generate))
            settings.load_profile("as found")


def _seen_once(excinfo):
    """The failure of a call that conformed when Hypothesis made it again, as a torch that depends on earlier calls may.

    None if the test ended otherwise. excinfo: (type, exception, traceback) or None.
    """
    error = excinfo and excinfo[1]
    inner = error.exceptions if isinstance(error, FlakyFailure) else ()
    return next((its for its in inner if isinstance(its, Nonconformance)), None)


def _seed(item, part=""):
    """A decorator that seeds a test by the seed of the run and its own name. Different tests draw different cases."""
    return seed(f"{item.config.getoption('hypothesis_seed')} {item.path.name} {item.name}{part}")


_PATIENCE = 600.0  # seconds of failing tests, if --patience is not given

_ABOUT = {"entry": "entry", "mode": "way", "dtype": "way"}  # {parameter of a test: key in the record}


def _about(item):
    """{"entry": id of the entry that the test is about} or {"way": "eager", or id of a mode, or low precision}."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    about = {name: getattr(value, "id", value) for name, value in parameters.items() if name in _ABOUT}
    about = {_ABOUT[name]: value for name, value in about.items() if isinstance(value, str)}
    return about or {"way": "eager"}


class Measurement:
    """Hooks for the main process (the controller of xdist): they collect reports and write the record and summary."""

    def __init__(self, config, asked, run):
        self.config, self.asked, self.run, self.tests, self.record = config, asked, run, {}, None
        self.changes, self.filed, self.others_failed = [], [], False
        self.passes = []  # why the run passes although tests fail
        self.groups, self.news, self.running = Collection(), [], ""
        profile = config.getoption("hypothesis_profile") or "default"
        self.environment = record.environment(run, profile, config.option.hypothesis_seed)

    def pytest_report_header(self):
        return header(self.environment)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        node.workerinput["findings"] = {id: asdict(finding) for id, finding in self.run.findings.items()}

    def pytest_runtest_logstart(self, nodeid):
        self.running = nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report):
        if hasattr(report, "measured"):
            self.tests[report.nodeid] = report.measured
            for plain in report.measured["tally"].pop("groups", ()):
                self.groups.join(replace(Group.from_plain(plain), tests=(report.nodeid,)))
        elif report.failed and not _is_measured(self.config, self.asked, report.nodeid):
            self.others_failed = True
        elif report.failed:  # the report that xdist makes for a crashed worker
            last = self._last_call(report)
            told = "".join(f"\n\nThe last call was that of\n\n    {failure.again}" for failure in last)
            crashed = {"seconds": 0, "tally": {}, "failures": [failure.as_plain() for failure in last]}
            crashed["message"] = f"{str(report.longrepr)[:2000]}{told}"
            self.tests[report.nodeid] = {"outcome": record.CRASH, **crashed}
            name = report.nodeid.rpartition("/")[2]
            for failure in last or [Failure(f"{name}: a worker process ended during the test")]:
                key = key_of(failure) if failure.case else Key("", CRASH, "", "", "", failure.title)
                self.groups.join(Group(key, (failure,), tests=(report.nodeid,)))

    def _last_call(self, report):
        """A list with the failure of the crashed worker's last call; empty if that is unknown."""
        case = taken(path_of(self.config.option.report, report.node.gateway.id))
        try:
            return [crash(case, self.run.setting)] if case else []
        except BadInput:  # the worker crashed while it wrote the case
            return []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        for path in Path(self.config.option.report).parent.glob(path_of(self.config.option.report, "*").name):
            path.unlink()
        for group in self.run.tally.groups.all():  # of a test that was interrupted in this process
            self.groups.join(replace(group, tests=(self.running,)))
        complete = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not session.shouldfail
        seconds = time.monotonic() - self.asked.started
        self.record = record.assemble(self.run, self.environment, self.tests, complete, seconds)
        self.record |= {"part": self.asked.part} if self.asked.part else {}
        self.record["neglected_paths"] = record.neglected_paths(self.record, reachable_paths(self.run.release))
        if self.tests:
            self._write([News(group) for group in self.groups.all()])
            self.news = self._news() if complete else self.news
            if filed := self._file():
                self._write(filed)
        if complete and self.asked.baseline:
            session.exitstatus = self._gate()
        elif complete and self._is_better(exitstatus):
            session.exitstatus = pytest.ExitCode.OK
            self.passes = [f"Nothing is worse than in {self.run.model}: the exit code is 0, although tests fail."]
        if complete and (self.record["neglected_paths"] or record.HARNESS_ERROR in self.record["outcomes"]):
            session.exitstatus, self.passes = HARNESS_ERROR, []

    def _write(self, news):
        """Write the record with these news, and pages about them beside it."""
        self.news = list(news)
        self.record["groups"] = [its.as_plain() for its in news]
        self.record |= {"lost": self.groups.lost} if self.groups.lost else {}
        record.write(self.record, self.config.option.report)
        for suffix, render in ((".html", as_html), (".md", as_markdown)):
            page = Path(self.config.option.report).with_suffix(suffix)
            if news and self.run.collects:
                page.write_text("\n".join(render(self._told)) + "\n", encoding="utf-8")
            else:
                page.unlink(missing_ok=True)  # of an earlier run

    @property
    def _told(self):
        """The news and their circumstances."""
        its = self.record
        return Told(tuple(self.news), its["environment"], its["statuses"], its["complete"], self.groups.lost)

    def _news(self):
        """The failures with minimal cases and explanations, and the entries that are gone."""
        try:
            failures = [failure for group in self.groups.all() for failure in group.calls]
            judge = judge_of(self.run, self.record["ledger"], failures)
            explain = partial(parts_of, judge=judge) if self.run.entries else None
            seconds, shows = self.config.getoption("budget"), partial(is_shown_by, judge=judge)
            recognize = partial(parts_with_cause, judge=judge) if self.run.entries or self.run.adopted else None
            is_whole = self.run.adopted is not None
            found = news_about(self.groups.all(), seconds, self._workers, explain, shows, recognize, is_whole)
            return sorted((*found, *of_absent(found, judge)), key=sort_key)
        except Exception as error:  # the record is written, with the failures as found
            self.filed.append(f"HARNESS ERROR: the failures cannot be explained: {type(error).__name__}: {error}")
            return self.news

    @property
    def _workers(self):
        """The number of processes that run tests."""
        return max(1, len(getattr(self.config.option, "tx", None) or ()))

    def _file(self):
        """Write a script and an issue for each change, or each failed test. Returns the news with their folders."""
        if self.config.getoption("no_issues"):
            return self.news
        folder = Path(self.config.option.report).parent
        try:
            if self.run.collects:
                return file_news(self.news, self.record["environment"], folder)
            self.filed += [f"To file: {place}" for place in file_failures(self.record, folder)]
        except Exception as error:  # the run has failed already, and its record is written
            self.filed += [f"HARNESS ERROR: the failures cannot be filed: {type(error).__name__}: {error}"]
        return self.news

    def _is_better(self, exitstatus):
        """True if tests fail, but torch has only come nearer to the specification than --model says."""
        others = self.others_failed or record.HARNESS_ERROR in self.record["outcomes"]
        is_told = self.run.model and self.news and not others and self.groups.seen
        return exitstatus == pytest.ExitCode.TESTS_FAILED and is_told and not self._told.is_worse

    def _gate(self):
        """The exit code with --baseline: failed only if a result is worse than in the baseline."""
        baseline, now = self.asked.baseline, as_record(self.record, self.config.option.report)
        found = changes(baseline, now)
        self.changes = [*as_text(baseline, now, found), *forgiven(baseline, now)]
        is_worse = self.others_failed or any(change.is_worse for change in found)
        return pytest.ExitCode.TESTS_FAILED if is_worse else pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter):
        if not self.tests:
            return
        terminalreporter.section("attention masks", sep="=")
        for line in (*summary(self.record, self.config.option.report), *self.filed):
            terminalreporter.write_line(line)
        if self.news and self.run.collects:
            terminalreporter.section("what has changed", sep="=")
            for line in (*as_lines(self._told), *self.passes):
                terminalreporter.write_line(line)
        if self.changes:
            terminalreporter.section("since the baseline", sep="=")
            for line in self.changes:
                terminalreporter.write_line(line)
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with open(step_summary, "a") as file:
                file.write(markdown(self.record))
                if self.news and self.run.collects:
                    file.write("\n".join(as_markdown(self._told)))
