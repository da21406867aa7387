"""The totals of a soak's log are right, and the page lists its failures."""

import re

from tests.tools import soak

RECORD = {
    "environment": {"seed": "7", "profile": "default"},
    "statuses": {"conforms": 10, "deviates as predicted": 5, "fails": 2},
    "tests": {"a.py::one": {"outcome": "failed"}, "a.py::two": {"outcome": "passed"}},
    "margins": {"MultiheadAttention float64 plain 1e-02": 3, "MultiheadAttention float64 fails 1e+09": 1},
}


def test_a_log_is_read_as_it_was_written(tmp_path):
    log = soak.read_log(tmp_path / "none.json")
    for _ in range(2):
        soak.add(log, RECORD)
    soak.write_log(tmp_path / "log.json", log)
    read = soak.read_log(tmp_path / "log.json")
    assert read == log
    assert [run["calls"] for run in read["runs"]] == [17, 17]
    assert read["runs"][0]["failed"] == ["a.py::one"]
    assert read["margins"]["MultiheadAttention float64 plain 1e-02"] == 6


def test_the_page_tells_what_failed():
    log = {"runs": [], "margins": {}}
    soak.add(log, RECORD)
    page = soak.page({"2.15.0-cpu": log})
    assert "| 2.15.0-cpu | 1 | default | 17 | 2 | one |" in page
    assert "plain: ≤ 0.01" in page


def test_measurements_has_the_numbers_of_the_page():
    page, measurements = (
        " ".join(path.read_text().split()) for path in (soak.PAGE, soak.ROOT / "docs" / "measurements.md")
    )
    (counted,) = re.findall(r"Of ([\d,]+) comparisons ([\d,]+) needed the full bound", page)
    assert re.findall(
        r"Of ([\d,]+) comparisons in repeated runs of all releases all but ([\d,]+) keep", measurements
    ) == [counted]
    runs = sum(int(number) for number in re.findall(r"\| [\d.]+-cpu \| (\d+) \|", page))
    assert re.findall(r"All (\d+) runs are in the \[log\]", measurements) == [str(runs)]


def test_the_page_in_the_docs_is_fresh():
    assert soak.write_page(check=True) == 0
