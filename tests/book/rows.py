"""Small results tables for the tests of the pages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

COLUMNS = (
    "task", "dataset", "profile", "protocol", "representation", "head", "variant", "split",
    "metric", "value", "ci_low", "ci_high", "n", "unit", "higher_is_better", "model", "layer",
    "relative_depth", "seed", "source", "note",
)  # fmt: skip
USUAL = {
    "task": "cell_types",
    "dataset": "baron_human",
    "profile": "offline",
    "protocol": "corrected",
    "representation": "rank_pca",
    "head": "logistic",
    "split": "pooled",
    "metric": "f1_macro",
    "source": "reproduced",
}


def row(representation: str = "rank_pca", value: float = 0.5, **more: object) -> dict:
    fields = USUAL | {"representation": representation, "value": value} | more
    if representation.startswith("layer:"):
        model, _, layer = representation.removeprefix("layer:").partition("/")
        fields |= {"model": model, "layer": layer}
    return {column: fields.get(column, None) for column in COLUMNS}


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
    folder = root / where.get("folder", "results/offline")
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / f"{chapter}.csv", index=False)
