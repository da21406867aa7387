"""`python -m tests.tools bisect WHAT [--good 2.0] [--bad 2.15]` finds the release that broke or fixed something.

WHAT is the id of an entry of a ledger, or a script. The script exits with 1 if the release has the bug, with 0 if it
has not, and with any other code if neither can be said. Each tested release, patch releases included, is installed by
uv in a temporary environment. Verdicts are kept in reports/bisect, so an interrupted search can continue.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

from packaging.version import InvalidVersion, Version

from tests.harness.command_line import BAD_INPUT, BadInput, Parser
from tests.harness.releases import OLDEST

from .search import OTHER, SAME, UNKNOWN, turning_point

ROOT = Path(__file__).parents[2]
BUG, FINE = "bug", "fine"
_PYTHON = "3.11"  # runs every release


@dataclass
class Log:
    """The verdicts of a search, kept in a file. The file is read at the start and written after each verdict."""

    path: Path
    verdicts: dict[str, str] = field(default_factory=dict)  # {version: BUG, FINE or UNKNOWN}

    def __post_init__(self):
        if self.path.exists():
            self.verdicts = json.loads(self.path.read_text())

    def put(self, version: str, verdict: str) -> None:
        """Add a verdict and write the file."""
        self.verdicts[version] = verdict
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.verdicts, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code: 0, or BAD_INPUT if an argument cannot be used."""
    parser = Parser(
        prog="python -m tests.tools bisect", description="Find the release in which something broke, or was fixed."
    )
    parser.add_argument("what", metavar="WHAT", help="the id of an entry of a ledger, or a script")
    parser.add_argument("--good", default=OLDEST, help="one end of the range of releases (default: %(default)s)")
    parser.add_argument("--bad", help="the other end (default: the newest release)")
    parser.add_argument("--nightly", action="store_true", help="search among the nightly builds of the index")
    options = parser.parse_args(arguments)
    try:
        for end in filter(None, (options.good, options.bad)):
            _parsed(end)
        script = script_of(options.what)
        versions = between(available(options.nightly), options.good, options.bad)
        log = Log(log_of(script))
        found = bisect(versions, lambda version: _asked(version, script, log))
        tell_issue(script.with_name("issue.md"), log.verdicts)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(found)
    return 0


def script_of(what: str) -> Path:
    """The path of a script. If `what` is the id of an entry, its script is written first.

    Raises BadInput if `what` is neither a file nor an id.
    """
    if Path(what).is_file():
        return Path(what)
    # These need torch, which a search with a script does not.
    from tests.harness.ledgers import BY_ID
    from tests.tools.reproduce import script_of_entry

    if what not in BY_ID:
        raise BadInput(f"{what}: neither a script nor an entry of the ledger")
    path = ROOT / "reports" / "bisect" / f"{what}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script_of_entry(BY_ID[what]))
    return path


def log_of(script: Path) -> Path:
    """The path of the log of a script. It contains a checksum, so a changed script starts a new log."""
    return ROOT / "reports" / "bisect" / f"{script.stem}-{crc32(script.read_bytes()):08x}.json"


def available(nightly: bool = False) -> list[Version]:
    """The releases of torch that the index offers, or its nightly builds, oldest first.

    Raises BadInput if pip cannot list them.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", "torch", *(["--pre"] if nightly else [])]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    line = re.search(r"^Available versions: (.*)$", listed.stdout, re.MULTILINE)
    if not line:
        reason = (listed.stderr.strip().splitlines() or ["no answer"])[-1]
        raise BadInput(f"the versions of torch cannot be listed: {reason}")
    versions = sorted(filter(None, map(_version, line[1].split(", "))))
    return [version for version in versions if version.is_prerelease == nightly]


def _version(text):
    try:
        return Version(text)
    except InvalidVersion:
        return None


def between(versions: list[Version], one: str | None, other: str | None) -> list[str]:
    """The versions in a range. The ends may come in either order and belong to the range; None leaves an end open.

    An end without a patch release, such as 2.0, stands for the first or last patch release of its minor release. Raises
    BadInput if the range has fewer than two versions.
    """
    low, high = (None if end is None else _parsed(end) for end in (one, other))
    if low is not None and high is not None and high < low:
        low, high = high, low
    chosen = [v for v in versions if (low is None or v >= low) and (high is None or v <= high or _is_of(v, high))]
    if len(chosen) < 2:
        raise BadInput(f"the index offers {len(chosen)} releases from {one} to {other or 'the newest'}")
    return [str(version) for version in chosen]


def _parsed(text):
    version = _version(text)
    if version is None:
        raise BadInput(f"{text}: not a version")
    return version


def _is_of(version, minor):
    return version.release[: len(minor.release)] == minor.release


def bisect(versions: list[str], ask: Callable[[str], str]) -> str:
    """The result of the search, in words. ask: version -> BUG, FINE or UNKNOWN.

    Raises BadInput if the verdict on the first or last version is UNKNOWN.
    """
    start, end = ask(versions[0]), ask(versions[-1])
    for version, verdict in ((versions[0], start), (versions[-1], end)):
        if verdict == UNKNOWN:
            raise BadInput(f"nothing can be said of {version}, an end of the range: choose another")
    if start == end:
        return f"{versions[0]} and {versions[-1]} agree: {'the bug is in both' if start == BUG else 'both are fine'}"

    def as_start(i):
        verdict = ask(versions[i])
        return UNKNOWN if verdict == UNKNOWN else SAME if verdict == start else OTHER

    turn = turning_point(len(versions), as_start)
    what = "first bad" if end == BUG else "first fixed"
    unasked = versions[turn.last + 1 : turn.first]
    doubt = f" (nothing can be said of {', '.join(unasked)})" if unasked else ""
    return f"{what}: {versions[turn.first]}; the one before: {versions[turn.last]}{doubt}"


def tell_issue(path: Path, verdicts: Mapping[str, str]) -> None:
    """Write the verdicts into the table of releases of the issue that a failing run left beside the script, if any."""
    if path.exists():
        head, title, rest = path.read_text().partition("## Releases\n")
        _, _, tail = rest.partition("\n## ")
        rows = "\n".join(f"| {version} | {verdicts[version]} |" for version in sorted(verdicts, key=Version))
        path.write_text(f"{head}{title}\n| release | |\n| --- | --- |\n{rows}\n\n## {tail}")


def _asked(version, script, log):
    """The verdict on a version, from the log or by running the script with this version."""
    if version not in log.verdicts:
        print(f"torch {version}: ", end="", flush=True)
        log.put(version, _run(version, script))
        print(log.verdicts[version], flush=True)
    return log.verdicts[version]


def _run(version, script):
    """Install a version of torch and run the script with it: BUG, FINE or UNKNOWN."""
    with TemporaryDirectory(prefix="bisect-") as folder:
        python = Path(folder) / "bin" / "python"
        numpy = "numpy<2" if Version(version) < Version("2.3") else "numpy"
        steps = ["uv", "venv", "-q", "-p", _PYTHON, folder], ["uv", "pip", "install", "-q", "-p", python]
        made = subprocess.run(steps[0], capture_output=True, check=False).returncode == 0
        if not made or subprocess.run([*steps[1], f"torch=={version}", numpy], check=False).returncode != 0:
            return UNKNOWN
        run = subprocess.run([python, "-W", "ignore", script], capture_output=True, check=False)
    return {0: FINE, 1: BUG}.get(run.returncode, UNKNOWN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
