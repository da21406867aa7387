"""The releases that tox.ini names, those that have a record, and those that the README speaks of are the same."""

import configparser
import json
import re
from pathlib import Path

import pytest
from packaging.version import Version

from tests.tools.catalogue import pages

VERBS = ("compare", "merge", "bisect", "sensitivity")
ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.json"))


def tox(section, option):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    return parser[section][option]


def releases():
    (listed,) = re.findall(r"torch\{([\d.,]+)\}", tox("tox", "env_list"))
    return listed.split(",")


def test_every_listed_release_is_installed_by_its_environment():
    lines = tox("testenv", "deps").splitlines()
    for release in releases():
        assert f"torch{release}: torch=={release}.*" in [line.strip() for line in lines]


def test_every_listed_release_has_a_record_that_holds():
    whole = {}
    for path in RESULTS:
        record = json.loads(path.read_text())
        if record["environment"]["device"] == "cpu" and record["cpu_seconds_in_torch"] > 10:
            version = Version(record["environment"]["torch"])
            whole[f"{version.major}.{version.minor}"] = record
    assert set(whole) == set(releases())
    for record in whole.values():
        assert record["complete"]
        assert set(record["outcomes"]) <= {"passed", "skipped"}
        assert "fails" not in record["statuses"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_was_skipped_counts_nothing(path):
    tests = json.loads(path.read_text())["tests"]
    assert not [id for id, test in tests.items() if test["outcome"] == "skipped" and test.get("statuses")]


def test_the_readme_names_the_oldest_and_the_newest():
    text = (ROOT / "README.md").read_text()
    oldest, *_, newest = releases()
    assert f"1.13 to {newest}" in " ".join(text.split())
    assert f"`torch{oldest}` ... `torch{newest}`" in text


def test_the_workflow_measures_every_release():
    text = (ROOT / ".github" / "workflows" / "measure.yml").read_text()
    listed = re.search(r"release:\n\s+\[(.*)\]", text)[1]
    assert re.findall(r'"([\d.]+)"', listed) == releases()


@pytest.mark.parametrize("name", ["torch-nightly", "torch-installed", "docs", "selftest", "lint", "benchmark", *VERBS])
def test_every_other_environment_is_described(name):
    assert tox(f"testenv:{name}", "description")


def test_a_new_record_is_a_new_column(tmp_path):
    for path in RESULTS:
        (tmp_path / path.name).write_text(path.read_text())
    record = json.loads(RESULTS[-1].read_text())
    record["environment"]["torch"] = "99.0.0+cpu"
    (tmp_path / "99.0.0-cpu.json").write_text(json.dumps(record))
    assert all("99.0" in text for text in pages(tmp_path).values())
