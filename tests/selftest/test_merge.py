"""Records of shards or seeds are merged: numbers are added, and nothing is counted twice."""

import json
from pathlib import Path

import pytest

from tests.harness.command_line import BadInput
from tests.harness.measurement.news import news_of
from tests.selftest.test_news import NEWS
from tests.tools import compare, merge
from tests.tools.records import as_record

RECORD = Path(__file__).parents[2] / "docs" / "results" / "2.13.0-cpu.json"


def plain(seed="1"):
    made = json.loads(RECORD.read_text())
    made["environment"]["seed"] = seed
    return made


def with_tests(record, keep):
    """The record of a shard: the record with the tests whose number satisfies keep(number)."""
    record["tests"] = {id: test for i, (id, test) in enumerate(record["tests"].items()) if keep(i)}
    return record


def test_seeds_add_up():
    one, two = plain("1"), plain("2")
    made = merge.merged([one, two])
    assert made["environment"]["seed"] == "1, 2"
    assert made["cpu_seconds"] == pytest.approx(2 * one["cpu_seconds"], abs=0.1)
    assert made["statuses"] == {name: 2 * number for name, number in one["statuses"].items()}
    assert made["ratios"] == one["ratios"]
    for id, test in one["tests"].items():
        assert made["tests"][id].get("statuses", {}) == {
            n: 2 * number for n, number in test.get("statuses", {}).items()
        }
    for id, entry in one["ledger"].items():
        assert made["ledger"][id]["cases"] == 2 * entry["cases"]
        assert made["ledger"][id]["status"] == entry["status"]
    assert compare.changes(as_record(one, "one"), as_record(made, "made")) == ()


def test_shards_are_put_together():
    shards = [with_tests(plain(), lambda i, rest=rest: i % 2 == rest) for rest in (0, 1)]
    for i, shard in enumerate(shards):
        shard["part"] = [f"--shard {i + 1}/2"]
    made = merge.merged(shards)
    assert set(made["tests"]) == set(plain()["tests"])
    assert "part" not in made


@pytest.mark.parametrize(
    "parts, part",
    [
        ([["-k x", "--shard 1/2"], ["-k x", "--shard 2/2"]], ["-k x"]),
        ([["--shard 1/3"], ["--shard 2/3"]], ["--shard 1/3", "--shard 2/3"]),
        ([["--shard 1/2"], ["-k x", "--shard 2/2"]], ["--shard 1/2", "-k x", "--shard 2/2"]),
        ([["-k x"], ["-k y"]], ["-k x", "-k y"]),
        ([["-k x"], []], None),
    ],
    ids=str,
)
def test_what_is_merged_is_a_part_unless_it_has_all(parts, part):
    records = [plain(str(i)) | {"part": its} for i, its in enumerate(parts)]
    assert merge.merged(records).get("part") == part


def test_the_same_record_twice_counts_once():
    assert merge.merged([plain(), plain()])["statuses"] == plain()["statuses"]


def test_one_seed_twice_is_refused():
    other = plain()
    other["seconds"] += 1
    with pytest.raises(BadInput, match="ran twice with seed 1"):
        merge.merged([plain(), other])


@pytest.mark.parametrize("name", ["torch", "device", "ledger"])
def test_different_runs_are_refused(name):
    other = plain("2")
    other["environment"][name] = "another"
    with pytest.raises(BadInput, match=f"{name} is"):
        merge.merged([plain(), other])


def test_the_worst_outcome_counts():
    one, two = plain("1"), plain("2")
    id = next(iter(one["tests"]))
    failed = {"outcome": "failed", "message": "wrong", "failures": [{"title": "wrong", "setting": {"device": "cpu"}}]}
    two["tests"][id] |= failed
    made = merge.merged([one, two])
    assert {name: made["tests"][id][name] for name in failed} == failed
    assert made["outcomes"]["failed"] == 1


def test_an_entry_that_one_run_has_seen_is_present():
    one, two = plain("1"), plain("2")
    id = next(id for id, entry in one["ledger"].items() if entry["status"] == "present")
    two["ledger"][id] |= {"status": "not exercised", "cases": 0, "modules": {}}
    assert merge.merged([two, one])["ledger"][id]["status"] == "present"


def test_a_shard_need_not_have_asked_for_every_entry():
    whole, shard = plain(), plain("2")
    id = min(whole["ledger"])
    del shard["ledger"][id]
    for records in ([whole, shard], [shard, whole]):
        assert merge.merged(records)["ledger"][id] == whole["ledger"][id]


def test_the_command(tmp_path, capsys):
    paths = [tmp_path / f"{seed}.json" for seed in "12"]
    for path in paths:
        path.write_text(json.dumps(plain(path.stem)))
    out = tmp_path / "out.json"
    assert merge.main([str(out), *map(str, paths)]) == 0
    assert "2 records" in capsys.readouterr().out
    assert as_record(json.loads(out.read_text()), out).seed == "1, 2"
    assert merge.main([str(out), str(tmp_path / "none.json")]) == 4
    paths[1].write_text("{")
    assert merge.main([str(out), *map(str, paths)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_what_was_left_out_adds_up_and_old_records_left_out_nothing():
    one, two = plain("1"), plain("2")
    one |= {"compared": {"elements": 5}, "left_out": {"raised": {"results": 1}}}
    two |= {"compared": {"elements": 7, "gradients": 1}, "left_out": {"raised": {"results": 2}}}
    made = merge.merged([one, two])
    assert made["compared"] == {"elements": 12, "gradients": 1}
    assert made["left_out"] == {"raised": {"results": 3}}
    old = {name: value for name, value in plain("3").items() if name not in ("compared", "left_out")}
    assert merge.merged([one, old])["compared"] == {"elements": 5}


def test_calls_by_clause_add_up():
    one, two, old = plain("1"), plain("2"), plain("3")
    id = next(iter(one["tests"]))
    for record in (one, two):
        record["clauses"] = {"4": {"calls": 3, "conforms": 3}}
        record["tests"][id]["clauses"] = {"4": 3}
    old.pop("clauses", None)
    old["tests"][id]["clauses"] = [3]  # as older records have it: the numbers of a mark
    made = merge.merged([one, two, old])
    assert made["clauses"] == {"4": {"calls": 6, "conforms": 6}}
    assert made["tests"][id]["clauses"] == {"4": 6}


def test_each_change_of_several_runs_is_told_once():
    one, two = plain("1"), plain("2")
    one["groups"] = [news.as_plain() for news in NEWS]
    two["groups"] = [news.as_plain() for news in NEWS[1:4]]
    told = news_of(merge.merged([one, two]))
    assert [its.section for its in told] == [its.section for its in NEWS]
    assert [its.group.seen for its in told] == [14, 7, 14, 14, 7]  # the second of two new ones was seen more often
    assert merge.merged([plain("1"), plain("2")])["groups"] == []
    old = [{name: value for name, value in plain(seed).items() if name != "groups"} for seed in "12"]
    assert "groups" not in merge.merged(old)
