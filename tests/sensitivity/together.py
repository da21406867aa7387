"""`python -m tests.tools faults-together` runs the suite on torch with several faults at once: is each told by itself?

A fault is told if it alone makes the simplest call of a reported change fail. A change mixes faults if its calls fail,
but not all of them by one fault. The faults of a set change different functions of torch.
"""

import json
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty

import pytest

from tests.harness.command_line import BAD_INPUT, Parser
from tests.harness.measurement import session
from tests.harness.measurement.news import News, news_of
from tests.harness.measurement.rerun import still_failing
from tests.sensitivity.campaign import IN_A_FORK, PROFILES, ROOT, SEED
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import injected

_FORK = multiprocessing.get_context("fork")
_CALLS = 3  # of a change, with which each fault is tried alone


@dataclass(frozen=True)
class Told:
    """The outcome of a run with a set of faults."""

    faults: tuple[str, ...]
    told: tuple[str, ...]  # those that a change is about
    changes: int  # that the run reported
    mixed: tuple[str, ...]  # titles of the changes that mix faults
    strange: tuple[str, ...]  # titles of the changes that no fault of the set shows alone

    @property
    def missed(self) -> tuple[str, ...]:
        """The faults of the set that no change is about."""
        return tuple(fault for fault in self.faults if fault not in self.told)


def drawn(number: int, size: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Generates `number` sets of `size` ids of faults, in which no two faults change the same function."""
    source = random.Random(seed)
    while number:
        chosen = source.sample(sorted(FAULTS), size)
        places = {(id(FAULTS[fault].patch.owner), FAULTS[fault].patch.name) for fault in chosen}
        if len(places) == size:
            number -= 1
            yield tuple(sorted(chosen))


def run(faults: Sequence[str], profile: str, seed: int, report: Path) -> None:
    """Run the conformance tests on torch with the faults, and write the record `report`; the output stands beside it.

    Exits with the code of pytest.
    """
    log = os.open(report.with_suffix(".txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(ROOT)
    options = [f"--hypothesis-profile={profile}", f"--hypothesis-seed={seed}", f"--report={report}"]
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(injected(FAULTS[fault]))
        sys.exit(pytest.main(["tests/conformance", "--tb=no", "-q", "--no-issues", IN_A_FORK, *options]))


def _failing_alone(fault, changes, results):
    """Put {index of a change: [True for each of its calls that fails with this fault alone]} into the queue."""
    session.start()
    with injected(FAULTS[fault]):
        results.put([[bool(still_failing(call)) for call in its.group.calls[:_CALLS]] for its in changes])


def judged(faults: Sequence[str], changes: Sequence[News]) -> Told:
    """The outcome of a run that reported these changes. Calls are made again with each fault alone."""
    by_fault = {fault: _in_a_process(_failing_alone, fault, changes) for fault in faults}
    told, mixed, strange = {}, [], []
    for i, change in enumerate(changes):
        fails = {fault: by_change[i] for fault, by_change in by_fault.items()}
        told |= {fault: None for fault, calls in fails.items() if calls and calls[0]}
        if not any(map(any, fails.values())):
            strange.append(change.least.title)
        elif not any(all(calls) for calls in fails.values()):
            mixed.append(change.least.title)
    return Told(tuple(faults), tuple(told), len(changes), tuple(mixed), tuple(strange))


def _in_a_process(function, fault, changes):
    """What the function puts into a queue; no call fails if the process dies or hangs, which stderr then tells."""
    results = _FORK.Queue()
    process = _FORK.Process(target=function, args=(fault, changes, results))
    process.start()
    try:
        return results.get(timeout=300)
    except Empty:
        print(f"{fault}: no answer about its calls alone: the process has died, or takes too long", file=sys.stderr)
        return [[False] * len(its.group.calls[:_CALLS]) for its in changes]
    finally:
        process.kill()
        process.join()


def main(arguments: list[str]) -> int:
    """Run the sets and print a line for each. Exit code: 0, or 4 for bad input."""
    parser = Parser(prog="python -m tests.tools faults-together", description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=30, help="the number of sets (default: %(default)s)")
    parser.add_argument("--size", type=int, default=4, help="the number of faults of a set (default: %(default)s)")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="of the runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sets and the runs (default: %(default)s)")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports" / "together", help="folder for the records")
    options = parser.parse_args(arguments)
    if options.sets < 1 or not 1 < options.size <= 10:
        print("--sets is at least 1, --size from 2 to 10", file=sys.stderr)
        return BAD_INPUT
    options.reports.mkdir(parents=True, exist_ok=True)
    found = []
    for number, faults in enumerate(drawn(options.sets, options.size, options.seed)):
        report = options.reports / f"{options.profile}-{options.seed}-{number}.json"
        if not report.exists():
            process = _FORK.Process(target=run, args=(faults, options.profile, options.seed, report))
            process.start()
            process.join()
        found.append(judged(faults, news_of(json.loads(report.read_text()))))
        print(_line(found[-1]), flush=True)
    print(_summary(found))
    return 0


def _line(told):
    lines = [f"{len(told.told)} of {len(told.faults)} told in {told.changes} changes: {', '.join(told.faults)}"]
    lines += [f"    not told: {fault}: {FAULTS[fault].title}" for fault in told.missed]
    lines += [f"    mixed: {title}" for title in told.mixed]
    lines += [f"    by no fault alone: {title}" for title in told.strange]
    return "\n".join(lines)


def _summary(found):
    faults, told = (sum(len(getattr(its, name)) for its in found) for name in ("faults", "told"))
    changes = sum(its.changes for its in found)
    mixed = sum(len(its.mixed) for its in found)
    return f"{told} of {faults} faults are told ({told / faults:.0%}); {mixed} of {changes} changes mix faults"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
