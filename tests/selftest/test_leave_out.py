"""The ledgers cut back to what was known at an earlier release."""

import json
import subprocess
import sys

import pytest
from packaging.version import Version

from tests.harness.command_line import BAD_INPUT
from tests.harness.ledgers import ENTRIES
from tests.harness.releases import contains
from tests.tools.affected import is_known_at, known_at
from tests.tools.history_measured import left_out
from tests.tools.leave_out import _copy, cut_back, main

KNOWN = Version("2.4.1")


@pytest.mark.parametrize(
    "affects, is_known, known",
    [
        (">=2.5", False, None),
        (">=2.0,<2.5", True, ">=2.0"),
        (">=2.0,<2.3", True, ">=2.0,<2.3"),
        (">=2.1,!=2.6.*", True, ">=2.1"),
        ("<2.9", True, ">=1.13"),
    ],
)
def test_a_range_is_cut_back(affects, is_known, known):
    assert is_known_at(affects, KNOWN) == is_known
    if known:
        assert known_at(affects, KNOWN) == known


IDS = """
import json
from packaging.version import Version
from tests.harness.deviations import ledger
from tests.harness.execution.release import Release
from tests.harness.releases import since
from tests.harness.wrong_masks import ledger as other
newest = Release(Version("2.15.0"), "cpu")
entries = {entry.id: entry.affects for entry in (*ledger.ENTRIES, *other.ENTRIES)}
print(json.dumps([entries, since(newest, "2.5"), since(newest, "2.4.1")]))
"""


def test_a_copy_of_the_suite_knows_only_what_was_known(tmp_path):
    _copy(tmp_path)
    cut_back(tmp_path, KNOWN)
    done = subprocess.run([sys.executable, "-c", IDS], cwd=tmp_path, capture_output=True, text=True, check=True)
    entries, sees_later, sees_known = json.loads(done.stdout)
    now = {entry.id: entry.affects for entry in ENTRIES}
    assert set(entries) == {id for id, affects in now.items() if is_known_at(affects, KNOWN)}
    assert len(entries) < len(now)
    for id, affects in entries.items():
        assert contains(affects, KNOWN) == contains(now[id], KNOWN)
        assert contains(affects, Version("2.15.0")) == contains(affects, KNOWN) or id == "flash-no-heads"
    assert (sees_later, sees_known) == (False, True)


@pytest.mark.parametrize("model", ["no version", "99.0", "1.0"])
def test_a_model_that_is_not_earlier_is_bad_input(model, capsys):
    assert main([model]) == BAD_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_page_counts_the_edits_and_what_is_left():
    result = {"torch": "2.5.1", "model": "2.4.1", "profile": "quick", "changes": ["a", "b", "c"], "by_hand": ["d"]}
    result |= {"ranges": 2, "reaches": 1, "entries": 1, "without_effect": 0, "left": ["e"]}
    assert list(left_out([result]))[-1] == "| 2.4.1 to 2.5.1 | quick | 3 | 2 | 1 | 1 | 0 | 1 | 1 |"
    assert list(left_out([])) == []
