"""A case as a script that stands alone: it needs torch only, and says whether the release does what is specified.

`python -m tests.tools reproduce 'CASE' [DEVICE]` prints that of a case, `python -m tests.tools reproduce LEDGER-ID`
that of the pinned case of an entry. What a script expects comes from the reference, never from torch, except
for which elements dropout keeps. It exits

    0  where the specification is met
    1  where it is not
    2  where the release lacks the function or an argument of the call, so that nothing can be said
"""

import sys

import numpy as np
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from reference.derivative import derivative
from tests.harness.command_line import BadInput, Parser
from tests.harness.contents.arrays import directions
from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.deviations.entry import Deviation
from tests.harness.execution.release import Release
from tests.harness.execution.setting import CPU, Setting
from tests.harness.expectation.specification import specification
from tests.harness.judgement.verdict import predict
from tests.harness.modes.parsing import parse
from tests.harness.releases import OLDEST
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.sequences import ROWS
from tests.harness.wrong_masks.table import not_applicable

from .case_script import ERRORS, GRADIENTS, RESULTS, WARNINGS, script
from .remedied import sentences
from .standalone import heading
from .wrong_mask_script import wrong_mask_script


def script_of_entry(entry, setting=CPU):
    """The script of an entry of either ledger: of its pinned case, or of its first row."""
    if isinstance(entry, Deviation):
        return script(entry.pinned, setting, shown_by(entry), lost_by(entry), heading(entry, sentences(entry)))
    return wrong_mask_script(first_row(entry), setting, heading(entry, sentences(entry)))


def shown_by(entry):
    """What the pinned case of an entry deviates in."""
    computation = predict(entry.pinned, _applied(entry))
    if computation.warnings:  # some come on the way back
        return {WARNINGS, GRADIENTS} if directions(entry.pinned) else {WARNINGS}
    if computation.error:
        return {ERRORS}
    return {GRADIENTS} if directions(entry.pinned) else {RESULTS}


def lost_by(entry):
    """The arguments whose gradients it gets wrong, by name; None if there is none."""
    case = entry.pinned

    def differs(name):
        computations = predict(case, _applied(entry), displace=(name,)), specification(case, displace=(name,))
        slopes = [derivative(computation()["output"]) for computation in computations]
        return not np.allclose(*slopes, rtol=1e-9)

    return [name for name in directions(case) if differs(name)] or None


def _applied(entry):
    call = Call(entry.pinned, _first_affected(entry), ("sdpa_flash",))
    return ledger.applying(call, (entry,))


def first_row(entry):
    """The first wrong call that an entry applies to, one that the installed release has if there is any."""
    release = _first_affected(entry)
    rows = [call for call in ROWS if entry.applies(call, release)]
    return next((call for call in rows if not not_applicable(call, release)), rows[0])


def _first_affected(entry):
    oldest = [Version(part.version) for part in SpecifierSet(entry.affects) if part.operator == ">="]
    return Release(max([Version(OLDEST), *oldest]), "cpu")


# ---- command line --------------------------------------------------------------------------------------------------


def main(arguments):
    """Print a script."""
    parser = Parser(prog="python -m tests.tools reproduce", description="A case, or an entry of a ledger, as a script.")
    parser.add_argument("what", metavar="CASE-OR-LEDGER-ID")
    parser.add_argument("device", metavar="DEVICE", nargs="?", default="cpu", help="any torch device string")
    parser.add_argument("--import", dest="imported", metavar="MODULE", help="what brings the device along")
    parser.add_argument(
        "--subject", metavar="MODULE:FACTORY", help="what to call in the place of nn.MultiheadAttention"
    )
    options = parser.parse_args(arguments)
    text, setting = options.what, Setting(options.device, options.imported, options.subject)
    entries = {entry.id: entry for entry in (*ledger.ENTRIES, *wrong_masks_ledger.ENTRIES)}
    if text in entries:
        print(script_of_entry(entries[text], setting), end="")
        return 0
    try:
        case = parse(text)
    except BadInput as error:
        parser.error(f"no entry of the ledger; {error}")
    print(script(case, setting), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
