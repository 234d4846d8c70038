"""What the corrections page measures: scores that both protocols gave."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import tables

KEYS = ["chapter", "dataset", "representation", "head", "variant", "metric"]
MOST = 8


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pair the rows of the two protocols that share their keys.

    Protocols may split differently, so a split is a key only where both have it; keys that fit
    several rows of one protocol pair nothing. Columns: `KEYS` and the two protocols.
    """
    found = []
    for keys in ([*KEYS, "split"], KEYS):
        each = {
            name: tables.where(rows, protocol=name).drop_duplicates(keys, keep=False)
            for name in ("as_published", "corrected")
        }
        values = [part.set_index(keys)["value"].rename(name) for name, part in each.items()]
        both = pd.concat(values, axis=1, join="inner").reset_index()
        found.append(both)
        rows = rows.merge(both[keys], on=keys, how="left", indicator=True)
        rows = rows[rows.pop("_merge") == "left_only"]
    return pd.concat(found, ignore_index=True)[[*KEYS, "as_published", "corrected"]]


def protocols(root: Path, task: str) -> str:
    """Show what the corrections of one task change, wherever both protocols were run.

    Variants, classes one by one, and all layers of a model but the final one are left out.
    """
    if (results := tables.results(root)) is None:
        return "There are no results yet."
    rows = tables.where(results, task=task, source="reproduced", variant="")
    rows = rows[rows["layer"].isin(["", "final"]) & ~rows["metric"].str.contains("[", regex=False)]
    both = pairs(rows).query("as_published != 0").dropna()
    if both.empty:
        return (
            f"In the profile {tables.profile_of(root)}, no score of this task has both protocols."
        )
    change = (both["corrected"] - both["as_published"]).abs()
    shown = both.loc[change.nlargest(MOST).index].sort_values(KEYS)
    lines = [
        [
            f"`{dataset}`",
            f"`{name}`" + f", `{head}`" * bool(head),
            metric.replace("_", " "),
            f"{old:.3f}",
            f"{new:.3f}",
            f"{new - old:+.3f}",
        ]
        for _, dataset, name, head, _, metric, old, new in shown.itertuples(index=False)
    ]
    head = ["Dataset", "Representation, head", "Metric", "As published", "Corrected", "Change"]
    note = f"{len(both)} scores have both protocols; the {len(lines)} that change most:\n\n"
    return note * (len(both) > len(lines)) + tables.markdown(lines, head)
