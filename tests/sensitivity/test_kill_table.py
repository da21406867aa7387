"""The kill table covers every fault and every test, and docs/sensitivity.md is up to date."""

from pathlib import Path

import pytest

from tests.sensitivity import kill_table
from tests.sensitivity.campaign import Result
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.reasons import REASONS
from tests.tools.clauses import conformance_tests

FOUND = kill_table.read()
NAMES = list(conformance_tests())


def test_every_fault_was_tried():
    assert set(FOUND["faults"]) == set(FAULTS)


def test_the_method_says_how_many_faults_there_are():
    assert f"puts {len(FAULTS)} faults into torch" in (Path(__file__).parents[2] / "docs" / "method.md").read_text()


def test_what_is_summed_up():
    tries = {
        "one": [Result("one", "quick", {"t": 5, "u": 2})],
        "two": [Result("two", "quick", {"u[a]": 9, "u[b]": 12})],
        "three": [Result("three", "quick", {}), Result("three", "default", {"u": 7}, first=True)],
    }
    found = kill_table.summarise(tries, {"torch": "0", "first": False})
    assert found["faults"]["one"] == {"profile": "quick", "first": "u", "calls": 2, "alone": False}
    assert found["faults"]["two"] == {"profile": "quick", "first": "u[a]", "calls": 9, "alone": True}
    assert found["faults"]["three"] == {"profile": "default", "first": "u", "calls": 7, "alone": None}
    assert kill_table.noticed_alone(found, "u") == ["two"]


@pytest.mark.skipif(FOUND["first"], reason="the last campaign ended each run with the first test that noticed")
@pytest.mark.parametrize("test", NAMES)
def test_a_test_notices_something_alone_or_says_why_it_stays(test):
    assert kill_table.noticed_alone(FOUND, test) or REASONS.get(test)


def test_reasons_are_given_for_tests_that_exist():
    assert set(REASONS) <= set(NAMES)


def test_the_page_is_fresh():
    assert kill_table.main(["--check"]) == 0


def test_a_campaign_on_another_torch_is_kept_beside_the_others(tmp_path):
    for torch in ("2.15.0", "2.9.1", "2.16.0"):
        kill_table.keep(FOUND | {"torch": torch}, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert kill_table.read(folder=tmp_path)["torch"] == "2.16.0"
    assert kill_table.read("2.9.1", tmp_path)["torch"] == "2.9.1"


def test_a_torch_without_a_campaign_is_bad_input(capsys):
    with pytest.raises(SystemExit) as ended:
        kill_table.main(["--torch", "0.1"])
    assert ended.value.code == 4
    assert "--torch 0.1: no campaign on it is kept" in capsys.readouterr().err
