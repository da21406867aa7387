"""`python -m tests.tools VERB ...` runs a command of the suite. The tests themselves run under pytest or tox."""

import argparse
import importlib
import sys

from tests.harness.command_line import Parser

# verb: (module, description)
VERBS = {
    "ask": ("tests.tools.ask.command", "predict what each release does with a call, without running it"),
    "again": ("tests.tools.again", "run one case again and print a report"),
    "reproduce": ("tests.tools.reproduce", "print a case, or an entry of a ledger, as a script that needs only torch"),
    "compare": ("tests.tools.compare", "list the changes from one record to another"),
    "news": ("tests.tools.news", "tell what a run found to have changed, as text, Markdown, HTML or JSON"),
    "matrix": ("tests.tools.matrix", "measure all modelled releases, each in an environment of tox: one report"),
    "merge": ("tests.tools.merge", "merge the records of shards, or of runs with different seeds"),
    "propose": ("tests.tools.propose", "write edits of the ledgers, as a patch, from the record of a run with --model"),
    "bisect": ("tests.tools.bisect", "find the release in which something broke, or was fixed"),
    "soak": ("tests.tools.soak", "repeat the default run with new seeds, and keep a log"),
    "benchmark": ("tests.tools.benchmark", "measure calls per second, and the share of CPU time inside torch"),
    "ask-page": ("tests.tools.ask.page", "write the answers in docs/ask.md"),
    "catalogue": ("tests.tools.catalogue", "write the edge cases: docs/index.html, edge-cases.md and .json, scripts"),
    "works": ("tests.tools.site.works", "write docs/what-works.json: modules and kinds of mask, for the page"),
    "site": ("tests.tools.site.document_pages", "write the pages of the site that are made of Markdown"),
    "clauses": ("tests.tools.clauses", "write the tables of clauses and their tests in reference/README.md"),
    "claims": ("tests.tools.claims", "write docs/claims.md"),
    "history": ("tests.tools.history", "write docs/history.md: each release judged by the model of the one before"),
    "leave-out": ("tests.tools.leave_out", "measure propose with the ledgers as they were known at the release before"),
    "doctor": ("tests.doctor.command", "run a program, and compare its calls of attention with the reference"),
    "doctor-models": ("tests.doctor.page", "run public models under the doctor, and write docs/doctor.md"),
    "faults": ("tests.sensitivity.campaign", "put faults into torch, one at a time, and see which tests fail"),
    "faults-together": (
        "tests.sensitivity.together",
        "run the suite on torch with several faults at once: is each told?",
    ),
    "fault-table": ("tests.sensitivity.kill_table", "write docs/sensitivity.md"),
}


def main(arguments: list[str]) -> int | None:
    """Run the command that the first argument names, with the other arguments, and return its exit code.

    Without arguments, list the commands.
    """
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {what}" for verb, (_, what) in VERBS.items())
    parser = Parser(
        prog="python -m tests.tools",
        usage="%(prog)s VERB [arguments]",
        description=f"The commands of the suite. VERB --help lists the arguments of a command.\n\n{verbs}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help="a command from the list above")
    verb = parser.parse_args(arguments[:1] or ["--help"]).verb  # an unknown verb is an error
    return importlib.import_module(VERBS[verb][0]).main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
