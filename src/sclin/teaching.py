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
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import click
import jupytext
import nbformat
from markdown_it import MarkdownIt

from sclin.errors import InputError

__all__ = ["bundle", "exercises", "fill", "lecture", "slides", "student_copy", "tidy_table"]

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


class Slide(NamedTuple):
    """One slide of a lecture; its sentences are HTML.

    ``kind`` is ``opening``, ``content`` or ``question``. ``aside`` holds the aims of an opening and
    the answer of a question; ``figure`` is a PNG in base64, its alternative text and its caption.
    """

    kind: str
    title: str
    points: list[str]
    aside: list[str]
    figure: tuple[str, str, str] | None = None
    table: str = ""


SKIPPED = {"References", "Provenance", "Parameters", "Where things are"}
QUESTION = re.compile(
    r"^```\{exercise-start\}(.*?)^```\n(.*?)^```\{exercise-end\}\s*^```", re.M | re.S
)
AIMS = re.compile(r"^```\{admonition\}[^\n]*\n:class: aims\n(.*?)^```", re.M | re.S)
DIRECTIVE = re.compile(r"^(?P<ticks>`{3,}|:{3,}).*?^(?P=ticks)$", re.M | re.S)


def lecture(
    notebook: nbformat.NotebookNode, *, titles: Mapping[str, str] | None = None
) -> list[Slide]:
    """Cut a chapter into slides: its figures with what is said of them, and its questions.

    Parameters
    ----------
    notebook
        An executed chapter; without outputs the slides simply have no figures.
    titles
        Title of each chapter by file stem, for references between chapters.

    Returns
    -------
    list of Slide
        The title with the aims; each figure beside the sentences that refer to it, or, of a
        section without figures, its first sentences and a short table; what has been seen; the
        questions with their answers.
    """
    slides: list[Slide] = []
    title = ""
    said: list[str] = []
    drawn: list[tuple[str, str, str, str]] = []
    tables: list[str] = []

    def say(text: str) -> list[str]:
        return _sentences(text, titles or {})

    def close() -> None:
        lists = [block.lstrip().startswith(("-", "1.")) for block in said]
        texts = [(said_, say(block)) for block, said_ in zip(said, lists, strict=True)]
        most = 1 if sum(bool(lines) for _, lines in texts) > 3 else 2
        points = [line for whole, lines in texts for line in lines[: 6 if whole else most]][:6]
        for k, (name, png, alt, caption) in enumerate(drawn):
            about = [line for block in said if f"`{name}`" in block for line in say(block)]
            if k == 0 and len(about) < 3:
                about = list(dict.fromkeys([*points[:1], *about]))
            figure = (png, alt, " ".join(say(caption)))
            slides.append(Slide("content", title, _few(about), [], figure))
        if points and title and not drawn:
            points = _few(points, room=360 if tables else 700)
            slides.append(Slide("content", title, points, [], table="".join(tables[:1])))

    for index, text, solution in _pieces(notebook):
        cell = notebook.cells[index]
        if cell.cell_type == "code":
            if not solution and title not in SKIPPED:
                drawn += _figures(cell)
                tables += _tables(cell)
        elif solution:
            slides[-1].aside.extend(say(DIRECTIVE.sub("", text)))
        elif not FENCE.match(text):
            for part in re.split(r"^(?=#{1,2} )", text, flags=re.M):
                plain = DIRECTIVE.sub("", QUESTION.sub("", part)).strip()
                if heading := re.match(r"(#{1,2}) (.+)", part):
                    close()
                    title, said, drawn, tables = heading[2].strip(), [], [], []
                    plain = plain[heading.end() :].strip()
                    if heading[1] == "#":
                        opening = say(plain.partition("\n\n")[0])
                        aims = [line.rstrip(",.") for line in say("".join(AIMS.findall(part)))]
                        slides.append(Slide("opening", title, opening, aims))
                        title, plain = "", ""
                if title not in SKIPPED:
                    said += re.split(r"\n\s*\n", plain)
                for found in QUESTION.finditer(part):
                    name = found[1].partition("\n")[0].strip() or "Question"
                    slides.append(Slide("question", name, say(found[2]), []))
    close()
    return slides


def _few(points: list[str], room: int = 360) -> list[str]:
    """Keep the first points that fit beside a picture, one at least; markup takes no room."""
    lengths = accumulate(len(re.sub(r"<math.*?</math>|<[^>]+>", "", line)) for line in points)
    return [
        line for k, (line, n) in enumerate(zip(points, lengths, strict=True)) if not k or n < room
    ]


