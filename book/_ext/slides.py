"""Lectures: one slide deck for each part of the book, cut from the executed chapters."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import exercises
import jinja2
import nbformat
import page_tables
from exercises import AIMS, DIRECTIVE, FENCE, QUESTION
from latex2mathml.converter import convert
from markdown_it import MarkdownIt

from sclin.notebooks import claims

PARTS = {
    "first_steps": ("First steps", range(1, 5)),
    "benchmarks": ("Benchmarks", range(5, 11)),
    "inside_the_models": ("Inside the models", range(11, 15)),
    "yours": ("Yours", range(15, 17)),
    "the_papers_tested": ("The papers, tested", range(17, 19)),
}
SKIPPED = {"References", "Provenance", "Parameters", "Where things are"}
FONTS = {"Source Sans 3": "source-sans-3.woff2", "Source Serif 4": "source-serif-4.woff2"}
FACE = '@font-face {{ font-family: "{}"; font-weight: 200 900; src: url("data:;base64,{}"); }}'


class Slide(NamedTuple):
    """One slide of a lecture; its sentences are HTML.

    ``kind`` is ``opening``, ``content`` or ``question``. ``aside`` holds the aims of an opening and
    the answer of a question; ``figure`` a ``name``, a ``png`` in base64, ``alt`` and ``caption``;
    ``place`` is what its foot says.
    """

    kind: str
    title: str
    points: list[str]
    aside: list[str]
    figure: dict[str, str] | None = None
    table: str = ""
    place: str = ""


class Section:
    """A section of a chapter while it is read: what is said, drawn and tabled in it."""

    def __init__(self, title: str, titles: Mapping[str, str]) -> None:
        self.title, self.titles = title, titles
        self.said: list[str] = []
        self.drawn: list[dict[str, str]] = []
        self.tables: list[str] = []

    def slides(self) -> list[Slide]:
        """Each figure beside the sentences that refer to it; without figures, the first ones."""
        texts = [(block, _sentences(block, self.titles)) for block in self.said]
        most = 1 if sum(bool(lines) for _, lines in texts) > 3 else 2
        points = [
            line
            for block, lines in texts
            for line in lines[: 6 if block.lstrip().startswith(("-", "1.")) else most]
        ][:6]
        title = inline(self.title, {})
        made = []
        for k, figure in enumerate(self.drawn):
            about = [
                line for block, lines in texts if f"`{figure['name']}`" in block for line in lines
            ]
            if k == 0 and len(about) < 3:
                about = list(dict.fromkeys([*points[:1], *about]))
            caption = " ".join(_sentences(figure["caption"], self.titles))
            shown = {**figure, "caption": caption}
            made.append(Slide("content", title, _few(about), [], shown))
        if points and self.title and not self.drawn:
            points = _few(points, room=360 if self.tables else 700)
            made.append(Slide("content", title, points, [], table="".join(self.tables[:1])))
        return made


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
        The title with the aims; the sections; the questions with their answers.
    """
    titles = titles or {}
    slides: list[Slide] = []
    section = Section("", titles)
    for index, text, solution in exercises.pieces(notebook):
        cell = notebook.cells[index]
        if cell.cell_type == "code":
            if not solution and section.title not in SKIPPED:
                section.drawn += _figures(cell)
                section.tables += _tables(cell)
        elif solution:
            slides[-1].aside.extend(_sentences(DIRECTIVE.sub("", text), titles))
        elif not FENCE.match(text):
            for part in re.split(r"^(?=#{1,2} )", text, flags=re.M):
                plain = DIRECTIVE.sub("", QUESTION.sub("", part)).strip()
                if heading := re.match(r"(#{1,2}) (.+)", part):
                    slides += section.slides()
                    section = Section(heading[2].strip(), titles)
                    plain = plain[heading.end() :].strip()
                    if heading[1] == "#":
                        slides.append(_opening(section.title, plain, part, titles))
                        section, plain = Section("", titles), ""
                if section.title not in SKIPPED:
                    section.said += re.split(r"\n\s*\n", plain)
                slides += [_question(found, titles) for found in QUESTION.finditer(part)]
    return [*slides, *section.slides()]


