"""The catalogue of edge cases is up to date, complete and self-contained, and agrees with the records."""

import json
import re
from html.parser import HTMLParser

import pytest
from packaging.version import Version

from tests.harness.deviations import ledger
from tests.harness.deviations.call import Call
from tests.harness.execution.release import Release
from tests.harness.ledgers import ENTRIES
from tests.harness.measurement.session import NOT_APPLICABLE, PRESENT
from tests.harness.wrong_masks import ledger as wrong_masks_ledger
from tests.harness.wrong_masks.table import CALLS
from tests.tools import runs, ways
from tests.tools.catalogue import HTML, MARKDOWN, ROOT, main
from tests.tools.code_in_text import as_html, as_markdown, split_code
from tests.tools.kinds import KINDS, kind_of
from tests.tools.ranges import in_words
from tests.tools.records import as_record

DOCS = ROOT / "docs"
UNASKED = "native-layer-float-mask"  # an entry whose range includes 2.14


def test_both_pages_are_fresh(capsys):
    """If this fails, run python -m tests.tools catalogue."""
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_an_entry_is_present_if_calls_show_it_though_its_pinned_case_is_refused():
    plain = json.loads((ROOT / "docs" / "results" / "2.15.0-cpu.json").read_text())
    finding = plain["ledger"]["empty-row-nan-explicit"]
    finding["status"] = NOT_APPLICABLE
    assert finding["cases"]
    assert as_record(plain, "it").state("empty-row-nan-explicit") == PRESENT
    finding["cases"] = 0
    assert as_record(plain, "it").state("empty-row-nan-explicit") == NOT_APPLICABLE


# ---- releases in words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "states, words",
    [
        ("1.13.1+ 2.0.1+ 2.1.2+", "1.13 to 2.1"),
        ("2.0.1- 2.1.0+ 2.1.2+ 2.2.2+ 2.3.1+ 2.4.1+ 2.5.0-", "2.1.0 to 2.4.1; gone in 2.5.0"),
        ("2.0.1+ 2.1.2-", "2.0; gone in 2.1"),
        ("2.1.0+ 2.1.2- 2.2.2-", "2.1.0; gone in 2.1.2"),
        ("2.0.1- 2.1.0+ 2.1.1+ 2.1.2-", "2.1.0 to 2.1.1; gone in 2.1.2"),
        ("2.1.0- 2.1.1+ 2.1.2+ 2.2.2+", "2.1.1 to 2.2"),
        ("1.13.1/ 2.0.1+ 2.1.2+", "2.0 to 2.1"),
        ("2.1.2- 2.2.0+ 2.2.2+ 2.3.1-", "2.2; gone in 2.3"),
        ("2.0.1+ 2.1.2- 2.2.2+ 2.3.1+ 2.4.1-", "2.0 and 2.2 to 2.3.1; gone in 2.4"),
        ("1.13.1+ 2.0.0-", "1.13; gone in 2.0.0"),
        ("2.4.1+ 2.13.0-", "2.4; gone by 2.13.0"),
        ("2.3.1+ 2.4.1! 2.5.1-", "2.3; neither this nor right in 2.4.1"),
        ("2.0.1- 2.1.2-", "in none of 2.0 to 2.1"),
        ("2.11.0+", "2.11"),
        ("", "not measured"),
    ],
)
def test_releases_in_words(states, words):
    names = {"+": "present", "-": "absent", "/": "not applicable", "!": "changed"}
    assert in_words([(Version(state[:-1]), names[state[-1]]) for state in states.split()]) == words


def test_what_reads_like_python_is_code():
    text = (
        "call f.g(x, h(y)) with is_causal=True, i.e. `True`, (N * num_heads, L, L), or not (a, for example, b) in 2.1."
    )
    code = [part for is_code, part in split_code(text) if is_code]
    assert code == ["f.g(x, h(y))", "is_causal=True", "True", "(N * num_heads, L, L)"]
    assert "".join(part for _, part in split_code(text)) == text.replace("`", "")


def test_underscores_and_code_survive_in_a_title():
    text = "key_padding_mask of <2 * N> rows: `mask[i] | 1` and is_causal=True"
    assert as_markdown(text) == r"`key_padding_mask` of \<2 \* N> rows: `mask[i] | 1` and `is_causal=True`"
    assert as_html(text).count("<code>") == 3
    assert "of &lt;2 * N&gt; rows" in as_html(text)


# ---- made-up records -----------------------------------------------------------------------------------------------


