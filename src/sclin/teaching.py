"""Teaching material, derived from the chapters: student copies, slides, an offline bundle.

Run as ``python -m sclin.teaching exercises|slides|bundle``.
Nothing here is written by hand twice: the chapters are the only source.
"""

from __future__ import annotations

import base64
import copy
import html
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import jupytext
import nbformat

from sclin.errors import InputError

__all__ = ["bundle", "exercises", "fill", "sections", "slides", "student_copy"]

CODE_GAP = "# Your code here\n"
TEXT_GAP = "\n\n*Your answer here.*\n\n"
FENCE = re.compile(
    r"^(?P<ticks>`{3,}|:{3,})\{solution-(?P<edge>start|end)\}.*?^(?P=ticks)$",
    re.MULTILINE | re.DOTALL,
)
PARTS = {
    "first_steps": ("First steps", range(1, 5)),
    "benchmarks": ("Benchmarks", range(5, 11)),
    "inside_the_models": ("Inside the models", range(11, 15)),
    "yours": ("Yours", range(15, 17)),
}


def _pieces(notebook: nbformat.NotebookNode) -> Iterator[tuple[int, str, bool]]:
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


def student_copy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    r"""Empty the solutions of a chapter, and keep everything that asks or explains.

    Parameters
    ----------
    notebook
        A chapter, executed or not.

    Returns
    -------
    nbformat.NotebookNode
        A copy without outputs. Code of a solution becomes a comment, its text a line to write on.

    Raises
    ------
    InputError
        If a solution is opened twice, closed twice or never closed.

    Examples
    --------
    >>> from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
    >>> chapter = new_notebook(cells=[
    ...     new_markdown_cell("```{solution-start} ex-a\n```"),
    ...     new_code_cell("6 * 7"),
    ...     new_markdown_cell("```{solution-end}\n```"),
    ... ])
    >>> student_copy(chapter).cells[1].source
    '# Your code here\n'
    """
    student = copy.deepcopy(notebook)
    sources = [""] * len(student.cells)
    for index, text, solution in _pieces(notebook):
        if solution and text.strip():
            text = CODE_GAP if student.cells[index].cell_type == "code" else TEXT_GAP
        sources[index] += text
    for cell, source in zip(student.cells, sources, strict=True):
        cell.source = source.strip("\n") if cell.cell_type == "markdown" else source
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return student


