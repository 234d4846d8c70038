"""What the corrections page measures: scores that both protocols gave."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import tables

KEYS = ["chapter", "dataset", "representation", "head", "variant", "metric"]
PROTOCOLS = ["as_published", "corrected"]
MOST = 8


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Pair the rows of the two protocols that share their keys.

    Protocols may split differently, so a split is a key only where both have it; keys that fit
    several rows of one protocol pair nothing. Columns: `KEYS`, ``split`` and the two protocols.
    """
    found = []
    for keys in ([*KEYS, "split"], KEYS):
        each = [
            tables.where(rows, protocol=name)
            .drop_duplicates(keys, keep=False)
            .set_index(keys)["value"]
            .rename(name)
            for name in PROTOCOLS
        ]
        found.append(pd.concat(each, axis=1, join="inner").reset_index())
        paired = rows.set_index(keys).index.isin(found[-1].set_index(keys).index)
        rows = rows[~paired]
    return pd.concat(found, ignore_index=True).fillna({"split": ""})


def protocols(root: Path, task: str) -> str:
    """Show what the corrections of one task change, wherever both protocols were run.

    Variants, classes one by one, p values, and all layers of a model but the final one are left
    out.
    """
    if (results := tables.results(root)) is None:
        return "There are no results yet."
    rows = tables.where(results, task=task, source="reproduced")
    rows = rows[rows["variant"].isin(["", "all types"])]  # the published transfers score all types
    rows = rows[rows["layer"].isin(["", "final"]) & ~rows["metric"].str.contains(r"\[|_p$")]
    both = pairs(rows).query("as_published != 0").dropna()
    if both.empty:
        return (
            f"In the profile {tables.profile_of(root)}, no score of this task has both protocols."
        )
    change = (both["corrected"] - both["as_published"]).abs()
    shown = both.loc[change.nlargest(MOST).index].sort_values(KEYS)
    lines = [
        [
            f"`{row.dataset}`"
            + f", {row.split}" * (row.split not in ("", "pooled"))
            + f", {row.variant}" * bool(row.variant),
            f"`{row.representation}`" + f", `{row.head}`" * bool(row.head),
            row.metric.replace("_", " "),
            f"{row.as_published:.3f}",
            f"{row.corrected:.3f}",
            f"{row.corrected - row.as_published:+.3f}",
        ]
        for row in shown.itertuples()
    ]
    head = ["Dataset", "Representation, head", "Metric", "As published", "Corrected", "Change"]
    note = f"{len(both)} scores have both protocols; the {len(lines)} that change most:\n\n"
    return note * (len(both) > len(lines)) + tables.markdown(lines, head)
