"""All releases are measured, each once; the report tells each; what is missing is measured later."""

import json
import sys
from collections import Counter

import pytest

from tests.harness.releases import RELEASES
from tests.selftest.test_news import NEWS, plain
from tests.tools import matrix

SOURCE = matrix.ROOT / "docs" / "results" / "2.15.0-cpu.json"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """{release: number of times that it was measured}. A run is the copy of a record."""
    counts = Counter()

    def command(minor, setting, record):
        counts[minor] += 1
        source = tmp_path / f"{minor}.json"
        source = source if source.exists() else SOURCE
        code = f"import shutil; shutil.copy({str(source)!r}, {str(record)!r})"
        return [sys.executable, "-c", code]

    monkeypatch.setattr(matrix, "FOLDER", tmp_path / "matrix")
    monkeypatch.setattr(matrix, "_command", command)
    return counts


def report():
    return (matrix.FOLDER / "README.md").read_text()


def test_each_release_is_measured_once_and_told(asked, capsys):
    assert matrix.main(["--at-once", "3"]) == 0
    assert asked == dict.fromkeys(RELEASES, 1)
    printed = capsys.readouterr().out
    assert f"{len(RELEASES)} releases: 0 with something new" in report()
    for minor in RELEASES:
        assert f"| {minor} | nothing changed |" in report()
        assert f"torch {minor}: nothing changed" in printed
    assert report().count("\n| 2.15.0 | ") == len(RELEASES)  # in the table of runs


def test_a_matrix_continues_with_its_seed(asked):
    matrix.main(["--torch", "2.1:2.2", "--seed", "7"])
    (matrix.FOLDER / "2.2-cpu.json").unlink()
    torn = matrix.FOLDER / "2.1-cpu.json"
    torn.write_text(torn.read_text()[:1000])
    matrix.main(["--torch", "2.1:2.3"])
    assert asked == {"2.1": 2, "2.2": 2, "2.3": 1}
    assert json.loads((matrix.FOLDER / "setting.json").read_text())["seed"] == 7


@pytest.mark.parametrize("more", (["--anew"], ["--seed", "8"], ["--profile", "quick"], ["--", "-k", "sdpa"]))
def test_another_setting_measures_anew(asked, more):
    matrix.main(["--torch", "2.1", "--seed", "7"])
    script = matrix.FOLDER / "2.1.2" / "change" / "script.py"  # as a change for the worse leaves one
    script.parent.mkdir(parents=True)
    script.touch()
    matrix.main(["--torch", "2.1", *more])
    assert asked == {"2.1": 2}
    assert not script.exists()


def test_what_is_new_is_told_and_fails(asked, tmp_path, capsys):
    record = json.loads(SOURCE.read_text())
    (tmp_path / "2.4.json").write_text(json.dumps(record | plain(NEWS[1], environment=record["environment"])))
    assert matrix.main(["--torch", "2.3:2.5"]) == 1
    assert "| 2.4 | 1 new |" in report()
    assert "the mask is ignored" in report()
    assert "torch 2.4: 1 new" in capsys.readouterr().out


def test_a_release_without_a_record_is_told_and_the_others_are_kept(asked, tmp_path, capsys):
    (tmp_path / "2.4.json").write_text("{")
    assert matrix.main(["--torch", "2.3:2.5"]) == 3
    assert "3 releases: 0 with something new, wider or back, 1 without a record." in report()
    assert "| 2.4 | no record: exit code 0, see" in report()
    assert "| 2.5 | nothing changed |" in report()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--torch", "3.0"], "--torch 3.0: 3.0 is none of 1.13, 2.0"),
        (["--torch", "2.5:2.1"], "--torch 2.5:2.1: no release is in between"),
        (["--torch", "1.13", "--days"], "--days: no release is modelled before 1.13"),
        (["--at-once", "0"], "--at-once 0: not a number of releases above 0"),
    ],
)
def test_bad_input_is_told_in_one_line(asked, capsys, arguments, said):
    assert matrix.main(arguments) == 4
    assert said in capsys.readouterr().err
    assert not asked


def test_the_command_names_the_environment_the_record_and_the_draws():
    command = matrix._command("2.4", matrix.Setting("quick", 7, "", options=("-x",)), "a.json")
    assert command[1:6] == ["-m", "tox", "exec", "-q", "-e"]
    assert command[6:] == [
        *("torch2.4", "--", "python", "-m", "pytest", "tests/conformance", "--quiet", "--report=a.json"),
        *("--hypothesis-profile=quick", "--hypothesis-seed=7", "-x"),
    ]


def test_a_day_is_judged_by_the_model_of_the_release_before():
    setting = matrix.Setting("quick", 7, "", days=True)
    models = [matrix._command(minor, setting, "a.json")[-1] for minor in ("2.0", "2.1", "2.15")]
    assert models == ["--model=1.13.1", "--model=2.0.1", "--model=2.14.1"]


def test_days_begin_with_the_second_release(asked):
    assert matrix.main(["--days"]) == 0
    assert asked == dict.fromkeys(RELEASES[1:], 1)
