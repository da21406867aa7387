"""`python -m tests.tools VERB ...`: every command of the suite but the run itself, which is pytest's or tox's."""

import argparse
import importlib
import sys

from tests.harness.command_line import Parser

# verb: (module, what it does)
VERBS = {
    "again": ("tests.tools.again", "run one case again and tell all about it"),
    "reproduce": ("tests.tools.reproduce", "print a case, or an entry of a ledger, as a script that needs torch alone"),
    "compare": ("tests.tools.compare", "tell what changed from one record to another"),
    "merge": ("tests.tools.merge", "make one record of those of shards, or of runs with other seeds"),
    "bisect": ("tests.tools.bisect", "find the release where something broke, or was fixed"),
    "soak": ("tests.tools.soak", "repeat the default run with other seeds, and keep a log"),
    "benchmark": ("tests.tools.benchmark", "measure calls per second, and the share of CPU time inside torch"),
    "catalogue": ("tests.tools.catalogue", "write docs/edge-cases.md and docs/index.html"),
    "clauses": ("tests.tools.clauses", "write the tables of clauses and their tests in reference/README.md"),
    "claims": ("tests.tools.claims", "write docs/claims.md"),
    "history": ("tests.tools.history", "write docs/history.md: what a run would have reported on each release day"),
    "faults": ("tests.sensitivity.campaign", "put faults into torch, one at a time, and see which test notices"),
    "fault-table": ("tests.sensitivity.kill_table", "write docs/sensitivity.md"),
}


def main(arguments: list[str]) -> int | None:
    """Hand over to the command that the first argument names; return its exit code."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items())
    parser = Parser(
        prog="python -m tests.tools",
        usage="%(prog)s VERB [arguments]",
        description=f"The commands of the suite. VERB --help tells the arguments of one.\n\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help="one of these")
    verb = parser.parse_args(arguments[:1]).verb  # without one, too, the error lists them
    return importlib.import_module(VERBS[verb][0]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
