"""`python -m tests.harness.again 'MultiHead(...)'` runs one case again and tells all about it."""

import importlib
import sys

import torch

from . import session
from .adopted import load
from .cases import MultiHead, ScaledDotProduct, Transformer
from .checking import judged
from .command_line import Parser
from .failure import explain
from .masks import Mask, Merged, OverKeys, SeeingFirst
from .subject import made_once
from .verdict import FAILS

NAMES = {
    kind.__name__: kind for kind in (MultiHead, ScaledDotProduct, Transformer, Mask, Merged, OverKeys, SeeingFirst)
}


def parse(text):
    """The case whose repr `text` is."""
    return eval(text, {"__builtins__": {}}, NAMES)


def main(arguments):
    parser = Parser(prog="again", description="Run one case again and tell all about it.")
    parser.add_argument("case", metavar="CASE", help="as a failure prints it")
    parser.add_argument("device", metavar="DEVICE", nargs="?", default="cpu", help="any torch device string")
    parser.add_argument("--import", dest="imported", metavar="MODULE", help="import it first")
    parser.add_argument("--subject", metavar="MODULE:FACTORY", help="call it in the place of nn.MultiheadAttention")
    parser.add_argument("--after", metavar="CASE", help="one that is called first, and that what is called is made for")
    options = parser.parse_args(arguments)
    try:
        if options.imported:
            importlib.import_module(options.imported)
        adopted = load(options.subject) if options.subject else None
        session.start(options.device, adopted=adopted, imported=options.imported)
        case, before = parse(options.case), [parse(options.after)] if options.after else []
    except Exception as error:  # what was typed can be wrong in any way
        parser.error(" ".join(f"{type(error).__name__}: {error}".split()))
    with made_once():
        *_, (observation, verdict) = map(judged, (*before, case))
    print(f"torch {torch.__version__}: {verdict.status}", *verdict.deviations)
    if verdict.status == FAILS:
        print(explain(case, observation, verdict, session.current.setting, *before))
    return int(verdict.status == FAILS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
