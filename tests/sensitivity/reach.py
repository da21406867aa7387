"""Which tests run which of the functions that faults are put into: what a test never runs, it cannot notice there."""

import functools
from contextlib import ExitStack, contextmanager

import pytest

from tests.sensitivity.injection import standing_in


def target(patch):
    """The name of the function that a patch replaces."""
    return f"{patch.owner.__name__}.{patch.name}"


class Recorder:
    """A plugin: `tests` is {test id: names of the targets that it has called}."""

    def __init__(self):
        self.tests, self._called = {}, set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        self._called.clear()
        yield
        self.tests[item.nodeid] = sorted(self._called)

    @contextmanager
    def watching(self, patches):
        """While this lasts, calls of what these patches would replace are noted."""
        places = {(patch.owner, patch.name): target(patch) for patch in patches}
        with ExitStack() as stack:
            for (owner, name), its_target in places.items():
                original = vars(owner)[name]
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, self._noting(original, its_target))
            yield

    def _noting(self, original, its_target):
        if isinstance(original, staticmethod):
            return staticmethod(self._noting(original.__func__, its_target))

        @standing_in(original)
        @functools.wraps(original)
        def noting(*args, **kwargs):
            self._called.add(its_target)
            return original(*args, **kwargs)

        return noting


class Only:
    """A plugin: of all tests, only these are run."""

    def __init__(self, tests):
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self.tests])
        items[:] = [item for item in items if item.nodeid in self.tests]
