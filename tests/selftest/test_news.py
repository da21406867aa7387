"""The report of what has changed is whole in each format."""

import json
from dataclasses import replace
from math import nan

import pytest

from tests.harness.cases.case import MultiHead
from tests.harness.cases.masks import Mask
from tests.harness.execution.runner import Observation
from tests.harness.explanation.explanation import BACK, BEHAVIOUR, GONE, NARROWER, NEW, WIDER, Changed, Explanation
from tests.harness.judgement import comparison
from tests.harness.judgement.comparison import Mismatch
from tests.harness.judgement.groups import Group, key_of
from tests.harness.judgement.report import failure_of
from tests.harness.judgement.verdict import FAILS, Verdict
from tests.harness.measurement.news import BETTER, FLAKY, UNKNOWN, WORSE, News, news_of, sort_key
from tests.tools import news as tool
from tests.tools.filing import file_news
from tests.tools.news import as_json, as_lines, as_markdown, told_by
from tests.tools.news_page import as_html

CASE = MultiHead(L=2, S=2, attn_mask=Mask(pattern="all"))
ENTRY = "native-layer-float-mask"
TEST = "tests/conformance/test_a.py::test_b"


def group(mismatch=None, **others):
    mismatch = mismatch or Mismatch("output", 0.5, nan, (0, 1, 0), 0.0, 1e-9, of=("output",))
    failure = failure_of(CASE, Observation(served=("explicit",)), Verdict(FAILS, (), (mismatch,)))
    return Group(key_of(failure), (failure,), 7, (TEST,), is_minimal=True, **others)


def changed(kind):
    return Explanation(kind, (Changed(ENTRY, kind),), checked=3)


RAISES = Mismatch("error", None, "RuntimeError: <no> `way`*", kind=comparison.ERROR)
NEWS = (
    News(group(RAISES), Explanation(NEW), "reports/2.15.0/one"),
    News(group(), Explanation(BEHAVIOUR, behaviour="the mask is ignored")),
    News(group(), changed(BACK), "reports/2.15.0/two"),
    News(group(), changed(GONE)),
    News(group(is_flaky=True)),
)


def plain(*news, **others):
    environment = {"torch": "2.15.0+cpu", "device": "cpu", "model": "2.14.1", "profile": "quick"}
    statuses = {"conforms": 1200, "deviates as predicted": 30, "fails": 35}
    its = {"schema": 3, "complete": True, "environment": environment, "statuses": statuses}
    return its | {"groups": [one.as_plain() for one in news]} | others


@pytest.mark.parametrize(
    "news, section",
    [
        *zip(NEWS, (UNKNOWN, UNKNOWN, WORSE, BETTER, FLAKY), strict=True),
        (News(group(), changed(WIDER)), WORSE),
        (News(group(), changed(NARROWER)), BETTER),
        (News(group(is_flaky=True), changed(GONE)), FLAKY),
    ],
)
def test_each_kind_has_its_section_and_comes_back_whole_from_a_record(news, section):
    assert news.section == section
    (read,) = news_of(json.loads(json.dumps(plain(news))))
    assert read == news


def test_the_gravest_come_first():
    shuffled = [NEWS[number] for number in (3, 0, 4, 2, 1)]
    assert sorted(shuffled, key=sort_key) == list(NEWS)


def test_a_documented_error_that_shows_on_other_calls_is_in_the_headline():
    both = Explanation(WIDER, (Changed("flex-gradients", WIDER), Changed(ENTRY, GONE)))
    headline = tool.headline(News(group(), both))
    assert headline.startswith(f"flex-gradients is wider: a documented error; {ENTRY} is gone: ")


def test_of_new_calls_the_cause_of_most_comes_first():
    rare = NEWS[0]
    (common,) = [replace(its, group=replace(its.group, seen=700)) for its in NEWS[1:2]]
    assert sorted((rare, common), key=sort_key) == [common, rare]


