"""The report of `sclin judge` as a reader meets it, in a real browser."""

from __future__ import annotations

import json

import pytest
from judged import bare, good, hard, render

WIDE = """Math.max(
  document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".box, .hidden"))
    .map(e => Math.floor(e.getBoundingClientRect().right - innerWidth - 1)))"""


@pytest.fixture
def opened(browser, tmp_path):
    """Open a report; what the page complains of or asks for is collected in ``problems``."""
    contexts = []

    def open_(judged, **options):
        path = tmp_path / "report.html"
        path.write_text(render(judged), encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.problems.append(request.url))
        page.goto(path.as_uri())
        page.problems = [text for text in page.problems if text != path.as_uri()]
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("judged", [good(), hard(), bare()], ids=["good", "hard", "bare"])
def test_it_asks_for_nothing_and_fits_a_phone(opened, judged):
    page = opened(judged, viewport={"width": 390, "height": 844})
    assert [text for text in page.problems if not text.startswith("data:")] == []
    assert page.evaluate(WIDE) <= 0
    lost = "[...document.querySelectorAll('.box')].filter(e => e.tabIndex < 0 || !e.ariaLabel)"
    assert page.evaluate(f"{lost}.length") == 0


@pytest.mark.parametrize(("judged", "scheme"), [(good(), "light"), (bare(), "dark")])
def test_axe_finds_nothing(opened, axe, judged, scheme):
    page = opened(judged, viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page.evaluate(axe)
    options = json.dumps({"resultTypes": ["violations"]})
    found = page.evaluate(f"axe.run(document, {options})")["violations"]
    assert [(item["id"], node["html"][:140]) for item in found for node in item["nodes"]] == []


def test_print_is_light_and_whole(opened):
    page = opened(hard(), viewport={"width": 690, "height": 900}, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(colour) != "rgb(255, 255, 255)"
    page.emulate_media(media="print")
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
