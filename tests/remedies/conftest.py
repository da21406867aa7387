"""Remedies are judged with the session of the installed torch."""

import pytest

from tests.harness.measurement import session


@pytest.fixture(scope="session")
def run():
    """The session; a test of the suite's own that began another one gets it back."""
    before = session.current
    yield session.start()
    session.current = before
