"""What chapter 17 found about the claims of the two papers, as sentences and as a table."""

from __future__ import annotations

from pathlib import Path

import page_tables
import pandas as pd

from sclin import published

CHAPTER = "17_claims"
PAPERS = {"souza2026": "Souza and Mehta", "civale2026": "Civale et al."}
#: Task, metric and name of the scores for which the layer was chosen on other data sets.
CHOSEN = (
    ("trajectory", "Pseudotime_Corr", "trajectory"),
    ("perturbation", "correlation", "perturbation"),
    ("cell_types", "F1_macro", "cell type"),
)


def _rows(root: Path) -> pd.DataFrame | None:
    results = page_tables.results(root)
    ours = (
        None
        if results is None
        else page_tables.where(results, chapter=CHAPTER, source="reproduced")
    )
    return ours if ours is not None and len(ours) else None


def claims_summary(root: Path, link: str = "") -> str:
    """Count the claims, and answer the second paper's question with its own numbers.

    Parameters
    ----------
    root
        The repository.
    link
        Any word makes it an item of a list, and its count a link to the chapter.
    """
    if (rows := _rows(root)) is None:
        return ""
    counts = page_tables.where(rows, task="claims", metric="count", split="both")
    number = counts.set_index("variant")["value"].astype(int)
    what = f"{number.sum()} claims of the two papers"
    what = f"[{what}](chapters/{CHAPTER})" if link else what
    wins = [
        f"{found['wins'].sum():.0f} of {found.sum().sum():.0f} {name} curves"
        for task, metric, name in CHOSEN
        if len(found := _outcomes(rows, task, metric))
    ]
    curves = page_tables.where(rows, task="claims", metric="curves").set_index("variant")
    jitter, walk = curves.loc["beyond jitter"], curves.loc["beyond walk"]
    sentences = (
        f"**The papers' own numbers.** Of {what}, tested on the numbers they published, "
        f"{number['stands']} stand, {number['falls']} fall and {number['cannot be told']} "
        "cannot be told.",
        "By the second paper's numbers, a layer chosen on the other data sets scores above the "
        f"last one on {', '.join(wins[:-1])} and {wins[-1]}.",
        f"The gain of the best layer exceeds independent noise on {jitter['value']:.0f} of "
        f"{jitter['n']:.0f} curves, and a random walk through the layers on "
        f"{walk['value']:.0f}.",
    )
    return f"- {' '.join(sentences)}" if link else "\n".join(sentences)


def _outcomes(rows: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Wins, ties and losses of each model, for a score over all data sets."""
    found = page_tables.where(rows, task=task, metric=metric, dataset="all")
    found = found[found["variant"].isin(["wins", "ties", "losses"])]
    return found.pivot(index="representation", columns="variant", values="value")


def claims_table(root: Path) -> str:
    """List every claim with what the published numbers say of it."""
    if (rows := _rows(root)) is None:
        return ""
    rows = page_tables.where(rows, task="claims")
    by_metric = {metric: part.set_index("variant") for metric, part in rows.groupby("metric")}
    lines = []
    for claim in published.table("claims").itertuples():
        found, p = by_metric["effect"].loc[claim.claim], by_metric["p"].loc[claim.claim, "value"]
        word, _, certainty = found["note"].partition("; ")
        value = page_tables.interval(found, 3) if pd.notna(found["value"]) else "–"
        value += f"<br>p = {p:.1g}" if pd.notna(p) else ""
        outcome = word if word == "cannot be told" else f"**{word}**"
        lines.append(
            [
                f"{claim.text}<br>*{PAPERS[claim.paper]}, {claim.where}*",
                outcome,
                f"{claim.measured}<br>{value}",
                f"{found['n']:.0f}<br>{claim.unit}",
                certainty,
            ]
        )
    head = ["Claim", "Outcome", "What is measured", "n", "Certainty of the numbers"]
    return page_tables.markdown(lines, head, "claims")
