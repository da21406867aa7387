"""`python -m tests.tools again 'MultiHead(...)'` runs one case again and tells all about it.

Exit code 0 if it conforms or deviates as predicted, 1 if it fails, 3 for an error of the suite, 4 for bad input.
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


def main(arguments):
    parser = Parser(prog="python -m tests.tools again", description="Run one case again and tell all about it.")
    parser.add_argument("case", metavar="CASE", help="as a failure prints it")
    parser.add_argument("device", metavar="DEVICE", nargs="?", default="cpu", help="any torch device string")
    parser.add_argument("--import", dest="imported", metavar="MODULE", help="import it first")
    parser.add_argument("--subject", metavar="MODULE:FACTORY", help="call it in the place of nn.MultiheadAttention")
    parser.add_argument("--after", metavar="CASE", help="one that is called first, and that what is called is made for")
    options = parser.parse_args(arguments)
    try:
        cases = [parse(text) for text in (options.after, options.case) if text is not None]
        _start(options)
        _refuse_what_cannot_be_asked(cases)
    except BadInput as error:
        parser.error(str(error))
    except Exception as error:  # what was typed can be wrong in any way
        parser.error(" ".join(f"{type(error).__name__}: {error}".split()))
    try:
        return _run(cases)
    except Exception:  # of the suite: exit code 1 would say that the case fails
        traceback.print_exc()
        return HARNESS_ERROR


def _start(options):
    """Begin a session with the device and the subject that were typed."""
    if options.imported:
        importlib.import_module(options.imported)
    torch.empty(1, device=options.device)
    adopted = load(options.subject) if options.subject else None
    session.start(options.device, adopted=adopted, imported=options.imported)


def _refuse_what_cannot_be_asked(cases):
    for case in cases:
        if not session.current.release.offers(case):
            what = f"mode={case.mode!r}" if case.mode != "eager" else "the function or one of its arguments"
            raise BadInput(f"torch {torch.__version__} on {session.current.device} cannot be asked for {what}")


def _run(cases):
    with made_once():
        *_, (observation, verdict) = map(judged, cases)
    print(f"torch {torch.__version__}: {verdict.status}", *verdict.deviations)
    if verdict.status == FAILS:
        first, case = cases if len(cases) == 2 else (None, *cases)
        print(report(failure_of(case, observation, verdict, session.current.setting, first=first)))
    return int(verdict.status == FAILS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
