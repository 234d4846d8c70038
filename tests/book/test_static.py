"""What can be read off the built files without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

MEGABYTE = 1024 * 1024
pytestmark = pytest.mark.xdist_group("parsed")  # the pages are parsed once, by one worker


@pytest.fixture(scope="session")
def soups(book: Path, pages: list[str]) -> dict[str, BeautifulSoup]:
    return {page: BeautifulSoup((book / page).read_text(), "html.parser") for page in pages}


def _chapters(soups: dict) -> dict:
    found = {page: soup for page, soup in soups.items() if page.startswith("book/chapters/")}
    assert found
    return found


def _broken(book: Path, page: str, link: str, anchors: dict[str, set[str]]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or link in {"#", ""}:
        return False
    target = (book / page).parent / unquote(parts.path) if parts.path else book / page
    if not target.exists():
        return True
    name = target.resolve().relative_to(book.resolve()).as_posix()
    return bool(parts.fragment) and name in anchors and parts.fragment not in anchors[name]


def test_every_internal_link_and_image_exists(book: Path, soups: dict) -> None:
    anchors = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in soups.items()}
    broken = []
    for page, soup in soups.items():
        links = [tag["href"] for tag in soup.select("a[href], link[href]")]
        links += [tag["src"] for tag in soup.select("img[src], script[src]")]
        broken += [(page, link) for link in links if _broken(book, page, link, anchors)]
    assert not broken


def test_pages_load_nothing_from_elsewhere(soups: dict) -> None:
    for page, soup in soups.items():
        sources = [tag["src"] for tag in soup.select("script[src], img[src], iframe[src]")]
        sources += [tag["href"] for tag in soup.select('link[rel="stylesheet"]')]
        assert not [link for link in sources if urlsplit(link).netloc], page


def test_images_have_alternative_text(soups: dict) -> None:
    for page, soup in soups.items():
        silent = [tag.get("src") for tag in soup.select("article img") if not tag.get("alt")]
        assert not silent, page


def test_figures_have_a_number_and_a_caption(soups: dict) -> None:
    for page, soup in soups.items():
        for figure in {img.find_parent("figure") for img in soup.select("article figure img")}:
            assert figure.select_one("figcaption .caption-number"), (page, figure.get("id"))
            assert len(figure.select_one(".caption-text").get_text()) > 20, page


def test_pictures_of_chapters_stand_in_figures(soups: dict) -> None:
    for page, soup in _chapters(soups).items():
        loose = [tag["src"] for tag in soup.select("article img") if not tag.find_parent("figure")]
        assert not loose, page


def test_chapters_show_facts_and_the_command(soups: dict) -> None:
    for page, soup in _chapters(soups).items():
        stem = Path(page).stem
        facts = soup.select_one("ul.facts")
        assert facts and "?" not in facts.get_text(), page
        assert f"make run NB={stem} P=" in soup.get_text(), page


def test_downloads_exist_and_can_be_read(book: Path, soups: dict) -> None:
    for page, soup in _chapters(soups).items():
        links = [tag["href"] for tag in soup.select("a[download]") if "/downloads/" in tag["href"]]
        assert {Path(link).suffix for link in links} == {".ipynb", ".py"}, page
        for link in links:
            path = (book / page).parent / link
            if path.suffix == ".ipynb":
                assert json.loads(path.read_text())["cells"], path
            else:
                compile(path.read_text(), str(path), "exec")


def test_launch_buttons_name_notebooks_of_the_published_branch(book: Path, soups: dict) -> None:
    for page, soup in _chapters(soups).items():
        name = page.removesuffix(".html") + ".ipynb"
        links = [
            tag["href"]
            for tag in soup.select("a[href]")
            if "mybinder.org" in tag["href"] or "colab.research" in tag["href"]
        ]
        assert len(links) >= 2, page
        for link in links:
            assert "published" in link and name in unquote(link), link
        assert (book / "_sources" / name).exists()


def test_pages_are_light(book: Path, soups: dict) -> None:
    heavy = {page: (book / page).stat().st_size / MEGABYTE for page in soups}
    assert not {page: size for page, size in heavy.items() if size > 1.5}


def test_front_page_redirects_into_the_book(book: Path) -> None:
    text = (book / "index.html").read_text()
    assert re.search(r"url=book/index\.html", text)


def test_no_machine_path_in_the_pages(soups: dict) -> None:
    for page, soup in soups.items():
        assert not re.search(
            r"/(?:root|tmp|home|work)/[\w.]", soup.select_one("main").get_text()
        ), page
