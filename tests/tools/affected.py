"""Edits of the range of an entry: a version specifier that ends before a release, or contains one more release."""

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from tests.harness.releases import RELEASES, contains


def short(version: Version) -> str:
    """The release as ranges spell it: "2.16" for 2.16.0, "2.14.1" for 2.14.1."""
    numbers = version.release if version.micro else version.release[:2]
    return ".".join(map(str, numbers))


def ended(affects: str, version: Version) -> str:
    """The range, without the release and all later ones."""
    if not contains(affects, version):
        return affects
    kept = [its for its in _parts(affects) if not (its.operator.startswith("<") and Version(its.version) >= version)]
    kept = [its for its in kept if its.operator != "!=" or Version(its.version.removesuffix(".*")) < version]
    return ",".join([*map(str, kept), f"<{short(version)}"])


def begun(affects: str, version: Version) -> str:
    """The range with the release and later ones, if it ended before; or with an earlier beginning.

    Releases between the old range and the release are excluded one by one. Raises ValueError for a range that lists
    releases.
    """
    if contains(affects, version):
        return affects
    parts = _parts(affects)
    others = [its for its in parts if its.operator not in ("<", "<=", ">=", ">")]
    if any(its.operator not in ("!=",) for its in others):
        raise ValueError(f"{affects}: a range that only a person can widen")
    lower = [its for its in parts if its.operator.startswith(">")]
    upper = [its for its in parts if its.operator.startswith("<")]
    if lower and Version(lower[0].version) > version:
        begins = _minor(lower[0].version)
        gap = _without(lambda its: version < its < begins)
        return ",".join([f">={short(version)}", *gap, *map(str, others), *map(str, upper)])
    first, last = Version(upper[0].version), _minor(str(version))
    within = [f"!={first}"] if first.micro and _minor(str(first)) != last else []
    gap = _without(lambda its: first <= its < last)
    return ",".join([*map(str, lower), *map(str, others), *within, *gap])


def _without(is_excluded):
    """Specifiers that exclude the minor releases for which is_excluded(version) is true."""
    return [f"!={minor}.*" for minor in RELEASES if is_excluded(Version(minor))]


def is_known_at(affects: str, version: Version) -> bool:
    """True if the range contains the release or an earlier one."""
    patches = (Version(f"{minor}.{patch}") for minor in RELEASES for patch in range(4))
    return any(contains(affects, its) for its in (version, *patches) if its <= version)


def known_at(affects: str, version: Version) -> str:
    """The range as it was known at the release: without ends and gaps that come later."""
    kept = [its for its in _parts(affects) if Version(its.version.removesuffix(".*")) <= version]
    return ",".join(map(str, kept)) or f">={RELEASES[0]}"


def _parts(affects) -> list[Specifier]:
    """The parts of the range, in the order in which they are written."""
    written = [part.strip() for part in affects.split(",")]
    return sorted(SpecifierSet(affects), key=lambda its: written.index(str(its)) if str(its) in written else -1)


def _minor(version):
    """The minor release of a version, as a Version."""
    return Version(".".join(map(str, Version(version).release[:2])))
