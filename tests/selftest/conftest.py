"""The selftests judge with a session of the installed torch, as a conformance run does."""

from importlib.util import find_spec

import pytest
from torch import utils

from tests.harness.measurement import session

# A few selftests need something that older releases lack.
NEEDED = {
    "test_catalogue.py": find_spec("jinja2"),  # installed with torch since 2.0
    "test_minimal.py": find_spec("torch.nn.attention"),  # as the faults
    "test_devices.py": hasattr(utils, "backend_registration"),
    "test_turns.py": find_spec("torch.nn.attention"),
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
