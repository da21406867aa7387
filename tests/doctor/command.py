"""`python -m tests.tools doctor SCRIPT [arguments]` runs a program and checks its calls of attention.

The program's output and exit code stay; the report goes to stderr, or to --report. Exit code 4: no such program.
"""

import math
import os
import sys
import time
from pathlib import Path

import torch
from packaging.version import Version

from tests.harness.command_line import BadInput, Parser
from tests.harness.contents.arrays import forget
from tests.harness.releases import OLDEST

from . import program
from .calls import Made
from .compare import obstacle
from .diagnosis import Diagnosis
from .repeat import Scripts
from .report import as_json, as_text
from .watch import Watcher


def main(arguments: list[str]) -> int:
    """Run the command; return the exit code of the program."""
    parser = _parser()
    options, rest = parser.parse_known_args(_up_to_target(arguments))
    if rest:
        parser.error(f"unknown option {rest[0]}")
    for option, value in (("--max-calls", options.max_calls), ("--timeout", options.timeout)):
        if value is not None and not 0 < value < math.inf:
            parser.error(f"{option} {value:g}: not a positive number")
    if Version(torch.__version__) < Version(OLDEST):
        parser.error(f"torch {torch.__version__} is too old: {OLDEST} is the oldest release that is modelled")
    given = arguments[len(_up_to_target(arguments)) :]
    diagnosis = Diagnosis(most=options.max_calls, keep=Scripts(options.scripts))
    watcher = Watcher(diagnosis.wants, obstacle, _timed(diagnosis), diagnosis.fails, diagnosis.passes)
    watcher.start()  # before the module of a factory is loaded, which may import functions of torch by their names
    try:
        target = program.load(options.target)
        _check_report(options.report)
    except BadInput as error:
        watcher.stop()
        parser.error(str(error))
    sys.argv = [options.target, *given]
    return _run(target, diagnosis, watcher, options)


def _parser():
    parser = Parser(
        prog="python -m tests.tools doctor",
        description="Run a program, compare its calls of attention with the reference, and report the differences.",
    )
    parser.add_argument("target", metavar="SCRIPT", help="a script with its arguments, or package.module:factory")
    parser.add_argument(
        "--max-calls", type=int, default=10, metavar="N", help="compare N calls of each kind at a place (default: 10)"
    )
    parser.add_argument("--report", metavar="FILE", help="write the report to this file, not to stderr")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of the report (default: text)")
    parser.add_argument(
        "--scripts",
        default="doctor-scripts",
        metavar="FOLDER",
        help="where scripts of unknown differences are written (default: doctor-scripts)",
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end the program after so long, and report")
    return parser


_WITH_VALUES = ("--max-calls", "--report", "--format", "--scripts", "--timeout")


def _up_to_target(arguments):
    """The arguments up to the script: those behind it are the script's own."""
    index = 0
    while index < len(arguments):
        if arguments[index] in _WITH_VALUES:
            index += 1
        elif not arguments[index].startswith("-"):
            return arguments[: index + 1]
        index += 1
    return arguments


def _check_report(path):
    try:
        if path:
            with open(path, "w"):
                pass
    except OSError as error:
        raise BadInput(f"--report {path}: cannot be written: {error.strerror}") from None


def _timed(diagnosis):
    def judge(made: Made) -> None:
        started = time.perf_counter()
        try:
            diagnosis.judge(made)
        finally:
            forget()
            diagnosis.seconds += time.perf_counter() - started

    return judge


def _run(target, diagnosis, watcher, options):
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=watcher.stop)
        os.register_at_fork(
            before=program.hold_signals,
            after_in_parent=program.release_signals,
            after_in_child=program.leave_signals_alone,
        )
    leave = os._exit

    def leave_after_report(code: int) -> None:
        _write(diagnosis, f"ended by os._exit({code})", options)
        leave(code)

    os._exit = leave_after_report
    program.end_on_signals(options.timeout)
    try:
        code, ended = program.run(target)
        if code < 128:
            program.wait_for_threads()
    except (KeyboardInterrupt, program.Terminated):
        code, ended = 130, "interrupted while its threads were running"
    finally:
        watcher.stop()
        os._exit = leave
    _write(diagnosis, ended, options)
    return code


def _write(diagnosis, ended, options):
    """Write the report, in the process that started and not in its forks."""
    if os.getpid() != diagnosis.process:
        return
    sys.stdout.flush()
    text = (as_json if options.format == "json" else as_text)(diagnosis, ended)
    if options.report:
        Path(options.report).write_text(text, encoding="utf-8")
    else:
        print(text, end="", file=sys.stderr)
