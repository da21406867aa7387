"""The selftests judge with a session of the installed torch, as a conformance run does."""

import shutil
from importlib.util import find_spec

import pytest
from torch import utils

from tests.harness.measurement import session
from tests.selftest.runs import ROOT
from tests.selftest.runs import run as run_suite

# A few selftests need something that older releases lack.
NEEDED = {
    "test_catalogue.py": find_spec("jinja2"),  # installed with torch since 2.0
    "test_minimal.py": find_spec("torch.nn.attention"),  # as the faults
    "test_devices.py": hasattr(utils, "backend_registration"),
    **dict.fromkeys(("test_explanation.py", "test_propose.py", "test_turns.py"), find_spec("torch.nn.attention")),
}
collect_ignore = [name for name, is_there in NEEDED.items() if not is_there]


@pytest.fixture(autouse=True, scope="session")
def _session():
    return session.start()


@pytest.fixture
def run():
    """The current session, with an empty tally."""
    session.current.tally = session.Tally()
    return session.current


@pytest.fixture(scope="session")
def copy_of_the_suite(tmp_path_factory):
    """A folder with a copy of the suite, in which tests can be added."""
    copy = tmp_path_factory.mktemp("suite")
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, copy)
    for name in ("reference", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def run_test(copy_of_the_suite):
    """A function that runs conformance tests from a file with the given text."""
    path = copy_of_the_suite / "tests" / "conformance" / "test_it.py"

    def write_and_run(body, *arguments):
        path.write_text(body)
        return run_suite(*arguments, path=str(path.relative_to(copy_of_the_suite)), cwd=copy_of_the_suite)

    yield write_and_run
    path.unlink(missing_ok=True)
