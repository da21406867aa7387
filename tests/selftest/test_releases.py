"""Every list of releases agrees with tests/harness/releases.py, and each release has a record."""

import configparser
import json
import re
from pathlib import Path

import pytest
from packaging.version import Version

from tests.harness.releases import NEWEST, OLDEST, RELEASES, is_modelled

VERBS = ("compare", "merge", "bisect", "sensitivity")
ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.json"))


def tox(section, option):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    return parser[section][option]


def text_of(*path):
    return ROOT.joinpath(*path).read_text()


def test_the_list_is_in_order():
    assert sorted(RELEASES, key=Version) == list(RELEASES)


def test_tox_lists_every_release_and_no_other():
    (listed,) = re.findall(r"torch\{([\d.,]+)\}", tox("tox", "env_list"))
    assert listed.split(",") == list(RELEASES)


def test_every_release_is_installed_by_its_environment():
    assert re.findall(r"^torch([\d.]+): torch==\1\.\*$", tox("testenv", "deps"), re.MULTILINE) == list(RELEASES)


@pytest.mark.parametrize("name", ["selftest", "benchmark"])
def test_the_suite_itself_is_tested_on_the_newest(name):
    assert f"torch=={NEWEST}.*" in tox(f"testenv:{name}", "deps").splitlines()


def test_the_ci_measures_the_oldest_and_the_newest():
    assert re.findall(r"tox -e torch([\d.]+) ", text_of(".ci", "run")) == [OLDEST, NEWEST]


def test_the_workflow_for_other_repositories_shows_the_newest():
    assert f"pip install torch=={NEWEST}.0 " in text_of(".github", "workflows", "backend.yml")


@pytest.mark.parametrize("version, is_known", [("2.4", True), ("2.4.1+cpu", True), ("2.99", False), ("1.12.1", False)])
def test_a_patch_release_of_a_modelled_one_is_modelled(version, is_known):
    assert is_modelled(Version(version)) == is_known


def test_every_listed_release_has_a_record_that_holds():
    whole = {}
    for path in RESULTS:
        record = json.loads(path.read_text())
        if record["environment"]["device"] == "cpu" and record["cpu_seconds_in_torch"] > 10:
            version = Version(record["environment"]["torch"])
            whole[f"{version.major}.{version.minor}"] = record
    assert set(whole) == set(RELEASES), "docs/results: not one whole record for each release in releases.py"
    for record in whole.values():
        assert record["complete"]
        assert set(record["outcomes"]) <= {"passed", "skipped"}
        assert "fails" not in record["statuses"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_was_skipped_counts_nothing(path):
    tests = json.loads(path.read_text())["tests"]
    assert not [id for id, test in tests.items() if test["outcome"] == "skipped" and test.get("statuses")]


def test_the_readme_names_the_oldest_and_the_newest():
    text = " ".join(text_of("README.md").split())
    assert set(re.findall(rf"\b{OLDEST} to ([\d.]+\d)", text)) == {NEWEST}, "README.md: another newest release"
    assert f"`torch{OLDEST}` ... `torch{NEWEST}`" in text
    assert f"Some deviations of {NEWEST}:" in text, "README.md: the table of deviations names another release"
    assert f"python -m tox -e torch{NEWEST} ``` This installs torch {NEWEST} " in text
    assert f"`reports/{NEWEST}.0-cpu.json`" in text


def test_contributing_adds_a_release_that_is_new():
    text = text_of("CONTRIBUTING.md").partition("## Add a release")[2].partition("\n## ")[0]
    added = {Version(number) for number in re.findall(r"torch([\d.]+\d)", text)}
    assert len(added) == 1
    assert min(added) > Version(NEWEST), "CONTRIBUTING.md: 'Add a release' adds one that is there: take the next number"


def test_the_workflow_measures_every_release():
    listed = re.search(r"release:\n\s+\[(.*)\]", text_of(".github", "workflows", "measure.yml"))[1]
    assert re.findall(r'"([\d.]+)"', listed) == list(RELEASES), ".github/workflows/measure.yml: other releases"


@pytest.mark.parametrize("name", ["torch-nightly", "torch-installed", "docs", "selftest", "lint", "benchmark", *VERBS])
def test_every_other_environment_is_described(name):
    assert tox(f"testenv:{name}", "description")


def test_a_new_record_is_a_new_column(tmp_path):
    pytest.importorskip("jinja2", reason="the pages are written with a torch that brings it")
    from tests.tools.catalogue import DATA, HTML, MARKDOWN, pages

    for path in RESULTS:
        (tmp_path / path.name).write_text(path.read_text())
    record = json.loads(RESULTS[-1].read_text())
    record["environment"]["torch"] = "99.0.0+cpu"
    (tmp_path / "99.0.0-cpu.json").write_text(json.dumps(record))
    written = pages(tmp_path)
    assert all("99.0" in written[name] for name in (MARKDOWN, HTML, DATA))
