"""The sources of the chapters keep the bar of the book."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jupytext
import pytest
import yaml

from sclin import notebooks

FOLDER = Path(__file__).parents[2] / "notebooks"
NAMES = notebooks.list_notebooks(FOLDER)
PROFILES = ("offline", "public", "paper", "test")


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def text(name):
    return (FOLDER / f"{name}.md").read_text()


@cache
def read(name):
    return jupytext.read(FOLDER / f"{name}.md")


@pytest.fixture
def book(name):
    return read(name)


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_chapters_are_numbered_as_the_book_lists_them():
    toc = yaml.safe_load((FOLDER.parent / "_toc.yml").read_text())
    files = [Path(chapter["file"]) for part in toc["parts"] for chapter in part["chapters"]]
    assert [f.name for f in files if f.parent.name == "chapters"] == NAMES
    assert [n[:2] for n in NAMES] == [f"{i:02d}" for i in range(1, len(NAMES) + 1)]


def test_no_code_cell_is_longer_than_fifteen_lines(book):
    for cell in code(book):
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.split("\n")) <= 15, cell.source


def test_every_parameter_is_typed_and_explained(name):
    for parameter in notebooks.parameters(name, folder=FOLDER).values():
        assert parameter.help, parameter.name
        parameter.check(parameter.default)


# With the profile `test` every chapter is run.
@pytest.mark.parametrize("profile", PROFILES[:3])
def test_profiles_give_known_parameters(name, profile):
    notebooks.arguments(name, profile, folder=FOLDER)


def test_profiles_name_chapters_that_exist():
    for profile in PROFILES:
        values = yaml.safe_load((FOLDER / "profiles" / f"{profile}.yml").read_text()) or {}
        assert set(values) <= set(NAMES)


def test_every_figure_has_number_caption_and_alt_text_and_is_discussed(book, text):
    for cell in code(book):
        options = cell.metadata.get("mystnb", {})
        if "figure" in options:
            figure = options["figure"]
            assert len(figure["caption"]) > 20, figure
            assert len(options["image"]["alt"]) > 20, figure
            assert f"{{numref}}`{figure['name']}`" in text, f"{figure['name']} is not discussed"
        else:
            assert not re.search(r"plt\.(subplots|figure|show)\(", cell.source), cell.source


def test_the_first_screen_tells_what_a_reader_needs(name, text, book):
    head = text.split("{code-cell}")[0]
    for part in (":class: aims", "| --", "**Data and licence", "By the end you can"):
        found = part in head or (part == "| --" and re.search(r"^\|\s*-", head, re.MULTILINE))
        assert found, f"{name}: {part}"
    facts = book.metadata["sclin"]
    assert {"minutes", "memory_gb", "device", "data"} <= set(facts)


def test_the_chapter_closes_as_the_others_do(text):
    assert "## What we have seen" in text
    assert "## Exercises" in text
    assert "```{bibliography}" in text
    exercises = re.findall(r"\{exercise-start\}.*\n:label: (\S+)", text)
    solutions = re.findall(r"\{solution-start\} (\S+)", text)
    assert 2 <= len(exercises) <= 3
    assert exercises == solutions


def test_one_sentence_per_line(book):
    for cell in book.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(
                r"(?ms)^```.*?^```|^\$\$.*?^\$\$|^\|.*?$|`[^`]*`|\$[^$]*\$", "", cell.source
            )
            for line in prose.split("\n"):
                body = re.sub(r"\b(e\.g|i\.e|et al|vs|cf|Fig|approx|resp)\.", r"\1", line)
                assert not re.search(r"[a-z)%]\.\s+[A-Z][a-z]", body), line


def test_no_query_names_a_column_as_numexpr_names_a_function(text):
    # Where numexpr is installed, pandas hands queries to it, and `sign > 0` compares a function.
    taken = r"sign|where|sqrt|exp|log|log10|abs|floor|ceil|round|real|imag|sum|prod|min|max|isnan"
    assert not re.findall(rf"""query\(["'].*\b({taken})\b *[<>=!]""", text)


def test_code_cells_pass_ruff(tmp_path):
    for name in NAMES:
        jupytext.write(read(name), tmp_path / f"{name}.ipynb")
    ruff = [sys.executable, "-m", "ruff", "check", "--output-format", "concise"]
    config = ["--config", FOLDER.parent / "pyproject.toml"]
    shown = subprocess.run([*ruff, *config, tmp_path], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stdout
