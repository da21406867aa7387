"""`python -m tests.harness.again 'MultiHead(...)'` runs one case again and tells all about it."""

import sys

import torch

from . import session
from .cases import MultiHead, ScaledDotProduct, Transformer
from .checking import judged
from .failure import explain
from .masks import Mask, Merged
from .verdict import FAILS

NAMES = {kind.__name__: kind for kind in (MultiHead, ScaledDotProduct, Transformer, Mask, Merged)}


def parse(text):
    """The case whose repr `text` is."""
    return eval(text, {"__builtins__": {}}, NAMES)


def main(arguments):
    if len(arguments) not in (1, 2):
        print("usage: python -m tests.harness.again 'CASE' [DEVICE]", file=sys.stderr)
        return 4
    session.start(*arguments[1:])
    torch.set_warn_always(True)
    case = parse(arguments[0])
    observation, verdict = judged(case)
    print(f"torch {torch.__version__}: {verdict.status}", *verdict.deviations)
    if verdict.status == FAILS:
        print(explain(case, observation, verdict))
    return int(verdict.status == FAILS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