RENDERERS = {"text": as_lines, "markdown": as_markdown, "html": as_html, "json": as_json}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_each_format_tells_everything(render):
    text = "\n".join(render(told_by(plain(*NEWS), "r.json")))
    for words in (
        *("2.15.0", "2.14.1", ENTRY, "pytorch/pytorch", "118628", "the mask is ignored", "explicit"),
        *("MultiheadAttention", "7 calls of 1 test", "python -m tests.tools again", "reports/2.15.0/two/issue.md"),
        *(("1200", "30") if render is as_json else ("1,200 calls conform", "30 deviate", "35 calls fail")),
        "python -m tox -e bisect -- reports/2.15.0/one/script.py --good 2.14.1 --bad 2.15.0",
    ):
        assert words in text, words
    for section in (UNKNOWN, WORSE, BETTER, FLAKY):
        assert section in text.lower()


def test_what_is_as_before_is_one_line():
    (title, before) = as_lines(told_by(plain(), "r.json"))
    assert title == "torch 2.15.0 on cpu, judged by the model of 2.14.1: nothing changed."
    assert before.startswith("As before: 1,200 calls conform")


def test_text_of_torch_is_no_markup():
    told = told_by(plain(NEWS[0]), "r.json")
    assert "<no>" not in "\n".join(as_html(told))
    assert "&lt;no&gt; `way`*" in "\n".join(as_html(told))
    assert r"\<no\> \`way\`\*" in "\n".join(as_markdown(told))


def test_the_page_needs_no_other_file_and_holds_scripts_and_issues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (filed,) = file_news([News(group())], plain()["environment"], tmp_path)
    text = "\n".join(as_html(told_by(plain(filed), "r.json")))
    assert "import torch" in text
    assert "## To reproduce" in text
    assert not any(words in text for words in ("<script", "<link", " src="))


def test_changes_are_filed_by_name_except_those_for_the_better(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filed = file_news([*NEWS, NEWS[0]], plain()["environment"], tmp_path / "reports")
    assert [its.folder for its in filed[2:]] == [
        f"reports/2.15.0/{ENTRY}",
        "",
        "reports/2.15.0/MultiheadAttention-output-is-NaN-for-the-fully-masked-query2",
        f"{filed[0].folder}2",
    ]
    assert all((tmp_path / its.folder / "issue.md").exists() for its in filed if its.folder)


@pytest.mark.parametrize(
    "news, code", [((), 0), ((NEWS[3],), 0), (NEWS[2:4], 1), ((NEWS[0],), 1), ((NEWS[4],), 1)], ids=str
)
@pytest.mark.parametrize("name", RENDERERS)
def test_the_command_exits_with_1_if_anything_is_worse(news, code, name, tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps(plain(*news)))
    assert tool.main([str(tmp_path / "r.json"), "--format", name]) == code
    assert "2.15.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, words",
    [
        ("nothing", "not a whole record"),
        ("[]", "not a whole record"),
        (json.dumps(plain() | {"groups": [{"seen": 1}]}), "not a whole record"),
        (json.dumps({name: its for name, its in plain().items() if name != "groups"}), "first failure, or of an older"),
    ],
)
def test_a_record_that_tells_nothing_is_bad_input(text, words, tmp_path, capsys):
    (tmp_path / "r.json").write_text(text)
    assert tool.main([str(tmp_path / "r.json")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_calls_of_groups_that_are_not_kept_are_told():
    told = told_by(plain(NEWS[3], lost=12), "r.json")
    assert told.is_worse
    assert "12 failing calls are of further groups" in told.as_before


def test_without_a_model_the_release_is_the_bad_end():
    environment = {name: its for name, its in plain()["environment"].items() if name != "model"}
    text = "\n".join(as_lines(told_by(plain(replace(NEWS[0])) | {"environment": environment}, "r.json")))
    assert "script.py --bad 2.15.0" in text
    assert "judged by its own model" in text
