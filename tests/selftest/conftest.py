"""The suite's own tests judge with the session of the installed torch, as a conformance run does."""

import pytest

from tests.harness import session


@pytest.fixture(autouse=True, scope="session")
def _session():
    return session.start()


@pytest.fixture
def run():
    """The session, with an empty tally."""
    session.current.tally = session.Tally()
    return session.current
