"""Run a function under the doctor, in this process."""

from collections.abc import Callable
from typing import Any

from tests.doctor.compare import obstacle
from tests.doctor.diagnosis import Diagnosis
from tests.doctor.repeat import Scripts
from tests.doctor.watch import Watcher
from tests.harness.contents.arrays import forget


def diagnosed(program: Callable[[], Any], most: int = 1000, scripts: str = "") -> Diagnosis:
    """The diagnosis of a function. Errors of the function propagate; errors of the doctor fail the test.

    scripts: the folder for scripts of unknown differences; empty for none.
    """
    diagnosis = Diagnosis(most=most, **({"keep": Scripts(scripts)} if scripts else {}))
    watcher = Watcher(diagnosis.wants, obstacle, diagnosis.judge, diagnosis.fails, diagnosis.passes)
    watcher.start()
    try:
        program()
    finally:
        watcher.stop()
        forget()
    assert not diagnosis.errors, diagnosis.errors
    return diagnosis


def verdicts(program: Callable[[], Any]) -> dict[str, list[str]]:
    """{place: verdicts} of the calls of a function."""
    found: dict[str, list[str]] = {}
    for finding in diagnosed(program).findings.values():
        found.setdefault(str(finding.place), []).append(finding.verdict)
    return found


def mistakes(program: Callable[[], Any]) -> set[str]:
    """The ids of the mistakes in the calls of a function."""
    return {mistake.id for _, _, mistake in diagnosed(program).mistakes}
