"""Several faults of torch at once: which sets are drawn, and which faults a run tells."""

import pytest

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.explanation.explanation import NEW, Explanation
from tests.harness.judgement.groups import Group, key_of
from tests.harness.judgement.report import Failure
from tests.harness.measurement.checking import check
from tests.harness.measurement.news import News
from tests.harness.measurement.rerun import collecting
from tests.sensitivity import together
from tests.sensitivity.faults import FAULTS
from tests.sensitivity.injection import injected
from tests.sensitivity.together import drawn, judged

LOST = "padding-lost-with-weights"
OTHER = MultiHead()
ONE = MultiHead(N=2, L=3, S=3, num_heads=2, head_dim=2, attention="cross", key_padding_mask=Mask(pattern="one"))


def news(*cases):
    calls = tuple(Failure("output is off", case.module, case, served=("explicit",)) for case in cases)
    return News(Group(key_of(calls[0]), calls), Explanation(NEW))


def test_the_faults_of_a_set_change_different_functions():
    sets = list(drawn(5, 4, seed=3))
    assert sets == list(drawn(5, 4, seed=3))
    assert sets != list(drawn(5, 4, seed=4))
    for faults in sets:
        assert len({(FAULTS[fault].patch.owner, FAULTS[fault].patch.name) for fault in faults}) == 4


def test_a_fault_is_told_by_a_call_that_fails_with_it_alone(monkeypatch):
    fails = {LOST: [[True, False], [True]], "other": [[False, True], [False]]}
    monkeypatch.setattr(together, "_in_a_process", lambda function, fault, changes: fails[fault])
    found = judged((LOST, "other"), [news(ONE, OTHER), news(ONE)])
    assert (found.told, found.missed) == ((LOST,), ("other",))
    assert (len(found.mixed), len(found.strange)) == (1, 0)
    fails[LOST][1] = [False]
    assert len(judged((LOST, "other"), [news(ONE, OTHER), news(ONE)]).strange) == 1


def test_calls_are_made_again_with_the_fault():
    with injected(FAULTS[LOST]), collecting() as tally:
        check(ONE)
    (group,) = tally.groups.all()
    found = judged((LOST, "padding-all-false-hides"), [News(group, Explanation(NEW)), news(OTHER)])
    assert (found.told, len(found.strange)) == ((LOST,), 1)


@pytest.mark.parametrize("arguments", [["--sets", "0"], ["--size", "1"]])
def test_no_set_is_bad_input(arguments, capsys):
    assert together.main(arguments) == 4
    assert "at least 1" in capsys.readouterr().err
