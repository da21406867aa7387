"""Ranges of releases in words."""

from collections.abc import Sequence
from itertools import groupby

from packaging.version import Version

from tests.harness.measurement.session import ABSENT, CHANGED, PRESENT


def minor(version: Version) -> str:
    """The minor release of a version: "2.1" for 2.1.2."""
    return f"{version.major}.{version.minor}"


def on_device(release: str, device: str) -> str:
    """The release and the device in words; the CPU is not mentioned."""
    return release if device == "cpu" else f"{release} on {device}"


def in_words(states: Sequence[tuple[Version, str]]) -> str:
    """The releases in which an entry is PRESENT, such as "2.1.0 to 2.4.1; gone in 2.5.0".

    states: (version, state) of the measured releases, in order. A range that begins or ends with the measured releases
    names the minor release there. Other ends name the patch release, unless an unmeasured release may be nearer to the
    true end.
    """
    versions = [version for version, _ in states]
    spans = _spans([state for _, state in states])
    if not spans:
        return f"in none of {_ends(minor(versions[0]), minor(versions[-1]))}" if versions else "not measured"
    words = " and ".join(_span(versions, first, last) for first, last in spans)
    after = spans[-1][1] + 1
    if after < len(states) and states[after][1] == ABSENT:
        is_next = _follows(versions[after - 1], versions[after])
        words += f"; gone {'in' if is_next else 'by'} {_earliest(versions, after)}"
    changed = [str(version) for version, state in states if state == CHANGED]
    return words + (f"; neither this nor right in {', '.join(changed)}" if changed else "")


def _spans(states):
    """[(first index, last index)] of each sequence of PRESENT."""
    runs = [list(run) for state, run in groupby(range(len(states)), key=states.__getitem__) if state == PRESENT]
    return [(run[0], run[-1]) for run in runs]


def _span(versions, first, last):
    """The versions with these indices, first to last, in words."""
    of_minor = [i for i, version in enumerate(versions) if minor(version) == minor(versions[first])]
    if (first, last) == (of_minor[0], of_minor[-1]):
        return minor(versions[first])
    if last <= of_minor[-1]:
        return _ends(str(versions[first]), str(versions[last]))
    start = minor(versions[first]) if first == 0 else _earliest(versions, first)
    return _ends(start, minor(versions[last]) if last == len(versions) - 1 else str(versions[last]))


def _ends(start, end):
    return start if start == end else f"{start} to {end}"


def _earliest(versions, i):
    """The patch release with index i, or its minor release if an earlier patch release may be unmeasured."""
    is_known = versions[i].micro == 0 or minor(versions[i - 1]) == minor(versions[i])
    return str(versions[i]) if is_known else minor(versions[i])


def _follows(one, other):
    """True if no minor release lies between both versions."""
    same_major = one.major == other.major and other.minor - one.minor <= 1
    return same_major or ((one.major, one.minor), (other.major, other.minor)) == ((1, 13), (2, 0))
