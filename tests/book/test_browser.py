"""The pages as a reader meets them, in a real browser."""

from __future__ import annotations

import json

import pytest
from conftest import NO_AXE

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}
SERIOUS = {"serious", "critical"}


# How far the page, or anything of the article outside a box that scrolls, passes the right edge.
BOXES = ".scroll, pre, .cell_output, .front-figure, .dx-panel, .math-block, .headerlink"
OVERFLOW = f"""Math.max(
  document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll("article *")]
    .filter(e => !e.closest("{BOXES}, .pst-scrollable-table-container"))
    .map(e => Math.floor(e.getBoundingClientRect().right - innerWidth - 1)))"""


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=DESK)
    yield context.new_page()
    context.close()


AXE_OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}
CONTRAST = {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}
# Long pages are made of the same few elements; the colours of some speak for the others.
LONG, COLOURS = ("/chapters/", "api", "genindex", "glossary"), ("/05_", "/17_")
# Colours alone depend on the scheme; these pages show every kind of box, table and picture.
DARK = ("/index", "datasets", "/05_")
# Rows of a table and words of code are made alike: the first eight of a kind speak for thousands.
SHORTEN = """
document.querySelectorAll('tbody tr:nth-child(n+9)').forEach(row => row.remove());
const seen = {};
document.querySelectorAll('pre span').forEach(word => {
  seen[word.className] = (seen[word.className] || 0) + 1;
  if (seen[word.className] > 8) word.replaceWith(...word.childNodes);
})"""


def _violations(page, options: dict) -> list[str]:
    found = page.evaluate(f"axe.run(document, {json.dumps(options)})")["violations"]
    return [
        f"{item['id']}: {node['html'][:140]} in {node['target']}"
        for item in found
        if item["impact"] in SERIOUS
        for node in item["nodes"][:3]
    ]


def _serious(page, axe: str, where: str) -> list[str]:
    """What axe finds on an open page, in light colours, and of some pages in dark ones."""
    page.evaluate(SHORTEN)
    page.evaluate(axe)
    colours = not any(part in where for part in LONG) or any(part in where for part in COLOURS)
    found = _violations(page, AXE_OPTIONS | {"rules": {"color-contrast": {"enabled": colours}}})
    if any(part in where for part in DARK):
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("document.documentElement.dataset.theme == 'dark'")
        found += _violations(page, CONTRAST)
        page.emulate_media(color_scheme="light")
    return found


# In parts, so that no core waits for the other; each page is opened once.
@pytest.mark.parametrize("part", range(6))
def test_pages_load_cleanly_fit_a_phone_and_are_accessible(
    browser, address: str, pages: list[str], axe_source: str | None, part: int
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: message.type == "error" and heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "response",
        lambda response: (
            response.status >= 400 and heard.append(f"{response.url} answers {response.status}")
        ),
    )
    page.on(
        "request",
        lambda request: (
            request.url.startswith("http")
            and not request.url.startswith(address)
            and heard.append(f"asks {request.url}")
        ),
    )
    problems: list[str] = []
    for where in pages[part::6]:
        heard.clear()  # axe itself asks for styles, some where they are not
        page.set_viewport_size(PHONE)
        page.goto(f"{address}/{where}")
        wide = page.evaluate(OVERFLOW)
        found = [*heard, *([f"{wide} px too wide"] if wide > 0 else [])]
        if axe_source:
            page.set_viewport_size(DESK)
            found += _serious(page, axe_source, where)
        problems += [f"{where}: {text}" for text in found]
    context.close()
    assert not problems, "\n".join(problems)
    if not axe_source:
        pytest.skip(NO_AXE)


@pytest.mark.parametrize("term", ["projection", "pseudotime", "ortholog"])
def test_search_finds(page, address: str, term: str) -> None:
    page.goto(f"{address}/search.html?q={term}")
    page.wait_for_selector("#search-results .search li a", timeout=20_000)
    assert page.locator("#search-results .search li a").count() > 1


def test_dropdowns_open(page, address: str, pages: list[str]) -> None:
    chapter = next(name for name in pages if "/chapters/05" in name)
    page.goto(f"{address}/{chapter}")
    rerun = page.locator("details.sd-dropdown").first
    command = rerun.locator("pre").first
    assert not command.is_visible()
    rerun.locator("summary").click()
    assert command.is_visible()
    solution = page.locator("div.solution.dropdown").first
    body = solution.locator(":scope > *:not(.admonition-title)").first
    assert not body.is_visible()
    solution.locator(".toggle-button, .admonition-title").first.click()
    body.wait_for(state="visible", timeout=5_000)


def test_dark_mode_switches(page, address: str) -> None:
    page.goto(f"{address}/book/index.html")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    themes = set()
    for _ in range(3):
        page.locator("button.theme-switch-button").first.click()
        themes.add(page.evaluate("document.documentElement.dataset.theme"))
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert themes == {"light", "dark"}


def test_keyboard_reaches_the_controls(page, address: str, pages: list[str]) -> None:
    chapter = next(name for name in pages if "/chapters/05" in name)
    page.goto(f"{address}/{chapter}")
    wanted = {"search", "theme-switch", "SUMMARY", "04_linear_pipeline", "dropdown-toggle"}
    for _ in range(160):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "(e => e.className + ' ' + e.tagName + ' ' + (e.getAttribute('href') || ''))"
            "(document.activeElement)"
        )
        wanted -= {control for control in wanted if control in focused}
        if not wanted:
            break
    assert not wanted


def test_opened_by_keyboard(page, address: str, pages: list[str]) -> None:
    chapter = next(name for name in pages if "/chapters/05" in name)
    page.goto(f"{address}/{chapter}")
    summary = page.locator("details.sd-dropdown summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.sd-dropdown").first.get_attribute("open") is not None


def test_text_and_maths_need_no_script(browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/book/methods.html")
    box = page.locator("math").first.bounding_box()
    assert box and box["width"] > 5
    assert page.locator("article h1").is_visible()
    shade = page.evaluate("getComputedStyle(document.querySelector('article p a')).color")
    assert shade != "rgb(0, 0, 0)"
    context.close()


def test_scoreboard_is_whole_without_script(browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=DESK)
    page = context.new_page()
    page.goto(f"{address}/book/chapters/16_scoreboard.html")
    assert page.locator(".scoreboard tbody tr").count() > 100
    assert not page.locator(".scoreboard .filters").is_visible()
    context.close()


def test_scoreboard_sorts_and_filters(page, address: str) -> None:
    page.goto(f"{address}/book/chapters/16_scoreboard.html")
    rows = page.locator(".scoreboard tbody tr:visible")
    before = rows.count()
    page.locator(".scoreboard .filters input").fill("published")
    assert 0 < rows.count() < before
    head = page.locator(".scoreboard th", has_text="value").first
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"


def test_depth_explorer_works_without_script(browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=DESK)
    page = context.new_page()
    page.goto(f"{address}/book/corrections.html")
    first, second = (page.locator(".dx-panel").nth(k) for k in (0, 1))
    assert first.is_visible() and not second.is_visible()
    page.locator(".dx-choices label").nth(1).click()
    assert second.is_visible() and not first.is_visible()
    context.close()
