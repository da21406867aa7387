"""The releases of torch that are modelled: the one list, and comparisons with it. Plain data; torch is not imported.

tox.ini, the workflow, .ci/run and the README name these releases too; tests/selftest/test_releases.py compares them.
"""

from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

RELEASES = (
    *("1.13", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "2.9"),
    *("2.10", "2.11", "2.12", "2.13", "2.14", "2.15"),
)


OLDEST, NEWEST = RELEASES[0], RELEASES[-1]


# Where the ranges of both ledgers have been measured: {type of device: releases}.
MEASURED = {"cpu": f">={OLDEST}", "cuda": "==2.11.*"}


def minor(version):
    """The minor release of a packaging.version.Version, as RELEASES names it."""
    return f"{version.major}.{version.minor}"


def is_modelled(version):
    """True if the version (a packaging.version.Version) is one of RELEASES, or a patch release or build of one."""
    return minor(version) in RELEASES


def since(release, version):
    """True if the release is that one or a later one."""
    return release.version.release >= _numbers(version)


@cache
def _numbers(version):
    return Version(version).release


def is_measured(device_type, version):
    """True if the ranges have been measured on this type of device in this release (a packaging.version.Version)."""
    return contains(MEASURED.get(device_type, "<0"), version)


def contains(affected, version):
    """True if a version specifier has this version, as which a nightly build of it counts."""
    return SpecifierSet(affected, prereleases=True).contains(Version(version.base_version))
