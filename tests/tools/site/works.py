"""`python -m tests.tools works [--check]` writes docs/what-works.json: each module with each kind of mask, by setting.

The contents are those of `ask --table`, which predicts them by the ledger; the page shows them. --check writes nothing,
and exits with 1 if the file is stale.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.harness.command_line import Parser
from tests.harness.deviations.prediction import CONFORMS, LACKING
from tests.harness.releases import NEWEST, OLDEST

from ..ask.answers import in_words, versions_in
from ..ask.table import KINDS, MODULES, SETTINGS, Cell, cells

PATH = Path(__file__).parents[3] / "docs" / "what-works.json"
COMMAND = "python -m tests.tools works"


def text(found: Iterable[Cell]) -> str:
    """The text of docs/what-works.json: one line for each cell."""
    lines = [json.dumps(_cell(cell), ensure_ascii=False) for cell in found]
    head = {
        "written_by": COMMAND,
        "modules": {id: row.text for id, row in MODULES.items()},
        "masks": {id: masks.words for id, masks in KINDS.items()},
        "settings": SETTINGS,
    }
    begin = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{begin},\n "cells": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _cell(cell):
    differing = [
        {
            "releases": in_words(versions),
            "minors": list(dict.fromkeys(f"{version.major}.{version.minor}" for version in versions)),
            "entries": [{"id": entry.id, "symptom": entry.symptom} for entry in said.entries],
            "why": said.why,
        }
        for versions, said in cell.ranges
        if said.status not in (CONFORMS, LACKING)
    ]
    lacking = [version for versions, said in cell.ranges if said.status == LACKING for version in versions]
    minors = list(dict.fromkeys(f"{version.major}.{version.minor}" for version in lacking))
    return {
        **{name: getattr(cell, name) for name in ("module", "mask", "setting")},
        "lacking": minors,
        "not": differing,
    }


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    parser = Parser(prog=COMMAND, description="Write docs/what-works.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is stale")
    options = parser.parse_args(arguments)
    made = text(cells(versions_in(f"{OLDEST}:{NEWEST}")))
    is_fresh = PATH.is_file() and PATH.read_text() == made
    if options.check and not is_fresh:
        print(f"stale: {PATH}; run {COMMAND}", file=sys.stderr)
        return 1
    if not is_fresh:
        PATH.write_text(made)
    return 0
