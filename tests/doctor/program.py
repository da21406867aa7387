"""Runs a program under the doctor: a script, or a factory. Its output and its exit code stay."""

import contextlib
import importlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.harness.command_line import BadInput

_HERE = str(Path(__file__).parent)


def load(target: str) -> Callable[[], Any]:
    """A function that runs the target: a path of a script, or "package.module:factory". Raises BadInput."""
    path = Path(target)
    if path.is_file():
        return _script(path)
    module, _, name = target.partition(":")
    if not name or target.endswith(".py"):
        raise BadInput(f"{target}: no such file, and not of the form package.module:factory")
    return _factory(module, name)


def _script(path):
    try:
        code = compile(path.read_bytes(), str(path), "exec")
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(" ".join(f"{path}: {type(error).__name__}: {error}".split())) from None

    def run():
        main = types.ModuleType("__main__")
        main.__file__, main.__builtins__ = str(path), __builtins__
        sys.modules["__main__"] = main
        sys.path[0:1] = [str(path.resolve().parent)]
        exec(code, main.__dict__)

    return run


def _factory(module, name):
    def run():
        made: Any = importlib.import_module(module)
        for part in name.split("."):
            made = getattr(made, part)
        _call(made())

    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # foreign code can raise anything
        raise BadInput(" ".join(f"{module}:{name}: {type(error).__name__}: {error}".split())) from None
    return run


def _call(made):
    """Call what a factory returned: nothing, a callable, or (module, inputs)."""
    if isinstance(made, tuple) and len(made) >= 2 and callable(made[0]):
        callee, given, *named = made
        if isinstance(given, dict):
            callee(**given)
        else:
            callee(*(given if isinstance(given, (tuple, list)) else (given,)), **(named[0] if named else {}))
    elif callable(made) and not isinstance(made, torch.nn.Module):
        made()


def run(program: Callable[[], Any]) -> tuple[int, str]:
    """(exit code, how it ended in words) of the program. An uncaught exception is printed as Python prints it."""
    try:
        program()
    except SystemExit as ended:
        return _code(ended.code)
    except KeyboardInterrupt as error:
        _print(error)
        return 128 + signal.SIGINT, "interrupted"
    except Terminated as ended:
        return 128 + ended.number, str(ended)
    except BaseException as error:
        _print(error)
        return 1, f"ended by {type(error).__name__}"
    return 0, "ended"


def _code(code):
    if code is None:
        return 0, "ended"
    if isinstance(code, int):
        return code & 0xFF, f"ended with exit code {code & 0xFF}"
    print(code, file=sys.stderr)
    return 1, "ended with exit code 1"


def _print(error):
    error = error.with_traceback(_without_own(error.__traceback__))
    sys.excepthook(type(error), error, error.__traceback__)


def _without_own(tb):
    """The traceback without the frames of this package."""
    kept = []
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_HERE):
            kept.append(tb)
        tb = tb.tb_next
    following = None
    for tb in reversed(kept):
        following = types.TracebackType(following, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return following


def wait_for_threads() -> None:
    """Wait for the threads of the program, as Python does before it ends."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


class Terminated(BaseException):
    """A signal ends the program."""

    def __init__(self, number: int, words: str):
        super().__init__(words)
        self.number = number


def hold_signals() -> None:
    """Hold SIGTERM back during a fork: Python forgets a signal that comes to the new process before it is set up."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def release_signals() -> None:
    """Let the signals through that `hold_signals` holds back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def leave_signals_alone() -> None:
    """Restore SIGTERM in a forked process, which makes no report."""
    with contextlib.suppress(ValueError):  # forked by a thread
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    release_signals()


def end_on_signals(seconds: float | None) -> None:
    """Make SIGTERM end the program after its report, and SIGALRM after so many seconds, if given."""

    def terminate(number, _):
        words = f"stopped after {seconds:g} s" if number == getattr(signal, "SIGALRM", None) else "terminated"
        raise Terminated(number, words)

    signal.signal(signal.SIGTERM, terminate)
    if seconds and hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, terminate)
        signal.setitimer(signal.ITIMER_REAL, seconds)
