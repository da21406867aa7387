"""Prints a script that needs only torch and tests if the installed release conforms in one call.

`python -m tests.tools reproduce 'CASE' [DEVICE]` prints the script of a case, `python -m tests.tools reproduce ID` the
script of the pinned case of an entry. Expected values come from the reference, never from torch; only the elements that
dropout keeps are observed. The exit code of a script is

    0  if the release conforms
    1  if it does not
    2  if the release lacks the function or an argument of the call
"""

import sys
from functools import singledispatch

import numpy as np
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from reference.derivative import derivative
from tests.harness.command_line import BadInput, Parser
from tests.harness.contents.arrays import directions
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation, Entry
from tests.harness.execution.release import Release
from tests.harness.execution.setting import CPU, Setting
from tests.harness.expectation.specification import specification
from tests.harness.judgement.prediction import predict
from tests.harness.ledgers import BY_ID
from tests.harness.modes.parsing import parse
from tests.harness.path_names import SDPA_FLASH
from tests.harness.releases import OLDEST
from tests.harness.wrong_masks.entry import WrongMaskDeviation
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import WrongCall, not_applicable

from .case_script import ERRORS, GRADIENTS, RESULTS, WARNINGS, script
from .remedied import sentences
from .standalone import heading
from .wrong_mask_script import wrong_mask_script


@singledispatch
def script_of_entry(entry: Entry, setting: Setting = CPU) -> str:
    """The script of an entry: of its pinned case, or of its first wrong call."""
    raise NotImplementedError(type(entry).__name__)


@script_of_entry.register
def _(entry: Deviation, setting: Setting = CPU) -> str:
    return script(entry.pinned, setting, shown_by(entry), lost_by(entry), heading(entry, sentences(entry)))


@script_of_entry.register
def _(entry: WrongMaskDeviation, setting: Setting = CPU) -> str:
    return wrong_mask_script(first_row(entry), setting, heading(entry, sentences(entry)))


def shown_by(entry: Deviation) -> set[str]:
    """The parts of the outcome (case_script.EVERYTHING) in which the pinned case of an entry deviates."""
    computation = predict(entry.pinned, _applied(entry))
    if computation.warnings:  # the backward pass may give the warning
        return {WARNINGS, GRADIENTS} if directions(entry.pinned) else {WARNINGS}
    if computation.error:
        return {ERRORS}
    return {GRADIENTS} if directions(entry.pinned) else {RESULTS}


def lost_by(entry: Deviation) -> list[str] | None:
    """The names of the arguments whose gradients are wrong in the pinned case; None if there are none."""
    case = entry.pinned

    def differs(name):
        computations = predict(case, _applied(entry), displace=(name,)), specification(case, displace=(name,))
        slopes = [derivative(computation()["output"]) for computation in computations]
        return not np.allclose(*slopes, rtol=1e-9)

    return [name for name in directions(case) if differs(name)] or None


def _applied(entry):
    """The entry as it applies to its pinned case on the first affected release."""
    call = Call(entry.pinned, _first_affected(entry), (SDPA_FLASH,))
    return ledger.applying(call, (entry,))


def first_row(entry: WrongMaskDeviation) -> WrongCall:
    """The first wrong call that an entry applies to; if possible, one that the installed release has."""
    release = _first_affected(entry)
    rows = [call for call in ROWS if entry.applies(call, release)]
    return next((call for call in rows if not not_applicable(call, release)), rows[0])


def _first_affected(entry):
    oldest = [Version(part.version) for part in SpecifierSet(entry.affects) if part.operator == ">="]
    return Release(max([Version(OLDEST), *oldest]), "cpu")


# ---- command line --------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Print a script; return 0. Exits with BAD_INPUT if the argument is neither a case nor an id."""
    parser = Parser(
        prog="python -m tests.tools reproduce", description="Print a case, or an entry of a ledger, as a script."
    )
    parser.add_argument("what", metavar="CASE-OR-LEDGER-ID")
    parser.add_argument("device", metavar="DEVICE", nargs="?", default="cpu", help="any torch device string")
    parser.add_argument("--import", dest="imported", metavar="MODULE", help="a module to import first")
    parser.add_argument("--subject", metavar="[NAME=]MODULE:FACTORY", help="call this in the place of NAME")
    options = parser.parse_args(arguments)
    text, setting = options.what, Setting(options.device, options.imported, options.subject)
    if text in BY_ID:
        print(script_of_entry(BY_ID[text], setting), end="")
        return 0
    try:
        case = parse(text)
    except BadInput as error:
        parser.error(f"no entry of the ledger; {error}")
    print(script(case, setting), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
