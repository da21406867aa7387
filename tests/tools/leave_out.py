"""`python -m tests.tools leave-out MODEL` measures how much of a release `propose` would have written on its day.

In a copy of the suite, the ledgers are cut back to what was known at the release MODEL: entries that begin later are
removed, later ends of ranges are opened, and conditions do not distinguish later releases. The installed release is
run with the model of MODEL; the proposal is applied; and the release is run again, by its own model. The result counts
the changes that are left, and the entries that a person has to write; it is written to docs/results/history/left-out.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import InvalidVersion, Version

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.execution.release import installed
from tests.harness.ledgers import ENTRIES
from tests.harness.releases import is_modelled

from .affected import is_known_at, known_at
from .ledger_text import ROOT, Texts
from .records import read_json

COMMAND = "python -m tests.tools leave-out"
RESULTS = ROOT / "docs" / "results" / "history" / "left-out"
_SINCE = "return release.version.release >= _numbers(version)"


def cut_back(root: Path, version: Version) -> None:
    """Edit the ledgers of the suite in the folder `root` to what was known at the release."""
    texts = Texts(root)
    for entry in ENTRIES:
        if not is_known_at(entry.affects, version):
            texts.remove([entry.id])
        else:
            texts.change_range(entry.id, lambda affects: known_at(affects, version))
    texts.write()
    path = root / "tests" / "harness" / "releases.py"
    text = path.read_text()
    if text.count(_SINCE) != 1:
        raise ValueError(f"{path}: not once: {_SINCE}")
    path.write_text(text.replace(_SINCE, _SINCE.replace("release.version.release", f"min({_known(version)})")))


def _known(version):
    return f"release.version.release, {version.release!r}"


def measure(version: Version, options: argparse.Namespace, folder: Path) -> dict:
    """The result for the installed release as plain data. folder: an empty folder for the copy of the suite."""
    _copy(folder)
    cut_back(folder, version)
    day = _run(folder, "day-part.json", options, "--model", str(version))
    patch = folder / "reports" / "edits.patch"
    notes = _propose(folder, day, patch)
    if patch.read_text():
        _call(folder, ["git", "apply", str(patch)])
    after = read_json(_run(folder, "after-part.json", options))
    text = patch.read_text()
    return {
        "torch": str(installed().version.base_version),
        "model": str(version),
        "profile": options.profile,
        "seed": options.seed,
        **({"tests": options.tests} if options.tests else {}),
        "changes": [_told(group) for group in read_json(day).get("groups", ())],
        "ranges": len(re.findall(r"^\+ .*affects=.*$", text, re.MULTILINE)) - text.count('+        id="new-'),
        "reaches": len(re.findall(r"^\+    Reach\(", text, re.MULTILINE)),
        "entries": text.count('+        id="new-'),
        "without_effect": text.count("behaviours.unknown"),
        "by_hand": notes,
        "left": [_told(group) for group in after.get("groups", ())],
    }


def _copy(folder):
    """Copy the files that git knows, and those of ignored ones that runs need."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _run(folder, name, options, *more):
    """The path of the record of a run in the folder."""
    report = folder / "reports" / name
    command = [sys.executable, "-m", "pytest", *(options.tests or ["tests/conformance"]), "-q", "--no-issues", *more]
    command += [f"--hypothesis-profile={options.profile}", f"--hypothesis-seed={options.seed}", f"--report={report}"]
    _call(folder, command, codes=(0, 1))
    return report


def _propose(folder, record, patch):
    """Write the patch; return the edits that are left to a person."""
    done = _call(folder, [sys.executable, "-m", "tests.tools", "propose", str(record), "--output", str(patch)])
    return [line.removeprefix("by hand: ") for line in done.stderr.splitlines() if line.startswith("by hand: ")]


def _call(folder, command, codes=(0,)):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode not in codes:
        raise BadInput(
            f"{' '.join(command[:6])}: exit code {done.returncode}: {_last_line(done.stderr or done.stdout)}"
        )
    return done


def _last_line(text):
    return next(iter(reversed(text.strip().splitlines())), "")


def _told(group):
    """A group of failures in a line."""
    told = group.get("explanation", {})
    named = ", ".join(f"{its['id']} {its['kind']}" for its in told.get("changed", ()))
    return named or told.get("behaviour") or group["calls"][0]["title"]


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code."""
    description = (__doc__ or "").partition("\n\n")[2]
    parser = Parser(prog=COMMAND, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the release before the installed one, such as 2.4.1")
    parser.add_argument("--profile", default="default", help="Hypothesis profile of the runs (default: %(default)s)")
    parser.add_argument("--seed", default="1", help="Hypothesis seed of the runs (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="run only these tests, and print the result")
    options = parser.parse_args(arguments)
    try:
        version = _earlier(options.model)
        with tempfile.TemporaryDirectory() as folder:
            result = measure(version, options, Path(folder))
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    if options.tests:
        print(json.dumps(result, indent=1))
    else:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{result['torch']}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(result['changes'])} changes; left: {len(result['left'])}; to write: {result['without_effect']}")
    return 0


def _earlier(text):
    """The version. Raises BadInput unless it is that of a modelled release before the installed one."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise BadInput(f"{text}: not a version") from None
    if not is_modelled(version) or version >= installed().version:
        raise BadInput(f"{text}: not a modelled release before {installed().version}")
    return version


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
