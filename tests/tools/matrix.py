"""`python -m tests.tools matrix` measures all modelled releases of torch, and writes one report.

Each release is installed by tox, and runs the conformance tests in one process; two releases run side by side. Records
and the report, README.md, are written to reports/matrix. An interrupted command, given again, measures what is missing.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.version import Version

from tests.harness.command_line import BAD_INPUT, HARNESS_ERROR, BadInput, Parser
from tests.harness.releases import NEWEST, OLDEST, RELEASES

from . import runs
from .markdown_page import table
from .news import Told, as_markdown, told_by
from .records import as_record, read_json

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "results"
FOLDER = ROOT / "reports" / "matrix"
_FAILED = 1  # the exit code of pytest if a test fails


@dataclass(frozen=True)
class Setting:
    """What the runs have in common. Records of another setting are not kept."""

    profile: str  # of Hypothesis
    seed: int
    suite: str  # the commit; with "+" if files differ from it
    days: bool = False  # each release is judged by the model of the one before it
    options: tuple[str, ...] = ()  # further ones of pytest


@dataclass(frozen=True)
class Measured:
    """One release. told: the news of its run; None if it left no whole record. why: the reason, in one line."""

    minor: str
    told: Told | None
    why: str = ""

    @property
    def outcome(self) -> str:
        """What the run found, in a few words."""
        return self.told.counts if self.told else f"no record: {self.why}"


def main(arguments: Sequence[str]) -> int:
    """Run the command. The exit code is 1 if something is new, wider or back, 3 if a release has no record."""
    parser = Parser(prog="python -m tests.tools matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--torch", metavar="FROM:TO", default=f"{OLDEST}:{NEWEST}", help="default: %(default)s")
    parser.add_argument("--profile", default="default", help="Hypothesis profile of the runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of Hypothesis (default: that of the runs to continue, or a new one)")
    parser.add_argument("--at-once", type=int, default=2, help="releases side by side (default: %(default)s)")
    parser.add_argument("--days", action="store_true", help="judge each release by the model of the one before it")
    parser.add_argument("--anew", action="store_true", help="measure again what has a record")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="-- OPTIONS", help="further options of pytest")
    options = parser.parse_args(arguments)
    try:
        minors = _between(options.torch)
        if options.days and not (minors := tuple(minor for minor in minors if minor != OLDEST)):
            raise BadInput(f"--days: no release is modelled before {OLDEST}")
        if options.at_once < 1:
            raise BadInput(f"--at-once {options.at_once}: not a number of releases above 0")
        _begin(_setting(options), options.anew)
        found = list(_measured(minors, options.at_once))
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    page = FOLDER / "README.md"
    page.write_text("\n".join(_page(found)) + "\n")
    print(f"The report: {os.path.relpath(page, ROOT)}")
    if not all(its.told for its in found):
        return HARNESS_ERROR
    return int(any(its.told and its.told.is_worse for its in found))


def _between(ends):
    """The minor releases from one to the other, as in RELEASES. Raises BadInput for anything else."""
    first, _, last = ends.partition(":")
    for end in (first, last := last or first):
        if end not in RELEASES:
            raise BadInput(f"--torch {ends}: {end or 'an end'} is none of {', '.join(RELEASES)}")
    if not (minors := RELEASES[RELEASES.index(first) : RELEASES.index(last) + 1]):
        raise BadInput(f"--torch {ends}: no release is in between")
    return minors


def _setting(options):
    """The setting of the runs. Without a seed, that of earlier runs, if they have the same setting otherwise."""
    more = tuple(options.options[1:] if options.options[:1] == ["--"] else options.options)
    earlier = _earlier()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**9)
    if earlier and options.seed is None and not options.anew:
        seed = earlier["seed"]
    return Setting(options.profile, seed, _suite(), options.days, more)


def _suite():
    """The commit of the suite, with "+" if files differ from it; empty if git does not know."""
    described = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True)
    return described.stdout.strip()


def _earlier():
    path = FOLDER / "setting.json"
    return read_json(path) if path.exists() else None


def _begin(setting, anew):
    """Remove the records of another setting, or all; keep the setting."""
    plain = json.loads(json.dumps(asdict(setting)))
    if FOLDER.exists() and (anew or _earlier() != plain):
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "setting.json").write_text(json.dumps(plain, indent=1) + "\n")


def _measured(minors: Sequence[str], at_once: int) -> Iterator[Measured]:
    """Generates the releases, each with its run, in the order of their releases; prints a line for each as it ends."""
    setting = Setting(**_earlier())

    def measure(minor):
        its = _kept(minor)
        if its is None:
            started = time.monotonic()
            its = _run(minor, setting)
            print(f"torch {minor}: {its.outcome} ({time.monotonic() - started:.0f} s)", flush=True)
        return its

    with ThreadPoolExecutor(at_once) as lanes:
        yield from lanes.map(measure, minors)


def _kept(minor):
    """The release as it was measured; None if it has no whole record."""
    path = _record_of(minor)
    try:
        told = told_by(read_json(path), path)
    except BadInput:
        return None
    return Measured(minor, told) if told.is_complete else None


def _record_of(minor):
    return FOLDER / f"{minor}-cpu.json"


def _run(minor, setting):
    """Install the release and run the suite on it; what it prints goes to a file beside its record."""
    record = _record_of(minor)
    command = _command(minor, setting, record)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOX_")}
    output = record.with_suffix(".txt")
    with open(output, "w") as file:
        print(shlex.join(command), file=file, flush=True)
        code = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file, env=environment).returncode
    its = _kept(minor)
    if code in (0, _FAILED) and its:
        return its
    return Measured(minor, None, f"exit code {code}, see {os.path.relpath(output, ROOT)}")


def _command(minor, setting, record):
    python = [sys.executable, "-m", "tox", "exec", "-q", "-e", f"torch{minor}", "--", "python"]
    run = ["-m", "pytest", "tests/conformance", "--quiet", f"--report={record}"]
    drawn = [f"--hypothesis-profile={setting.profile}", f"--hypothesis-seed={setting.seed}"]
    model = [f"--model={_before(minor)}"] if setting.days else []
    return [*python, *run, *drawn, *model, *setting.options]


def _before(minor):
    """The newest patch release, of those with a record, of the minor release before this one."""
    before = RELEASES[RELEASES.index(minor) - 1]
    versions = (Version(path.stem.removesuffix("-cpu")) for path in RECORDS.glob(f"{before}.*-cpu.json"))
    return str(max(versions, default=before))


# ---- the report ----------------------------------------------------------------------------------------------------


def _page(found: Iterable[Measured]) -> Iterator[str]:
    """Generates lines of Markdown: the outcome of each release, the table of runs, and what changed."""
    found = list(found)
    worse = [its for its in found if its.told and its.told.is_worse]
    missing = [its for its in found if not its.told]
    yield from ("# Attention masks, release by release", "")
    yield f"{len(found)} releases: {len(worse)} with something new, wider or back, {len(missing)} without a record."
    yield ""
    yield from table(("release", "found"), [(its.minor, its.outcome) for its in found], "---")
    paths = [_record_of(its.minor) for its in found if its.told]
    records = [as_record(read_json(path), path) for path in paths]
    yield from ("", f"## {runs.TITLE}", "", runs.about(NEWEST)[1], "")
    yield from table(runs.HEADS, runs.rows(records))
    if changed := [its.told for its in found if its.told and its.told.news]:
        yield from ("", "## Changes", "")
        for told in changed:
            yield from as_markdown(told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
