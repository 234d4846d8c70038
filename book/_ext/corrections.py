"""What each flaw of the reference code is worth: the rows of chapter 18, one pair a flaw."""

from __future__ import annotations

import re
from pathlib import Path

import page_tables
import pandas as pd
from scoreboard import filterable

from sclin.results import COLUMNS

CHAPTER = "18_flaws"
MARK = "flaw="
#: Metrics that describe a flaw and not a score; one of their sides is fixed by definition.
OWN = ("share_", "drift_", "difference_with_itself")
NAME = re.compile(r"^([A-Z]\d+) · (.+)$", re.M)
ROLE = re.compile(r"\{measured\}`(\w+)`")
LATER = f"{{doc}}`chapters/{CHAPTER}` was not run in this profile."
SAME = ["variant", "task", "dataset", "representation", "head", "metric", "source"]
MOST = 10


def names(root: Path) -> dict[str, str]:
    """One line on each flaw by its letter, as the page has them."""
    return dict(NAME.findall((root / "book" / "corrections.md").read_text()))


def flaws(root: Path) -> pd.DataFrame:
    """Every flaw that was measured: both protocols of one key, and their difference.

    Sorted by the size of the difference; empty when chapter 18 was not run.
    """
    rows = page_tables.results(root)
    rows = pd.DataFrame(columns=["chapter", *COLUMNS], dtype=str) if rows is None else rows
    rows = rows[rows["chapter"].eq(CHAPTER) & rows["variant"].str.startswith(MARK)]
    gaps = rows[rows["metric"].str.endswith("_difference")]
    gaps = gaps.assign(metric=gaps["metric"].str.removesuffix("_difference"))
    sides = rows.pivot(index=SAME, columns="protocol", values="value")
    found = gaps.drop(columns="protocol").merge(sides, on=SAME, validate="one_to_one")
    found["flaw"] = found["variant"].str.removeprefix(MARK)
    found["data"] = "real"
    found.loc[found["dataset"].str.startswith("sim"), "data"] = "simulated"
    found.loc[found["source"].eq("published"), "data"] = "published"
    found["own"] = found["metric"].str.startswith(OWN)
    return found.sort_values("value", key=abs, ascending=False, kind="stable")


def _three(value: float, sign: str = "") -> str:
    """Three digits, and no sign before nothing."""
    return f"{0 if abs(value) < 1e-9 else value:{sign}.3f}".replace("+0.000", "0.000")


def _difference(row: pd.Series) -> str:
    gap, low, high = (_three(row[c], "+") for c in ("value", "ci_low", "ci_high"))
    return f"{gap} [{low}, {high}]"


def _metric(row: pd.Series) -> str:
    return row["metric"].replace("_", " ").replace("f1 macro", "macro F1")


def _how(row: pd.Series) -> str:
    return ", ".join(filter(None, (row["dataset"], row["representation"], row["head"])))


def settle(root: Path, text: str) -> str:
    """Replace each ``{measured}`LETTER` `` by a line on what the flaw was worth."""
    if not ROLE.search(text):
        return text
    found = flaws(root).set_index("flaw")
    return ROLE.sub(
        lambda role: _told(found.loc[role[1]]) if role[1] in found.index else LATER, text
    )


def _told(row: pd.Series) -> str:
    data = "published numbers" if row["data"] == "published" else f"{row['data']} data"
    metric = _metric(row)
    return (
        f"{metric[:1].upper()}{metric[1:]} {_three(row['as_published'])} as published, "
        f"{_three(row['corrected'])} corrected, difference {_difference(row)}; "
        f"n = {row['n']:.0f} ({row['unit']}); {data} ({_how(row)})."
    )


def worst(root: Path) -> str:
    """List the flaws that move a score most."""
    found = flaws(root)
    found = found[~found["own"]].head(MOST)
    if found.empty:
        return LATER
    called = names(root)
    head = ["Flaw", "", "Difference", "As published", "Corrected", "Metric", "n", "Data"]
    lines = [
        [
            f"**{row['flaw']}**",
            called[row["flaw"]],
            _difference(row),
            _three(row["as_published"]),
            _three(row["corrected"]),
            _metric(row),
            f"{row['n']:.0f} ({row['unit']})",
            row["data"],
        ]
        for _, row in found.iterrows()
    ]
    return page_tables.markdown(lines, head)


def all_flaws(root: Path) -> str:
    """Every flaw that was measured, in a table that one can filter."""
    found, called = flaws(root), names(root)
    if found.empty:
        return ""
    shown = pd.DataFrame({
        "flaw": found["flaw"],
        "name": found["flaw"].map(called),
        "metric": found.apply(_metric, axis=1),
        "as published": found["as_published"].map(_three),
        "corrected": found["corrected"].map(_three),
        "difference": found.apply(_difference, axis=1),
        "n": found["n"].map("{:.0f}".format),
        "unit": found["unit"],
        "data": found["data"],
        "cells, representation, head": found.apply(_how, axis=1),
        "chapter": CHAPTER,
    })  # fmt: skip
    page = filterable(
        shown.to_html(index=False),
        caption="Every flaw measured, by the size of its difference",
        choices=["data"],
        links={CHAPTER: f"chapters/{CHAPTER}.html"},
    )
    return f"```{{raw}} html\n{page}\n```"
