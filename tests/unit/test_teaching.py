"""Student copies, slides and the bundle are derived from chapters without loss."""

from __future__ import annotations

import base64
import re
import zipfile
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from sclin import notebooks, teaching
from sclin.errors import InputError

PIXEL = base64.b64encode(b"\x89PNG not a real picture").decode()
FENCE = "```"
START = f"{FENCE}{{solution-start}} ex-a\n:class: dropdown\n{FENCE}"
END = f"{FENCE}{{solution-end}}\n{FENCE}"


@pytest.fixture
def chapter() -> nbformat.NotebookNode:
    figure = new_output("display_data", data={"image/png": PIXEL})
    drawn = new_code_cell("draw()", outputs=[figure], execution_count=1)
    drawn.metadata["mystnb"] = {
        "figure": {"name": "fig-a", "caption": "One line."},
        "image": {"alt": "A line"},
    }
    aims = f"{FENCE}{{admonition}} By the end you can\n:class: aims\n- draw a line.\n{FENCE}"
    return new_notebook(
        cells=[
            new_markdown_cell(
                f"# Title\n\nAn opening with a {{term}}`rank score`.\nMore.\n\n{aims}"
            ),
            new_markdown_cell("## Drawing\n\n{numref}`fig-a` rises by *one*."),
            drawn,
            new_markdown_cell(
                f"## Exercises\n\n{FENCE}{{exercise-start}}\n:label: ex-a\n{FENCE}\n"
                f"Six times seven?\n{FENCE}{{exercise-end}}\n{FENCE}\n\n{START}\n\nMultiply."
            ),
            new_code_cell("answer = 6 * 7", execution_count=2),
            new_markdown_cell(f"It is 42.\n\n{END}\n\nSecond question.\n\n{START}"),
            new_code_cell("assert answer == 42"),
            new_markdown_cell(f"{END}\n\n## References\n\nnone"),
        ]
    )


def test_student_copy_keeps_questions_and_drops_answers(chapter) -> None:
    student = teaching.student_copy(chapter)
    text = "\n".join(cell.source for cell in student.cells)
    for kept in ("Six times seven?", "Second question.", "## References", "draw()", START, END):
        assert kept in text
    for dropped in ("6 * 7", "answer == 42", "Multiply.", "It is 42."):
        assert dropped not in text
    assert not any(cell.get("outputs") for cell in student.cells)
    assert chapter.cells[4].source == "answer = 6 * 7"


def test_filled_copy_is_the_chapter_and_runs(chapter) -> None:
    student = teaching.student_copy(chapter)
    student.cells[2].source = "notes = 'mine'"
    filled = teaching.fill(student, chapter)
    scope: dict[str, object] = {}
    for cell in filled.cells:
        if cell.cell_type == "code":
            exec(cell.source, scope)
    assert scope["answer"] == 42 and scope["notes"] == "mine"
    assert [c.source for c in filled.cells[3:]] == [c.source for c in chapter.cells[3:]]


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ([new_markdown_cell(START)], "never closed"),
        ([new_markdown_cell(END)], "never started"),
        ([new_markdown_cell(START), new_markdown_cell(START)], "starts inside"),
    ],
)
def test_unpaired_solutions_are_refused(cells, word) -> None:
    with pytest.raises(InputError, match=word):
        teaching.student_copy(new_notebook(cells=cells))


def test_fill_refuses_another_version(chapter) -> None:
    student = teaching.student_copy(chapter)
    student.cells.pop()
    with pytest.raises(InputError, match="derive the copy again"):
        teaching.fill(student, chapter)


def test_lecture_shows_figures_with_their_sentences_and_questions_with_answers(chapter) -> None:
    opening, drawn, question, *_ = teaching.lecture(chapter)
    assert (opening.kind, opening.title) == ("opening", "Title")
    assert opening.points == ["An opening with a rank score.", "More."]
    assert opening.aside == ["Draw a line"]
    assert drawn.figure == (PIXEL, "A line", "One line.")
    assert drawn.points == ["The figure rises by <em>one</em>."]
    assert (question.kind, question.title) == ("question", "Question")
    assert question.points == ["Six times seven?"]
    assert question.aside == ["Multiply.", "It is 42."]