def fill(student: nbformat.NotebookNode, solved: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put the solutions of one notebook back into its student copy.

    Parameters
    ----------
    student
        What `student_copy` made, perhaps with work added outside the solutions.
    solved
        The notebook that holds the solutions.

    Returns
    -------
    nbformat.NotebookNode
        The student copy with every solution cell filled in.

    Raises
    ------
    InputError
        If the two notebooks do not have the same number of cells.
    """
    emptied = student_copy(solved)
    if len(student.cells) != len(solved.cells):
        raise InputError(
            f"the copy has {len(student.cells)} cells and the original {len(solved.cells)}; "
            "derive the copy again from this version of the chapter"
        )
    filled = copy.deepcopy(student)
    for cell, gap, solution in zip(filled.cells, emptied.cells, solved.cells, strict=True):
        if gap.source != solution.source:
            cell.source = solution.source
    return filled


def exercises(notebooks: Path, out: Path) -> list[Path]:
    """Write a student copy of every chapter.

    Parameters
    ----------
    notebooks
        Folder of the chapters (MyST Markdown).
    out
        Folder for the ``.ipynb`` copies; made when absent.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        If the folder holds no chapter.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in _chapters(notebooks, "[0-9][0-9]_*.md"):
        written.append(out / f"{path.stem}_student.ipynb")
        nbformat.write(student_copy(jupytext.read(path)), written[-1])
    return written


def _chapters(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise InputError(f"no chapter ({pattern}) in {folder}; run `make book` in the repository")
    return paths


def sections(notebook: nbformat.NotebookNode) -> list[dict]:
    """Cut a chapter into slides: a heading, what it says first, its figures.

    Parameters
    ----------
    notebook
        An executed chapter; without outputs the slides simply have no figures.

    Returns
    -------
    list of dict
        One a heading of level 1 or 2, with keys ``level``, ``title``, ``points`` (the first
        sentence of each paragraph, at most four, or the items of a list) and ``figures``
        (pairs of PNG in base64 and alternative text).
    """
    cut: list[dict] = []
    skipped = False
    for index, text, solution in _pieces(notebook):
        cell = notebook.cells[index]
        if solution or FENCE.match(text):
            continue
        if cell.cell_type == "code":
            if cut and not skipped:
                cut[-1]["figures"] += _figures(cell)
            continue
        for block in re.split(r"\n\s*\n", text):
            heading = re.match(r"\s*(#{1,2}) (.+)", block)
            if heading:
                skipped = heading[2].strip() in {"References", "Provenance"}
                if not skipped:
                    cut.append(_slide(len(heading[1]), heading[2]))
                block = block[heading.end() :]
            if cut and not skipped:
                cut[-1]["points"] += _points(block)
    for slide in cut:
        slide["points"] = slide["points"][:5]
    return cut


def _slide(level: int, title: str) -> dict:
    return {"level": level, "title": _plain(title), "points": [], "figures": []}


def _points(block: str) -> list[str]:
    """Take list items whole, and of a paragraph the first line (one sentence a line)."""
    block = re.sub(r"^(`{3,}|:{3,})\{(?!admonition\}|exercise-start\}).*", "", block, flags=re.S)
    lines = [line.strip() for line in block.splitlines()]
    lines = [line for line in lines if line and not re.match(r"[`:|$#<(]|\(.*\)=$", line)]
    items = [re.sub(r"^(?:[-*]|\d+\.)\s+", "", line) for line in lines if re.match(r"[-*\d]", line)]
    return [_plain(line) for line in (items or lines[:1])]


def _plain(text: str) -> str:
    """Strip roles, links and emphasis from one line of Markdown."""
    text = re.sub(r"\{(?:cite[:\w]*|numref|ref|eq)\}`[^`]*`", "", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\s+([.,;])", r"\1", re.sub(r"[*`$]|\s+$", "", text)).strip()


def _figures(cell: nbformat.NotebookNode) -> list[tuple[str, str]]:
    alt = re.search(r"^\s*alt:\s*(.+)$", cell.source, re.M)
    image = cell.metadata.get("mystnb", {}).get("image", {})
    text = image.get("alt") or (alt[1] if alt else "Figure of the chapter")
    pictures = [
        output.data["image/png"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    return [(picture, text) for picture in pictures]


DECK = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light; }}
html {{ scroll-snap-type: y proximity; font-family: system-ui, "Segoe UI", Roboto, sans-serif; }}
body {{ margin: 0; color: #14242e; background: #fff; }}
section {{ min-height: 100vh; box-sizing: border-box; padding: 6vh 7vw; scroll-snap-align: start;
  display: flex; flex-direction: column; justify-content: center; }}
section.opening {{ background: #0b3954; color: #fff; }}
h1, h2 {{ font-family: "Iowan Old Style", Palatino, "Palatino Linotype", Georgia, serif;
  line-height: 1.15; margin: 0 0 4vh; }}
h1 {{ font-size: clamp(2rem, 6vw, 4.5rem); }} h2 {{ font-size: clamp(1.6rem, 4vw, 3rem); }}
li, p {{ font-size: clamp(1rem, 2vw, 1.6rem); line-height: 1.4; margin-bottom: 1.2vh; }}
.columns {{ display: grid; gap: 4vw; grid-template-columns: 1fr; align-items: center; }}
@media (min-width: 60rem) {{ .columns.pictured {{ grid-template-columns: 2fr 3fr; }} }}
img {{ max-width: 100%; max-height: 70vh; justify-self: center; }}
footer {{ font-size: .9rem; opacity: .75; margin-top: auto; padding-top: 3vh; }}
@media print {{ section {{ break-after: page; min-height: 95vh; }} }}
</style></head><body>
{body}
<script>
const all = [...document.querySelectorAll("section")];
addEventListener("keydown", event => {{
  const step = {{ ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 }}[event.key];
  if (!step) return;
  event.preventDefault();
  const here = all.findIndex(s => s.getBoundingClientRect().bottom > innerHeight / 2);
  all[Math.min(all.length - 1, Math.max(0, here + step))].scrollIntoView();
}});
</script></body></html>
"""


def slides(chapters: Path, out: Path) -> list[Path]:
    """Write one deck for each part of the book: one HTML file, nothing to install or fetch.

    Parameters
    ----------
    chapters
        Folder of the executed chapters.
    out
        Folder for the decks; made when absent.

    Returns
    -------
    list of Path
        The files written, one a part that has at least one chapter.

    Raises
    ------
    InputError
        If no chapter has been executed.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = _chapters(chapters, "[0-9][0-9]_*.ipynb")
    written = []
    for stem, (title, numbers) in PARTS.items():
        ours = [path for path in paths if int(path.stem[:2]) in numbers]
        if ours:
            body = "\n".join(_deck_part(ours, title))
            written.append(out / f"{stem}.html")
            written[-1].write_text(DECK.format(title=f"{title} · sclin", body=body))
    return written


def _deck_part(paths: Iterable[Path], part: str) -> Iterator[str]:
    yield (
        f'<section class="opening"><h1>{html.escape(part)}</h1>'
        "<p>Arrow keys or space move on. Print to PDF for a handout.</p></section>"
    )
    for path in paths:
        for slide in sections(nbformat.read(path, 4)):
            points = "".join(f"<li>{html.escape(point)}</li>" for point in slide["points"])
            pictures = "".join(
                f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{_one_line(png)}">'
                for png, alt in slide["figures"][:1]
            )
            tag, kind = ("h1", "opening") if slide["level"] == 1 else ("h2", "content")
            yield (
                f'<section class="{kind}"><{tag}>{html.escape(slide["title"])}</{tag}>'
                f'<div class="columns{" pictured" if pictures else ""}"><ul>{points}</ul>'
                f"{pictures}</div><footer>{html.escape(path.stem)}</footer></section>"
            )


def _one_line(png: str | list[str]) -> str:
    text = "".join(png)
    return base64.b64encode(base64.b64decode(text)).decode()


def bundle(
    html_folder: Path, notebooks: Path, decks: Path, out: Path, *, data: Iterable[Path] = ()
) -> Path:
    """Zip what a course needs without a network: pages, student copies, slides, data.

    Parameters
    ----------
    html_folder
        The built book.
    notebooks
        Folder of the chapters (MyST Markdown); student copies are derived from them.
    decks
        Folder of the slides; left out when it does not exist.
    out
        The zip file to write.
    data
        Data files to put beside, such as those of `packaged_files`.

    Returns
    -------
    Path
        The zip file.

    Raises
    ------
    InputError
        If the book has not been built.
    """
    if not (html_folder / "index.html").exists():
        raise InputError(f"no built book in {html_folder}; run `make book` first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(html_folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path("book") / path.relative_to(html_folder))
        for path in sorted(notebooks.rglob("*")):
            if path.suffix in {".md", ".yml"}:
                archive.write(path, Path("chapters") / path.relative_to(notebooks))
        for path in _chapters(notebooks, "[0-9][0-9]_*.md"):
            copy_ = nbformat.writes(student_copy(jupytext.read(path)))
            archive.writestr(f"student/{path.stem}_student.ipynb", copy_)
        for path in sorted(decks.glob("*.html")):
            archive.write(path, Path("slides") / path.name)
        for path in data:
            archive.write(path, Path("data") / path.name)
        archive.writestr("data.txt", _data_list())
    return out


def packaged_files() -> list[Path]:
    """Files of the packaged datasets and resources, fetched when they are not there yet.

    Returns
    -------
    list of Path
    """
    from sclin import datasets

    found = datasets.catalogue()
    entries = [*found.values(), *found.resources.values()]
    names = [entry.name for entry in entries if entry.tier == "packaged"]
    return sorted({path for name in names for path in datasets.fetch(name)})


def _data_list() -> str:
    """Say how the data of the bundle are used, and name what else the chapters can fetch."""
    from sclin import datasets

    names = "\n".join(f"  {name}" for name in sorted(datasets.catalogue()))
    return (
        "The folder data holds the packaged datasets. Chapters use it without a network after\n"
        "  export SCLIN_DATA=/path/to/this/data\n\n"
        f"Every dataset by name (`sclin data show NAME` says from where):\n{names}\n"
    )


@click.group()
def main() -> None:
    """Derive teaching material from the chapters."""


@main.command(name="exercises")
@click.option("--notebooks", type=Path, default=Path("notebooks"), show_default=True)
@click.option("--out", type=Path, default=Path("_build/teaching/student"), show_default=True)
def _exercises(notebooks: Path, out: Path) -> None:
    """Write student copies, their solutions emptied."""
    for path in exercises(notebooks, out):
        click.echo(path)


@main.command(name="slides")
@click.option("--chapters", type=Path, default=Path("book/chapters"), show_default=True)
@click.option("--out", type=Path, default=Path("_build/teaching/slides"), show_default=True)
def _slides(chapters: Path, out: Path) -> None:
    """Write one slide deck for each part of the book."""
    for path in slides(chapters, out):
        click.echo(path)


@main.command(name="bundle")
@click.option("--html", "pages", type=Path, default=Path("_build/html"), show_default=True)
@click.option("--notebooks", type=Path, default=Path("notebooks"), show_default=True)
@click.option("--slides", "decks", type=Path, default=Path("_build/teaching/slides"))
@click.option("--out", type=Path, default=Path("_build/teaching/sclin-offline.zip"))
def _bundle(pages: Path, notebooks: Path, decks: Path, out: Path) -> None:
    """Zip the built book, the student copies, the slides and the packaged data."""
    click.echo(bundle(pages, notebooks, decks, out, data=packaged_files()))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"Error: {error}") from error
