"""`python -m tests.tools again 'MultiHead(...)'` runs one case again and prints the verdict, with a report if it fails.

Exit code: 0 if the case conforms or deviates as predicted, 1 if it fails, 3 after an error of the suite, 4 for bad
input.
"""

import importlib
import sys
import traceback

import torch

from tests.harness.command_line import HARNESS_ERROR, BadInput, Parser
from tests.harness.execution.implementation import load
from tests.harness.execution.runner import made_once
from tests.harness.judgement.report import failure_of, report
from tests.harness.judgement.verdict import FAILS
from tests.harness.measurement import session
from tests.harness.measurement.checking import judged
from tests.harness.modes.parsing import parse


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code. Exits with BAD_INPUT if an argument cannot be used."""
    parser = Parser(
        prog="python -m tests.tools again",
        description="Run one case again; print the verdict, and a report if it fails.",
    )
    parser.add_argument("case", metavar="CASE", help="a case, as a failure prints it")
    parser.add_argument("device", metavar="DEVICE", nargs="?", help="any torch device string (default: cpu)")
    parser.add_argument("--device", dest="option", metavar="DEVICE", help="the torch device, such as cuda:0")
    parser.add_argument("--import", dest="imported", metavar="MODULE", help="a module to import first")
    parser.add_argument("--subject", metavar="[NAME=]MODULE:FACTORY", help="call this in the place of NAME")
    parser.add_argument("--after", metavar="CASE", help="a case to run first; CASE then reuses its artifact")
    options = parser.parse_args(arguments)
    options.device = options.option or options.device or "cpu"
    try:
        cases = [parse(text) for text in (options.after, options.case) if text is not None]
        _start(options)
        _refuse_what_cannot_be_asked(cases)
    except BadInput as error:
        parser.error(str(error))
    except Exception as error:  # a wrong argument can raise anything
        parser.error(" ".join(f"{type(error).__name__}: {error}".split()))
    try:
        return _run(cases)
    except Exception:  # an error of the suite; exit code 1 would say that the case fails
        traceback.print_exc()
        return HARNESS_ERROR


def _start(options):
    """Start a session with the device and the subject of the options."""
    if options.imported:
        importlib.import_module(options.imported)
    torch.empty(1, device=options.device)
    adopted = load(options.subject) if options.subject else None
    session.start(options.device, adopted=adopted, imported=options.imported)


def _refuse_what_cannot_be_asked(cases):
    """Raise BadInput if the release lacks the mode, the function or an argument of a case."""
    for case in cases:
        if not session.current.release.offers(case):
            what = f"mode={case.mode!r}" if case.mode != "eager" else "the function or one of its arguments"
            raise BadInput(f"torch {torch.__version__} on {session.current.device} does not support {what}")


def _run(cases):
    """Run the cases, print the verdict on the last one, and return the exit code."""
    with made_once():
        *_, (observation, verdict) = map(judged, cases)
    print(f"torch {torch.__version__}: {verdict.status}", *verdict.deviations)
    if verdict.status == FAILS:
        first, case = cases if len(cases) == 2 else (None, *cases)
        print(report(failure_of(case, observation, verdict, session.current.setting, first=first)))
    return int(verdict.status == FAILS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
