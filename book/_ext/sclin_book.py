"""What this book needs beyond Jupyter Book: static maths, generated passages, chapter facts.

- Maths becomes MathML while building, so a page needs no script and no network for it.
- Sentences are tested and numbers inserted, as `claims` says; what a flaw is worth, as
  `corrections` says.
- A fenced block ``{generated} name`` is replaced by what the function of that name returns; each of
  `PASSAGES` takes the root of the repository, and what else the block names.
- Every chapter gets a strip of facts, its downloads and the command that runs it again.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path

import api
import catalogue
import chapter_page
import chapters
import corrections
import costs
import explorer
import front
import page_tables
import paper
import papers
import pybtex.plugin
import reproduced
import speed
from docutils import nodes
from joblib import cpu_count
from latex2mathml.converter import convert
from sphinx.application import Sphinx

from sclin.notebooks import PACKAGE, claims

PASSAGES = {
    passage.__name__: passage
    for passage in (
        front.front_figure,
        front.verdicts,
        front.findings,
        page_tables.profile,
        chapters.chapters,
        chapters.evidence,
        chapters.outcomes,
        chapters.marking,
        chapters.status,
        chapters.tested,
        chapters.versions,
        catalogue.datasets,
        catalogue.models,
        corrections.worst,
        corrections.all_flaws,
        costs.costs,
        explorer.depths,
        paper.paper_parts,
        papers.claims_summary,
        papers.claims_table,
        reproduced.published_numbers,
        speed.speed_machine,
        speed.speed_losses,
        speed.speed_aims,
        speed.speed_seconds,
        speed.speed_peers,
        speed.speed_memory,
        speed.speed_limits,
        speed.speed_gpu,
        speed.speed_plan,
        api.api,
    )
}

# Reference lists are no lists of list items; a box that scrolls must be reached by keyboard.
BODY = {
    'role="list" class="citation-list"': 'class="citation-list"',
    '<div class="scroll': '<div tabindex="0" class="scroll',
    '<div class="output text_html">': '<div tabindex="0" class="output text_html">',
}
# What one build has worked out: texts of pages with blocks, and the pages that it reads.
FILLED: dict[str, str] = {}
READ: set[str] = set()
API = "{generated} api"
BLOCK = re.compile(r"^```\{generated\} (\w+)(?: (.+))?\n```$", re.MULTILINE)


def _mathml(latex: str, display: str) -> str:
    markup = convert(latex.strip(), display=display)
    return markup.replace("<math ", f'<math alttext="{html.escape(latex.strip())}" ', 1)


def visit_math(self, node: nodes.math) -> None:
    """Write inline maths as MathML."""
    self.body.append(_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_math_block(self, node: nodes.math_block) -> None:
    """Write display maths as MathML, with its number and anchor where it has one."""
    self.body.append(self.starttag(node, "div", CLASS="math-block", TABINDEX="0"))
    self.body.append(_mathml(node.astext().strip("$ \n"), "block"))
    if node.get("number"):
        self.body.append(f'<span class="eqno">({node["number"]})</span>')
    self.body.append("</div>\n")
    raise nodes.SkipNode


def read_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill generated blocks in, and give each chapter its facts."""
    root = Path(app.srcdir)
    if docname.startswith("book/chapters/"):
        notebook, stem = json.loads(source[0]), docname.rsplit("/", 1)[1]
        told = claims.settle_notebook(notebook, page_tables.rows_of(root, stem))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = fill(root, "".join(cell["source"]))
        chapter_page.join_prints(notebook)
        chapter_page.part_figures(notebook)
        chapter_page.set_tables(root, notebook)
        chapter_page.add_facts(root, stem, notebook, told)
        source[0] = json.dumps(notebook)
        return
    if BLOCK.search(source[0]) or claims.ROLE.search(source[0]):
        text, source[0] = source[0], FILLED.pop(docname, None) or fill(root, source[0])
        app.env.metadata[docname]["generated"] = stamp(text, source[0])


def fill(root: Path, text: str) -> str:
    """Replace each generated block by what its function returns, and settle the page's claims."""
    if claims.ROLE.search(text):
        text = claims.settle(text, page_tables.rows_of(root))
    text = corrections.settle(root, text)
    return BLOCK.sub(lambda match: PASSAGES[match[1]](root, *(match[2] or "").split()), text)