def _sentences(block: str, titles: Mapping[str, str]) -> list[str]:
    """Sentences, list items and formulas of a piece of Markdown, one sentence a line, as HTML."""
    block = re.sub(r"\$\$(.+?)\$\$", lambda m: f"$${' '.join(m[1].split())}$$", block, flags=re.S)
    block = re.sub(r"^(\*\*[^*]+\*\*)\n(?=\S)", r"\1 ", block, flags=re.M)  # a run-in head
    lines = re.sub(r"\n +(?=\S)", " ", block).splitlines()
    kept = [
        line.strip() for line in lines if line.strip() and not re.match(r"[|#`<]|\(.*\)=$", line)
    ]
    return [_inline(re.sub(r"^(?:[-*]|\d+\.)\s+", "", line), titles) for line in kept]


def _inline(text: str, titles: Mapping[str, str]) -> str:
    """Turn one line into HTML: formulas become MathML, references words."""
    from latex2mathml.converter import convert

    def page(found: re.Match) -> str:
        return str(titles.get(found[1].rsplit("/", 1)[-1], found[1].rsplit("/", 1)[-1]))

    text = re.sub(r"\s*\{cite[:\w]*\}`[^`]*`", "", text)
    text = re.sub(r"\{numref\}`[^`]*`", "the figure", text)
    text = re.sub(r"\{doc\}`([^`<]*)`", page, text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", text)
    text = re.sub(r"\[\]\(#([^)]*)\)", lambda found: found[1].replace("-", " "), text)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    formulas = re.findall(r"\$\$?(.+?)\$\$?", text)
    text = re.sub(r"\$\$?.+?\$\$?", "\ue000", text)
    text = MarkdownIt().renderInline(text[:1].upper() + text[1:])
    for formula in formulas:
        text = text.replace("\ue000", convert(formula), 1)
    return text


def _figures(cell: nbformat.NotebookNode) -> list[tuple[str, str, str, str]]:
    """Name, picture, alternative text and caption of what a cell draws."""
    about = cell.metadata.get("mystnb", {})
    figure, alt = about.get("figure", {}), about.get("image", {}).get("alt", "")
    return [
        (figure.get("name", ""), "".join(output.data["image/png"]), alt, figure.get("caption", ""))
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def _tables(cell: nbformat.NotebookNode) -> list[str]:
    """Tables that a cell shows and a slide can hold."""
    shown = ["".join(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", [])]
    return [tidy_table(text) for text in shown if "<table" in text and _fits(text)]


def _fits(table: str, rows: int = 9, letters: int = 70) -> bool:
    """Tell whether a table has few rows, and few letters (five more a column) in each."""
    lines = re.findall(r"<tr.*?</tr>", table, re.S)
    widths = [5 * line.count("</t") + len(re.sub(r"<[^>]+>|\s{2,}", "", line)) for line in lines]
    return len(lines) <= rows and max(widths, default=0) <= letters


NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s?%?|–", re.I)


def tidy_table(markup: str) -> str:
    """Set the tables of an output as a book does.

    Parameters
    ----------
    markup
        HTML that pandas wrote.

    Returns
    -------
    str
        The same tables with numbers to the right under their heads (class ``num``), a dash for a
        missing number, the name of the index on the line of the column names, and without an
        unnamed index of row numbers. Long column names may break after an underscore.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(markup, "html.parser")
    for style in soup.select("style[scoped]"):
        style.decompose()
    for table in soup.select("table"):
        head, body = table.select("thead tr"), table.select("tbody tr")
        if not head or not body:
            continue
        counted = [[th.get_text() for th in row.select("th")] for row in body]
        blank = not head[0].select("th")[0].get_text(strip=True)
        if blank and len(head) == 2 and not head[0].select("[colspan]"):
            names = [th.get_text(strip=True) for th in head[1].select("th")]
            if not any(names[len(counted[0]) :]):
                for th, name in zip(head[0].select("th"), names[: len(counted[0])], strict=False):
                    th.string = name
                head.pop().decompose()
        elif blank and len(head) == 1 and all(len(c) == 1 and c[0].isdigit() for c in counted):
            for row in (*head, *body):
                row.select("th")[0].decompose()
        table["class"] = "dataframe"
        for th in (th for row in head for th in row.select("th") if len(th.get_text()) > 12):
            th.string = th.get_text().replace("_", "_\u200b")
        columns = list(zip(*(row.select("td") for row in body), strict=False))
        for th, column in zip(head[-1].select("th")[-len(columns) :], columns, strict=False):
            for cell in column:
                if cell.get_text(strip=True).lower() in {"nan", "none", "<na>"}:
                    cell.string = "–"
            numbers = [cell for cell in column if NUMBER.fullmatch(cell.get_text(strip=True))]
            for cell in (*numbers, *([th] if len(numbers) == len(column) else [])):
                cell["class"] = [*cell.get("class", []), "num"]
    return str(soup)


DECK = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{fonts}
:root {{ color-scheme: light; font-size: min(1.75vw, 3.1vh); scroll-snap-type: y proximity; }}
body {{ margin: 0; color: #14242e; background: #fff; counter-reset: slide;
  font-family: "Source Sans 3", "Segoe UI", Roboto, system-ui, sans-serif; line-height: 1.35; }}
section {{ min-height: 100vh; box-sizing: border-box; padding: 2.6rem 4rem 1.6rem; display: flex;
  flex-direction: column; scroll-snap-align: start; counter-increment: slide; }}
section.opening {{ background: #0b3954; color: #fff; }}
section.question {{ background: #fdf3e7; }}
h1, h2 {{ font-family: "Source Serif 4", Palatino, Georgia, serif; line-height: 1.15; margin: 0; }}
h1 {{ font-size: 3rem; }} h2 {{ font-size: 2rem; }} h3 {{ font-size: 1.1rem; margin: 0 0 .6rem; }}
.body {{ flex: 1; display: grid; gap: 2rem 3rem; align-content: center; align-items: center; }}
ul {{ margin: 0; padding-left: 1.2rem; max-width: 42rem; }} li {{ margin-bottom: .7rem; }}
section.opening ul, section.question .points {{ list-style: none; padding: 0; }}
.body:not(.two) .points, section.opening .points {{ font-size: 1.25rem; max-width: 46rem; }}
section.opening .aside {{ border-left: .2rem solid #f2a65a; padding-left: 1.6rem; }}
section.opening .aside ul {{ font-size: 1.05rem; }}
figure {{ margin: 0; text-align: center; }}
figure img {{ max-width: 100%; max-height: 62vh; }}
figcaption {{ font-size: .8rem; text-align: left; color: #3f4d58; }}
summary {{ cursor: pointer; font-weight: 600; }} details ul {{ margin-top: .6rem; }}
table {{ border-collapse: collapse; font-size: .85rem; }}
thead {{ border-bottom: 2px solid #0b3954; }}
table, th, td {{ border: 0; }} th, td {{ text-align: left; padding: .25rem .7rem; }}
.num {{ text-align: right; }}
code {{ font-size: .85em; }} math {{ font-size: 1.05em; }}
footer {{ font-size: .75rem; display: flex; justify-content: space-between; color: inherit; }}
footer::after {{ content: counter(slide); }}
@media (min-aspect-ratio: 1/1) {{ .two {{ grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }}
  .opening .two {{ grid-template-columns: 1fr 1fr; }} }}
@media (max-aspect-ratio: 1/1) {{ :root {{ font-size: 16px; }} section {{ padding: 1.4rem; }} }}
@media print {{ @page {{ size: 13.3in 7.5in; margin: 0; }} section {{ break-after: page; }} }}
</style></head><body>
{body}
<script>
const all = [...document.querySelectorAll("section")];
addEventListener("keydown", event => {{
  const step = {{ ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 }}[event.key];
  if (!step || event.target.closest("summary")) return;
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
    books = {p.stem: nbformat.read(p, 4) for p in _chapters(chapters, "[0-9][0-9]_*.ipynb")}
    titles = {stem: re.search(r"# (.+)", book.cells[0].source)[1] for stem, book in books.items()}  # type: ignore[index]
    written = []
    for name, (part, numbers) in PARTS.items():
        ours = [stem for stem in books if int(stem[:2]) in numbers]
        if ours:
            contents = [f"{int(stem[:2])} · {html.escape(titles[stem])}" for stem in ours]
            hint = ["Arrow keys or space move on.", "Print to PDF for a handout."]
            cut = [_section(Slide("opening", part, contents, hint), "sclin")]
            for stem, place in zip(ours, contents, strict=True):
                cut += [_section(slide, place) for slide in lecture(books[stem], titles=titles)]
            written.append(out / f"{name}.html")
            fonts = _fonts(chapters.parent / "_static" / "fonts")
            page = DECK.format(title=f"{part} · sclin", fonts=fonts, body="\n".join(cut))
            written[-1].write_text(page)
    return written


def _fonts(folder: Path) -> str:
    """Style rules that carry the typefaces of the book along, where they are."""
    files = {"Source Sans 3": "source-sans-3.woff2", "Source Serif 4": "source-serif-4.woff2"}
    face = '@font-face {{ font-family: "{}"; font-weight: 200 900; src: url("data:;base64,{}"); }}'
    return "\n".join(
        face.format(name, base64.b64encode((folder / file).read_bytes()).decode())
        for name, file in files.items()
        if (folder / file).exists()
    )


def _section(slide: Slide, place: str) -> str:
    """HTML of a slide; ``place`` is what its foot says."""

    def items(lines: list[str], kind: str = "points") -> str:
        return f'<ul class="{kind}">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'

    tag = "h1" if slide.kind == "opening" else "h2"
    body, beside = items(slide.points) if slide.points else "", slide.table
    if slide.figure:
        png, alt, caption = slide.figure
        beside = (
            f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{_one_line(png)}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    elif slide.kind == "opening" and slide.aside:
        aims = "<h3>By the end you can</h3>" if place != "sclin" else ""
        beside = f'<div class="aside">{aims}{items(slide.aside, "aims")}</div>'
    elif slide.aside:
        body += f"<details><summary>Answer</summary>{items(slide.aside[:6], 'answer')}</details>"
    return (
        f'<section class="{slide.kind}"><{tag}>{_inline(slide.title, {})}</{tag}>'
        f'<div class="body{" two" if beside else ""}">{body}{beside}</div>'
        f"<footer>{place}</footer></section>"
    )


def _one_line(png: str) -> str:
    return base64.b64encode(base64.b64decode(png)).decode()


KIT = ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "LICENSE-TEXT")
HOWTO = """sclin, the book and all that a course needs

book/index.html   the book; opens in any browser, without a network (search shows no excerpts)
slides/           one lecture for each part
student/          the chapters without their solutions
notebooks/, src/  the chapters as they are, and the package they use
data/             the packaged datasets

To run the student notebooks, install once per machine (this needs a network), in this folder:
  make setup
  .venv/bin/pip install jupyterlab     or use an editor of notebooks that you have
Then, without a network:
  export SCLIN_DATA="$PWD/data"
  .venv/bin/jupyter lab student

Every dataset by name (`.venv/bin/sclin data show NAME` says from where):
"""


def bundle(
    html_folder: Path,
    root: Path,
    decks: Path,
    out: Path,
    *,
    data: Iterable[Path] = (),
) -> Path:
    """Zip what a course needs without a network: pages, student copies, slides, data, package.

    Parameters
    ----------
    html_folder
        The built book.
    root
        The repository; its chapters and its package go along, and student copies are derived.
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
    from sclin import datasets

    if not (html_folder / "index.html").exists():
        raise InputError(f"no built book in {html_folder}; run `make book` first")
    names = "".join(f"  {name}\n" for name in sorted(datasets.catalogue()))
    sources = [*(root / name for name in KIT), *sorted((root / "notebooks").rglob("*"))]
    sources += [p for p in sorted((root / "src").rglob("*")) if "__pycache__" not in p.parts]
    files = {path: path.relative_to(root) for path in sources}
    files |= {
        path: "book" / path.relative_to(html_folder) for path in sorted(html_folder.rglob("*"))
    }
    files |= {path: Path("slides") / path.name for path in sorted(decks.glob("*.html"))}
    files |= {path: Path("data") / path.name for path in data}
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sclin/START-HERE.txt", HOWTO + names)
        for path in _chapters(root / "notebooks", "[0-9][0-9]_*.md"):
            copy_ = nbformat.writes(student_copy(jupytext.read(path)))
            archive.writestr(f"sclin/student/{path.stem}_student.ipynb", copy_)
        for path, place in files.items():
            if path.is_file():
                archive.write(path, Path("sclin") / place)
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
@click.option("--root", type=Path, default=Path(), help="the repository")
@click.option("--slides", "decks", type=Path, default=Path("_build/teaching/slides"))
@click.option("--out", type=Path, default=Path("_build/teaching/sclin-offline.zip"))
def _bundle(pages: Path, root: Path, decks: Path, out: Path) -> None:
    """Zip the built book, the student copies, the slides, the packaged data and the package."""
    click.echo(bundle(pages, root, decks, out, data=packaged_files()))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"Error: {error}") from error