def _opening(title: str, plain: str, part: str, titles: Mapping[str, str]) -> Slide:
    aims = [line.rstrip(",.") for line in _sentences("".join(AIMS.findall(part)), titles)]
    return Slide("opening", inline(title, {}), _sentences(plain.partition("\n\n")[0], titles), aims)


def _question(found: re.Match, titles: Mapping[str, str]) -> Slide:
    name = found[1].partition("\n")[0].strip() or "Question"
    return Slide("question", inline(name, {}), _sentences(found[2], titles), [])


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
    return [inline(re.sub(r"^(?:[-*]|\d+\.)\s+", "", line), titles) for line in kept]


def inline(text: str, titles: Mapping[str, str]) -> str:
    """Turn one line into HTML: formulas become MathML, references words."""

    def page(found: re.Match) -> str:
        name = found[1].rsplit("/", 1)[-1]
        return str(titles.get(name, name))

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


def _figures(cell: nbformat.NotebookNode) -> list[dict[str, str]]:
    """Pictures that a cell draws, with what is known of them."""
    about = cell.metadata.get("mystnb", {})
    figure, alt = about.get("figure", {}), about.get("image", {}).get("alt", "")
    named = {"name": figure.get("name", ""), "alt": alt, "caption": figure.get("caption", "")}
    return [
        {**named, "png": "".join("".join(output.data["image/png"]).split())}
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def _tables(cell: nbformat.NotebookNode) -> list[str]:
    """Tables that a cell shows and a slide can hold."""
    shown = ["".join(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", [])]
    return [page_tables.tidy(text) for text in shown if "<table" in text and _fits(text)]


def _fits(table: str, rows: int = 9, letters: int = 70) -> bool:
    """Tell whether a table has few rows, and few letters (five more a column) in each."""
    lines = re.findall(r"<tr.*?</tr>", table, re.S)
    widths = [5 * line.count("</t") + len(re.sub(r"<[^>]+>|\s{2,}", "", line)) for line in lines]
    return len(lines) <= rows and max(widths, default=0) <= letters


def write_decks(folder: Path, out: Path) -> list[Path]:
    """Write one deck for each part of the book: one HTML file, nothing to install or fetch."""
    out.mkdir(parents=True, exist_ok=True)
    books = {
        path.stem: nbformat.read(path, 4)
        for path in exercises.chapters(folder, "[0-9][0-9]_*.ipynb")
    }
    for stem, book in books.items():
        claims.settle_notebook(book, page_tables.rows_of(folder.parents[1], stem), plain=True)
    titles = {
        stem: book.cells[0].source.partition("\n")[0].removeprefix("# ")
        for stem, book in books.items()
    }
    typefaces = folder.parent / "_static" / "fonts"
    fonts = "\n".join(
        FACE.format(name, base64.b64encode((typefaces / file).read_bytes()).decode())
        for name, file in FONTS.items()
        if (typefaces / file).exists()
    )
    template = jinja2.Template((Path(__file__).parent / "deck.html.j2").read_text())
    written = []
    for name, (part, numbers) in PARTS.items():
        ours = [stem for stem in books if int(stem[:2]) in numbers]
        if ours:
            contents = [f"{int(stem[:2])} · {inline(titles[stem], {})}" for stem in ours]
            hint = ["Arrow keys or space move on.", "Print to PDF for a handout."]
            slides = [Slide("opening", part, contents, hint, place="sclin")]
            for stem, place in zip(ours, contents, strict=True):
                cut = lecture(books[stem], titles=titles)
                slides += [slide._replace(place=place) for slide in cut]
            written.append(out / f"{name}.html")
            page = template.render(title=f"{part} · sclin", fonts=fonts, slides=slides)
            written[-1].write_text(page, encoding="utf-8")
    return written