def digest(text: str) -> str:
    """Return a short name for a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def stamp(text: str, filled: str) -> str:
    """Return a name for what a page shows.

    Sphinx watches the modules of an API page, which take long to load; new ones it cannot know.
    """
    return digest(str(sorted(PACKAGE.rglob("*.py"))) if API in text else filled)


def outdated(app: Sphinx, env, added: set, changed: set, removed: set) -> list[str]:
    """Name the pages whose generated blocks have changed: what they show may lie in any table."""
    stale = []
    for name in env.found_docs - added - changed:
        if old := env.metadata.get(name, {}).get("generated"):
            text = Path(env.doc2path(name)).read_text("utf-8")
            if API not in text:
                FILLED[name] = fill(Path(app.srcdir), text)
            if stamp(text, FILLED.get(name, "")) != old:
                stale.append(name)
    return stale


def remember(app: Sphinx, env, docnames: list[str]) -> None:
    """Keep in mind which pages this build reads."""
    READ.update(docnames)


def mend_docstring(app: Sphinx, what, name, thing, options, lines: list[str]) -> None:
    """Keep numbered references of many docstrings apart, and names that end in an underscore."""
    for index, line in enumerate(lines):
        line = re.sub(r"^(\s*)\.\. \[(\d+)\] ", r"\1| \2. ", line)
        line = re.sub(r"\s?\[(\d+)\]_", r" [\1]", line)
        lines[index] = re.sub(r"(?<![`\w:])(\w+\w)_(?![\w`:])", r"``\1_``", line)


def skip_member(app: Sphinx, what, name: str, thing, skip: bool, options) -> bool | None:
    """Leave out what other packages add to our classes."""
    routing = re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    alias = (getattr(thing, "__doc__", None) or "").startswith("Alias for field number")
    return True if routing or alias else None


def mend_page(app: Sphinx, pagename: str, template: str, context: dict, doctree) -> None:
    """Mend the markup of a page, and drop scripts that nothing uses."""
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script
        for script in scripts
        if "thebe" not in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
    ]
    body = context.get("body", "")
    for before, after in BODY.items():
        body = body.replace(before, after)
    if body:
        context["body"] = body


def set_colours(app: Sphinx, error: Exception | None) -> None:
    """Give pages that no script colours the light colours; "auto" would leave them black."""
    if error or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text()
        if (light := text.replace('data-theme="auto"', 'data-theme="light"', 1)) != text:
            path.write_text(light)


def write_downloads(app: Sphinx, error: Exception | None) -> None:
    """Put the notebook, the student copy and the script of each new chapter beside the pages."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / "downloads"
    folder.mkdir(exist_ok=True)
    for name in sorted(app.env.found_docs):
        stem, executed = name.rsplit("/", 1)[-1], Path(app.env.doc2path(name))
        there = (folder / f"{stem}_student.ipynb").exists()
        if name.startswith("book/chapters/") and not (there and name not in READ):
            chapter_page.write_downloads(Path(app.srcdir), stem, executed, folder)


def prepare(app: Sphinx) -> None:
    """Draw the front figure from the results at hand, and let all cores read and write pages."""
    front.draw(Path(app.srcdir))
    app.parallel = cpu_count()  # jupyter-book has no option for it
    for extension in app.extensions.values():  # two small ones do not say that they may
        if getattr(extension, "parallel_read_safe", None) is None:
            extension.parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, object]:
    """Register everything with Sphinx."""
    # Asked anew for each citation, what is installed takes seconds.
    pybtex.plugin.entry_points = cache(pybtex.plugin.entry_points)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", prepare)
    app.connect("autodoc-process-docstring", mend_docstring, priority=600)  # after napoleon
    app.connect("autodoc-skip-member", skip_member)
    app.connect("source-read", read_source)
    app.connect("env-get-outdated", outdated)
    app.connect("env-before-read-docs", remember)
    app.connect("html-page-context", mend_page, priority=900)
    app.connect("build-finished", write_downloads)
    app.connect("build-finished", set_colours)
    # Pages are read anew where what makes them has changed.
    made_by = "".join(path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.*")))
    safe = {"parallel_read_safe": True, "parallel_write_safe": True}
    return {"version": "1", "env_version": digest(made_by), **safe}