def test_formulas_tables_and_references_of_a_slide() -> None:
    frame = pd.DataFrame({"name": ["a"], "value": [0.5]})
    shown = new_output("display_data", data={"text/html": frame.to_html()})
    text = "# A\n\n## B\n\nIn {doc}`02_x` stands $a^2$ {cite:p}`x2026`.\n\n$$ b\n= c $$\n"
    cells = [new_markdown_cell(text), new_code_cell("frame", outputs=[shown])]
    _, slide = teaching.lecture(new_notebook(cells=cells), titles={"02_x": "Ranks"})
    assert slide.points[0].startswith("In Ranks stands <math")
    assert slide.points[0].endswith("</math>.") and slide.points[1].startswith("<math")
    assert '<td class="num">0.5</td>' in slide.table and "<th>0</th>" not in slide.table


def test_slides_are_one_file_a_part(chapter, tmp_path: Path) -> None:
    nbformat.write(chapter, tmp_path / "01_first_run.ipynb")
    written = teaching.slides(tmp_path, tmp_path / "slides")
    assert [path.name for path in written] == ["first_steps.html"]
    text = written[0].read_text()
    assert PIXEL in text and 'alt="A line"' in text and "<details>" in text
    assert "6 * 7" not in text and "References" not in text
    assert not re.search(r'(src|href)="http', text)


def test_bundle_holds_pages_copies_slides_data_and_package(chapter, tmp_path: Path) -> None:
    html, decks, root = tmp_path / "html", tmp_path / "slides", tmp_path / "root"
    for folder in (html, decks, root / "notebooks", root / "src" / "sclin"):
        folder.mkdir(parents=True)
    with pytest.raises(InputError, match="make book"):
        teaching.bundle(html, root, decks, tmp_path / "x.zip")
    (html / "index.html").write_text("<p>book")
    (decks / "yours.html").write_text("<p>deck")
    (root / "Makefile").write_text("setup:")
    (root / "src" / "sclin" / "__init__.py").write_text("")
    jupytext.write(chapter, root / "notebooks" / "01_first_run.md", fmt="md:myst")
    (tmp_path / "cells.h5ad").write_bytes(b"cells")
    made = teaching.bundle(html, root, decks, tmp_path / "x.zip", data=[tmp_path / "cells.h5ad"])
    with zipfile.ZipFile(made) as archive:
        assert {name.removeprefix("sclin/") for name in archive.namelist()} == {
            "START-HERE.txt",
            "Makefile",
            "src/sclin/__init__.py",
            "book/index.html",
            "notebooks/01_first_run.md",
            "student/01_first_run_student.ipynb",
            "slides/yours.html",
            "data/cells.h5ad",
        }
        assert b"baron_human" in archive.read("sclin/START-HERE.txt")


FOLDER = Path(__file__).parents[2] / "notebooks"


def test_every_chapter_has_a_copy_that_fills_back_cell_by_cell(tmp_path: Path) -> None:
    """What `make test` executes is what a filled copy holds, so a filled copy executes."""
    copies = teaching.exercises(FOLDER, tmp_path)
    assert len(copies) == len(notebooks.list_notebooks(FOLDER)) == 16
    for path in copies:
        solved = jupytext.read(FOLDER / f"{path.stem.removesuffix('_student')}.md")
        student = nbformat.read(path, 4)
        gaps = sum(cell.source == teaching.CODE_GAP for cell in student.cells)
        assert gaps, f"{path.stem} has no solution to empty"
        filled = teaching.fill(student, solved)
        assert [(c.cell_type, c.source) for c in filled.cells] == [
            (c.cell_type, c.source) for c in solved.cells
        ]


def test_a_filled_copy_runs_from_end_to_end(tmp_path: Path) -> None:
    name = "02_rank_normalization"
    solved = jupytext.read(FOLDER / f"{name}.md")
    filled = teaching.fill(teaching.student_copy(solved), solved)
    jupytext.write(filled, tmp_path / f"{name}.md", fmt="md:myst")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "offline.yml").write_text("{}")
    values = {
        "dataset": "sim_atlas",
        "n_cells": 40,
        "thinning": [0.5, 0.1],
    }
    run = notebooks.run(
        name, values=values, folder=tmp_path, output=tmp_path / "x.ipynb", results=tmp_path
    )
    executed = nbformat.read(run.path, 4)
    answers = [c for c in executed.cells if "ndtri((m + 1)" in c.source]
    assert answers and answers[0].outputs


def test_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make book"):
        teaching.exercises(tmp_path, tmp_path / "out")
