"""The search finds the turning point with few questions, even if some releases are unknown; the tool reports it."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from tests.tools import bisect
from tests.tools.search import OTHER, SAME, UNKNOWN, turning_point


@st.composite
def lines(draw):
    """Generates (number of candidates, index of the first OTHER, indices with the answer UNKNOWN)."""
    number = draw(st.integers(2, 200))
    first = draw(st.integers(1, number - 1))
    return number, first, draw(st.sets(st.integers(1, max(number - 2, 1)), max_size=20))


@given(lines())
def test_the_turn_is_between_what_is_found(line):
    number, first, unknown = line
    asked = []

    def ask(i):
        assert 0 < i < number - 1
        asked.append(i)
        return UNKNOWN if i in unknown else OTHER if i >= first else SAME

    turn = turning_point(number, ask)
    assert turn.last < first <= turn.first
    assert set(range(turn.last + 1, turn.first)) <= unknown
    assert len(asked) == len(set(asked))
    if not unknown:
        assert turn.first == turn.last + 1
        assert len(asked) <= ceil(log2(max(number - 1, 2)))


VERSIONS = ["1.13.0", "1.13.1", "2.0.0", "2.0.1", "2.1.0", "2.1.1"]


@pytest.mark.parametrize(
    "bugs, words",
    [
        ({"2.0.1", "2.1.0", "2.1.1"}, "first bad: 2.0.1; the one before: 2.0.0"),
        ({"1.13.0", "1.13.1"}, "first fixed: 2.0.0; the one before: 1.13.1"),
        (set(), "1.13.0 and 2.1.1 agree: both are fine"),
        (set(VERSIONS), "1.13.0 and 2.1.1 agree: the bug is in both"),
    ],
)
def test_what_is_said(bugs, words):
    assert bisect.bisect(VERSIONS, lambda version: bisect.BUG if version in bugs else bisect.FINE) == words


def test_what_cannot_be_asked_is_named():
    verdicts = {"1.13.0": bisect.FINE, "2.0.1": bisect.BUG, "2.1.0": bisect.BUG, "2.1.1": bisect.BUG}
    said = bisect.bisect(VERSIONS, lambda version: verdicts.get(version, UNKNOWN))
    assert said == "first bad: 2.0.1; the one before: 1.13.0 (nothing can be said of 1.13.1, 2.0.0)"
    with pytest.raises(bisect.BadInput, match=r"nothing can be said of 1\.13\.0"):
        bisect.bisect(VERSIONS, lambda version: UNKNOWN)


def test_a_range_has_its_patch_releases():
    versions = [Version(version) for version in VERSIONS]
    assert bisect.between(versions, "1.13", "2.0") == VERSIONS[:4]
    assert bisect.between(versions, "2.1", "2.0.1") == VERSIONS[3:]
    assert bisect.between(versions, "2.0", None) == VERSIONS[2:]
    with pytest.raises(bisect.BadInput, match="0 releases"):
        bisect.between(versions, "3.0", None)
    with pytest.raises(bisect.BadInput, match="not a version"):
        bisect.between(versions, "new", None)


def test_a_log_is_resumed(tmp_path, capsys):
    log = bisect.Log(tmp_path / "log.json")
    log.put("2.0.0", bisect.BUG)
    assert bisect._asked("2.0.0", None, bisect.Log(tmp_path / "log.json")) == bisect.BUG
    assert not capsys.readouterr().out


def test_what_is_neither_a_script_nor_an_entry_is_bad_input(capsys):
    assert bisect.main(["no-such-entry"]) == 4
    assert "neither a script nor an entry" in capsys.readouterr().err


def test_scripts_of_one_name_have_logs_of_their_own(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys")
    first = bisect.log_of(script)
    script.write_text("import re")
    assert bisect.log_of(script) != first


def test_the_issue_beside_the_script_gets_the_verdicts(tmp_path):
    path = tmp_path / "issue.md"
    bisect.tell_issue(path, {})
    assert not path.exists()
    around = "# A bug\n\n## Releases\n\n| release | |\n| --- | --- |\n{}\n\n## Environment\n\n- x\n"
    path.write_text(around.format("| 2.5.0 | bug |"))
    bisect.tell_issue(path, {"2.10.0": "bug", "2.9.0": "fine"})
    assert path.read_text() == around.format("| 2.9.0 | fine |\n| 2.10.0 | bug |")