def _record(version, device="cpu", statuses=None):
    """A record in which the entries named in `statuses` have these statuses, and all others are present."""
    finding = {"expected": True, "paths": ["sdpa_flash"], "cases": 3, "modules": {"MultiheadAttention": 3}}
    modules = {entry.id: _modules(entry) for entry in ENTRIES}
    return {
        "schema": 2,
        "complete": True,
        "seconds": 61.4,
        "cpu_seconds": 110.0,
        "cpu_seconds_in_torch": 55.0,
        "environment": {
            "torch": f"{version}+cpu",
            "device": device,
            "profile": "quick",
            "seed": "17",
            "cpu": "AVX2",
        },
        "statuses": {"conforms": 900, "deviates as predicted": 100},
        "tests": {
            "tests/conformance/test_transformer.py::test": {"outcome": "passed"},
            "tests/conformance/test_modes.py::test_is_as_specified[vmap]": {
                "outcome": "passed",
                "statuses": {"conforms": 3, "deviates as predicted": 1},
            },
            "tests/conformance/test_modes.py::test_every_kind_of_mask_on_every_path[vmap_of_masks-sdpa]": {
                "outcome": "passed",
                "statuses": {"deviates as predicted": 4},
            },
        },
        "ledger": {
            entry.id: finding
            | {"status": (statuses or {}).get(entry.id, "present"), "modules": modules[entry.id]}
            | ({"cases": 0} if (statuses or {}).get(entry.id) == NOT_APPLICABLE else {})
            for entry in ENTRIES
        },
    }


