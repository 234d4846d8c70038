"""Student copies, slides and the bundle are derived from chapters without loss."""

from __future__ import annotations

import base64
import re
import zipfile
from pathlib import Path

import exercises
import jupytext
import nbformat
import page_tables
import pandas as pd
import pytest
import slides
import teaching
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from sclin.errors import InputError
from sclin.notebooks import claims

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
    student = nbformat.reads(exercises.student_copy(chapter), 4)
    text = "\n".join(cell.source for cell in student.cells)
    for kept in ("Six times seven?", "Second question.", "## References", "draw()", START, END):
        assert kept in text
    for dropped in ("6 * 7", "answer == 42", "Multiply.", "It is 42."):
        assert dropped not in text
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in student.cells)
    assert chapter.cells[4].source == "answer = 6 * 7"


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
        exercises.student_copy(new_notebook(cells=cells))


def test_lecture_shows_figures_with_their_sentences_and_questions_with_answers(chapter) -> None:
    opening, drawn, question, *_ = slides.lecture(chapter)
    assert (opening.kind, opening.title) == ("opening", "Title")
    assert opening.points == ["An opening with a rank score.", "More."]
    assert opening.aside == ["Draw a line"]
    shown = {"name": "fig-a", "png": PIXEL, "alt": "A line", "caption": "One line."}
    assert drawn.figure == shown
    assert drawn.points == ["The figure rises by <em>one</em>."]
    assert (question.kind, question.title) == ("question", "Question")
    assert question.points == ["Six times seven?"]
    assert question.aside == ["Multiply.", "It is 42."]


def test_formulas_tables_and_references_of_a_slide() -> None:
    frame = pd.DataFrame({"name": ["a"], "value": [0.5]})
    shown = new_output("display_data", data={"text/html": frame.to_html()})
    text = "# A\n\n## B\n\nIn {doc}`02_x` stands $a^2$ {cite:p}`x2026`.\n\n$$ b\n= c $$\n"
    cells = [new_markdown_cell(text), new_code_cell("frame", outputs=[shown])]
    _, slide = slides.lecture(new_notebook(cells=cells), titles={"02_x": "Ranks"})
    assert slide.points[0].startswith("In Ranks stands <math")
    assert slide.points[0].endswith("</math>.") and slide.points[1].startswith("<math")
    assert '<td class="num">0.5</td>' in slide.table and "<th>0</th>" not in slide.table


def test_slides_are_one_file_a_part(chapter, tmp_path: Path) -> None:
    nbformat.write(chapter, tmp_path / "01_first_run.ipynb")
    written = slides.write_decks(tmp_path, tmp_path / "slides")
    assert [path.name for path in written] == ["first_steps.html"]
    text = written[0].read_text()
    assert PIXEL in text and 'alt="A line"' in text and "<details>" in text
    assert "6 * 7" not in text and "References" not in text
    assert not re.search(r'(src|href)="http', text)


def test_bundle_holds_pages_copies_slides_data_and_package(tmp_path: Path) -> None:
    html, decks, copies, root = (tmp_path / name for name in ("html", "slides", "student", "root"))
    for folder in (html, decks, copies, root / "notebooks", root / "src" / "sclin"):
        folder.mkdir(parents=True)
    parts = (html, root, copies, decks, tmp_path / "x.zip")
    with pytest.raises(InputError, match="make book"):
        teaching.bundle(*parts)
    (html / "index.html").write_text("<p>book")
    (decks / "yours.html").write_text("<p>deck")
    (copies / "01_first_run_student.ipynb").write_text("{}")
    (root / "Makefile").write_text("setup:")
    (root / "src" / "sclin" / "__init__.py").write_text("")
    (root / "notebooks" / "01_first_run.md").write_text("# Title")
    (tmp_path / "cells.h5ad").write_bytes(b"cells")
    made = teaching.bundle(*parts, data=[tmp_path / "cells.h5ad"])
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


def _outside(notebook: nbformat.NotebookNode) -> str:
    """Text of a notebook without what stands in its solutions."""
    return "".join(
        "".join(text.split()) for _, text, solution in exercises.pieces(notebook) if not solution
    )


def test_every_chapter_has_a_copy_that_differs_in_its_solutions_alone(tmp_path: Path) -> None:
    copies = exercises.write_copies(FOLDER, tmp_path)
    assert len(copies) == len(list(FOLDER.glob("[0-9]*.md")))
    for path in copies:
        stem = path.stem.removesuffix("_student")
        solved = jupytext.read(FOLDER / f"{stem}.md")
        claims.settle_notebook(solved, page_tables.rows_of(FOLDER.parent, stem), plain=True)
        student = nbformat.read(path, 4)
        assert any(cell.source == exercises.CODE_GAP for cell in student.cells), path.stem
        assert [c.cell_type for c in student.cells] == [c.cell_type for c in solved.cells]
        assert _outside(student) == _outside(solved)


def test_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make book"):
        exercises.write_copies(tmp_path, tmp_path / "out")
