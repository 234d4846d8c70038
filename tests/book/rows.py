"""Small results tables for the tests of the pages."""

from __future__ import annotations

from pathlib import Path

from sclin import results

USUAL = {"task": "cell_types", "dataset": "baron_human", "head": "logistic", "split": "pooled"}


def row(representation: str = "rank_pca", value: float = 0.5, **more: object) -> dict:
    """A row of chapter 05, and what differs from it."""
    fields = {**USUAL, "metric": "f1_macro", "profile": "offline", **more}
    return results.row(representation=representation, value=value, **fields)


def versus(a: str, b: str, difference: float, low: float, high: float, p: float, **more) -> list:
    """Rows of a paired comparison."""
    variant, metric = f"versus:{b}", more.pop("metric", "f1_macro")
    ends = {"ci_low": low, "ci_high": high}
    more = {"n": 8, "unit": "donor"} | more
    return [
        row(a, difference, variant=variant, metric=f"{metric}_difference", **ends, **more),
        row(a, p, variant=variant, metric=f"{metric}_p", **more),
    ]


def save(root: Path, rows: list[dict], chapter: str = "05_cell_types", **where: str) -> None:
    """Write rows where the pages look for them."""
    folder = root / where.get("folder", "results/offline")
    folder.mkdir(parents=True, exist_ok=True)
    results.table(rows).to_csv(folder / f"{chapter}.csv", index=False)
