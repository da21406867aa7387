"""Releases in words: in which of them something was seen."""

from itertools import groupby

from tests.harness.measurement.session import ABSENT, CHANGED, PRESENT


def minor(version):
    return f"{version.major}.{version.minor}"


def on_device(release, device):
    """What is not of the CPU says so."""
    return release if device == "cpu" else f"{release} on {device}"


def in_words(states):
    """Where something was seen, as "2.1.0 to 2.4.1; gone in 2.5.0".

    states: (version, state) in order. Where the measured releases begin and end it names the minor release; at a
    border between them the patch release, unless another one that was not measured may be nearer to the border.
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
    """(first, last) index of each run of PRESENT."""
    runs = [list(run) for state, run in groupby(range(len(states)), key=states.__getitem__) if state == PRESENT]
    return [(run[0], run[-1]) for run in runs]


def _span(versions, first, last):
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
    """The patch release, if no earlier one of its minor release can have gone unmeasured at this border."""
    is_known = versions[i].micro == 0 or minor(versions[i - 1]) == minor(versions[i])
    return str(versions[i]) if is_known else minor(versions[i])


def _follows(one, other):
    """True if no minor release lies between the two."""
    same_major = one.major == other.major and other.minor - one.minor <= 1
    return same_major or ((one.major, one.minor), (other.major, other.minor)) == ((1, 13), (2, 0))