def _modules(entry):
    return {call.module: 3 for call in CALLS} if entry in wrong_masks_ledger.ENTRIES else {"Transformer": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{file name: text} of both pages."""
    folder = tmp_path_factory.mktemp("catalogue")
    first, second = ledger.ENTRIES[:2]
    of_the_ledger_alone = {"tests": {"tests/conformance/test_ledger.py::test": {"outcome": "passed"}}}
    records = {
        "2.14.0-cpu": _record("2.14.0", statuses=dict.fromkeys([second.id, UNASKED], "not applicable"))
        | of_the_ledger_alone,
        "2.15.0-cpu": _record("2.15.0", statuses={first.id: "absent"}),
        "2.15.1-cpu": _record("2.15.1", statuses={second.id: "not exercised"}),
        "2.15.0-cuda": _record("2.15.0", "cuda:0", {first.id: "changed"}),
    }
    (folder / "records").mkdir()
    for name, record in records.items():
        (folder / "records" / f"{name}.json").write_text(json.dumps(record))
    options = ["--records", str(folder / "records"), "--output", str(folder)]
    assert main([*options, "--check"]) == 1
    assert main(options) == main([*options, "--check"]) == 0
    return {name: (folder / name).read_text() for name in (MARKDOWN, HTML)}


@pytest.mark.parametrize("name", [MARKDOWN, HTML])
def test_every_entry_has_its_section(made, name):
    for entry in ENTRIES:
        assert made[name].count(f'id="{entry.id}"') == 1
        assert f'href="#{entry.id}"' in made[name] or f"](#{entry.id})" in made[name]


def test_the_matrix_shows_what_the_records_say(made):
    first, second, third = (entry.id for entry in ledger.ENTRIES[:3])
    rows = dict(re.findall(r"^\| \[`([\w-]+)`\].*?\) \| (.*) \|$", made[MARKDOWN], re.MULTILINE))
    assert "| edge case | 2.14 | 2.15 | 2.15 on cuda |" in made[MARKDOWN]
    assert rows[first] == "● | ◐ | ◆"
    assert rows[second] == "– | ● | ●"
    assert rows[UNASKED] == " | ● | ●"  # 2.14 is affected: the run could not make the call
    assert rows[third] == "● | ● | ●"
    assert "present in 2.15.1, absent in 2.15.0" in made[HTML] or "absent in 2.15.0, present in 2.15.1" in made[HTML]


@pytest.mark.parametrize("name", [MARKDOWN, HTML])
def test_a_section_says_what_is_expected_and_how_often_it_was_not(made, name):
    assert "3 of the 1,000 calls of the run with 2.15.1 on cpu" in made[name]
    assert "is an error whose message names it" in made[name]
    assert "not found upstream" in made[name]


def test_the_runs_are_those_of_the_whole_suite(made):
    measured = ["1,000", "900", "100", "0", "61", "50%", "quick", "17", "AVX2"]
    rows = [[release, *measured] for release in ("2.15.0", "2.15.1", "2.15.0 on cuda")]
    markdown = made[MARKDOWN].split(f"\n## {runs.TITLE}\n")[1]
    assert "`python -m tox -e torch2.15`" in markdown
    head, _, *lines = re.findall(r"^\| (.*) \|$", markdown, re.MULTILINE)
    assert head.split(" | ") == list(runs.HEADS)
    assert [line.split(" | ") for line in lines] == rows
    section = re.search(r'<section class="runs" aria-labelledby="runs".*?</section>', made[HTML], re.DOTALL)[0]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", section)
    assert cells == [*runs.HEADS, *(cell for row in rows for cell in row)]


def test_the_ways_have_the_share_that_deviates(made):
    markdown = made[MARKDOWN].split(f"\n## {ways.TITLE}\n")[1].split("\n## ")[0]
    head, _, *lines = [line.split(" | ") for line in re.findall(r"^\| (.*) \|$", markdown, re.MULTILINE)]
    (line,) = lines
    assert line[0] == "`vmap`"
    assert line[head.index("2.15")] == "62%"  # 5 of 8, with the variant vmap_of_masks
    section = re.search(r'<section class="runs" aria-labelledby="ways".*?</section>', made[HTML], re.DOTALL)[0]
    assert re.findall(r"<td>(.*?)</td>", section) == line[1:]


# The kernel that serves the pinned case of a CUDA deviation, if it is not the efficient kernel.
SERVED = {entry.id: "sdpa_cudnn" for entry in ledger.ENTRIES if entry.id.startswith("cudnn")}
SERVED |= {"fused-scale-not-positive": "sdpa_flash"}


@pytest.mark.parametrize("entry", ledger.ENTRIES, ids=lambda entry: entry.id)
def test_a_group_is_what_a_user_sees(entry):
    """The pinned case decides the group; the text of the entry must not contradict it."""
    versions = [Version("1.13"), *(Version(f"2.{minor}") for minor in range(16))]
    releases = (Release(version, entry.devices[0]) for version in versions)
    release = next(release for release in releases if entry.concerns(release))
    served = SERVED.get(entry.id, "sdpa_flash" if release.device_type == "cpu" else "sdpa_efficient")
    group = kind_of(entry, Call(entry.pinned, release, (served,)))
    assert group in {kind.key for kind in KINDS}
    assert (group == "warns") == ("Warning" in entry.instead)
    assert group != "gradient" or "gradient" in entry.title.lower()


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, reason",
    [
        (json.dumps(_record("2.15.0"))[:-99], "not a whole record"),
        ("[]", "not a record: it has no field 'schema'"),
        ("", "not a whole record"),
        (json.dumps({"schema": 2, "complete": True}), "not a whole record"),
        (json.dumps(_record("2.15.0") | {"ledger": {"id": {"status": "present"}}}), "not a whole record"),
        (json.dumps(_record("2.15.0") | {"seconds": None}), "not a whole record"),
        (json.dumps(_record("2.15.0") | {"complete": False}), "interrupted"),
        (json.dumps(_record("2.15.0") | {"schema": 1}), "schema 1"),
    ],
)
def test_a_torn_record_is_bad_input(tmp_path, capsys, text, reason):
    (tmp_path / "2.15.0-cpu.json").write_text(text)
    _refuses(tmp_path, capsys, reason)


def test_a_folder_must_hold_a_record_for_each_release_and_no_two(tmp_path, capsys):
    _refuses(tmp_path / "missing", capsys, "no such folder")
    _refuses(tmp_path, capsys, "holds no record")
    for device in ("cuda:0", "cuda:1"):
        (tmp_path / f"{device}.json").write_text(json.dumps(_record("2.15.0", device)))
    _refuses(tmp_path, capsys, "two records of 2.15.0 on cuda")


def _refuses(folder, capsys, reason):
    assert main(["--records", str(folder), "--output", str(folder)]) == 4
    message = capsys.readouterr().err
    assert reason in message
    assert message.count("\n") == 1
    assert not (folder / HTML).exists()


# ---- the page is self-contained ------------------------------------------------------------------------------------

_VOID = {"meta", "link", "input", "br", "wbr"}


class _Page(HTMLParser):
    """Collects ids, links and loaded addresses of the page, and elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.open, self.torn = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in _VOID:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        self.loaded += [attributes[name] for name in ("src", "srcset", "data", "action") if name in attributes]
        self.loaded += [attributes["href"]] if tag == "link" else []

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.torn.append((tag, self.getpos()))


@pytest.fixture(scope="module", params=["made", "committed"])
def page(request, made):
    return made[HTML] if request.param == "made" else (DOCS / HTML).read_text()


def test_the_page_is_whole(page):
    parsed = _Page(page)
    assert not parsed.torn
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))


def test_links_within_the_project_resolve(page):
    parsed = _Page(page)
    inside = [link for link in parsed.links if not re.match(r"https://github\.com/[\w-]+/[\w-]+/issues/\d+", link)]
    assert not [link for link in inside if link.startswith("#") and link[1:] not in parsed.ids]
    others = [link.partition("#")[::2] for link in inside if not link.startswith("#")]
    assert not [path for path, _ in others if not (DOCS / path).exists()]
    texts = {path: (DOCS / path).read_text() for path, anchor in others if anchor}
    assert not [(path, anchor) for path, anchor in others if anchor and f'id="{anchor}"' not in texts[path]]


def test_the_page_loads_nothing(page):
    assert all(address.startswith("data:") for address in _Page(page).loaded)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", page)


def test_links_of_the_markdown_resolve(made):
    # Code is removed, because x[i](y) looks like a link.
    text = re.sub(r"^ *```.*?^ *```", "", made[MARKDOWN], flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 100
    assert not [link for link in links if not link.startswith("https://") and not (DOCS / link).exists()]
