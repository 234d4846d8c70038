"""Results tables, and how the pages of the book set a table; the other modules here build on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
from bs4 import BeautifulSoup

from sclin import results as tidy_results
from sclin.notebooks import claims

PROFILES = {
    "offline": "real cells out of Python wheels, and simulated cells with known truth",
    "public": "small public files besides the packaged and the simulated cells",
    "paper": "the data of the two papers",
    "test": "tiny sizes, so its numbers mean nothing",
}
NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s?%?|–", re.I)


def executed(root: Path, stem: str) -> dict:
    """Metadata of an executed chapter."""
    path = root / "book" / "chapters" / f"{stem}.ipynb"
    return json.loads(path.read_text())["metadata"] if path.exists() else {}


def profile_of(root: Path) -> str:
    """Profile of the executed chapters that lie beside the pages; offline before the first run."""
    stems = [path.stem for path in sorted((root / "book" / "chapters").glob("*.ipynb"))]
    runs = (executed(root, stem).get("sclin_run", {}) for stem in stems)
    return next((run["profile"] for run in runs if run.get("profile")), "offline")


def profile(root: Path) -> str:
    """Name the profile whose numbers the pages show."""
    name = profile_of(root)
    return (
        f":::{{div}} profile\nThe numbers on these pages come from the profile **{name}**: "
        f"{PROFILES.get(name, 'parameters of your own')}.\n:::"
    )


def results(root: Path) -> pd.DataFrame | None:
    """Rows of the build at hand, or the frozen ones, with the chapter that wrote each.

    None when no chapter has been run.
    """
    found = rows_of(root)
    return None if found is None else found.rows


def rows_of(root: Path, stem: str | None = None) -> claims.Rows | None:
    """Rows that the sentences of a chapter, or of a page, rest on; None before the first run."""
    name = profile_of(root)
    folders = [root / "_build" / "results" / name, root / "results" / name]
    built = next((folder for folder in folders if any(folder.glob("*.csv"))), None)
    if built is None:
        return None
    return _rows(built, max(path.stat().st_mtime_ns for path in built.glob("*.csv")), stem)


@cache
def _rows(folder: Path, stamp: int, stem: str | None) -> claims.Rows | None:
    """Rows of a folder, read again when a table of it is newer."""
    if stem is None:
        return claims.Rows(tidy_results.load(folder))
    found = _rows(folder, stamp, None).rows
    found = found[found["chapter"].eq(stem)]
    return None if found.empty else claims.Rows(found)


def where(rows: pd.DataFrame, **keys: str) -> pd.DataFrame:
    """Rows whose key columns hold these values."""
    for column, value in keys.items():
        rows = rows[rows[column] == value]
    return rows


def markdown(rows: Iterable[Sequence[object]], head: Sequence[str], klass: str = "") -> str:
    """Write a Markdown table inside a box that scrolls on a narrow screen."""

    def line(cells: Iterable[object]) -> str:
        texts = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        return f"| {' | '.join(texts)} |"

    lines = [line(head), "|" + " --- |" * len(head), *map(line, rows)]
    return f":::{{div}} scroll {klass}".rstrip() + "\n" + "\n".join(lines) + "\n:::"


def interval(row: pd.Series, digits: int = 2) -> str:
    """Write a value in bold, with its interval where it has one."""
    ends = f" [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]"
    return f"**{row['value']:.{digits}f}**" + (ends if pd.notna(row["ci_low"]) else "")


def tidy(markup: str) -> str:
    """Set the tables that pandas wrote as a book does.

    Numbers stand to the right under their heads (class ``num``), a missing number is a dash, the
    name of the index stands on the line of the column names, an unnamed index of row numbers goes,
    and long column names may break after an underscore.
    """
    soup = BeautifulSoup(markup, "html.parser")
    for style in soup.select("style[scoped]"):
        style.decompose()
    for table in soup.select("table"):
        head, body = table.select("thead tr"), table.select("tbody tr")
        if not head or not body:
            continue
        counted = [[th.get_text() for th in row.select("th")] for row in body]
        first = head[0].select("th")
        blank = not first[0].get_text(strip=True)
        if blank and len(head) == 2 and not head[0].select("[colspan]"):
            names = [th.get_text(strip=True) for th in head[1].select("th")]
            if not any(names[len(counted[0]) :]):
                for th, name in zip(first, names[: len(counted[0])], strict=False):
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
