"""A session of the installed torch for the tests of remedies."""

import pytest

from tests.harness.measurement import session


@pytest.fixture(scope="session")
def run():
    """A session of the installed torch; the former session is restored at the end."""
    before = session.current
    yield session.start()
    session.current = before
