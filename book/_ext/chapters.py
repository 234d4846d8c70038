"""The chapters: their order, what each teaches and costs, and how its last run went."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import jupytext
import page_tables
import yaml
from exercises import AIMS, DIRECTIVE, QUESTION

from sclin.notebooks import claims

PACKAGES = (
    "sclin", "numpy", "scipy", "pandas", "scikit-learn", "scanpy", "anndata", "numba", "torch",
    "papermill", "jupyter-book", "sphinx",
)  # fmt: skip

#: What figures and tables can stand on.
WHAT = {"real": "cells", "published": "numbers", "simulated": "cells"}


def toc(root: Path) -> list[tuple[str, list[str]]]:
    """Give the parts of the book, each with the stems of its chapters."""
    read = yaml.safe_load((root / "_toc.yml").read_text())
    return [
        (part["caption"], [Path(chapter["file"]).name for chapter in part["chapters"]])
        for part in read["parts"]
        if part["chapters"][0]["file"].startswith("book/chapters/")
    ]


def front_matter(root: Path, stem: str) -> dict:
    """Read what a chapter says about itself: minutes, memory, device, data."""
    path = root / "notebooks" / f"{stem}.md"
    if not path.exists():
        return {}
    match = re.match(r"---\n(.*?)\n---\n", path.read_text(), re.S)
    return (yaml.safe_load(match[1]) or {}).get("sclin", {}) if match else {}


def title(root: Path, stem: str) -> str:
    """Title of a chapter, or what its file name says."""
    path = root / "notebooks" / f"{stem}.md"
    match = re.search(r"^# (.+)$", path.read_text(), re.M) if path.exists() else None
    return match[1].strip() if match else stem[3:].replace("_", " ").capitalize()


def evidence(root: Path) -> str:
    """Count what the figures and tables of the executed chapters stand on."""
    rows, whole = [], Counter()
    for _, stems in toc(root):
        for stem in stems:
            path = root / "book" / "chapters" / f"{stem}.ipynb"
            found: Counter = Counter()
            for cell, stands_on in (
                claims.marks(json.loads(path.read_text())) if path.exists() else ()
            ):
                tables_of = str([output.get("data", {}) for output in cell.get("outputs", [])])
                shown = tables_of.count("<table") + ("figure" in cell["metadata"].get("mystnb", {}))
                found.update(dict.fromkeys(set(stands_on.values()), shown))
            whole += found
            link = f"[{title(root, stem)}](/book/chapters/{stem})"
            rows.append([link, *(found[kind] or "–" for kind in WHAT)])
    said = ", ".join(f"{whole[kind]} on {kind} {what}" for kind, what in WHAT.items())
    head = ["Chapter", "real cells", "published numbers", "simulated cells"]
    table = page_tables.markdown(rows, head)
    return f"Of the figures and tables of this build stand {said}.\n\n{table}\n"


def chapters(root: Path) -> str:
    """List every chapter with what it costs to run."""
    rows = []
    for caption, stems in toc(root):
        for stem in stems:
            facts = front_matter(root, stem)
            rows.append(
                [
                    caption.split(" · ")[0],
                    f"[{title(root, stem)}](chapters/{stem})",
                    facts.get("minutes", "?"),
                    facts.get("memory_gb", "?"),
                    facts.get("device", "?"),
                    ", ".join(f"`{name}`" for name in facts.get("data", [])) or "none",
                ]
            )
    return page_tables.markdown(
        rows, ["Part", "Chapter", "Minutes", "Memory (GB)", "Device", "Data"], "chapters"
    )


def outcomes(root: Path) -> str:
    """List what each chapter teaches and which exercises show it, taken from the chapters."""
    rows = []
    for stem, text in _sources(root):
        aims = "".join(AIMS.findall(text))
        items = re.findall(r"^- (.+(?:\n  .+)*)", aims, re.M)
        labels = re.findall(r"^:label: (ex-\S+)", text, re.M)
        rows.append(
            [
                f"[{title(root, stem)}](chapters/{stem})",
                "<br>".join(re.sub(r"\s+", " ", item).rstrip(",.") for item in items),
                "<br>".join(f"{{ref}}`{label}`" for label in labels),
            ]
        )
    return page_tables.markdown(rows, ["Chapter", "Students can", "Shown by"], "outcomes")


def marking(root: Path) -> str:
    """List every exercise with what a full answer says, in the words of its solution."""
    rows = []
    for _, text in _sources(root):
        solutions = {
            found[1]: DIRECTIVE.sub("", found[2])
            for found in re.finditer(
                r"\{solution-start\} (\S+)\n.*?^```\n(.*?)^```\{solution-end\}", text, re.M | re.S
            )
        }
        for head, question in QUESTION.findall(text):
            label = head.partition(":label:")[2].split()[0]
            told = (question, solutions.get(label, ""))
            rows.append([f"{{ref}}`{label}`", *(" ".join(part.split()) for part in told)])
    text = page_tables.markdown(rows, ["Exercise", "Question", "A full answer says"], "marking")
    return re.sub(r"(\{doc\}`)(?=\d\d_)", r"\1chapters/", text)


def _sources(root: Path) -> list[tuple[str, str]]:
    """Stem and settled text of every chapter that is there, in the order of the book."""
    stems = [stem for _, stems in toc(root) for stem in stems]
    paths = {stem: root / "notebooks" / f"{stem}.md" for stem in stems}
    return [
        (stem, claims.settle(path.read_text(), page_tables.rows_of(root, stem), plain=True))
        for stem, path in paths.items()
        if path.exists()
    ]


def tested(root: Path) -> str:
    """Table how many sentences of each chapter are tested, and how many hold on these rows."""
    lines = []
    for stem in (stem for _, stems in toc(root) for stem in stems):
        path, rows = root / "notebooks" / f"{stem}.md", page_tables.rows_of(root, stem)
        if path.exists() and rows is not None:
            told = claims.settle_notebook(jupytext.read(path), rows)
            numbers = [told["hold"] + told["fail"], told["hold"], told["fail"], told["left out"]]
            lines.append([f"[{title(root, stem)}](chapters/{stem})", *numbers])
    return page_tables.markdown(lines, ["Chapter", "Tested", "Hold", "Do not hold", "Left out"])


def status(root: Path) -> str:
    """Tell how long, on what and with which parameters each chapter was run."""
    rows = []
    for _, stems in toc(root):
        for stem in stems:
            run = page_tables.executed(root, stem).get("sclin_run", {})
            used = run.get("versions", {})
            rows.append(
                [
                    f"[{title(root, stem)}](chapters/{stem})",
                    f"{run['seconds']:.0f}" if run else "not run",
                    front_matter(root, stem).get("minutes", "?"),
                    run.get("profile", "–"),
                    run.get("device", "–"),
                    f"sclin {used.get('sclin', '–')}, python {used.get('python', '–')}",
                ]
            )
    head = ["Chapter", "Seconds", "Promised minutes", "Profile", "Device", "Versions"]
    return page_tables.markdown(rows, head)


def versions(root: Path) -> str:
    """Name the versions that this build of the pages uses."""
    rows = [["python", python_version()]]
    for name in PACKAGES:
        try:
            rows.append([name, version(name)])
        except PackageNotFoundError:
            rows.append([name, "not installed"])
    return page_tables.markdown(rows, ["Package", "Version"])
