"""docs/index.html and the pages beside it in a headless Chromium."""

import os
import re
import shutil
from pathlib import Path

import pytest

api = pytest.importorskip("playwright.sync_api", reason="python -m tox -e page installs it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="python -m tox -e page installs it")

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("index.html", "claims.html", "ask.html", "doctor.html", "specification.html", "upstream.html", "adopters.html")
ADDRESS = (DOCS / "index.html").as_uri()
ENTRY = "native-layer-float-mask"


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser):
    """A function: address, width -> the loaded page. A script error of a page fails the test."""
    opened, errors = [], []

    def load(address=ADDRESS, width=1280, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        opened.append(page)
        return page

    yield load
    for page in opened:
        page.close()
    assert not errors


def shown(page):
    """The ids of the entries that are shown."""
    return page.eval_on_selector_all("article:not([hidden])", "all => all.map(one => one.id)")


def results(page):
    return page.eval_on_selector_all("#results li a", "all => all.map(one => one.getAttribute('href'))")


# ---- search ----------------------------------------------------------------------------------------------------------


def test_the_search_lists_claims_and_entries(show):
    page = show()
    page.keyboard.press("/")
    page.keyboard.type("alibi")
    found = results(page)
    assert "claims.html#alibi-in-eval" in found[:3]
    assert f"#{ENTRY}" in found[:3]
    assert ENTRY in shown(page)
    assert "q=alibi" in page.url
    page.keyboard.press("Escape")
    assert not page.is_visible("#results")
    assert page.input_value("[name=q]") == ""


def test_without_a_result_the_page_says_what_it_covers(show):
    page = show(f"{ADDRESS}?q=xyzzy")
    assert "FlexAttention" in page.inner_text("#results .none")
    assert "xyzzy" in page.inner_text("#results .none")


def test_a_proposed_query_is_searched(show):
    page = show()
    page.click("[data-query='fully masked']")
    assert "#empty-row-nan-explicit" in results(page)[:3]


# ---- filters ---------------------------------------------------------------------------------------------------------


def test_my_torch_shows_the_entries_and_columns_of_these_releases(show):
    page = show()
    page.check("[name=torch][value='2.0']", force=True)
    assert "nested-truncates" in shown(page)
    page.uncheck("[name=torch][value='2.0']", force=True)
    page.check("[name=torch][value='2.14']", force=True)
    page.check("[name=torch][value='2.15']", force=True)
    assert "nested-truncates" not in shown(page)
    heads = page.eval_on_selector_all(
        ".matrix thead th[data-minor]:not([hidden])", "all => all.map(th => th.dataset.minor)"
    )
    assert heads == ["2.14", "2.15"]
    assert page.url.count("torch=") == 2


@pytest.mark.parametrize(
    "name, value, there, away",
    [
        ("modules", "scaled_dot_product_attention", "empty-row-nan-sdpa", "nested-padding-zero"),
        ("training", "train", "empty-row-nan-explicit", "empty-row-nan-native"),
        ("autograd", "grad", "causal-mask-gradient", "empty-row-nan-native"),
        ("masks", "padding", "nested-padding-zero", "flash-float32-mask"),
        ("masks", "bias", ENTRY, "empty-row-nan-native"),
        ("devices", "cuda", "cudnn-bool-mask", "flash-float32-mask"),
        ("kind", "nan", "empty-row-nan-native", ENTRY),
    ],
)
def test_a_filter_keeps_the_entries_that_match(show, name, value, there, away):
    page = show()
    page.select_option(f"[name={name}]", value)
    assert there in shown(page)
    assert away not in shown(page)
    reloaded = show(page.url)
    assert shown(reloaded) == shown(page)


def test_filters_may_leave_nothing_and_can_be_cleared(show):
    page = show(f"{ADDRESS}?kind=warns&autograd=grad&masks=none&torch=1.13")
    assert shown(page) == []
    page.click(".nothing button")
    assert len(shown(page)) > 100


def test_what_works_is_judged_by_the_chosen_releases(show):
    page = show()
    cell = (
        page.locator("details[data-module=MultiheadAttention] tbody tr", has_text="sliding window, bool")
        .locator("td")
        .last
    )
    assert cell.locator(".words").text_content().startswith("not as specified in some releases")
    page.check("[name=torch][value='2.15']", force=True)
    assert cell.locator(".words").text_content() == "as specified"
    assert not cell.locator(".range").first.is_visible()
    page.select_option("[name=modules]", "TransformerEncoder")
    assert not page.is_visible("details[data-module=MultiheadAttention]")
    assert page.is_visible("details[data-module=TransformerEncoder]")


def test_the_decision_box_gives_way_to_results(show):
    page = show()
    assert page.is_visible("#nan")
    page.fill("[name=q]", "nan")
    assert not page.is_visible("#nan")


# ---- links, notes, keyboard ------------------------------------------------------------------------------------------


def test_a_deep_link_wins_over_filters(show):
    page = show(f"{ADDRESS}?kind=nan#{ENTRY}")
    assert page.is_visible(f"#{ENTRY}")
    top = page.eval_on_selector(f"#{ENTRY}", "one => one.getBoundingClientRect().top")
    assert -5 < top < 900


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere_from_a_file(show, name):
    page = show((DOCS / name).as_uri())
    links = page.eval_on_selector_all("a[href]", "all => [...new Set(all.map(one => one.href))]")
    missing = []
    for link in links:
        address, _, anchor = link.partition("#")
        if not address.startswith("file://"):
            continue
        path = Path(re.sub(r"\?.*", "", address.removeprefix("file://")))
        if not path.exists() or (anchor and path.suffix == ".html" and f'id="{anchor}"' not in path.read_text()):
            missing.append(link)
    assert not missing


def test_the_note_of_a_cell_opens_by_click_and_closes_by_escape(show):
    page = show()
    page.eval_on_selector(f"tr[data-for={ENTRY}] td[data-minor='2.4']", "cell => cell.click()")
    assert "2.4 on cpu: present" in page.inner_text("#note")
    page.keyboard.press("Escape")
    assert not page.is_visible("#note")


def test_the_note_of_a_cell_opens_by_touch(show):
    page = show(width=390, has_touch=True, is_mobile=True)
    page.eval_on_selector(f"tr[data-for={ENTRY}]", "row => row.scrollIntoView({block: 'center'})")
    box = page.eval_on_selector(
        f"tr[data-for={ENTRY}] td[data-minor='2.15']",
        "cell => { const box = cell.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2] }",
    )
    page.touchscreen.tap(*box)
    assert "present" in page.inner_text("#note")
    left, right = page.eval_on_selector(
        "#note", "one => [one.getBoundingClientRect().left, one.getBoundingClientRect().right]"
    )
    assert left >= 0
    assert right <= 390


def test_the_note_of_a_cell_opens_by_keyboard(show):
    page = show()
    page.eval_on_selector("#matrix td[tabindex='0']", "cell => cell.focus()")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    focus = page.evaluate("document.activeElement.textContent")
    assert focus == "Read the entry"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('td.cell')")


def test_the_theme_is_kept(show):
    page = show()
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


# ---- screens, print, accessibility -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_does_not_scroll_sideways(show, name, width):
    page = show((DOCS / name).as_uri(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_print_has_no_controls_and_all_details(show):
    page = show()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.is_visible(".filters")
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    assert page.evaluate("getComputedStyle(document.querySelector('.matrix')).overflow") == "visible"


def test_without_javascript_the_page_can_be_read(browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(ADDRESS)
    assert page.is_visible(f"#{ENTRY}")
    assert not page.is_visible(".filters")
    context.close()


def _violations(page):
    found = axe.Axe().run(page).response["violations"]
    return {one["id"]: [node["html"][:120] for node in one["nodes"][:3]] for one in found}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(show, name, scheme):
    assert _violations(show((DOCS / name).as_uri(), color_scheme=scheme)) == {}


def test_axe_finds_no_violation_in_a_search(show):
    assert _violations(show(f"{ADDRESS}?q=nan&torch=2.15")) == {}
