"""Exercises of the chapters: where they stand in the text, and student copies without solutions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import page_tables
from nbconvert.exporters import NotebookExporter
from nbconvert.preprocessors import ClearOutputPreprocessor, Preprocessor

from sclin.errors import InputError
from sclin.notebooks import claims

CODE_GAP = "# Your code here\n"
TEXT_GAP = "\n\n*Your answer here.*\n\n"
FENCE = re.compile(
    r"^(?P<ticks>`{3,}|:{3,})\{solution-(?P<edge>start|end)\}.*?^(?P=ticks)$",
    re.MULTILINE | re.DOTALL,
)
QUESTION = re.compile(
    r"^```\{exercise-start\}(.*?)^```\n(.*?)^```\{exercise-end\}\s*^```", re.M | re.S
)
AIMS = re.compile(r"^```\{admonition\}[^\n]*\n:class: aims\n(.*?)^```", re.M | re.S)
DIRECTIVE = re.compile(r"^(?P<ticks>`{3,}|:{3,}).*?^(?P=ticks)$", re.M | re.S)


def chapters(folder: Path, pattern: str) -> list[Path]:
    """Chapters of a folder, in order; a folder without any is refused."""
    if not (paths := sorted(folder.glob(pattern))):
        raise InputError(f"no chapter ({pattern}) in {folder}; run `make book` in the repository")
    return paths


def pieces(notebook: nbformat.NotebookNode) -> Iterator[tuple[int, str, bool]]:
    """Cut the cells into pieces: index of the cell, text, and whether it is a solution's.

    One text cell may end a solution, ask the next exercise and open its solution.
    """
    inside = False
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            yield index, cell.source, inside
            continue
        position = 0
        for fence in FENCE.finditer(cell.source):
            yield index, cell.source[position : fence.start()], inside
            starts = fence["edge"] == "start"
            if starts == inside:
                problem = "starts inside a solution" if starts else "ends that never started"
                raise InputError(
                    f"cell {index}: a solution {problem}; pair each {{solution-start}} with one "
                    "{solution-end}"
                )
            inside, position = starts, fence.end()
            yield index, fence[0], False
        yield index, cell.source[position:], inside
    if inside:
        raise InputError("the last solution is never closed; add a {solution-end} block")


class EmptySolutions(Preprocessor):
    """Empty the solutions of a chapter, and keep everything that asks or explains.

    Code of a solution becomes a comment, its text a line to write on.
    """

    def preprocess(self, nb, resources):
        """Empty the cells in place, as nbconvert asks."""
        sources = [""] * len(nb.cells)
        for index, text, solution in pieces(nb):
            if solution and text.strip():
                text = CODE_GAP if nb.cells[index].cell_type == "code" else TEXT_GAP
            sources[index] += text
        for cell, source in zip(nb.cells, sources, strict=True):
            cell.source = source.strip("\n") if cell.cell_type == "markdown" else source
        return nb, resources


def student_copy(notebook: nbformat.NotebookNode) -> str:
    """Write a chapter as an ``.ipynb`` without outputs and with its solutions emptied."""
    exporter = NotebookExporter(preprocessors=[EmptySolutions, ClearOutputPreprocessor])
    return exporter.from_notebook_node(notebook)[0]


def write_copies(notebooks: Path, out: Path) -> list[Path]:
    """Write a student copy of every chapter into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in chapters(notebooks, "[0-9][0-9]_*.md"):
        written.append(out / f"{path.stem}_student.ipynb")
        notebook = jupytext.read(path)
        claims.settle_notebook(
            notebook, page_tables.rows_of(notebooks.parent, path.stem), plain=True
        )
        written[-1].write_text(student_copy(notebook), encoding="utf-8")
    return written
