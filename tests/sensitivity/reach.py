"""Record which tests make calls that can reach a fault: a test without such a call cannot notice the fault."""

import functools
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch

from tests.harness.cases.case import Case
from tests.harness.modes.modes import BY_ID
from tests.sensitivity.injection import Fault, arguments_of, standing_in


def _target(patch):
    """The name of the function that a patch replaces."""
    return f"{patch.owner.__name__}.{patch.name}"


def sign(fault: Fault) -> str:
    """The text that the recorder notes for a test whose calls can reach the fault.

    The id of the fault if its patch has a condition: a call met the condition. "... raises" if the fault suppresses an
    error: the patched function raised one. Otherwise the name of the patched function: the function was called.
    """
    if fault.lets_pass:
        return f"{_target(fault.patch)} raises"
    return _target(fault.patch) if fault.patch.when is None else fault.id


class Recorder:
    """A pytest plugin; `tests` is {test id: signs of the faults that the test can reach}.

    Calls that are made in other processes are not seen: their tests can reach each fault that such a call shows.
    """

    def __init__(self):
        self.tests, self._seen, self._elsewhere = {}, set(), set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item):
        self._seen.clear()
        if hasattr(item, "callspec") and getattr(item.callspec.params.get("mode"), "is_shared", False):
            self._seen.update(self._elsewhere)
        yield
        self.tests[item.nodeid] = sorted(self._seen)

    @contextmanager
    def watching(self, faults: Iterable[Fault]) -> Iterator[None]:
        """Context manager: calls of the functions that these faults patch are recorded inside the block."""
        places = {}
        self._elsewhere = {sign(fault) for fault in faults if _is_shared(fault.shows)}
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
        @torch.compiler.disable  # keep the recording out of compiled graphs
        @functools.wraps(original)
        def noting(*args, **kwargs):
            self._seen.add(target)
            call = arguments_of(original, faults[0].patch.name, args, kwargs) if conditional else None
            self._seen.update(fault.id for fault in conditional if _may_show(fault, call))
            try:
                return original(*args, **kwargs)
            except Exception:
                self._seen.add(f"{target} raises")
                raise

        return noting


def _is_shared(shows):
    """True if two other processes make the call that shows a fault."""
    return isinstance(shows, Case) and BY_ID[shows.mode].is_shared


def _may_show(fault, call):
    try:
        return fault.patch.when(call)
    except Exception:  # e.g. for the values of a fake tensor; the faulty function would raise too, and be noticed
        return True


class Only:
    """A pytest plugin that deselects all tests but those with the ids `tests`."""

    def __init__(self, tests):
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self.tests])
        items[:] = [item for item in items if item.nodeid in self.tests]
