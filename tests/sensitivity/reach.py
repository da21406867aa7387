"""Which tests make calls in which a fault can show itself: where none does, a test cannot notice it."""

import functools
from contextlib import ExitStack, contextmanager

import pytest
import torch

from tests.sensitivity.injection import arguments_of, standing_in


def _target(patch):
    """The name of the function that a patch replaces."""
    return f"{patch.owner.__name__}.{patch.name}"


def sign(fault):
    """What is noted of a test in which the fault can show itself.

    That the function is called in which it is; or that it raises; or that it is called as the fault wants it.
    """
    if fault.lets_pass:
        return f"{_target(fault.patch)} raises"
    return _target(fault.patch) if fault.patch.when is None else fault.id


class Recorder:
    """A plugin: `tests` is {test id: signs of the faults that can show themselves in it}."""

    def __init__(self):
        self.tests, self._seen = {}, set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        self._seen.clear()
        yield
        self.tests[item.nodeid] = sorted(self._seen)

    @contextmanager
    def watching(self, faults):
        """While this lasts, calls of what these faults would replace are noted."""
        places = {}
        for fault in faults:
            places.setdefault((fault.patch.owner, fault.patch.name), []).append(fault)
        with ExitStack() as stack:
            for (owner, name), its_faults in places.items():
                original = vars(owner)[name]
                stack.callback(setattr, owner, name, original)
                setattr(owner, name, self._noting(original, its_faults))
            yield

    def _noting(self, original, faults):
        if isinstance(original, staticmethod):
            return staticmethod(self._noting(original.__func__, faults))
        target, conditional = _target(faults[0].patch), [fault for fault in faults if fault.patch.when]

        @standing_in(original)
        @torch.compiler.disable  # or what is noted would be compiled, too
        @functools.wraps(original)
        def noting(*args, **kwargs):
            self._seen.add(target)
            call = arguments_of(original, faults[0].patch.name, args, kwargs) if conditional else None
            self._seen.update(fault.id for fault in conditional if _may_show(fault, call))
            try:
                return original(*args, **kwargs)
            except Exception:  # is noted, and raised again
                self._seen.add(f"{target} raises")
                raise

        return noting


def _may_show(fault, call):
    try:
        return fault.patch.when(call)
    except Exception:  # of a fake tensor's values, say; the faulty function would raise the same, and be noticed
        return True


class Only:
    """A plugin: of all tests, only these are run."""

    def __init__(self, tests):
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self.tests])
        items[:] = [item for item in items if item.nodeid in self.tests]
