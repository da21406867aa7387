"""The modelled releases of torch, and comparisons of versions with them. Plain data: this module does not import torch.

tox.ini, the workflow, .ci/run and the README name these releases too; tests/selftest/test_releases.py compares them.
"""

from functools import cache
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import Version

if TYPE_CHECKING:
    from .execution.release import Release

RELEASES = (
    *("1.13", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9"),
    *("2.10", "2.11", "2.12", "2.13", "2.14", "2.15"),
)
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]

# The releases on which the ranges of both ledgers have been measured: {type of device: version specifier}.
MEASURED = {"cpu": f">={OLDEST}", "cuda": "==2.11.*"}


def minor(version: Version) -> str:
    """The minor release of a version, spelled as in RELEASES: "2.1" for 2.1.2."""
    return f"{version.major}.{version.minor}"


def is_modelled(version: Version) -> bool:
    """True if the version is in RELEASES, or is a patch release or a build of such a release."""
    return minor(version) in RELEASES


def since(release: "Release", version: str) -> bool:
    """True if the release is this version or a later one."""
    return release.version.release >= _numbers(version)


@cache
def _numbers(version):
    return Version(version).release


def is_measured(device_type: str, version: Version) -> bool:
    """True if the ranges have been measured with this version on this type of device ("cpu", "cuda")."""
    return contains(MEASURED.get(device_type, "<0"), version)


def contains(affected: str, version: Version) -> bool:
    """True if the version specifier `affected` contains the version. A nightly build counts as its release."""
    return SpecifierSet(affected, prereleases=True).contains(Version(version.base_version))
